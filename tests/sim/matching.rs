//! Which operations of a frame are which writes of the turn that made it.
//!
//! The simulator knows what clients asked for; the log says what was made of it. Here the two are laid side by
//! side, in order: every operation was asked for, and everything that was asked for and done is an operation.

use std::collections::{BTreeSet, VecDeque};

use tidelock_engine::causality::Dot;
use tidelock_engine::frame::FrameHeader;
use tidelock_engine::op::{Op, Prefix, RowRef, SlotChange};
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;

use crate::sight::Sight;
use crate::specification::{Meant, What};

/// What clients asked for in one turn and keyspace, in order.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Each with whether it is certain that it was done.
    writes: VecDeque<(Write, bool)>,
    /// What is left of the write that was begun, one operation each.
    steps: VecDeque<Write>,
    /// Whether these are certain.
    is_certain: bool,
}

impl Asked {
    /// A write that was acknowledged and found something to change; or of which that is not certain, as it is of none
    /// after a failed commit.
    pub fn push(&mut self, write: Write, is_certain: bool) {
        self.writes.push_back((write, is_certain));
    }

    /// What an operation of a frame was meant to do, where its author saw this.
    ///
    /// # Errors
    /// Nobody asked for it.
    pub fn meant_by(
        &mut self,
        (dot, op): (Dot, &Op),
        header: &FrameHeader,
        sight: &Sight<'_>,
    ) -> Result<Vec<Meant>, String> {
        let one = |what, key: &[u8]| vec![Meant { what, key: key.to_vec(), rank: None, slot: None }];
        let folded = folded(op, header);
        if !folded.is_empty() {
            return Ok(one(What::Fold(folded), b""));
        }
        if let Some(key) = buried(op, sight) {
            return Ok(one(What::Bury, key));
        }
        while let Some(write) = self.next(sight) {
            if fits(write, op) {
                let meant = meant(write, dot, op, header);
                self.steps.pop_front();
                return Ok(meant);
            }
            // A replica closes spent slots by itself, unless a client asked for that very key; where some writes
            // may have been refused that can be a later one.
            let mut uncertain = self.writes.iter().filter(|(_, is_certain)| !is_certain);
            let is_own = is_closing(op) && !uncertain.any(|(write, _)| fits(write, op));
            let write = &self.steps[0];
            if is_own || is_prelude(write, op) {
                return Ok(Vec::new());
            }
            if self.is_certain {
                return Err(format!("{op:?} was made where {write:?} was asked for"));
            }
            self.steps.clear();
        }
        if is_closing(op) { Ok(Vec::new()) } else { Err(format!("nobody asked for {op:?}")) }
    }

    /// The write that the next operation must be.
    fn next(&mut self, sight: &Sight<'_>) -> Option<&Write> {
        while self.steps.is_empty() {
            let (write, is_certain) = self.writes.pop_front()?;
            (self.steps, self.is_certain) = (sight.steps(write).into(), is_certain);
        }
        self.steps.front()
    }

    /// After all frames of the turn: nothing that had to become an operation is left.
    ///
    /// # Errors
    /// Something acknowledged was not done.
    pub fn is_done(&mut self, sight: &Sight<'_>) -> Result<(), String> {
        while let Some(write) = self.next(sight) {
            let detail = format!("{write:?} was acknowledged and is in no frame");
            if self.is_certain {
                return Err(detail);
            }
            self.steps.clear();
        }
        Ok(())
    }
}

fn meant(write: &Write, dot: Dot, op: &Op, header: &FrameHeader) -> Vec<Meant> {
    let mut meant = match (write, op) {
        // Which elements nobody chose, only the operation tells; that they are as many as asked for, the answer.
        (Write::Pop { key, .. }, Op::Delete { rows, .. }) => {
            let elements = rows.iter().map(|row| row.subkey.clone()).collect();
            Meant::of(&Write::Remove { key: key.clone(), elements })
        }
        _ => Meant::of(write),
    };
    for one in &mut meant {
        let is_ranked = matches!(
            one.what,
            What::Set(_) | What::Put(..) | What::Score(..) | What::Change(..) | What::Deadline(_)
        );
        one.rank = is_ranked.then_some((header.hlc, dot));
        one.slot = slot(op, dot);
    }
    meant
}

/// The key that an operation removes because it has expired, or because there is nothing of it but deadlines.
fn buried<'a>(op: &'a Op, sight: &Sight<'_>) -> Option<&'a [u8]> {
    let is_deadline = |row: &RowRef| row.kind == Kind::Deadline;
    let (key, is_whole) = match op {
        Op::Clear { prefix: Prefix::Key(key), .. } => (key, true),
        Op::Delete { key, rows, slots } if rows.iter().any(is_deadline) => {
            (key, !slots.is_empty() || !rows.iter().all(is_deadline))
        }
        _ => return None,
    };
    // Of a key that is there not only the deadlines go.
    let is_buried =
        sight.is_over(key, sight.clocks.removed_ms) && (is_whole || sight.all(key).visible().is_none());
    is_buried.then_some(key)
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
        (Write::Score { key, members, .. }, Op::Score { key: of, members: are }) => {
            let asked: BTreeSet<_> = members.iter().cloned().collect();
            key == of
                && are.iter().map(|one| (one.member.clone(), one.score)).collect::<BTreeSet<_>>() == asked
        }
        (Write::Unscore { key, members }, Op::Delete { key: of, rows, .. }) => {
            key == of && are_removed(rows, Kind::Sorted, members)
        }
        (Write::Delete { key }, Op::Delete { key: of, .. } | Op::Clear { prefix: Prefix::Key(of), .. }) => {
            key == of
        }
        (Write::Pop { key, .. }, Op::Delete { key: of, rows, slots }) => {
            key == of && slots.is_empty() && !rows.is_empty() && rows.iter().all(|row| row.kind == Kind::Set)
        }
        (Write::Expire { key, deadline_ms, .. }, Op::Expire { key: of, deadline_ms: is, .. }) => {
            key == of && deadline_ms == is
        }
        (Write::Persist { key }, Op::Delete { key: of, rows, .. }) => {
            key == of && !rows.is_empty() && rows.iter().all(|row| row.kind == Kind::Deadline)
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
            Write::Add { key, .. } | Write::Put { key, .. } | Write::Score { key, .. },
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
