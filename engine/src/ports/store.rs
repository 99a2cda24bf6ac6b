//! The durable store as the engine sees it: rows and log are read through a port and written as one batch.
//!
//! The log is the database: a commit appends frames, and rows are what applying the frames in commit order
//! gives. So a store may write its rows later than its log, as long as a reader never sees the difference.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;

use crate::causality::{Dot, Heads, Hlc};
use crate::draft::Changes;
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, KeyspaceName, ReplicaId};
use crate::ports::RowRange;
use crate::row::{Fingerprint, Kind, Payload, RowId};

/// A place in a node's log: the number of its records up to and including this one. Local to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

/// Why rows or frames could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What is stored does not match its checksum or does not decode; no value of it was served.
    #[error("{file} is damaged: {what}; stop the node and run `tidelock check` on its folder")]
    Damaged {
        /// The file.
        file: &'static str,
        /// What was found.
        what: String,
    },
    /// The disk did not answer; nothing was changed.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

/// What a scan does with each row it visits.
pub type Visit<'a> = dyn FnMut(RowId, Payload) -> ControlFlow<()> + 'a;

/// The rows at one moment. Reading changes nothing.
pub trait Rows {
    /// The payload of one row, if it is there.
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError>;

    /// Visits rows in order of key, kind and subkey, until told to stop. The order of the dots within one
    /// group is the store's own and means nothing.
    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError>;

    /// The number of elements or fields under a key: a derived row, kept by [`crate::draft::Draft`].
    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError>;

    /// The number of keys that exist in a keyspace; 0 when it is not known here.
    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError>;
}

/// A frame in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFrame {
    /// Its place in this node's commit order.
    pub position: LogPosition,
    /// Its bytes, as signed.
    pub bytes: Arc<[u8]>,
}

/// The frames that a node holds, in its own commit order, which is causal.
pub trait Log {
    /// The frames of `keyspace` that somebody lacks who has each author of `after` up to the given seq, in
    /// commit order, up to about `bytes_max` but at least one if there is any. Other authors are left out.
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError>;

    /// The frame that holds the operation `dot`.
    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError>;

    /// The frames of every keyspace from a position on, in commit order, at most `count_max`.
    fn frames_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LoggedFrame>, ReadError>;

    /// The card of a replica whose frames are here.
    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError>;
}

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// From memory: visible to readers at once, on disk after the next [`Store::sync`].
    Buffered,
    /// After the disk has it.
    #[default]
    Durable,
}

/// All that one turn writes. It is committed whole or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keyspaces that are new here.
    pub keyspaces: Vec<KeyspaceName>,
    /// Cards of authors whose first frame here is in this batch.
    pub cards: Vec<AuthorCard>,
    /// The frames, in the order in which they were applied.
    pub frames: Vec<Frame>,
    /// What applying the frames changed.
    pub changes: Changes,
    /// The clock after the turn.
    pub clock: Hlc,
}

impl Batch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.keyspaces.is_empty() && self.cards.is_empty() && self.frames.is_empty()
    }
}

/// Why a batch was not committed. Nothing of it is visible, and nothing may be acknowledged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The disk refused or failed. What a failed write left behind is unknown until the store is opened again,
    /// so the store takes no more writes; reads go on.
    #[error("cannot write {file}: {source}; the node takes no more writes until it is restarted")]
    Io {
        /// The file.
        file: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// An earlier commit failed.
    #[error("the store takes no more writes since an earlier one failed; restart the node")]
    Poisoned,
}

/// A keyspace as the store holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceState {
    /// The fingerprint of its rows.
    pub fingerprint: Fingerprint,
    /// The last applied frame of each author.
    pub heads: Heads,
}

/// Proof that the store's own replica has two histories: it was copied, or put back from an older state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it was found out first.
    pub keyspace: KeyspaceId,
    /// The first operation that somebody else has and we do not, or have otherwise.
    pub seq: u64,
}

/// All that the engine needs to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose store this is.
    pub card: AuthorCard,
    /// The keyspaces by name.
    pub keyspaces: BTreeMap<KeyspaceName, KeyspaceState>,
    /// The highest clock value that was persisted.
    pub clock: Hlc,
    /// The position of the last frame in the log.
    pub position: LogPosition,
    /// Why no writes are taken, if the replica was found to have two histories.
    pub fork: Option<Fork>,
}

/// The durable store.
pub trait Store: Rows + Log {
    /// The state after all that was committed, as of opening.
    fn recovered(&self) -> Recovered;

    /// Commits a batch; answers the log position of its last frame.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of the batch is visible.
    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError>;

    /// Makes all that was committed durable.
    fn sync(&mut self) -> Result<(), CommitError>;

    /// Remembers, durably, that the store's replica has two histories, until [`Store::rejoin`].
    ///
    /// # Errors
    /// [`CommitError`]: it may be forgotten at the next opening.
    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError>;

    /// Makes the store another replica's, durably: frames are written as `card` from now on, which proves one that
    /// never wrote anything. All that is there stays as it is.
    ///
    /// # Errors
    /// [`CommitError`]: which of the two replicas it is shows at the next opening.
    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError>;
}
