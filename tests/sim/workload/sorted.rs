//! Sorted sets: what is written to them, and asked of them by score, rank and member.

use std::ops::Bound;

use tidelock_engine::read::{Query, SortedPage, SortedRange};
use tidelock_engine::score::Score;
use tidelock_engine::write::{MemberIf, ScoreRule, Toward, Write};

use super::Workload;
use crate::random::Random;

/// Few, so that members are equal in score.
const SCORES: [f64; 6] = [-1.5, 0.0, 1.0, 1.0, 2.0, 10.0];

/// From both ends, and beyond them.
const RANKS: [i64; 9] = [-9, -3, -2, -1, 0, 1, 2, 3, 9];

impl Workload {
    /// Mostly one of two keys that other kinds are seldom written to, which would hide the members.
    pub(super) fn sorted_key(&self, random: &mut Random) -> Vec<u8> {
        if random.chance(100) {
            return self.key(random);
        }
        format!("z{}", random.below(2)).into_bytes()
    }

    /// A key of any kind.
    pub(super) fn any_key(&self, random: &mut Random) -> Vec<u8> {
        if random.chance(200) { self.sorted_key(random) } else { self.key(random) }
    }

    pub(super) fn sorted_write(&self, random: &mut Random) -> Write {
        let key = self.sorted_key(random);
        let rule = ScoreRule {
            only: *random.pick(&[None, None, Some(MemberIf::Missing), Some(MemberIf::There)]),
            toward: *random.pick(&[None, None, Some(Toward::Greater), Some(Toward::Less)]),
        };
        match random.below(16) {
            0..7 => {
                let members = (0..=random.below(3)).map(|_| (self.member(random), score(random))).collect();
                Write::Score { key, members, rule }
            }
            7..9 => Write::AddToScore { key, member: self.member(random), by: score(random), rule },
            9 => {
                let members = (0..=random.below(2)).map(|_| self.member(random)).collect();
                Write::Unscore { key, members }
            }
            10 => {
                let (count, is_highest) = (1 + random.below(2) as u64, random.chance(500));
                Write::PopScored { key, count, is_highest }
            }
            11 => Write::UnscoreRange { key, range: self.range(random) },
            12..14 => {
                let into = self.sorted_key(random);
                Write::StoreRange { into, page: self.sorted_page(key, random) }
            }
            14 => Write::Copy { from: key, to: self.any_key(random), is_move: random.chance(300) },
            _ => Write::Delete { key },
        }
    }

    pub(super) fn sorted_query(&self, random: &mut Random) -> Query {
        let key = self.sorted_key(random);
        match random.below(4) {
            0 => Query::Rank { key, member: self.member(random), is_reverse: random.chance(500) },
            1 => Query::SortedCount(key, self.range(random)),
            _ => Query::Sorted(self.sorted_page(key, random)),
        }
    }

    fn sorted_page(&self, key: Vec<u8>, random: &mut Random) -> SortedPage {
        let (range, is_reverse) = (self.range(random), random.chance(500));
        let offset = if random.chance(300) { random.below(3) as u64 } else { 0 };
        let count = random.chance(300).then(|| random.below(4) as u64);
        SortedPage { key, range, is_reverse, offset, count }
    }

    fn range(&self, random: &mut Random) -> SortedRange {
        match random.below(3) {
            0 => SortedRange::Ranks { start: *random.pick(&RANKS), stop: *random.pick(&RANKS) },
            1 => {
                let (min, max) = (score(random), score(random));
                SortedRange::Scores { min: bound(min, random), max: bound(max, random) }
            }
            _ => {
                let (min, max) = (self.member(random), self.member(random));
                SortedRange::Members { min: bound(min, random), max: bound(max, random) }
            }
        }
    }

    /// There are more of them than of elements and fields, so that ranges have an inside.
    fn member(&self, random: &mut Random) -> Vec<u8> {
        format!("s{}", random.below(3 * self.subkeys)).into_bytes()
    }
}

fn score(random: &mut Random) -> Score {
    Score::new(*random.pick(&SCORES)).expect("each of them is a number")
}

fn bound<T>(at: T, random: &mut Random) -> Bound<T> {
    match random.below(5) {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Excluded(at),
        _ => Bound::Included(at),
    }
}
