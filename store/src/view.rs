//! The rows at one moment: two overlays over the entries of `rows.redb`, read as one.
//!
//! A view is taken by cloning three references; commits and materializations that come later do not change
//! it. While it lives, redb keeps the pages that it can reach, so views are for one read or a few.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use tidelock_engine::causality::{Dot, Heads, Hlc};
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::{Due, KeyspaceState, Milestone, ReadError, RowRange, Rows, Visit};
use tidelock_engine::row::{Kind, Payload, RowId};

use crate::blocks::read_heads;
use crate::key;
use crate::names::Names;
use crate::overlay::{EntryValue, Moment, Overlay};
use crate::rows::{RowsTable, SealedEntries, damaged};
use crate::schema::{SpaceState, read_state, read_u64, unseal};

/// The rows that a scan reads at first. Most scans look at one group.
const CHUNK_ROWS_FIRST: usize = 8;

/// The rows that a scan reads at a time at most; it reads twice as many each time up to there.
const CHUNK_ROWS: usize = 512;

/// The entries of an order that are read at a time: about a stretch of each height is passed.
const CHUNK_ORDER: usize = 48;

/// The places where entries are, newest first.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Takes the commits.
    pub(crate) active: Arc<Overlay>,
    /// Is being written to `rows.redb`; takes no more commits.
    pub(crate) frozen: Option<Arc<Overlay>>,
    /// What is written.
    pub(crate) rows: Arc<RowsTable>,
}

/// One generation at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) generation: Arc<Generation>,
    pub(crate) moment: Moment,
    pub(crate) names: Arc<Names>,
    pub(crate) expiry: Hlc,
    /// By which clocks the keys of strong keyspaces expire.
    pub(crate) clocks: Arc<BTreeMap<KeyspaceId, Hlc>>,
}

/// Some consecutive entries.
pub(crate) struct Chunk {
    pub(crate) entries: SealedEntries,
    /// Where the next chunk starts, exclusive; `None` at the end of the range.
    pub(crate) last: Option<Vec<u8>>,
}

impl View {
    /// The state of a keyspace, read from its entries; `None` when it is not known here.
    pub(crate) fn state(&self, keyspace: KeyspaceId) -> Result<Option<KeyspaceState>, ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(None) };
        // A keyspace has no entry before its first frame.
        let SpaceState { fingerprint, is_partial, .. } =
            self.entry(&key::state(number), read_state)?.unwrap_or_default();
        let mut heads = Heads::default();
        let first = key::heads(number);
        let end = key::behind_prefix(first.clone());
        let mut from = Bound::Included(first);
        loop {
            let chunk = self.chunk(&from, &end, CHUNK_ROWS)?;
            for (key, sealed) in chunk.entries {
                let (_, of_block) = open_entry(&key, &sealed, |value| read_heads(&key, value))?;
                for (author, head) in of_block {
                    let author = self.names.replica(author);
                    heads.advance(author.ok_or_else(|| damaged("the head of an unknown author"))?, head);
                }
            }
            match chunk.last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(Some(KeyspaceState { fingerprint, heads, is_partial })),
            }
        }
    }

    fn entry<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, ReadError> {
        self.get(key)?.map(|sealed| open_entry(key, &sealed, read)).transpose()
    }

    fn get(&self, key: &[u8]) -> Result<EntryValue, ReadError> {
        let Generation { active, frozen, rows } = &*self.generation;
        let in_overlay = active.get(key, self.moment);
        match in_overlay.or_else(|| frozen.as_ref()?.get(key, self.moment)) {
            Some(value) => Ok(value),
            None => rows.get(key),
        }
    }

    /// Every source is asked for `limit` entries; what lies behind the last entry of a source that has more is
    /// left to the next chunk, because that source may have entries before it.
    pub(crate) fn chunk(&self, from: &Bound<Vec<u8>>, end: &[u8], limit: usize) -> Result<Chunk, ReadError> {
        let from = from.as_ref().map(Vec::as_slice);
        let Generation { active, frozen, rows } = &*self.generation;
        let (on_disk, has_more) = rows.range(from, end, limit)?;
        let mut last = on_disk.last().filter(|_| has_more).map(|(key, _)| key.clone());
        let in_overlays: Vec<_> = frozen
            .iter()
            .chain([active])
            .map(|overlay| overlay.range(from, end, self.moment, limit))
            .collect();
        if in_overlays.iter().all(Vec::is_empty) {
            return Ok(Chunk { entries: on_disk, last });
        }
        let mut merged: Vec<(Vec<u8>, EntryValue)> =
            on_disk.into_iter().map(|(key, value)| (key, Some(value))).collect();
        for entries in in_overlays {
            if entries.len() == limit {
                let behind = entries.last().map(|(key, _)| key.clone());
                last = last.into_iter().chain(behind).min();
            }
            merged.extend(entries);
        }
        // The order of equal keys stays, so that the newest is the last of them.
        merged.sort_by(|(a, _), (b, _)| a.cmp(b));
        merged.dedup_by(|newer, kept| {
            let is_same = newer.0 == kept.0;
            if is_same {
                std::mem::swap(newer, kept);
            }
            is_same
        });
        if let Some(last) = &last {
            merged.truncate(merged.partition_point(|(key, _)| key <= last));
        }
        let entries = merged.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Ok(Chunk { entries, last })
    }

    fn decode_row(&self, key: &[u8], sealed: &[u8]) -> Result<(RowId, Payload), ReadError> {
        let interned = key::read_row(key).ok_or_else(|| damaged("the key of a row"))?;
        let kind = interned.kind;
        let payload = open_entry(key, sealed, |bytes| Payload::decode(kind, bytes).ok())?;
        let replica = self.names.replica(interned.author);
        let replica = replica.ok_or_else(|| damaged("a row of an unknown author"))?;
        let dot = Dot::new(replica, interned.seq);
        Ok((RowId { key: interned.key, kind, subkey: interned.subkey, dot }, payload))
    }
}

impl Rows for View {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        let number = self.names.keyspace(keyspace).zip(self.names.author(row.dot.replica));
        let Some((keyspace, author)) = number else { return Ok(None) };
        self.entry(&key::row(keyspace, row, author), |bytes| Payload::decode(row.kind, bytes).ok())
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        scan(|| self.clone(), keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(0) };
        Ok(self.entry(&key::members(number, key, kind), read_u64)?.unwrap_or(0))
    }

    fn expiry(&self) -> Hlc {
        self.expiry
    }

    fn expiry_of(&self, keyspace: KeyspaceId) -> Hlc {
        self.clocks.get(&keyspace).copied().unwrap_or(self.expiry)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(()) };
        let first = after.map_or_else(
            || key::deadlines(number),
            |after| [key::deadlines_of_key(number, after), vec![0xff]].concat(),
        );
        let end = key::behind_prefix(key::deadlines(number));
        let (mut from, mut last) = (Bound::Included(first), None);
        loop {
            let chunk = self.chunk(&from, &end, CHUNK_ROWS)?;
            for (key, sealed) in chunk.entries {
                let found = open_entry(&key, &sealed, |_| key::read_deadline(&key))?;
                let due = Some(found.1);
                // A key that has several at one moment is visited once.
                if due == last {
                    continue;
                }
                let Some(found) = due.clone().filter(|due| due.unix_ms <= until_ms) else { return Ok(()) };
                if visit(found).is_break() {
                    return Ok(());
                }
                last = due;
            }
            match chunk.last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(()) };
        let end = key::behind_order(number, key);
        let mut limit = if *from == Milestone::FIRST { 1 } else { CHUNK_ORDER };
        let mut from = Bound::Included(key::order(number, key, from));
        loop {
            let chunk = self.chunk(&from, &end, limit)?;
            for (key, sealed) in chunk.entries {
                let (milestone, count) = open_entry(&key, &sealed, |value| {
                    let (_, _, milestone) = key::read_order(&key)?;
                    let count = key::read_order_value(milestone.height, value)?;
                    Some((milestone, count))
                })?;
                if visit(milestone, count).is_break() {
                    return Ok(());
                }
            }
            match chunk.last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
            limit = (limit * 2).clamp(CHUNK_ORDER, CHUNK_ROWS);
        }
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(0) };
        Ok(self.entry(&key::state(number), read_state)?.map_or(0, |state| state.keys))
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        let Some(number) = self.names.keyspace(keyspace) else { return Ok(0) };
        Ok(self.entry(&key::state(number), read_state)?.map_or(0, |state| state.bytes))
    }
}

/// Scans in chunks, each on a view of its own, so that a long scan pins no pages.
pub(crate) fn scan(
    view: impl Fn() -> View,
    keyspace: KeyspaceId,
    range: &RowRange,
    visit: &mut Visit<'_>,
) -> Result<(), ReadError> {
    let mut at = view();
    let Some(number) = at.names.keyspace(keyspace) else { return Ok(()) };
    let (first, end) = key::row_bounds(number, range);
    if first >= end {
        return Ok(());
    }
    let mut from = Bound::Included(first);
    let mut limit = CHUNK_ROWS_FIRST;
    loop {
        let chunk = at.chunk(&from, &end, limit)?;
        for (key, sealed) in chunk.entries {
            let (row, payload) = at.decode_row(&key, &sealed)?;
            if visit(row, payload).is_break() {
                return Ok(());
            }
        }
        let Some(last) = chunk.last else { return Ok(()) };
        from = Bound::Excluded(last);
        limit = (limit * 2).min(CHUNK_ROWS);
        drop(at);
        at = view();
    }
}

fn open_entry<T>(key: &[u8], sealed: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, ReadError> {
    let value = unseal(key, sealed).ok_or_else(|| damaged("the checksum of an entry is wrong"))?;
    read(value).ok_or_else(|| damaged("an entry does not decode"))
}
