//! Watching keys change.

use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::row::Kind;

/// Where a watcher stands: a position in this node's log. It means nothing on another node.
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
    /// Where to resume behind it.
    pub cursor: Cursor,
    /// The keyspace.
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Vec<u8>,
    /// What changed: the text under the key (`Register` stands for register and counter), an element, a field.
    pub kind: Kind,
    /// The element or field; empty for a text.
    pub subkey: Vec<u8>,
    /// What was visible before: the text, the field's value, the element itself; `None` when there was nothing,
    /// or when the change is replayed and the old value is no longer known.
    pub old: Option<Vec<u8>>,
    /// What is visible now.
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
    /// The watcher was too slow and lost changes; it goes on behind this cursor, and may start again from its
    /// own last one.
    Lagged(Cursor),
}
