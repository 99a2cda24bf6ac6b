//! Dropping what is there of keyspaces that were left, little by little.
//!
//! Leaving is one commit: from then on nobody reads anything of the keyspace. Its entries in `rows.redb` go with the
//! next times that rows are written, its records become empty ones in their places, and when none of either is there
//! any more, the log says so. A crash in between forgets how far that was, so it is looked for again from the start.
//!
//! Invariant: a keyspace that is joined again finds nothing of what it held before.

use std::sync::PoisonError;

use redb::Durability;
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::{CommitError, LogEntry, LogRecord, ReadError};

use crate::database::reading;
use crate::log::LogFile;
use crate::names::{Fate, Names, Remembered};
use crate::schema::{
    LOG_FILE, floors_key, index_key, record_key, record_value, seal, settings_key, settings_value,
};
use crate::store::Shared;

/// The records that are looked at in one commit; writers wait for it.
const RECORDS_PER_COMMIT: u64 = 512;

/// The bytes of them that are looked at, unless one record has more.
const BYTES_PER_COMMIT: usize = 4 << 20;

/// The commits of one call.
const COMMITS_PER_CALL: usize = 8;

/// The floors and entries of the index that one commit removes.
const ENTRIES_PER_COMMIT: usize = 4_096;

/// How far the records of a keyspace were dropped since the store was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropProgress {
    number: u32,
    next: u64,
}

impl Shared {
    /// The keyspaces that were left and of which something is there. While a backup reads the store, nothing is
    /// dropped.
    pub(crate) fn left_to_drop(&self) -> Vec<(u32, KeyspaceId)> {
        if self.oldest_pin().is_some() {
            return Vec::new();
        }
        self.published().names.dropping()
    }

    /// Drops records of the first of these keyspaces, whose rows are all gone from the disk unless it `has_rows`.
    pub(crate) fn drop_records(&self, left: &[(u32, KeyspaceId)], has_rows: bool) -> Result<(), CommitError> {
        let Some((number, keyspace)) = left.first().copied() else { return Ok(()) };
        for _ in 0..COMMITS_PER_CALL {
            if !self.drop_some(number, keyspace)? {
                break;
            }
        }
        let is_over = {
            let progress = self.drop_progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.is_some_and(|of| of.number == number && of.next > self.published().position.0)
        };
        if is_over && !has_rows { self.finish_dropping(number) } else { Ok(()) }
    }

    /// Answers whether there may be more.
    fn drop_some(&self, number: u32, keyspace: KeyspaceId) -> Result<bool, CommitError> {
        let mut writer = self.writer();
        self.guard.check()?;
        let (first, last, names) = {
            let published = self.published();
            (published.first.0, published.position.0, std::sync::Arc::clone(&published.names))
        };
        let mut progress = self.drop_progress.lock().unwrap_or_else(PoisonError::into_inner);
        let next = progress.filter(|of| of.number == number).map_or(first, |of| of.next.max(first));
        let until = last.min(next + RECORDS_PER_COMMIT - 1);
        if next > until {
            *progress = Some(DropProgress { number, next });
            return Ok(false);
        }
        let records = match self.log.records(next..=until, BYTES_PER_COMMIT) {
            Ok(records) => records,
            Err(ReadError::Io { source, .. }) => return Err(CommitError::Io { file: LOG_FILE, source }),
            // What cannot be read stays: `check` tells of it.
            Err(error) => {
                tracing::error!(%error, "a keyspace that was left is not dropped");
                return Ok(false);
            }
        };
        let until = records.last().map_or(until, |record| record.position.0);
        let mut entries = Vec::new();
        for record in records.iter().filter(|record| record.entry.keyspace() == Some(keyspace)) {
            let key = record_key(record.position.0);
            let value = record_value(record.clock, record.total_bytes, &LogEntry::Dropped);
            let value = seal(&key, value);
            entries.push((key, Some(value)));
            entries.extend(index_of(record, number, &names).map(|index| (index, None)));
        }
        if !entries.is_empty() {
            self.log.change(Durability::None, entries, &mut writer.copy)?;
        }
        *progress = Some(DropProgress { number, next: until + 1 });
        Ok(until < last)
    }

    /// Nothing is there any more but floors, and what of the index belongs to records that were let go of.
    fn finish_dropping(&self, number: u32) -> Result<(), CommitError> {
        let mut writer = self.writer();
        let mut names = Names::clone(&self.published().names);
        let Remembered { settings, .. } = names.remembered(number);
        let remembered = Remembered { fate: Fate::Dropped, settings };
        let keys = match self.log.floors_and_index(number, ENTRIES_PER_COMMIT) {
            Ok(keys) => keys,
            Err(ReadError::Io { source, .. }) => return Err(CommitError::Io { file: LOG_FILE, source }),
            Err(error) => {
                tracing::error!(%error, "a keyspace that was left is not dropped");
                return Ok(());
            }
        };
        let is_whole = keys.len() < ENTRIES_PER_COMMIT;
        let mut entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = keys.into_iter().map(|key| (key, None)).collect();
        if is_whole {
            let key = settings_key(number);
            let value = seal(&key, settings_value(&remembered));
            entries.push((key, Some(value)));
        }
        self.log.change(Durability::Immediate, entries, &mut writer.copy)?;
        if is_whole {
            names.remember(number, remembered);
            self.published_mut().names = std::sync::Arc::new(names);
            *self.drop_progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }
}

impl LogFile {
    /// Keys of floors and of entries of the index of a keyspace, up to about so many.
    fn floors_and_index(&self, number: u32, count_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let entries = self.entries()?;
        let ranges = [
            (floors_key(number, 0), floors_key(number, u32::MAX)),
            (index_key(number, 0, 0), index_key(number, u32::MAX, u64::MAX)),
        ];
        reading(LOG_FILE, || {
            let mut keys: Vec<Vec<u8>> = Vec::new();
            for (from, to) in &ranges {
                for item in entries.range::<&[u8]>(&from[..]..=&to[..])?.take(count_max) {
                    keys.push(item?.0.value().to_vec());
                }
            }
            Ok::<_, redb::Error>(keys)
        })
    }
}

/// Where the index leads to a record, if it is a frame.
fn index_of(record: &LogRecord, number: u32, names: &Names) -> Option<Vec<u8>> {
    let header = crate::log::header(record.frame()?).ok()?;
    Some(index_key(number, names.author(header.author)?, header.last()))
}
