//! Sorted sets: scores, ranks, and members in order of score, and of the member's bytes where scores are equal.

use std::ops::Bound;

use super::{Answer, Collection, QueryError, Reader, siblings};
use crate::bounds::REQUEST_ANSWER_BYTES_MAX;
use crate::crdt::{Sibling, VisibleKind};
use crate::row::Kind;
use crate::score::{SCORE_BYTES, Score};

/// A member and its score.
pub type Scored = (Vec<u8>, Score);

/// A rank, from 0, and the score there.
pub type Ranked = (u64, Score);

/// Which members of a sorted set are meant. One whose ends are the wrong way round means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortedRange {
    /// By their places, from 0, both included; a negative one is counted from the end, of which -1 is the last.
    Ranks {
        /// The first.
        start: i64,
        /// The last.
        stop: i64,
    },
    /// By their scores.
    Scores {
        /// The lowest.
        min: Bound<Score>,
        /// The highest.
        max: Bound<Score>,
    },
    /// By their own bytes, in the order of which they are, whatever their scores.
    Members {
        /// The first.
        min: Bound<Vec<u8>>,
        /// The last.
        max: Bound<Vec<u8>>,
    },
}

impl SortedRange {
    /// All members.
    pub const ALL: Self = Self::Ranks { start: 0, stop: -1 };
}

/// Which members of a sorted set are listed, and in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedPage {
    /// The key.
    pub key: Vec<u8>,
    /// Which members. Ranks are those of the order that is asked for; the other ranges do not depend on it.
    pub range: SortedRange,
    /// Whether the last member comes first.
    pub is_reverse: bool,
    /// How many of those in the range are left out first.
    pub offset: u64,
    /// How many are listed at most; all without it.
    pub count: Option<u64>,
}

impl SortedPage {
    /// All members, the lowest score first.
    pub fn all(key: Vec<u8>) -> Self {
        Self { key, range: SortedRange::ALL, is_reverse: false, offset: 0, count: None }
    }
}

impl Reader<'_> {
    /// The score of each member that is there.
    pub(super) fn scores(&self, key: &[u8], members: &[Vec<u8>]) -> Result<Vec<Option<Score>>, QueryError> {
        if self.expect(key, VisibleKind::Sorted)?.scored == 0 {
            return Ok(vec![None; members.len()]);
        }
        members.iter().map(|member| self.score(key, member)).collect()
    }

    /// The score of a member of a key that shows a sorted set.
    pub(super) fn score(&self, key: &[u8], member: &[u8]) -> Result<Option<Score>, QueryError> {
        let winner = siblings(self.rows, self.keyspace, (key, Kind::Sorted, member))?.into_iter().next();
        Ok(winner.map(|sibling| score_of(&sibling)))
    }

    /// The place of a member, and its score.
    pub(super) fn rank(
        &self,
        key: &[u8],
        member: &[u8],
        is_reverse: bool,
    ) -> Result<Option<Ranked>, QueryError> {
        let in_order = self.in_order(key, is_reverse)?;
        let place = in_order.iter().position(|(_, of)| of == member);
        Ok(place.map(|place| (place as u64, in_order[place].0)))
    }

    /// The number of members in a range.
    pub(super) fn sorted_count(&self, key: &[u8], range: &SortedRange) -> Result<u64, QueryError> {
        Ok(self.in_range(key, range, false)?.len() as u64)
    }

    /// The members of a range.
    pub(super) fn sorted(&self, page: &SortedPage) -> Result<Answer, QueryError> {
        let found = self.in_range(&page.key, &page.range, page.is_reverse)?;
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let count = page.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let (mut listed, mut bytes) = (Vec::new(), 0);
        for (score, member) in found.into_iter().skip(offset).take(count) {
            bytes += member.len() + SCORE_BYTES;
            if bytes > REQUEST_ANSWER_BYTES_MAX {
                return Err(QueryError::TooLong);
            }
            listed.push((member, score));
        }
        Ok(Answer::Scored(listed))
    }

    fn in_order(&self, key: &[u8], is_reverse: bool) -> Result<Vec<(Score, Vec<u8>)>, QueryError> {
        if self.expect(key, VisibleKind::Sorted)?.scored == 0 {
            return Ok(Vec::new());
        }
        let pairs = self.pairs(key, Collection::Sorted, None, usize::MAX, usize::MAX)?;
        let mut members: Vec<(Score, Vec<u8>)> =
            pairs.into_iter().map(|(member, value)| (read(&value), member)).collect();
        members.sort_unstable();
        if is_reverse {
            members.reverse();
        }
        Ok(members)
    }

    fn in_range(
        &self,
        key: &[u8],
        range: &SortedRange,
        is_reverse: bool,
    ) -> Result<Vec<(Score, Vec<u8>)>, QueryError> {
        let mut members = self.in_order(key, is_reverse)?;
        match range {
            SortedRange::Ranks { start, stop } => {
                let (start, end) = places(*start, *stop, members.len() as u64);
                let place = |at: u64| usize::try_from(at).expect("there are no more members");
                members.truncate(place(end));
                members.drain(..place(start));
            }
            SortedRange::Scores { min, max } => {
                members.retain(|(score, _)| is_between(score, min.as_ref(), max.as_ref()));
            }
            SortedRange::Members { min, max } => {
                members.retain(|(_, member)| is_between(member, min.as_ref(), max.as_ref()));
                members.sort_unstable_by(|(_, a), (_, b)| if is_reverse { b.cmp(a) } else { a.cmp(b) });
            }
        }
        Ok(members)
    }
}

fn is_between<T: Ord>(value: &T, min: Bound<&T>, max: Bound<&T>) -> bool {
    let is_low_enough = match max {
        Bound::Included(max) => value <= max,
        Bound::Excluded(max) => value < max,
        Bound::Unbounded => true,
    };
    is_low_enough
        && match min {
            Bound::Included(min) => value >= min,
            Bound::Excluded(min) => value > min,
            Bound::Unbounded => true,
        }
}

/// The places from the first on, and before the second, of so many.
fn places(start: i64, stop: i64, count: u64) -> (u64, u64) {
    let place = |at: i64| if at < 0 { count.saturating_sub(at.unsigned_abs()) } else { at.unsigned_abs() };
    let end = if stop < 0 {
        (count + 1).saturating_sub(stop.unsigned_abs())
    } else {
        place(stop).saturating_add(1)
    };
    let end = end.min(count);
    (place(start).min(end), end)
}

/// The score that a sibling of one is.
pub fn score_of(sibling: &Sibling) -> Score {
    read(&sibling.value)
}

/// The score that the value of a row of a sorted set is.
pub(super) fn read(value: &[u8]) -> Score {
    Score::from_bytes(value).expect("a row of a sorted set was checked when it was read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_both_ends() {
        let cases = [
            (0, -1, (0, 5)),
            (0, 0, (0, 1)),
            (1, 2, (1, 3)),
            (-2, -1, (3, 5)),
            (-100, 100, (0, 5)),
            (3, 1, (2, 2)),
            (5, 9, (5, 5)),
            (0, -6, (0, 0)),
            (0, -5, (0, 1)),
            (i64::MIN, i64::MAX, (0, 5)),
            (i64::MAX, i64::MIN, (0, 0)),
        ];
        for (start, stop, expected) in cases {
            assert_eq!(places(start, stop, 5), expected, "{start} {stop}");
        }
        assert_eq!(places(0, -1, 0), (0, 0));
    }
}
