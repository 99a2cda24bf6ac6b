//! The state machine as openraft drives it: committed entries, snapshots and their installation become outputs, and
//! openraft is answered when the driver reports them durable.
//!
//! Applying is bounded by count and bytes, one step at a time. What openraft must know again after a start, the last
//! entry applied and the membership there, rides as a record in the commit of what applying changed.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream::Peekable};
use openraft::OptionalSend;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tidelock_engine::ports::{Committed, CommittedPayload, LogIndex, Term};

use crate::counters::count;
use crate::message::SNAPSHOT_BYTES_MAX;
use crate::runtime::lock;
use crate::shared::Shared;
use crate::types::{
    self, Entry, LogId, Payload, Reply, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, Types,
};
use crate::wire::{self, Applied};

/// The entries applied in one commit, at most.
pub(crate) const APPLY_ENTRIES_MAX: usize = 1024;

/// The bytes of the entries applied in one commit, unless one entry has more.
pub(crate) const APPLY_BYTES_MAX: usize = 4 << 20;

/// The state of one group, as far as openraft sees it. Clones are the same.
#[derive(Clone)]
pub(crate) struct Machine {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot, built or installed since the start.
    snapshot: Option<Snapshot>,
    /// The bytes applied since.
    bytes: u64,
}

impl Machine {
    /// Reads up to where the stored state has applied the log.
    ///
    /// # Errors
    /// What is stored cannot be read, or was written by a newer version.
    pub(crate) fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let stored = shared.log.state().map_err(|error| io::Error::other(error.to_string()))?;
        let record: Applied = match stored.applied {
            Some(bytes) => wire::decode(&bytes).map_err(io::Error::other)?,
            None => Applied::default(),
        };
        let (last, membership) = record.into_parts();
        if let Some(last) = last {
            shared.progress.reach(LogIndex(last.index));
        }
        let state = State { last, membership, ..State::default() };
        Ok(Self { shared, state: Arc::new(Mutex::new(state)) })
    }

    /// Applies some entries in one commit and answers those who proposed them.
    async fn step(
        &self,
        entries: Vec<Entry>,
        responders: Vec<Option<ApplyResponder<Types>>>,
    ) -> io::Result<()> {
        let (mut last, mut membership) = {
            let state = lock(&self.state);
            (state.last, state.membership.clone())
        };
        let mut bytes = 0;
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            bytes += wire::Entry::bytes(&entry) as u64;
            last = Some(entry.log_id);
            if let Payload::Membership(new) = &entry.payload {
                membership = StoredMembership::new(last, new.clone());
            }
            committed.push(to_committed(entry));
        }
        let record = wire::encode(&Applied::new(last, &membership));
        let number = committed.len();
        let replies = self.shared.outbox.apply(committed, record).await?;
        if replies.len() != number {
            return Err(io::Error::other(format!("{} replies for {number} entries", replies.len())));
        }
        let wants_snapshot = {
            let mut state = lock(&self.state);
            let before = state.bytes;
            state.last = last;
            state.membership = membership;
            state.bytes += bytes;
            let limit = self.shared.settings.snapshot_bytes;
            before < limit && state.bytes >= limit
        };
        if let Some(last) = last {
            self.shared.progress.reach(LogIndex(last.index));
        }
        for (responder, reply) in responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        if wants_snapshot && let Some(raft) = self.shared.raft().cloned() {
            self.shared.tasks.spawn(async move { drop(raft.trigger().snapshot().await) });
        }
        Ok(())
    }
}

fn to_committed(entry: Entry) -> Committed {
    let payload = match entry.payload {
        Payload::Blank => CommittedPayload::Blank,
        Payload::Normal(command) => CommittedPayload::Command(command.0.to_vec()),
        Payload::Membership(membership) => CommittedPayload::Membership(types::membership(&membership)),
    };
    let id = entry.log_id;
    Committed { index: LogIndex(id.index), term: Term(*id.leader_id), payload }
}

/// Takes entries up to the bounds of one step. An error that comes later is found by the next step.
async fn take_step<S>(
    stream: &mut Pin<&mut Peekable<S>>,
) -> io::Result<(Vec<Entry>, Vec<Option<ApplyResponder<Types>>>)>
where
    S: Stream<Item = Result<EntryResponder<Types>, io::Error>>,
{
    let (mut entries, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
    while entries.len() < APPLY_ENTRIES_MAX {
        let size = match stream.as_mut().peek().await {
            Some(Ok((entry, _))) => wire::Entry::bytes(entry),
            Some(Err(_)) if entries.is_empty() => 0,
            Some(Err(_)) | None => break,
        };
        if !entries.is_empty() && bytes + size > APPLY_BYTES_MAX {
            break;
        }
        let Some(next) = stream.as_mut().next().await else { break };
        let (entry, responder) = next?;
        bytes += size;
        entries.push(entry);
        responders.push(responder);
    }
    Ok((entries, responders))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = lock(&self.state);
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = std::pin::pin!(entries.peekable());
        loop {
            let (step, responders) = take_step(&mut entries).await?;
            if step.is_empty() {
                return Ok(());
            }
            self.step(step, responders).await?;
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let builder = self.get_snapshot_builder().await;
        // A failure that openraft hears of is fatal to it. This one is not: the log only stays longer.
        match &builder.built {
            Err(error) if !force => {
                tracing::warn!(group = %self.shared.group, %error, "no snapshot was built");
                None
            }
            _ => Some(builder),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Nothing is applied meanwhile, so the driver's state is what `meta` says.
        let applied = lock(&self.state).last.map(|last| LogIndex(last.index));
        let built = self.shared.outbox.build(applied).await.and_then(|bytes| match bytes.len() {
            0..=SNAPSHOT_BYTES_MAX => Ok(bytes),
            bytes => {
                Err(io::Error::other(format!("snapshot of {bytes} bytes, at most {SNAPSHOT_BYTES_MAX}")))
            }
        });
        let meta = {
            let mut state = lock(&self.state);
            // Whether it was built or not: the next is tried when as much was applied again.
            state.bytes = 0;
            SnapshotMeta { last_log_id: state.last, last_membership: state.membership.clone() }
        };
        Builder { machine: self.clone(), meta, built }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> Result<(), io::Error> {
        let record = wire::encode(&Applied::new(meta.last_log_id, &meta.last_membership));
        self.shared.outbox.install(snapshot.to_vec(), record).await?;
        count(&self.shared.counters.snapshots_installed);
        {
            let mut state = lock(&self.state);
            state.last = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            state.snapshot = Some(Snapshot { meta: meta.clone(), snapshot });
            state.bytes = 0;
        }
        if let Some(last) = meta.last_log_id {
            self.shared.progress.reach(LogIndex(last.index));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(lock(&self.state).snapshot.clone())
    }
}

/// A snapshot that the driver was asked for, and what became of that.
pub(crate) struct Builder {
    machine: Machine,
    meta: SnapshotMeta,
    built: io::Result<Vec<u8>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let bytes = mem::replace(&mut self.built, Err(io::Error::other("built once already")))?;
        let snapshot = Snapshot { meta: self.meta.clone(), snapshot: bytes.into() };
        count(&self.machine.shared.counters.snapshots_built);
        lock(&self.machine.state).snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}
