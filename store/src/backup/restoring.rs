//! Making a store of a backup. Nothing of it has its name before everything was read, compared and written.
//!
//! Rows are written as they were read, then the frames since the first of them are applied, and then all derived
//! entries are counted from the rows. What that comes to must be what the store had when the backup ended:
//! fingerprint, number of keys and heads of every keyspace.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Durability, WriteTransaction};
use thiserror::Error;
use tidelock_engine::causality::{Head, Hlc};
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, ReplicaId};
use tidelock_engine::ports::{CommitError, LogPosition, ReadError};

use super::counting::Counting;
use super::format::{BlockKind, End, Entry};
use super::log_chunk;
use super::reading::{BackupReadError, BackupSummary, Block, Blocks};
use crate::backend::WriteGuard;
use crate::blocks::read_heads;
use crate::database::Opening;
use crate::disk::{Disk, LockError};
use crate::identity::{Change, name_rows};
use crate::key;
use crate::log::{LogFile, become_strong, decode_record, header};
use crate::names::Names;
use crate::open::OpenError;
use crate::overlay::Overlay;
use crate::replay::{self, Record};
use crate::rows::RowsFile;
use crate::schema::{
    ENTRIES, LOG_FILE, LOG_FORMAT, META_CARD, META_CLUSTER, META_FORMAT, META_REPLICA, ROWS_FILE,
    ROWS_FORMAT, card_value, index_key, log_tag, read_state, rows_tag, seal, unseal,
};
use crate::view::{Generation, View};

/// What redb may cache of a file while it is made, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The frames that are applied as one commit.
const FRAMES_PER_CHUNK: u64 = 64;

/// The entries that are read at a time while derived ones are counted.
const ENTRIES_PER_CHUNK: usize = 4_096;

/// Why a backup was not restored. There is no store where one was to be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The place is taken, or cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is a store already.
    #[error("there is a store already; restore into an empty folder")]
    Exists,
    /// It is a backup of another cluster.
    #[error("the backup is of cluster {found}, not of {asked}")]
    OtherCluster {
        /// Its cluster.
        found: ClusterId,
        /// The one that was asked for.
        asked: ClusterId,
    },
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupReadError),
    /// Its rows do not come to what its store had.
    #[error(
        "what the backup holds of keyspace {keyspace} does not come to what its store had; use another backup"
    )]
    Unequal {
        /// Where.
        keyspace: String,
    },
    /// The new store cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was written cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<CommitError> for RestoreError {
    fn from(error: CommitError) -> Self {
        Self::Open(error.into())
    }
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreProgress {
    /// So many bytes of the backup were read.
    Read(u64),
    /// Frames are applied to the rows.
    Frames {
        /// So many are done.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Rows are counted.
    Rows(u64),
}

/// What a store is made of a backup as.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    /// The cluster that it must be of; any if there is none.
    pub cluster: Option<ClusterId>,
    /// The replica that the new store is, whose nonce must be fresh. What the backed-up one wrote stays its own.
    pub card: AuthorCard,
}

/// Makes a store of a backup on an empty disk. The backup is read once, and believed when its end was.
///
/// # Errors
/// [`RestoreError`]: there is no store. What was begun may be left under other names.
pub fn restore(
    input: impl Read,
    disk: &dyn Disk,
    options: &RestoreOptions,
    progress: &mut dyn FnMut(RestoreProgress),
) -> Result<BackupSummary, RestoreError> {
    let _lock = disk.lock()?;
    for file in [LOG_FILE, ROWS_FILE] {
        if disk.exists(file).map_err(|source| OpenError::Io { file, source })? {
            return Err(RestoreError::Exists);
        }
    }
    let blocks = Blocks::open(input)?;
    let head = *blocks.head();
    if let Some(asked) = options.cluster.filter(|asked| *asked != head.cluster) {
        return Err(RestoreError::OtherCluster { found: head.cluster, asked });
    }
    let opening =
        |name| Opening { disk, name, guard: Arc::new(WriteGuard::default()), cache_bytes: CACHE_BYTES };
    let (log_opening, rows_opening) = (opening(LOG_FILE), opening(ROWS_FILE));
    let log_meta: [(&str, &[u8]); 3] = [
        (META_FORMAT, &LOG_FORMAT.to_be_bytes()),
        (META_CLUSTER, head.cluster.as_bytes()),
        (META_CARD, &card_value(&head.card)),
    ];
    let former = head.card.replica();
    let rows_meta: [(&str, &[u8]); 2] =
        [(META_FORMAT, &ROWS_FORMAT.to_be_bytes()), (META_REPLICA, former.as_bytes())];
    // A store without its log is none, so the log gets its name last.
    log_opening.create_filled(&log_meta, |log| {
        rows_opening.create_filled(&rows_meta, |rows| {
            let (log, rows) = (LogFile::new(log, &log_opening.guard), RowsFile { file: rows });
            let names = Names::new(head.cluster);
            Restore { log, rows, names, before: BTreeMap::new(), after: Vec::new(), progress }
                .run(blocks, &options.card)
        })
    })
}

/// A restore under way.
struct Restore<'a> {
    log: LogFile,
    rows: RowsFile,
    names: Names,
    /// Where each author stood before the first row was read, as their entries.
    before: BTreeMap<(u32, u32), u64>,
    /// What it must come to.
    after: Vec<Entry>,
    progress: &'a mut dyn FnMut(RestoreProgress),
}

impl Restore<'_> {
    fn run<R: Read>(
        mut self,
        mut blocks: Blocks<R>,
        card: &AuthorCard,
    ) -> Result<BackupSummary, RestoreError> {
        while let Some(block) = blocks.next()? {
            match block.kind {
                BlockKind::Before => self.before(&block)?,
                BlockKind::Rows => self.rows(&block)?,
                BlockKind::Log => self.log(&block)?,
                BlockKind::After => block.entries::<RestoreError>(|key, value| {
                    self.after.push((key.to_vec(), Arc::from(value)));
                    Ok(())
                })?,
                BlockKind::Head | BlockKind::End => unreachable!("they are taken apart by their reader"),
            }
            (self.progress)(RestoreProgress::Read(blocks.bytes()));
        }
        let (head, end) = (*blocks.head(), blocks.end().expect("the last block was read"));
        self.names = self.log.names(head.cluster, head.card)?;
        self.index()?;
        self.apply((head.position, end.position))?;
        self.derive(&end)?;
        if !self.log.modes()?.is_empty() {
            self.log
                .file
                .write(Durability::Immediate, become_strong)
                .map_err(|source| io(LOG_FILE, source))?;
        }
        let mut names = self.names.clone();
        let change = Change::new(&mut names, head.card.replica(), card).ok_or(OpenError::UsedCard)?;
        change.write(&self.log, None).map_err(|source| OpenError::Io { file: LOG_FILE, source })?;
        name_rows(&self.rows, card.replica()).map_err(|source| OpenError::Io { file: ROWS_FILE, source })?;
        Ok(BackupSummary::new(&head, &end, blocks.bytes()))
    }

    fn before(&mut self, block: &Block) -> Result<(), RestoreError> {
        block.entries(|key, sealed| {
            let (keyspace, heads) = heads(key, sealed)?;
            self.before.extend(heads.iter().map(|(author, head)| ((keyspace, *author), head.seq)));
            Ok(())
        })
    }

    fn rows(&mut self, block: &Block) -> Result<(), RestoreError> {
        write(&self.rows.file, ROWS_FILE, Durability::None, |table| {
            block.entries::<Written>(|key, sealed| {
                let is_row = key[0] == rows_tag::ROW && unseal(key, sealed).is_some();
                if !is_row {
                    return Err(damaged("a row").into());
                }
                Ok(table.insert(key, sealed).map(drop)?)
            })
        })
    }

    fn log(&mut self, block: &Block) -> Result<(), RestoreError> {
        write(&self.log.file, LOG_FILE, Durability::None, |table| {
            block.entries::<Written>(|key, sealed| {
                if unseal(key, sealed).is_none() {
                    return Err(damaged("an entry of the log").into());
                }
                Ok(table.insert(key, sealed).map(drop)?)
            })
        })
    }

    /// Makes the index of the frames.
    fn index(&mut self) -> Result<(), RestoreError> {
        let mut from = vec![log_tag::RECORD];
        loop {
            let entries = log_chunk(&self.log, &from, &[log_tag::RECORD + 1])?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            from = [&last[..], &[0]].concat();
            let mut index = Vec::with_capacity(entries.len());
            for (key, sealed) in &entries {
                let record = decode_record(key, sealed)?;
                let Some(frame) = record.frame() else { continue };
                let header = header(frame)?;
                let numbers = self.names.keyspace(header.keyspace).zip(self.names.author(header.author));
                let (keyspace, author) = numbers.ok_or_else(|| damaged("a frame of an unknown author"))?;
                let key = index_key(keyspace, author, header.last());
                let value = seal(&key, record.position.0.to_be_bytes().to_vec());
                index.push((key, value));
            }
            write(&self.log.file, LOG_FILE, Durability::None, |table| {
                index.iter().try_for_each(|(key, value)| Ok(table.insert(&key[..], &value[..]).map(drop)?))
            })?;
        }
    }

    /// Applies the frames since the first row was read to rows that may have seen them.
    fn apply(&mut self, (first, last): (u64, u64)) -> Result<(), RestoreError> {
        let mut seqs: BTreeMap<(KeyspaceId, ReplicaId), u64> = BTreeMap::new();
        for ((keyspace, author), seq) in &self.before {
            let id = self.names.keyspaces().get(*keyspace as usize).map(|(id, _)| *id);
            let name = id.zip(self.names.replica(*author)).ok_or_else(|| damaged("the head of nobody"))?;
            seqs.insert(name, *seq);
        }
        let mut at = first;
        while at < last {
            let until = last.min(at + FRAMES_PER_CHUNK);
            let (records, until) = replay::records(&self.log, (at + 1, until), &self.names)?;
            let changes = {
                let seq = |keyspace, author| seqs.get(&(keyspace, author)).copied().unwrap_or(0);
                replay::apply(&self.view()?, seq, &records)?
            };
            for record in &records {
                match record {
                    Record::Frame(frame) => {
                        let header = frame.header();
                        seqs.insert((header.keyspace, header.author), header.last());
                    }
                    Record::Install(install) => {
                        for (author, head) in install.heads.iter().flatten() {
                            seqs.insert((install.keyspace, *author), head.seq);
                        }
                    }
                }
            }
            let names = &self.names;
            write(&self.rows.file, ROWS_FILE, Durability::None, |table| {
                changes.rows.iter().try_for_each(|((keyspace, row), change)| {
                    let numbers = names.keyspace(*keyspace).zip(names.author(row.dot.replica));
                    let (keyspace, author) = numbers.ok_or_else(|| damaged("a row of nobody"))?;
                    let key = key::row(keyspace, row, author);
                    // A row may have come and gone within these frames and be in a chunk that was read between.
                    let Some(payload) = &change.after else {
                        return Ok(table.remove(&key[..]).map(drop)?);
                    };
                    let mut value = Vec::new();
                    payload.encode_into(&mut value);
                    let sealed = seal(&key, value);
                    Ok(table.insert(&key[..], &sealed[..]).map(drop)?)
                })
            })?;
            at = until.0;
            (self.progress)(RestoreProgress::Frames { done: at - first, total: last - first });
        }
        self.before = BTreeMap::new();
        self.compare_heads(&seqs)
    }

    fn view(&self) -> Result<View, ReadError> {
        let (active, rows) = (Arc::new(Overlay::default()), Arc::new(self.rows.table()?));
        let generation = Arc::new(Generation { active, frozen: None, rows });
        Ok(View {
            generation,
            moment: 0,
            names: Arc::new(self.names.clone()),
            expiry: Hlc::default(),
            clocks: Arc::default(),
        })
    }

    fn compare_heads(&self, seqs: &BTreeMap<(KeyspaceId, ReplicaId), u64>) -> Result<(), RestoreError> {
        let mut count = 0;
        for (key, sealed) in self.after.iter().filter(|(key, _)| key[0] == rows_tag::HEAD) {
            let (keyspace, heads) = heads(key, sealed)?;
            let id = self.names.keyspaces().get(keyspace as usize).map(|(id, _)| *id);
            for (author, head) in &heads {
                let seq = id.zip(self.names.replica(*author)).and_then(|name| seqs.get(&name));
                if seq != Some(&head.seq) {
                    return Err(self.unequal(keyspace));
                }
            }
            count += heads.len();
        }
        if count == seqs.len() { Ok(()) } else { Err(self.unequal(0)) }
    }

    /// Counts the rows, compares the sums, and writes what follows from them.
    fn derive(&mut self, end: &End) -> Result<(), RestoreError> {
        let mut count = Counting::default();
        let mut from = Bound::Included(vec![rows_tag::ROW]);
        loop {
            let table = self.rows.table()?;
            let (entries, has_more) =
                table.range(from.as_ref().map(Vec::as_slice), &[rows_tag::ROW + 1], ENTRIES_PER_CHUNK)?;
            drop(table);
            for (key, sealed) in &entries {
                let row = unseal(key, sealed).and_then(|value| count.take(&self.names, key, value));
                row.ok_or_else(|| damaged("a row"))?;
            }
            let members = count.finished(!has_more);
            write(&self.rows.file, ROWS_FILE, Durability::None, |table| {
                members
                    .iter()
                    .try_for_each(|(key, value)| Ok(table.insert(&key[..], &value[..]).map(drop)?))
            })?;
            (self.progress)(RestoreProgress::Rows(count.rows));
            match entries.into_iter().last() {
                Some((last, _)) if has_more => from = Bound::Excluded(last),
                _ => break,
            }
        }
        for (key, sealed) in self.after.iter().filter(|(key, _)| key[0] == rows_tag::STATE) {
            let state = unseal(key, sealed).and_then(read_state).zip(key::read_state_keyspace(key));
            let (state, keyspace) = state.ok_or_else(|| damaged("the state of a keyspace"))?;
            let sums = count.sums.remove(&keyspace).unwrap_or_default();
            if (state.fingerprint, state.keys) != sums {
                return Err(self.unequal(keyspace));
            }
        }
        if let Some(keyspace) = count.sums.keys().next() {
            return Err(self.unequal(*keyspace));
        }
        self.log.file.write(Durability::Immediate, |_| Ok(())).map_err(|source| io(LOG_FILE, source))?;
        write(&self.rows.file, ROWS_FILE, Durability::Immediate, |table| {
            for (key, value) in &self.after {
                table.insert(&key[..], &value[..])?;
            }
            let key = key::position();
            let value = seal(&key, LogPosition(end.position).0.to_be_bytes().to_vec());
            Ok(table.insert(&key[..], &value[..]).map(drop)?)
        })
    }

    fn unequal(&self, keyspace: u32) -> RestoreError {
        let name = self.names.keyspaces().get(keyspace as usize).map(|(_, name)| name.to_string());
        RestoreError::Unequal { keyspace: name.unwrap_or_else(|| keyspace.to_string()) }
    }
}

/// Why a transaction was given up.
enum Written {
    Restore(RestoreError),
    Redb(redb::Error),
}

impl From<redb::StorageError> for Written {
    fn from(error: redb::StorageError) -> Self {
        Self::Redb(error.into())
    }
}

impl From<RestoreError> for Written {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

impl From<BackupReadError> for Written {
    fn from(error: BackupReadError) -> Self {
        Self::Restore(error.into())
    }
}

fn write(
    file: &crate::database::File,
    name: &'static str,
    durability: Durability,
    change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<(), Written>,
) -> Result<(), RestoreError> {
    let mut refused = None;
    let written = file.write(durability, |transaction: &WriteTransaction| {
        let mut table = transaction.open_table(ENTRIES)?;
        match change(&mut table) {
            Ok(()) => Ok(()),
            Err(Written::Redb(error)) => Err(error),
            Err(Written::Restore(error)) => {
                refused = Some(error);
                Ok(())
            }
        }
    });
    match refused {
        Some(error) => Err(error),
        None => written.map_err(|source| io(name, source)),
    }
}

/// The keyspace of a block of heads, and these.
fn heads(key: &[u8], sealed: &[u8]) -> Result<(u32, Vec<(u32, Head)>), RestoreError> {
    let heads = unseal(key, sealed).and_then(|value| read_heads(key, value));
    heads.ok_or_else(|| damaged("the heads of some authors"))
}

fn io(file: &'static str, source: std::io::Error) -> RestoreError {
    OpenError::Io { file, source }.into()
}

fn damaged(what: &'static str) -> RestoreError {
    BackupReadError::Damaged { at: 0, what }.into()
}
