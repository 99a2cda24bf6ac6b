//! Why a store is not opened.

use thiserror::Error;
use tidelock_engine::frame::FrameError;
use tidelock_engine::id::ClusterId;
use tidelock_engine::ports::{CommitError, ReadError};

use crate::disk::LockError;

/// Why a store was not opened. What it holds was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it, or the directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It belongs to another cluster.
    #[error("the store is of cluster {found}, not of {asked}; choose another directory")]
    OtherCluster {
        /// The cluster of the store.
        found: ClusterId,
        /// The cluster that was asked for.
        asked: ClusterId,
    },
    /// It was made with another identity, which alone may sign for it.
    #[error("the store was made with another key; open it with that one, or choose another directory")]
    OtherKey,
    /// It is a copy, and the card it was to take is not new.
    #[error("the store is a copy and needs a new replica, and the one that was offered has written already")]
    UsedCard,
    /// It was written by a version of tidelock that we do not know.
    #[error("{file} has format {found}, this tidelock knows {known}; use the tidelock that wrote it")]
    Version {
        /// The file.
        file: &'static str,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The log is gone while rows are there. To go on would be to use dots twice.
    #[error("log.redb is missing beside rows.redb; restore it, or remove rows.redb to start anew")]
    LogMissing,
    /// The log ends before what was acknowledged: its last pages were damaged, or an older copy was put in its
    /// place. To go on would be to use dots twice.
    #[error(
        "log.redb ends at frame {found}, and {acknowledged} were acknowledged: it was damaged or replaced by an \
         older copy; put the right one back, restore a backup into a new folder with `tidelock restore`, or start \
         anew in an empty one and get the rest from peers"
    )]
    LogShort {
        /// The position up to which writes were acknowledged.
        acknowledged: u64,
        /// The position of the last frame that is there.
        found: u64,
    },
    /// The log lacks something that Raft wrote and that was acknowledged, a vote perhaps. To go on would be to let two
    /// anchors lead.
    #[error(
        "log.redb holds {found} writes of its Raft group, and {acknowledged} were acknowledged: it was damaged or \
         replaced by an older copy; put the right one back, restore a backup into a new folder with \
         `tidelock restore`, or start anew in an empty one and get the rest from peers"
    )]
    RaftLogShort {
        /// How many writes were acknowledged.
        acknowledged: u64,
        /// How many are there.
        found: u64,
    },
    /// A frame in the log cannot be read by this version.
    #[error("the frame at log position {position} cannot be read: {source}")]
    Frame {
        /// Where it is.
        position: u64,
        /// The cause.
        source: FrameError,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Rows that were replayed cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The disk failed.
    #[error("cannot open {file}: {source}")]
    Io {
        /// The file.
        file: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

impl OpenError {
    pub(crate) fn damaged(file: &'static str, what: &str) -> Self {
        ReadError::Damaged { file, what: what.to_owned() }.into()
    }
}
