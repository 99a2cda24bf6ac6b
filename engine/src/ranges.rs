//! Fingerprints of ranges of rows, kept up to date, so that two replicas find where they differ at a cost that
//! follows the difference.
//!
//! The rows of a keyspace in their order are cut into leaves of some dozens, each with its fingerprint. The
//! fingerprint of any range is the sum of the leaves in it, and of the few rows of the leaves that it cuts. Leaves
//! are each replica's own: the ranges that are compared need not end where leaves do.
//! Source: Meyer, "Range-Based Set Reconciliation" (SRDS 2023); sums in place of a tree of hashes.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};

use crate::bounds::{check_key, check_subkey};
use crate::draft::RowChange;
use crate::id::KeyspaceId;
use crate::ports::{After, ReadError, RowRange, Rows, Visit, Within};
use crate::row::{Fingerprint, Kind, Payload, RowId};

/// The rows of a leaf, when it is made.
const LEAF_ROWS: u64 = 64;

/// A leaf with more rows is cut.
const LEAF_ROWS_MAX: u64 = 4 * LEAF_ROWS;

/// A register, counter, element or field: where a range of rows may begin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    kind: Kind,
    #[serde(with = "serde_bytes")]
    subkey: Vec<u8>,
}

/// Where a range begins, or the one before it ends: at a group, or at the start or the end of all rows.
pub type Edge = Option<Group>;

/// Consecutive rows: those of the groups from `from` on, before `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// `None` from the first row on.
    pub from: Edge,
    /// `None` to the last one.
    pub to: Edge,
}

/// The fingerprint of a range and the number of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// The sum of the hashes of the rows.
    pub fingerprint: Fingerprint,
    /// Their number.
    pub rows: u64,
}

/// The leaves of a keyspace, by where they begin. The first begins at `None`.
#[derive(Debug)]
pub(crate) struct RangeIndex {
    leaves: BTreeMap<Edge, Print>,
    /// From where on the rows were not read yet, if they were not all.
    unread: Option<Edge>,
}

impl Group {
    /// Where a row's group begins.
    pub fn of(row: &RowId) -> Self {
        Self { key: row.key.clone(), kind: row.kind, subkey: row.subkey.clone() }
    }

    /// The bytes of its key and subkey.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.subkey.len()
    }

    fn is_bounded(&self) -> bool {
        check_key(&self.key).is_ok() && check_subkey(&self.subkey).is_ok()
    }
}

impl Range {
    /// Whether its edges are within bounds and in order.
    pub fn is_valid(&self) -> bool {
        let are_bounded = [&self.from, &self.to].into_iter().flatten().all(Group::is_bounded);
        are_bounded && self.to.as_ref().is_none_or(|to| self.from.as_ref().is_none_or(|from| from < to))
    }

    /// Whether a row is in it.
    pub(crate) fn contains(&self, row: &RowId) -> bool {
        let group = Some(Group::of(row));
        group >= self.from && (self.to.is_none() || group < self.to)
    }

    /// Visits the rows of the range until told to stop.
    pub(crate) fn visit(
        &self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        found: &mut Visit<'_>,
    ) -> Result<(), ReadError> {
        let from = self.from.clone();
        let after = from.map(|Group { key, kind, subkey }| After::From(key, kind, subkey));
        let range = RowRange { within: Within::Keyspace, after };
        rows.scan(keyspace, &range, &mut |row, payload| {
            if self
                .to
                .as_ref()
                .is_some_and(|to| (&row.key, row.kind, &row.subkey) >= (&to.key, to.kind, &to.subkey))
            {
                return ControlFlow::Break(());
            }
            found(row, payload)
        })
    }

    /// Visits all rows of the range.
    pub(crate) fn visit_all(
        &self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        found: &mut dyn FnMut(RowId, Payload),
    ) -> Result<(), ReadError> {
        self.visit(rows, keyspace, &mut |row, payload| {
            found(row, payload);
            ControlFlow::Continue(())
        })
    }
}

impl Print {
    fn add(&mut self, row: &RowId, payload: &Payload) {
        self.fingerprint.insert(row, payload);
        self.rows += 1;
    }

    fn plus(self, other: Self) -> Self {
        Self { fingerprint: self.fingerprint.plus(other.fingerprint), rows: self.rows + other.rows }
    }
}

impl RangeIndex {
    /// The index of a keyspace whose rows are read by and by.
    pub(crate) fn unread() -> Self {
        Self { leaves: BTreeMap::new(), unread: Some(None) }
    }

    /// Whether all rows were read.
    pub(crate) fn is_whole(&self) -> bool {
        self.unread.is_none()
    }

    /// Reads about `count` rows more, which must be as they are committed.
    pub(crate) fn read_on(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        count: u64,
    ) -> Result<(), ReadError> {
        let Some(from) = self.unread.take() else { return Ok(()) };
        self.unread = Some(from.clone());
        self.unread = self.cut(rows, keyspace, &Range { from, to: None }, count)?.map(Some);
        Ok(())
    }

    /// Takes in what became of a row.
    pub(crate) fn change(&mut self, row: &RowId, change: &RowChange) {
        let group = Some(Group::of(row));
        if self.unread.as_ref().is_some_and(|unread| group >= *unread) {
            return;
        }
        let (_, leaf) = self.leaves.range_mut(..=group).next_back().expect("the first begins at none");
        if let Some(before) = &change.before {
            leaf.fingerprint.remove(row, before);
            leaf.rows = leaf.rows.saturating_sub(1);
        }
        if let Some(after) = &change.after {
            leaf.add(row, after);
        }
    }

    /// The fingerprint of a range.
    pub(crate) fn print(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        range: &Range,
    ) -> Result<Print, ReadError> {
        self.cut_large(rows, keyspace, range)?;
        let mut sum = Print::default();
        for leaf in self.leaves_in(range) {
            let is_whole = leaf.0.from >= range.from && end_is_within(&leaf.0.to, &range.to);
            sum = sum.plus(if is_whole { leaf.1 } else { read(rows, keyspace, &leaf.0, range)? });
        }
        Ok(sum)
    }

    /// Cuts a range into at most so many of about equally many rows, each with its fingerprint.
    pub(crate) fn split(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        range: &Range,
        parts_max: u64,
    ) -> Result<Vec<(Edge, Print)>, ReadError> {
        let total = self.print(rows, keyspace, range)?.rows;
        let rows_each = total.div_ceil(parts_max.max(1)).max(1);
        let mut edges: Vec<Edge> = Vec::new();
        let mut rows_before = 0;
        if rows_each >= LEAF_ROWS {
            for (leaf, print) in self.leaves_in(range) {
                if rows_before >= rows_each && leaf.from > range.from {
                    edges.push(leaf.from.clone());
                    rows_before = 0;
                }
                rows_before += print.rows;
            }
        } else {
            let mut last: Edge = None;
            range.visit_all(rows, keyspace, &mut |row, _| {
                let group = Some(Group::of(&row));
                if rows_before >= rows_each && group != last {
                    edges.push(group.clone());
                    rows_before = 0;
                }
                (rows_before, last) = (rows_before + 1, group);
            })?;
        }
        edges.push(range.to.clone());
        let mut from = range.from.clone();
        let mut parts = Vec::with_capacity(edges.len());
        for to in edges {
            let part = Range { from: from.clone(), to: to.clone() };
            parts.push((to.clone(), self.print(rows, keyspace, &part)?));
            from = to;
        }
        Ok(parts)
    }

    /// The leaves that hold rows of a range, each as a range.
    fn leaves_in(&self, range: &Range) -> Vec<(Range, Print)> {
        let first =
            self.leaves.range(..=&range.from).next_back().map(|(from, _)| from.clone()).unwrap_or_default();
        let mut leaves = self.leaves.range((Bound::Included(&first), Bound::Unbounded)).peekable();
        let mut found = Vec::new();
        while let Some((from, print)) = leaves.next() {
            if range.to.is_some() && *from >= range.to {
                break;
            }
            let to = leaves.peek().and_then(|(next, _)| (*next).clone());
            found.push((Range { from: from.clone(), to }, *print));
        }
        found
    }

    /// Cuts the leaves of a range that have grown.
    fn cut_large(&mut self, rows: &dyn Rows, keyspace: KeyspaceId, range: &Range) -> Result<(), ReadError> {
        let large = self.leaves_in(range).into_iter().filter(|(_, print)| print.rows > LEAF_ROWS_MAX);
        let large: Vec<Range> = large.map(|(leaf, _)| leaf).collect();
        large.iter().try_for_each(|leaf| self.cut(rows, keyspace, leaf, u64::MAX).map(drop))
    }

    /// Makes leaves of a range that begins and ends where leaves do, of `rows_max` rows or a leaf more. Answers
    /// where the rest begins, if there is one.
    fn cut(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        range: &Range,
        rows_max: u64,
    ) -> Result<Option<Group>, ReadError> {
        let mut at = range.from.clone();
        let mut leaf = Print::default();
        let mut last: Edge = None;
        let mut rows_read = 0;
        let mut rest = None;
        let leaves = &mut self.leaves;
        range.visit(rows, keyspace, &mut |row, payload| {
            if leaf.rows >= LEAF_ROWS {
                let group = Some(Group::of(&row));
                if group != last {
                    leaves.insert(std::mem::replace(&mut at, group.clone()), std::mem::take(&mut leaf));
                    if rows_read >= rows_max {
                        rest = group;
                        return ControlFlow::Break(());
                    }
                }
            }
            if leaf.rows + 1 >= LEAF_ROWS {
                last = Some(Group::of(&row));
            }
            leaf.add(&row, &payload);
            rows_read += 1;
            ControlFlow::Continue(())
        })?;
        if rest.is_none() {
            self.leaves.insert(at, leaf);
        }
        Ok(rest)
    }
}

/// The fingerprint of the rows that are in two ranges.
fn read(rows: &dyn Rows, keyspace: KeyspaceId, a: &Range, b: &Range) -> Result<Print, ReadError> {
    let to = match (&a.to, &b.to) {
        (Some(a), Some(b)) => Some(a.min(b).clone()),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    let both = Range { from: a.from.clone().max(b.from.clone()), to };
    let mut sum = Print::default();
    both.visit_all(rows, keyspace, &mut |row, payload| sum.add(&row, &payload))?;
    Ok(sum)
}

/// Whether an end is not behind another; `None` is the last.
fn end_is_within(end: &Edge, other: &Edge) -> bool {
    other.as_ref().is_none_or(|other| end.as_ref().is_some_and(|end| end <= other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::causality::Dot;
    use crate::draft::Draft;
    use crate::id::ReplicaId;
    use crate::mem_store::MemStore;

    const KEYSPACE: KeyspaceId = KeyspaceId::from_bytes([1; 16]);

    fn row(key: u16, element: u8, seq: u64) -> RowId {
        let dot = Dot::new(ReplicaId::from_bytes([1; 16]), seq);
        RowId { key: key.to_be_bytes().to_vec(), kind: Kind::Set, subkey: vec![element], dot }
    }

    fn group(key: u16, element: u8) -> Group {
        Group::of(&row(key, element, 1))
    }

    fn counted(rows: &dyn Rows, range: &Range) -> Print {
        let mut print = Print::default();
        range.visit_all(rows, KEYSPACE, &mut |row, payload| print.add(&row, &payload)).expect("memory");
        print
    }

    proptest! {
        /// Whatever is added and removed, every range has the fingerprint of its rows, and the parts of a split
        /// make up the whole.
        #[test]
        fn prints_are_those_of_the_rows(
            changes in prop::collection::vec((0..40_u16, 0..40_u8, 1..3_u64, any::<bool>()), 1..1_500),
            ranges in prop::collection::vec((0..45_u16, 0..45_u8, 0..45_u16, 0..45_u8), 1..20),
        ) {
            let card = crate::frame::SigningKey::from_seed([1; 32]).card([1; 16]);
            let store = MemStore::new(crate::id::ClusterId::named("c"), card);
            let mut draft = Draft::over(&store);
            let mut index = RangeIndex::unread();
            let (built_at, author) = (changes.len() / 2, ReplicaId::from_bytes([1; 16]));
            for (number, (key, element, seq, is_added)) in changes.into_iter().enumerate() {
                let row = row(key, element, seq);
                let before = draft.row(KEYSPACE, &row).expect("memory");
                let after = is_added.then_some(Payload::Member);
                draft.put(KEYSPACE, row.clone(), after.clone(), author).expect("memory");
                if before != after {
                    index.change(&row, &RowChange { before, after, author });
                }
                if number >= built_at {
                    index.read_on(&draft, KEYSPACE, 200).expect("memory");
                }
            }
            while !index.is_whole() {
                index.read_on(&draft, KEYSPACE, 1).expect("memory");
            }
            for (a, b, c, d) in ranges {
                let range = Range { from: Some(group(a, b)), to: Some(group(c, d)) };
                let range = if range.is_valid() { range } else { Range { from: Some(group(a, b)), to: None } };
                let print = index.print(&draft, KEYSPACE, &range).expect("memory");
                prop_assert_eq!(print, counted(&draft, &range));
                for parts_max in [1, 3, 16] {
                    let parts = index.split(&draft, KEYSPACE, &range, parts_max).expect("memory");
                    prop_assert!(parts.len() as u64 <= parts_max + 1);
                    let sum = parts.iter().fold(Print::default(), |sum, (_, part)| sum.plus(*part));
                    prop_assert_eq!(sum, print);
                    prop_assert_eq!(&parts.last().expect("one").0, &range.to);
                    prop_assert!(parts.windows(2).all(|pair| pair[1].0.is_none() || pair[0].0 < pair[1].0));
                }
            }
        }
    }

    #[test]
    fn range_that_ends_before_it_begins_is_not_valid() {
        assert!(Range::default().is_valid());
        assert!(Range { from: Some(group(1, 1)), to: Some(group(1, 2)) }.is_valid());
        assert!(!Range { from: Some(group(1, 2)), to: Some(group(1, 2)) }.is_valid());
        assert!(!Range { from: Some(group(2, 1)), to: Some(group(1, 2)) }.is_valid());
        let long = Group { key: vec![0; 70_000], kind: Kind::Set, subkey: Vec::new() };
        assert!(!Range { from: Some(long), to: None }.is_valid());
    }
}
