//! All that concurrent writes left under a key, row by row.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::sorted::read;
use super::{QueryError, Reader};
use crate::bounded::list;
use crate::causality::{Dot, Stamp};
use crate::crdt::{KeyView, VisibleKind};
use crate::ports::{RowRange, Within};
use crate::row::{Kind, Payload, Slot};

/// One row of a key, as its history left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    /// The data type.
    pub kind: Kind,
    /// The element, field or member; empty for the other kinds.
    #[serde(with = "serde_bytes")]
    pub subkey: Vec<u8>,
    /// The operation that added it; its replica is the author.
    pub dot: Dot,
    /// The stamp, of a register, field or score.
    pub stamp: Option<Stamp>,
    /// The value, of a register or field; the text of a score.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
    /// The slot, of a counter.
    pub slot: Option<Slot>,
    /// When the key expires, of a deadline, in Unix milliseconds.
    pub deadline_ms: Option<u64>,
    /// Whether it is what a reader sees; all others are conflicts.
    pub is_visible: bool,
}

/// All rows of a key, at most [`ENTRY_ROWS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The kind that the key shows.
    pub visible: Option<VisibleKind>,
    /// What a GET answers, of a register or counter.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
    /// The rows, in order of kind and subkey, then of rank.
    #[serde(deserialize_with = "list::<ENTRY_ROWS_MAX, _, _>")]
    pub rows: Vec<EntryRow>,
    /// Whether there are more rows than were listed.
    pub is_truncated: bool,
}

/// The rows that one [`Entry`] lists at most.
pub const ENTRY_ROWS_MAX: usize = 1_000;

impl Entry {
    /// The rows that lost to a concurrent write, or are of a kind that the key does not show.
    pub fn conflicts(&self) -> impl Iterator<Item = &EntryRow> {
        self.rows.iter().filter(|row| !row.is_visible && row.slot.is_none_or(|slot| slot.is_live()))
    }
}

impl Reader<'_> {
    pub(super) fn entry(&self, key: &[u8]) -> Result<Entry, QueryError> {
        let view = KeyView::read(self.rows, self.keyspace, key)?;
        let visible = view.visible();
        let is_text = matches!(visible, Some(VisibleKind::Register | VisibleKind::Counter));
        let value = if is_text { view.text() } else { None };
        let mut entry = Entry { visible, value, ..Entry::default() };
        let range = RowRange::all(Within::Key(key.to_vec()));
        self.rows.scan(self.keyspace, &range, &mut |row, payload| {
            if let Payload::Retired { .. } | Payload::Outcome { .. } = payload {
                return ControlFlow::Continue(());
            }
            if entry.rows.len() == ENTRY_ROWS_MAX {
                entry.is_truncated = true;
                return ControlFlow::Break(());
            }
            let mut deadline_ms = None;
            let (stamp, value, slot) = match payload {
                Payload::Deadline(unix_ms) => {
                    deadline_ms = Some(unix_ms);
                    (None, None, None)
                }
                Payload::Value { stamp, value } if row.kind == Kind::Sorted => {
                    (Some(stamp), Some(read(&value).to_string().into_bytes()), None)
                }
                Payload::Value { stamp, value } => (Some(stamp), Some(value), None),
                Payload::Slot(slot) => (None, None, Some(slot)),
                Payload::Member | Payload::Chunk(_) | Payload::Retired { .. } | Payload::Outcome { .. } => {
                    (None, None, None)
                }
            };
            let (kind, subkey, dot) = (row.kind, row.subkey, row.dot);
            let row = EntryRow { kind, subkey, dot, stamp, value, slot, deadline_ms, is_visible: false };
            entry.rows.push(row);
            ControlFlow::Continue(())
        })?;
        entry.rows.sort_by(|a, b| {
            let order = (a.kind, &a.subkey).cmp(&(b.kind, &b.subkey));
            order.then_with(|| (b.stamp, b.dot).cmp(&(a.stamp, a.dot)))
        });
        let mut previous: Option<(Kind, Vec<u8>)> = None;
        for row in &mut entry.rows {
            let group = (row.kind, row.subkey.clone());
            row.is_visible =
                is_shown(row, &view) && (row.value.is_none() || previous.as_ref() != Some(&group));
            previous = Some(group);
        }
        Ok(entry)
    }
}

/// Whether the kind of a row is one that the key shows. A counter's slots show beside an integer register.
fn is_shown(row: &EntryRow, view: &KeyView) -> bool {
    match (view.visible(), row.kind) {
        (Some(_), Kind::Deadline) => row.deadline_ms == view.deadline_ms,
        (Some(VisibleKind::Register), Kind::Counter) => {
            view.number().is_some() && row.slot.is_some_and(|slot| slot.is_live())
        }
        (Some(VisibleKind::Counter), Kind::Counter) => row.slot.is_some_and(|slot| slot.is_live()),
        (Some(VisibleKind::Register), Kind::Register)
        | (Some(VisibleKind::Set), Kind::Set)
        | (Some(VisibleKind::Map), Kind::Map)
        | (Some(VisibleKind::Sorted), Kind::Sorted)
        | (Some(VisibleKind::Document), Kind::Document) => true,
        _ => false,
    }
}
