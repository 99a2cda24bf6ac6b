//! The name of one operation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ReplicaId;

/// The name of one operation: the `seq`-th of `replica` in its keyspace, dense from 1.
///
/// A dot is minted once and never used again, not even after a restore: that takes a new [`ReplicaId`].
/// Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who minted the operation.
    pub replica: ReplicaId,
    /// Its number there, from 1.
    pub seq: u64,
}

impl Dot {
    /// The `seq`-th operation of `replica`.
    pub const fn new(replica: ReplicaId, seq: u64) -> Self {
        Self { replica, seq }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.seq)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.replica, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_is_shown_as_its_replica_and_seq() {
        let dot = Dot::new(ReplicaId::from_bytes([0xab; 16]), 12);
        assert_eq!(dot.to_string(), format!("{}:12", "ab".repeat(16)));
        assert_eq!(format!("{dot:?}"), "ReplicaId(abababab):12");
    }
}
