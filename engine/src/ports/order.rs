//! The order of a sorted set, as a store keeps it beside the rows: entries that are sorted, and nothing else.
//!
//! What they mean, and how they are kept, is in [`order`](crate::order).

use std::cmp::{Ordering, Reverse};

use crate::score::Score;

/// The place of a member in the order: its score, and where scores are equal its own bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The score that is read.
    pub score: Score,
    /// The member.
    pub member: Vec<u8>,
}

impl Place {
    /// Before it there is none.
    pub const FIRST: Self = Self { score: Score::LOWEST, member: Vec::new() };
}

/// Names an entry. Higher ones sort before lower ones, so that the first entry of a set tells how high they get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// 0 for a member; above it, for a stretch of the order.
    pub height: u8,
    /// The member's place, or where the stretch begins.
    pub place: Place,
}

/// No height is above this: a stretch of it would hold more than 2^64 members.
pub const HEIGHT_MAX: u8 = 15;

impl Milestone {
    /// Before it there is none.
    pub const FIRST: Self = Self { height: HEIGHT_MAX, place: Place::FIRST };

    /// The entry of a height at a place.
    pub const fn new(height: u8, place: Place) -> Self {
        Self { height, place }
    }
}

impl PartialOrd for Milestone {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Milestone {
    fn cmp(&self, other: &Self) -> Ordering {
        (Reverse(self.height), &self.place).cmp(&(Reverse(other.height), &other.place))
    }
}
