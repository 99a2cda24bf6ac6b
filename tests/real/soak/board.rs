//! What all threads of a soak know: where each node is and how it is, what was done, and when to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::processes::Node;

/// Where a node is, and what chaos did to it.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Counts its processes, from 1.
    pub(crate) life: u32,
    /// The process.
    pub(crate) pid: u32,
    /// Where its Redis clients connect.
    pub(crate) redis: String,
    /// Whether the process runs; false from before it is killed until it is ready again.
    pub(crate) is_up: bool,
    /// Whether it is stopped by SIGSTOP.
    pub(crate) is_paused: bool,
    /// Whether it was told to go offline.
    pub(crate) is_offline: bool,
    /// When any of this changed last.
    changed: Instant,
}

/// Counts of the writers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Operations that were answered.
    pub(crate) operations: AtomicU64,
    /// Writes among them.
    pub(crate) writes: AtomicU64,
    /// Operations that were sent and never answered, because their node was killed.
    pub(crate) unknown: AtomicU64,
    /// Operations that were due and never sent, because their node was away or late.
    pub(crate) shed: AtomicU64,
}

/// What all threads know.
#[derive(Debug)]
pub(crate) struct Board {
    seats: Mutex<Vec<Seat>>,
    /// Counts of the writers.
    pub(crate) tally: Tally,
    /// Something went wrong or the disk is full: chaos ends early.
    pub(crate) is_enough: AtomicBool,
    /// Chaos has ended: the writers end too.
    pub(crate) is_over: AtomicBool,
}

impl Board {
    /// The board of nodes that run.
    pub(crate) fn new(nodes: &[Node]) -> Self {
        let seat = |node: &Node| Seat {
            life: 1,
            pid: node.pid(),
            redis: node.redis().to_owned(),
            is_up: true,
            is_paused: false,
            is_offline: false,
            changed: Instant::now(),
        };
        Self {
            seats: Mutex::new(nodes.iter().map(seat).collect()),
            tally: Tally::default(),
            is_enough: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// The nodes as they are now.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        self.lock().clone()
    }

    /// A node, if it runs.
    pub(crate) fn running(&self, node: usize) -> Option<Seat> {
        Some(self.lock()[node].clone()).filter(|seat| seat.is_up)
    }

    /// Whether a process still runs as far as chaos knows.
    pub(crate) fn is_running(&self, node: usize, life: u32) -> bool {
        self.running(node).is_some_and(|seat| seat.life == life)
    }

    /// Notes what chaos does to a node.
    pub(crate) fn change(&self, node: usize, change: impl FnOnce(&mut Seat)) {
        let mut seats = self.lock();
        change(&mut seats[node]);
        seats[node].changed = Instant::now();
    }

    /// Notes the new process of a node that was killed.
    pub(crate) fn revive(&self, index: usize, node: &Node) {
        self.change(index, |seat| {
            *seat = Seat {
                life: seat.life + 1,
                pid: node.pid(),
                redis: node.redis().to_owned(),
                is_up: true,
                is_paused: false,
                is_offline: false,
                changed: seat.changed,
            };
        });
    }

    /// Whether all nodes run and are online, for some time already.
    pub(crate) fn is_calm(&self, settled: Duration) -> bool {
        self.lock().iter().all(|seat| {
            seat.is_up && !seat.is_paused && !seat.is_offline && seat.changed.elapsed() >= settled
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets a flag when its thread ends, by a panic too, so that no other thread goes on for ever.
#[derive(Debug)]
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
