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
use tidelock_engine::score::Score;
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
    /// Removes a key that has expired, or of which there is nothing but deadlines. No client asks for that.
    Bury,
    /// Adds an element.
    Add(Vec<u8>),
    /// Removes an element.
    Remove(Vec<u8>),
    /// Writes a field.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a field.
    Unset(Vec<u8>),
    /// Scores a member.
    Score(Vec<u8>, Score),
    /// Removes a member of a sorted set.
    Unscore(Vec<u8>),
    /// Says until when the key lives, in Unix milliseconds.
    Deadline(u64),
    /// Lets it live for ever again.
    Persist,
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
    /// The time and dot of a register, field or score write, of a deadline, or of a document's change.
    pub rank: Option<(Hlc, Dot)>,
    /// The operation that opened the slot, of an increment.
    pub slot: Option<Dot>,
}

impl Meant {
    /// What a write means that is one operation, element by element.
    pub fn of(write: &Write) -> Vec<Self> {
        let one = |key: &[u8], what| Self { what, key: key.to_vec(), rank: None, slot: None };
        match write {
            Write::Set { key, value } => vec![one(key, What::Set(value.clone()))],
            Write::Expire { key, deadline_ms, .. } => vec![one(key, What::Deadline(*deadline_ms))],
            Write::Persist { key } => vec![one(key, What::Persist)],
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
            Write::Score { key, members, .. } => {
                let meant = members.iter().map(|(member, score)| What::Score(member.clone(), *score));
                meant.map(|what| one(key, what)).collect()
            }
            Write::Unscore { key, members } => {
                members.iter().map(|member| one(key, What::Unscore(member.clone()))).collect()
            }
            Write::Change { key, chunk, replaced, .. } => {
                vec![one(key, What::Change(chunk.clone(), replaced.clone()))]
            }
            Write::Delete { key } => vec![one(key, What::Delete)],
            Write::Clear => vec![one(b"", What::Clear)],
            Write::Retire { .. } => vec![one(b"", What::Retire)],
            other => unreachable!("{other:?} is taken apart before"),
        }
    }
}

/// A register or field: its concurrent values, the one that is read last.
pub type Values = BTreeSet<(Hlc, Dot, Vec<u8>)>;

/// Concurrent deadlines of a key.
pub type Deadlines = BTreeSet<(u64, Dot)>;

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
    /// The members of the sorted set, with their scores as they are written.
    pub scores: BTreeMap<Vec<u8>, Values>,
    /// The changes of the document.
    pub changes: BTreeMap<Dot, Vec<u8>>,
    /// The concurrent deadlines, in Unix milliseconds, the one that counts last. They alone make no key.
    pub deadlines: Deadlines,
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
        } else if !self.scores.is_empty() {
            Some(VisibleKind::Sorted)
        } else if !self.register.is_empty() {
            Some(VisibleKind::Register)
        } else {
            self.counted.map(|_| VisibleKind::Counter)
        }
    }

    /// Until when it lives, in Unix milliseconds, if not for ever.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadlines.last().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Whether its deadline is past by a clock, in Unix milliseconds.
    pub fn is_expired(&self, clock_ms: u64) -> bool {
        self.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= clock_ms)
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
    deadlines: BTreeMap<Vec<u8>, Bits>,
    adds: BTreeMap<(Vec<u8>, Vec<u8>), Bits>,
    puts: BTreeMap<(Vec<u8>, Vec<u8>), Bits>,
    scores: BTreeMap<(Vec<u8>, Vec<u8>), Bits>,
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
        let under = |subkey: &Vec<u8>| (op.key.clone(), subkey.clone());
        match &op.what {
            What::Increment(_) => {
                op.slot.iter().for_each(|slot| self.slots.entry(*slot).or_default().insert(number));
            }
            What::Add(element) => self.adds.entry(under(element)).or_default().insert(number),
            What::Put(field, _) => self.puts.entry(under(field)).or_default().insert(number),
            What::Score(member, _) => self.scores.entry(under(member)).or_default().insert(number),
            What::Deadline(_) => self.deadlines.entry(op.key.clone()).or_default().insert(number),
            What::Fold(_) => self.folds.insert(number),
            _ => {}
        }
        if op.what.adds() {
            self.on_key.entry(op.key.clone()).or_default().insert(number);
        }
        self.all.push(Told { op, past, undoes });
        number
    }

    /// The operations that `op` takes away if they are in its past.
    fn victims(&self, op: &Meant, past: &Bits) -> Bits {
        let under = |subkey: &Vec<u8>| (op.key.clone(), subkey.clone());
        let found = match &op.what {
            What::Clear => Some(past),
            What::Change(_, replaced) => return self.replaced(&op.key, replaced),
            What::Delete | What::Bury => self.on_key.get(&op.key),
            // Until when the key lives is said beside it.
            What::Set(_) => {
                let on_key = self.on_key.get(&op.key).cloned().unwrap_or_default();
                return self.deadlines.get(&op.key).map_or(on_key.clone(), |of| on_key.without(of));
            }
            What::Deadline(_) | What::Persist => self.deadlines.get(&op.key),
            What::Remove(element) => self.adds.get(&under(element)),
            What::Put(field, _) | What::Unset(field) => self.puts.get(&under(field)),
            What::Score(member, _) | What::Unscore(member) => self.scores.get(&under(member)),
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
            if op.what.adds() {
                reads.entry(op.key.clone()).or_default().take(op);
            }
        }
        reads
    }

    /// What it must read under one key.
    pub fn reads_key(&self, applied: &Bits, key: &[u8]) -> KeyReads {
        let mut reads = KeyReads::default();
        if let Some(on_key) = self.on_key.get(key) {
            let standing = self.standing(applied).intersection(on_key);
            standing.iter().for_each(|number| reads.take(self.op(number)));
        }
        reads
    }

    /// Whether any key ever had a deadline.
    pub fn expires(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Whether a key ever had a deadline.
    pub fn has_deadlines(&self, key: &[u8]) -> bool {
        self.deadlines.contains_key(key)
    }

    /// How often keys were removed because they had expired.
    pub fn burials(&self) -> u64 {
        self.all.iter().filter(|told| told.op.what == What::Bury).count() as u64
    }

    /// The deadlines that stand where these operations are applied, by key.
    pub fn standing_deadlines(&self, applied: &Bits) -> BTreeMap<Vec<u8>, Deadlines> {
        let mut found: BTreeMap<Vec<u8>, Deadlines> = BTreeMap::new();
        if self.deadlines.is_empty() {
            return found;
        }
        let standing = self.standing(applied);
        for (key, of_key) in &self.deadlines {
            let here = of_key.intersection(&standing);
            let ranked = here.iter().filter_map(|number| self.op(number).deadline());
            let deadlines: Deadlines = ranked.collect();
            if !deadlines.is_empty() {
                found.insert(key.clone(), deadlines);
            }
        }
        found
    }
}

impl What {
    /// Whether it leaves something where it is applied.
    pub const fn adds(&self) -> bool {
        matches!(
            self,
            Self::Set(_)
                | Self::Increment(_)
                | Self::Add(_)
                | Self::Put(..)
                | Self::Score(..)
                | Self::Change(..)
                | Self::Deadline(_)
        )
    }
}

impl Meant {
    fn rank(&self) -> (Hlc, Dot) {
        self.rank.expect("what is ranked has a rank")
    }

    fn deadline(&self) -> Option<(u64, Dot)> {
        match self.what {
            What::Deadline(deadline_ms) => Some((deadline_ms, self.rank().1)),
            _ => None,
        }
    }
}

impl KeyReads {
    /// Takes in what an operation left.
    fn take(&mut self, op: &Meant) {
        match &op.what {
            What::Set(value) => drop(self.register.insert((op.rank().0, op.rank().1, value.clone()))),
            What::Increment(by) => self.counted = Some(self.counted.unwrap_or(0) + i128::from(*by)),
            What::Add(element) => drop(self.elements.insert(element.clone())),
            What::Put(field, value) => {
                let values = self.fields.entry(field.clone()).or_default();
                values.insert((op.rank().0, op.rank().1, value.clone()));
            }
            What::Score(member, score) => {
                let values = self.scores.entry(member.clone()).or_default();
                values.insert((op.rank().0, op.rank().1, score.to_bytes().to_vec()));
            }
            What::Change(chunk, _) => drop(self.changes.insert(op.rank().1, chunk.clone())),
            What::Deadline(_) => self.deadlines.extend(op.deadline()),
            _ => {}
        }
    }
}
