//! What a replica must read, computed from the operations that its version vector claims and from what
//! happened before what, and from nothing else: never from rows.
//!
//! Source: reference/model.md; the counter rule is `value(k) = the winning sibling or 0, plus every increment
//! that no SET, DEL or FLUSH of the claimed operations has in its past`.

pub(crate) mod campaign;
pub(crate) mod observed;
pub(crate) mod outcome;

use std::collections::BTreeSet;

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::crdt::VisibleKind;

/// The keys of a world, and the elements and fields under each.
pub(crate) const KEYS: usize = 3;
pub(crate) const SUBKEYS: usize = 2;

/// A set of operations: bit `n` is the `n`-th of the world.
pub(crate) type Ops = u128;

/// The operations of one world at most.
pub(crate) const OPS_MAX: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Set(i64),
    Increment(i64),
    Delete,
    Add,
    Remove,
    Put(i64),
    Unset,
    Clear,
}

/// One operation as the user meant it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meant {
    pub(crate) what: What,
    pub(crate) key: usize,
    pub(crate) subkey: usize,
    /// The time and dot of a register write.
    pub(crate) rank: Option<(Hlc, Dot)>,
    /// What its author had applied.
    pub(crate) past: Ops,
}

impl Meant {
    /// Whether it takes away what `victim` did, if that is in its past.
    fn undoes(&self, victim: &Self) -> bool {
        let is_same_key = self.key == victim.key;
        let is_same_subkey = is_same_key && self.subkey == victim.subkey;
        match self.what {
            What::Clear => true,
            What::Delete | What::Set(_) => is_same_key,
            What::Remove => is_same_subkey && victim.what == What::Add,
            What::Put(_) | What::Unset => is_same_subkey && matches!(victim.what, What::Put(_)),
            What::Add | What::Increment(_) => false,
        }
    }
}

/// A register or field: its concurrent values, the one that is read last.
pub(crate) type Values = BTreeSet<(Hlc, Dot, i64)>;

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyReads {
    pub(crate) register: Values,
    /// The sum of the increments that count, if there are any.
    pub(crate) counted: Option<i128>,
    pub(crate) elements: [bool; SUBKEYS],
    pub(crate) fields: [Values; SUBKEYS],
}

impl KeyReads {
    pub(crate) fn visible(&self) -> Option<VisibleKind> {
        if self.fields.iter().any(|field| !field.is_empty()) {
            Some(VisibleKind::Map)
        } else if self.elements.contains(&true) {
            Some(VisibleKind::Set)
        } else if !self.register.is_empty() {
            Some(VisibleKind::Register)
        } else {
            self.counted.map(|_| VisibleKind::Counter)
        }
    }

    /// The number under a register or counter.
    pub(crate) fn number(&self) -> Option<i128> {
        let winner = self.register.last().map(|(_, _, value)| i128::from(*value));
        match (winner, self.counted) {
            (None, None) => None,
            (winner, counted) => Some(winner.unwrap_or(0) + counted.unwrap_or(0)),
        }
    }
}

/// What a replica reads.
pub(crate) type Reads = [KeyReads; KEYS];

/// What a replica that has applied `claimed` must read.
pub(crate) fn reads(all: &[Meant], claimed: Ops) -> Reads {
    let is_in = |set: Ops, index: usize| set >> index & 1 == 1;
    let mut undone: Ops = 0;
    for (index, op) in all.iter().enumerate().filter(|(index, _)| is_in(claimed, *index)) {
        debug_assert!(!is_in(op.past, index), "nothing is in its own past");
        let victims = all.iter().enumerate().filter(|(victim, _)| is_in(op.past & claimed, *victim));
        for (victim, _) in victims.filter(|(_, victim)| op.undoes(victim)) {
            undone |= 1 << victim;
        }
    }
    let mut reads = Reads::default();
    for (_, op) in all.iter().enumerate().filter(|(index, _)| is_in(claimed & !undone, *index)) {
        let key = &mut reads[op.key];
        let ranked = |value| {
            let (hlc, dot) = op.rank.expect("a register write has a rank");
            (hlc, dot, value)
        };
        match op.what {
            What::Set(value) => drop(key.register.insert(ranked(value))),
            What::Increment(by) => key.counted = Some(key.counted.unwrap_or(0) + i128::from(by)),
            What::Add => key.elements[op.subkey] = true,
            What::Put(value) => drop(key.fields[op.subkey].insert(ranked(value))),
            What::Delete | What::Remove | What::Unset | What::Clear => {}
        }
    }
    reads
}
