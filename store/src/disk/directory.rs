//! A disk that is a directory of the file system.
//!
//! The directory is made for its owner alone, and so are the files. A lock on the file `LOCK` keeps a second
//! process out; the operating system drops it when the process ends, however it ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use metrics::Histogram;

use super::{Disk, DiskFile, DiskLock, FileIdentity, LockError};

/// Only the owner may enter the directory of a store: values are not encrypted.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The file that carries the lock; it stays empty.
const LOCK_FILE: &str = "LOCK";

/// The files of one store in a directory.
#[derive(Clone, Debug)]
pub struct FileDisk {
    directory: PathBuf,
}

impl FileDisk {
    /// The disk in `directory`, which is created when the store is opened. Does no IO.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        options.open(self.path(name))
    }

    /// A new or renamed name is durable only when its directory is.
    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn take_lock(&self) -> Result<Option<File>, io::Error> {
        if !self.directory.is_dir() {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory)?;
        }
        let file = self.open_file(LOCK_FILE)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Disk for FileDisk {
    fn lock(&self) -> Result<DiskLock, LockError> {
        let place = || self.directory.display().to_string();
        match self.take_lock() {
            Ok(Some(file)) => Ok(DiskLock::holding(file)),
            Ok(None) => Err(LockError::Held { place: place() }),
            Err(source) => Err(LockError::Io { place: place(), source }),
        }
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        fs::exists(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let is_new = !self.exists(name)?;
        let file = self.open_file(name)?;
        if is_new {
            self.sync_directory()?;
        }
        // A copy that takes the place of a file is that file, however it is called meanwhile.
        let of = name.split('.').next().unwrap_or_default().to_owned();
        let sync_seconds = metrics::histogram!("tidelock_sync_seconds", "file" => of);
        Ok(Box::new(OpenFile { file, sync_seconds }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))?;
        self.sync_directory()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync_directory(),
        }
    }

    fn identity(&self, name: &str) -> io::Result<Option<FileIdentity>> {
        let file = fs::metadata(self.path(name))?;
        let born = file.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|age| u64::try_from(age.as_nanos()).ok());
        Ok(Some(FileIdentity { device: file.dev(), inode: file.ino(), born_ns }))
    }

    fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    sync_seconds: Histogram,
}

impl DiskFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let started = Instant::now();
        let synced = self.file.sync_data();
        self.sync_seconds.record(started.elapsed());
        synced
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn directory_is_made_for_its_owner_alone() {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let disk = FileDisk::at(parent.path().join("a/b"));
        let _lock = disk.lock().expect("the directory is new");
        disk.open("file").expect("the directory is there");
        let mode = |path: &Path| fs::metadata(path).expect("the path is there").permissions().mode() & 0o777;
        assert_eq!(mode(disk.directory()), DIRECTORY_MODE);
        assert_eq!(mode(&disk.path("file")), FILE_MODE);
    }

    #[test]
    fn file_keeps_its_identity_when_it_is_renamed_and_its_copy_has_another() {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let disk = FileDisk::at(parent.path());
        disk.open("a").expect("the directory is there").write_at(0, b"bytes").expect("it is ours");
        let identity = |name| disk.identity(name).expect("the file is there").expect("it has one");
        let first = identity("a");
        fs::copy(disk.path("a"), disk.path("copy")).expect("it is ours");
        assert!(!first.is_same_file(&identity("copy")));
        disk.rename("a", "b").expect("it is ours");
        disk.open("b").expect("it is there").write_at(5, b"more").expect("it is ours");
        assert!(first.is_same_file(&identity("b")));
    }

    #[test]
    fn second_lock_names_the_directory() {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let disk = FileDisk::at(parent.path());
        let first = disk.lock().expect("nobody else has it");
        let refused = disk.lock().expect_err("the first lock is held").to_string();
        assert!(refused.contains(&parent.path().display().to_string()), "{refused}");
        assert!(refused.contains("another process"), "{refused}");
        drop(first);
        disk.lock().expect("the first lock was released");
    }
}
