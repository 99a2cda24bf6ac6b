//! `log.mark`: up to where the log was on disk when somebody was last told so.
//!
//! redb commits in one phase: if the pages of the last commit do not fit their checksums, it takes the file to
//! have been cut off in the middle of that commit and goes on from the one before. A bit that turns in one of
//! these pages so takes back a commit that was acknowledged, and nobody would know: its operations are lost,
//! and their names would be given to others. So the position is written here, after the log's sync and before
//! the acknowledgement. The write is not synced: after a power cut the mark may be older than the log, and is
//! never ahead of it.
//!
//! Bytes: the position of the last frame, u64, and the CRC-32 of that. Anything else says nothing.

use std::io;

use tidelock_engine::ports::LogPosition;

use crate::disk::{Disk, DiskFile};
use crate::open::OpenError;
use crate::schema::MARK_FILE;

const MARK_BYTES: usize = 12;

/// The file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: Box<dyn DiskFile>,
}

impl Mark {
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<Self> {
        Ok(Self { file: disk.open(MARK_FILE)? })
    }

    /// What it says; `None` when it says nothing.
    pub(crate) fn read(&self) -> Option<LogPosition> {
        let mut bytes = [0; MARK_BYTES];
        self.file.read_at(0, &mut bytes).ok()?;
        let (position, crc) = bytes.split_first_chunk::<8>()?;
        let is_whole = crc == crc32fast::hash(position).to_be_bytes();
        is_whole.then(|| LogPosition(u64::from_be_bytes(*position)))
    }

    /// Whether the log, which ends at `found`, holds all that was acknowledged.
    ///
    /// # Errors
    /// It does not; `found` is where its last pages were lost.
    pub(crate) fn is_reached(&self, found: LogPosition) -> Result<(), OpenError> {
        match self.read().filter(|acknowledged| *acknowledged > found) {
            Some(acknowledged) => Err(OpenError::LogShort { acknowledged: acknowledged.0, found: found.0 }),
            None => Ok(()),
        }
    }

    /// Says that the log is on disk up to `position`.
    pub(crate) fn set(&self, position: LogPosition) {
        let position = position.0.to_be_bytes();
        let bytes = [&position[..], &crc32fast::hash(&position).to_be_bytes()].concat();
        if let Err(error) = self.file.write_at(0, &bytes) {
            // The log is on disk; an older mark only sees less.
            tracing::debug!(%error, "cannot write log.mark");
        }
    }
}
