//! The handle of a sorted set.

use tidelock_engine::read::{Answer, Query, QueryError, Ranked, Scored, SortedPage, SortedRange};
use tidelock_engine::score::Score;
use tidelock_engine::write::{Outcome, ScoreRule, Write};

use super::{Handle, WriteError, count, mismatch};

/// A set whose members have scores, in order of these, and of their own bytes where scores are equal. Each score is a
/// register: of concurrent ones the latest is read, and the others are conflicts.
#[derive(Clone, Debug)]
pub struct SortedSet<'a>(pub(super) Handle<'a>);

impl SortedSet<'_> {
    /// Scores a member, whatever its score was; answers whether it was new here.
    pub async fn put(&self, member: impl AsRef<[u8]>, score: Score) -> Result<bool, WriteError> {
        let (members, rule) = (vec![(member.as_ref().to_vec(), score)], ScoreRule::default());
        match self.0.write(|key| Write::Score { key, members, rule }).await? {
            Outcome::Scored { added, .. } => Ok(added > 0),
            other => unreachable!("scoring a member counts members, and does not do {other:?}"),
        }
    }

    /// Adds to the score of a member, which is 0 if it is missing; answers the sum. It is read and written whole: of
    /// concurrent additions one is read.
    pub async fn add(&self, member: impl AsRef<[u8]>, by: Score) -> Result<Score, WriteError> {
        let (member, rule) = (member.as_ref().to_vec(), ScoreRule::default());
        match self.0.write(|key| Write::AddToScore { key, member, by, rule }).await? {
            Outcome::Score(Some(score)) => Ok(score),
            other => unreachable!("an addition without a rule answers a score, and not {other:?}"),
        }
    }

    /// Removes a member; answers whether it was there.
    pub async fn remove(&self, member: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let members = vec![member.as_ref().to_vec()];
        self.0.changed(|key| Write::Unscore { key, members }).await.map(|count| count > 0)
    }

    /// The score of a member, if it is there.
    pub fn score(&self, member: impl AsRef<[u8]>) -> Result<Option<Score>, QueryError> {
        let members = vec![member.as_ref().to_vec()];
        match self.0.query(|key| Query::Scores(key, members))? {
            Answer::Scores(scores) => Ok(scores.into_iter().next().flatten()),
            other => mismatch(&other),
        }
    }

    /// The place of a member, from 0 for the lowest score, and its score, if it is there.
    pub fn rank(&self, member: impl AsRef<[u8]>) -> Result<Option<Ranked>, QueryError> {
        let member = member.as_ref().to_vec();
        match self.0.query(|key| Query::Rank { key, member, is_reverse: false })? {
            Answer::Rank(rank) => Ok(rank),
            other => mismatch(&other),
        }
    }

    /// The members of a range and their scores, the lowest first.
    pub fn members(&self, range: SortedRange) -> Result<Vec<Scored>, QueryError> {
        match self.0.query(|key| Query::Sorted(SortedPage { range, ..SortedPage::all(key) }))? {
            Answer::Scored(members) => Ok(members),
            other => mismatch(&other),
        }
    }

    /// The number of members in a range.
    pub fn count(&self, range: SortedRange) -> Result<u64, QueryError> {
        count(self.0.query(|key| Query::SortedCount(key, range))?)
    }

    /// The number of members.
    pub fn len(&self) -> Result<u64, QueryError> {
        self.count(SortedRange::ALL)
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> Result<bool, QueryError> {
        Ok(self.len()? == 0)
    }
}
