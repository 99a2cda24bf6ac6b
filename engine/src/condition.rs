//! Conditions: what must hold in the rows of one moment for something to be done.
//!
//! They are plain data, so that a strong keyspace can evaluate them at a position of its log. In an eventual one the
//! rows are those of this replica, and another may find otherwise at the same time.

use serde::{Deserialize, Serialize};

use crate::id::KeyspaceId;
use crate::ports::Rows;
use crate::read::{Answer, Query, QueryError, answer, revision};
use crate::row::Fingerprint;

/// Something that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// There is such a key, of whatever kind.
    Exists(#[serde(with = "serde_bytes")] Vec<u8>),
    /// There is no such key.
    Missing(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The key has no such field.
    FieldMissing {
        /// The key: a map, or missing.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The field.
        #[serde(with = "serde_bytes")]
        field: Vec<u8>,
    },
    /// An element is in a set, or is not.
    Contains {
        /// The key: a set, or missing.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The element.
        #[serde(with = "serde_bytes")]
        element: Vec<u8>,
        /// Whether it must be in it.
        is_in: bool,
    },
    /// The key is as it was when its revision was read.
    Unchanged {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// What [`Query::Revision`] answered.
        revision: Fingerprint,
    },
    /// A register or counter holds this value.
    Equals {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The value; none if the key must be missing.
        #[serde(with = "serde_bytes")]
        value: Option<Vec<u8>>,
    },
}

impl Condition {
    /// Whether it holds in these rows.
    ///
    /// # Errors
    /// [`QueryError`]: the key holds another kind than the condition is about, or the store could not be read.
    pub fn holds(&self, rows: &dyn Rows, keyspace: KeyspaceId) -> Result<bool, QueryError> {
        let ask = |query| answer(rows, keyspace, &query);
        Ok(match self {
            Self::Exists(key) => ask(Query::Kind(key.clone()))? != Answer::Kind(None),
            Self::Missing(key) => ask(Query::Kind(key.clone()))? == Answer::Kind(None),
            Self::FieldMissing { key, field } => {
                ask(Query::Field(key.clone(), field.clone()))? == Answer::Value(None)
            }
            Self::Contains { key, element, is_in } => {
                ask(Query::Contains(key.clone(), element.clone()))? == Answer::Bool(*is_in)
            }
            // A key that has too many rows for a revision had fewer when it had one.
            Self::Unchanged { key, revision: before } => revision(rows, keyspace, key)? == Some(*before),
            Self::Equals { key, value } => ask(Query::Get(key.clone()))? == Answer::Value(value.clone()),
        })
    }
}
