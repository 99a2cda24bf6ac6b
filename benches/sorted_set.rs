//! A sorted set of 1,000 and of 1,000,000 members, on a real store in a temporary directory.
//!
//! Where a member is in the order must not cost what the set is long. Each turn gives a random member that is there
//! another random score, so that the set keeps its size and every change moves a member; each read asks for the rank of
//! a random member, for ten members from a random rank on, and for the number of members between two random scores. The
//! sizes are measured in turn, and what counts is the ratio. The CPU is that of the whole process.
//!
//! `cargo bench --bench sorted_set [-- MEMBERS...]` measures other sizes; the first is what others are compared to.

mod measure;

use std::ops::Bound;

use measure::figures::{Figure, Target, print};
use measure::pair::{Node, keyspace, redb_store};
use measure::{Dice, arguments, median, micros_each, process_cpu};
use tempfile::TempDir;
use tidelock_engine::ports::Rows;
use tidelock_engine::read::{Query, SortedPage, SortedRange, answer};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;
use tidelock_engine::write::{ScoreRule, Write};
use tidelock_store::{Materializer, RedbStore};

const ROUNDS: usize = 5;

/// Durable changes of one score, each a turn with a commit of its own, per round.
const SINGLES: usize = 300;

/// Turns of [`BATCH_CHANGES`] changes per round.
const BATCHES: usize = 5;

const BATCH_CHANGES: usize = 1_000;

/// Reads of each kind per round.
const READS: usize = 2_000;

const KEY: &[u8] = b"scores";

/// What is measured, and what the ratio may be.
const WORK: [(&str, f64); 5] = [
    ("ZADD, single durable", 4.0),
    ("ZADD, batches of 1,000", 12.0),
    ("ZRANK", 6.0),
    ("ZRANGE, ten members", 6.0),
    ("ZCOUNT", 6.0),
];

/// A node with a sorted set of some size.
struct Subject {
    members: usize,
    node: Node<RedbStore>,
    dice: Dice,
    costs: [Vec<f64>; WORK.len()],
    _materializer: Materializer,
    _directory: TempDir,
}

fn member(number: usize) -> Vec<u8> {
    format!("member:{number:012}").into_bytes()
}

fn score(dice: &mut Dice) -> Score {
    let number = u32::try_from(dice.below(1 << 30)).expect("it is below");
    Score::new(f64::from(number) / 8.0).expect("a number")
}

fn scored(number: usize, score: Score) -> Write {
    Write::Score { key: KEY.to_vec(), members: vec![(member(number), score)], rule: ScoreRule::default() }
}

impl Subject {
    fn new(members: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = redb_store(directory.path(), 1);
        let materializer = store.spawn_materializer().expect("a thread");
        let (mut node, mut dice) = (Node::new(1, store), Dice(7));
        let all: Vec<usize> = (0..members).collect();
        for some in all.chunks(BATCH_CHANGES) {
            node.write(0, some.iter().map(|number| scored(*number, score(&mut dice))).collect());
        }
        node.store().flush().expect("the disk takes everything");
        let costs = WORK.map(|_| Vec::new());
        Self { members, node, dice, costs, _materializer: materializer, _directory: directory }
    }

    /// Rows that wait in memory are written before and within the measurement.
    fn write(&mut self, turns: usize, changes: usize) -> f64 {
        self.node.store().materialize().expect("the disk takes everything");
        let start = process_cpu();
        for _ in 0..turns {
            let writes = (0..changes).map(|_| {
                let number = self.dice.below(self.members);
                scored(number, score(&mut self.dice))
            });
            let writes = writes.collect();
            self.node.write(1, writes);
        }
        self.node.store().materialize().expect("the disk takes everything");
        micros_each(process_cpu().saturating_sub(start), turns * changes)
    }

    fn read(&mut self, query: fn(&mut Dice, usize) -> Query) -> f64 {
        let queries: Vec<Query> = (0..READS).map(|_| query(&mut self.dice, self.members)).collect();
        let start = process_cpu();
        for query in &queries {
            let snapshot = self.node.store().reader().snapshot();
            answer(&snapshot, keyspace(), query).expect("it is a sorted set");
        }
        micros_each(process_cpu().saturating_sub(start), READS)
    }

    fn measure(&mut self) {
        let costs = [
            self.write(SINGLES, 1),
            self.write(BATCHES, BATCH_CHANGES),
            self.read(|dice, members| Query::Rank {
                key: KEY.to_vec(),
                member: member(dice.below(members)),
                is_reverse: false,
            }),
            self.read(|dice, members| {
                let start = i64::try_from(dice.below(members)).expect("it is below");
                let range = SortedRange::Ranks { start, stop: start + 9 };
                Query::Sorted(SortedPage { range, ..SortedPage::all(KEY.to_vec()) })
            }),
            self.read(|dice, _| {
                let (min, max) = (Bound::Included(score(dice)), Bound::Excluded(score(dice)));
                Query::SortedCount(KEY.to_vec(), SortedRange::Scores { min, max })
            }),
        ];
        self.costs.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost));
    }

    fn assert_size(&self) {
        let members =
            self.node.store().members(keyspace(), KEY, Kind::Sorted).expect("the store can be read");
        assert_eq!(members, self.members as u64, "the set kept its size");
    }
}

fn main() {
    let sizes = Some(arguments()).filter(|sizes| !sizes.is_empty()).unwrap_or(vec![1_000, 1_000_000]);
    let mut subjects: Vec<Subject> = sizes.into_iter().map(Subject::new).collect();
    for _ in 0..ROUNDS {
        subjects.iter_mut().for_each(Subject::measure);
    }
    subjects.iter().for_each(Subject::assert_size);
    println!("CPU of the process in microseconds, medians of {ROUNDS} rounds in turn");
    for Subject { members, costs, .. } in &subjects {
        for ((what, _), costs) in WORK.iter().zip(costs) {
            println!("{members:>10} {what:>24} {:>10.1}", median(costs.clone()));
        }
    }
    let (first, last) = (&subjects[0], &subjects[subjects.len() - 1]);
    println!("\nthe most members against the fewest, medians of the rounds' ratios:");
    let figures =
        WORK.iter().zip(last.costs.iter().zip(&first.costs)).map(|((what, gate), (last, first))| {
            let value = median(last.iter().zip(first).map(|(last, first)| last / first).collect());
            Figure { what, value, unit: "x", gate: Target::AtMost(*gate), goal: Target::AtMost(*gate) }
        });
    print(&figures.collect::<Vec<_>>());
}
