//! The node's secret key on disk: made once, readable by its owner alone.
//!
//! The file holds the 32 bytes that an ed25519 key follows from, in hexadecimal. It is the node's identity to
//! its peers and signs its operations; whoever has it is the node. It never reaches a log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidelock_engine::frame::SigningKey;

/// The name of the key file in a data directory.
pub(crate) const KEY_FILE: &str = "key";

/// Why a node has no identity. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The directory or file cannot be read or made.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file can be read by others, so the key may be known to them.
    #[error("{path} can be read by others (mode {mode:o}); make it 0600, and a new key if somebody did")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("{path} does not hold 64 hexadecimal digits; restore it from a backup")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("cannot draw random numbers: {0}")]
    Random(getrandom::Error),
}

/// Reads the key of a data directory, making directory and key if there are none.
///
/// # Errors
/// [`IdentityError`] says which file, and what to do.
pub fn load_or_make(data: &Path) -> Result<SigningKey, IdentityError> {
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(io_error(data))?;
    let path = data.join(KEY_FILE);
    match File::open(&path) {
        Ok(file) => read(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = random_bytes()?;
            make(data, &path, seed).map_err(io_error(&path))?;
            Ok(SigningKey::from_seed(seed))
        }
        Err(source) => Err(IdentityError::Io { path, source }),
    }
}

/// Random bytes of the system.
///
/// # Errors
/// [`IdentityError::Random`].
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(bytes)
}

fn read(path: &Path, mut file: File) -> Result<SigningKey, IdentityError> {
    let io_error = |source| IdentityError::Io { path: path.to_owned(), source };
    let mode = file.metadata().map_err(io_error)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io_error)?;
    let seed = decode(text.trim()).ok_or_else(|| IdentityError::Malformed { path: path.to_owned() })?;
    Ok(SigningKey::from_seed(seed))
}

/// The key appears under its name only when all of it is on disk.
fn make(data: &Path, path: &Path, seed: [u8; 32]) -> io::Result<()> {
    let new = data.join(format!("{KEY_FILE}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    for byte in seed {
        write!(file, "{byte:02x}")?;
    }
    writeln!(file)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(data)?.sync_all()
}

fn decode(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut seed = [0; 32];
    for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("node");
        let made = load_or_make(&data).expect("a new key");
        let read = load_or_make(&data).expect("the same key");
        assert_eq!(made.peer(), read.peer());
        let rights = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((rights(&data), rights(&data.join(KEY_FILE))), (0o700, 0o600));
    }

    #[test]
    fn key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        load_or_make(folder.path()).expect("a new key");
        let path = folder.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
        assert!(matches!(load_or_make(folder.path()), Err(IdentityError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn damaged_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, "not a key").expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        assert!(matches!(load_or_make(folder.path()), Err(IdentityError::Malformed { .. })));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "not a key");
    }
}
