//! How long what the group of anchors does for this node takes: from what a turn asks of it to what it says in a later
//! one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};
use tidelock_engine::ports::{LogIndex, Outcome, RequestId, Token};
use tidelock_engine::replica::{Ask, Heard, Input};

/// What is timed at most at a time. Beyond, it is not measured.
const OPEN_MAX: usize = 4_096;

/// The entries of which it is remembered when they were known to be committed, by the last of those that came together.
/// What of a proposal became is told soon behind that.
const COMMITTED_MAX: usize = 1_024;

/// What is under way, and since when.
#[derive(Debug)]
pub(super) struct GroupTimes {
    /// When entries were known to be committed, up to which one: in the order of the log.
    committed: VecDeque<(LogIndex, Instant)>,
    commit_seconds: Histogram,
    snapshots_built: Counter,
    snapshots_installed: Counter,
    proposals: BTreeMap<RequestId, Instant>,
    barriers: BTreeMap<RequestId, Instant>,
    applying: BTreeMap<Token, Instant>,
    propose_seconds: Histogram,
    apply_seconds: Histogram,
    barrier_seconds: Histogram,
}

impl GroupTimes {
    pub(super) fn new() -> Self {
        let snapshots = |kind: &'static str| counter!("tidelock_group_snapshots_total", "kind" => kind);
        Self {
            committed: VecDeque::new(),
            commit_seconds: histogram!("tidelock_group_commit_seconds"),
            snapshots_built: snapshots("built"),
            snapshots_installed: snapshots("installed"),
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
                Heard::Proposed { id, outcome } => self.proposed(*id, outcome),
                Heard::Barrier { id, .. } => end(&mut self.barriers, id, &self.barrier_seconds),
                Heard::Apply { token, entries, .. } => {
                    begin(&mut self.applying, *token);
                    if let Some(last) = entries.last() {
                        self.committed.truncate(COMMITTED_MAX - 1);
                        self.committed.push_front((last.index, Instant::now()));
                    }
                }
                _ => {}
            }
        }
    }

    /// What is done was committed before it was applied.
    fn proposed(&mut self, id: RequestId, outcome: &Outcome) {
        let Some(begun) = self.proposals.remove(&id) else { return };
        self.propose_seconds.record(begun.elapsed());
        let Outcome::Done { index, .. } = outcome else { return };
        let holds = self.committed.iter().take_while(|(last, _)| last >= index);
        if let Some((_, at)) = holds.last() {
            self.commit_seconds.record(at.saturating_duration_since(begun));
        }
    }

    /// Takes in what the group is asked for, after the turn.
    pub(super) fn asked(&mut self, asks: &[Ask]) {
        for ask in asks {
            match ask {
                Ask::Propose { id, .. } => begin(&mut self.proposals, *id),
                Ask::Barrier { id, .. } => begin(&mut self.barriers, *id),
                Ask::Applied { token, .. } => end(&mut self.applying, token, &self.apply_seconds),
                Ask::SnapshotBuilt { .. } => self.snapshots_built.increment(1),
                Ask::Installed { result: Ok(()), .. } => self.snapshots_installed.increment(1),
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
        self.committed.clear();
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
