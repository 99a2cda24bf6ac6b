//! Which rows a scan visits, and where it goes on: scans are chunked, so that no reader holds a snapshot long.

use crate::causality::Dot;
use crate::id::ReplicaId;
use crate::row::{Kind, RowId};

/// Which rows of a keyspace a scan visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// All of them.
    Keyspace,
    /// The rows of every key that begins with these bytes.
    KeyPrefix(Vec<u8>),
    /// The rows of one key, but for outcomes, which are of nobody's.
    Key(Vec<u8>),
    /// The rows of one kind under a key.
    Kind(Vec<u8>, Kind),
    /// The rows of one kind under a key whose subkeys begin with these bytes.
    SubkeyPrefix(Vec<u8>, Kind, Vec<u8>),
    /// The rows of one register, counter, element or field.
    Group(Vec<u8>, Kind, Vec<u8>),
}

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Behind all rows of this key.
    Key(Vec<u8>),
    /// Behind all rows of this group.
    Group(Vec<u8>, Kind, Vec<u8>),
    /// At the first row of this group.
    From(Vec<u8>, Kind, Vec<u8>),
}

/// The rows that one scan visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRange {
    /// Which rows.
    pub within: Within,
    /// Where to go on, when this is not the first chunk.
    pub after: Option<After>,
}

impl RowRange {
    /// The range from its first row.
    pub const fn all(within: Within) -> Self {
        Self { within, after: None }
    }

    /// The least row that can be in the range, by the order of [`RowId`].
    pub fn first(&self) -> RowId {
        let within = match &self.within {
            Within::Keyspace => least(Vec::new(), Kind::ALL[0], Vec::new()),
            Within::KeyPrefix(key) | Within::Key(key) => least(key.clone(), Kind::ALL[0], Vec::new()),
            Within::Kind(key, kind) => least(key.clone(), *kind, Vec::new()),
            Within::SubkeyPrefix(key, kind, subkey) | Within::Group(key, kind, subkey) => {
                least(key.clone(), *kind, subkey.clone())
            }
        };
        let after = match &self.after {
            None => return within,
            Some(After::Key(key)) => least(successor(key), Kind::ALL[0], Vec::new()),
            Some(After::Group(key, kind, subkey)) => least(key.clone(), *kind, successor(subkey)),
            Some(After::From(key, kind, subkey)) => least(key.clone(), *kind, subkey.clone()),
        };
        within.max(after)
    }

    /// Whether a row that is not before [`RowRange::first`] is in the range. The rows for which it holds are
    /// consecutive.
    pub fn contains(&self, row: &RowId) -> bool {
        match &self.within {
            Within::Keyspace => true,
            Within::KeyPrefix(prefix) => row.key.starts_with(prefix),
            Within::Key(key) => row.key == *key && row.kind != Kind::Outcome,
            Within::Kind(key, kind) => row.key == *key && row.kind == *kind,
            Within::SubkeyPrefix(key, kind, prefix) => {
                row.key == *key && row.kind == *kind && row.subkey.starts_with(prefix)
            }
            Within::Group(key, kind, subkey) => row.key == *key && row.kind == *kind && row.subkey == *subkey,
        }
    }
}

fn least(key: Vec<u8>, kind: Kind, subkey: Vec<u8>) -> RowId {
    RowId { key, kind, subkey, dot: Dot::new(ReplicaId::from_bytes([0; 16]), 0) }
}

/// The least byte string greater than `bytes`.
fn successor(bytes: &[u8]) -> Vec<u8> {
    let mut next = bytes.to_vec();
    next.push(0);
    next
}
