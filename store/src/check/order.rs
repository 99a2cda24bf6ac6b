//! Checking the orders of sorted sets: every member is where the score that is read puts it, and every count is right.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::{Dot, Stamp};
use tidelock_engine::order::OrderAudit;
use tidelock_engine::ports::{Milestone, Place};
use tidelock_engine::row::Payload;
use tidelock_engine::score::Score;

use crate::key;

/// The keyspace, key and name of a member.
type Member = (u32, Vec<u8>, Vec<u8>);

/// What the orders must be, from the rows, and what they are.
#[derive(Default)]
pub(super) struct OrderCheck {
    /// The member whose rows are being read.
    member: Option<(Member, (Stamp, Dot, Score))>,
    /// The keys of the members' entries that were not found yet. They come behind the rows.
    wanted: BTreeSet<Vec<u8>>,
    audits: BTreeMap<(u32, Vec<u8>), OrderAudit>,
    is_wrong: bool,
}

impl OrderCheck {
    /// Takes in a row of a sorted set; `None` if it holds no score.
    pub(super) fn row(&mut self, of: Member, dot: Dot, payload: &Payload) -> Option<()> {
        let Payload::Value { stamp, value } = payload else { return None };
        let score = (*stamp, dot, Score::from_bytes(value).ok()?);
        match &mut self.member {
            Some((same, read)) if *same == of => *read = score.max(*read),
            _ => {
                self.end_member();
                self.member = Some((of, score));
            }
        }
        Some(())
    }

    /// Takes in an entry; `None` if it makes no sense. Of a keyspace that is not `is_held` some may be gone.
    pub(super) fn entry(&mut self, key: &[u8], value: &[u8], is_held: impl Fn(u32) -> bool) -> Option<()> {
        self.end_member();
        let (keyspace, user_key, milestone) = key::read_order(key)?;
        let count = key::read_order_value(milestone.height, value)?;
        if !is_held(keyspace) {
            self.wanted.remove(key);
            return Some(());
        }
        self.is_wrong |= milestone.height == 0 && !self.wanted.remove(key);
        let audit = self.audits.entry((keyspace, user_key)).or_default();
        self.is_wrong |= audit.take(&milestone, count).is_none();
        Some(())
    }

    /// Whether all is as it must be.
    pub(super) fn is_right(&mut self, is_held: impl Fn(u32) -> bool) -> bool {
        self.end_member();
        let is_missing = |key: &Vec<u8>| key::read_order(key).is_some_and(|(keyspace, ..)| is_held(keyspace));
        !self.is_wrong
            && !self.wanted.iter().any(is_missing)
            && self.audits.values().all(|audit| audit.complaint().is_none())
    }

    fn end_member(&mut self) {
        if let Some(((keyspace, key, member), (.., score))) = self.member.take() {
            let place = Place { score, member };
            self.wanted.insert(key::order(keyspace, &key, &Milestone::new(0, place)));
        }
    }
}
