//! Liars cannot make honest replicas differ: random validly signed frames, in any order, to several replicas.
//!
//! The authors here write operations that no honest replica would: removals of rows that they never saw, resets
//! to invented sums, slots opened twice or used after their end, slots of others folded that count, retirements,
//! vectors of others, keys of other kinds. What all replicas have applied is equal in the end, and equal vectors have
//! equal rows all along.
//!
//! More: `SEEDS=100000 cargo nextest run -p tidelock-engine --test it hostile_authors`.

use std::collections::BTreeMap;

use crate::world::by_hand::{Station, card};
use crate::world::check_derived;
use crate::world::forge::Forger;
use crate::world::random::Random;
use tidelock_engine::crdt::DotStore;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::op::{
    DotRef, Element, FieldValue, KeySlot, MemberScore, Op, Prefix, RowRef, SlotChange,
};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;

const AUTHORS: u8 = 3;
const REPLICAS: u8 = 3;

struct Liars {
    random: Random,
    forgers: Vec<Forger>,
}

impl Liars {
    fn new(seed: u64) -> Self {
        let forgers = (0..AUTHORS).map(|index| Forger::new(REPLICAS + index)).collect();
        Self { random: Random::new(seed), forgers }
    }

    /// A frame of some author that names only what was made before it, so that it can be applied at last.
    fn frame(&mut self) -> Frame {
        let author = self.random.below(self.forgers.len());
        let others: Vec<(ReplicaId, u64)> = self
            .forgers
            .iter()
            .enumerate()
            .filter(|(index, forger)| *index != author && forger.next > 1)
            .map(|(_, forger)| (forger.id, forger.next - 1))
            .collect();
        let ids: Vec<ReplicaId> = others.iter().map(|(id, _)| *id).collect();
        let first = self.forgers[author].next;
        let count = 1 + self.random.below(3) as u64;
        let ops: Vec<Op> = (0..count).map(|n| self.op(first + n, &others)).collect();
        self.forgers[author].frame(&ids, &ops)
    }

    /// Any operation of this author or another, before this one.
    fn dot(&mut self, seq: u64, others: &[(ReplicaId, u64)]) -> Option<DotRef> {
        let choice = self.random.below(others.len() + 1);
        let last = if choice == 0 { seq - 1 } else { others[choice - 1].1 };
        let replica = u32::try_from(choice).expect("few");
        (last > 0).then(|| DotRef { replica, seq: 1 + self.random.next() % last })
    }

    fn dots(&mut self, seq: u64, others: &[(ReplicaId, u64)]) -> Vec<DotRef> {
        (0..self.random.below(4)).filter_map(|_| self.dot(seq, others)).collect()
    }

    fn sum(&mut self) -> i128 {
        [i128::MIN, -7, 0, 1, 5, i128::MAX][self.random.below(6)]
    }

    fn slots(&mut self, seq: u64, others: &[(ReplicaId, u64)]) -> Vec<SlotChange> {
        (0..self.random.below(3)).filter_map(|_| self.slot(seq, others)).collect()
    }

    fn slot(&mut self, seq: u64, others: &[(ReplicaId, u64)]) -> Option<SlotChange> {
        let dot = self.dot(seq, others)?;
        if dot.replica == 0 {
            return Some(SlotChange::Close { birth: dot.seq });
        }
        if self.random.chance(30) {
            return Some(SlotChange::Fold { birth: dot });
        }
        let last = others[dot.replica as usize - 1].1;
        let top = dot.seq + self.random.next() % (last - dot.seq + 1);
        Some(SlotChange::Reset { birth: dot, top, sum: self.sum() })
    }

    fn op(&mut self, seq: u64, others: &[(ReplicaId, u64)]) -> Op {
        let key = vec![b"kl"[self.random.below(2)]];
        let kind = [Kind::Register, Kind::Set, Kind::Map, Kind::Document, Kind::Deadline, Kind::Sorted]
            [self.random.below(6)];
        let has_subkey = kind.has_members();
        let subkey = if has_subkey { vec![b'x'] } else { Vec::new() };
        if let Some(last) = self.dot(seq, others).filter(|_| self.random.chance(5)) {
            return Op::Retire { last };
        }
        if self.random.chance(5) {
            let observed = self.dots(seq, others);
            return Op::Expire { key, deadline_ms: self.random.next(), observed };
        }
        match self.random.below(11) {
            10 => {
                let (member, observed) = (b"x".to_vec(), self.dots(seq, others));
                let score = [Score::ZERO, Score::LOWEST][self.random.below(2)];
                Op::Score { key, members: vec![MemberScore { member, score, observed }] }
            }
            0 => {
                let (observed, slots) = (self.dots(seq, others), self.slots(seq, others));
                Op::Set { key, value: seq.to_string().into_bytes(), observed, slots }
            }
            1..4 => {
                let birth = if seq == 1 || self.random.chance(30) { 0 } else { self.random.next() % seq };
                Op::Increment { key, birth, sum: self.sum() }
            }
            4 => {
                let observed = self.dots(seq, others);
                Op::Add { key, elements: vec![Element { element: b"x".to_vec(), observed }] }
            }
            5 => {
                let (field, value, observed) = (b"x".to_vec(), b"1".to_vec(), self.dots(seq, others));
                Op::Put { key, fields: vec![FieldValue { field, value, observed }] }
            }
            6 => Op::Change { key, chunk: b"c".to_vec(), observed: self.dots(seq, others) },
            7 | 8 => {
                let dots = self.dots(seq, others);
                let rows = dots.into_iter().map(|dot| RowRef { kind, subkey: subkey.clone(), dot }).collect();
                Op::Delete { key, rows, slots: self.slots(seq, others) }
            }
            _ => {
                let prefix = match self.random.below(3) {
                    0 => Prefix::Keyspace,
                    1 => Prefix::Key(key.clone()),
                    _ => Prefix::Group { key: key.clone(), kind, subkey },
                };
                let vector = self.dots(seq, others);
                let changes = self.slots(seq, others).into_iter();
                let slots = changes.map(|change| KeySlot { key: key.clone(), change }).collect();
                Op::Clear { prefix, vector, slots }
            }
        }
    }
}

fn world_of(seed: u64) -> usize {
    let mut liars = Liars::new(seed);
    let frames: Vec<Frame> = (0..12).map(|_| liars.frame()).collect();
    let mut stations: Vec<Station> =
        (0..REPLICAS).map(|index| Station::new(index, REPLICAS + AUTHORS)).collect();
    let mut rows_of: BTreeMap<Vec<u64>, DotStore> = BTreeMap::new();
    for _ in 0..40 {
        let station = liars.random.below(stations.len());
        let frame = liars.random.pick(&frames).clone();
        stations[station].deliver(&[frame]);
        let rows = stations[station].rows();
        check_derived(rows);
        let vector: Vec<u64> =
            liars.forgers.iter().map(|forger| rows.vector().get(card(forger.index).replica())).collect();
        let known = rows_of.entry(vector).or_insert_with(|| rows.clone());
        assert_eq!(known, rows, "equal vectors, other rows");
    }
    for station in &mut stations {
        station.deliver(&frames);
        assert_eq!(station.counter("frames_applied"), frames.len() as u64, "all can be applied");
        assert_eq!(station.report().evidence, []);
    }
    assert_eq!(stations[0].rows(), stations[1].rows());
    assert_eq!(stations[0].rows(), stations[2].rows());
    stations[0].rows().rows().len()
}

#[test]
fn honest_replicas_agree_on_what_liars_wrote() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let from = std::env::var("FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut rows = 0;
    for seed in from..from + seeds {
        println!(
            "replay: SEEDS=1 FIRST_SEED={seed} cargo nextest run -p tidelock-engine --test it hostile_authors"
        );
        rows += world_of(seed);
    }
    assert!(rows >= usize::try_from(seeds).expect("few"), "the liars wrote something");
}
