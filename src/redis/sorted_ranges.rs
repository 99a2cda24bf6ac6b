//! The ranges of sorted sets: by rank, by score or by member, as ZRANGE and its older kin name them.

use std::ops::Bound;

use tidelock_engine::bounds::check_subkey;
use tidelock_engine::read::{Query, SortedPage, SortedRange};

use super::call::Arguments;
use super::errors;
use super::reply::Reply;
use super::scores;

const NOT_A_MEMBER_BOUND: Reply = errors::constant("ERR min or max not valid string range item");
const LIMIT_OF_RANKS: Reply =
    errors::constant("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
const SCORES_OF_MEMBERS: Reply =
    errors::constant("ERR syntax error, WITHSCORES not supported in combination with BYLEX");

/// What the numbers or words of a range are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Member,
}

impl By {
    /// The range between two arguments, the lower of which comes first but for ranks.
    pub(super) fn range(self, min: &[u8], max: &[u8]) -> Result<SortedRange, Reply> {
        Ok(match self {
            Self::Rank => SortedRange::Ranks { start: errors::integer(min)?, stop: errors::integer(max)? },
            Self::Score => SortedRange::Scores { min: scores::bound(min)?, max: scores::bound(max)? },
            // What is below the least or above the greatest of all is in no range.
            Self::Member => match (member_bound(min)?, member_bound(max)?) {
                (MemberBound::Greatest, _) | (_, MemberBound::Least) => nothing(),
                (min, max) => SortedRange::Members { min: min.into(), max: max.into() },
            },
        })
    }
}

/// A range that nothing is in.
fn nothing() -> SortedRange {
    SortedRange::Ranks { start: 1, stop: 0 }
}

/// One end of a range of members.
#[derive(Debug)]
enum MemberBound {
    /// `-`
    Least,
    /// `+`
    Greatest,
    /// `[member` or `(member`
    At(Bound<Vec<u8>>),
}

impl From<MemberBound> for Bound<Vec<u8>> {
    fn from(bound: MemberBound) -> Self {
        match bound {
            MemberBound::Least | MemberBound::Greatest => Self::Unbounded,
            MemberBound::At(bound) => bound,
        }
    }
}

fn member_bound(argument: &[u8]) -> Result<MemberBound, Reply> {
    let bound = match argument.split_first() {
        Some((b'-', [])) => return Ok(MemberBound::Least),
        Some((b'+', [])) => return Ok(MemberBound::Greatest),
        Some((b'[', member)) => Bound::Included(member),
        Some((b'(', member)) => Bound::Excluded(member),
        _ => return Err(NOT_A_MEMBER_BOUND),
    };
    if let Bound::Included(member) | Bound::Excluded(member) = bound {
        check_subkey(member).map_err(|error| errors::bound(&error))?;
    }
    Ok(MemberBound::At(bound.map(<[u8]>::to_vec)))
}

/// What a command of ranges leaves to its arguments: none is said yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    /// By what, if the command says it.
    pub(super) by: Option<By>,
    /// Whether from the end on, if the command says it.
    pub(super) is_reverse: Option<bool>,
}

/// A range that was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) page: SortedPage,
    pub(super) has_scores: bool,
}

impl Asked {
    /// `key from to [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`, of which a form has some said already.
    /// From the end on, the higher of two scores or members comes first.
    pub(super) fn parse(form: Form, mut arguments: Arguments) -> Result<Self, Reply> {
        let key = arguments.key()?;
        let (from, to) = (arguments.take(), arguments.take());
        let (mut form, mut has_scores, mut limit) = (form, false, None);
        while let Some(option) = arguments.next() {
            match option.to_ascii_lowercase().as_slice() {
                b"withscores" => has_scores = true,
                b"limit" if arguments.len() >= 2 => {
                    limit = Some((errors::integer(&arguments.take())?, errors::integer(&arguments.take())?));
                }
                b"rev" if form.is_reverse.is_none() => form.is_reverse = Some(true),
                b"bylex" if form.by.is_none() => form.by = Some(By::Member),
                b"byscore" if form.by.is_none() => form.by = Some(By::Score),
                _ => return Err(errors::SYNTAX),
            }
        }
        let (by, is_reverse) = (form.by.unwrap_or(By::Rank), form.is_reverse.unwrap_or(false));
        // The commands of old that have a limit take it as nothing where it says -1 of all.
        if by == By::Rank && limit.is_some_and(|(_, count)| count != -1) {
            return Err(LIMIT_OF_RANKS);
        }
        if by == By::Member && has_scores {
            return Err(SCORES_OF_MEMBERS);
        }
        let (min, max) = if is_reverse && by != By::Rank { (&to, &from) } else { (&from, &to) };
        let range = by.range(min, max)?;
        let (offset, count) = limited(limit.filter(|_| by != By::Rank));
        Ok(Self { page: SortedPage { key, range, is_reverse, offset, count }, has_scores })
    }

    pub(super) fn query(self) -> Query {
        Query::Sorted(self.page)
    }
}

/// How many are passed over, and how many are answered: all if there is no count or a negative one, and none behind a
/// negative offset.
fn limited(limit: Option<(i64, i64)>) -> (u64, Option<u64>) {
    let Some((offset, count)) = limit else { return (0, None) };
    match u64::try_from(offset) {
        Ok(offset) => (offset, u64::try_from(count).ok()),
        Err(_) => (0, Some(0)),
    }
}
