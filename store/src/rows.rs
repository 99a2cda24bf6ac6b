//! `rows.redb`: what applying the log gives, up to a position that is written in the same transaction.
//!
//! The file may be lost: it is made again from the log. So whatever is wrong with it, short of a version that
//! we do not know, it is moved aside and never repaired by hand.

use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Durability, ReadableTable};
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{CommitError, LogPosition, ReadError};

use crate::backend::WriteGuard;
use crate::copying::Follower;
use crate::database::{Entries, File, Opening, put, reading};
use crate::identity;
use crate::key;
use crate::open::OpenError;
use crate::overlay::Overlay;
use crate::schema::{
    ENTRIES, META, META_FORMAT, META_LIVE, META_REPLICA, ROWS_FILE, ROWS_FORMAT, read_u64, seal, unseal,
};

/// What one chunk of a scan reads at most, in bytes, unless a single row is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// The entries of keyspaces that were left which go in one transaction.
const DROPPED_ENTRIES_MAX: usize = 8_192;
/// What redb may cache while it verifies the pages, in bytes.
const VERIFY_CACHE_BYTES: usize = 8 << 20;

/// Entries as they are stored: key, and value with its checksum.
pub(crate) type SealedEntries = Vec<(Vec<u8>, Arc<[u8]>)>;

/// The rows that are on disk, or on their way there.
#[derive(Debug)]
pub(crate) struct RowsFile {
    pub(crate) file: File,
}

impl RowsFile {
    /// Opens the rows of `replica`, which may stand at `last` at most, or makes them if they are missing.
    ///
    /// Rows are ahead of the log when it lost frames that were committed without being synced: what such rows
    /// hold was never acknowledged as durable, so they count as damaged.
    ///
    /// # Errors
    /// On [`ReadError::Damaged`] the file is closed again and may be moved aside.
    pub(crate) fn open_or_make(
        opening: &Opening<'_>,
        (replica, former): (ReplicaId, Option<ReplicaId>),
        last: LogPosition,
        verify: bool,
    ) -> Result<Self, OpenError> {
        let exists = opening.disk.exists(ROWS_FILE).map_err(|source| opening.io(source))?;
        if !exists {
            let meta: [(&str, &[u8]); 2] =
                [(META_FORMAT, &ROWS_FORMAT.to_be_bytes()), (META_REPLICA, replica.as_bytes())];
            opening.create(&meta)?;
        }
        if verify && exists {
            // All pages are read, and most of them are not needed soon: they must not fill the cache.
            let opening =
                Opening { cache_bytes: VERIFY_CACHE_BYTES.min(opening.cache_bytes), ..opening.clone() };
            if !Self::open(&opening)?.file.verify()? {
                tracing::warn!(
                    "redb went back to an earlier state of rows.redb; the log gives what is missing"
                );
            }
        }
        let rows = Self::open(opening)?;
        if !identity::adopt_rows(&rows, replica, former).map_err(|source| opening.io(source))? {
            return Err(damaged("it belongs to another store").into());
        }
        if rows.position()? > last {
            return Err(damaged("it is ahead of the log").into());
        }
        Ok(rows)
    }

    pub(crate) fn open(opening: &Opening<'_>) -> Result<Self, OpenError> {
        Ok(Self { file: opening.open(ROWS_FORMAT..=ROWS_FORMAT)? })
    }

    /// The log position that the rows stand at.
    pub(crate) fn position(&self) -> Result<LogPosition, ReadError> {
        let position = self.table()?.get(&key::position())?;
        let position = position.map(|bytes| {
            let bytes = unseal(&key::position(), &bytes).ok_or_else(|| damaged("its position"))?;
            read_u64(bytes).ok_or_else(|| damaged("its position"))
        });
        Ok(LogPosition(position.transpose()?.unwrap_or(0)))
    }

    /// The entries as of the last commit.
    pub(crate) fn table(&self) -> Result<RowsTable, ReadError> {
        Ok(RowsTable { entries: self.file.entries()? })
    }

    /// The bytes of all keys and values; 0 while it is not known.
    pub(crate) fn live_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.file.meta(META_LIVE)?.and_then(|bytes| read_u64(&bytes)).unwrap_or(0))
    }

    /// Writes an overlay that takes no more commits, and where the rows stand then, in one transaction; and in a
    /// copy that is being made. With it goes some of what is there of keyspaces that were left; answers whether there
    /// was anything.
    pub(crate) fn write(
        &self,
        guard: &WriteGuard,
        durability: Durability,
        (overlay, position): (&Overlay, LogPosition),
        left: &[(u32, KeyspaceId)],
        copy: &mut Follower,
    ) -> Result<bool, CommitError> {
        let key = key::position();
        let value = seal(&key, position.0.to_be_bytes().to_vec());
        let mut dropped: Vec<Vec<u8>> = Vec::new();
        self.file.commit(guard, durability, |transaction| {
            let mut meta = transaction.open_table(META)?;
            let mut live = meta.get(META_LIVE)?.and_then(|bytes| read_u64(bytes.value())).unwrap_or(0);
            let mut table = transaction.open_table(ENTRIES)?;
            let mut write = |key: &[u8], value: Option<&[u8]>| {
                live = live.saturating_add_signed(put(&mut table, key, value)?);
                Ok::<_, redb::Error>(())
            };
            write(&key, Some(&value))?;
            overlay.visit_last(&mut write)?;
            for (number, _) in left {
                let keys = some_of(&table, *number, DROPPED_ENTRIES_MAX - dropped.len())?;
                for key in &keys {
                    live = live.saturating_add_signed(put(&mut table, key, None)?);
                }
                dropped.extend(keys);
            }
            meta.insert(META_LIVE, &live.to_be_bytes()[..])?;
            Ok(())
        })?;
        if copy.is_following() {
            copy.note(&key, Some(&value));
            let noted: Result<(), Infallible> = overlay.visit_last(|key, value| {
                copy.note(key, value);
                Ok(())
            });
            let Ok(()) = noted;
            dropped.iter().for_each(|key| copy.note(key, None));
        }
        Ok(!dropped.is_empty())
    }
}

/// Keys of entries of a keyspace, up to a number.
fn some_of(
    table: &redb::Table<'_, &'static [u8], &'static [u8]>,
    keyspace: u32,
    count_max: usize,
) -> Result<Vec<Vec<u8>>, redb::Error> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for first in key::all_of(keyspace) {
        let end = key::behind_prefix(first.clone());
        for item in table.range::<&[u8]>(&first[..]..&end[..])?.take(count_max - keys.len()) {
            keys.push(item?.0.value().to_vec());
        }
    }
    Ok(keys)
}

/// The entries of `rows.redb` at one moment, sealed as they are stored.
#[derive(Debug)]
pub(crate) struct RowsTable {
    entries: Entries,
}

impl RowsTable {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, ReadError> {
        reading(ROWS_FILE, || {
            Ok::<_, redb::Error>(self.entries.get(key)?.map(|value| Arc::from(value.value())))
        })
    }

    /// The first entries of a range, up to `limit` of them or about [`CHUNK_BYTES`], and whether there may be
    /// more.
    pub(crate) fn range(
        &self,
        from: Bound<&[u8]>,
        end: &[u8],
        limit: usize,
    ) -> Result<(SealedEntries, bool), ReadError> {
        reading(ROWS_FILE, || {
            let range = self.entries.range::<&[u8]>((from, Bound::Excluded(end)))?;
            let mut found = Vec::new();
            let mut bytes = 0;
            for item in range {
                let (key, value) = item?;
                let (key, value) = (key.value(), value.value());
                bytes += key.len() + value.len();
                found.push((key.to_vec(), Arc::from(value)));
                if found.len() == limit || bytes >= CHUNK_BYTES {
                    return Ok((found, true));
                }
            }
            Ok::<_, redb::Error>((found, false))
        })
    }
}

pub(crate) fn damaged(what: &str) -> ReadError {
    ReadError::Damaged { file: ROWS_FILE, what: what.to_owned() }
}
