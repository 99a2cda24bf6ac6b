//! Opening and reading one redb file: what both files of a store have in common.
//!
//! redb may panic on a file that was changed behind its back. Every call that reads goes through [`reading`],
//! which turns a panic into [`ReadError::Damaged`]; nothing of redb leaves this crate.

use std::cell::Cell;
use std::io;
use std::ops::{Deref, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, WriteTransaction};
use tidelock_engine::ports::{CommitError, ReadError};

use crate::backend::{Backend, SharedBackend, WriteGuard};
use crate::disk::Disk;
use crate::open::OpenError;
use crate::schema::{ENTRIES, META, META_FORMAT};

/// What redb calls the entries of a file at one moment.
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The entries of a file at one moment. While it lives, redb keeps every page that it can reach, and the file
/// stays open even when another one has taken its place.
#[derive(Debug)]
pub(crate) struct Entries {
    table: Table,
    _file: Arc<OpenFile>,
}

impl Deref for Entries {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

/// One redb file of a store. A compacted copy may take its place while it is read.
#[derive(Debug)]
pub(crate) struct File {
    name: &'static str,
    open: RwLock<Arc<OpenFile>>,
}

/// The file as it is open now.
#[derive(Debug)]
struct OpenFile {
    name: &'static str,
    /// Present until the file is dropped.
    database: Option<Database>,
    backend: Arc<Backend>,
}

/// How a file is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) name: &'static str,
    pub(crate) guard: Arc<WriteGuard>,
    pub(crate) cache_bytes: usize,
}

impl Opening<'_> {
    /// Makes a file whose `meta` holds `meta`, and which has no entries.
    pub(crate) fn create(&self, meta: &[(&str, &[u8])]) -> Result<(), OpenError> {
        self.create_filled(meta, |_| Ok(()))
    }

    /// Makes a file whose `meta` holds `meta`, with what `write` writes to it. It has its name only once it is
    /// complete, so that a crash or an error leaves a whole file or none.
    pub(crate) fn create_filled<T, E: From<OpenError>>(
        &self,
        meta: &[(&str, &[u8])],
        write: impl FnOnce(File) -> Result<T, E>,
    ) -> Result<T, E> {
        let file = self.begin_new()?;
        file.write(Durability::Immediate, |transaction| {
            transaction.open_table(ENTRIES)?;
            let mut table = transaction.open_table(META)?;
            for (key, value) in meta {
                table.insert(*key, *value)?;
            }
            Ok(())
        })
        .map_err(|source| self.io(source))?;
        let written = write(file)?;
        self.disk.rename(&self.new_name(), self.name).map_err(|source| self.io(source))?;
        Ok(written)
    }

    /// The name that a file has until it is whole.
    pub(crate) fn new_name(&self) -> String {
        format!("{}.new", self.name)
    }

    /// Makes an empty file that has not its name yet; one that was begun before is gone.
    pub(crate) fn begin_new(&self) -> Result<File, OpenError> {
        self.remove_new()?;
        let open = self.open_redb(&self.new_name())?;
        Ok(File { name: self.name, open: RwLock::new(Arc::new(open)) })
    }

    /// Removes what was begun and never became whole.
    pub(crate) fn remove_new(&self) -> Result<(), OpenError> {
        let new_name = self.new_name();
        if self.disk.exists(&new_name).map_err(|source| self.io(source))? {
            self.disk.remove(&new_name).map_err(|source| self.io(source))?;
        }
        Ok(())
    }

    /// Opens a file that was made by [`Opening::create`], if its version is one that we know.
    pub(crate) fn open(&self, formats: RangeInclusive<u32>) -> Result<File, OpenError> {
        let open = self.open_redb(self.name)?;
        let file = File { name: self.name, open: RwLock::new(Arc::new(open)) };
        let found = file.meta(META_FORMAT)?;
        match found.as_deref().map(TryInto::try_into) {
            Some(Ok(found)) if formats.contains(&u32::from_be_bytes(found)) => Ok(file),
            Some(Ok(found)) => {
                let found = u32::from_be_bytes(found);
                Err(OpenError::Version { file: self.name, found, known: *formats.end() })
            }
            _ => Err(OpenError::damaged(self.name, "it has no format version")),
        }
    }

    fn open_redb(&self, name: &str) -> Result<OpenFile, OpenError> {
        let file = self.disk.open(name).map_err(|source| self.io(source))?;
        let backend = Arc::new(Backend::new(self.name, file, Arc::clone(&self.guard)));
        let shared = SharedBackend(Arc::clone(&backend));
        let cache_bytes = self.cache_bytes;
        let open = move || Database::builder().set_cache_size(cache_bytes).create_with_backend(shared);
        let database = reading(self.name, open).map_err(|error| match error {
            ReadError::Io { source, .. } => self.io(source),
            error => error.into(),
        })?;
        Ok(OpenFile { name: self.name, database: Some(database), backend })
    }

    pub(crate) fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { file: self.name, source }
    }
}

impl File {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The entries as of the last commit.
    pub(crate) fn entries(&self) -> Result<Entries, ReadError> {
        let file = self.open();
        let table = reading(self.name, || -> Result<_, redb::Error> {
            Ok(file.database().begin_read()?.open_table(ENTRIES)?)
        })?;
        Ok(Entries { table, _file: file })
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let file = self.open();
        reading(self.name, || -> Result<_, redb::Error> {
            let table = match file.database().begin_read()?.open_table(META) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// All of `meta`.
    pub(crate) fn all_meta(&self) -> Result<Vec<(String, Vec<u8>)>, ReadError> {
        let file = self.open();
        reading(self.name, || -> Result<_, redb::Error> {
            let table = file.database().begin_read()?.open_table(META)?;
            let all = table
                .iter()?
                .map(|item| item.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())));
            Ok(all.collect::<Result<_, _>>()?)
        })
    }

    /// Writes in one transaction. An `Ok` means only that redb took it: ask the write guard whether the disk
    /// did.
    pub(crate) fn write(
        &self,
        durability: Durability,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), io::Error> {
        let file = self.open();
        let result = catch(|| -> Result<(), redb::Error> {
            let mut transaction = file.database().begin_write()?;
            transaction.set_durability(durability)?;
            write(&transaction)?;
            Ok(transaction.commit()?)
        });
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(redb::Error::Io(error))) => Err(error),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(panic) => Err(io::Error::other(panic)),
        }
    }

    /// Writes as [`File::write`], and freezes the store's files if that fails.
    ///
    /// # Errors
    /// The store is poisoned.
    pub(crate) fn commit(
        &self,
        guard: &WriteGuard,
        durability: Durability,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), CommitError> {
        guard.check()?;
        if let Err(source) = self.write(durability, write) {
            guard.freeze(self.name, source);
            return guard.check_written();
        }
        // Another file may have failed meanwhile, or this one behind the sync, as redb cuts it or tidies up; this
        // commit is in its file, or is not.
        let backend = &self.open().backend;
        let is_synced = matches!(durability, Durability::Immediate) && backend.has_synced();
        if is_synced || !backend.is_diverted() { Ok(()) } else { guard.check_written() }
    }

    /// Reads every page and compares it with its checksum; `false` if redb had to go back to an earlier state.
    pub(crate) fn verify(&mut self) -> Result<bool, ReadError> {
        let name = self.name;
        reading(name, || self.alone().check_integrity())
    }

    /// Moves pages from the end of the file to where there is room, and cuts it there.
    pub(crate) fn compact(&mut self) -> Result<(), ReadError> {
        let name = self.name;
        reading(name, || self.alone().compact().map(drop))
    }

    /// What redb has open, of a file that nobody reads yet.
    fn alone(&mut self) -> &mut Database {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        let open = Arc::get_mut(open).expect("nobody reads it yet");
        open.database.as_mut().expect("it is present until the drop")
    }

    /// Opens the file that has the name now, in the place of the one that had it. Whoever reads that one goes on;
    /// it is closed behind the last of them, and nothing is written to it any more.
    pub(crate) fn reopen(&self, opening: &Opening<'_>) -> Result<(), OpenError> {
        let open = Arc::new(opening.open_redb(self.name)?);
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.backend.count_syncs(slot.backend.syncs());
        slot.backend.retire();
        *slot = open;
        Ok(())
    }

    /// Neither reads nor writes any more, until another open file is [put in its place](File::put).
    pub(crate) fn let_go(&self) {
        self.open().backend.let_go();
    }

    /// Takes the place of what is open.
    pub(crate) fn put(&self, other: &Self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = other.open();
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        self.open().backend.size()
    }

    /// The number of syncs of it.
    pub(crate) fn syncs(&self) -> u64 {
        self.open().backend.syncs()
    }

    fn open(&self) -> Arc<OpenFile> {
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OpenFile {
    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is present until the drop")
    }
}

impl Drop for OpenFile {
    /// Closing a damaged file may make redb panic; that must not stop whoever moves the file aside.
    fn drop(&mut self) {
        let database = self.database.take();
        if let Err(what) = catch(|| drop(database)) {
            tracing::warn!(file = self.name, what, "the file was not closed in order");
        }
    }
}

/// Writes an entry, or removes it without a value; answers by how many bytes the entries grew.
pub(crate) fn put(
    table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<i64, redb::Error> {
    let replaced = match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    let bytes = |value: &[u8]| i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
    Ok(value.map_or(0, bytes) - replaced.map_or(0, |replaced| bytes(replaced.value())))
}

/// Reads from redb; an error or a panic says what it means for the file.
pub(crate) fn reading<T, E: Into<redb::Error>>(
    file: &'static str,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, ReadError> {
    match catch(read) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.into() {
            redb::Error::Io(source) if !is_damage(source.kind()) => ReadError::Io { file, source },
            redb::Error::PreviousIo => {
                // redb answers nothing more once a read failed, whatever has become of the disk since.
                let text =
                    "an earlier read of it failed; restart the node, which makes rows.redb again if need be";
                ReadError::Io { file, source: io::Error::other(text) }
            }
            error => ReadError::Damaged { file, what: error.to_string() },
        }),
        Err(what) => Err(ReadError::Damaged { file, what }),
    }
}

/// A file that ends early or begins wrongly is not the disk's failure to answer.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a call of redb whose panic becomes an error. A program's panic hook may keep
/// silent then: the error says what happened.
pub fn is_guarded() -> bool {
    IS_GUARDED.get()
}

/// A panic of redb leaves nothing of ours half changed: the closures only read our data, and redb refuses to
/// go on with what it was doing.
fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    IS_GUARDED.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("redb cannot read it ({text})")
    })
}
