//! Commands: what the entries of the anchors' log say, for every strong keyspace and for the changes of modes.
//!
//! A command is plain data, and what comes of it follows from it, its place in the log and the rows alone: no clock, no
//! random choice and no setting of a node has a part in it. So every anchor that stands where the log says makes the
//! same operations, byte for byte.

use crate::causality::{Dot, Hlc};
use crate::id::{Epoch, KeyspaceId, KeyspaceName};
use crate::ports::LogIndex;
use crate::request::{Action, Atomicity};
use crate::row::Fingerprint;

/// Who asks, for as long as it counts its operations: drawn at random by a client, or by the node that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

/// Names one operation, so that it takes effect once however often it is proposed, and its outcome can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// The epoch in which it was issued. It executes in that one only.
    pub epoch: Epoch,
    /// Who issued it.
    pub client: ClientId,
    /// Which of the client's operations it is. A client that numbers them upwards keeps its outcomes longest.
    pub number: u64,
}

/// Actions on a strong keyspace, which happen at one place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// Where.
    pub keyspace: KeyspaceId,
    /// Which operation it is.
    pub operation: OperationId,
    /// The clock of whoever proposed it. The keyspace's clock is the highest of these, in the order of the log.
    pub hlc: Hlc,
    /// What to do.
    pub actions: Vec<Action>,
    /// How the actions belong together.
    pub atomicity: Atomicity,
}

/// What one part of an entry says. Those that came together are one entry, and for each keyspace one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Does something in a strong keyspace.
    Execute(Execute),
    /// Lets what has a deadline up to this moment expire in a strong keyspace.
    Expire {
        /// Where.
        keyspace: KeyspaceId,
        /// The epoch for which it is meant.
        epoch: Epoch,
        /// The moment.
        until: Hlc,
    },
    /// Removes the outcomes of operations that were executed up to this moment.
    ForgetOutcomes {
        /// Where.
        keyspace: KeyspaceId,
        /// The epoch for which it is meant.
        epoch: Epoch,
        /// The moment, by the keyspace's clock.
        until: Hlc,
    },
    /// Begins to make a keyspace strong: from here on, an anchor acknowledges nothing in the epoch that ends.
    BeginSeal {
        /// Which.
        keyspace: KeyspaceName,
        /// The epoch that is to begin.
        epoch: Epoch,
        /// The secret key that signs the frames of that epoch: all anchors make the same ones.
        secret: [u8; 32],
    },
    /// Says where the epoch ends: at this version vector, unless another cut follows.
    Cut {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
        /// The version vector, by its dots, in their order.
        frontier: Vec<Dot>,
    },
    /// Ends the epoch: a majority of the anchors is durably at the cut.
    Seal {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
        /// The place of the cut. If another followed, this has no effect.
        cut: LogIndex,
        /// The fingerprint of the rows at the cut.
        fingerprint: Fingerprint,
    },
    /// Gives up: the epoch goes on.
    AbortSeal {
        /// Of which keyspace.
        keyspace: KeyspaceId,
        /// The place of the [`Command::BeginSeal`] that it belongs to.
        begin: LogIndex,
    },
}
