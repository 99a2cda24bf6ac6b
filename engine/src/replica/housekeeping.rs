//! Closing spent counter slots: our own, and those of replicas that were retired.
//!
//! When others have reset all that we counted under a key, the slot stays, because only its owner can tell
//! that no increment of it is under way. So the owner removes it: lazily, many in one operation batch, while
//! time passes. What a restart or a full list forgets is found by a slow sweep over the rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::causality::Dot;
use crate::frame::Frame;
use crate::id::{KeyspaceId, ReplicaId};
use crate::op::{Op, SlotChange};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Kind, Payload, RowId};
use crate::write::Author;

/// How often slots are closed, in milliseconds.
const CLOSE_EVERY_MS: u64 = 1_000;

/// The slots that are remembered as perhaps spent at most; more are found by a sweep.
const SPENT_MAX: usize = 4_096;

/// The slots that one frame closes at most.
const CLOSED_MAX: usize = 256;

/// Closing stops when the frame in the making has so many bytes.
const CLOSING_BYTES_MAX: usize = 256 << 10;

/// The work of one step of a sweep: rows, and 256-byte units of their values.
const SWEEP_COST_MAX: usize = 1_000;

/// Slots of one keyspace that may be spent, and that we may remove then.
#[derive(Debug, Default)]
pub(crate) struct SpentSlots {
    /// Key and birth of slots that were reset since the start, and from when on they may be removed, on our
    /// monotonic clock.
    slots: BTreeMap<(Vec<u8>, Dot), u64>,
    /// Where the sweep goes on; `None` when none is needed.
    sweep: Option<Sweep>,
    /// When they were looked at last.
    looked_ms: u64,
}

#[derive(Debug, Default)]
struct Sweep {
    after: Option<Vec<u8>>,
}

impl SpentSlots {
    /// What a replica begins with that has written before: a sweep finds what was reset then.
    pub(crate) fn unknown() -> Self {
        Self { sweep: Some(Sweep::default()), ..Self::default() }
    }

    /// Looks through all rows once more.
    pub(super) fn look_again(&mut self) {
        self.sweep = Some(Sweep::default());
    }

    fn insert(&mut self, key: &[u8], birth: Dot, due_ms: u64) {
        if self.slots.len() < SPENT_MAX {
            self.slots.entry((key.to_vec(), birth)).or_insert(due_ms);
        } else if self.sweep.is_none() {
            self.look_again();
        }
    }

    /// Looks through some rows for spent slots of those for whom it is known when we may remove them.
    fn sweep(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        due_ms: impl Fn(ReplicaId) -> Option<u64>,
    ) -> Result<(), ReadError> {
        if self.slots.len() >= SPENT_MAX {
            return Ok(());
        }
        let Some(sweep) = self.sweep.take() else { return Ok(()) };
        let mut last = sweep.after.clone();
        let range = RowRange { within: Within::Keyspace, after: sweep.after.map(After::Key) };
        let (mut cost, mut is_over) = (0, true);
        rows.scan(keyspace, &range, &mut |row, payload| {
            // A key's slots come before its elements and fields, so the rest of a key may be skipped.
            let is_skippable = last.as_ref() != Some(&row.key) || row.kind > Kind::Counter;
            if cost >= SWEEP_COST_MAX && is_skippable {
                is_over = false;
                return ControlFlow::Break(());
            }
            cost += 1;
            match payload {
                Payload::Slot(slot) if !slot.is_live() => {
                    if let Some(due_ms) = due_ms(row.dot.replica) {
                        self.slots.entry((row.key.clone(), row.dot)).or_insert(due_ms);
                    }
                }
                Payload::Value { value, .. } => cost += value.len() / 256,
                Payload::Chunk(chunk) => cost += chunk.len() / 256,
                Payload::Slot(_)
                | Payload::Member
                | Payload::Retired { .. }
                | Payload::Deadline(_)
                | Payload::Outcome { .. } => {}
            }
            last = Some(row.key);
            ControlFlow::Continue(())
        })?;
        if !is_over {
            self.sweep = Some(Sweep { after: last });
        }
        Ok(())
    }

    /// Takes out slots that may be removed now, as many as one frame closes.
    fn take_due(&mut self, now: Now) -> Vec<(Vec<u8>, Dot)> {
        let due = self.slots.iter().filter(|(_, due_ms)| **due_ms <= now.mono_ms);
        let due: Vec<_> = due.map(|(slot, _)| slot.clone()).take(CLOSED_MAX).collect();
        for slot in &due {
            self.slots.remove(slot);
        }
        due
    }
}

impl Replica {
    /// Remembers slots that a frame has reset, and that we may remove.
    pub(super) fn note_resets(&mut self, frame: &Frame) {
        let header = frame.header();
        let keyspace = self.keyspaces.get_mut(&header.keyspace).expect("it was applied there");
        let (spent, retired) = (&mut keyspace.spent, &keyspace.retired);
        let after_ms = |owner| match retired {
            Some(retired) => retired.folded_after_ms(owner, self.id),
            None => (owner == self.id).then_some(0),
        };
        let mut note = |key: &[u8], change: &SlotChange| {
            if let SlotChange::Reset { birth, .. } = change
                && let Some(birth) = header.dot(*birth)
                && let Some(after_ms) = after_ms(birth.replica)
            {
                spent.insert(key, birth, self.mono_ms + after_ms);
            }
        };
        for op in frame.ops() {
            match op {
                Op::Set { key, slots, .. } | Op::Delete { key, slots, .. } => {
                    slots.iter().for_each(|change| note(key, change));
                }
                Op::Clear { slots, .. } => slots.iter().for_each(|slot| note(&slot.key, &slot.change)),
                Op::Increment { .. }
                | Op::Add { .. }
                | Op::Put { .. }
                | Op::Score { .. }
                | Op::Change { .. }
                | Op::Retire { .. }
                | Op::Expire { .. }
                | Op::Outcome { .. }
                | Op::Forget { .. } => {}
            }
        }
    }

    /// Closes some of the slots that are spent.
    pub(super) fn close_spent(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        let due: Vec<KeyspaceId> = self
            .keyspaces
            .iter()
            .filter(|(_, keyspace)| keyspace.spent.is_due(now))
            .filter(|(id, _)| !self.orders.is_leaving(**id) && self.is_open(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Err(error) = self.close_spent_of(now, id, view) {
                tracing::error!(%error, "cannot look for spent slots");
                self.counters.count("closings_failed");
            }
            self.seal(id, step);
        }
    }

    fn close_spent_of(&mut self, now: Now, id: KeyspaceId, view: &mut View<'_, '_>) -> Result<(), ReadError> {
        let own = self.id;
        let keyspace = self.keyspaces.get_mut(&id).expect("it is due");
        keyspace.spent.looked_ms = now.mono_ms;
        let Some(retired) = &keyspace.retired else { return Ok(()) };
        let due_ms = |owner| retired.folded_after_ms(owner, own).map(|after_ms| now.mono_ms + after_ms);
        keyspace.spent.sweep(view.draft, id, due_ms)?;
        let mut spent = Vec::new();
        for (key, dot) in keyspace.spent.take_due(now) {
            let row = RowId { key, kind: Kind::Counter, subkey: Vec::new(), dot };
            if let Some(Payload::Slot(slot)) = view.draft.row(id, &row)?
                && !slot.is_live()
            {
                spent.push(row);
            }
        }
        if spent.is_empty() {
            return Ok(());
        }
        let mut frame = self.take_frame(now, id);
        let heads = &self.keyspaces[&id].heads;
        let mut closed = 0;
        let mut author = Author { draft: view.draft, frame: &mut frame, heads };
        let result = spent.iter().try_for_each(|row| {
            if author.frame.size().0 < CLOSING_BYTES_MAX {
                author.close(&row.key, row.dot)?;
                closed += 1;
            }
            Ok(())
        });
        self.put_frame(id, frame);
        let keyspace = self.keyspaces.get_mut(&id).expect("it is due");
        spent[closed..].iter().for_each(|row| keyspace.spent.insert(&row.key, row.dot, now.mono_ms));
        self.counters.add("slots_closed", closed as u64);
        result
    }
}

impl SpentSlots {
    fn is_due(&self, now: Now) -> bool {
        let has_work = !self.slots.is_empty() || self.sweep.is_some();
        has_work && now.mono_ms >= self.looked_ms + CLOSE_EVERY_MS
    }
}
