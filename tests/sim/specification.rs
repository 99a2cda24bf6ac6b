//! What a replica must read, computed from the operations that it has applied and from what happened before
//! what, and from nothing else: never from rows.
//!
//! Source: reference/model.md; the counter rule is `value(k) = the winning sibling or 0, plus every increment
//! that no SET, DEL or FLUSH of the applied operations has in its past`. The other kinds follow the same
//! rule: an operation takes away what it could see. One exception: what a retired replica counts in a slot that
//! somebody folded counts nowhere, whether that one had seen it or not.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::crdt::{VisibleKind, integer};
use tidelock_engine::write::Write;

use crate::bits::Bits;

/// What one operation is meant to do to one key, element or field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Makes a register.
    Set(Vec<u8>),
    /// Counts.
    Increment(i64),
    /// Removes a key.
    Delete,
    /// Adds an element.
    Add(Vec<u8>),
    /// Removes an element.
    Remove(Vec<u8>),
    /// Writes a field.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a field.
    Unset(Vec<u8>),
    /// Adds changes to a document, in place of those of these dots.
    Change(Vec<u8>, Vec<Dot>),
    /// Removes everything.
    Clear,
    /// Retires a replica, which changes nothing that is read.
    Retire,
    /// Removes counter slots of retired replicas, named by what opened them. No client asks for that.
    Fold(Vec<Dot>),
}

/// One operation as the user meant it.
#[derive(Clone, Debug)]
pub struct Meant {
    /// What it does.
    pub what: What,
    /// To which key; empty for [`What::Clear`].
    pub key: Vec<u8>,
    /// The time and dot of a register or field write, or of a document's change.
    pub rank: Option<(Hlc, Dot)>,
    /// The operation that opened the slot, of an increment.
    pub slot: Option<Dot>,
}

impl Meant {
    /// What a write means, element by element.
    pub fn of(write: &Write) -> Vec<Self> {
        let one = |key: &[u8], what| Self { what, key: key.to_vec(), rank: None, slot: None };
        match write {
            Write::Set { key, value } | Write::SetFor { key, value, .. } => {
                vec![one(key, What::Set(value.clone()))]
            }
            Write::Increment { key, by } => vec![one(key, What::Increment(*by))],
            Write::Add { key, elements } => {
                elements.iter().map(|element| one(key, What::Add(element.clone()))).collect()
            }
            Write::Remove { key, elements } => {
                elements.iter().map(|element| one(key, What::Remove(element.clone()))).collect()
            }
            Write::Put { key, fields } => {
                // Of a repeated field the last value counts.
                let last: BTreeMap<&Vec<u8>, &Vec<u8>> = fields.iter().map(|(f, value)| (f, value)).collect();
                let meant = last.into_iter().map(|(f, value)| What::Put(f.clone(), value.clone()));
                meant.map(|what| one(key, what)).collect()
            }
            Write::Unset { key, fields } => {
                fields.iter().map(|field| one(key, What::Unset(field.clone()))).collect()
            }
            Write::Change { key, chunk, replaced, .. } => {
                vec![one(key, What::Change(chunk.clone(), replaced.clone()))]
            }
            Write::Delete { key } => vec![one(key, What::Delete)],
            Write::Clear => vec![one(b"", What::Clear)],
            Write::Retire { .. } => vec![one(b"", What::Retire)],
            // Deadlines are played in stories of their own.
            Write::Expire { .. } | Write::Persist { .. } => Vec::new(),
            // They become the operations of the writes above; the engine's tests are about which.
            edit => unreachable!("no workload makes {edit:?}"),
        }
    }
}

/// A register or field: its concurrent values, the one that is read last.
pub type Values = BTreeSet<(Hlc, Dot, Vec<u8>)>;

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReads {
    /// The values of the register.
    pub register: Values,
    /// The sum of the increments that count, if there are any.
    pub counted: Option<i128>,
    /// The elements of the set.
    pub elements: BTreeSet<Vec<u8>>,
    /// The fields of the map.
    pub fields: BTreeMap<Vec<u8>, Values>,
    /// The changes of the document.
    pub changes: BTreeMap<Dot, Vec<u8>>,
}

impl KeyReads {
    /// The kind that is shown, if the key exists.
    pub fn visible(&self) -> Option<VisibleKind> {
        if !self.changes.is_empty() {
            Some(VisibleKind::Document)
        } else if !self.fields.is_empty() {
            Some(VisibleKind::Map)
        } else if !self.elements.is_empty() {
            Some(VisibleKind::Set)
        } else if !self.register.is_empty() {
            Some(VisibleKind::Register)
        } else {
            self.counted.map(|_| VisibleKind::Counter)
        }
    }

    /// What a GET answers when no set or map is shown: the register if it is no integer, else it and all that
    /// was counted.
    pub fn shown(&self) -> Option<Vec<u8>> {
        let winner = self.register.last().map(|(_, _, value)| value);
        match (winner, winner.and_then(|value| integer(value)), self.counted) {
            (Some(value), None, _) => Some(value.clone()),
            (None, _, None) => None,
            (_, base, counted) => {
                let sum = i128::from(base.unwrap_or(0)) + counted.unwrap_or(0);
                Some(sum.to_string().into_bytes())
            }
        }
    }
}

/// What a replica reads: the keys under which there is anything.
pub type Reads = BTreeMap<Vec<u8>, KeyReads>;

/// All operations of a keyspace.
#[derive(Debug, Default)]
pub struct Story {
    all: Vec<Told>,
    on_key: BTreeMap<Vec<u8>, Bits>,
    adds: BTreeMap<(Vec<u8>, Vec<u8>), Bits>,
    puts: BTreeMap<(Vec<u8>, Vec<u8>), Bits>,
    /// The increments of each slot.
    slots: BTreeMap<Dot, Bits>,
    /// The operations that fold slots.
    folds: Bits,
}

/// An operation, and what it takes away: what of its victims was in its past. Whoever has applied an operation
/// has applied its past, so this is known when it is made.
#[derive(Debug)]
struct Told {
    op: Meant,
    past: Bits,
    undoes: Bits,
}

impl Story {
    /// The number of operations.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing was told yet.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes in an operation and what its author had applied; answers its number.
    pub fn tell(&mut self, op: Meant, past: Bits) -> usize {
        let number = self.all.len();
        let undoes = past.intersection(&self.victims(&op, &past));
        match &op.what {
            What::Set(_) | What::Change(..) => {}
            What::Increment(_) => {
                op.slot.iter().for_each(|slot| self.slots.entry(*slot).or_default().insert(number));
            }
            What::Add(element) => {
                self.adds.entry((op.key.clone(), element.clone())).or_default().insert(number);
            }
            What::Put(field, _) => {
                self.puts.entry((op.key.clone(), field.clone())).or_default().insert(number);
            }
            What::Delete | What::Remove(_) | What::Unset(_) | What::Clear | What::Retire | What::Fold(_) => {
                if let What::Fold(_) = op.what {
                    self.folds.insert(number);
                }
                self.all.push(Told { op, past, undoes });
                return number;
            }
        }
        self.on_key.entry(op.key.clone()).or_default().insert(number);
        self.all.push(Told { op, past, undoes });
        number
    }

    /// The operations that `op` takes away if they are in its past.
    fn victims(&self, op: &Meant, past: &Bits) -> Bits {
        let under = |subkey: &Vec<u8>| (op.key.clone(), subkey.clone());
        let found = match &op.what {
            What::Clear => Some(past),
            What::Change(_, replaced) => return self.replaced(&op.key, replaced),
            What::Delete | What::Set(_) => self.on_key.get(&op.key),
            What::Remove(element) => self.adds.get(&under(element)),
            What::Put(field, _) | What::Unset(field) => self.puts.get(&under(field)),
            What::Add(_) | What::Increment(_) | What::Retire | What::Fold(_) => None,
        };
        found.cloned().unwrap_or_default()
    }

    /// The changes of a document that have these dots.
    fn replaced(&self, key: &[u8], dots: &[Dot]) -> Bits {
        let mut found = Bits::default();
        for number in self.on_key.get(key).into_iter().flat_map(Bits::iter) {
            let op = self.op(number);
            let is_change = matches!(op.what, What::Change(..));
            if is_change && op.rank.is_some_and(|(_, dot)| dots.contains(&dot)) {
                found.insert(number);
            }
        }
        found
    }

    /// What the author of an operation had applied.
    pub fn past(&self, number: usize) -> &Bits {
        &self.all[number].past
    }

    /// An operation.
    pub fn op(&self, number: usize) -> &Meant {
        &self.all[number].op
    }

    /// Those of a set of operations that no other of them takes away.
    pub fn standing(&self, applied: &Bits) -> Bits {
        let mut undone = Bits::default();
        applied.iter().for_each(|number| undone.join(&self.all[number].undoes));
        self.folds
            .intersection(applied)
            .iter()
            .for_each(|number| undone.join(&self.folded(&self.op(number).what)));
        applied.without(&undone)
    }

    /// The increments of the slots that an operation folds.
    pub fn folded(&self, what: &What) -> Bits {
        let mut folded = Bits::default();
        if let What::Fold(slots) = what {
            slots.iter().filter_map(|slot| self.slots.get(slot)).for_each(|of| folded.join(of));
        }
        folded
    }

    /// What a replica that has applied these operations must read.
    pub fn reads(&self, applied: &Bits) -> Reads {
        let mut reads = Reads::new();
        for number in self.standing(applied).iter() {
            let op = self.op(number);
            let ranked = |value: &Vec<u8>| {
                let (hlc, dot) = op.rank.expect("a register write has a rank");
                (hlc, dot, value.clone())
            };
            if let What::Delete
            | What::Remove(_)
            | What::Unset(_)
            | What::Clear
            | What::Retire
            | What::Fold(_) = op.what
            {
                continue;
            }
            let key = reads.entry(op.key.clone()).or_default();
            match &op.what {
                What::Set(value) => drop(key.register.insert(ranked(value))),
                What::Increment(by) => key.counted = Some(key.counted.unwrap_or(0) + i128::from(*by)),
                What::Add(element) => drop(key.elements.insert(element.clone())),
                What::Put(field, value) => {
                    key.fields.entry(field.clone()).or_default().insert(ranked(value));
                }
                What::Change(chunk, _) => {
                    let (_, dot) = op.rank.expect("a change has a dot");
                    key.changes.insert(dot, chunk.clone());
                }
                _ => unreachable!("what adds nothing was left out"),
            }
        }
        reads
    }
}
