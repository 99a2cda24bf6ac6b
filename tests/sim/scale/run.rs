//! One run: a world of so many peers, and how a part of it is measured.

use std::collections::BTreeMap;

use super::Options;
use super::report::{Hops, Latency, PhaseReport, RunReport, Sent, ratio};
use crate::node::Storage;
use crate::paths::Paths;
use crate::random::Random;
use crate::trace::{Telling, Trace};
use crate::world::{NOTES, Scrutiny, World, keyspace_id};

/// Late messages are given so long to arrive before the next part begins, in milliseconds.
const REST_MS: u64 = 2_000;

/// Within so long everybody has everything, in milliseconds of simulated time.
const CONVERGES_MS: u64 = 300_000;

/// How exactly the time is known at which everybody has everything, in milliseconds.
const LOOK_EVERY_MS: u64 = 50;

/// So many of those that differ are told of when a run fails.
const ODD_MAX: usize = 4;

/// A run under way.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) peers: usize,
    pub(super) world: World,
    pub(super) random: Random,
    pub(super) report: RunReport,
}

/// Where a part of a run begins.
#[derive(Debug)]
pub(super) struct Mark {
    name: &'static str,
    at_us: u64,
    all: Sent,
    by_name: BTreeMap<&'static str, Sent>,
}

impl<'a> Run<'a> {
    /// Plays all parts with so many peers.
    pub(super) fn of(options: &'a Options, peers: usize) -> RunReport {
        let cpu = cpu_us();
        let mut world = World::new(options.seed);
        world.trace = Trace::new(Telling::Nothing);
        world.storage = Storage::Memory;
        world.scrutiny = Scrutiny::Logs;
        world.paths = Some(Paths::default());
        world.count_by_name();
        world.replay = format!("the same run of {peers} peers, seed {}", options.seed);
        let random = world.random.fork();
        let mut run = Self { options, peers, world, random, report: RunReport::default() };
        run.report.peers = peers;
        run.play();
        run.finish(cpu_us().saturating_sub(cpu))
    }

    fn finish(mut self, cpu_us: u64) -> RunReport {
        // Nothing that was acknowledged is lost, but for what left with a peer.
        (0..self.world.nodes().len()).for_each(|index| self.world.has_everything(index));
        let deliveries: u64 = self.report.phases.iter().map(|phase| phase.deliveries).sum();
        self.report.history = format!("{:016x}", self.world.trace.hash());
        self.report.simulated_s = ratio(self.world.now_us(), 1_000_000);
        self.report.cpu_s = ratio(cpu_us, 1_000_000);
        self.report.cpu_us_per_delivery = ratio(cpu_us, deliveries);
        self.report
    }

    /// A part begins.
    pub(super) fn begin(&mut self, name: &'static str) -> Mark {
        let paths = self.world.paths.as_mut().expect("they are followed");
        paths.received = crate::paths::Received::default();
        (paths.deliveries, paths.made) = (Vec::new(), Vec::new());
        let (all, by_name) = self.sent();
        Mark { name, at_us: self.world.now_us(), all, by_name }
    }

    /// A part ends when everybody has everything and late messages have arrived.
    pub(super) fn end(&mut self, mark: &Mark) -> &PhaseReport {
        self.converge();
        self.world.run(REST_MS);
        let (all, by_name) = self.sent();
        let paths = self.world.paths.as_mut().expect("they are followed");
        let (deliveries, made) = (std::mem::take(&mut paths.deliveries), std::mem::take(&mut paths.made));
        let received = super::Received::from(paths.received);
        let count = deliveries.len() as u64;
        let sent = all.since(mark.all);
        let since = |(name, now): (&&str, &Sent)| {
            let before = mark.by_name.get(name).copied().unwrap_or_default();
            ((*name).to_owned(), now.since(before))
        };
        let phase = PhaseReport {
            name: mark.name.to_owned(),
            simulated_s: ratio(self.world.now_us() - mark.at_us, 1_000_000),
            operations: made.len(),
            frame_bytes: ratio(made.iter().sum::<usize>() as u64, made.len() as u64),
            deliveries: count,
            received,
            redundancy: ratio(received.all(), count),
            hops: Hops::of(&deliveries),
            latency: Latency::of(&deliveries),
            sent,
            bytes_per_delivery: ratio(sent.bytes, count),
            by_name: by_name.iter().map(since).filter(|(_, sent)| sent.messages > 0).collect(),
        };
        eprintln!("{}", super::table::line(self.peers, &phase));
        self.report.phases.push(phase);
        self.report.phases.last().expect("it was added")
    }

    fn sent(&self) -> (Sent, BTreeMap<&'static str, Sent>) {
        let network = self.world.network.borrow();
        let traffic = &network.traffic;
        let messages = traffic.by_name.as_ref().expect("they are counted");
        let one = |(name, messages): (&&'static str, &u64)| {
            (*name, Sent { messages: *messages, bytes: traffic.bytes_by_name[name] })
        };
        let all = Sent { messages: traffic.messages, bytes: traffic.bytes };
        (all, messages.iter().map(one).collect())
    }

    /// Lets time pass until everybody has everything.
    fn converge(&mut self) {
        let end_us = self.world.now_us() + 1_000 * CONVERGES_MS;
        while !self.is_even() {
            assert!(
                self.world.now_us() < end_us,
                "{} peers are not equal after {CONVERGES_MS} ms; {}\n{}",
                self.peers,
                self.world.replay,
                self.tell_the_odd()
            );
            self.world.run(LOOK_EVERY_MS);
        }
    }

    /// Those whose heads are not what most have, and what each says of itself.
    fn tell_the_odd(&self) -> String {
        let heads: Vec<(usize, u128)> = self.heads().collect();
        let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
        heads.iter().for_each(|(_, heads)| *counts.entry(*heads).or_default() += 1);
        let most = counts.iter().max_by_key(|(_, count)| **count).map(|(heads, _)| *heads);
        let odd: Vec<usize> =
            heads.iter().filter(|(_, heads)| Some(*heads) != most).map(|(index, _)| *index).collect();
        let one = |index: &usize| {
            let node = &self.world.nodes()[*index];
            let report = node.driver().replica().report();
            let with = self.world.network.borrow().neighbours(*index);
            let (started_s, links) = (node.started_us / 1_000_000, report.links);
            let keyspaces: Vec<usize> = report.keyspaces.iter().map(|keyspace| keyspace.authors).collect();
            let (early, counters) = (report.early, report.counters);
            format!(
                "{}: started at {started_s} s, connected with {with:?}, authors {keyspaces:?}, early {early:?}\n  \
                 {links:?}\n  {counters:?}\n",
                node.name
            )
        };
        let told: String = odd.iter().take(ODD_MAX).map(one).collect();
        format!("{} peers differ from the most:\n{told}", odd.len())
    }

    /// The heads of all running peers.
    fn heads(&self) -> impl Iterator<Item = (usize, u128)> {
        let keyspace = keyspace_id(NOTES);
        let running = self.world.nodes().iter().filter(|node| node.is_running());
        running.map(move |node| (node.index, node.known.get(&keyspace).map_or(0, |of| of.heads.hash())))
    }

    /// Whether all running peers have the same heads.
    fn is_even(&self) -> bool {
        let mut heads = self.heads().map(|(_, heads)| heads);
        let first = heads.next();
        heads.all(|heads| Some(heads) == first)
    }
}

/// The processor's time of this thread so far, in microseconds; 0 where the system does not tell.
fn cpu_us() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = told.split_whitespace().next();
    first.and_then(|nanoseconds| nanoseconds.parse::<u64>().ok()).map_or(0, |nanoseconds| nanoseconds / 1_000)
}
