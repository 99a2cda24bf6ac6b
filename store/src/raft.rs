//! What `log.redb` holds of the Raft group: its log, its vote, how far it is applied, and whose membership that is.
//!
//! It is written in the transaction of the turn that brings it, so Raft shares the sync of everything else, and
//! what applying changed is there together with how far it was applied. Letting go of records of the node's own log
//! touches none of it.
//!
//! The bounds say which entries must be there, so a hole shows as damage and never as an absence. Entries that were
//! purged are below the bounds at once, and their space is given back little by little.

use std::ops::Range;
use std::sync::Arc;

use redb::ReadableTable;
use tidelock_engine::ports::{
    ANCHOR_BYTES_MAX, Batch, GroupId, LogIndex, RaftLog, RaftLogState, RaftWrite, ReadError,
};

use crate::database::{Entries, put, reading};
use crate::log::{LogFile, damaged, get};
use crate::schema::{LOG_FILE, log_tag, read_u64, seal, unseal};
use crate::store::Shared;

/// The one group there is.
const GROUP: GroupId = GroupId(0);

/// The purged entries that a commit removes, beside two for each of its writes, so that they become fewer.
const PURGED_PER_COMMIT: u64 = 512;

/// What the group has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Row {
    Bounds = 0,
    Vote = 1,
    Purged = 2,
    Applied = 3,
    Anchor = 4,
}

const ENTRY: u8 = 5;

/// Where the log begins and ends, and what there is of the group in all.
///
/// Invariant: oldest <= first <= next, and there are entries from `first` on and below `next`, without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RaftBounds {
    /// The commits that changed anything of the group.
    pub(crate) commits: u64,
    /// Below it there is no entry, not even a purged one.
    pub(crate) oldest: u64,
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// The bytes of all keys and values but this one's, as far as they are in the file.
    pub(crate) bytes: u64,
}

impl RaftBounds {
    fn encode(self) -> Vec<u8> {
        let Self { commits, oldest, first, next, bytes } = self;
        [commits, oldest, first, next, bytes].map(u64::to_be_bytes).concat()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let numbers: Option<Vec<u64>> = value.chunks(8).map(read_u64).collect();
        let [commits, oldest, first, next, bytes] = numbers?[..] else { return None };
        let is_in_order = oldest <= first && first <= next;
        is_in_order.then_some(Self { commits, oldest, first, next, bytes })
    }

    /// Writes them, behind a change by which the group grew by so many bytes; answers the entry that they are.
    pub(crate) fn write(
        self,
        table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
        grown: i64,
    ) -> Result<(Vec<u8>, Vec<u8>), redb::Error> {
        let key = row_key(Row::Bounds);
        let before = table.get(&key[..])?.and_then(|value| Self::decode(unseal(&key, value.value())?));
        let bytes = before.unwrap_or_default().bytes.saturating_add_signed(grown);
        let sealed = seal(&key, Self { bytes, ..self }.encode());
        put(table, &key, Some(&sealed))?;
        Ok((key, sealed))
    }

    /// The last index of the log, if there is an entry.
    pub(crate) fn last(&self) -> Option<LogIndex> {
        (self.first < self.next).then(|| LogIndex(self.next - 1))
    }

    /// What is left when all else is forgotten: that there was something.
    pub(crate) fn forgotten(self) -> Self {
        let commits = if self.commits == 0 { 0 } else { self.commits + 1 };
        Self { commits, ..Self::default() }
    }
}

pub(crate) fn row_key(row: Row) -> Vec<u8> {
    [&[log_tag::RAFT][..], &GROUP.0.to_be_bytes(), &[row as u8]].concat()
}

/// Whether it is the key of something of the group.
pub(crate) fn is_key(key: &[u8]) -> bool {
    key.first() == Some(&log_tag::RAFT)
}

pub(crate) fn entry_key(index: u64) -> Vec<u8> {
    [&[log_tag::RAFT][..], &GROUP.0.to_be_bytes(), &[ENTRY], &index.to_be_bytes()].concat()
}

/// What is stored under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Row(Row),
    Entry(u64),
}

pub(crate) fn read_key(key: &[u8]) -> Option<Place> {
    let rest = key.strip_prefix(&[log_tag::RAFT])?.strip_prefix(&GROUP.0.to_be_bytes())?;
    let (kind, index) = rest.split_first()?;
    if *kind == ENTRY {
        return Some(Place::Entry(read_u64(index)?));
    }
    let rows = [Row::Bounds, Row::Vote, Row::Purged, Row::Applied, Row::Anchor];
    let row = rows.into_iter().find(|row| *row as u8 == *kind)?;
    index.is_empty().then_some(Place::Row(row))
}

/// Whether a value can be what is stored in a place.
pub(crate) fn is_value(place: Place, value: &[u8]) -> bool {
    match place {
        Place::Row(Row::Bounds) => RaftBounds::decode(value).is_some(),
        Place::Row(Row::Anchor) => value.len() <= ANCHOR_BYTES_MAX,
        // These are consensus' own.
        Place::Row(Row::Vote | Row::Purged | Row::Applied) | Place::Entry(_) => true,
    }
}

/// What a commit changes of the group.
#[derive(Debug)]
pub(crate) struct RaftChange {
    /// What is written or removed, in order and sealed, but for the bounds.
    entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bounds: RaftBounds,
}

impl RaftChange {
    /// What a batch changes of what has these bounds, if it changes anything.
    pub(crate) fn new(bounds: RaftBounds, batch: &Batch) -> Option<Self> {
        if !batch.is_of_raft() {
            return None;
        }
        let mut change = Self { entries: Vec::with_capacity(batch.raft.len() + 3), bounds };
        change.bounds.commits += 1;
        if let Some(record) = &batch.raft_applied {
            change.put(row_key(Row::Applied), record);
        }
        for write in &batch.raft {
            change.take(write);
        }
        if let Some(anchor) = &batch.anchor {
            change.put(row_key(Row::Anchor), anchor);
        }
        let RaftBounds { oldest, first, .. } = change.bounds;
        let count = PURGED_PER_COMMIT + 2 * batch.raft.len() as u64;
        let until = first.min(oldest.saturating_add(count));
        change.remove(oldest..until);
        change.bounds.oldest = until;
        Some(change)
    }

    fn take(&mut self, write: &RaftWrite) {
        match write {
            RaftWrite::Append { index, bytes } => self.push(index.0, bytes),
            RaftWrite::Truncate { from } => {
                let RaftBounds { first, next, .. } = self.bounds;
                let from = from.0.clamp(first, next);
                self.remove(from..next);
                self.bounds.next = from;
            }
            RaftWrite::Purge { until, record } => {
                self.put(row_key(Row::Purged), record);
                self.purge(until.0.saturating_add(1));
            }
            RaftWrite::Vote(vote) => self.put(row_key(Row::Vote), vote),
            RaftWrite::Forget => self.forget(),
        }
    }

    fn push(&mut self, index: u64, bytes: &[u8]) {
        let RaftBounds { oldest, first, next, .. } = &mut self.bounds;
        let is_clean = oldest == first;
        if first == next && (is_clean || index > *first) {
            // An empty log begins wherever its first entry is.
            (*first, *next) = (index, index);
            if is_clean {
                *oldest = index;
            }
        }
        assert_eq!(index, *next, "an entry of Raft's log follows the last one");
        *next += 1;
        self.put(entry_key(index), bytes);
    }

    /// Lets the log begin at an index.
    fn purge(&mut self, begin: u64) {
        let RaftBounds { oldest, first, next, .. } = self.bounds;
        if begin < next {
            self.bounds.first = first.max(begin);
        } else {
            // What has come from elsewhere may be far ahead, so all that there is goes at once.
            self.remove(oldest..next);
            (self.bounds.oldest, self.bounds.first, self.bounds.next) = (begin, begin, begin);
        }
    }

    /// Lets all go but what is remembered of the membership.
    fn forget(&mut self) {
        let RaftBounds { oldest, next, .. } = self.bounds;
        self.remove(oldest..next);
        let rows = [Row::Vote, Row::Purged, Row::Applied];
        self.entries.extend(rows.map(|row| (row_key(row), None)));
        (self.bounds.oldest, self.bounds.first, self.bounds.next) = (0, 0, 0);
    }

    fn put(&mut self, key: Vec<u8>, value: &[u8]) {
        let sealed = seal(&key, value.to_vec());
        self.entries.push((key, Some(sealed)));
    }

    fn remove(&mut self, indexes: Range<u64>) {
        self.entries.extend(indexes.map(|index| (entry_key(index), None)));
    }

    /// The bounds behind it.
    pub(crate) fn bounds(&self) -> RaftBounds {
        self.bounds
    }

    pub(crate) fn into_entries(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.entries
    }
}

/// Forgets all of the group but that there was one: the store is another anchor from now on, if it is any.
pub(crate) fn forget(table: &mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<(), redb::Error> {
    let key = row_key(Row::Bounds);
    let bounds = table.get(&key[..])?.and_then(|value| RaftBounds::decode(unseal(&key, value.value())?));
    table.retain_in::<&[u8], _>(&[log_tag::RAFT][..]..&[log_tag::RAFT + 1][..], |_, _| false)?;
    if let Some(bounds) = bounds {
        let sealed = seal(&key, bounds.forgotten().encode());
        table.insert(&key[..], &sealed[..])?;
    }
    Ok(())
}

impl LogFile {
    /// Where Raft's log begins and ends.
    pub(crate) fn raft_bounds(&self) -> Result<RaftBounds, ReadError> {
        bounds(&self.entries()?)
    }

    /// What the engine remembers of this store's membership.
    pub(crate) fn anchor(&self) -> Result<Option<Vec<u8>>, ReadError> {
        let anchor = row(&self.entries()?, Row::Anchor)?;
        match anchor {
            Some(bytes) if bytes.len() > ANCHOR_BYTES_MAX => Err(damaged("whose membership is here")),
            anchor => Ok(anchor),
        }
    }
}

pub(crate) fn bounds(entries: &Entries) -> Result<RaftBounds, ReadError> {
    let Some(value) = row(entries, Row::Bounds)? else { return Ok(RaftBounds::default()) };
    RaftBounds::decode(&value).ok_or_else(|| damaged("the bounds of Raft's log"))
}

fn row(entries: &Entries, row: Row) -> Result<Option<Vec<u8>>, ReadError> {
    get(entries, &row_key(row))
}

/// The log of the store's Raft group, for reading beside the store from any thread. Clones are cheap.
///
/// A store that was copied, restored or rejoined has an empty one.
#[derive(Clone, Debug)]
pub struct StoredRaftLog {
    shared: Arc<Shared>,
}

impl StoredRaftLog {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl RaftLog for StoredRaftLog {
    /// As long as a failed write keeps the store from being written, nobody knows what will be there, and it is
    /// refused.
    fn state(&self) -> Result<RaftLogState, ReadError> {
        let check = self.shared.guard.check();
        check.map_err(|error| ReadError::Io { file: LOG_FILE, source: std::io::Error::other(error) })?;
        let entries = self.shared.log.entries()?;
        let last = bounds(&entries)?.last();
        if let Some(last) = last {
            let entry = get(&entries, &entry_key(last.0))?;
            entry.ok_or_else(|| damaged("the last entry of Raft's log is missing"))?;
        }
        Ok(RaftLogState {
            vote: row(&entries, Row::Vote)?,
            purged: row(&entries, Row::Purged)?,
            applied: row(&entries, Row::Applied)?,
            last,
        })
    }

    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let entries = self.shared.log.entries()?;
        let RaftBounds { first, next, .. } = bounds(&entries)?;
        let (from, until) = (from.0, until.0.min(next));
        if from < first || from >= until {
            return Ok(Vec::new());
        }
        let (from_key, until_key) = (entry_key(from), entry_key(until));
        let mut range = reading(LOG_FILE, || entries.range::<&[u8]>(&from_key[..]..&until_key[..]))?;
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut room = bytes_max;
        for index in from..until {
            let entry = reading(LOG_FILE, || {
                let Some((key, value)) = range.next().transpose()? else { return Ok(None) };
                let key = key.value();
                let value = (key == entry_key(index)).then(|| unseal(key, value.value()));
                Ok::<_, redb::Error>(value.map(|value| value.map(<[u8]>::to_vec)))
            })?;
            let entry = entry.ok_or_else(|| damaged("an entry of Raft's log is missing"))?;
            let entry = entry.ok_or_else(|| damaged("the checksum of an entry of Raft's log is wrong"))?;
            if entry.len() > room && !found.is_empty() {
                break;
            }
            room = room.saturating_sub(entry.len());
            found.push(entry);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(index: u64) -> RaftWrite {
        RaftWrite::Append { index: LogIndex(index), bytes: vec![7] }
    }

    fn truncate(from: u64) -> RaftWrite {
        RaftWrite::Truncate { from: LogIndex(from) }
    }

    fn purge(until: u64) -> RaftWrite {
        RaftWrite::Purge { until: LogIndex(until), record: vec![9] }
    }

    /// What is there after writes, as indexes of entries, and the bounds.
    fn after(turns: &[&[RaftWrite]]) -> (Vec<u64>, RaftBounds) {
        let mut there = std::collections::BTreeSet::new();
        let mut bounds = RaftBounds::default();
        for writes in turns {
            let batch = Batch { raft: writes.to_vec(), ..Batch::default() };
            let change = RaftChange::new(bounds, &batch).expect("it changes something");
            for (key, value) in &change.entries {
                match (read_key(key).expect("one of ours"), value) {
                    (Place::Entry(index), Some(_)) => drop(there.insert(index)),
                    (Place::Entry(index), None) => drop(there.remove(&index)),
                    (Place::Row(_), _) => {}
                }
            }
            bounds = change.bounds;
        }
        (there.into_iter().collect(), bounds)
    }

    #[test]
    fn keys_and_values_have_golden_bytes() {
        assert_eq!(row_key(Row::Vote), [6, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(entry_key(258), [6, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2]);
        for row in [Row::Bounds, Row::Vote, Row::Purged, Row::Applied, Row::Anchor] {
            assert_eq!(read_key(&row_key(row)), Some(Place::Row(row)));
            assert_eq!(read_key(&[&row_key(row)[..], &[0]].concat()), None);
        }
        assert_eq!(read_key(&entry_key(258)), Some(Place::Entry(258)));
        assert_eq!(read_key(&entry_key(258)[..17]), None);
        assert_eq!(read_key(&[6, 0, 0, 0, 0, 0, 0, 0, 1, 1]), None, "another group");
        let bounds = RaftBounds { commits: 1, oldest: 2, first: 3, next: 258, bytes: 5 };
        let golden: Vec<u8> = [[0, 1], [0, 2], [0, 3], [1, 2], [0, 5]]
            .iter()
            .flat_map(|low| [&[0; 6][..], &low[..]].concat())
            .collect();
        assert_eq!((bounds.encode(), RaftBounds::decode(&golden)), (golden.clone(), Some(bounds)));
        assert_eq!(RaftBounds::decode(&golden[..39]), None);
        let wrong = RaftBounds { first: 300, ..bounds };
        assert_eq!(RaftBounds::decode(&wrong.encode()), None, "it ends before it begins");
    }

    #[test]
    fn log_is_cut_at_both_ends_and_begins_anywhere() {
        let (there, bounds) = after(&[&[append(0), append(1), append(2)], &[truncate(1), append(1)]]);
        assert_eq!((there, bounds.first, bounds.next), (vec![0, 1], 0, 2));
        let (there, bounds) = after(&[&[append(5), append(6), append(7)], &[purge(5)], &[truncate(0)]]);
        assert_eq!((there, bounds.oldest, bounds.first, bounds.next), (vec![], 6, 6, 6));
        assert_eq!((bounds.commits, bounds.last()), (3, None));
        // A purge ahead of the end lets the log go on behind it, and one that is late changes nothing.
        let (there, bounds) = after(&[&[append(0), append(1)], &[purge(9)], &[append(10), purge(4)]]);
        assert_eq!((there, bounds.oldest, bounds.first, bounds.next), (vec![10], 10, 10, 11));
        assert_eq!(bounds.last(), Some(LogIndex(10)));
        let (there, bounds) = after(&[&[purge(u64::MAX)], &[truncate(3)]]);
        assert_eq!((there, bounds.first), (vec![], u64::MAX));
    }

    #[test]
    fn purged_entries_go_little_by_little_and_are_out_of_bounds_at_once() {
        let entries: Vec<RaftWrite> = (0..2_000).map(append).collect();
        let (there, bounds) = after(&[&entries, &[purge(1_998)]]);
        assert_eq!((bounds.oldest, bounds.first, bounds.next), (514, 1_999, 2_000));
        assert_eq!(there, (514..2_000).collect::<Vec<_>>());
        let vote = [RaftWrite::Vote(vec![1])];
        let (there, bounds) = after(&[&entries, &[purge(1_998)], &vote, &vote, &vote]);
        assert_eq!((there, bounds.oldest, bounds.first), (vec![1_999], 1_999, 1_999));
    }
}
