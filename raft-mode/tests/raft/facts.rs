//! What must hold at every step, whatever goes wrong. Numbers as in the report on Raft, section 4.1.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::ports::{AnchorId, Committed, CommittedPayload, LogIndex, Role, Status, Term};

use crate::node::Node;

/// Everything that is known to be true for ever.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    leaders: BTreeMap<Term, AnchorId>,
    committed: BTreeMap<LogIndex, Fact>,
    /// What does not hold, once it does not.
    pub(crate) broken: Option<String>,
    /// Elections that were won.
    pub(crate) elections: u64,
    /// Entries that were applied first by somebody.
    pub(crate) entries: u64,
    /// Acknowledgements that were checked.
    pub(crate) acknowledged: u64,
}

#[derive(Debug)]
struct Fact {
    entry: Committed,
    bytes: Option<Vec<u8>>,
    /// The state behind it.
    history: Option<u64>,
}

impl Facts {
    fn claim(&mut self, holds: bool, name: &str, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("{name}: {}", what()));
        }
    }

    /// Looks at what an anchor says of itself.
    pub(crate) fn status(&mut self, node: &Node, new: &Status) {
        let (anchor, old) = (node.anchor, &node.status);
        if new.role == Role::Leader {
            let before = self.leaders.insert(new.term, anchor);
            self.elections += u64::from(before.is_none());
            let is_one = before.is_none_or(|before| before == anchor);
            self.claim(is_one, "one leader per term (I1)", || {
                format!("{before:?} and {anchor} in {}", new.term)
            });
        }
        let is_monotone = new.term >= old.term && new.applied >= old.applied && new.purged >= old.purged;
        self.claim(is_monotone, "nothing goes back (I7)", || format!("{anchor}: {old:?} then {new:?}"));
        let is_ordered = new.purged <= new.snapshot && new.applied <= new.committed;
        self.claim(is_ordered, "purged <= snapshot, applied <= committed (I8)", || {
            format!("{anchor}: {new:?}")
        });
    }

    /// Looks at entries before an anchor applies them.
    pub(crate) fn applying(&mut self, node: &Node, entries: &[Committed]) {
        let next = node.applied.map_or(0, |index| index.0 + 1);
        for (expected, entry) in (next..).zip(entries) {
            self.claim(entry.index.0 == expected, "applied without gaps", || {
                format!("{} applies {} where {expected} is next", node.anchor, entry.index)
            });
            if let Some(fact) = self.committed.get(&entry.index) {
                let is_same = fact.entry == *entry;
                self.claim(is_same, "committed entries never change (I4, I6)", || {
                    format!("{} has another entry {}", node.anchor, entry.index)
                });
            } else {
                self.entries += 1;
                let bytes = node.entry(entry.index);
                self.committed.insert(entry.index, Fact { entry: entry.clone(), bytes, history: None });
            }
        }
    }

    /// Looks at the state of an anchor that has applied entries.
    pub(crate) fn applied(&mut self, node: &Node) {
        let Some(fact) = node.applied.and_then(|index| self.committed.get_mut(&index)) else { return };
        let history = *fact.history.get_or_insert(node.machine.history);
        let is_same = history == node.machine.history;
        self.claim(is_same, "equal logs give equal states (I4)", || {
            format!("{} at {:?}", node.anchor, node.applied)
        });
    }

    /// Looks at what an anchor is told as it is asked for a snapshot.
    pub(crate) fn snapshot(&mut self, node: &Node, applied: Option<LogIndex>) {
        self.claim(applied == node.applied, "snapshots say how far the log is applied", || {
            format!("{} is at {:?} and was told {applied:?}", node.anchor, node.applied)
        });
    }

    /// Looks at an acknowledgement: a majority of the voters in force there has the entry on disk.
    pub(crate) fn acknowledged(&mut self, nodes: &BTreeMap<u64, Node>, index: LogIndex) {
        self.acknowledged += 1;
        let Some(fact) = self.committed.get(&index) else {
            return self
                .claim(false, "acknowledged is applied (I9)", || format!("nobody has applied {index}"));
        };
        let Some(bytes) = &fact.bytes else { return };
        let holders: BTreeSet<AnchorId> =
            nodes.values().filter(|node| node.has_durable(index, bytes)).map(|node| node.anchor).collect();
        let voters = self.voters_at(index);
        let is_durable = voters.intersection(&holders).count() * 2 > voters.len();
        self.claim(is_durable, "acknowledged is durable on a majority (I5, I9)", || {
            format!("{index} is on the disks of {holders:?}, voters are {voters:?}")
        });
    }

    /// The voters in force. Between two sets it is the new one: the entry may have been committed after the leader
    /// appended that the new set is in force alone, which is in its log behind this entry.
    fn voters_at(&self, index: LogIndex) -> BTreeSet<AnchorId> {
        let before = self.committed.range(..=index).rev();
        let newest = before.filter_map(|(_, fact)| match &fact.entry.payload {
            CommittedPayload::Membership(membership) => membership.voters.last().cloned(),
            _ => None,
        });
        newest.into_iter().next().unwrap_or_default()
    }

    /// Looks at the votes that an anchor has on disk: one for each term.
    pub(crate) fn votes(&mut self, node: &Node) {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for (term, anchor) in &node.disk.votes {
            let first = *seen.entry(*term).or_insert(*anchor);
            self.claim(first == *anchor, "one vote per term, across crashes (I10)", || {
                format!("{} voted for {first} and {anchor} in {term}", node.anchor)
            });
        }
    }
}
