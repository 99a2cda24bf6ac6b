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
    Change(i64),
    /// Replaces all changes of the document that its author sees.
    Compact(i64),
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
    pub(crate) changes: BTreeSet<i64>,
}

impl KeyReads {
    pub(crate) fn visible(&self) -> Option<VisibleKind> {
        if !self.changes.is_empty() {
            Some(VisibleKind::Document)
        } else if self.fields.iter().any(|field| !field.is_empty()) {
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

/// All operations of a world, with sets of them by what they do and where.
#[derive(Debug, Default)]
pub(crate) struct Story {
    all: Vec<Meant>,
    on_key: [Ops; KEYS],
    adds: [[Ops; SUBKEYS]; KEYS],
    puts: [[Ops; SUBKEYS]; KEYS],
    changes: [Ops; KEYS],
}

impl Story {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes in an operation; answers its bit.
    pub(crate) fn tell(&mut self, op: Meant) -> Ops {
        let bit = 1 << self.all.len();
        match op.what {
            What::Set(_) | What::Increment(_) => self.on_key[op.key] |= bit,
            What::Add => {
                self.on_key[op.key] |= bit;
                self.adds[op.key][op.subkey] |= bit;
            }
            What::Put(_) => {
                self.on_key[op.key] |= bit;
                self.puts[op.key][op.subkey] |= bit;
            }
            What::Change(_) | What::Compact(_) => {
                self.on_key[op.key] |= bit;
                self.changes[op.key] |= bit;
            }
            What::Delete | What::Remove | What::Unset | What::Clear => {}
        }
        self.all.push(op);
        bit
    }

    /// The operations of a set, with their bits.
    pub(crate) fn each(&self, ops: Ops) -> impl Iterator<Item = &Meant> {
        let mut rest = ops;
        std::iter::from_fn(move || {
            let next = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(&self.all[next])
        })
    }

    /// The operations that `op` takes away if they are in its past.
    fn victims(&self, op: &Meant) -> Ops {
        match op.what {
            What::Clear => Ops::MAX,
            What::Delete | What::Set(_) => self.on_key[op.key],
            What::Remove => self.adds[op.key][op.subkey],
            What::Put(_) | What::Unset => self.puts[op.key][op.subkey],
            What::Compact(_) => self.changes[op.key],
            What::Add | What::Increment(_) | What::Change(_) => 0,
        }
    }

    /// What a replica that has applied `claimed` must read.
    pub(crate) fn reads(&self, claimed: Ops) -> Reads {
        let undone = self.each(claimed).fold(0, |undone, op| undone | (op.past & self.victims(op)));
        let mut reads = Reads::default();
        for op in self.each(claimed & !undone) {
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
                What::Change(value) | What::Compact(value) => drop(key.changes.insert(value)),
                What::Delete | What::Remove | What::Unset | What::Clear => {}
            }
        }
        reads
    }
}
