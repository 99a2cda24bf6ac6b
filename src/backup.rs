//! Backups as files: written beside their name and given it when they are whole, restored into a new folder, listed.
//!
//! A backup holds no key. A restored node has a new one, and so a new peer id, unless it is given that of the node
//! that it replaces. In either case its replica is new.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tidelock_engine::id::PeerId;
pub use tidelock_store::{BackupProgress, BackupReadError, BackupSummary, RestoreProgress};
use tidelock_store::{FileDisk, RestoreError, RestoreOptions, inspect, restore};

use crate::identity::{self, IdentityError};
use crate::node::Node;

/// What is read of a backup at a time, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Why there is no backup, or why one was not restored. Nothing that was there before was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupFileError {
    /// There is something at the place.
    #[error("{path} exists; choose another name")]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A folder that must be empty is not.
    #[error("{path} is not empty; restore into a new folder")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The store cannot be backed up, in its own words.
    #[error("{0}")]
    Store(String),
    /// The backup cannot be used.
    #[error("{path}: {source}")]
    Backup {
        /// The backup.
        path: PathBuf,
        /// The cause.
        source: BackupReadError,
    },
    /// The backup was not restored.
    #[error("{path}: {source}; nothing was restored")]
    Restore {
        /// The backup.
        path: PathBuf,
        /// The cause.
        source: RestoreError,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A file that has its name only once it is whole. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
}

impl NewFile {
    /// Begins a file that its owner alone can read.
    ///
    /// # Errors
    /// There is one of that name, or it cannot be made.
    pub fn begin(path: &Path) -> Result<Self, BackupFileError> {
        if path.symlink_metadata().is_ok() {
            return Err(BackupFileError::Exists { path: path.to_owned() });
        }
        let mut name = path.file_name().map(OsString::from).unwrap_or_default();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(io_error(&partial))?;
        Ok(Self { path: path.to_owned(), partial, file })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupFileError> {
        self.file.write_all(bytes).map_err(io_error(&self.partial))
    }

    /// Reads all of it back as a backup, and gives it its name.
    ///
    /// # Errors
    /// It is not a whole backup, or the name was taken meanwhile.
    pub fn finish(self, progress: &mut dyn FnMut(u64)) -> Result<BackupSummary, BackupFileError> {
        self.finish_if(|path| summary(path, progress))
    }

    /// Gives it its name, if it is what it should be.
    pub(crate) fn finish_if<T, E: From<BackupFileError>>(
        self,
        check: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        self.file.sync_all().map_err(io_error(&self.partial))?;
        let checked = check(&self.partial)?;
        // A link, and not a rename, so that nothing is ever replaced.
        fs::hard_link(&self.partial, &self.path).map_err(io_error(&self.path))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))?;
        Ok(checked)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // What is left has a name that says what it is.
        let _ = fs::remove_file(&self.partial);
    }
}

impl Node {
    /// Writes a backup of this node to a new file, while it goes on; says now and then how far it is.
    ///
    /// # Errors
    /// [`BackupFileError`]: there is no file of that name, or one that was there before.
    pub async fn backup(
        &self,
        path: impl Into<PathBuf>,
        mut progress: impl FnMut(BackupProgress) + Send + 'static,
    ) -> Result<BackupSummary, BackupFileError> {
        let path = path.into();
        let store = |error: &dyn std::fmt::Display| BackupFileError::Store(error.to_string());
        let mut backup = self.reader().map_err(|error| store(&error))?.backup(unix_ms());
        let written = tokio::task::spawn_blocking(move || {
            let mut file = NewFile::begin(&path)?;
            while let Some(piece) = backup.next() {
                file.write(&piece.map_err(|error| BackupFileError::Store(error.to_string()))?)?;
                progress(backup.progress());
            }
            file.finish(&mut |_| {})
        });
        written.await.unwrap_or_else(|error| Err(store(&error)))
    }
}

/// Reads a backup to its end.
///
/// # Errors
/// It is damaged, or cannot be read.
pub fn summary(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupSummary, BackupFileError> {
    let file = File::open(path).map_err(io_error(path))?;
    let input = BufReader::with_capacity(READ_BYTES, file);
    inspect(input, progress).map_err(|source| BackupFileError::Backup { path: path.to_owned(), source })
}

/// Makes a data folder of a backup. It is made beside its name, and has it once it is whole.
///
/// # Errors
/// [`BackupFileError`]: the folder is as it was before.
pub fn restore_folder(
    from: &Path,
    data: &Path,
    key: Option<&Path>,
    progress: &mut dyn FnMut(RestoreProgress),
) -> Result<(BackupSummary, PeerId), BackupFileError> {
    let is_empty = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(source) => return Err(BackupFileError::Io { path: data.to_owned(), source }),
    };
    if !is_empty {
        return Err(BackupFileError::NotEmpty { path: data.to_owned() });
    }
    let input = BufReader::with_capacity(READ_BYTES, File::open(from).map_err(io_error(from))?);
    let parent = data.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io_error(parent))?;
    let folder = tempfile::Builder::new().prefix(".tidelock-restore-").tempdir_in(parent);
    let folder = folder.map_err(io_error(parent))?;
    if let Some(key) = key {
        let place = folder.path().join(identity::KEY_FILE);
        fs::copy(key, &place).map_err(io_error(key))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).map_err(io_error(&place))?;
    }
    let key = identity::load_or_make(folder.path())?;
    let options = RestoreOptions { cluster: None, card: key.card(identity::random_bytes()?) };
    let restored = restore(input, &FileDisk::at(folder.path()), &options, progress);
    let summary = restored.map_err(|source| BackupFileError::Restore { path: from.to_owned(), source })?;
    fs::rename(folder.path(), data).map_err(io_error(data))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_error(parent))?;
    // Its name is gone, so there is nothing to remove.
    let _ = folder.keep();
    Ok((summary, key.peer()))
}

/// A backup of a folder, and what it says of itself or why it cannot be used.
pub type Listed = (PathBuf, Result<BackupSummary, BackupFileError>);

/// The backups of a folder by name, each with what it says of itself or why it cannot be used. Files that are no
/// backups are left out.
///
/// # Errors
/// The folder cannot be read.
pub fn backups_in(
    folder: &Path,
    progress: &mut dyn FnMut(&Path, u64),
) -> Result<Vec<Listed>, BackupFileError> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = entries.map_err(io_error(folder))?.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    let found = paths.into_iter().map(|path| {
        let summary = summary(&path, &mut |bytes| progress(&path, bytes));
        (path, summary)
    });
    let is_backup = |summary: &Result<BackupSummary, BackupFileError>| {
        !matches!(summary, Err(BackupFileError::Backup { source: BackupReadError::NoBackup, .. }))
    };
    Ok(found.filter(|(_, summary)| is_backup(summary)).collect())
}

/// A moment as people write it, in UTC.
pub fn date(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    // Source: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

pub(crate) fn unix_ms() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> BackupFileError + use<> {
    let path = path.to_owned();
    move |source| BackupFileError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_right_around_leap_days_and_years() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_000, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (unix_ms, text) in cases {
            assert_eq!(date(unix_ms), text);
        }
    }

    #[test]
    fn new_file_that_is_not_finished_leaves_nothing_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("b");
        let mut file = NewFile::begin(&path).expect("a new name");
        file.write(b"no backup").expect("it is ours");
        assert!(matches!(file.finish(&mut |_| {}), Err(BackupFileError::Backup { .. })));
        assert_eq!(fs::read_dir(folder.path()).expect("it is ours").count(), 0);
        fs::write(&path, "mine").expect("it is ours");
        assert!(matches!(NewFile::begin(&path), Err(BackupFileError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
    }

    #[test]
    fn folder_with_something_in_it_is_not_restored_into() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("mine"), "mine").expect("it is ours");
        let refused = restore_folder(Path::new("/nowhere"), folder.path(), None, &mut |_| {});
        assert!(matches!(refused, Err(BackupFileError::NotEmpty { .. })), "{refused:?}");
    }
}
