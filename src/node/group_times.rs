//! How long what the group of anchors does for this node takes: from what a turn asks of it to what it says in a later
//! one.

use std::collections::BTreeMap;
use std::time::Instant;

use metrics::{Histogram, histogram};
use tidelock_engine::ports::{RequestId, Token};
use tidelock_engine::replica::{Ask, Heard, Input};

/// What is timed at most at a time. Beyond, it is not measured.
const OPEN_MAX: usize = 4_096;

/// What is under way, and since when.
#[derive(Debug)]
pub(super) struct GroupTimes {
    proposals: BTreeMap<RequestId, Instant>,
    barriers: BTreeMap<RequestId, Instant>,
    applying: BTreeMap<Token, Instant>,
    propose_seconds: Histogram,
    apply_seconds: Histogram,
    barrier_seconds: Histogram,
}

impl GroupTimes {
    pub(super) fn new() -> Self {
        Self {
            proposals: BTreeMap::new(),
            barriers: BTreeMap::new(),
            applying: BTreeMap::new(),
            propose_seconds: histogram!("tidelock_group_propose_seconds"),
            apply_seconds: histogram!("tidelock_group_apply_seconds"),
            barrier_seconds: histogram!("tidelock_group_barrier_seconds"),
        }
    }

    /// Takes in what the group has said, before the turn that takes it.
    pub(super) fn heard(&mut self, inputs: &[Input]) {
        for input in inputs {
            let Input::Consensus(heard) = input else { continue };
            match heard {
                Heard::Proposed { id, .. } => end(&mut self.proposals, id, &self.propose_seconds),
                Heard::Barrier { id, .. } => end(&mut self.barriers, id, &self.barrier_seconds),
                Heard::Apply { token, .. } => begin(&mut self.applying, *token),
                _ => {}
            }
        }
    }

    /// Takes in what the group is asked for, after the turn.
    pub(super) fn asked(&mut self, asks: &[Ask]) {
        for ask in asks {
            match ask {
                Ask::Propose { id, .. } => begin(&mut self.proposals, *id),
                Ask::Barrier { id, .. } => begin(&mut self.barriers, *id),
                Ask::Applied { token, .. } => end(&mut self.applying, token, &self.apply_seconds),
                // What the group before it had under way is not answered.
                Ask::Open(_) => self.forget(),
                _ => {}
            }
        }
    }

    /// The group begins anew.
    pub(super) fn forget(&mut self) {
        self.proposals.clear();
        self.barriers.clear();
        self.applying.clear();
    }
}

fn begin<K: Ord>(open: &mut BTreeMap<K, Instant>, name: K) {
    if open.len() < OPEN_MAX {
        open.insert(name, Instant::now());
    }
}

fn end<K: Ord>(open: &mut BTreeMap<K, Instant>, name: &K, seconds: &Histogram) {
    if let Some(begun) = open.remove(name) {
        seconds.record(begun.elapsed());
    }
}
