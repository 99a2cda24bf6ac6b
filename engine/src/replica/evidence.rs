//! Proof that an author has two histories: one dot with two contents.
//!
//! It means a copied or restored store, or a member that lies. The second content is refused, and both are
//! kept for the operator. Nothing is repaired here.

use std::sync::Arc;

use crate::causality::Dot;
use crate::id::KeyspaceId;

/// The proofs that a replica keeps; later ones are only counted.
pub const EVIDENCE_MAX: usize = 64;

/// Two frames of one author that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where.
    pub keyspace: KeyspaceId,
    /// The first operation of the refused frame.
    pub dot: Dot,
    /// The frame that was applied here, if it is still held.
    pub applied: Option<Arc<[u8]>>,
    /// The frame that was refused. Its signature is right, so its author made both.
    pub refused: Arc<[u8]>,
}
