//! Closing our own spent counter slots.
//!
//! When others have reset all that we counted under a key, the slot stays, because only its owner can tell
//! that no increment of it is under way. So the owner removes it: lazily, many in one operation batch, while
//! time passes. What a restart or a full list forgets is found by a slow sweep over the rows.

use std::collections::BTreeSet;
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

/// Own slots of one keyspace that may be spent.
#[derive(Debug, Default)]
pub(crate) struct SpentSlots {
    /// Key and birth of slots that were reset since the start.
    slots: BTreeSet<(Vec<u8>, u64)>,
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

    fn insert(&mut self, key: &[u8], birth: u64) {
        if self.slots.len() < SPENT_MAX {
            self.slots.insert((key.to_vec(), birth));
        } else if self.sweep.is_none() {
            self.sweep = Some(Sweep::default());
        }
    }

    /// Looks through some rows for spent slots of `owner`.
    fn sweep(&mut self, rows: &dyn Rows, keyspace: KeyspaceId, owner: ReplicaId) -> Result<(), ReadError> {
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
                Payload::Slot(slot) if row.dot.replica == owner && !slot.is_live() => {
                    self.slots.insert((row.key.clone(), row.dot.seq));
                }
                Payload::Value { value, .. } => cost += value.len() / 256,
                Payload::Chunk(chunk) => cost += chunk.len() / 256,
                Payload::Slot(_) | Payload::Member => {}
            }
            last = Some(row.key);
            ControlFlow::Continue(())
        })?;
        if !is_over {
            self.sweep = Some(Sweep { after: last });
        }
        Ok(())
    }
}

impl Replica {
    /// Remembers slots of our own that a frame has reset.
    pub(super) fn note_resets(&mut self, frame: &Frame) {
        let header = frame.header();
        let spent = &mut self.keyspaces.get_mut(&header.keyspace).expect("it was applied there").spent;
        let mut note = |key: &[u8], change: &SlotChange| {
            if let SlotChange::Reset { birth, .. } = change
                && let Some(birth) = header.dot(*birth).filter(|birth| birth.replica == self.id)
            {
                spent.insert(key, birth.seq);
            }
        };
        for op in frame.ops() {
            match op {
                Op::Set { key, slots, .. } | Op::Delete { key, slots, .. } => {
                    slots.iter().for_each(|change| note(key, change));
                }
                Op::Clear { slots, .. } => slots.iter().for_each(|slot| note(&slot.key, &slot.change)),
                Op::Increment { .. } | Op::Add { .. } | Op::Put { .. } | Op::Change { .. } => {}
            }
        }
    }

    /// Closes some of the slots that are spent.
    pub(super) fn close_spent(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        let due: Vec<KeyspaceId> = self
            .keyspaces
            .iter()
            .filter(|(id, keyspace)| keyspace.spent.is_due(now) && !self.orders.is_leaving(**id))
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
        let owner = self.id;
        let keyspace = self.keyspaces.get_mut(&id).expect("it is due");
        keyspace.spent.looked_ms = now.mono_ms;
        keyspace.spent.sweep(view.draft, id, owner)?;
        let mut spent = Vec::new();
        while spent.len() < CLOSED_MAX
            && let Some((key, birth)) = keyspace.spent.slots.pop_first()
        {
            let row = RowId { key, kind: Kind::Counter, subkey: Vec::new(), dot: Dot::new(owner, birth) };
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
                author.close(&row.key, row.dot.seq)?;
                closed += 1;
            }
            Ok(())
        });
        self.put_frame(id, frame);
        let keyspace = self.keyspaces.get_mut(&id).expect("it is due");
        spent[closed..].iter().for_each(|row| keyspace.spent.insert(&row.key, row.dot.seq));
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
