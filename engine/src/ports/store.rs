//! The durable store as the engine sees it: rows and log are read through a port and written as one batch.
//!
//! The log is the database: a commit appends frames, and rows are what applying the frames in commit order
//! gives. So a store may write its rows later than its log, as long as a reader never sees the difference.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::causality::{Dot, Heads, Hlc};
use crate::draft::Changes;
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, KeyspaceName, ReplicaId};
use crate::install::Install;
use crate::ports::{Due, Milestone, RaftWrite, RowRange, scan_deadlines};
use crate::row::{Fingerprint, Kind, Payload, RowId};
use crate::staged::Staged;

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
    /// Another node could not read, and this is what it says of it.
    #[error("{0}")]
    Elsewhere(String),
}

/// As its text: what it is about is on the node where it happened.
impl Serialize for ReadError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReadError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Elsewhere)
    }
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

    /// What has a deadline up to this moment has expired.
    fn expiry(&self) -> Hlc;

    /// The same, of one keyspace: the keys of a strong one expire by a clock of its own.
    fn expiry_of(&self, _: KeyspaceId) -> Hlc {
        self.expiry()
    }

    /// Whether any key of a keyspace may have a deadline. Yes is never wrong, no saves looking.
    fn has_deadlines(&self, _: KeyspaceId) -> bool {
        true
    }

    /// Visits the deadlines of a keyspace that are behind `after` and not behind `until_ms`, in order of time and then
    /// of key, until told to stop. A key has one for each EXPIRE that no other has observed.
    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        scan_deadlines(self, keyspace, (after, until_ms), visit)
    }

    /// Visits the entries of the order of a sorted set, from one on, in their order, until told to stop: derived rows,
    /// kept by [`crate::draft::Draft`].
    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;

    /// The number of keys that exist in a keyspace; 0 when it is not known here.
    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError>;

    /// The bytes of keys, elements, fields and values of all rows of a keyspace, as [`Payload::bytes`] counts them; 0
    /// when it is not known here.
    fn bytes(&self, _: KeyspaceId) -> Result<u64, ReadError> {
        Ok(0)
    }
}

/// A frame in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFrame {
    /// Its place in this node's commit order.
    pub position: LogPosition,
    /// Its bytes, as signed.
    pub bytes: Arc<[u8]>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The position of the last record.
    pub position: LogPosition,
    /// The bytes of all records up to there, those included that are not held any more.
    pub total_bytes: u64,
}

/// What one record of the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A frame, as signed.
    Frame(Arc<[u8]>),
    /// State that was taken over, as [`Install::encode`] writes it.
    Install(Arc<[u8]>),
    /// State that waits until all of it is there, as [`Staged::encode`] writes it. It changes no rows.
    Staged(Arc<[u8]>),
    /// Nothing any more: it was of a keyspace that the node has left.
    Dropped,
}

impl LogEntry {
    /// The keyspace that it is of, if it decodes.
    pub fn keyspace(&self) -> Option<KeyspaceId> {
        match self {
            Self::Frame(bytes) => Frame::place(bytes).map(|(keyspace, _)| keyspace),
            Self::Install(bytes) => Install::decode(bytes).ok().map(|install| install.keyspace),
            Self::Staged(bytes) => Staged::decode(bytes).ok().map(|staged| staged.keyspace),
            Self::Dropped => None,
        }
    }

    /// The bytes of what it holds.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) | Self::Install(bytes) | Self::Staged(bytes) => bytes,
            Self::Dropped => &[],
        }
    }
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place in this node's commit order.
    pub position: LogPosition,
    /// The highest clock of the node when it was committed.
    pub clock: Hlc,
    /// The bytes of all entries up to and including this one, those included that are not held any more.
    pub total_bytes: u64,
    /// What it holds.
    pub entry: LogEntry,
}

impl LogRecord {
    /// The bytes of the frame, if it is one.
    pub fn frame(&self) -> Option<&Arc<[u8]>> {
        match &self.entry {
            LogEntry::Frame(bytes) => Some(bytes),
            LogEntry::Install(_) | LogEntry::Staged(_) | LogEntry::Dropped => None,
        }
    }

    /// The bytes of what it holds.
    pub fn bytes(&self) -> &[u8] {
        self.entry.bytes()
    }
}

/// The frames that a node holds, in its own commit order, which is causal.
///
/// The oldest records may be missing: those before [`Log::first`]. What is missing of an author is at or below its
/// floor.
pub trait Log {
    /// The frames of `keyspace` that somebody lacks who has each author of `after` up to the given seq, in
    /// commit order, up to about `bytes_max` but at least one if there is any. Other authors are left out, and
    /// those of whom so much is below the floor.
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError>;

    /// The frame that holds the operation `dot`; `None` if it is at or below its author's floor.
    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError>;

    /// The records from a position on, or from the first one that is held, in commit order, at most `count_max`.
    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError>;

    /// The position of the first record that is held, or would be; from 1.
    fn first(&self) -> LogPosition;

    /// Where the log ends.
    fn end(&self) -> LogEnd;

    /// The seq up to which frames of an author may be missing: they were truncated, or learned as state. 0 if none.
    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64;

    /// The card of a replica whose frames are here.
    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError>;

    /// Whether a keyspace was left, and some of its rows and records are still there, which go little by little.
    fn is_dropping(&self, keyspace: KeyspaceId) -> bool;
}

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// From memory: visible to readers at once, on disk after the next [`Store::sync`].
    Buffered,
    /// After the disk has it.
    #[default]
    Durable,
}

/// What the operator chose for a keyspace while the node ran. It goes before what the node was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The node replicates it.
    Join,
    /// The node does not, and takes it in from nobody.
    Leave,
}

/// What is done with a decision in an eventual keyspace, where other replicas may decide otherwise at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conditional {
    /// It is refused: only a strong keyspace can decide.
    #[default]
    Strong,
    /// It is decided by what this replica sees.
    Local,
}

/// How far a store's replica had written when it left a keyspace. Its next operation there follows these, whenever
/// that is: a dot is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The replica.
    pub replica: ReplicaId,
    /// The seq of its last operation.
    pub seq: u64,
    /// Whether a peer had all of them on disk. If none had, they may be lost, and the replica cannot go on behind
    /// them.
    pub is_held: bool,
}

/// What a node remembers of a keyspace beside what is in it, also when nothing of it is there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether it is replicated, if the operator has said so.
    pub choice: Option<Choice>,
    /// What its rows may take, in bytes, if the operator has said so; [`u64::MAX`] is without a limit.
    pub quota_bytes: Option<u64>,
    /// What is done with decisions, if the operator has said so.
    pub conditional: Option<Conditional>,
    /// How far this node had written in it when it was left last.
    pub written: Option<Written>,
}

/// What is remembered of the mode of one keyspace has this many bytes at most.
pub const MODE_BYTES_MAX: usize = 1 << 20;

/// What a store remembers of its own membership has this many bytes at most.
pub const ANCHOR_BYTES_MAX: usize = 1 << 10;

/// All that one turn writes. It is committed whole or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keyspaces that are new here, or that are joined again. In one of them in which the store's replica has written
    /// before it was left, state is being taken over from then on.
    pub keyspaces: Vec<KeyspaceName>,
    /// What is remembered of keyspaces from now on. One that is left with it is there no more, and what it held is
    /// dropped, now or little by little.
    pub settings: Vec<(KeyspaceName, Settings)>,
    /// What is remembered of the modes of keyspaces from now on, each at most [`MODE_BYTES_MAX`] long. The store does
    /// not read it. It is kept for keyspaces that are not held, too.
    pub modes: Vec<(KeyspaceName, Vec<u8>)>,
    /// Cards of authors whose first frame here is in this batch.
    pub cards: Vec<AuthorCard>,
    /// The frames, in the order in which they were applied.
    pub frames: Vec<Frame>,
    /// State that was taken over, each with the number of frames that were applied before it.
    pub installs: Vec<(usize, Install)>,
    /// State that waits in the log, before the frames.
    pub staged: Vec<Staged>,
    /// What applying the frames changed.
    pub changes: Changes,
    /// The clock after the turn.
    pub clock: Hlc,
    /// What has a deadline up to this moment has expired from now on; `None` where that stays as it was. It hardly
    /// ever goes back.
    pub expiry: Option<Hlc>,
    /// What changes in the log of the Raft group, in this order.
    pub raft: Vec<RaftWrite>,
    /// How far that log is applied once this batch is committed, as [`RaftLogState::applied`] has it from then on;
    /// `None` where that stays.
    ///
    /// [`RaftLogState::applied`]: crate::ports::RaftLogState::applied
    pub raft_applied: Option<Vec<u8>>,
    /// What the store remembers of its own membership in the Raft group from now on, at most [`ANCHOR_BYTES_MAX`]
    /// long. The store does not read it.
    pub anchor: Option<Vec<u8>>,
}

impl Batch {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        let Self { keyspaces, settings, modes, cards, frames, installs, staged, expiry, .. } = self;
        let names_nothing =
            keyspaces.is_empty() && settings.is_empty() && modes.is_empty() && cards.is_empty();
        let logs_nothing = frames.is_empty() && installs.is_empty() && staged.is_empty();
        expiry.is_none() && names_nothing && logs_nothing && !self.is_of_raft()
    }

    /// Whether it changes anything that a restored or copied store forgets.
    pub fn is_of_raft(&self) -> bool {
        !self.raft.is_empty() || self.raft_applied.is_some() || self.anchor.is_some()
    }

    /// When it is acknowledged if `asked` for that. What Raft writes is reported durable to the other anchors, and so
    /// is never left in memory.
    pub fn durability(&self, asked: Durability) -> Durability {
        if self.raft.is_empty() && self.anchor.is_none() { asked } else { Durability::Durable }
    }

    /// Whether all of it is made again from Raft's log, or comes again from peers, if it is lost before it is on disk:
    /// nothing in it was made or ordered here, on the replica `own`.
    pub fn is_repeatable(&self, own: ReplicaId) -> bool {
        let is_own = |frame: &Frame| frame.header().author == own;
        self.raft_applied.is_some() && self.settings.is_empty() && !self.frames.iter().any(is_own)
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
    /// There is no room on the disk. Nothing was written, and nothing will have been; reads go on.
    #[error("{file} cannot grow, for the disk is full; make room, and the node takes writes again by itself")]
    Full {
        /// The file.
        file: &'static str,
    },
    /// An earlier write failed, so nothing of this one was written.
    #[error("the store takes no more writes since an earlier one failed ({reason}); restart the node")]
    Poisoned {
        /// Why it failed.
        reason: String,
    },
}

impl Settings {
    /// Whether `replica`, which stands at `seq`, has written more than that before the keyspace was left.
    pub fn is_behind(&self, replica: ReplicaId, seq: u64) -> bool {
        self.written.is_some_and(|written| written.replica == replica && written.seq > seq)
    }
}

/// A keyspace as the store holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceState {
    /// The fingerprint of its rows.
    pub fingerprint: Fingerprint,
    /// The last applied frame of each author.
    pub heads: Heads,
    /// Whether state is being taken over, and the rows are those of no version vector.
    pub is_partial: bool,
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
    /// What is remembered of keyspaces, also of those that were left.
    pub settings: BTreeMap<KeyspaceName, Settings>,
    /// What is remembered of the modes of keyspaces, also of those that are not held.
    pub modes: BTreeMap<KeyspaceName, Vec<u8>>,
    /// What the store remembers of its own membership in the Raft group. One that is a copy, was restored or
    /// [rejoined](Store::rejoin) has none: it is another anchor, if any, and has none of Raft's log.
    pub anchor: Option<Vec<u8>>,
    /// The highest clock value that was persisted.
    pub clock: Hlc,
    /// What has a deadline up to this moment has expired.
    pub expiry: Hlc,
    /// The position of the last frame in the log.
    pub position: LogPosition,
    /// Why no writes are taken, if the replica was found to have two histories.
    pub fork: Option<Fork>,
}

/// The durable store.
pub trait Store: Rows + Log {
    /// The state after all that was committed, as of opening.
    fn recovered(&self) -> Recovered;

    /// Commits a batch; answers the log position of its last frame. It is acknowledged as [`Batch::durability`] says.
    ///
    /// # Errors
    /// [`CommitError`]: nothing of the batch is visible.
    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError>;

    /// Makes all that was committed durable.
    fn sync(&mut self) -> Result<(), CommitError>;

    /// Lets go of the records up to a position, now or little by little, and never of the last one or of what
    /// the rows on disk do not have yet.
    fn truncate(&mut self, until: LogPosition);

    /// Remembers, durably, that the store's replica has two histories, until [`Store::rejoin`].
    ///
    /// # Errors
    /// [`CommitError`]: it may be forgotten at the next opening.
    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError>;

    /// Makes the store another replica's, durably: frames are written as `card` from now on, which proves one that
    /// never wrote anything. All that is there stays as it is, but what it has of a Raft group, which is forgotten: the
    /// votes of the former one are not its own.
    ///
    /// # Errors
    /// [`CommitError`]: which of the two replicas it is shows at the next opening.
    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError>;
}
