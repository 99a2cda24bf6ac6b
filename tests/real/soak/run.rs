//! A soak from its beginning to its end: nodes, capacity, load with faults, and what must hold then.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::{Node, Options, PROGRAM};

use super::args::Plan;
use super::board::{Board, SetAtEnd};
use super::chaos::{Chaos, FaultTally, OPERATIONS_MIN};
use super::outcome;
use super::random::Random;
use super::report::Report;
use super::sample::{Sample, Sampler};
use super::trend::NodeTrends;
use super::writer::{Pace, Writer};

/// The writers of each node.
const WRITERS_PER_NODE: usize = 2;

/// The load, as one part of so many of the capacity.
const CAPACITY_PARTS: u64 = 3;

/// How often the main thread looks at the time.
const TICK: Duration = Duration::from_millis(50);

/// What the load left behind.
struct Loaded {
    board: Board,
    faults: FaultTally,
    samples: Vec<Sample>,
    load: Duration,
}

/// A soak that has nodes.
pub(crate) struct Soak<'a> {
    plan: &'a Plan,
    nodes: Vec<Node>,
    data: Vec<PathBuf>,
    writers: Vec<Writer>,
}

impl<'a> Soak<'a> {
    /// Starts nodes that all dial each other, with their data in a folder.
    pub(crate) fn start(plan: &'a Plan, folder: &Path) -> Self {
        let data: Vec<PathBuf> = (0..plan.nodes).map(|node| folder.join(format!("node-{node}"))).collect();
        let addresses = free_addresses(plan.nodes);
        let start = |(node, data): (usize, &PathBuf)| {
            let mut peers = addresses.clone();
            let listen = vec![peers.remove(node)];
            let log = Some(data.with_extension("log"));
            Node::start(PROGRAM, data, Options { listen, peers, log, ..Options::default() })
        };
        let nodes: Vec<Node> = data.iter().enumerate().map(start).collect();
        let writer = |number| Writer::new(plan.seed, number, number % plan.nodes);
        let writers = (0..plan.nodes * WRITERS_PER_NODE).map(writer).collect();
        Self { plan, nodes, data, writers }
    }

    /// Does it all.
    ///
    /// # Errors
    /// What did not hold.
    pub(crate) fn run(mut self) -> Result<Report, String> {
        let (capacity, rate) = if let Some(rate) = self.plan.rate {
            (None, rate)
        } else {
            let capacity = self.capacity()?;
            println!("capacity: {capacity} operations/s of {} waiting writers", self.writers.len());
            (Some(capacity), capacity / CAPACITY_PARTS)
        };
        println!("load: {rate} operations/s");
        let Loaded { board, faults, samples, load } = self.load(rate)?;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let operations = count(&board.tally.operations);
        let has_all = faults.kills_of_all > 0 && faults.pauses > 0 && faults.cuts > 0;
        let has_kills = faults.kills > 0 || self.nodes.len() == 1;
        if operations < OPERATIONS_MIN || !has_all || !has_kills {
            return Err(format!("too little was done: {operations} operations, {faults:?}"));
        }
        let equal_after = outcome::become_equal(&mut self.nodes)?;
        let account = outcome::hold_what_was_acknowledged(&self.nodes, &self.writers)?;
        if self.plan.has_check {
            println!("checking the files");
            outcome::have_sound_files(&mut self.nodes, &self.data)?;
        }
        let (increments, members) = account.totals();
        Ok(Report {
            seed: self.plan.seed,
            capacity_per_second: capacity,
            rate_per_second: rate,
            load_s: load.as_secs_f64(),
            operations,
            writes: count(&board.tally.writes),
            unknown: count(&board.tally.unknown),
            shed: count(&board.tally.shed),
            increments,
            members,
            faults,
            equal_after_s: equal_after.as_secs_f64(),
            nodes: (0..self.nodes.len()).filter_map(|node| NodeTrends::of(node, &samples)).collect(),
            samples,
        })
    }

    /// Operations per second of all nodes, when nothing is wrong and each writer waits for its answers.
    fn capacity(&mut self) -> Result<u64, String> {
        let board = Board::new(&self.nodes);
        let started = Instant::now();
        let time = self.plan.capacity;
        write_all(&mut self.writers, &board, None, || {
            while started.elapsed() < time && !board.is_enough.load(Ordering::Relaxed) {
                thread::sleep(TICK);
            }
            board.is_over.store(true, Ordering::Relaxed);
        })?;
        let operations = board.tally.operations.load(Ordering::Relaxed);
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).expect("it is short");
        Ok(operations * 1_000 / elapsed_ms)
    }

    /// The load with the faults.
    fn load(&mut self, rate: u64) -> Result<Loaded, String> {
        let board = Board::new(&self.nodes);
        let plan = self.plan;
        let chaos = Chaos::new(plan.seed, &mut self.nodes, &board, &plan.faults);
        let per_writer = (rate / u64::try_from(self.writers.len()).expect("they are few")).max(1);
        let started = Instant::now();
        let mut watch = Watch::new(plan, &board, &self.data);
        let mut faults = FaultTally::default();
        write_all(&mut self.writers, &board, Some(per_writer), || {
            faults = thread::scope(|scope| {
                let chaos = scope.spawn(|| chaos.run(plan.load));
                watch.until_over();
                chaos.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
        })?;
        let (samples, load) = (watch.samples, started.elapsed());
        Ok(Loaded { board, faults, samples, load })
    }
}

/// Lets all writers write while something is done, which ends with the board being over.
fn write_all(
    writers: &mut [Writer],
    board: &Board,
    per_second: Option<u64>,
    meanwhile: impl FnOnce(),
) -> Result<(), String> {
    thread::scope(|scope| {
        let write = |writer| scope.spawn(move || Writer::drive(writer, board, &mut Pace::new(per_second)));
        let threads: Vec<_> = writers.iter_mut().map(write).collect();
        let end = SetAtEnd(&board.is_over);
        meanwhile();
        drop(end);
        let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
        let ended: Vec<Result<(), String>> =
            ended.map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect();
        ended.into_iter().collect()
    })
}

/// Takes samples and tells how it goes.
struct Watch<'a> {
    plan: &'a Plan,
    board: &'a Board,
    sampler: Sampler<'a>,
    samples: Vec<Sample>,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, board: &'a Board, data: &'a [PathBuf]) -> Self {
        Self { plan, board, sampler: Sampler::new(board, data, plan.settled), samples: Vec::new() }
    }

    fn until_over(&mut self) {
        let started = Instant::now();
        let (mut taken, mut told, mut operations) = (started, started, 0);
        while !self.board.is_over.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            if taken.elapsed() >= self.plan.sample_every {
                taken += self.plan.sample_every;
                let samples = self.sampler.take();
                let bytes: u64 = samples.iter().map(|sample| sample.log_bytes + sample.rows_bytes).sum();
                if bytes > self.plan.bytes_max {
                    println!("the files have {} MiB together: the load ends early", bytes >> 20);
                    self.board.is_enough.store(true, Ordering::Relaxed);
                }
                self.samples.extend(samples);
            }
            if told.elapsed() >= self.plan.progress_every {
                let now = self.board.tally.operations.load(Ordering::Relaxed);
                let elapsed_ms = u64::try_from(told.elapsed().as_millis()).expect("it is short");
                self.tell(started.elapsed(), now, (now - operations) * 1_000 / elapsed_ms);
                (told, operations) = (Instant::now(), now);
            }
        }
    }

    fn tell(&self, elapsed: Duration, operations: u64, per_second: u64) {
        let latest = |node| self.samples.iter().rev().find(|sample| sample.node == node);
        let nodes = (0..self.plan.nodes).map(|node| match latest(node) {
            Some(Sample { life, memory_kib, descriptors, tasks, log_bytes, .. }) => format!(
                "life {life} {} MiB {descriptors} fd {} tasks log {} MiB",
                memory_kib >> 10,
                tasks.map_or("?".to_owned(), |tasks| tasks.to_string()),
                log_bytes >> 20
            ),
            None => "not seen yet".to_owned(),
        });
        let nodes: Vec<String> = nodes.collect();
        let seconds = elapsed.as_secs();
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        println!("{minutes:>4}:{seconds:02} {operations} operations, {per_second}/s | {}", nodes.join(" | "));
    }
}

/// Free addresses below the ports that the system gives to whoever asks for any, so that nobody takes one while
/// its node is down.
fn free_addresses(count: usize) -> Vec<String> {
    let mut random = Random::new(u64::from(std::process::id()), 0);
    let mut addresses: Vec<String> = Vec::new();
    while addresses.len() < count {
        let port = 10_000 + random.below(20_000);
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        if TcpListener::bind(format!("127.0.0.1:{port}")).is_ok() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}
