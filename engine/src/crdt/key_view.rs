//! What a reader sees under one key: which kind is visible, which sibling won, what a counter counts.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::causality::{Dot, Hlc, Stamp};
use crate::id::KeyspaceId;
use crate::ports::{ReadError, RowRange, Rows, Within};
use crate::row::{Kind, Payload, Slot};

/// One of the concurrent values of a register or map field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The write.
    pub dot: Dot,
    /// Its rank among concurrent writes; the dot breaks a tie.
    pub stamp: Stamp,
    /// Its value.
    pub value: Vec<u8>,
}

impl Sibling {
    /// The order by which concurrent writes are ranked: the greatest is read.
    pub fn rank(&self) -> (Stamp, Dot) {
        (self.stamp, self.dot)
    }
}

/// The data type that a key shows. Rows of others are conflicts until the key is written or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VisibleKind {
    /// A value, which may be a number that is counted.
    Register,
    /// A number that was only ever counted.
    Counter,
    /// A set of elements.
    Set,
    /// A map of fields.
    Map,
    /// A document that is changed by many.
    Document,
    /// A set of members in order of their scores.
    Sorted,
}

impl fmt::Display for VisibleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Map => "map",
            Self::Document => "document",
            Self::Sorted => "sorted",
        })
    }
}

/// The first rows of a key: all that a write of the key must observe but for elements, fields and members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyView {
    /// When it expires, in Unix milliseconds: the latest of its deadlines.
    pub deadline_ms: Option<u64>,
    /// The rows of its deadlines.
    pub deadlines: Vec<Dot>,
    /// The register's concurrent values, the one that is read first.
    pub siblings: Vec<Sibling>,
    /// The counter's slots, spent ones too, in order of their birth.
    pub slots: Vec<(Dot, Slot)>,
    /// The number of elements.
    pub elements: u64,
    /// The number of fields.
    pub fields: u64,
    /// The number of members of a sorted set.
    pub scored: u64,
    /// Whether there are changes of a document.
    pub is_document: bool,
}

impl KeyView {
    /// Reads a key as it is to be seen: of one that has expired there is nothing.
    pub fn read(rows: &dyn Rows, keyspace: KeyspaceId, key: &[u8]) -> Result<Self, ReadError> {
        let view = Self::read_all(rows, keyspace, key)?;
        Ok(if view.is_expired(rows.expiry_of(keyspace)) { Self::default() } else { view })
    }

    /// Reads a key as its rows are, expired or not.
    pub fn read_all(rows: &dyn Rows, keyspace: KeyspaceId, key: &[u8]) -> Result<Self, ReadError> {
        let mut view = Self::default();
        let mut has_more = false;
        rows.scan(keyspace, &RowRange::all(Within::Key(key.to_vec())), &mut |row, payload| {
            match payload {
                Payload::Value { stamp, value } if row.kind == Kind::Register => {
                    view.siblings.push(Sibling { dot: row.dot, stamp, value });
                }
                Payload::Slot(slot) => view.slots.push((row.dot, slot)),
                Payload::Value { .. } | Payload::Member => has_more = true,
                Payload::Chunk(_) => view.is_document = true,
                Payload::Retired { .. } | Payload::Outcome { .. } => {}
                Payload::Deadline(unix_ms) => {
                    view.deadline_ms = view.deadline_ms.max(Some(unix_ms));
                    view.deadlines.push(row.dot);
                }
            }
            if has_more || view.is_document { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        view.siblings.sort_by_key(|sibling| std::cmp::Reverse(sibling.rank()));
        view.slots.sort_by_key(|(birth, _)| *birth);
        if has_more {
            view.elements = rows.members(keyspace, key, Kind::Set)?;
            view.fields = rows.members(keyspace, key, Kind::Map)?;
            view.scored = rows.members(keyspace, key, Kind::Sorted)?;
            view.is_document = is_document(rows, keyspace, key)?;
        }
        Ok(view)
    }

    /// Whether its deadline is past at this moment.
    pub fn is_expired(&self, moment: Hlc) -> bool {
        self.deadline_ms.is_some_and(|unix_ms| unix_ms <= moment.unix_ms())
    }

    /// The kind that the key shows: the first of document, map, set, sorted set, register, counter that has live rows.
    pub fn visible(&self) -> Option<VisibleKind> {
        if self.is_document {
            Some(VisibleKind::Document)
        } else if self.fields > 0 {
            Some(VisibleKind::Map)
        } else if self.elements > 0 {
            Some(VisibleKind::Set)
        } else if self.scored > 0 {
            Some(VisibleKind::Sorted)
        } else if !self.siblings.is_empty() {
            Some(VisibleKind::Register)
        } else {
            self.slots.iter().any(|(_, slot)| slot.is_live()).then_some(VisibleKind::Counter)
        }
    }

    /// The number under the key: the register, if it is an integer, plus the live slots. A key without either
    /// counts from 0; `None` when the register holds something else.
    pub fn number(&self) -> Option<i128> {
        let base = match self.siblings.first() {
            Some(winner) => i128::from(integer(&winner.value)?),
            None => 0,
        };
        Some(self.slots.iter().fold(base, |sum, (_, slot)| sum.saturating_add(slot.contribution())))
    }

    /// The text under the key: what a GET of a register or counter answers.
    ///
    /// A register that is not an integer is shown as it is; slots beside it are conflicts. An integer has one
    /// form, so a register that was not counted on is shown as it was written too.
    pub fn text(&self) -> Option<Vec<u8>> {
        let is_counted = self.slots.iter().any(|(_, slot)| slot.is_live());
        let winner = self.siblings.first().map(|winner| &winner.value);
        if !is_counted {
            return winner.cloned();
        }
        self.number().map_or_else(|| winner.cloned(), |number| Some(number.to_string().into_bytes()))
    }
}

/// Whether a key has changes of a document.
pub(crate) fn is_document(rows: &dyn Rows, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, ReadError> {
    let mut is_document = false;
    let range = RowRange::all(Within::Kind(key.to_vec(), Kind::Document));
    rows.scan(keyspace, &range, &mut |_, _| {
        is_document = true;
        ControlFlow::Break(())
    })?;
    Ok(is_document)
}

/// The integer that a text is, in its only form: no sign but a minus, no leading zeros, 64 bits.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if text != b"0" && !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_has_one_form() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }
        for text in ["", "-", "-0", "+1", "01", "-01", "1 ", " 1", "1a", "--1", "9223372036854775808", "1_0"]
        {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
