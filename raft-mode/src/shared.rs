//! What the tasks of a group share with each other and with its driver: the outputs, and who waits for a report.
//!
//! The queue of outputs is bounded by what fills it. Messages are dropped beyond [`SENDS_BYTES_MAX`], as a network
//! may drop them. Writes come from proposals and received entries, whose number and bytes are bounded where they come
//! in; of the others there is at most one at a time, or one for each request that is open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Committed, DriverError, GroupId, LogIndex, Member, MessageClass, Output, RaftLog, RaftWrite,
    Status, Token,
};
use tokio::sync::oneshot;

use crate::applied::Progress;
use crate::counters::Counters;
use crate::inbound::Inbound;
use crate::network::Requests;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::runtime::{Tasks, lock};
use crate::settings::Settings;
use crate::snapshot::Receiving;
use crate::types::{Raft, Types};

/// The bytes of messages that wait for a poll, at most. More are dropped and counted.
pub(crate) const SENDS_BYTES_MAX: usize = 64 << 20;

/// Everything that a group's tasks share.
pub(crate) struct Shared {
    pub(crate) group: GroupId,
    pub(crate) me: AnchorId,
    pub(crate) settings: Settings,
    pub(crate) log: Arc<dyn RaftLog>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) outbox: Outbox,
    pub(crate) counters: Counters,
    pub(crate) requests: Requests,
    pub(crate) directory: Directory,
    pub(crate) progress: Progress,
    pub(crate) receiving: Receiving,
    pub(crate) inbound: Inbound,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    /// Set once it runs.
    raft: OnceLock<Raft>,
    is_stopped: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({}, anchor {})", self.group, self.me)
    }
}

impl Shared {
    pub(crate) fn new(opening: crate::group::Opening) -> Arc<Self> {
        Arc::new(Self {
            group: opening.group,
            me: opening.me,
            settings: opening.settings,
            log: opening.log,
            tasks: Tasks::new(opening.runtime, opening.seed),
            outbox: Outbox::new(opening.wake),
            counters: Counters::default(),
            requests: Requests::new(opening.seed),
            directory: Directory::default(),
            progress: Progress::default(),
            receiving: Receiving::default(),
            inbound: Inbound::default(),
            proposals: Proposals::default(),
            reads: Reads::default(),
            raft: OnceLock::new(),
            is_stopped: AtomicBool::new(false),
        })
    }

    /// openraft, once it has started.
    pub(crate) fn raft(&self) -> Option<&Raft> {
        self.raft.get().filter(|_| !self.is_stopped())
    }

    pub(crate) fn set_raft(&self, raft: Raft) {
        assert!(self.raft.set(raft).is_ok(), "a group starts once");
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Stops the group for good and says why, once.
    pub(crate) fn stop(&self, reason: &str) {
        if !self.is_stopped.swap(true, Ordering::AcqRel) {
            tracing::error!(group = %self.group, anchor = %self.me, reason, "the group stopped");
            self.outbox.push(Output::Stopped { reason: reason.to_owned() });
            self.outbox.fail(reason);
            self.requests.forget_all();
        }
    }
}

/// Who waits for a write to be durable.
pub(crate) enum Writer {
    /// Entries: openraft goes on and is told, and so is the log, which need not keep them in memory any more.
    Log { flushed: openraft::storage::IOFlushed<Types>, durable: Box<dyn FnOnce() + Send> },
    /// A vote: openraft waits.
    Vote(oneshot::Sender<io::Result<()>>),
    /// Nobody: what comes after it is durable only if it is.
    Nobody,
}

impl Writer {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Log { flushed, durable } => {
                if result.is_ok() {
                    durable();
                }
                flushed.io_completed(result);
            }
            Self::Vote(sender) => drop(sender.send(result)),
            Self::Nobody => (),
        }
    }
}

/// A report that carries bytes: replies, or a snapshot.
type Reported<T> = oneshot::Sender<Result<T, DriverError>>;

/// What the driver polls, and who waits for what it reports.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    outputs: Vec<Output>,
    status: Option<Status>,
    sends_bytes: usize,
    next_token: u64,
    writers: BTreeMap<Token, Writer>,
    appliers: BTreeMap<Token, Reported<Vec<Vec<u8>>>>,
    builders: BTreeMap<Token, Reported<Vec<u8>>>,
    installers: BTreeMap<Token, Reported<()>>,
    /// Why nothing is taken any more.
    failed: Option<String>,
}

impl Queue {
    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }
}

impl Outbox {
    fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    /// Adds an output that nobody waits for.
    pub(crate) fn push(&self, output: Output) {
        lock(&self.queue).outputs.push(output);
        (self.wake)();
    }

    /// Adds a message, or drops it and says so.
    pub(crate) fn send(&self, to: PeerId, class: MessageClass, bytes: Vec<u8>) -> bool {
        {
            let mut queue = lock(&self.queue);
            if queue.sends_bytes + bytes.len() > SENDS_BYTES_MAX {
                return false;
            }
            queue.sends_bytes += bytes.len();
            queue.outputs.push(Output::Send { to, class, bytes });
        }
        (self.wake)();
        true
    }

    /// Puts the newest status in the place of an older one that was not polled.
    pub(crate) fn status(&self, status: Status, is_urgent: bool) {
        lock(&self.queue).status = Some(status);
        if is_urgent {
            (self.wake)();
        }
    }

    /// Asks for a write. Fails if an earlier one did.
    pub(crate) fn write(&self, writes: Vec<RaftWrite>, waiting: Writer) -> io::Result<()> {
        {
            let mut queue = lock(&self.queue);
            if let Some(reason) = &queue.failed {
                return Err(io::Error::other(reason.clone()));
            }
            let token = queue.token();
            queue.writers.insert(token, waiting);
            queue.outputs.push(Output::Write { token, writes });
        }
        (self.wake)();
        Ok(())
    }

    /// Asks for something that is answered by one report.
    async fn ask<T>(
        &self,
        waiting: impl FnOnce(&mut Queue) -> &mut BTreeMap<Token, Reported<T>>,
        output: impl FnOnce(Token) -> Output,
    ) -> io::Result<T> {
        let receiver = {
            let mut queue = lock(&self.queue);
            if let Some(reason) = &queue.failed {
                return Err(io::Error::other(reason.clone()));
            }
            let token = queue.token();
            let (sender, receiver) = oneshot::channel();
            waiting(&mut queue).insert(token, sender);
            queue.outputs.push(output(token));
            receiver
        };
        (self.wake)();
        match receiver.await {
            Ok(result) => result.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("the group stopped")),
        }
    }

    /// Has entries applied.
    pub(crate) async fn apply(&self, entries: Vec<Committed>, record: Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
        self.ask(|queue| &mut queue.appliers, |token| Output::Apply { token, entries, record }).await
    }

    /// Has a snapshot installed.
    pub(crate) async fn install(&self, bytes: Vec<u8>, record: Vec<u8>) -> io::Result<()> {
        self.ask(|queue| &mut queue.installers, |token| Output::InstallSnapshot { token, bytes, record })
            .await
    }

    /// Has a snapshot built of the state as it is behind all outputs so far.
    pub(crate) async fn build(&self) -> io::Result<Vec<u8>> {
        self.ask(|queue| &mut queue.builders, |token| Output::BuildSnapshot { token }).await
    }

    /// Takes all outputs.
    pub(crate) fn poll(&self) -> Vec<Output> {
        let mut queue = lock(&self.queue);
        queue.sends_bytes = 0;
        let mut outputs = mem::take(&mut queue.outputs);
        outputs.extend(queue.status.take().map(Output::Status));
        outputs
    }

    /// Tells whoever waits for a write. A failure fails all later ones too: what is behind a hole is not there.
    pub(crate) fn written(&self, token: Token, result: Result<(), DriverError>) -> Result<(), String> {
        let writer = {
            let mut queue = lock(&self.queue);
            let writer = queue.writers.remove(&token);
            match (&queue.failed, result) {
                (None, Ok(())) => {
                    drop(queue);
                    if let Some(writer) = writer {
                        writer.tell(Ok(()));
                    }
                    return Ok(());
                }
                (Some(reason), _) => writer.map(|writer| (writer, reason.clone())),
                (None, Err(error)) => {
                    let reason = format!("writing the log failed: {error}");
                    queue.failed = Some(reason.clone());
                    writer.map(|writer| (writer, reason))
                }
            }
        };
        match writer {
            Some((writer, reason)) => {
                writer.tell(Err(io::Error::other(reason.clone())));
                Err(reason)
            }
            None => Err("writing the log failed".to_owned()),
        }
    }

    pub(crate) fn applied(&self, token: Token, result: Result<Vec<Vec<u8>>, DriverError>) {
        let waiting = lock(&self.queue).appliers.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    pub(crate) fn snapshot_built(&self, token: Token, result: Result<Vec<u8>, DriverError>) {
        let waiting = lock(&self.queue).builders.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    pub(crate) fn installed(&self, token: Token, result: Result<(), DriverError>) {
        let waiting = lock(&self.queue).installers.remove(&token);
        waiting.map(|waiting| waiting.send(result).ok());
    }

    /// Fails everybody who waits, and whoever comes.
    fn fail(&self, reason: &str) {
        let writers = {
            let mut queue = lock(&self.queue);
            queue.failed.get_or_insert_with(|| reason.to_owned());
            queue.appliers.clear();
            queue.builders.clear();
            queue.installers.clear();
            mem::take(&mut queue.writers)
        };
        writers.into_values().for_each(|writer| writer.tell(Err(io::Error::other(reason.to_owned()))));
    }
}

/// Who may speak, and as whom.
#[derive(Default)]
pub(crate) struct Directory {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The newest membership of the own log.
    own: BTreeMap<AnchorId, Member>,
    own_index: Option<LogIndex>,
    /// One that the driver vouched for, until the own log is as new.
    told: BTreeMap<AnchorId, Member>,
    told_index: Option<LogIndex>,
}

impl Directory {
    /// Takes the newest membership of the own log. A newer one can be truncated; then this is older than the last.
    pub(crate) fn own(&self, index: Option<LogIndex>, members: &BTreeMap<AnchorId, Member>) {
        let mut known = lock(&self.known);
        if known.own_index == index && known.own == *members {
            return;
        }
        known.own.clone_from(members);
        known.own_index = index;
        if known.own_index >= known.told_index {
            known.told.clear();
            known.told_index = None;
        }
    }

    /// Takes what the driver vouches for, if the own log is not as new.
    pub(crate) fn tell(&self, index: LogIndex, members: BTreeMap<AnchorId, Member>) {
        let mut known = lock(&self.known);
        if Some(index) > known.own_index.max(known.told_index) {
            known.told = members;
            known.told_index = Some(index);
        }
    }

    /// Whether a peer is that anchor.
    pub(crate) fn is(&self, anchor: AnchorId, peer: PeerId) -> bool {
        let known = lock(&self.known);
        let is =
            |members: &BTreeMap<AnchorId, Member>| members.get(&anchor).is_some_and(|it| it.peer == peer);
        is(&known.own) || is(&known.told)
    }

    /// The peer that an anchor is.
    pub(crate) fn peer(&self, anchor: AnchorId) -> Option<PeerId> {
        let known = lock(&self.known);
        known.own.get(&anchor).or_else(|| known.told.get(&anchor)).map(|member| member.peer)
    }

    /// The anchors that a peer is, by any membership that counts here.
    pub(crate) fn anchors_of(&self, peer: PeerId) -> BTreeSet<AnchorId> {
        let known = lock(&self.known);
        let all = known.own.iter().chain(&known.told);
        all.filter(|(_, member)| member.peer == peer).map(|(anchor, _)| *anchor).collect()
    }
}

/// A number that only grows.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
