//! Giving back the space that the files of a store do not use.
//!
//! Both files of a store that is open are compacted one after the other, beside its readers and writers, when it
//! is asked for or when it pays; those of one that nobody has open by [`compact`]. How a file is copied and put in
//! its place, and what a crash leaves, `copying.rs` says.
//!
//! Invariant: rows that are synced never stand behind the end of the log on disk, so the log is synced before
//! compacted rows take their place.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use thiserror::Error;
use tidelock_engine::ports::{CommitError, ReadError};

use crate::backend::WriteGuard;
use crate::copying::{Copy, Follower, PIECE_BYTES, ReplaceError, count};
use crate::database::{File, Opening};
use crate::disk::{Disk, LockError};
use crate::log::LogFile;
use crate::mark::Mark;
use crate::open::{OpenError, log_cache_bytes, rows_cache_bytes};
use crate::reader::Reader;
use crate::rows::RowsFile;
use crate::schema::{LOG_FILE, MARK_FILE, ROWS_FILE};
use crate::store::Shared;

/// What redb may cache of a copy while it is made, in bytes.
const COPY_CACHE_BYTES: usize = 16 << 20;

/// A smaller file is not compacted by itself, in bytes.
const FILE_BYTES_MIN: u64 = 64 << 20;

/// A file is compacted by itself when it is so many times as large as its entries. Pages that are two thirds full
/// and a file that has just grown come to three times; what a copy leaves is less than twice.
const FILE_TIMES: u64 = 4;

/// What a record of the log takes beyond its bytes, about: its place, its checksum, its entry in the index.
const RECORD_BYTES: u64 = 64;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Rows,
}

impl Part {
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Log => LOG_FILE,
            Self::Rows => ROWS_FILE,
        }
    }
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactProgress {
    /// The file.
    pub file: &'static str,
    /// The entries that were copied.
    pub copied: u64,
    /// The entries that there were when it began.
    pub entries: u64,
}

impl fmt::Display for CompactProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} entries copied", self.file, self.copied, self.entries)
    }
}

/// What a compaction did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The file.
    pub file: &'static str,
    /// Its length before, in bytes.
    pub before_bytes: u64,
    /// Its length behind that.
    pub after_bytes: u64,
}

/// Why a file was not compacted. Nothing is lost.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompactError {
    /// A node has it open, or the directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no store.
    #[error("there is no log.redb here, so no store")]
    NoStore,
    /// One compaction is enough.
    #[error("the store is being compacted already; wait until that is done")]
    Running,
    /// The store closes, or became another replica's.
    #[error("it was given up, and the files are as they were; try again")]
    GivenUp,
    /// A file cannot be read or its copy not be written; the file is as it was.
    #[error("{0}; the files are as they were")]
    Open(#[from] OpenError),
    /// The store takes no more writes.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<ReadError> for CompactError {
    fn from(error: ReadError) -> Self {
        Self::Open(error.into())
    }
}

impl Reader {
    /// Compacts both files while the store is used; takes about as long as it takes to copy what they hold, and as
    /// much of the disk. Reads go on; a write waits for the copying of a megabyte, and in the end for a sync.
    ///
    /// # Errors
    /// [`CompactError`] says what was done.
    pub fn compact(&self, progress: &mut dyn FnMut(CompactProgress)) -> Result<Vec<Compacted>, CompactError> {
        self.compact_in_pieces(PIECE_BYTES, progress)
    }

    /// Compacts as [`Reader::compact`] does, copying about so many bytes at a time in place of a megabyte.
    ///
    /// # Errors
    /// As there.
    pub fn compact_in_pieces(
        &self,
        piece_bytes: usize,
        progress: &mut dyn FnMut(CompactProgress),
    ) -> Result<Vec<Compacted>, CompactError> {
        let mut progress = |at| {
            progress(at);
            ControlFlow::Continue(())
        };
        let parts = [Part::Log, Part::Rows].into_iter();
        parts.map(|part| self.shared().compact(part, piece_bytes, &mut progress)).collect()
    }

    /// How far the compaction is that is under way, if one is.
    pub fn compaction(&self) -> Option<CompactProgress> {
        *self.shared().compaction.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a compaction is under way. Dropped, it leaves nothing of one that was not finished.
struct Running<'a> {
    shared: &'a Shared,
    part: Part,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.with_follower(self.part, |_, follower| follower.lose());
        // What remains is removed at the next opening, or by the next compaction.
        let _ = self.shared.opening_of_copy(self.part).remove_new();
        self.shared.show_compaction(None);
        self.shared.is_compacting.store(false, Ordering::Release);
    }
}

impl Shared {
    /// Compacts one file, unless `progress` breaks it off.
    pub(crate) fn compact(
        &self,
        part: Part,
        piece_bytes: usize,
        progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<Compacted, CompactError> {
        if self.is_compacting.swap(true, Ordering::AcqRel) {
            return Err(CompactError::Running);
        }
        let _running = Running { shared: self, part };
        let (file, opening) = (part.file(), self.opening_of_copy(part));
        let io = |source| OpenError::Io { file, source };
        let entries = count(&self.part(part).entries()?)?;
        let before_bytes = self.part(part).size().map_err(io)?;
        let mut copy = Copy::begin(&opening)?;
        self.begin_copy(part, piece_bytes)?;
        loop {
            let (next, copied) = self.with_follower(part, |file, follower| {
                let next = follower.next(file)?.ok_or(CompactError::GivenUp)?;
                Ok::<_, CompactError>((next, follower.copied()))
            })?;
            copy.add(&next).map_err(io)?;
            let at = CompactProgress { file, copied, entries };
            self.show_compaction(Some(at));
            if self.is_stopping() || progress(at).is_break() {
                return Err(CompactError::GivenUp);
            }
            if next.is_last() {
                break;
            }
        }
        self.take_over(part, copy)?;
        let after_bytes = self.part(part).size().map_err(io)?;
        tracing::info!(file, before_bytes, after_bytes, "compacted");
        Ok(Compacted { file, before_bytes, after_bytes })
    }

    /// Puts a copy that holds nearly all in its place, while nobody writes, if that gives anything back.
    fn take_over(&self, part: Part, mut copy: Copy) -> Result<(), CompactError> {
        self.with_follower(part, |file, follower| {
            self.guard.check()?;
            if part == Part::Rows {
                self.sync()?;
            }
            let mut next = || follower.next(file)?.ok_or(CompactError::GivenUp);
            copy.complete(&mut next)?;
            let io = |source| OpenError::Io { file: part.file(), source };
            // The copy of a file that was removed takes its place whatever it takes.
            let is_there = self.disk.exists(part.file()).map_err(io)?;
            let below_bytes = if is_there { file.size().map_err(io)? } else { u64::MAX };
            match copy.replace(&self.opening_of_copy(part), file, below_bytes) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(ReplaceError::Unchanged(error)) => return Err(error.into()),
                Err(ReplaceError::Unknown(source)) => return Err(self.poison(part, source)),
            }
            // What is written from now on must reach the copy, so without it the store does not go on.
            let reopened = file.reopen(&self.opening(part)).map_err(io::Error::other);
            let shown = reopened.and_then(|()| match part {
                Part::Log => Ok(()),
                Part::Rows => self.show_compacted_rows().map_err(io::Error::other),
            });
            shown.map_err(|source| self.poison(part, source))
        })
    }

    /// Readers go over to the rows that are in the copy. The caller holds `rounds`.
    fn show_compacted_rows(&self) -> Result<(), ReadError> {
        let position = self.rows.position()?;
        self.thaw()?;
        self.retention().rows_synced = position;
        Ok(())
    }

    fn poison(&self, part: Part, source: io::Error) -> CompactError {
        let text = source.to_string();
        self.guard.freeze(part.file(), source);
        CommitError::Poisoned { reason: text }.into()
    }

    /// From now on a copy of a file is told what is written to it.
    fn begin_copy(&self, part: Part, piece_bytes: usize) -> Result<(), CommitError> {
        if part == Part::Rows {
            self.rounds().copy.begin(piece_bytes);
            return Ok(());
        }
        let mut writer = self.writer();
        self.log.write_out(redb::Durability::None, &mut writer.copy)?;
        writer.copy.begin(piece_bytes);
        Ok(())
    }

    /// Keeps all writers of a file out for a moment.
    fn with_follower<T>(&self, part: Part, then: impl FnOnce(&File, &mut Follower) -> T) -> T {
        match part {
            Part::Log => then(&self.log.file, &mut self.writer().copy),
            Part::Rows => then(&self.rows.file, &mut self.rounds().copy),
        }
    }

    fn part(&self, part: Part) -> &File {
        match part {
            Part::Log => &self.log.file,
            Part::Rows => &self.rows.file,
        }
    }

    fn opening(&self, part: Part) -> Opening<'_> {
        let cache_bytes = match part {
            Part::Log => log_cache_bytes(self.cache_bytes),
            Part::Rows => rows_cache_bytes(self.cache_bytes),
        };
        Opening { disk: &*self.disk, name: part.file(), guard: Arc::clone(&self.guard), cache_bytes }
    }

    /// A failure of the copy must not freeze the files of the store, so it has a guard of its own.
    fn opening_of_copy(&self, part: Part) -> Opening<'_> {
        Opening { guard: Arc::default(), cache_bytes: COPY_CACHE_BYTES, ..self.opening(part) }
    }

    fn show_compaction(&self, at: Option<CompactProgress>) {
        *self.compaction.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// What the entries of a file take, in bytes, about.
    fn live_bytes(&self, part: Part) -> Result<u64, ReadError> {
        match part {
            Part::Rows => self.rows.live_bytes(),
            Part::Log => {
                let (first, end) = {
                    let published = self.published();
                    (published.first, published.end())
                };
                let records = end.position.0.saturating_add(1).saturating_sub(first.0);
                let gone = self.log.bytes_before(first)?;
                Ok(end.total_bytes.saturating_sub(gone)
                    + records * RECORD_BYTES
                    + self.log.raft_bounds()?.bytes)
            }
        }
    }

    /// Whether compacting a file gives back most of it.
    pub(crate) fn is_worth_compacting(&self, part: Part) -> Result<bool, CompactError> {
        let file = self.part(part).size().map_err(|source| OpenError::Io { file: part.file(), source })?;
        Ok(file >= FILE_BYTES_MIN && file / FILE_TIMES >= self.live_bytes(part)?)
    }

    /// Compacts what is worth it; the background thread asks now and then.
    pub(crate) fn compact_if_worth(&self, after: &mut [u64; 2]) -> Result<(), CompactError> {
        if self.guard.is_frozen() {
            return Ok(());
        }
        for (part, after) in [Part::Log, Part::Rows].into_iter().zip(after) {
            let size =
                self.part(part).size().map_err(|source| OpenError::Io { file: part.file(), source })?;
            // What was not made small, or could not be, is not tried again until it has grown.
            if size / 2 >= *after && self.is_worth_compacting(part)? {
                *after = size;
                *after = self.compact(part, PIECE_BYTES, &mut |_| ControlFlow::Continue(()))?.after_bytes;
            }
        }
        Ok(())
    }
}

/// Compacts the files of a store that nobody has open, and says now and then how far it is.
///
/// # Errors
/// [`CompactError`] when there is nothing to compact, or a file is damaged; it is left as it is then.
pub fn compact(
    disk: &dyn Disk,
    progress: &mut dyn FnMut(CompactProgress),
) -> Result<Vec<Compacted>, CompactError> {
    let _lock = disk.lock()?;
    let exists = |file| disk.exists(file).map_err(|source| OpenError::Io { file, source });
    if !exists(LOG_FILE)? {
        return Err(CompactError::NoStore);
    }
    // What redb writes when it opens and closes a file stays in memory, so that one that is kept is kept as it is.
    let guard = Arc::new(WriteGuard::frozen());
    let opening = |name| Opening { disk, name, guard: Arc::clone(&guard), cache_bytes: COPY_CACHE_BYTES };
    let mut log = LogFile::open(&opening(LOG_FILE))?;
    let mut rows = if exists(ROWS_FILE)? { Some(RowsFile::open(&opening(ROWS_FILE))?) } else { None };
    let mark = Mark::open(disk).map_err(|source| OpenError::Io { file: MARK_FILE, source })?;
    mark.is_reached(log.reached()?)?;
    let files = [(Part::Log, Some(&mut log.file)), (Part::Rows, rows.as_mut().map(|rows| &mut rows.file))];
    let files = files.into_iter().filter_map(|(part, file)| Some((part, file?)));
    files.map(|(part, file)| compact_closed(&opening(part.file()), file, progress)).collect()
}

fn compact_closed(
    opening: &Opening<'_>,
    file: &mut File,
    progress: &mut dyn FnMut(CompactProgress),
) -> Result<Compacted, CompactError> {
    let name = opening.name;
    let io = |source| OpenError::Io { file: name, source };
    if !file.verify()? {
        return Err(OpenError::damaged(name, "pages do not match their checksums").into());
    }
    let size = || opening.disk.open(name).and_then(|file| file.size()).map_err(io);
    let (before_bytes, entries) = (size()?, count(&file.entries()?)?);
    let opening = &Opening { guard: Arc::default(), ..opening.clone() };
    let mut follower = Follower::default();
    follower.begin(PIECE_BYTES);
    let mut copy = Copy::begin(opening)?;
    copy.complete(&mut || {
        progress(CompactProgress { file: name, copied: follower.copied(), entries });
        follower.next(file)?.ok_or(CompactError::GivenUp)
    })?;
    let is_replaced = copy.replace(opening, file, before_bytes).map_err(|error| match error {
        ReplaceError::Unchanged(error) => error,
        ReplaceError::Unknown(source) => opening.io(source),
    })?;
    if !is_replaced {
        opening.remove_new()?;
    }
    Ok(Compacted { file: name, before_bytes, after_bytes: size()? })
}
