//! The rules that a frame must keep by itself: bounds, and references that mean something.
//!
//! What depends on the receiver's history (chain, dependencies) is checked when the frame is applied.

use crate::bounds::{OUTCOME_BYTES_MAX, check_chunk, check_key, check_subkey, check_value};
use crate::causality::Dot;
use crate::frame::{FrameError, FrameHeader};
use crate::op::{DotRef, KeySlot, Op, OutcomeRef, Prefix, RowRef, SlotChange};

/// Checks a decoded frame.
pub(super) fn check(header: &FrameHeader, ops: &[Op]) -> Result<(), FrameError> {
    if !header.has_seqs() {
        return Err(FrameError::Malformed("seq out of bounds"));
    }
    if header.replicas.contains(&header.author) {
        return Err(FrameError::Malformed("replica table"));
    }
    for dependency in &header.dependencies {
        let is_foreign = dependency.replica != 0 && dependency.seq != 0;
        if !is_foreign || header.dot(*dependency).is_none() {
            return Err(FrameError::Malformed("dependency"));
        }
    }
    ops.iter().zip(header.first..).try_for_each(|(op, seq)| OpCheck { header, seq }.op(op))
}

struct OpCheck<'a> {
    header: &'a FrameHeader,
    seq: u64,
}

impl OpCheck<'_> {
    fn op(&self, op: &Op) -> Result<(), FrameError> {
        match op {
            Op::Set { key, value, observed, slots } => {
                key_is_bounded(key)?;
                check_value(value).map_err(|_| FrameError::Malformed("value too long"))?;
                self.observed(observed)?;
                self.slots(slots)
            }
            Op::Increment { key, birth, .. } => {
                key_is_bounded(key)?;
                self.own(*birth)
            }
            Op::Add { key, elements } => {
                key_is_bounded(key)?;
                distinct(elements.iter().map(|element| &element.element[..]))?;
                elements.iter().try_for_each(|element| {
                    subkey_is_bounded(&element.element)?;
                    self.observed(&element.observed)
                })
            }
            Op::Put { key, fields } => {
                key_is_bounded(key)?;
                distinct(fields.iter().map(|field| &field.field[..]))?;
                fields.iter().try_for_each(|field| {
                    subkey_is_bounded(&field.field)?;
                    check_value(&field.value).map_err(|_| FrameError::Malformed("value too long"))?;
                    self.observed(&field.observed)
                })
            }
            Op::Score { key, members } => {
                key_is_bounded(key)?;
                distinct(members.iter().map(|member| &member.member[..]))?;
                members.iter().try_for_each(|member| {
                    subkey_is_bounded(&member.member)?;
                    self.observed(&member.observed)
                })
            }
            Op::Delete { key, rows, slots } => {
                key_is_bounded(key)?;
                rows.iter().try_for_each(|row| self.row(row))?;
                self.slots(slots)
            }
            Op::Clear { prefix, vector, slots } => self.clear(prefix, vector, slots),
            Op::Change { key, chunk, observed } => {
                key_is_bounded(key)?;
                check_chunk(chunk).map_err(|_| FrameError::Malformed("chunk too long"))?;
                self.observed(observed)
            }
            Op::Retire { last } => self.dot(*last),
            Op::Expire { key, observed, .. } => {
                key_is_bounded(key)?;
                self.observed(observed)
            }
            Op::Outcome { number, result, forgotten, .. } => {
                let is_kept = result.as_ref().is_none_or(|result| result.len() <= OUTCOME_BYTES_MAX);
                if !is_kept || forgotten.last().is_some_and(|last| last.number >= *number) {
                    return Err(FrameError::Malformed("outcome"));
                }
                self.forgotten(forgotten)
            }
            Op::Forget { forgotten, .. } => self.forgotten(forgotten),
        }
    }

    fn forgotten(&self, forgotten: &[OutcomeRef]) -> Result<(), FrameError> {
        if !self.header.epoch.is_strong() {
            return Err(FrameError::Malformed("outcome of an eventual epoch"));
        }
        if !forgotten.is_sorted_by(|a, b| a.number < b.number) {
            return Err(FrameError::Malformed("order of outcomes"));
        }
        forgotten.iter().try_for_each(|outcome| self.dot(outcome.dot))
    }

    fn clear(&self, prefix: &Prefix, vector: &[DotRef], slots: &[KeySlot]) -> Result<(), FrameError> {
        match prefix {
            Prefix::Keyspace => {}
            Prefix::Key(key) => key_is_bounded(key)?,
            Prefix::Group { key, subkey, .. } => {
                key_is_bounded(key)?;
                subkey_is_bounded(subkey)?;
            }
        }
        vector.iter().try_for_each(|dot| self.dot(*dot))?;
        slots.iter().try_for_each(|slot| {
            key_is_bounded(&slot.key)?;
            self.slot(&slot.change)
        })
    }

    fn row(&self, row: &RowRef) -> Result<(), FrameError> {
        if !row.kind.is_removable() {
            return Err(FrameError::Malformed(
                "counter slots, retirements and outcomes are never removed by their rows",
            ));
        }
        subkey_is_bounded(&row.subkey)?;
        self.dot(row.dot)
    }

    fn slots(&self, slots: &[SlotChange]) -> Result<(), FrameError> {
        slots.iter().try_for_each(|slot| self.slot(slot))
    }

    fn slot(&self, slot: &SlotChange) -> Result<(), FrameError> {
        match slot {
            SlotChange::Close { birth: 0 } => Err(FrameError::Malformed("slot without a birth")),
            SlotChange::Close { birth } => self.own(*birth),
            SlotChange::Reset { birth, .. } | SlotChange::Fold { birth } if birth.replica == 0 => {
                Err(FrameError::Malformed("an author closes its own slot, it does not reset or fold it"))
            }
            SlotChange::Reset { birth, top, .. } if *top < birth.seq => {
                Err(FrameError::Malformed("slot reset before its birth"))
            }
            SlotChange::Reset { birth, .. } | SlotChange::Fold { birth } => self.dot(*birth),
        }
    }

    fn observed(&self, observed: &[DotRef]) -> Result<(), FrameError> {
        observed.iter().try_for_each(|dot| self.dot(*dot))
    }

    /// A dot must name a replica of the table, and of the author's own only operations before this one.
    fn dot(&self, reference: DotRef) -> Result<(), FrameError> {
        match self.header.dot(reference) {
            Some(Dot { replica, .. }) if replica == self.header.author => self.own(reference.seq),
            Some(Dot { seq: 1.., .. }) => Ok(()),
            _ => Err(FrameError::Malformed("reference to no operation")),
        }
    }

    fn own(&self, seq: u64) -> Result<(), FrameError> {
        if seq < self.seq { Ok(()) } else { Err(FrameError::Malformed("reference to a later operation")) }
    }
}

fn key_is_bounded(key: &[u8]) -> Result<(), FrameError> {
    check_key(key).map_err(|_| FrameError::Malformed("key too long"))
}

fn subkey_is_bounded(subkey: &[u8]) -> Result<(), FrameError> {
    check_subkey(subkey).map_err(|_| FrameError::Malformed("element or field too long"))
}

/// Two rows of one operation under one subkey would be one row with two payloads.
fn distinct<'a>(subkeys: impl Iterator<Item = &'a [u8]>) -> Result<(), FrameError> {
    let mut subkeys: Vec<_> = subkeys.collect();
    let count = subkeys.len();
    subkeys.sort_unstable();
    subkeys.dedup();
    let is_distinct = count > 0 && subkeys.len() == count;
    if is_distinct { Ok(()) } else { Err(FrameError::Malformed("no or repeated elements or fields")) }
}
