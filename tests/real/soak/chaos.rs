//! The faults of a soak: processes are killed, paused and cut off, by the seed.
//!
//! Faults of several nodes overlap; one node has one fault at a time. One node, the veteran, is killed only in
//! the beginning and at the very end, so that one process lives long enough for a slope to mean something.

use std::ops::{Range, RangeInclusive};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::processes::Node;

use super::board::{Board, SetAtEnd};
use super::random::Random;

/// How often chaos looks at the time.
const TICK: Duration = Duration::from_millis(20);

/// Fewer operations than this, and a soak has shown nothing.
pub(crate) const OPERATIONS_MIN: u64 = 500;

/// How much longer than planned chaos goes on until each fault and enough operations were done.
const OVERTIME: Duration = Duration::from_mins(2);

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and started again on the same files after a while.
    Kill,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// TIDE.NETWORK OFFLINE, and ONLINE after a while.
    Offline,
}

/// What a round of faults is shuffled from.
const DECK: [Fault; 10] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::Pause,
    Fault::Pause,
    Fault::Pause,
    Fault::Offline,
    Fault::Offline,
    Fault::Offline,
    Fault::KillAll,
];

/// How often and for how long.
#[derive(Clone, Debug)]
pub(crate) struct FaultTimes {
    /// From the beginning of a fault to that of the next.
    pub(crate) gap: RangeInclusive<Duration>,
    /// For how long a killed node is down.
    pub(crate) down: RangeInclusive<Duration>,
    /// For how long a node is stopped.
    pub(crate) pause: RangeInclusive<Duration>,
    /// For how long a node is cut off.
    pub(crate) offline: RangeInclusive<Duration>,
    /// For how long the veteran is killed like the others, and all are killed at once.
    pub(crate) early: Duration,
}

/// The faults that were done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct FaultTally {
    /// Nodes killed one by one.
    pub(crate) kills: u32,
    /// Times that all were killed at once.
    pub(crate) kills_of_all: u32,
    /// Pauses.
    pub(crate) pauses: u32,
    /// Cuts from the network.
    pub(crate) cuts: u32,
    /// The longest that a killed node took until it was ready again.
    pub(crate) slowest_start_ms: u64,
}

/// What does the faults.
#[derive(Debug)]
pub(crate) struct Chaos<'a> {
    nodes: &'a mut [Node],
    board: &'a Board,
    times: &'a FaultTimes,
    random: Random,
    deck: Vec<Fault>,
    open: Vec<(Instant, usize, Fault)>,
    veteran: usize,
    tally: FaultTally,
}

impl<'a> Chaos<'a> {
    /// The chaos of a seed.
    pub(crate) fn new(seed: u64, nodes: &'a mut [Node], board: &'a Board, times: &'a FaultTimes) -> Self {
        let mut random = Random::new(seed, 0);
        let veteran = random.below(nodes.len());
        let (deck, open) = (Vec::new(), Vec::new());
        Self { nodes, board, times, random, deck, open, veteran, tally: FaultTally::default() }
    }

    /// Goes on for as long as told, ends all faults, kills all nodes a last time, and leaves all running.
    pub(crate) fn run(mut self, load: Duration) -> FaultTally {
        let _end = SetAtEnd(&self.board.is_over);
        let started = Instant::now();
        let mut next = started + self.random.between(&self.times.gap);
        while !self.is_done(started.elapsed(), load) {
            thread::sleep(TICK);
            let now = Instant::now();
            self.end_faults(|end| end <= now);
            if now >= next {
                self.begin(started.elapsed() < self.times.early);
                next = Instant::now() + self.random.between(&self.times.gap);
            }
        }
        self.end_faults(|_| true);
        self.kill_all();
        self.tally
    }

    fn is_done(&self, elapsed: Duration, load: Duration) -> bool {
        let FaultTally { kills, pauses, cuts, .. } = self.tally;
        // A single node is the veteran, and is not killed but with all.
        let has_faults = (kills > 0 || self.nodes.len() == 1) && pauses > 0 && cuts > 0;
        let has_all = has_faults && self.board.tally.operations.load(Ordering::Relaxed) >= OPERATIONS_MIN;
        let is_enough = self.board.is_enough.load(Ordering::Relaxed);
        is_enough || elapsed >= load + OVERTIME || (elapsed >= load && has_all)
    }

    /// Begins the next fault that can be done now.
    fn begin(&mut self, is_early: bool) {
        let fault = self.draw();
        if fault == Fault::KillAll {
            if is_early {
                self.kill_all();
            }
            return;
        }
        let is_free = |node: &usize| self.open.iter().all(|(_, other, _)| other != node);
        let may_fail = |node: &usize| fault != Fault::Kill || is_early || *node != self.veteran;
        let free: Vec<usize> = (0..self.nodes.len()).filter(is_free).filter(may_fail).collect();
        if free.is_empty() {
            return;
        }
        let victim = free[self.random.below(free.len())];
        let node = &mut self.nodes[victim];
        let time = match fault {
            Fault::Kill | Fault::KillAll => {
                self.board.change(victim, |seat| seat.is_up = false);
                node.kill();
                self.tally.kills += 1;
                &self.times.down
            }
            Fault::Pause => {
                self.board.change(victim, |seat| seat.is_paused = true);
                node.signal("STOP");
                self.tally.pauses += 1;
                &self.times.pause
            }
            Fault::Offline => {
                self.board.change(victim, |seat| seat.is_offline = true);
                node.command(&["TIDE.NETWORK", "OFFLINE"]);
                self.tally.cuts += 1;
                &self.times.offline
            }
        };
        self.open.push((Instant::now() + self.random.between(time), victim, fault));
    }

    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
            self.random.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("it was filled")
    }

    fn end_faults(&mut self, is_due: impl Fn(Instant) -> bool) {
        let (due, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(end, ..)| is_due(*end));
        self.open = open;
        for (_, victim, fault) in due {
            match fault {
                Fault::Kill | Fault::KillAll => self.restart(victim..victim + 1),
                Fault::Pause => {
                    self.nodes[victim].signal("CONT");
                    self.board.change(victim, |seat| seat.is_paused = false);
                }
                Fault::Offline => {
                    self.nodes[victim].command(&["TIDE.NETWORK", "ONLINE"]);
                    self.board.change(victim, |seat| seat.is_offline = false);
                }
            }
        }
    }

    /// Kills all nodes at once, whatever else is wrong with them, and starts them again.
    fn kill_all(&mut self) {
        self.open.clear();
        for victim in 0..self.nodes.len() {
            self.board.change(victim, |seat| seat.is_up = false);
        }
        self.nodes.iter_mut().for_each(Node::kill);
        self.restart(0..self.nodes.len());
        self.tally.kills_of_all += 1;
    }

    fn restart(&mut self, victims: Range<usize>) {
        let started = Instant::now();
        thread::scope(|scope| {
            self.nodes[victims.clone()].iter_mut().for_each(|node| {
                scope.spawn(|| node.restart());
            });
        });
        victims.for_each(|victim| self.board.revive(victim, &self.nodes[victim]));
        let slowest = &mut self.tally.slowest_start_ms;
        *slowest = u64::try_from(started.elapsed().as_millis()).expect("it is short").max(*slowest);
    }
}
