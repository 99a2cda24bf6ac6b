//! Which operations of a frame are which writes of the turn that made it.
//!
//! The simulator knows what clients asked for; the log says what was made of it. Here the two are laid side by
//! side, in order: every operation was asked for, and everything that was asked for and done is an operation.

use std::collections::BTreeSet;

use tidelock_engine::causality::Dot;
use tidelock_engine::frame::{Frame, FrameHeader};
use tidelock_engine::op::{Op, Prefix, RowRef, SlotChange};
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;

use crate::specification::{Meant, What};

/// What clients asked for in one turn and keyspace, in order.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    writes: std::collections::VecDeque<Write>,
    /// Whether each of them was acknowledged; after a failed commit nobody knows which were refused.
    is_certain: bool,
}

impl Asked {
    /// The writes that were acknowledged and found something to change.
    pub fn certain(writes: impl IntoIterator<Item = Write>) -> Self {
        Self { writes: writes.into_iter().collect(), is_certain: true }
    }

    /// Writes of which some may have been refused.
    pub fn uncertain(writes: impl IntoIterator<Item = Write>) -> Self {
        Self { writes: writes.into_iter().collect(), is_certain: false }
    }

    /// What the operations of a frame were meant to do, each group of them with its place in the frame.
    ///
    /// # Errors
    /// The frame holds an operation that nobody asked for.
    pub fn meant_by(&mut self, frame: &Frame) -> Result<Vec<Meant>, String> {
        let mut meant = Vec::new();
        for (dot, op) in frame.operations() {
            self.take(dot, op, frame, &mut meant)?;
        }
        Ok(meant)
    }

    fn take(&mut self, dot: Dot, op: &Op, frame: &Frame, meant: &mut Vec<Meant>) -> Result<(), String> {
        let folded = folded(op, frame.header());
        if !folded.is_empty() {
            meant.push(Meant { what: What::Fold(folded), key: Vec::new(), rank: None, slot: None });
            return Ok(());
        }
        while let Some(write) = self.writes.front() {
            if fits(write, op) {
                let hlc = frame.header().hlc;
                meant.extend(Meant::of(write).into_iter().map(|mut one| {
                    let is_ranked = matches!(one.what, What::Set(_) | What::Put(..) | What::Change(..));
                    one.rank = is_ranked.then_some((hlc, dot));
                    one.slot = slot(op, dot);
                    one
                }));
                self.writes.pop_front();
                return Ok(());
            }
            // A replica closes spent slots by itself, unless a client asked for that very key; where some writes
            // may have been refused that can be a later one.
            let is_own =
                is_closing(op) && !self.writes.iter().any(|write| !self.is_certain && fits(write, op));
            if is_prelude(write, op) || is_own {
                return Ok(());
            }
            if self.is_certain {
                return Err(format!("{op:?} was made where {write:?} was asked for"));
            }
            self.writes.pop_front();
        }
        if is_closing(op) { Ok(()) } else { Err(format!("nobody asked for {op:?}")) }
    }

    /// After all frames of the turn: nothing that had to become an operation is left.
    ///
    /// # Errors
    /// Something acknowledged was not done.
    pub fn is_done(&self) -> Result<(), String> {
        match self.writes.front().filter(|_| self.is_certain) {
            Some(write) => Err(format!("{write:?} was acknowledged and is in no frame")),
            None => Ok(()),
        }
    }
}

fn fits(write: &Write, op: &Op) -> bool {
    match (write, op) {
        (Write::Set { key, value }, Op::Set { key: of, value: is, .. }) => key == of && value == is,
        (Write::Increment { key, .. }, Op::Increment { key: of, .. }) => key == of,
        (Write::Add { key, elements }, Op::Add { key: of, elements: are }) => {
            key == of && are_all(are.iter().map(|element| &element.element), elements.iter())
        }
        (Write::Put { key, fields }, Op::Put { key: of, fields: are }) => {
            let is_asked = |field: &[u8], value: &[u8]| fields.iter().any(|(f, v)| f == field && v == value);
            let are_named =
                are_all(are.iter().map(|field| &field.field), fields.iter().map(|(field, _)| field));
            key == of && are_named && are.iter().all(|field| is_asked(&field.field, &field.value))
        }
        // Removals that found nothing are no operations, so what is removed tells which one it was.
        (Write::Remove { key, elements: subkeys }, Op::Delete { key: of, rows, .. }) => {
            key == of && are_removed(rows, Kind::Set, subkeys)
        }
        (Write::Unset { key, fields: subkeys }, Op::Delete { key: of, rows, .. }) => {
            key == of && are_removed(rows, Kind::Map, subkeys)
        }
        (Write::Delete { key }, Op::Delete { key: of, .. } | Op::Clear { prefix: Prefix::Key(of), .. }) => {
            key == of
        }
        (Write::Change { key, chunk, .. }, Op::Change { key: of, chunk: is, .. }) => key == of && chunk == is,
        (Write::Clear, Op::Clear { prefix, .. }) => *prefix == Prefix::Keyspace,
        (Write::Retire { .. }, Op::Retire { .. }) => true,
        _ => false,
    }
}

/// Whether names are those that were asked for, each once. A write of fewer is another write, which was asked for
/// later, where this one was refused.
fn are_all<'a>(are: impl Iterator<Item = &'a Vec<u8>>, asked: impl Iterator<Item = &'a Vec<u8>>) -> bool {
    are.collect::<BTreeSet<_>>() == asked.collect::<BTreeSet<_>>()
}

/// Whether rows are elements, or fields, that were named.
fn are_removed(rows: &[RowRef], kind: Kind, named: &[Vec<u8>]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| row.kind == kind && named.contains(&row.subkey))
}

/// Whether an operation removes what a write replaces: all of a key of another kind, or what is too much to list.
fn is_prelude(write: &Write, op: &Op) -> bool {
    match (write, op) {
        (Write::Set { key, .. }, Op::Delete { key: of, .. } | Op::Clear { prefix: Prefix::Key(of), .. })
        | (
            Write::Add { key, .. } | Write::Put { key, .. },
            Op::Clear { prefix: Prefix::Group { key: of, .. }, .. },
        ) => key == of,
        _ => false,
    }
}

/// The operation that opened the slot which an operation counts in.
fn slot(op: &Op, dot: Dot) -> Option<Dot> {
    match op {
        Op::Increment { birth: 0, .. } => Some(dot),
        Op::Increment { birth, .. } => Some(Dot::new(dot.replica, *birth)),
        _ => None,
    }
}

/// The slots that an operation folds: nobody asks for that.
fn folded(op: &Op, header: &FrameHeader) -> Vec<Dot> {
    let Op::Delete { slots, .. } = op else { return Vec::new() };
    let birth = |change: &SlotChange| match change {
        SlotChange::Fold { birth } => header.dot(*birth),
        _ => None,
    };
    slots.iter().filter_map(birth).collect()
}

/// Whether an operation only closes spent slots of its author, which a replica does by itself, and in passing
/// when it is asked to delete what is not there.
fn is_closing(op: &Op) -> bool {
    let Op::Delete { rows, slots, .. } = op else { return false };
    rows.is_empty() && slots.iter().all(|slot| matches!(slot, SlotChange::Close { .. }))
}
