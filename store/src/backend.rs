//! redb on a disk of ours, with one rule added: after a failed write nothing more is written.
//!
//! redb answers every read with an error once any write has failed. A node must go on reading then, so redb
//! never learns of the failure: from that moment on the file is frozen, and what redb writes is kept in
//! memory over it. The store asks [`WriteGuard::check`] after every commit and takes no further ones, so that
//! memory stays as small as the commit that failed. All files of a store freeze together.
//!
//! A file that is only checked is frozen from the start: checking changes nothing on disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use tidelock_engine::ports::CommitError;

use crate::disk::DiskFile;

/// The unit in which frozen files keep what was written, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// Errors reach redb, and so the one who opens the store.
const OPENING: u8 = 0;
/// A failed write freezes the files.
const SERVING: u8 = 1;
/// Nothing is written to disk until there is room again; what was to be written is void.
const FULL: u8 = 2;
/// Nothing is written to disk any more.
const FROZEN: u8 = 3;

/// Whether the files of a store may be written, and why not.
#[derive(Debug, Default)]
pub(crate) struct WriteGuard {
    mode: AtomicU8,
    cause: Mutex<Option<Cause>>,
}

/// Why nothing is written any more.
#[derive(Debug)]
struct Cause {
    file: &'static str,
    source: io::Error,
}

impl WriteGuard {
    /// The guard of files that are only read.
    pub(crate) fn frozen() -> Self {
        Self { mode: AtomicU8::new(FROZEN), cause: Mutex::default() }
    }

    /// From now on a failed write freezes the files instead of reaching redb.
    pub(crate) fn serve(&self) {
        // A guard that is frozen already stays so.
        let _ = self.mode.compare_exchange(OPENING, SERVING, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.mode.load(Ordering::Acquire), FULL | FROZEN)
    }

    /// Whether nothing but a full disk is in the way.
    ///
    /// A write that found no room has written nothing or a part of pages that no commit names yet, and what was
    /// written before it is as safe as before: so opening the files again gives the last commit, and nobody was told of
    /// a later one. A failed sync is another thing: the system may have dropped the pages and say so once only,
    /// so that even what is read back may never reach the disk. And of any other failure it is not known what was done.
    pub(crate) fn is_full(&self) -> bool {
        self.mode.load(Ordering::Acquire) == FULL
    }

    /// Freezes the files until there is room, unless something worse is the matter.
    fn freeze_full(&self) {
        let _ = self.mode.compare_exchange(SERVING, FULL, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Lets files be opened again that were frozen for want of room. Those that were open until now must be closed
    /// for writing.
    pub(crate) fn open_again(&self) {
        let _ = self.mode.compare_exchange(FULL, OPENING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Opening them again found no room.
    pub(crate) fn is_still_full(&self) {
        let _ = self.mode.compare_exchange(OPENING, FULL, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Freezes the files; the first cause is kept.
    pub(crate) fn freeze(&self, file: &'static str, source: io::Error) {
        // Whoever finds them frozen finds the cause too.
        self.cause().get_or_insert(Cause { file, source });
        self.mode.store(FROZEN, Ordering::Release);
    }

    /// Says whether anything may be written: not once a write has failed, and not as long as the disk is full.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        match self.mode.load(Ordering::Acquire) {
            FULL => Err(CommitError::Full { file: "the store" }),
            FROZEN => Err(CommitError::Poisoned { reason: self.reason() }),
            _ => Ok(()),
        }
    }

    /// The same for whoever has just written: a failure may have been its own, and left behind nobody knows what.
    pub(crate) fn check_written(&self) -> Result<(), CommitError> {
        self.check().map_err(|error| match (error, &*self.cause()) {
            (CommitError::Poisoned { .. }, Some(Cause { file, source })) => {
                CommitError::Io { file, source: io::Error::new(source.kind(), source.to_string()) }
            }
            (error, _) => error,
        })
    }

    fn reason(&self) -> String {
        let cause = self.cause();
        cause.as_ref().map_or_else(
            || "it was opened to be read".to_owned(),
            |Cause { file, source }| format!("cannot write {file}: {source}"),
        )
    }

    fn cause(&self) -> MutexGuard<'_, Option<Cause>> {
        self.cause.lock().expect("no holder of this lock panics")
    }
}

/// A file as redb sees it.
#[derive(Debug)]
pub(crate) struct Backend {
    name: &'static str,
    file: Box<dyn DiskFile>,
    guard: Arc<WriteGuard>,
    frozen: Mutex<Option<Frozen>>,
    /// Another file has taken its place: what redb writes when it closes this one matters to nobody.
    is_retired: AtomicBool,
    /// The file is changed by others now, so it must not be read through this any more.
    is_gone: AtomicBool,
    /// Whether anything was written to memory in place of the file.
    is_diverted: AtomicBool,
    /// Whether a sync was asked for and not done, so that what redb takes to be committed is not.
    is_sync_void: AtomicBool,
    syncs: AtomicU64,
}

/// What was written since the file froze.
#[derive(Debug)]
struct Frozen {
    size: u64,
    /// The bytes of the file itself that still count: it may have been cut since.
    base: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Backend {
    pub(crate) fn new(name: &'static str, file: Box<dyn DiskFile>, guard: Arc<WriteGuard>) -> Self {
        Self {
            name,
            file,
            guard,
            frozen: Mutex::default(),
            is_retired: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            is_diverted: AtomicBool::new(false),
            is_sync_void: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
        }
    }

    /// Neither writes nor reads the file any more: it is opened anew, and repaired.
    pub(crate) fn let_go(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.retire();
    }

    /// Whether all syncs that redb asked for were done, of all that it had written before. Then what it committed with
    /// a sync is on disk, even if what it wrote behind that, to tidy up, is not.
    pub(crate) fn has_synced(&self) -> bool {
        !self.is_sync_void.load(Ordering::Acquire)
    }

    /// Whether something that redb wrote is not in the file.
    pub(crate) fn is_diverted(&self) -> bool {
        self.is_diverted.load(Ordering::Acquire)
    }

    /// Writes nothing to the file any more, whatever becomes of the other files of the store.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    fn is_frozen(&self) -> bool {
        self.is_retired.load(Ordering::Acquire) || self.guard.is_frozen()
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        if self.is_frozen() { self.frozen(|frozen| Ok(frozen.size)) } else { self.file.size() }
    }

    /// The number of syncs that the disk confirmed.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Counts syncs of the file that had this one's place.
    pub(crate) fn count_syncs(&self, syncs: u64) {
        self.syncs.fetch_add(syncs, Ordering::Relaxed);
    }

    /// Does a change to the file, or to the memory over it once the file is frozen.
    fn change(
        &self,
        on_disk: impl FnOnce() -> io::Result<()>,
        in_memory: impl FnOnce(&mut Frozen) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.is_frozen() {
            let mode = self.guard.mode.load(Ordering::Acquire);
            match on_disk() {
                Err(error) if mode == SERVING && is_for_want_of_room(&error) => self.guard.freeze_full(),
                Err(source) if mode == SERVING => {
                    self.guard.freeze(self.name, source);
                }
                result => return result,
            }
        }
        self.is_diverted.store(true, Ordering::Release);
        self.frozen(in_memory)
    }

    /// Syncs the file as long as all is in it, also when another file of the store has failed: then what was
    /// committed here is committed.
    fn sync(&self) -> io::Result<()> {
        let mode = self.guard.mode.load(Ordering::Acquire);
        if mode == FROZEN || self.is_diverted() || self.is_retired.load(Ordering::Acquire) {
            self.is_sync_void.store(true, Ordering::Release);
            return Ok(());
        }
        match self.file.sync_data() {
            Ok(()) => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(source) if mode == OPENING => Err(source),
            Err(source) => {
                // Whatever the cause: the system has dropped the pages, and will not say so again.
                self.is_diverted.store(true, Ordering::Release);
                self.is_sync_void.store(true, Ordering::Release);
                self.guard.freeze(self.name, source);
                Ok(())
            }
        }
    }

    fn frozen<T>(&self, then: impl FnOnce(&mut Frozen) -> io::Result<T>) -> io::Result<T> {
        let mut slot = self.frozen.lock().expect("no holder of this lock panics");
        if slot.is_none() {
            let size = self.file.size()?;
            *slot = Some(Frozen { size, base: size, blocks: BTreeMap::new() });
        }
        then(slot.as_mut().expect("it was just made"))
    }
}

impl Frozen {
    /// The bytes of a block as they are now, zeros beyond the end.
    fn block(&self, file: &dyn DiskFile, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = self.blocks.get(&number) {
            return Ok(block.clone());
        }
        let start = number * BLOCK_BYTES;
        let on_disk = self.base.saturating_sub(start).min(BLOCK_BYTES);
        let mut block = vec![0; to_usize(BLOCK_BYTES)];
        if on_disk > 0 {
            file.read_at(start, &mut block[..to_usize(on_disk)])?;
        }
        Ok(block)
    }

    fn read(&self, file: &dyn DiskFile, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, piece) in pieces(offset, out) {
            let block = self.block(file, number)?;
            piece.copy_from_slice(&block[within..within + piece.len()]);
        }
        Ok(())
    }

    fn write(&mut self, file: &dyn DiskFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.size = self.size.max(offset + bytes.len() as u64);
        let mut bytes = bytes.to_vec();
        for (number, within, piece) in pieces(offset, &mut bytes) {
            let mut block = self.block(file, number)?;
            block[within..within + piece.len()].copy_from_slice(piece);
            self.blocks.insert(number, block);
        }
        Ok(())
    }

    fn resize(&mut self, file: &dyn DiskFile, size: u64) -> io::Result<()> {
        if size < self.size {
            // What is cut off must read as zeros if the file grows again.
            let last = size / BLOCK_BYTES;
            let mut block = self.block(file, last)?;
            block[to_usize(size % BLOCK_BYTES)..].fill(0);
            self.blocks.split_off(&last);
            self.blocks.insert(last, block);
            self.base = self.base.min(size);
        }
        self.size = size;
        Ok(())
    }
}

fn is_for_want_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The pieces of a range of bytes: number of the block, offset within it, bytes.
fn pieces(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let within = at % BLOCK_BYTES;
        let length = rest.len().min(to_usize(BLOCK_BYTES - within));
        let (piece, behind) = std::mem::take(&mut rest).split_at_mut(length);
        let item = (at / BLOCK_BYTES, to_usize(within), piece);
        (at, rest) = (at + length as u64, behind);
        Some(item)
    })
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("it is at most a block")
}

/// What is given to redb; the store keeps the other reference for its figures.
#[derive(Debug)]
pub(crate) struct SharedBackend(pub(crate) Arc<Backend>);

impl StorageBackend for SharedBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let backend = &*self.0;
        if backend.is_gone.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "the file is opened anew, since the disk has room again; try again",
            ));
        }
        if backend.is_frozen() {
            backend.frozen(|frozen| frozen.read(&*backend.file, offset, out))
        } else {
            backend.file.read_at(offset, out)
        }
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        let backend = &*self.0;
        backend.change(|| backend.file.set_size(size), |frozen| frozen.resize(&*backend.file, size))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let backend = &*self.0;
        backend.change(
            || backend.file.write_at(offset, bytes),
            |frozen| frozen.write(&*backend.file, offset, bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, Faults, MemDisk};

    fn read(backend: &SharedBackend, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0xee; length];
        backend.read(offset, &mut out).expect("the range is in the file");
        out
    }

    fn on(disk: &MemDisk, guard: &Arc<WriteGuard>) -> SharedBackend {
        let file = disk.open("f").expect("nothing fails yet");
        SharedBackend(Arc::new(Backend::new("f", file, Arc::clone(guard))))
    }

    #[test]
    fn file_freezes_at_the_first_failed_write_and_reads_as_if_it_had_not_failed() {
        let (disk, guard) = (MemDisk::new(), Arc::new(WriteGuard::default()));
        let backend = on(&disk, &guard);
        backend.write(0, &[1; 10_000]).expect("nothing fails yet");
        guard.serve();
        disk.set_faults(Faults { is_read_only: true, ..Faults::default() });
        backend.write(5_000, &[2; 4_000]).expect("the failure is kept from redb");
        disk.set_faults(Faults::default());
        backend.write(20_000, &[3; 10]).expect("goes to memory");
        backend.sync_data().expect("does nothing");
        assert_eq!(disk.read("f"), [1; 10_000], "nothing was written after the failure");
        assert_eq!(read(&backend, 0, 5_000), [1; 5_000]);
        assert_eq!(read(&backend, 5_000, 4_000), [2; 4_000]);
        assert_eq!(read(&backend, 10_000, 10_000), [0; 10_000]);
        assert_eq!(backend.len().expect("known"), 20_010);
        // It is told to everybody, whoever asks first.
        for _ in 0..2 {
            assert!(matches!(guard.check_written(), Err(CommitError::Io { file: "f", .. })));
            let refused = guard.check().expect_err("a write has failed").to_string();
            assert!(refused.contains("cannot write f: "), "{refused}");
        }
    }

    #[test]
    fn bytes_cut_off_in_memory_read_as_zeros_when_the_file_grows_again() {
        let (disk, guard) = (MemDisk::new(), Arc::new(WriteGuard::default()));
        on(&disk, &guard).write(0, &[1; 10_000]).expect("nothing fails");
        let backend = on(&disk, &Arc::new(WriteGuard::frozen()));
        backend.set_len(5_000).expect("in memory");
        backend.set_len(9_000).expect("in memory");
        assert_eq!(read(&backend, 0, 5_000), [1; 5_000]);
        assert_eq!(read(&backend, 5_000, 4_000), [0; 4_000]);
        assert!(backend.read(8_999, &mut [0; 2]).is_err());
        assert_eq!(disk.read("f"), [1; 10_000]);
    }

    #[test]
    fn failure_while_opening_reaches_redb() {
        let (disk, guard) = (MemDisk::new(), Arc::new(WriteGuard::default()));
        let backend = on(&disk, &guard);
        disk.set_faults(Faults { is_read_only: true, ..Faults::default() });
        assert!(backend.write(0, b"x").is_err());
        assert!(guard.check().is_ok());
    }
}
