//! What the processes take, seen from outside and asked of them, every so often.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::processes::Client;

use super::board::{Board, Seat};

/// How long a node may take to say how many tasks it has, before the sample goes without.
const PATIENCE: Duration = Duration::from_secs(2);

/// The unit in which the system counts what a file takes.
const BLOCK_BYTES: u64 = 512;

/// One node at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the load began.
    pub(crate) at_s: f64,
    /// Which node.
    pub(crate) node: usize,
    /// Which of its processes, from 1.
    pub(crate) life: u32,
    /// Whether all nodes had been up and online for some time.
    pub(crate) is_calm: bool,
    /// Resident memory in KiB.
    pub(crate) memory_kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Tasks of its asynchronous runtime, unless it did not say.
    pub(crate) tasks: Option<u64>,
    /// What `log.redb` takes on the disk. Its length is more: it grows ahead, in large steps and without blocks.
    pub(crate) log_bytes: u64,
    /// What `rows.redb` takes on the disk.
    pub(crate) rows_bytes: u64,
    /// Writes that were acknowledged by all nodes so far.
    pub(crate) writes: u64,
}

/// Takes the samples.
#[derive(Debug)]
pub(crate) struct Sampler<'a> {
    board: &'a Board,
    data: &'a [PathBuf],
    started: Instant,
    /// For how long all must be well before a sample is calm.
    settled: Duration,
    /// One connection per node, to the life that it is of.
    clients: Vec<Option<(u32, Client)>>,
}

impl<'a> Sampler<'a> {
    /// Of the nodes whose data is in these directories.
    pub(crate) fn new(board: &'a Board, data: &'a [PathBuf], settled: Duration) -> Self {
        let clients = data.iter().map(|_| None).collect();
        Self { board, data, started: Instant::now(), settled, clients }
    }

    /// One sample of each node that runs.
    pub(crate) fn take(&mut self) -> Vec<Sample> {
        let is_calm = self.board.is_calm(self.settled);
        let seats = self.board.seats();
        let samples = seats.iter().enumerate().filter(|(_, seat)| seat.is_up);
        samples.filter_map(|(node, seat)| self.sample(node, seat, is_calm)).collect()
    }

    /// `None` when the process ended meanwhile.
    fn sample(&mut self, node: usize, seat: &Seat, is_calm: bool) -> Option<Sample> {
        // It is first, because the connection is one of the descriptors.
        let tasks = if seat.is_paused { None } else { self.tasks(node, seat) };
        let process = Path::new("/proc").join(seat.pid.to_string());
        let status = fs::read_to_string(process.join("status")).ok()?;
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let count = |folder: &str| Some(fs::read_dir(process.join(folder)).ok()?.count() as u64);
        let size = |file: &str| {
            fs::metadata(self.data[node].join(file)).map_or(0, |file| file.blocks() * BLOCK_BYTES)
        };
        Some(Sample {
            at_s: self.started.elapsed().as_secs_f64(),
            node,
            life: seat.life,
            is_calm,
            memory_kib: field("VmRSS")?,
            descriptors: count("fd")?,
            threads: count("task")?,
            tasks,
            log_bytes: size("log.redb"),
            rows_bytes: size("rows.redb"),
            writes: self.board.tally.writes.load(Ordering::Relaxed),
        })
    }

    fn tasks(&mut self, node: usize, seat: &Seat) -> Option<u64> {
        let known = self.clients[node].take().filter(|(life, _)| *life == seat.life);
        let mut client = match known {
            Some((_, client)) => client,
            None => Client::open(&seat.redis, PATIENCE).ok()?,
        };
        let info = client.command(&["INFO", "server"]).ok()?;
        self.clients[node] = Some((seat.life, client));
        info.lines().find_map(|line| line.strip_prefix("tasks:")?.parse().ok())
    }
}
