//! A simulated anchor: a real [`Group`], a disk that syncs late, and a state machine.
//!
//! It carries out one poll's outputs as one turn: everything in it becomes durable with one sync, and is reported then.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Committed, CommittedPayload, Consensus, DriverError, LogIndex, RaftLog, RaftWrite, Status,
    Token,
};
use tidelock_raft_mode::{Group, MemRaftLog};
use tokio::time::Instant;

use crate::machine::Machine;

/// What is reported when a sync is done.
#[derive(Debug)]
pub(crate) enum Report {
    /// The log was written.
    Written(Token),
    /// Entries were applied, with these replies.
    Applied(Token, Vec<Vec<u8>>),
    /// A snapshot was put in place of the state.
    Installed(Token),
}

/// The disk of an anchor. It outlives its process.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The log.
    pub(crate) log: Arc<MemRaftLog>,
    /// The state as it is durable.
    pub(crate) durable: Machine,
    /// Up to where that has applied the log.
    pub(crate) durable_applied: Option<LogIndex>,
    /// How long a sync takes, in milliseconds, from and to.
    pub(crate) sync_ms: (u64, u64),
    /// Whether the next sync fails.
    pub(crate) fails: bool,
    /// Whether it reports syncs that it did not make: the defect that loses data.
    pub(crate) lies: bool,
    /// The vote written in each term, for the check that there is one: terms and anchors.
    pub(crate) votes: Vec<(u64, u64)>,
    /// Votes that were written and not yet synced.
    unsynced_votes: Vec<(u64, u64)>,
}

impl Disk {
    fn new() -> Self {
        Self {
            log: Arc::new(MemRaftLog::new()),
            durable: Machine::default(),
            durable_applied: None,
            sync_ms: (1, 4),
            fails: false,
            lies: false,
            votes: Vec::new(),
            unsynced_votes: Vec::new(),
        }
    }
}

/// An anchor.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its id in the group.
    pub(crate) anchor: AnchorId,
    /// Who it proves to be.
    pub(crate) peer: PeerId,
    /// Its process, while it runs.
    pub(crate) group: Option<Group>,
    /// Its disk.
    pub(crate) disk: Disk,
    /// The state as its process has it.
    pub(crate) machine: Machine,
    /// Up to where that has applied the log.
    pub(crate) applied: Option<LogIndex>,
    /// What it last said of itself.
    pub(crate) status: Status,
    /// Why its group stopped, if it did.
    pub(crate) stopped: Option<String>,
    /// How many times it was asked to append to its log.
    pub(crate) appends: u64,
    /// The sync that is under way: when it is done, and what is reported then.
    syncing: Option<(Instant, Vec<Report>)>,
    /// What the next sync is for.
    waiting: Vec<Report>,
    /// What was written for the sync under way and is not durable yet: to be applied to the durable state.
    changes: VecDeque<Change>,
}

#[derive(Debug)]
enum Change {
    Entries(Vec<Committed>),
    Snapshot(Machine, Option<LogIndex>),
}

/// The peer that an anchor of the simulation is.
pub(crate) fn peer_of(anchor: u64) -> PeerId {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&anchor.to_be_bytes());
    PeerId::from_public_key(key)
}

/// A vote as it is stored: version, term, anchor, whether a majority confirmed it. Then it says whom to follow, and
/// may be of another anchor than the one that was voted for.
fn vote_of(bytes: &[u8]) -> Option<(u64, u64)> {
    let (term, anchor, is_committed): (u64, u64, bool) =
        postcard::from_bytes(&bytes[1..]).expect("it is a vote");
    (!is_committed).then_some((term, anchor))
}

impl Node {
    /// An anchor with an empty disk, that does not run.
    pub(crate) fn new(anchor: u64) -> Self {
        Self {
            anchor: AnchorId(anchor),
            peer: peer_of(anchor),
            group: None,
            disk: Disk::new(),
            machine: Machine::default(),
            applied: None,
            status: Status::default(),
            stopped: None,
            appends: 0,
            syncing: None,
            waiting: Vec::new(),
            changes: VecDeque::new(),
        }
    }

    /// Writes to the log; durable and reported after the next sync.
    pub(crate) fn write(&mut self, token: Token, writes: Vec<RaftWrite>) {
        for write in &writes {
            if let RaftWrite::Vote(bytes) = write {
                self.disk.unsynced_votes.extend(vote_of(bytes));
            }
        }
        self.appends += u64::from(writes.iter().any(|write| matches!(write, RaftWrite::Append { .. })));
        self.disk.log.write(writes);
        self.waiting.push(Report::Written(token));
    }

    /// Applies entries to the state; durable and reported after the next sync.
    pub(crate) fn apply(&mut self, token: Token, entries: Vec<Committed>, record: Vec<u8>) {
        let replies = entries
            .iter()
            .map(|entry| match &entry.payload {
                CommittedPayload::Command(command) => self.machine.apply(command),
                CommittedPayload::Blank | CommittedPayload::Membership(_) => Vec::new(),
            })
            .collect();
        self.applied = entries.last().map(|entry| entry.index).or(self.applied);
        self.disk.log.set_applied(record);
        self.changes.push_back(Change::Entries(entries));
        self.waiting.push(Report::Applied(token, replies));
    }

    /// The state as a snapshot.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        postcard::to_stdvec(&(&self.machine, self.applied.map(|index| index.0))).expect("it is ours")
    }

    /// Puts a snapshot in place of the state; durable and reported after the next sync.
    pub(crate) fn install(&mut self, token: Token, bytes: &[u8], record: Vec<u8>) {
        let (machine, applied): (Machine, Option<u64>) = postcard::from_bytes(bytes).expect("it is ours");
        self.machine = machine;
        self.applied = applied.map(LogIndex);
        self.disk.log.set_applied(record);
        self.changes.push_back(Change::Snapshot(self.machine.clone(), self.applied));
        self.waiting.push(Report::Installed(token));
    }

    /// Begins a sync if there is something to sync and none is under way.
    pub(crate) fn begin_sync(&mut self, done_at: impl FnOnce((u64, u64)) -> Instant) {
        if self.syncing.is_none() && !self.waiting.is_empty() {
            self.syncing = Some((done_at(self.disk.sync_ms), std::mem::take(&mut self.waiting)));
        }
    }

    /// When the sync under way is done. Until then no output is carried out, as in a loop that waits for its commit.
    pub(crate) fn sync_done_at(&self) -> Option<Instant> {
        self.syncing.as_ref().map(|(at, _)| *at)
    }

    /// Ends the sync under way and reports what it was for.
    pub(crate) fn end_sync(&mut self) {
        let Some((_, reports)) = self.syncing.take() else { return };
        let fails = std::mem::take(&mut self.disk.fails);
        if !fails && !self.disk.lies {
            self.flush();
        }
        let Some(group) = &mut self.group else { return };
        let failure = || DriverError("the disk failed".to_owned());
        for report in reports {
            match report {
                Report::Written(token) => group.written(token, if fails { Err(failure()) } else { Ok(()) }),
                Report::Applied(token, replies) => {
                    group.applied(token, if fails { Err(failure()) } else { Ok(replies) });
                }
                Report::Installed(token) => {
                    group.installed(token, if fails { Err(failure()) } else { Ok(()) });
                }
            }
        }
    }

    /// Makes everything durable that was written.
    pub(crate) fn flush(&mut self) {
        self.disk.log.sync();
        self.disk.votes.append(&mut self.disk.unsynced_votes);
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Entries(entries) => {
                    for entry in entries {
                        if let CommittedPayload::Command(command) = &entry.payload {
                            self.disk.durable.apply(command);
                        }
                        self.disk.durable_applied = Some(entry.index);
                    }
                }
                Change::Snapshot(machine, applied) => {
                    self.disk.durable = machine;
                    self.disk.durable_applied = applied;
                }
            }
        }
    }

    /// Ends the process. What was written and not synced is lost, or was kept by the system.
    pub(crate) fn crash(&mut self, loses_unsynced: bool) {
        self.group = None;
        self.syncing = None;
        self.waiting.clear();
        if loses_unsynced {
            self.changes.clear();
            self.disk.unsynced_votes.clear();
            self.disk.log.lose_power();
        } else {
            self.flush();
        }
        self.machine = self.disk.durable.clone();
        self.applied = self.disk.durable_applied;
        self.status = Status::default();
        self.stopped = None;
    }

    /// The bytes of an entry as they are durable here, or that it is applied durably.
    pub(crate) fn has_durable(&self, index: LogIndex, bytes: &[u8]) -> bool {
        self.disk.durable_applied >= Some(index)
            || self.disk.log.durable_entry(index).is_some_and(|it| it == bytes)
    }

    /// The bytes of an entry as they are here, durable or not.
    pub(crate) fn entry(&self, index: LogIndex) -> Option<Vec<u8>> {
        self.disk.log.entries(index, LogIndex(index.0 + 1), usize::MAX).expect("in memory").pop()
    }
}
