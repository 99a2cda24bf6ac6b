//! What an operation on a strong keyspace did, as its frame says it: the same on every node, with the values of then.

use std::collections::BTreeMap;

use tidelock_engine::frame::Frame;
use tidelock_engine::op::{Op, Prefix};
use tidelock_engine::row::Kind;

use crate::watch::WatchRange;

/// An operation that was executed, and what it did to the keys that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrongOperation {
    /// Its place among all operations on the keyspace: the same on every node, higher than those of all before.
    pub revision: u64,
    /// What it changed, in its order; of several changes of one thing the last.
    pub changes: Vec<StrongChange>,
}

/// One thing that an operation changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrongChange {
    /// Something has a value since then, perhaps the one that it had before.
    Written {
        /// The key.
        key: Vec<u8>,
        /// What it is: a text (`Register`), an element, a field, or a member of a sorted set.
        kind: Kind,
        /// The element, field or member; empty for a text.
        subkey: Vec<u8>,
        /// The text, the field's value, the score, or the element itself.
        value: Vec<u8>,
    },
    /// Something is not there any more.
    Removed {
        /// The key.
        key: Vec<u8>,
        /// What it was.
        kind: Kind,
        /// The element, field or member; empty for a text.
        subkey: Vec<u8>,
    },
    /// Whatever the key held is not there any more. A small key is removed thing by thing.
    KeyRemoved {
        /// The key.
        key: Vec<u8>,
    },
    /// No key is there any more.
    AllRemoved,
}

/// The operations of a strong frame behind a revision that changed something in a range, in order.
pub(super) fn operations_of(frame: &Frame, after: u64, range: &WatchRange) -> Vec<StrongOperation> {
    let header = frame.header();
    let mut operations = Vec::new();
    let mut making = Making::default();
    for (seq, op) in (header.first..).zip(frame.ops()) {
        making.note(op, range);
        // What comes of a client's operation is noted behind what it did.
        if matches!(op, Op::Outcome { .. }) || seq == header.last() {
            let changes = std::mem::take(&mut making).changes();
            if seq > after && !changes.is_empty() {
                operations.push(StrongOperation { revision: seq, changes });
            }
        }
    }
    operations
}

/// Key, kind and subkey.
type Thing = (Vec<u8>, Kind, Vec<u8>);

/// The changes of one operation so far.
#[derive(Default)]
struct Making {
    /// None where a later one stands for it.
    changes: Vec<Option<StrongChange>>,
    places: BTreeMap<Thing, usize>,
}

impl Making {
    fn changes(self) -> Vec<StrongChange> {
        self.changes.into_iter().flatten().collect()
    }

    fn note(&mut self, op: &Op, range: &WatchRange) {
        let mut written = |key: &[u8], kind, subkey: &[u8], value: &[u8]| {
            if range.contains(key) {
                self.written((key.to_vec(), kind, subkey.to_vec()), value.to_vec());
            }
        };
        match op {
            Op::Set { key, value, .. } => written(key, Kind::Register, &[], value),
            Op::Add { key, elements } => {
                elements.iter().for_each(|it| written(key, Kind::Set, &it.element, &it.element));
            }
            Op::Put { key, fields } => {
                fields.iter().for_each(|it| written(key, Kind::Map, &it.field, &it.value));
            }
            Op::Score { key, members } => members
                .iter()
                .for_each(|it| written(key, Kind::Sorted, &it.member, it.score.to_string().as_bytes())),
            Op::Delete { key, rows, slots } if range.contains(key) => {
                let things = rows.iter().map(|row| (row.kind, row.subkey.clone()));
                let counter = (!slots.is_empty()).then(|| (Kind::Counter, Vec::new()));
                for (kind, subkey) in things.chain(counter) {
                    self.removed(key.clone(), kind, subkey);
                }
            }
            Op::Clear { prefix: Prefix::Keyspace, .. } => {
                *self = Self { changes: vec![Some(StrongChange::AllRemoved)], ..Self::default() };
            }
            Op::Clear { prefix: Prefix::Key(key), .. } if range.contains(key) => {
                self.key_removed(key.clone());
            }
            Op::Clear { prefix: Prefix::Group { key, kind, subkey }, .. } if range.contains(key) => {
                self.removed(key.clone(), *kind, subkey.clone());
            }
            // No strong frame counts in slots or changes documents; deadlines and outcomes are no values.
            Op::Delete { .. }
            | Op::Clear { .. }
            | Op::Increment { .. }
            | Op::Change { .. }
            | Op::Retire { .. }
            | Op::Expire { .. }
            | Op::Outcome { .. }
            | Op::Forget { .. } => {}
        }
    }

    fn written(&mut self, thing: Thing, value: Vec<u8>) {
        let (key, kind, subkey) = thing.clone();
        self.put(thing, StrongChange::Written { key, kind, subkey, value });
    }

    fn removed(&mut self, key: Vec<u8>, kind: Kind, subkey: Vec<u8>) {
        let kind = match kind {
            // A register and a counter under one key are one text.
            Kind::Counter => Kind::Register,
            Kind::Register | Kind::Set | Kind::Map | Kind::Sorted | Kind::Document => kind,
            Kind::Deadline | Kind::Retired | Kind::Outcome => return,
        };
        let thing = (key.clone(), kind, subkey.clone());
        self.put(thing, StrongChange::Removed { key, kind, subkey });
    }

    fn key_removed(&mut self, key: Vec<u8>) {
        for (_, place) in self.places.extract_if(.., |(of, ..), _| *of == key) {
            self.changes[place] = None;
        }
        self.changes.push(Some(StrongChange::KeyRemoved { key }));
    }

    fn put(&mut self, thing: Thing, change: StrongChange) {
        if let Some(before) = self.places.insert(thing, self.changes.len()) {
            self.changes[before] = None;
        }
        self.changes.push(Some(change));
    }
}
