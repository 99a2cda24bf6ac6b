//! What the operator may order of the group of anchors, and why it may not be done.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::list;
use crate::id::{KeyspaceName, PeerId};
use crate::message::REASON_BYTES_MAX;
use crate::ports::{AnchorId, NotDone};
use crate::roster::ANCHORS_MAX;

/// What the operator orders of the group of anchors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnchorOrder {
    /// Make the group, with this node as its first anchor. One that is an anchor already stays what it is.
    Found,
    /// Let a peer be an anchor. It votes once it has caught up and the number of voters stays odd.
    Add(PeerId),
    /// Remove anchors. If the number of voters would be even without them, another takes the place of one.
    Remove(#[serde(deserialize_with = "list::<ANCHORS_MAX, _, _>")] Vec<AnchorId>),
    /// Let another anchor lead.
    Transfer(AnchorId),
    /// Make a keyspace strong. It must hold nothing.
    MakeStrong(KeyspaceName),
}

/// Why an order of the group was not carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AnchorError {
    /// There are anchors already.
    #[error("the cluster has anchors already, such as {0}; a second group of them would be another cluster")]
    Founded(PeerId),
    /// The group did not take the change.
    #[error(transparent)]
    Not(#[from] NotDone),
    /// Nobody knows whether the change was made.
    #[error("nobody knows whether the change was made; the list of anchors will show it")]
    Unknown,
    /// The store did not take it.
    #[error("{0}")]
    Commit(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
    /// The keyspace holds data, or held some once.
    #[error("keyspace {0} has been written in")]
    HoldsData(KeyspaceName),
    /// The anchors gave up making the keyspace strong: too few of them came to where its epoch was to end, in time.
    #[error(
        "keyspace {0} was not made strong: fewer than a majority of the anchors stood where that was to begin"
    )]
    GivenUp(KeyspaceName),
}

impl AnchorError {
    /// As long as a peer may be told.
    pub(super) fn shortened(self) -> Self {
        let text = self.to_string();
        if text.len() <= REASON_BYTES_MAX {
            return self;
        }
        let end = text.floor_char_boundary(REASON_BYTES_MAX / 2);
        NotDone::Refused { reason: text[..end].to_owned() }.into()
    }
}

/// How an order of the group ended.
pub type AnchorReply = Result<(), AnchorError>;
