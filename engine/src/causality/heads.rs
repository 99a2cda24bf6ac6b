//! The heads of the author chains: per replica the last applied frame, by seq and by content.
//!
//! Two nodes compare one 16-byte hash to learn that they hold the same history. Because a head names the
//! content of a frame and not only its number, a fork of an author (one dot, two contents) shows here.

use std::collections::BTreeMap;

use crate::causality::{Dot, VersionVector};
use crate::id::{FrameId, ReplicaId};

/// The last applied frame of one author in one keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The seq of the frame's last operation.
    pub seq: u64,
    /// The frame itself.
    pub frame: FrameId,
}

/// Per author the last applied frame, with a hash of all that is kept up to date.
///
/// Invariant: `hash` is the sum modulo 2^128 of the hash of each entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    entries: BTreeMap<ReplicaId, Head>,
    hash: u128,
}

impl Heads {
    /// The head of `author`, if anything of it was applied.
    pub fn get(&self, author: ReplicaId) -> Option<Head> {
        self.entries.get(&author).copied()
    }

    /// The seq of `author`'s head; 0 when nothing of it was applied.
    pub fn seq(&self, author: ReplicaId) -> u64 {
        self.get(author).map_or(0, |head| head.seq)
    }

    /// Whether the operation `dot` was applied.
    pub fn covers(&self, dot: Dot) -> bool {
        self.seq(dot.replica) >= dot.seq
    }

    /// Replaces the head of `author`.
    pub fn advance(&mut self, author: ReplicaId, head: Head) {
        let old = self.entries.insert(author, head);
        self.hash = self.hash.wrapping_add(Self::entry_hash(author, head));
        if let Some(old) = old {
            self.hash = self.hash.wrapping_sub(Self::entry_hash(author, old));
        }
    }

    /// A hash that is equal on two nodes exactly when their heads are: the vector, and each author's chain.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The heads in order of the authors.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, Head)> + '_ {
        self.entries.iter().map(|(author, head)| (*author, *head))
    }

    /// The version vector that these heads are the frames of.
    pub fn vector(&self) -> VersionVector {
        self.iter().map(|(author, head)| Dot::new(author, head.seq)).collect()
    }

    /// The number of authors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was ever applied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry_hash(author: ReplicaId, head: Head) -> u128 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(author.as_bytes());
        hasher.update(&head.seq.to_be_bytes());
        hasher.update(head.frame.as_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }
}

impl FromIterator<(ReplicaId, Head)> for Heads {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, Head)>>(entries: I) -> Self {
        let mut heads = Self::default();
        entries.into_iter().for_each(|(author, head)| heads.advance(author, head));
        heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head { seq, frame: FrameId::of(&seq.to_be_bytes()) }
    }

    #[test]
    fn heads_cover_every_operation_up_to_their_frames() {
        let (a, b) = (ReplicaId::from_bytes([1; 16]), ReplicaId::from_bytes([2; 16]));
        let mut heads = Heads::default();
        assert!(heads.is_empty() && heads.get(a).is_none());
        assert_eq!((heads.len(), heads.seq(a)), (0, 0));
        assert!(!heads.covers(Dot::new(a, 1)));
        for (author, seq) in [(a, 3), (b, 1), (a, 5)] {
            heads.advance(author, head(seq));
        }
        assert!(!heads.is_empty());
        assert_eq!((heads.len(), heads.seq(a), heads.seq(b)), (2, 5, 1));
        assert!(heads.covers(Dot::new(a, 4)) && heads.covers(Dot::new(a, 5)));
        assert!(!heads.covers(Dot::new(a, 6)) && !heads.covers(Dot::new(b, 2)));
    }

    #[test]
    fn hash_depends_on_the_heads_and_not_on_the_way_to_them() {
        let (a, b) = (ReplicaId::from_bytes([1; 16]), ReplicaId::from_bytes([2; 16]));
        let stepwise: Heads = [(a, head(1)), (b, head(1)), (a, head(5))].into_iter().collect();
        let at_once: Heads = [(b, head(1)), (a, head(5))].into_iter().collect();
        assert_eq!(stepwise, at_once);
        let forked: Heads =
            [(b, head(1)), (a, Head { seq: 5, frame: FrameId::of(b"other") })].into_iter().collect();
        assert_ne!(at_once.hash(), forked.hash());
        assert_eq!(at_once.vector(), forked.vector());
    }
}
