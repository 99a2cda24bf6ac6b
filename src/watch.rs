//! Watching keys change.
//!
//! A watcher that comes back with the cursor of the last change it has dealt with loses nothing: it is told
//! everything behind, at least once. What was written together, and what is replayed in one piece, is one step
//! of the log; all its changes but the last carry the cursor before it, so whoever stops half way is told the
//! whole step again. Cursors never go back.

use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::row::Kind;

/// Where a watcher stands: a position in this node's log. It means nothing on another node, nor when a crash
/// took back buffered writes that had been told already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRange {
    /// One key.
    Key(Vec<u8>),
    /// All keys that begin with these bytes.
    Prefix(Vec<u8>),
}

impl WatchRange {
    /// Whether a key is watched.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(watched) => key == watched,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// One visible change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where to resume when this change has been dealt with: behind it, or before all that it came with.
    pub cursor: Cursor,
    /// The keyspace.
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Vec<u8>,
    /// What changed: the text under the key (`Register` stands for register and counter), an element, a field, a
    /// document.
    pub kind: Kind,
    /// The element or field; empty for a text.
    pub subkey: Vec<u8>,
    /// What was visible before: the text, the field's value, the element itself; `None` when there was nothing,
    /// or when the change is replayed and the old value is no longer known.
    pub old: Option<Vec<u8>>,
    /// What is visible now. A document is told to be there, by no bytes: whoever wants to know more reads it.
    pub new: Option<Vec<u8>>,
    /// Whose operation it was.
    pub author: ReplicaId,
    /// Whether it happened before the watcher came back: then `new` is the value of now, and several changes
    /// of one key are one.
    pub is_replayed: bool,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something changed.
    Changed(Change),
    /// Changes were lost, or cannot be told one by one: the watcher was too slow, the log could not be read, the
    /// cursor was not of this log, or keys were removed by prefix. It goes on behind this cursor. A slow watcher
    /// may start again from its own last cursor; the others read again what they care for.
    Lagged(Cursor),
}
