//! Rows that were changed but not yet committed, laid over the rows below.
//!
//! A draft reads like the store will read after the commit, so later inputs of a turn see earlier ones. It
//! keeps the derived figures up to date: fingerprint, number of keys, members per collection, order of scores. What is tried
//! behind a mark can be taken back whole: a refused batch leaves nothing.

mod hot_key;
mod order;
mod reading;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use self::hot_key::HotKey;
use crate::causality::{Dot, Hlc};
use crate::crdt::is_document;
use crate::id::{KeyspaceId, ReplicaId};
use crate::ports::{Milestone, ReadError, RowRange, Rows, Within};
use crate::row::{Fingerprint, Kind, Payload, RowId};

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// What it held before, if it was there.
    pub before: Option<Payload>,
    /// What it holds now, if it is there.
    pub after: Option<Payload>,
    /// Whose operation changed it last.
    pub author: ReplicaId,
}

/// How the derived figures of a keyspace changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The sum of the hashes of rows added, less those of rows removed.
    pub fingerprint: Fingerprint,
    /// Keys that came into being, less those that ceased to be.
    pub keys: i64,
    /// The bytes of keys, elements, fields and values of rows added, less those of rows removed.
    pub bytes: i64,
}

/// All that a draft changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The rows.
    pub rows: BTreeMap<(KeyspaceId, RowId), RowChange>,
    /// The number of elements or fields of each collection where it changed.
    pub members: BTreeMap<(KeyspaceId, Vec<u8>, Kind), u64>,
    /// The entries of the order of each sorted set where it changed; none for one that is not there any more.
    pub order: BTreeMap<(KeyspaceId, Vec<u8>, Milestone), Option<u64>>,
    /// The derived figures.
    pub deltas: BTreeMap<KeyspaceId, Delta>,
}

impl Changes {
    /// The changes of each keyspace by themselves.
    pub fn by_keyspace(self) -> BTreeMap<KeyspaceId, Self> {
        let mut split: BTreeMap<KeyspaceId, Self> = BTreeMap::new();
        for (id, change) in self.rows {
            split.entry(id.0).or_default().rows.insert(id, change);
        }
        for (id, count) in self.members {
            split.entry(id.0).or_default().members.insert(id, count);
        }
        for (id, count) in self.order {
            split.entry(id.0).or_default().order.insert(id, count);
        }
        for (keyspace, delta) in self.deltas {
            split.entry(keyspace).or_default().deltas.insert(keyspace, delta);
        }
        split
    }
}

/// Uncommitted rows over the rows below.
pub struct Draft<'a> {
    below: &'a dyn Rows,
    hot_key: HotKey,
    changes: Changes,
    /// What has a deadline up to this moment is not to be seen.
    expiry: Hlc,
    /// The same, of keyspaces whose keys do not expire by the clock of this node.
    clocks: BTreeMap<KeyspaceId, Hlc>,
    /// The keyspaces in which a deadline was set here.
    deadlines: BTreeSet<KeyspaceId>,
    /// How to take back what was done since the first mark, the last first.
    undo: Vec<Undo>,
    marks: usize,
}

/// How an entry of [`Changes`] was before.
#[expect(clippy::option_option, reason = "that an entry is removed is a change too")]
#[derive(Debug)]
enum Undo {
    Row((KeyspaceId, RowId), Option<RowChange>),
    Members((KeyspaceId, Vec<u8>, Kind), Option<u64>),
    Order(order::OrderId, Option<Option<u64>>),
    Delta(KeyspaceId, Delta),
}

/// A moment in the making of a draft, to go back to or to forget. Marks end in the reverse of their order.
#[derive(Debug)]
#[must_use = "a mark is ended by `keep` or `take_back`"]
pub struct Mark(usize);

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// A draft without changes.
    pub fn over(below: &'a dyn Rows) -> Self {
        Self::with(below, Changes::default())
    }

    /// A draft that has made `changes` already.
    pub fn with(below: &'a dyn Rows, changes: Changes) -> Self {
        let (expiry, deadlines) = (below.expiry(), BTreeSet::new());
        let (hot_key, clocks) = (HotKey::default(), BTreeMap::new());
        Self { below, hot_key, changes, expiry, clocks, deadlines, undo: Vec::new(), marks: 0 }
    }

    /// Says what will have expired once the draft is committed.
    pub fn set_expiry(&mut self, expiry: Hlc) {
        self.expiry = expiry;
    }

    /// Says by what clock the keys of a keyspace expire, if not by that of this node.
    pub fn set_clock(&mut self, keyspace: KeyspaceId, clock: Hlc) {
        self.clocks.insert(keyspace, clock);
    }

    /// Marks a moment that may have to be gone back to.
    pub fn mark(&mut self) -> Mark {
        self.marks += 1;
        Mark(self.undo.len())
    }

    /// Keeps what was done since the mark.
    pub fn keep(&mut self, Mark(start): Mark) {
        self.marks -= 1;
        if self.marks == 0 {
            self.undo.truncate(start);
        }
    }

    /// Takes back what was done since the mark.
    pub fn take_back(&mut self, Mark(start): Mark) {
        self.marks -= 1;
        for undo in self.undo.drain(start..).rev() {
            match undo {
                Undo::Row(id, Some(change)) => drop(self.changes.rows.insert(id, change)),
                Undo::Row(id, None) => drop(self.changes.rows.remove(&id)),
                Undo::Members(id, Some(count)) => drop(self.changes.members.insert(id, count)),
                Undo::Members(id, None) => drop(self.changes.members.remove(&id)),
                Undo::Order(id, Some(count)) => drop(self.changes.order.insert(id, count)),
                Undo::Order(id, None) => drop(self.changes.order.remove(&id)),
                Undo::Delta(keyspace, delta) => drop(self.changes.deltas.insert(keyspace, delta)),
            }
        }
    }

    /// The changes, to be committed.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Adds, replaces or (with `None`) removes a row.
    pub fn put(
        &mut self,
        keyspace: KeyspaceId,
        row: RowId,
        after: Option<Payload>,
        author: ReplicaId,
    ) -> Result<(), ReadError> {
        let before = self.row(keyspace, &row)?;
        self.put_over(keyspace, row, before, after, author)
    }

    /// The same, of a row that the caller has just read as `before`.
    pub(crate) fn put_over(
        &mut self,
        keyspace: KeyspaceId,
        row: RowId,
        before: Option<Payload>,
        after: Option<Payload>,
        author: ReplicaId,
    ) -> Result<(), ReadError> {
        if before == after {
            return Ok(());
        }
        if !row.kind.has_members() {
            self.change(keyspace, row, before, after, author);
            return Ok(());
        }
        if row.kind == Kind::Sorted {
            let mut scores = self.scores(keyspace, &row)?;
            let was = scores.read();
            scores.put(row.dot, after.as_ref());
            self.change(keyspace, row.clone(), before, after, author);
            return self.count_score(keyspace, &row, (was, scores.read()));
        }
        let was_member = before.is_some() || self.group_exists(keyspace, &row)?;
        let has_row = after.is_some();
        self.change(keyspace, row.clone(), before, after, author);
        let is_member = has_row || self.group_exists(keyspace, &row)?;
        self.count_member(keyspace, row, was_member, is_member)
    }

    /// Adds the row of a new operation in place of the rows that it observed: one register, element or field.
    ///
    /// The same as [`Draft::put`] for each, without looking for a row whose dot was never seen, nor for one whose
    /// payload the caller has just read. Whoever `has_seen` the whole group and observed nothing knows that there is
    /// nothing.
    pub fn replace_group(
        &mut self,
        keyspace: KeyspaceId,
        (row, payload): (RowId, Payload),
        observed: impl Iterator<Item = (Dot, Option<Payload>)>,
        has_seen: bool,
    ) -> Result<(), ReadError> {
        let author = row.dot.replica;
        let mut was_member = false;
        let mut scores = match row.kind {
            Kind::Sorted => self.scores(keyspace, &row)?,
            _ => order::Scores::default(),
        };
        let was = scores.read();
        for (dot, read) in observed {
            scores.put(dot, None);
            let old = RowId { dot, ..row.clone() };
            let before = if read.is_some() { read } else { self.row(keyspace, &old)? };
            if let Some(before) = before {
                was_member = true;
                self.change(keyspace, old, Some(before), None, author);
            }
        }
        if !row.kind.has_members() {
            self.change(keyspace, row, None, Some(payload), author);
            return Ok(());
        }
        if row.kind == Kind::Sorted {
            scores.put(row.dot, Some(&payload));
            self.change(keyspace, row.clone(), None, Some(payload), author);
            return self.count_score(keyspace, &row, (was, scores.read()));
        }
        let was_member = was_member || (!has_seen && self.group_exists(keyspace, &row)?);
        self.change(keyspace, row.clone(), None, Some(payload), author);
        self.count_member(keyspace, row, was_member, true)
    }

    /// Removes rows of one group, which the caller has just read, and which are all of it unless it survives.
    ///
    /// The same as [`Draft::put`] for each, without looking again for each.
    pub fn remove_group(
        &mut self,
        keyspace: KeyspaceId,
        rows: &[(RowId, Payload)],
        survives: bool,
        author: ReplicaId,
    ) -> Result<(), ReadError> {
        for (row, before) in rows {
            self.change(keyspace, row.clone(), Some(before.clone()), None, author);
        }
        match rows.first() {
            Some((row, _)) if row.kind == Kind::Sorted => {
                let mut scores =
                    if survives { self.scores(keyspace, row)? } else { order::Scores::default() };
                let is = scores.read();
                rows.iter().for_each(|(row, before)| scores.put(row.dot, Some(before)));
                self.count_score(keyspace, row, (scores.read(), is))
            }
            Some((row, _)) if row.kind.has_members() => {
                self.count_member(keyspace, row.clone(), true, survives)
            }
            _ => Ok(()),
        }
    }

    /// Whether a key has changes of a document.
    pub(crate) fn has_document(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, ReadError> {
        let range = RowRange::all(Within::Kind(key.to_vec(), Kind::Document));
        if self.changed(keyspace, &range).next().is_some() {
            return is_document(self, keyspace, key);
        }
        self.hot_key.has_document(keyspace, key, || is_document(self.below, keyspace, key))
    }

    /// Whether any row makes the key exist.
    pub fn key_exists(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, ReadError> {
        key_exists(self, keyspace, key)
    }

    /// Takes in whether a key exists after an operation that did or did not find it.
    pub fn count_key(&mut self, keyspace: KeyspaceId, existed: bool, exists: bool) {
        if existed != exists {
            self.delta(keyspace).keys += i64::from(exists) - i64::from(existed);
        }
    }

    /// Records what became of a row, and takes it into the fingerprint.
    fn change(
        &mut self,
        keyspace: KeyspaceId,
        row: RowId,
        before: Option<Payload>,
        after: Option<Payload>,
        author: ReplicaId,
    ) {
        if row.kind == Kind::Deadline {
            self.deadlines.insert(keyspace);
        }
        let delta = self.delta(keyspace);
        let bytes = |payload: &Payload| {
            i64::try_from(row.key.len() + row.subkey.len() + payload.bytes()).expect("a row is bounded")
        };
        if let Some(before) = &before {
            delta.fingerprint.remove(&row, before);
            delta.bytes -= bytes(before);
        }
        if let Some(after) = &after {
            delta.fingerprint.insert(&row, after);
            delta.bytes += bytes(after);
        }
        let is_marked = self.marks > 0;
        match self.changes.rows.entry((keyspace, row)) {
            Entry::Vacant(place) => {
                if is_marked {
                    self.undo.push(Undo::Row(place.key().clone(), None));
                }
                place.insert(RowChange { before, after, author });
            }
            Entry::Occupied(mut place) => {
                if is_marked {
                    self.undo.push(Undo::Row(place.key().clone(), Some(place.get().clone())));
                }
                let change = place.get_mut();
                (change.after, change.author) = (after, author);
            }
        }
    }

    fn delta(&mut self, keyspace: KeyspaceId) -> &mut Delta {
        let delta = self.changes.deltas.entry(keyspace).or_default();
        if self.marks > 0 {
            self.undo.push(Undo::Delta(keyspace, *delta));
        }
        delta
    }

    fn group_exists(&self, keyspace: KeyspaceId, row: &RowId) -> Result<bool, ReadError> {
        let within = Within::Group(row.key.clone(), row.kind, row.subkey.clone());
        let mut exists = false;
        self.scan(keyspace, &RowRange::all(within), &mut |_, _| {
            exists = true;
            ControlFlow::Break(())
        })?;
        Ok(exists)
    }

    fn count_member(
        &mut self,
        keyspace: KeyspaceId,
        row: RowId,
        was: bool,
        is: bool,
    ) -> Result<(), ReadError> {
        if was != is {
            let count = self.members(keyspace, &row.key, row.kind)?;
            let count = if is { count + 1 } else { count.saturating_sub(1) };
            let id = (keyspace, row.key, row.kind);
            if self.marks > 0 {
                self.undo.push(Undo::Members(id.clone(), self.changes.members.get(&id).copied()));
            }
            self.changes.members.insert(id, count);
        }
        Ok(())
    }

    /// The changed rows within a range, of which the new ones must be woven into a scan.
    /// The first row of a range that was added or changed here, without looking below.
    pub(crate) fn first_changed(&self, keyspace: KeyspaceId, range: &RowRange) -> Option<RowId> {
        self.changed(keyspace, range).find(|(_, change)| change.after.is_some()).map(|(row, _)| row.clone())
    }

    fn changed<'b>(
        &'b self,
        keyspace: KeyspaceId,
        range: &'b RowRange,
    ) -> impl Iterator<Item = (&'b RowId, &'b RowChange)> {
        self.changes
            .rows
            .range((keyspace, range.first())..)
            .take_while(move |((of, row), _)| *of == keyspace && range.contains(row))
            .map(|((_, row), change)| (row, change))
    }
}

/// Whether any row makes `key` exist.
pub fn key_exists(rows: &dyn Rows, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, ReadError> {
    let mut exists = false;
    rows.scan(keyspace, &RowRange::all(Within::Key(key.to_vec())), &mut |_, payload| {
        exists = payload.is_live();
        if exists { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(exists)
}

fn group(row: &RowId) -> (&[u8], Kind, &[u8]) {
    (&row.key, row.kind, &row.subkey)
}
