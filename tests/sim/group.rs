//! A node's part in the group of anchors: its courier, and openraft's tasks on a clock that the world moves.
//!
//! Each life of a node has a runtime of its own, on the world's thread, whose clock stands still but when the world moves
//! it: to the next millisecond, by sleeping until then, which runs all tasks until none is left to run. So one seed is one
//! history; a node that is stopped has tasks that are stopped, and finds its timers overdue when it goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidelock_engine::courier::Courier;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Change, Consensus, DriverError, GroupId, LogIndex, Member, Output, RaftLog, RaftLogState,
    ReadError, RequestId, Token,
};
use tidelock_engine::replica::{Ask, Input};
use tidelock_raft_mode::{Group, Opening, Settings};
use tidelock_store::StoredRaftLog;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{advance, sleep};

use crate::network::Wire;

/// What is broken on purpose, to show that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Reads are answered without waiting for a barrier.
    Barrier,
    /// A node that starts does not remember for whom it voted.
    Vote,
    /// Nobody looks whether an operation was executed before.
    Outcomes,
}

/// What all nodes of a world open groups with.
#[derive(Clone, Debug)]
pub(crate) struct Foundation {
    /// The settings of groups that are opened.
    pub(crate) settings: Settings,
    /// The groups that were opened so far, behind the world's seed.
    pub(crate) seeds: Arc<AtomicU64>,
    /// What is broken.
    pub(crate) broken: Option<Break>,
}

impl Foundation {
    pub(crate) fn new(seed: u64) -> Self {
        Self { settings: Settings::local(), seeds: Arc::new(AtomicU64::new(seed)), broken: None }
    }
}

/// A running node's part in the group.
pub(crate) struct Seat {
    // It goes before the runtime, so that its tasks are over when that is.
    courier: Courier,
    runtime: Runtime,
    at_ms: u64,
    was_opened: Arc<AtomicBool>,
    is_woken: Arc<AtomicBool>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("courier", &self.courier)
            .field("at_ms", &self.at_ms)
            .finish_non_exhaustive()
    }
}

impl Seat {
    /// The part of a node on this log, which begins at a moment of the world.
    pub(crate) fn new(
        log: StoredRaftLog,
        anchor: Option<AnchorId>,
        foundation: Foundation,
        at_ms: u64,
    ) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads and sockets");
        let (was_opened, is_woken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (opened, woken, handle) =
            (Arc::clone(&was_opened), Arc::clone(&is_woken), runtime.handle().clone());
        let broken = foundation.broken;
        let log: Arc<dyn RaftLog> =
            if broken == Some(Break::Vote) { Arc::new(Voteless(log)) } else { Arc::new(log) };
        let open = move |me: AnchorId| {
            opened.store(true, Ordering::Relaxed);
            let woken = Arc::clone(&woken);
            let seed = foundation.seeds.fetch_add(1, Ordering::Relaxed);
            let group = Group::open(Opening {
                group: GroupId(0),
                me,
                log: Arc::clone(&log),
                settings: foundation.settings.clone(),
                seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                runtime: handle.clone(),
                wake: Box::new(move || woken.store(true, Ordering::Relaxed)),
            })
            .expect("the settings are valid");
            if broken == Some(Break::Barrier) {
                Box::new(Hasty { group, applied: None, answered: Vec::new() }) as Box<dyn Consensus + Send>
            } else {
                Box::new(group)
            }
        };
        let courier = {
            let _context = runtime.enter();
            Courier::new(Box::new(open), anchor)
        };
        Self { courier, runtime, at_ms, was_opened, is_woken }
    }

    /// Whether it has, or had, a group whose tasks are to be run.
    pub(crate) fn was_opened(&self) -> bool {
        self.was_opened.load(Ordering::Relaxed)
    }

    /// Whether the group has something for a turn.
    pub(crate) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }

    /// Lets time pass for its tasks up to a moment of the world; answers whether they woke the node.
    pub(crate) fn run_until(&mut self, ms: u64) -> bool {
        let passed = ms.saturating_sub(self.at_ms);
        if passed == 0 {
            return false;
        }
        self.at_ms = ms;
        self.runtime.block_on(async {
            // After a stop all timers of that time are overdue at once.
            if passed > 1 {
                advance(Duration::from_millis(passed - 1)).await;
            }
            sleep(Duration::from_millis(1)).await;
        });
        self.is_woken()
    }

    /// Before a turn: see [`Courier::collect`].
    pub(crate) fn collect(&mut self, inputs: &mut Vec<Input>, wire: &mut Wire) {
        let _context = self.runtime.enter();
        self.is_woken.store(false, Ordering::Relaxed);
        self.courier.collect(inputs, wire, true);
    }

    /// After a turn: see [`Courier::deliver`].
    pub(crate) fn deliver(&mut self, asks: Vec<Ask>) {
        let _context = self.runtime.enter();
        self.courier.deliver(asks);
    }

    /// Takes no part while the store is opened again.
    pub(crate) fn close(&mut self) {
        let _context = self.runtime.enter();
        self.courier.close();
    }

    /// Takes part again, on what the store holds now.
    pub(crate) fn reopen(&mut self, anchor: Option<AnchorId>) {
        let _context = self.runtime.enter();
        self.courier.reopen(anchor);
    }
}

/// A log that forgets votes.
struct Voteless(StoredRaftLog);

impl RaftLog for Voteless {
    fn state(&self) -> Result<RaftLogState, ReadError> {
        Ok(RaftLogState { vote: None, ..self.0.state()? })
    }

    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        self.0.entries(from, until, bytes_max)
    }
}

/// A group that lets reads pass at once.
struct Hasty {
    group: Group,
    applied: Option<LogIndex>,
    answered: Vec<RequestId>,
}

impl Consensus for Hasty {
    fn received(&mut self, from: PeerId, message: &[u8]) {
        self.group.received(from, message);
    }

    fn disconnected(&mut self, peer: PeerId) {
        self.group.disconnected(peer);
    }

    fn untold(&mut self, message: &[u8]) {
        self.group.untold(message);
    }

    fn introduce(&mut self, index: LogIndex, members: BTreeMap<AnchorId, Member>) {
        self.group.introduce(index, members);
    }

    fn propose(&mut self, id: RequestId, command: Vec<u8>, within: Duration) {
        self.group.propose(id, command, within);
    }

    fn barrier(&mut self, id: RequestId, _within: Duration) {
        self.answered.push(id);
    }

    fn administer(&mut self, id: RequestId, change: Change, within: Duration) {
        self.group.administer(id, change, within);
    }

    fn written(&mut self, token: Token, result: Result<(), DriverError>) {
        self.group.written(token, result);
    }

    fn applied(&mut self, token: Token, result: Result<Vec<Vec<u8>>, DriverError>) {
        self.group.applied(token, result);
    }

    fn snapshot_built(&mut self, token: Token, result: Result<Vec<u8>, DriverError>) {
        self.group.snapshot_built(token, result);
    }

    fn installed(&mut self, token: Token, result: Result<(), DriverError>) {
        self.group.installed(token, result);
    }

    fn poll(&mut self) -> Vec<Output> {
        let mut outputs = self.group.poll();
        for output in &outputs {
            if let Output::Apply { entries, .. } = output {
                self.applied = entries.last().map(|entry| entry.index);
            }
        }
        let index = self.applied.unwrap_or_default();
        outputs.extend(self.answered.drain(..).map(|id| Output::Barrier { id, result: Ok(index) }));
        outputs
    }
}
