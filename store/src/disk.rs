//! Where the files of a store live: a disk of ours, so that the same store runs on a directory, in memory,
//! and on a memory that loses power.
//!
//! A disk knows named files and a lock. It knows nothing of what the files hold, and never retries.

mod crash;
mod directory;
mod identity;
mod memory;

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;

pub use self::directory::FileDisk;
pub use self::identity::FileIdentity;
pub use self::memory::{Faults, MemDisk};

/// The place of one store's files.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Takes the store for this process, until the lock is dropped. Creates the place if it is missing.
    ///
    /// # Errors
    /// [`LockError`]; nothing but the place itself was created.
    fn lock(&self) -> Result<DiskLock, LockError>;

    /// Whether there is a file of that name.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Opens a file; an empty one is made if it is missing. The name itself is durable when this returns.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing any file of the new name. It is atomic, and durable when this returns. Who has the
    /// replaced file open goes on with that one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file if it is there.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Which file has that name: the same after a rename, another one for a copy. `None` when the place cannot
    /// tell; then copies are found out by peers only.
    fn identity(&self, name: &str) -> io::Result<Option<FileIdentity>>;

    /// The same place once more, for whoever uses it later.
    fn handle(&self) -> Arc<dyn Disk>;
}

/// One open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its length, in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on; an error if the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes `bytes` at `offset`. They are on disk only after [`DiskFile::sync_data`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_size(&self, bytes: u64) -> io::Result<()>;

    /// Returns when all writes before it are on disk.
    ///
    /// # Errors
    /// What of those writes is on disk is unknown then, and a later success says nothing about them.
    fn sync_data(&self) -> io::Result<()>;
}

/// The lock of a store. It is released when this is dropped.
pub struct DiskLock {
    _held: Box<dyn Send + Sync>,
}

impl DiskLock {
    /// A lock that is held as long as `held` lives.
    pub fn holding(held: impl Send + Sync + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for DiskLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskLock")
    }
}

/// Why a store could not be taken. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else has it.
    #[error("{place} is open in another process; stop that one first, or choose another directory")]
    Held {
        /// The directory.
        place: String,
    },
    /// The place cannot be used.
    #[error("cannot use {place}: {source}")]
    Io {
        /// The directory.
        place: String,
        /// The cause.
        source: io::Error,
    },
}
