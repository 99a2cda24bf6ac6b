//! Keeping the order of sorted sets: see [`order`](crate::order).

use std::ops::{Bound, ControlFlow};

use super::{Draft, Undo};
use crate::causality::{Dot, Stamp};
use crate::id::KeyspaceId;
use crate::order::{Order, members_max, members_of};
use crate::ports::{Milestone, Place, ReadError, RowRange, Rows, Within};
use crate::row::{Kind, Payload, RowId};
use crate::score::Score;

/// Names an entry of the order of a sorted set.
pub(super) type OrderId = (KeyspaceId, Vec<u8>, Milestone);

/// Stretches of one height within one of the height above, and which of them a change is in.
struct Level {
    height: u8,
    stretches: Vec<(Place, u64)>,
    at: usize,
}

/// The scores of one member: who wrote them, and which is read.
#[derive(Debug, Default)]
pub(super) struct Scores(Vec<(Stamp, Dot, Score)>);

impl Scores {
    /// The one that is read.
    pub(super) fn read(&self) -> Option<Score> {
        self.0.iter().max().map(|(_, _, score)| *score)
    }

    /// Takes in what a row holds now.
    pub(super) fn put(&mut self, dot: Dot, payload: Option<&Payload>) {
        self.0.retain(|(_, of, _)| *of != dot);
        if let Some(Payload::Value { stamp, value }) = payload {
            let score = Score::from_bytes(value).expect("a row of a sorted set was checked when it was read");
            self.0.push((*stamp, dot, score));
        }
    }
}

impl Draft<'_> {
    /// The scores of the member that a row is of.
    pub(super) fn scores(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Scores, ReadError> {
        let within = Within::Group(row.key.clone(), Kind::Sorted, row.subkey.clone());
        let mut scores = Scores::default();
        self.scan(keyspace, &RowRange::all(within), &mut |row, payload| {
            scores.put(row.dot, Some(&payload));
            ControlFlow::Continue(())
        })?;
        Ok(scores)
    }

    /// Takes in which score of a member was read and which one is: counts it, and moves it in the order.
    pub(super) fn count_score(
        &mut self,
        keyspace: KeyspaceId,
        row: &RowId,
        (was, is): (Option<Score>, Option<Score>),
    ) -> Result<(), ReadError> {
        self.count_member(keyspace, row.clone(), was.is_some(), is.is_some())?;
        self.reorder(keyspace, row, (was, is))
    }

    fn reorder(
        &mut self,
        keyspace: KeyspaceId,
        row: &RowId,
        (before, after): (Option<Score>, Option<Score>),
    ) -> Result<(), ReadError> {
        if before == after {
            return Ok(());
        }
        let place = |score| Place { score, member: row.subkey.clone() };
        if let Some(before) = before {
            self.take_out(keyspace, &row.key, &place(before))?;
        }
        if let Some(after) = after {
            self.put_in(keyspace, &row.key, &place(after))?;
        }
        Ok(())
    }

    /// Forgets the order of a sorted set of which most is about to be removed, for going on without it is quicker than
    /// changing it each time. What is removed then is not looked for; what survives is put in by [`Draft::order_again`].
    pub(crate) fn forget_order(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<(), ReadError> {
        let mut entries = Vec::new();
        self.order(keyspace, key, &Milestone::FIRST, &mut |milestone, _| {
            entries.push(milestone);
            ControlFlow::Continue(())
        })?;
        for milestone in entries {
            self.set_entry(keyspace, key, milestone, None);
        }
        Ok(())
    }

    /// Puts a member of a set whose order was forgotten in again.
    pub(crate) fn order_again(&mut self, keyspace: KeyspaceId, row: &RowId) -> Result<(), ReadError> {
        match self.scores(keyspace, row)?.read() {
            Some(score) if !self.is_in_order(keyspace, &row.key, score, &row.subkey)? => {
                self.put_in(keyspace, &row.key, &Place { score, member: row.subkey.clone() })
            }
            _ => Ok(()),
        }
    }

    fn is_in_order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        score: Score,
        member: &[u8],
    ) -> Result<bool, ReadError> {
        let place = Place { score, member: member.to_vec() };
        let mut is_there = false;
        let from = Milestone::new(0, place.clone());
        self.order(keyspace, key, &from, &mut |first, _| {
            is_there = first.place == place;
            ControlFlow::Break(())
        })?;
        Ok(is_there)
    }

    fn put_in(&mut self, keyspace: KeyspaceId, key: &[u8], place: &Place) -> Result<(), ReadError> {
        self.set_entry(keyspace, key, Milestone::new(0, place.clone()), Some(1));
        let mut levels = self.pass(keyspace, key, place, 1)?;
        // A stretch is cut between two of the height below, which is cut before if it has to be.
        let mut below: Option<Vec<(Place, u64)>> = None;
        while let Some(mut level) = levels.pop() {
            let (from, count) = level.stretches[level.at].clone();
            if count > members_max(level.height) {
                let until = level.stretches.get(level.at + 1).map(|(next, _)| next);
                let parts = match below {
                    Some(parts) => parts,
                    None => self.stretches(keyspace, key, 0, (&from, until))?,
                };
                if let Some((place, left)) = middle(&parts, count) {
                    level.stretches[level.at].1 = left;
                    level.stretches.insert(level.at + 1, (place, count - left));
                    for (place, count) in &level.stretches[level.at..level.at + 2] {
                        let milestone = Milestone::new(level.height, place.clone());
                        self.set_entry(keyspace, key, milestone, Some(*count));
                    }
                }
            }
            let height = level.height;
            below = Some(level.stretches);
            if levels.is_empty() {
                return self.raise(keyspace, key, height, below);
            }
        }
        self.raise(keyspace, key, 0, None)
    }

    /// Adds a height above the highest, if its one stretch would be cut at once.
    fn raise(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        top: u8,
        parts: Option<Vec<(Place, u64)>>,
    ) -> Result<(), ReadError> {
        let total = self.members(keyspace, key, Kind::Sorted)?;
        if total <= members_max(top + 1) {
            return Ok(());
        }
        let parts = match parts {
            Some(parts) => parts,
            None => self.stretches(keyspace, key, 0, (&Place::FIRST, None))?,
        };
        // Of the parts, for members are counted before those that come with the same change are put in.
        let total: u64 = parts.iter().map(|(_, count)| count).sum();
        if let Some((place, left)) = middle(&parts, total) {
            self.set_entry(keyspace, key, Milestone::new(top + 1, Place::FIRST), Some(left));
            self.set_entry(keyspace, key, Milestone::new(top + 1, place), Some(total - left));
        }
        Ok(())
    }

    fn take_out(&mut self, keyspace: KeyspaceId, key: &[u8], place: &Place) -> Result<(), ReadError> {
        let id = (keyspace, key.to_vec(), Milestone::new(0, place.clone()));
        if self.changes.order.get(&id) == Some(&None) {
            return Ok(());
        }
        self.set_entry(keyspace, key, id.2, None);
        self.pass(keyspace, key, place, -1)?;
        Ok(())
    }

    /// Changes the counts of all stretches that a place is in; answers them, and their neighbours, from the highest
    /// down. If less is in them, neighbours that got small become one on the way.
    fn pass(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        place: &Place,
        by: i64,
    ) -> Result<Vec<Level>, ReadError> {
        let mut levels: Vec<Level> = Vec::new();
        let (mut from, mut until): (Place, Option<Place>) = (Place::FIRST, None);
        for height in (1..=Order::of(self, keyspace, key).top()?).rev() {
            let mut stretches = self.stretches(keyspace, key, height, (&from, until.as_ref()))?;
            let Some(at) = holding(&stretches, place) else {
                let what = format!("the order of a sorted set has no beginning at height {height}");
                return Err(ReadError::Damaged { file: "rows.redb", what });
            };
            stretches[at].1 = stretches[at].1.saturating_add_signed(by);
            let (milestone, count) = (Milestone::new(height, stretches[at].0.clone()), stretches[at].1);
            self.set_entry(keyspace, key, milestone, Some(count));
            if by < 0 {
                self.join(keyspace, key, height, &mut stretches);
                if levels.is_empty() && stretches.len() == 1 {
                    self.set_entry(keyspace, key, Milestone::new(height, Place::FIRST), None);
                    continue;
                }
            }
            let at = holding(&stretches, place).expect("the first one begins where it did");
            from = stretches[at].0.clone();
            until = stretches.get(at + 1).map(|(next, _)| next.clone()).or(until);
            levels.push(Level { height, stretches, at });
        }
        Ok(levels)
    }

    /// Makes neighbours one that hold little together.
    fn join(&mut self, keyspace: KeyspaceId, key: &[u8], height: u8, stretches: &mut Vec<(Place, u64)>) {
        let mut at = 1;
        while at < stretches.len() {
            let together = stretches[at - 1].1.saturating_add(stretches[at].1);
            if together > members_of(height) / 2 {
                at += 1;
                continue;
            }
            let (gone, _) = stretches.remove(at);
            stretches[at - 1].1 = together;
            self.set_entry(keyspace, key, Milestone::new(height, gone), None);
            let left = Milestone::new(height, stretches[at - 1].0.clone());
            self.set_entry(keyspace, key, left, Some(together));
        }
    }

    /// The entries of one height from a place on, and before another one.
    fn stretches(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        height: u8,
        (from, until): (&Place, Option<&Place>),
    ) -> Result<Vec<(Place, u64)>, ReadError> {
        let mut stretches = Vec::new();
        Order::of(self, keyspace, key).walk(&Milestone::new(height, from.clone()), &mut |place, count| {
            if until.is_some_and(|until| place >= *until) {
                return ControlFlow::Break(());
            }
            stretches.push((place, count));
            ControlFlow::Continue(())
        })?;
        Ok(stretches)
    }

    fn set_entry(&mut self, keyspace: KeyspaceId, key: &[u8], milestone: Milestone, count: Option<u64>) {
        let id = (keyspace, key.to_vec(), milestone);
        if self.marks > 0 {
            self.undo.push(Undo::Order(id.clone(), self.changes.order.get(&id).copied()));
        }
        self.changes.order.insert(id, count);
    }

    /// The entries of a set from one on: those below, as they were changed here.
    pub(super) fn changed_order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let first = (keyspace, key.to_vec(), from.clone());
        let changed = self.changes.order.range((Bound::Included(first), Bound::Unbounded));
        let mut changed = changed
            .take_while(|((of, of_key, _), _)| *of == keyspace && of_key == key)
            .map(|((_, _, milestone), count)| (milestone, *count))
            .peekable();
        let mut flow = ControlFlow::Continue(());
        self.below.order(keyspace, key, from, &mut |milestone, count| {
            while let Some((new, count)) = changed.next_if(|(new, _)| **new < milestone) {
                if let Some(count) = count {
                    flow = visit(new.clone(), count);
                    flow?;
                }
            }
            let now = match changed.next_if(|(same, _)| **same == milestone) {
                Some((_, now)) => now,
                None => Some(count),
            };
            if let Some(count) = now {
                flow = visit(milestone, count);
            }
            flow
        })?;
        for (new, count) in changed {
            if flow.is_break() {
                break;
            }
            if let Some(count) = count {
                flow = visit(new.clone(), count);
            }
        }
        Ok(())
    }
}

/// Which stretch a place is in.
fn holding(stretches: &[(Place, u64)], place: &Place) -> Option<usize> {
    stretches.partition_point(|(first, _)| first <= place).checked_sub(1)
}

/// Where parts are cut in two halves that are as equal as can be: the first place of the second, and what the first
/// holds. Nowhere, if there is only one part.
fn middle(parts: &[(Place, u64)], total: u64) -> Option<(Place, u64)> {
    let mut left = 0;
    let cuts = parts.iter().map(|(place, count)| {
        left += count;
        (place, left - count)
    });
    let (place, left) = cuts.skip(1).min_by_key(|(_, left)| left.abs_diff(total / 2))?;
    Some((place.clone(), left))
}
