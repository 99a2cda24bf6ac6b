//! `log.mark`: up to where the log was on disk when somebody was last told so.
//!
//! redb commits in one phase: if the pages of the last commit do not fit their checksums, it takes the file to
//! have been cut off in the middle of that commit and goes on from the one before. A bit that turns in one of
//! these pages so takes back a commit that was acknowledged, and nobody would know: its operations are lost,
//! and their names would be given to others. So the position is written here, after the log's sync and before
//! the acknowledgement. The write is not synced: after a power cut the mark may be older than the log, and is
//! never ahead of it.
//!
//! What Raft writes has no position, and a vote that was taken back elects two leaders. So the commits that changed
//! anything of a Raft group are counted in the log, and their number is written here, too.
//!
//! Bytes: the position of the last frame, u64, and the CRC-32 of that; then the number of commits of Raft, u64, and the
//! CRC-32 of that. Anything else says nothing.

use std::io;

use tidelock_engine::ports::LogPosition;

use crate::disk::{Disk, DiskFile};
use crate::open::OpenError;
use crate::schema::MARK_FILE;

/// A number and its checksum.
const NUMBER_BYTES: usize = 12;

/// The file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: Box<dyn DiskFile>,
}

/// What is in the log, as far as the mark has to do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The position of the last record.
    pub(crate) position: LogPosition,
    /// The commits that changed anything of a Raft group.
    pub(crate) raft_commits: u64,
}

impl Mark {
    pub(crate) fn open(disk: &dyn Disk) -> io::Result<Self> {
        Ok(Self { file: disk.open(MARK_FILE)? })
    }

    /// What it says; of what it says nothing of, the least.
    pub(crate) fn read(&self) -> Reached {
        let position = LogPosition(self.number(0).unwrap_or(0));
        Reached { position, raft_commits: self.number(NUMBER_BYTES).unwrap_or(0) }
    }

    fn number(&self, at: usize) -> Option<u64> {
        let mut bytes = [0; NUMBER_BYTES];
        self.file.read_at(at as u64, &mut bytes).ok()?;
        let (number, crc) = bytes.split_first_chunk::<8>()?;
        let is_whole = crc == crc32fast::hash(number).to_be_bytes();
        is_whole.then(|| u64::from_be_bytes(*number))
    }

    /// Whether the log, in which `found` is, holds all that was acknowledged.
    ///
    /// # Errors
    /// It does not; `found` is where its last pages were lost.
    pub(crate) fn is_reached(&self, found: Reached) -> Result<(), OpenError> {
        let acknowledged = self.read();
        if acknowledged.position > found.position {
            return Err(OpenError::LogShort {
                acknowledged: acknowledged.position.0,
                found: found.position.0,
            });
        }
        if acknowledged.raft_commits > found.raft_commits {
            return Err(OpenError::RaftLogShort {
                acknowledged: acknowledged.raft_commits,
                found: found.raft_commits,
            });
        }
        Ok(())
    }

    /// Says what of the log is on disk.
    pub(crate) fn set(&self, reached: Reached) {
        let number = |number: u64| {
            let bytes = number.to_be_bytes();
            [&bytes[..], &crc32fast::hash(&bytes).to_be_bytes()].concat()
        };
        let mut bytes = number(reached.position.0);
        if reached.raft_commits > 0 {
            bytes.extend(number(reached.raft_commits));
        }
        if let Err(error) = self.file.write_at(0, &bytes) {
            // The log is on disk; an older mark only sees less.
            tracing::debug!(%error, "cannot write log.mark");
        }
    }
}
