//! A backup: one copy of a running store, at one position of its log, as a stream of bytes.
//!
//! Nothing is held up meanwhile and no view of the store is kept: rows are read in chunks, each at its own moment,
//! and then the log up to the position where it stood after the last chunk. Applying to these rows the frames
//! since the first chunk gives the rows at that position, as when a store is opened after a crash: an operation
//! that a chunk has already seen changes no row when it is applied again. Both are needed. Rows alone could not
//! be told to peers, and frames alone do not lead to the rows once the log is truncated.
//! Source: "fuzzy" snapshots and replay, Junqueira, Reed, Serafini, "Zab" (DSN 2011).
//!
//! The derived entries of `rows.redb` and the index of the log are left out: they follow from the rest, and are made
//! again by [`restore`](crate::restore()), which compares what it gets with the fingerprints that the store had.
//! The node's secret key is no part of a backup.

mod counting;
pub(crate) mod format;
pub(crate) mod reading;
pub(crate) mod restoring;
mod scores;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use thiserror::Error;
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::{CommitError, LogPosition, ReadError};

use self::format::{BLOCK_BYTES, BlockKind, Chain, End, Entry, Head, preamble, push_entry};
use crate::database::reading;
use crate::key;
use crate::log::{LogFile, damaged};
use crate::published::Space;
use crate::reader::Reader;
use crate::schema::{LOG_FILE, SpaceState, log_tag, read_u64, record_key, rows_tag, seal, state_value};
use crate::store::Shared;

/// The rows that are read at a time at most.
const ROWS_PER_PIECE: usize = 2_048;

/// Why a backup cannot be finished. What was written of it is no backup.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// State is being taken over from a peer, and until that is done the rows are those of no version vector.
    #[error("state is being taken over from a peer; try again in a while")]
    Partial,
    /// A keyspace was left and is still being dropped, or was left while the backup was made.
    #[error("a keyspace that was left is being dropped; try again in a moment")]
    Dropping,
    /// What is to be backed up cannot be made durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// The rows that are written.
    pub rows: u64,
    /// The frames that are written.
    pub frames: u64,
    /// The frames that there are in all, once the rows are written; 0 before.
    pub frames_total: u64,
}

/// A backup under way: an iterator over its bytes, in pieces of about a megabyte. It may be dropped at any time.
///
/// The bytes are as `format` says, and may be written anywhere; only all of them together are a backup.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
    stage: Stage,
    chain: Chain,
    /// The position of the log before the first row was read.
    from: LogPosition,
    /// States and heads as they are in the end.
    after: Vec<Entry>,
    rows_per_piece: usize,
    is_pinned: bool,
    end: End,
}

/// What is written next. The order is the order of the blocks.
#[derive(Debug)]
enum Stage {
    Start { unix_ms: u64 },
    Rows(Bound<Vec<u8>>),
    Frames(Option<u64>),
    Log(Vec<u8>),
    After,
    End,
    Over,
}

impl Reader {
    /// Begins a backup, which says of itself that it was made at `unix_ms`.
    pub fn backup(&self, unix_ms: u64) -> Backup {
        Backup {
            shared: Arc::clone(self.shared()),
            stage: Stage::Start { unix_ms },
            chain: Chain::new(),
            from: LogPosition(0),
            after: Vec::new(),
            rows_per_piece: ROWS_PER_PIECE,
            is_pinned: false,
            end: End::default(),
        }
    }
}

impl Backup {
    /// Reads at most so many rows at a time, in place of 2,048; at least one.
    #[must_use]
    pub fn with_rows_per_piece(self, rows: usize) -> Self {
        let mut changed = self;
        changed.rows_per_piece = rows.max(1);
        changed
    }

    /// How far it is.
    pub fn progress(&self) -> BackupProgress {
        let End { rows, frames, position, .. } = self.end;
        BackupProgress { rows, frames, frames_total: position }
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Start { unix_ms } => self.start(unix_ms).map(Some),
            Stage::Rows(from) => self.rows(&from),
            Stage::Frames(next) => self.frames(next),
            Stage::Log(from) => self.log(&from),
            Stage::After => {
                self.stage = Stage::End;
                let entries = std::mem::take(&mut self.after);
                self.blocks(BlockKind::After, entries)
            }
            Stage::End => {
                let end = self.end.encode();
                Ok(Some(self.chain.block(BlockKind::End, &end)))
            }
            Stage::Over => Ok(None),
        }
    }

    /// Whose it is, and where each author stands before the first row is read.
    fn start(&mut self, unix_ms: u64) -> Result<Vec<u8>, BackupError> {
        let (head, entries) = {
            let published = self.shared.published();
            is_whole(&published)?;
            // What is applied while rows are read must not be truncated before it was read, too.
            self.shared.pin(published.position);
            let (cluster, card) = (published.names.cluster(), published.card);
            let head = Head { cluster, card, position: published.position.0, unix_ms };
            (head, entries_of_heads(&published))
        };
        let mut bytes = preamble();
        bytes.extend(self.chain.block(BlockKind::Head, &head.encode()));
        self.push_blocks(BlockKind::Before, entries, &mut bytes);
        self.from = LogPosition(head.position);
        self.is_pinned = true;
        self.stage = Stage::Rows(Bound::Included(vec![rows_tag::ROW]));
        Ok(bytes)
    }

    fn rows(&mut self, from: &Bound<Vec<u8>>) -> Result<Option<Vec<u8>>, BackupError> {
        let chunk = self.shared.view().chunk(from, &[rows_tag::ROW + 1], self.rows_per_piece)?;
        self.end.rows += chunk.entries.len() as u64;
        self.stage = match chunk.last {
            Some(last) => Stage::Rows(Bound::Excluded(last)),
            None => Stage::Frames(None),
        };
        self.blocks(BlockKind::Rows, chunk.entries)
    }

    /// Frames are read up to where the log stands after the last row, which is made durable first: what the
    /// original may still forget must not be in its backup.
    fn frames(&mut self, next: Option<u64>) -> Result<Option<Vec<u8>>, BackupError> {
        let first = match next {
            Some(next) => next,
            None => self.stop_here()?,
        };
        let last = self.end.position;
        let entries = if first > last {
            Vec::new()
        } else {
            log_chunk(&self.shared.log, &record_key(first), &record_key(last + 1))?
        };
        let mut expected = (first > 0).then_some(first);
        for (key, _) in &entries {
            let position = key.get(1..).and_then(read_u64).ok_or_else(|| damaged("the place of a frame"))?;
            // The log may begin late, but what was applied while the rows were read must all be there.
            let is_next = expected.map_or(position <= self.from.0 + 1, |expected| expected == position);
            if !is_next {
                return Err(damaged("a frame is missing").into());
            }
            expected = Some(position + 1);
            self.end.frames += 1;
        }
        if entries.is_empty() {
            let next = expected.unwrap_or(1);
            if next <= last {
                return Err(damaged("a frame is missing").into());
            }
            self.stage = Stage::Log(vec![0]);
            return self.next_piece();
        }
        self.stage = Stage::Frames(expected);
        self.blocks(BlockKind::Log, entries)
    }

    /// The backup ends where the store is now.
    fn stop_here(&mut self) -> Result<u64, BackupError> {
        let entries = {
            let published = self.shared.published();
            is_whole(&published)?;
            self.end.position = published.position.0;
            self.end.keyspaces = published.spaces.len() as u64;
            let states = published.names.keyspaces().iter().zip(0..).filter_map(|((keyspace, _), number)| {
                let space = published.spaces.get(keyspace)?;
                let key = key::state(number);
                let Space { fingerprint, keys, bytes, is_partial, .. } = *space;
                let state = SpaceState { fingerprint, keys, bytes, is_partial };
                let value = seal(&key, state_value(state));
                Some((key, Arc::from(value)))
            });
            states.chain(entries_of_heads(&published)).collect::<Vec<Entry>>()
        };
        self.shared.sync()?;
        self.after = entries;
        Ok(0)
    }

    /// The other entries of the log, whatever they are: names, the clock. The index follows from the frames.
    fn log(&mut self, from: &[u8]) -> Result<Option<Vec<u8>>, BackupError> {
        let mut entries = log_chunk(&self.shared.log, from, &[log_tag::RECORD])?;
        self.stage = match entries.last() {
            Some((last, _)) => Stage::Log([&last[..], &[0]].concat()),
            None => Stage::After,
        };
        entries.retain(|(key, _)| key[0] != log_tag::INDEX);
        self.blocks(BlockKind::Log, entries)
    }

    /// Blocks of some entries, or what comes next if there are none.
    fn blocks(&mut self, kind: BlockKind, entries: Vec<Entry>) -> Result<Option<Vec<u8>>, BackupError> {
        if entries.is_empty() {
            return self.next_piece();
        }
        let mut bytes = Vec::new();
        self.push_blocks(kind, entries, &mut bytes);
        Ok(Some(bytes))
    }

    fn push_blocks(&mut self, kind: BlockKind, entries: Vec<Entry>, bytes: &mut Vec<u8>) {
        let mut payload = Vec::new();
        for (key, value) in entries {
            push_entry(&mut payload, &key, &value);
            if payload.len() >= BLOCK_BYTES {
                bytes.extend(self.chain.block(kind, &payload));
                payload.clear();
            }
        }
        if !payload.is_empty() {
            bytes.extend(self.chain.block(kind, &payload));
        }
    }
}

impl Iterator for Backup {
    type Item = Result<Vec<u8>, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_piece().transpose()
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if self.is_pinned {
            self.shared.unpin(self.from);
        }
    }
}

fn is_whole(published: &crate::published::Published) -> Result<(), BackupError> {
    if published.spaces.values().any(|space| space.is_partial) {
        return Err(BackupError::Partial);
    }
    if published.names.dropping().is_empty() { Ok(()) } else { Err(BackupError::Dropping) }
}

/// Some entries of a log, read in a transaction of their own.
fn log_chunk(log: &LogFile, from: &[u8], end: &[u8]) -> Result<Vec<Entry>, ReadError> {
    let entries = log.entries()?;
    reading(LOG_FILE, || {
        let mut found = Vec::new();
        let mut bytes = 0;
        for item in entries.range::<&[u8]>(from..end)? {
            let (key, value) = item?;
            bytes += key.value().len() + value.value().len();
            found.push((key.value().to_vec(), Arc::from(value.value())));
            if bytes >= BLOCK_BYTES {
                break;
            }
        }
        Ok::<_, redb::Error>(found)
    })
}

/// The heads of all keyspaces, as `rows.redb` has them.
fn entries_of_heads(published: &crate::published::Published) -> Vec<Entry> {
    let of_space = |(keyspace, space): (&KeyspaceId, &Space)| {
        space.heads.iter().map(|(author, _)| (*keyspace, author)).collect::<Vec<_>>()
    };
    let authors = published.spaces.iter().flat_map(of_space);
    let entries = published.heads_after(&published.names, authors, &BTreeMap::new()).into_iter();
    let sealed = |(key, value): (Vec<u8>, Vec<u8>)| {
        let value = seal(&key, value);
        (key, Arc::from(value))
    };
    entries.map(sealed).collect()
}
