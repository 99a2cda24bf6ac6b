//! What is computed from what is read: edits, pops, copies, combinations, deadlines, decisions, and reads of all sorts.

use tidelock_engine::condition::Condition;
use tidelock_engine::read::{Collection, Combination, KeyPage, Query, RandomPick, SubkeyPage};
use tidelock_engine::request::{Action, DECISION_DEPTH_MAX, Decision};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::write::{Addend, Decimal, Edit, ExpireIf, Ttl, Write};

use super::Workload;
use crate::random::Random;

/// What is added to numbers with a fraction.
const DECIMALS: [&str; 5] = ["0.25", "-1.5", "3", "1e2", "-0.1"];

/// What sets are made into.
const COMBINATIONS: [Combination; 3] =
    [Combination::Intersection, Combination::Union, Combination::Difference];

/// In which cases alone deadlines are set.
const CASES: [Option<ExpireIf>; 8] = [
    None,
    None,
    None,
    Some(ExpireIf::HasNone),
    Some(ExpireIf::HasOne),
    Some(ExpireIf::Later),
    Some(ExpireIf::Sooner),
    Some(ExpireIf::HasLater),
];

impl Workload {
    pub(super) fn key(&self, random: &mut Random) -> Vec<u8> {
        format!("k{}", random.below(self.keys)).into_bytes()
    }

    /// A key that is mostly used as a set, as a map or as a register: 0, 1 or 2; now and then any.
    fn key_of(&self, kind: usize, random: &mut Random) -> Vec<u8> {
        if random.chance(200) {
            return self.key(random);
        }
        let number = kind + 3 * random.below(self.keys.div_ceil(3));
        format!("k{}", number % self.keys).into_bytes()
    }

    pub(super) fn subkey(&self, random: &mut Random) -> Vec<u8> {
        format!("s{}", random.below(self.subkeys)).into_bytes()
    }

    pub(super) fn computed_write(&self, random: &mut Random, number: u64) -> Write {
        let decimal = |random: &mut Random| {
            Decimal::parse(random.pick(&DECIMALS).as_bytes()).expect("each of them is a number")
        };
        let offset = random.below(40) as u64;
        if random.chance(250) {
            return self.sorted_write(random);
        }
        let edit = match random.below(16) {
            0..2 => Edit::Append(number.to_string().into_bytes()),
            2 => Edit::Append(b" and more".to_vec()),
            3..5 => Edit::Splice { offset: offset / 4, bytes: vec![b'z'; random.below(3)] },
            5..7 => Edit::Bit { offset, is_set: random.chance(500) },
            7..9 => Edit::Add(decimal(random)),
            9 => {
                let by = if random.chance(500) {
                    Addend::Integer(*random.pick(&[-3, -1, 1, 2, 5]))
                } else {
                    Addend::Decimal(decimal(random))
                };
                return Write::AddToField { key: self.key_of(1, random), field: self.subkey(random), by };
            }
            10..12 => {
                let (count, seed) = (1 + random.below(3) as u64, random.next());
                return Write::Pop { key: self.key_of(0, random), count, seed };
            }
            12..14 => {
                let kind = random.below(3);
                // What is copied over something of another kind replaces it.
                let (from, to) = (self.key_of(kind, random), self.key_of(kind, random));
                return Write::Copy { from, to, is_move: random.chance(300) };
            }
            _ => {
                let keys = (0..=random.below(3)).map(|_| self.key_of(0, random)).collect();
                let how = *random.pick(&COMBINATIONS);
                return Write::Combine { into: self.key_of(0, random), how, keys };
            }
        };
        Write::Edit { key: self.key_of(2, random), edit }
    }

    pub(super) fn expiring_write(&self, random: &mut Random, number: u64, now_ms: u64) -> Write {
        let key = self.any_key(random);
        // Most are soon, some outlive the history, and some are past.
        let after_ms = match random.below(20) {
            0..12 => random.between(50, 4_000),
            12..15 => random.between(4_000, 60_000),
            15..17 => random.between(60_000, 20_000_000),
            17 => random.between(1_000_000_000, 900_000_000_000),
            _ => 0,
        };
        let deadline_ms = if after_ms == 0 {
            now_ms.saturating_sub(random.between(0, 5_000))
        } else {
            now_ms.saturating_add(after_ms)
        };
        match random.below(10) {
            0..5 => Write::Expire { key, deadline_ms, only: *random.pick(&CASES) },
            5 => Write::Persist { key },
            6 => Write::SetFor { key, value: number.to_string().into_bytes(), ttl: Ttl::Keep },
            _ => {
                let key = self.key_of(2, random);
                Write::SetFor { key, value: number.to_string().into_bytes(), ttl: Ttl::Until(deadline_ms) }
            }
        }
    }

    pub(super) fn query(&self, random: &mut Random) -> Query {
        let key = self.any_key(random);
        let collection = *random.pick(&[Collection::Set, Collection::Map, Collection::Sorted]);
        let count = 1 + random.below(4);
        match random.below(15) {
            0 => Query::Get(self.key_of(2, random)),
            1 => Query::Members(self.key_of(0, random)),
            2 => Query::Fields(self.key_of(1, random)),
            3 => Query::Page(SubkeyPage { key, collection, after: Some(self.subkey(random)), count }),
            4 | 5 => {
                let (is_repeated, seed) = (random.chance(300), random.next());
                Query::Random(RandomPick { key, collection, count: count as u64, is_repeated, seed })
            }
            6 => Query::RandomKey(random.next()),
            7 => Query::Keys(KeyPage { after: Some(key), count, ..KeyPage::default() }),
            8 => Query::Deadline(key),
            9 => {
                let keys = (0..count).map(|_| self.key_of(0, random)).collect();
                Query::Combined(*random.pick(&COMBINATIONS), keys)
            }
            10 => {
                let keys = (0..count).map(|_| self.key_of(0, random)).collect();
                Query::CommonCount(keys, 1 + random.below(3) as u64)
            }
            11 => Query::Size,
            _ => self.sorted_query(random),
        }
    }

    /// A decision, or several things of which all are done or none.
    pub(super) fn decided(&self, random: &mut Random, (number, now_ms): (u64, u64)) -> Action {
        if random.chance(300) {
            let count = 1 + random.below(3);
            return Action::Whole(
                (0..count).map(|_| Action::Write(self.write(random, number, now_ms))).collect(),
            );
        }
        Action::Decide(Box::new(self.decision(random, (number, now_ms), 1)))
    }

    fn decision(&self, random: &mut Random, (number, now_ms): (u64, u64), depth: usize) -> Decision {
        let action = |random: &mut Random| match random.below(10) {
            0 => Action::Query(self.query(random)),
            1 if depth < DECISION_DEPTH_MAX => {
                Action::Decide(Box::new(self.decision(random, (number, now_ms), depth + 1)))
            }
            _ => Action::Write(self.write(random, number, now_ms)),
        };
        Decision {
            reads: (0..random.below(2)).map(|_| self.query(random)).collect(),
            conditions: (0..random.below(3)).map(|_| self.condition(random)).collect(),
            actions: (0..=random.below(2)).map(|_| action(random)).collect(),
            is_whole: random.chance(500),
        }
    }

    fn condition(&self, random: &mut Random) -> Condition {
        let key = self.any_key(random);
        match random.below(7) {
            0 | 1 => Condition::Exists(key),
            2 => Condition::Missing(key),
            3 => Condition::FieldMissing { key: self.key_of(1, random), field: self.subkey(random) },
            4 => {
                let (element, is_in) = (self.subkey(random), random.chance(500));
                Condition::Contains { key: self.key_of(0, random), element, is_in }
            }
            5 => Condition::Unchanged { key, revision: Fingerprint::default() },
            _ => Condition::Equals { key: self.key_of(2, random), value: None },
        }
    }
}
