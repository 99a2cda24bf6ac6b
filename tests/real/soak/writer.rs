//! A writer: drives one node with its workload, checks every reply, and keeps what was acknowledged.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::processes::Client;

use super::account::Account;
use super::board::{Board, SetAtEnd};
use super::model::{Model, observe};
use super::operation::{Key, Operation};
use super::workload::Workload;

/// The operations that a writer sends together at most.
const PIPELINE: u64 = 16;

/// How long a node may take to answer; far longer than it is ever paused.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How long a writer sleeps when it has nothing to do.
const TICK: Duration = Duration::from_millis(10);

/// Of the operations that a node could not take, those of so many seconds are made up for. The rest is shed.
const BACKLOG_S: u64 = 1;

/// How fast a writer writes.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Operations per second, however long the answers take; `None` for the next as soon as the last is answered.
    per_second: Option<u64>,
    started: Instant,
    /// What was due so far and is sent or shed.
    issued: u64,
}

impl Pace {
    /// Starts now.
    pub(crate) fn new(per_second: Option<u64>) -> Self {
        Self { per_second, started: Instant::now(), issued: 0 }
    }

    /// The operations to send now.
    fn due(&mut self, shed: &AtomicU64) -> u64 {
        let Some(per_second) = self.per_second else { return PIPELINE };
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).expect("a soak ends");
        let due = per_second * elapsed_ms / 1_000 - self.issued;
        let excess = due.saturating_sub(per_second * BACKLOG_S);
        let count = PIPELINE.min(due - excess);
        shed.fetch_add(excess, Ordering::Relaxed);
        self.issued += excess + count;
        count
    }
}

/// Why a conversation with a node ended before the load did.
#[derive(Debug)]
enum Interrupted {
    /// The connection broke.
    Lost(io::Error),
    /// The node answered what it may not.
    Violated(String),
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A client of one node.
#[derive(Debug)]
pub(crate) struct Writer {
    number: usize,
    /// The node that it writes to.
    pub(crate) home: usize,
    workload: Workload,
    model: Model,
    account: Account,
    /// Sent and not answered.
    in_flight: VecDeque<Operation>,
}

impl Writer {
    /// A writer of a seed and the node that it writes to.
    pub(crate) fn new(seed: u64, number: usize, home: usize) -> Self {
        Self {
            number,
            home,
            workload: Workload::new(seed, number),
            model: Model::default(),
            account: Account::default(),
            in_flight: VecDeque::new(),
        }
    }

    /// What its own keys hold.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// What was acknowledged to it on shared keys.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// All keys that it may have written alone.
    pub(crate) fn keys(&self) -> Vec<Key> {
        Workload::own_keys(self.number).collect()
    }

    /// Writes until the load is over, from one life of its node to the next.
    ///
    /// # Errors
    /// The node lost something or answered wrongly, or it went away and nobody had killed it.
    pub(crate) fn drive(&mut self, board: &Board, pace: &mut Pace) -> Result<(), String> {
        let _end = SetAtEnd(&board.is_enough);
        loop {
            let is_over = board.is_over.load(Ordering::Relaxed);
            let seat = board.running(self.home);
            let seat = match seat {
                Some(seat) if !is_over || !self.in_flight.is_empty() => seat,
                _ if is_over => return Ok(()),
                _ => {
                    thread::sleep(TICK);
                    continue;
                }
            };
            let talked = Client::open(&seat.redis, PATIENCE).map_err(Interrupted::Lost);
            let talked = talked.and_then(|mut client| self.converse(&mut client, board, pace));
            let what = match talked {
                Ok(()) => return Ok(()),
                Err(Interrupted::Violated(what)) => what,
                Err(Interrupted::Lost(_)) if !board.is_running(self.home, seat.life) => continue,
                Err(Interrupted::Lost(error)) => format!("it went away, and nobody killed it: {error}"),
            };
            return Err(format!("node {}, writer {}, life {}: {what}", self.home, self.number, seat.life));
        }
    }

    fn converse(&mut self, client: &mut Client, board: &Board, pace: &mut Pace) -> Result<(), Interrupted> {
        self.settle(client, board)?;
        while !board.is_over.load(Ordering::Relaxed) {
            let count = pace.due(&board.tally.shed);
            if count == 0 {
                thread::sleep(TICK);
                continue;
            }
            self.in_flight.extend((0..count).map(|_| self.workload.next()));
            client.send(self.in_flight.iter().map(Operation::command))?;
            while !self.in_flight.is_empty() {
                let reply = client.read_next()?;
                let operation = self.in_flight.pop_front().expect("it is not empty");
                self.acknowledge(&operation, &reply).map_err(Interrupted::Violated)?;
                board.tally.operations.fetch_add(1, Ordering::Relaxed);
                board.tally.writes.fetch_add(operation.is_write().into(), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, operation: &Operation, reply: &str) -> Result<(), String> {
        if operation.key.owner.is_none() {
            return self.account.acknowledge(operation, reply);
        }
        let expected = self.model.apply(operation);
        if reply == expected {
            return Ok(());
        }
        Err(format!(
            "{operation:?} was answered {reply:?} and not {expected:?}, and nobody else writes this key"
        ))
    }

    /// Checks that a node that was killed holds all that it acknowledged, and finds out what became of the
    /// operations that were in flight.
    fn settle(&mut self, client: &mut Client, board: &Board) -> Result<(), Interrupted> {
        let own: Vec<Operation> =
            self.in_flight.iter().filter(|operation| operation.key.owner.is_some()).cloned().collect();
        let found = observe(client, &self.keys())?;
        self.model.resolve(&own, &found).map_err(|what| {
            Interrupted::Violated(format!("acknowledged and not there after the node was killed: {what}"))
        })?;
        let unknown = u64::try_from(self.in_flight.len()).expect("a pipeline is short");
        board.tally.unknown.fetch_add(unknown, Ordering::Relaxed);
        let shared = self.in_flight.drain(..).filter(|operation| operation.key.owner.is_none());
        shared.for_each(|operation| self.account.doubt(&operation));
        Ok(())
    }
}
