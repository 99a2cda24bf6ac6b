//! What was acknowledged on the keys that all writers share: how often each counter, and which members of the
//! ledger.
//!
//! Where the outcome of an operation is unknown, because its node was killed before it answered, the end lies
//! between: what was acknowledged must be there, what is unknown may be.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Value;
use super::operation::{Key, Kind, Operation, Verb};

/// What was acknowledged, and what is unknown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    counters: BTreeMap<Key, Count>,
    members: BTreeSet<String>,
    members_unknown: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    acknowledged: u64,
    unknown: u64,
}

impl Account {
    /// Books the reply to an operation on a shared key.
    ///
    /// # Errors
    /// No node may reply this.
    pub(crate) fn acknowledge(&mut self, operation: &Operation, reply: &str) -> Result<(), String> {
        let is_plausible = match (operation.key.kind, &operation.verb) {
            (Kind::Ledger, Verb::Add(member)) => {
                self.members.insert(member.clone());
                reply == "1"
            }
            (Kind::Counter, Verb::Increment) => {
                let count = self.counters.entry(operation.key).or_default();
                count.acknowledged += 1;
                // Others count too, but never down.
                reply.parse().is_ok_and(|replied: u64| replied >= count.acknowledged)
            }
            // A key that all write in all ways may show another kind than the command is for.
            (Kind::Mixed, _) => !is_error(reply) || is_of_kind(reply),
            _ => !is_error(reply),
        };
        if is_plausible { Ok(()) } else { Err(format!("{operation:?} was answered {reply:?}")) }
    }

    /// Books an operation on a shared key that was sent and not answered.
    pub(crate) fn doubt(&mut self, operation: &Operation) {
        match (operation.key.kind, &operation.verb) {
            (Kind::Ledger, Verb::Add(member)) => {
                self.members_unknown.insert(member.clone());
            }
            (Kind::Counter, Verb::Increment) => {
                self.counters.entry(operation.key).or_default().unknown += 1;
            }
            _ => {}
        }
    }

    /// Adds the account of another writer.
    pub(crate) fn join(&mut self, other: &Self) {
        for (key, count) in &other.counters {
            let sum = self.counters.entry(*key).or_default();
            sum.acknowledged += count.acknowledged;
            sum.unknown += count.unknown;
        }
        self.members.extend(other.members.iter().cloned());
        self.members_unknown.extend(other.members_unknown.iter().cloned());
    }

    /// Checks what a counter holds in the end.
    ///
    /// # Errors
    /// It is less than was acknowledged, or more than was asked.
    pub(crate) fn check_counter(&self, key: Key, found: Option<&Value>) -> Result<(), String> {
        let Count { acknowledged, unknown } = self.counters.get(&key).copied().unwrap_or_default();
        let is_right = match found {
            Some(Value::Count(count)) => (acknowledged..=acknowledged + unknown).contains(count),
            None => acknowledged == 0,
            Some(_) => false,
        };
        if is_right {
            return Ok(());
        }
        Err(format!("{key} holds {found:?}; acknowledged {acknowledged} times, unknown {unknown} times"))
    }

    /// Checks what the ledger holds in the end.
    ///
    /// # Errors
    /// A member that was acknowledged is missing, or one is there that nobody added.
    pub(crate) fn check_ledger(&self, found: Option<&Value>) -> Result<(), String> {
        let none = BTreeSet::new();
        let found = match found {
            Some(Value::Set(found)) => found,
            None => &none,
            Some(other) => return Err(format!("the ledger holds {other:?}")),
        };
        let missing: Vec<&String> = self.members.difference(found).collect();
        let strange: Vec<&String> = found
            .iter()
            .filter(|it| !self.members.contains(*it) && !self.members_unknown.contains(*it))
            .collect();
        if missing.is_empty() && strange.is_empty() {
            return Ok(());
        }
        Err(format!("of the ledger {missing:?} are missing, and {strange:?} were never added"))
    }

    /// The increments and the ledger's members that were acknowledged.
    pub(crate) fn totals(&self) -> (u64, usize) {
        (self.counters.values().map(|count| count.acknowledged).sum(), self.members.len())
    }
}

fn is_error(reply: &str) -> bool {
    reply.starts_with("error: ")
}

/// Whether an error is for the kind of what is there, and the node did what it should.
fn is_of_kind(reply: &str) -> bool {
    reply.starts_with("error: WRONGTYPE") || reply.starts_with("error: ERR value is not an integer")
}
