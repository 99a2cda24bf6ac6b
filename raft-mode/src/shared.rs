//! What the tasks of a group share with each other and with its driver.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tidelock_engine::ports::{AnchorId, GroupId, Output, RaftLog};

use crate::applied::Progress;
use crate::counters::Counters;
use crate::directory::Directory;
use crate::inbound::Inbound;
use crate::network::Requests;
use crate::outbox::Outbox;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::rounds::Rounds;
use crate::runtime::Tasks;
use crate::settings::Settings;
use crate::snapshot::Receiving;
use crate::types::Raft;

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
    pub(crate) rounds: Rounds,
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
        let grid = opening.settings.grid();
        Arc::new(Self {
            group: opening.group,
            me: opening.me,
            settings: opening.settings,
            log: opening.log,
            tasks: Tasks::new(opening.runtime, opening.seed, grid),
            outbox: Outbox::new(opening.wake),
            counters: Counters::default(),
            requests: Requests::new(opening.seed),
            directory: Directory::default(),
            progress: Progress::default(),
            receiving: Receiving::default(),
            inbound: Inbound::default(),
            proposals: Proposals::default(),
            rounds: Rounds::default(),
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
