//! Sorted sets: scores, ranks, and members in order of score, and of the member's bytes where scores are equal.

use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};

use super::{Answer, Collection, PAGE_BYTES_MAX, PAGE_SUBKEYS_MAX, QueryError, Reader, siblings};
use crate::bounded;
use crate::bounds::REQUEST_ANSWER_BYTES_MAX;
use crate::crdt::{Sibling, VisibleKind};
use crate::order::Order;
use crate::ports::{After, Place};
use crate::row::Kind;
use crate::score::{SCORE_BYTES, Score};

/// A member and its score.
pub type Scored = (Vec<u8>, Score);

/// A rank, from 0, and the score there.
pub type Ranked = (u64, Score);

/// Which members of a sorted set are meant. One whose ends are the wrong way round means none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        #[serde(with = "bounded::byte_bound")]
        min: Bound<Vec<u8>>,
        /// The last.
        #[serde(with = "bounded::byte_bound")]
        max: Bound<Vec<u8>>,
    },
}

impl SortedRange {
    /// All members.
    pub const ALL: Self = Self::Ranks { start: 0, stop: -1 };
}

/// Which members of a sorted set are listed, and in which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortedPage {
    /// The key.
    #[serde(with = "serde_bytes")]
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
        let count = self.expect(key, VisibleKind::Sorted)?.scored;
        let score = if count == 0 { None } else { self.score(key, member)? };
        let Some(score) = score else { return Ok(None) };
        let before = self.order(key).before(&Place { score, member: member.to_vec() })?;
        Ok(Some((if is_reverse { count.saturating_sub(before + 1) } else { before }, score)))
    }

    /// The number of members in a range.
    pub(super) fn sorted_count(&self, key: &[u8], range: &SortedRange) -> Result<u64, QueryError> {
        let count = self.expect(key, VisibleKind::Sorted)?.scored;
        Ok(match self.ranks(key, range, count, false)? {
            Some((start, end)) => end - start,
            None => self.within(key, range)?.len() as u64,
        })
    }

    /// The members of a range.
    pub(super) fn sorted(&self, page: &SortedPage) -> Result<Answer, QueryError> {
        let SortedPage { key, range, is_reverse, offset, count } = page;
        let all = self.expect(key, VisibleKind::Sorted)?.scored;
        let wanted = count.unwrap_or(u64::MAX);
        let Some((start, end)) = self.ranks(key, range, all, *is_reverse)? else {
            let mut found = self.within(key, range)?;
            if *is_reverse {
                found.reverse();
            }
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            return Ok(Answer::Scored(found.into_iter().skip(offset).take(wanted).collect()));
        };
        let (start, end) = if *is_reverse {
            let end = end.saturating_sub(*offset).max(start);
            (end.saturating_sub(wanted).max(start), end)
        } else {
            let start = start.saturating_add(*offset).min(end);
            (start, start.saturating_add(wanted).min(end))
        };
        let mut listed = Listed::default();
        let mut left = end - start;
        if left > 0 {
            self.order(key).from(start, |Place { score, member }| {
                left -= 1;
                let is_last = left == 0;
                if listed.push(member, score).is_err() || is_last {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        }
        let mut members = listed.finish()?;
        if *is_reverse {
            members.reverse();
        }
        Ok(Answer::Scored(members))
    }

    fn order<'b>(&'b self, key: &'b [u8]) -> Order<'b> {
        Order::of(self.rows, self.keyspace, key)
    }

    /// The ranks of a range, from the lowest score: the first, and the one behind the last. None for one by members
    /// whose scores differ: those are in no order of their own.
    fn ranks(
        &self,
        key: &[u8],
        range: &SortedRange,
        count: u64,
        is_reverse: bool,
    ) -> Result<Option<(u64, u64)>, QueryError> {
        if count == 0 {
            return Ok(Some((0, 0)));
        }
        let order = self.order(key);
        let before = |place: Option<Place>| place.map_or(Ok(count), |place| order.before(&place));
        let (start, end) = match range {
            SortedRange::Ranks { start, stop } => {
                let (start, end) = places(*start, *stop, count);
                return Ok(Some(if is_reverse { (count - end, count - start) } else { (start, end) }));
            }
            SortedRange::Scores { min, max } => {
                let at = |score: Score| Some(Place { score, member: Vec::new() });
                let behind = |score: Score| score.next().and_then(at);
                let start = match min {
                    Bound::Unbounded => 0,
                    Bound::Included(min) => before(at(*min))?,
                    Bound::Excluded(min) => before(behind(*min))?,
                };
                let end = match max {
                    Bound::Unbounded => count,
                    Bound::Included(max) => before(behind(*max))?,
                    Bound::Excluded(max) => before(at(*max))?,
                };
                (start, end)
            }
            SortedRange::Members { min, max } => {
                let Some(score) = self.only_score(key, count)? else { return Ok(None) };
                let at = |member: &[u8]| Some(Place { score, member: member.to_vec() });
                let behind = |member: &[u8]| at(&[member, &[0]].concat());
                let start = match min {
                    Bound::Unbounded => 0,
                    Bound::Included(min) => before(at(min))?,
                    Bound::Excluded(min) => before(behind(min))?,
                };
                let end = match max {
                    Bound::Unbounded => count,
                    Bound::Included(max) => before(behind(max))?,
                    Bound::Excluded(max) => before(at(max))?,
                };
                (start, end)
            }
        };
        let end = end.min(count);
        Ok(Some((start.min(end), end)))
    }

    /// The score of all members, if they have the same.
    fn only_score(&self, key: &[u8], count: u64) -> Result<Option<Score>, QueryError> {
        let at = |rank: u64| {
            let mut found = None;
            self.order(key).from(rank, |place| {
                found = Some(place.score);
                ControlFlow::Break(())
            })?;
            Ok::<_, QueryError>(found)
        };
        let lowest = at(0)?;
        Ok(if lowest == at(count - 1)? { lowest } else { None })
    }

    /// The members of a range by members, in byte order, whatever their scores.
    fn within(&self, key: &[u8], range: &SortedRange) -> Result<Vec<Scored>, QueryError> {
        let SortedRange::Members { min, max } = range else { return Ok(Vec::new()) };
        let mut listed = Listed::default();
        let mut after = match min {
            Bound::Unbounded => None,
            Bound::Included(min) => Some(After::From(key.to_vec(), Kind::Sorted, min.clone())),
            Bound::Excluded(min) => Some(After::Group(key.to_vec(), Kind::Sorted, min.clone())),
        };
        loop {
            let page = self.pairs(key, Collection::Sorted, after, PAGE_SUBKEYS_MAX, PAGE_BYTES_MAX)?;
            let Some((last, _)) = page.last() else { return listed.finish() };
            after = Some(After::Group(key.to_vec(), Kind::Sorted, last.clone()));
            for (member, value) in page {
                let is_in = match max {
                    Bound::Unbounded => true,
                    Bound::Included(max) => member <= *max,
                    Bound::Excluded(max) => member < *max,
                };
                if !is_in {
                    return listed.finish();
                }
                listed.push(member, read(&value))?;
            }
        }
    }
}

/// Members in the making of an answer, which is refused when it gets too long.
#[derive(Debug, Default)]
struct Listed {
    members: Vec<Scored>,
    bytes: usize,
}

impl Listed {
    fn push(&mut self, member: Vec<u8>, score: Score) -> Result<(), QueryError> {
        self.bytes += member.len() + SCORE_BYTES;
        if self.bytes > REQUEST_ANSWER_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        self.members.push((member, score));
        Ok(())
    }

    fn finish(self) -> Result<Vec<Scored>, QueryError> {
        if self.bytes > REQUEST_ANSWER_BYTES_MAX { Err(QueryError::TooLong) } else { Ok(self.members) }
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
