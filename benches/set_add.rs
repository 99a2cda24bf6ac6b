//! Adding to a set of 10, 1,000 and 100,000 members, on a real store in a temporary directory.
//!
//! A set is rows, never a blob: an add must not cost what the set is long. Each add is of a random member that
//! is there already, so that the set keeps its size (a set that grows during the run looks flat and is not).
//! The sizes are measured in turn, and what counts is the ratio to 10 members. The CPU is that of the whole
//! process: commits, and the thread that writes rows behind them.
//!
//! `cargo bench --bench set_add [-- MEMBERS...]` measures other sizes; the first is what others are compared to.

mod measure;

use std::time::Instant;

use measure::figures::{Figure, Target, print};
use measure::pair::{Node, redb_store};
use measure::work::add;
use measure::{Dice, arguments, median, micros_each, process_cpu};
use tempfile::TempDir;
use tidelock_engine::ports::Rows;
use tidelock_engine::row::Kind;
use tidelock_store::{Materializer, RedbStore};

const ROUNDS: usize = 7;

/// Durable adds of one element, each a turn with a commit of its own, per round.
const SINGLES: usize = 500;

/// Turns of [`BATCH_ADDS`] adds per round.
const BATCHES: usize = 20;

const BATCH_ADDS: usize = 1_000;

/// A node with a set of some size.
struct Subject {
    members: usize,
    node: Node<RedbStore>,
    dice: Dice,
    single: Vec<Cost>,
    batched: Vec<Cost>,
    _materializer: Materializer,
    _directory: TempDir,
}

/// What one add took, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu: f64,
    wall: f64,
    /// The slowest turn's.
    worst: f64,
}

impl Subject {
    fn new(members: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = redb_store(directory.path(), 1);
        let materializer = store.spawn_materializer().expect("a thread");
        let mut node = Node::new(1, store);
        let all: Vec<usize> = (0..members).collect();
        all.chunks(BATCH_ADDS).for_each(|some| node.write(0, some.iter().copied().map(add).collect()));
        node.store().flush().expect("the disk takes everything");
        Self {
            members,
            node,
            dice: Dice(7),
            single: Vec::new(),
            batched: Vec::new(),
            _materializer: materializer,
            _directory: directory,
        }
    }

    /// Some turns of so many adds each. Rows that wait in memory are written before and within the measurement.
    fn measure(&mut self, turns: usize, adds: usize) -> Cost {
        self.node.store().materialize().expect("the disk takes everything");
        let mut walls = Vec::with_capacity(turns);
        let start = process_cpu();
        for _ in 0..turns {
            let writes = (0..adds).map(|_| add(self.dice.below(self.members))).collect();
            let start = Instant::now();
            self.node.write(1, writes);
            walls.push(micros_each(start.elapsed(), adds));
        }
        self.node.store().materialize().expect("the disk takes everything");
        let cpu = micros_each(process_cpu().saturating_sub(start), turns * adds);
        let worst = walls.iter().copied().fold(0.0, f64::max);
        Cost { cpu, wall: median(walls), worst }
    }

    fn assert_size(&self) {
        let keyspace = measure::pair::keyspace();
        let members = self.node.store().members(keyspace, b"set", Kind::Set).expect("the store can be read");
        assert_eq!(members, self.members as u64, "the set kept its size");
    }
}

fn main() {
    let sizes = Some(arguments()).filter(|sizes| !sizes.is_empty()).unwrap_or(vec![10, 1_000, 100_000]);
    let mut subjects: Vec<Subject> = sizes.into_iter().map(Subject::new).collect();
    for _ in 0..ROUNDS {
        for subject in &mut subjects {
            let single = subject.measure(SINGLES, 1);
            let batched = subject.measure(BATCHES, BATCH_ADDS);
            subject.single.push(single);
            subject.batched.push(batched);
        }
    }
    subjects.iter().for_each(Subject::assert_size);
    println!("one add in microseconds, medians of {ROUNDS} rounds in turn; CPU of the whole process");
    println!(
        "{:>10} {:>12} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "members", "single CPU", "p50 wall", "worst wall", "batched CPU", "p50 wall", "worst wall"
    );
    for Subject { members, single, batched, .. } in &subjects {
        let costs = [middle(single), middle(batched)]
            .map(|Cost { cpu, wall, worst }| format!("{cpu:>12.1} {wall:>12.1} {worst:>12.1}"));
        println!("{members:>10} {}", costs.join(" "));
    }
    let (first, last) = (&subjects[0], &subjects[subjects.len() - 1]);
    println!("\nthe most members against the fewest, medians of the rounds' ratios:");
    let ratio = |of: fn(&Subject) -> &Vec<Cost>, value: fn(&Cost) -> f64| {
        let pairs = of(last).iter().zip(of(first));
        median(pairs.map(|(last, first)| value(last) / value(first)).collect())
    };
    let (gate, goal) = (Target::AtMost(2.5), Target::AtMost(2.0));
    let figure = |what, value, gate| Figure { what, value, unit: "x", gate, goal };
    print(&[
        figure("single durable add, CPU", ratio(|of| &of.single, |cost| cost.cpu), gate),
        figure("single durable add, p50 (wall)", ratio(|of| &of.single, |cost| cost.wall), gate),
        figure(
            "adds in batches of 1,000, CPU",
            ratio(|of| &of.batched, |cost| cost.cpu),
            Target::AtMost(12.0),
        ),
    ]);
}

fn middle(costs: &[Cost]) -> Cost {
    Cost {
        cpu: median(costs.iter().map(|cost| cost.cpu).collect()),
        wall: median(costs.iter().map(|cost| cost.wall).collect()),
        worst: median(costs.iter().map(|cost| cost.worst).collect()),
    }
}
