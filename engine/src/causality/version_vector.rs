//! The whole causal context of a keyspace: per replica, the highest seq applied here.
//!
//! Frames are applied in causal order only, so there are no gaps and no early dots: a plain vector suffices.
//! Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983).

use std::collections::BTreeMap;
use std::convert::Infallible;

use crdts::{CmRDT, CvRDT};

use crate::causality::Dot;
use crate::id::ReplicaId;

/// Per replica, the highest seq that was applied.
///
/// Invariant: no entry is 0, so equal vectors are equal maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: BTreeMap<ReplicaId, u64>,
}

impl VersionVector {
    /// The highest seq of `replica` that is covered; 0 when there is none.
    pub fn get(&self, replica: ReplicaId) -> u64 {
        self.entries.get(&replica).copied().unwrap_or(0)
    }

    /// Whether the operation `dot` was applied.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.replica) >= dot.seq
    }

    /// Whether everything that `other` covers is covered.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|dot| self.covers(dot))
    }

    /// Raises the entry of `dot`'s replica to its seq; does nothing when it is there already.
    pub fn raise(&mut self, dot: Dot) {
        if dot.seq > self.get(dot.replica) {
            self.entries.insert(dot.replica, dot.seq);
        }
    }

    /// The least vector that covers both.
    pub fn join(&mut self, other: &Self) {
        other.iter().for_each(|dot| self.raise(dot));
    }

    /// The entries, as the last covered dot of each replica, in order of the replicas.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.entries.iter().map(|(replica, seq)| Dot::new(*replica, *seq))
    }

    /// The number of replicas that wrote.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was ever applied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::default();
        dots.into_iter().for_each(|dot| vector.raise(dot));
        vector
    }
}

impl CvRDT for VersionVector {
    type Validation = Infallible;

    fn validate_merge(&self, _: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.join(&other);
    }
}

impl CmRDT for VersionVector {
    type Op = Dot;
    type Validation = Infallible;

    fn validate_op(&self, _: &Dot) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, dot: Dot) {
        self.raise(dot);
    }
}
