//! Proof that an author has two histories: one dot with two contents.
//!
//! It means a copied or restored store, or a member that lies. What was applied first stays, and the history goes
//! on by the numbers of its operations, wherever its frames come from: else whatever others wrote after one of
//! the histories could never be applied by those who know the other. Both frames are kept, for the operator
//! and for peers who know only one of them. Nothing is repaired here. After a restart they are found again on the
//! next contact.
//!
//! What this costs: the rows of such an author may differ from replica to replica, which the convergence check
//! shows. Everybody else's are equal, for an operation's row is removed only by those that name it, and these wait
//! for it. But a write may be seen before another one that its author saw, if all that told of this order was a
//! frame in which the liar claimed to have seen it too.

use std::sync::Arc;

use crate::bounds::{FRAME_OPS_BYTES_MAX, OP_BYTES_MAX};
use crate::causality::Dot;
use crate::id::KeyspaceId;

/// The proofs that a replica keeps; later ones are only counted.
pub const EVIDENCE_MAX: usize = 64;

/// The frames in the proofs that a replica keeps, in bytes: room for two of the largest.
pub const EVIDENCE_BYTES_MAX: usize = 2 * (OP_BYTES_MAX + FRAME_OPS_BYTES_MAX);

/// Two frames of one author that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where.
    pub keyspace: KeyspaceId,
    /// The first operation of the other frame.
    pub dot: Dot,
    /// The frame that was applied here, if it is still held.
    pub applied: Option<Arc<[u8]>>,
    /// The other frame: at the same place, or behind `applied` without following it. Its signature is right, so
    /// its author made both.
    pub other: Arc<[u8]>,
}

impl Evidence {
    /// The bytes of both frames.
    pub(crate) fn bytes(&self) -> usize {
        self.applied.as_ref().map_or(0, |frame| frame.len()) + self.other.len()
    }
}
