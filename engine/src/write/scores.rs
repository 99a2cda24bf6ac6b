//! Sorted sets: each member's score is a register, so of concurrent scores one is read and the others stay as
//! conflicts. Who scores a member again wins over a concurrent removal, also if the score is the same.

use std::collections::BTreeMap;

use super::{Author, MemberIf, Outcome, ScoreRule, Toward, WriteError};
use crate::bounds::{BoundError, FRAME_OPS_BYTES_MAX, check_elements, check_key, check_subkey};
use crate::causality::Dot;
use crate::crdt::VisibleKind;
use crate::op::{MemberScore, Op};
use crate::read::{Answer, Query, Scored, SortedPage, SortedRange, score_of, siblings};
use crate::row::Kind;
use crate::score::Score;

impl ScoreRule {
    /// Whether a member of this score, if it is there, gets another one.
    fn holds(self, now: Option<Score>, score: Score) -> bool {
        let is_meant = match self.only {
            None => true,
            Some(MemberIf::Missing) => now.is_none(),
            Some(MemberIf::There) => now.is_some(),
        };
        let is_toward = match (self.toward, now) {
            (None, _) | (_, None) => true,
            (Some(Toward::Greater), Some(now)) => score > now,
            (Some(Toward::Less), Some(now)) => score < now,
        };
        is_meant && is_toward
    }
}

/// What becomes of a member.
struct Pending {
    /// Its rows.
    dots: Vec<Dot>,
    /// Its score, with what the write has said of it so far.
    now: Option<Score>,
    is_written: bool,
}

impl Author<'_, '_> {
    /// Scores one member after the other; of one that is named again, what was said before counts.
    pub(super) fn score(
        &mut self,
        key: &[u8],
        members: &[Scored],
        rule: ScoreRule,
    ) -> Result<Outcome, WriteError> {
        let names: Vec<Vec<u8>> = members.iter().map(|(member, _)| member.clone()).collect();
        let existed = self.check_collection(key, VisibleKind::Sorted, &names)?;
        let (mut added, mut changed) = (0, 0);
        let mut pending: BTreeMap<&Vec<u8>, Pending> = BTreeMap::new();
        for (member, score) in members {
            if !pending.contains_key(member) {
                pending.insert(member, self.pending(key, member)?);
            }
            let pending = pending.get_mut(member).expect("it was just inserted");
            if rule.holds(pending.now, *score) {
                added += u64::from(pending.now.is_none());
                changed += u64::from(pending.now.is_some_and(|now| now != *score));
                (pending.now, pending.is_written) = (Some(*score), true);
            }
        }
        let start = self.frame.next_dot();
        let mut made = Vec::new();
        for (member, Pending { dots, now, is_written }) in pending {
            if let (Some(score), true) = (now, is_written) {
                let observed = self.listed((key, Kind::Sorted, member), dots)?;
                made.push(MemberScore { member: member.clone(), score, observed });
            }
        }
        if !made.is_empty() {
            let existed = (self.frame.next_dot() == start).then_some(existed);
            self.push_on(Op::Score { key: key.to_vec(), members: made }, existed)?;
        }
        Ok(Outcome::Scored { added, changed })
    }

    /// Adds to a score, which is 0 if the member is missing; answers the sum unless the rule forbids it.
    pub(super) fn add_to_score(
        &mut self,
        key: &[u8],
        member: &[u8],
        by: Score,
        rule: ScoreRule,
    ) -> Result<Outcome, WriteError> {
        check_key(key)?;
        check_subkey(member)?;
        let query = Query::Scores(key.to_vec(), vec![member.to_vec()]);
        let Answer::Scores(scores) = self.ask(&query)? else { unreachable!("scores were asked for") };
        let now = scores.into_iter().next().flatten();
        let sum = now.unwrap_or(Score::ZERO).plus(by).ok_or(WriteError::NotAScore)?;
        if !rule.holds(now, sum) {
            return Ok(Outcome::Score(None));
        }
        self.score(key, &[(member.to_vec(), sum)], ScoreRule::default())?;
        Ok(Outcome::Score(Some(sum)))
    }

    /// Removes the members of a range, no more than one operation names.
    pub(super) fn unscore_range(&mut self, key: &[u8], range: &SortedRange) -> Result<Outcome, WriteError> {
        let page = SortedPage { range: range.clone(), ..SortedPage::all(key.to_vec()) };
        let removed = self.take_out(page)?;
        Ok(Outcome::Changed(removed.len() as u64))
    }

    /// Removes so many members from one end; answers them, the outermost first.
    pub(super) fn pop_scored(
        &mut self,
        key: &[u8],
        count: u64,
        is_highest: bool,
    ) -> Result<Outcome, WriteError> {
        let page = SortedPage { is_reverse: is_highest, count: Some(count), ..SortedPage::all(key.to_vec()) };
        self.take_out(page).map(Outcome::ScoredMembers)
    }

    fn take_out(&mut self, page: SortedPage) -> Result<Vec<Scored>, WriteError> {
        check_key(&page.key)?;
        let key = page.key.clone();
        // What is too much is refused before it is read.
        let query = Query::SortedCount(key.clone(), page.range.clone());
        let Answer::Count(count) = self.ask(&query)? else { unreachable!("members were counted") };
        let count = page.count.map_or(count, |limit| limit.min(count));
        check_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
        let Answer::Scored(found) = self.ask(&Query::Sorted(page))? else {
            unreachable!("members were asked for")
        };
        let bytes = found.iter().map(|(member, _)| member.len()).sum();
        if bytes > FRAME_OPS_BYTES_MAX {
            return Err(BoundError::Batch { bytes, ops: 1 }.into());
        }
        if !found.is_empty() {
            let members: Vec<Vec<u8>> = found.iter().map(|(member, _)| member.clone()).collect();
            self.remove(&key, Kind::Sorted, &members)?;
        }
        Ok(found)
    }

    fn pending(&self, key: &[u8], member: &[u8]) -> Result<Pending, WriteError> {
        let siblings = siblings(self.draft, self.frame.header().keyspace, (key, Kind::Sorted, member))?;
        let mut dots: Vec<Dot> = siblings.iter().map(|sibling| sibling.dot).collect();
        dots.sort_unstable();
        Ok(Pending { dots, now: siblings.first().map(score_of), is_written: false })
    }
}
