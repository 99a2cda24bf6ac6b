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

    /// Raises the entry of `dot`'s replica to its seq; does nothing when it is there already.
    pub fn raise(&mut self, dot: Dot) {
        if dot.seq > self.get(dot.replica) {
            self.entries.insert(dot.replica, dot.seq);
        }
    }

    /// Drops the entry of `dot`'s replica if it goes no further than `dot`.
    pub fn drop_covered(&mut self, dot: Dot) {
        if self.get(dot.replica) <= dot.seq {
            self.entries.remove(&dot.replica);
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

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReplicaId = ReplicaId::from_bytes([1; 16]);
    const B: ReplicaId = ReplicaId::from_bytes([2; 16]);

    /// All vectors of two replicas that wrote up to three operations each.
    fn vectors() -> Vec<VersionVector> {
        let of = |a, b| [Dot::new(A, a), Dot::new(B, b)].into_iter().collect();
        (0..=3).flat_map(|a| (0..=3).map(move |b| of(a, b))).collect()
    }

    fn merged(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut merged = a.clone();
        merged.merge(b.clone());
        merged
    }

    #[test]
    fn merge_is_idempotent_commutative_and_associative() {
        let vectors = vectors();
        for a in &vectors {
            assert_eq!(merged(a, a), *a);
            for b in &vectors {
                assert_eq!(merged(a, b), merged(b, a));
                for c in &vectors {
                    assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)));
                }
            }
        }
    }

    #[test]
    fn merge_covers_what_either_covers_and_no_more() {
        for a in &vectors() {
            for b in &vectors() {
                for dot in
                    [A, B].into_iter().flat_map(|replica| (1..=4).map(move |seq| Dot::new(replica, seq)))
                {
                    assert_eq!(merged(a, b).covers(dot), a.covers(dot) || b.covers(dot), "{dot}");
                }
            }
        }
    }

    #[test]
    fn applied_dot_is_covered_with_all_before_it_and_stays() {
        let mut vector = VersionVector::default();
        vector.apply(Dot::new(A, 3));
        vector.apply(Dot::new(A, 2));
        assert_eq!(vector.iter().collect::<Vec<_>>(), [Dot::new(A, 3)]);
        assert!(vector.covers(Dot::new(A, 1)) && vector.covers(Dot::new(A, 3)));
        assert!(!vector.covers(Dot::new(A, 4)) && !vector.covers(Dot::new(B, 1)));
    }

    #[test]
    fn entry_that_goes_further_than_a_dot_is_kept() {
        let mut vector: VersionVector = [Dot::new(A, 3), Dot::new(B, 2)].into_iter().collect();
        vector.drop_covered(Dot::new(A, 2));
        vector.drop_covered(Dot::new(B, 2));
        assert_eq!(vector.iter().collect::<Vec<_>>(), [Dot::new(A, 3)]);
    }

    #[test]
    fn seq_0_leaves_no_entry() {
        let mut vector = VersionVector::default();
        vector.raise(Dot::new(A, 0));
        assert_eq!(vector, VersionVector::default());
    }
}
