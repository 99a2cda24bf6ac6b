//! Watching a strong keyspace by revision: every operation once, in order, on whichever node.
//!
//! A strong keyspace has one author, whose operations are numbered without gaps and whose frames are the same wherever they
//! are executed or come to. So, unlike a cursor, a revision means the same on every node, whoever leads. Nothing is queued
//! for a watcher: it reads the log at its own pace, and a slow one costs nobody anything, until what it has not read is
//! let go of.

use std::collections::VecDeque;
use std::sync::Arc;

use thiserror::Error;
use tidelock_engine::causality::Dot;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{Choice, Log, ReadError};
use tidelock_store::Reader;

use super::operation::{StrongOperation, operations_of};
use super::{Strong, StrongError};
use crate::node::Modes;
use crate::watch::WatchRange;
use crate::watch_hub::Tail;

/// The bytes of frames after which one step reads no more of them.
const STEP_BYTES_MAX: usize = 1 << 20;

/// Why a watch cannot go on from where it stands. It may be asked again, or told to go on behind another revision.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StrongWatchError {
    /// This node has let go of operations that were not told, or has learned only what came of them. Another node may hold
    /// them. Else read what was watched, and go on [behind](StrongWatch::after) the revision of that read.
    #[error(
        "operations behind revision {after} are held no more; this node can be watched behind revision {first}"
    )]
    Compacted {
        /// How far the watch was.
        after: u64,
        /// The first revision behind which this node holds all operations.
        first: u64,
    },
    /// The node has left the keyspace.
    #[error("keyspace {0} was left by this node; watch it on another one")]
    Left(KeyspaceName),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The epoch is over in which the keyspace had these revisions, and all operations of it were told.
    #[error("the strong epoch of keyspace {0} is over; all its operations were told")]
    Ended(KeyspaceName),
}

/// The operations of a strong keyspace behind a revision.
///
/// ```no_run
/// # async fn example(node: tidelock::Node) -> Result<(), Box<dyn std::error::Error>> {
/// # fn remembered() -> u64 { 0 }
/// # fn handle(_: &tidelock::keyspace::strong::StrongOperation) {}
/// use tidelock::watch::WatchRange;
/// use tidelock::keyspace::strong::StrongWatchError;
///
/// let orders = node.keyspace("orders")?.strong();
/// // The revision of the last operation that was handled, on whichever node.
/// let mut watch = orders.watch(WatchRange::Prefix(b"order:".to_vec()))?.after(remembered());
/// while let Some(next) = watch.next().await {
///     match next {
///         Ok(operation) => handle(&operation),
///         Err(StrongWatchError::Compacted { .. }) => {
///             let read = orders.stale().get("order:1").await?;
///             watch.go_on_after(read.label.revision);
///         }
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StrongWatch {
    place: Place,
    tail: Tail,
    modes: Arc<Modes>,
    /// All that was watched up to here was told.
    told: u64,
    /// Up to where `ready` goes.
    read: u64,
    ready: VecDeque<StrongOperation>,
}

/// What is watched.
#[derive(Clone, Debug)]
struct Place {
    keyspace: KeyspaceName,
    id: KeyspaceId,
    author: ReplicaId,
    range: WatchRange,
}

/// What a step found, and how far it came.
struct Piece {
    operations: VecDeque<StrongOperation>,
    last: u64,
}

impl Strong {
    /// Watches a key or prefix by revision, from now on or [behind](StrongWatch::after) a revision: every operation that
    /// changed something there is told once, in order. Whoever goes on with the last revision that it has handled, on this
    /// node or another, misses nothing and is told nothing twice, whoever led meanwhile.
    ///
    /// # Errors
    /// [`StrongError`]: the keyspace is not strong, as far as this node knows, or not replicated by it.
    pub fn watch(&self, range: WatchRange) -> Result<StrongWatch, StrongError> {
        let Self { keyspace, .. } = self;
        let mode = keyspace.node.mode(&keyspace.name);
        let author = mode.author.ok_or_else(|| self.not_strong())?;
        let (id, mut tail) = keyspace.node.tail(&keyspace.name)?;
        let told = tail.look().map_or(0, |reader| reader.seq(id, author));
        let place = Place { keyspace: keyspace.name.clone(), id, author, range };
        let modes = keyspace.node.modes();
        Ok(StrongWatch { place, tail, modes, told, read: told, ready: VecDeque::new() })
    }
}

impl StrongWatch {
    /// Goes on behind a revision. One that this node has not heard of yet is waited for.
    #[must_use]
    pub fn after(mut self, revision: u64) -> Self {
        self.go_on_after(revision);
        self
    }

    /// The same, in place.
    pub fn go_on_after(&mut self, revision: u64) {
        (self.told, self.read) = (revision, revision);
        self.ready.clear();
    }

    /// How far it is: all that was watched up to this revision was told. It grows also while nothing that is watched
    /// changes, so whoever remembers it has less to go through later.
    pub fn revision(&self) -> u64 {
        self.told
    }

    /// The next operation; `None` once the node was shut down. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`StrongWatchError`] says why it cannot go on from here. It stands where it stood.
    pub async fn next(&mut self) -> Option<Result<StrongOperation, StrongWatchError>> {
        loop {
            if let Some(operation) = self.ready.pop_front() {
                self.told = operation.revision;
                return Some(Ok(operation));
            }
            self.told = self.read;
            // What ended the epoch was committed before it is seen here, so it is seen in the log, too.
            let is_over = self.modes.get(&self.place.keyspace).author != Some(self.place.author);
            let reader = self.tail.look()?;
            if reader.seq(self.place.id, self.place.author) <= self.read {
                if reader.settings(self.place.id).choice == Some(Choice::Leave) {
                    return Some(Err(StrongWatchError::Left(self.place.keyspace.clone())));
                }
                drop(reader);
                if is_over {
                    return Some(Err(StrongWatchError::Ended(self.place.keyspace.clone())));
                }
                self.tail.grown().await?;
                continue;
            }
            let (place, after) = (self.place.clone(), self.read);
            let piece = self.tail.read(move |reader| place.read(reader, after)).await?;
            match piece.map_err(StrongWatchError::from).flatten() {
                Ok(Piece { operations, last }) => (self.ready, self.read) = (operations, last),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Place {
    /// Reads the next frames behind a revision.
    fn read(&self, reader: &Reader, after: u64) -> Result<Result<Piece, StrongWatchError>, ReadError> {
        let frames = reader.missing(self.id, &[Dot::new(self.author, after)], STEP_BYTES_MAX)?;
        let first = reader.floor(self.id, self.author);
        if frames.is_empty() && first > after {
            return Ok(Err(StrongWatchError::Compacted { after, first }));
        }
        let mut piece = Piece { operations: VecDeque::new(), last: after };
        for logged in frames {
            let frame = Frame::decode(&logged.bytes).map_err(|error| damaged(&error))?;
            if frame.header().first > piece.last + 1 {
                return Err(damaged(&format!("operations behind {} are missing", piece.last)));
            }
            piece.operations.extend(operations_of(&frame, after, &self.range));
            piece.last = frame.header().last();
        }
        Ok(Ok(piece))
    }
}

fn damaged(what: &dyn ToString) -> ReadError {
    ReadError::Damaged { file: "log.redb", what: what.to_string() }
}
