//! The parts of a run: a mesh forms, nobody writes, many write, peers come and go, two halves are apart, one
//! more joins.

use super::report::ratio;
use super::run::Run;
use crate::network::Conditions;
use crate::node::End;
use crate::words::set;

/// A peer is started so long after the one before it, in milliseconds.
const START_EVERY_MS: u64 = 10;

/// With so many links a peer looks for no more.
const LINKS_MIN: usize = 5;

/// The mesh is given so long to form, in milliseconds.
const MESH_MS: u64 = 120_000;

/// How long nobody writes, in milliseconds.
const IDLE_MS: u64 = 30_000;

/// The first operations, which find no tree to go along.
const FIRST_OPERATIONS: usize = 5;

/// The keys that are written to. Fewer make less to hold.
const KEYS: usize = 256;

/// The bytes of a value.
const VALUE_BYTES: usize = 32;

/// How long a peer that restarts is away, in microseconds.
const AWAY_US: u64 = 2_000_000;

/// Of a hundred peers so many lose a connection in a minute for each that restarts.
const BREAKS_PER_RESTART: usize = 4;

impl Run<'_> {
    /// All parts.
    pub(super) fn play(&mut self) {
        self.mesh();
        let mark = self.begin("first");
        self.write(FIRST_OPERATIONS);
        self.end(&mark);
        self.idle();
        let quarter = self.options.operations / 4;
        self.steady(2 * quarter);
        self.trouble(quarter);
        self.partition(quarter);
        self.join();
    }

    /// Peers start one after another, as an operator would start them, until each has links enough.
    fn mesh(&mut self) {
        for _ in 0..self.peers {
            self.add();
            self.world.run(START_EVERY_MS);
        }
        let start_us = self.world.now_us();
        let wanted = LINKS_MIN.min(self.peers - 1);
        while self.world.now_us() < start_us + 1_000 * MESH_MS
            && (0..self.peers).any(|node| self.degree(node) < wanted)
        {
            self.world.run(100);
        }
        self.report.mesh_ms = ratio(self.world.now_us() - start_us, 1_000);
    }

    /// A peer starts that was told of one or two of those that are there; answers which it is.
    fn add(&mut self) -> usize {
        let there = self.running();
        let index = self.world.nodes().len();
        let name = format!("n{index}");
        self.world.add(&name);
        if !there.is_empty() {
            for _ in 0..=self.random.below(2) {
                let seed = self.world.nodes()[*self.random.pick(&there)].name.clone();
                self.world.connect(&name, &seed);
            }
        }
        index
    }

    fn running(&self) -> Vec<usize> {
        let nodes = self.world.nodes().iter();
        nodes.filter(|node| node.is_running()).map(|node| node.index).collect()
    }

    fn degree(&self, node: usize) -> usize {
        self.world.network.borrow().degree(node)
    }

    fn idle(&mut self) {
        let before = self.world.network.borrow().traffic.bytes;
        self.world.run(IDLE_MS);
        let bytes = self.world.network.borrow().traffic.bytes - before;
        self.report.idle_bytes_per_s = ratio(bytes, self.peers as u64 * (IDLE_MS / 1_000));
        let degrees: Vec<usize> = (0..self.peers).map(|node| self.degree(node)).collect();
        self.report.links_mean = ratio(degrees.iter().sum::<usize>() as u64, self.peers as u64);
        self.report.links_max = degrees.into_iter().max().unwrap_or_default();
    }

    /// So many operations, each by a peer that chance picks, in even time.
    fn write(&mut self, operations: usize) {
        let wait_ms = 1_000 / self.options.writes_per_s.max(1);
        for _ in 0..operations {
            let wait = self.random.between(wait_ms / 2, wait_ms + wait_ms / 2);
            self.world.run(wait);
            let running = self.running();
            let node = self.world.nodes()[*self.random.pick(&running)].name.clone();
            let key = format!("k{}", self.random.below(KEYS));
            let value = format!("{:0VALUE_BYTES$x}", self.random.next());
            self.world.write(&node, set(&key, &value));
        }
    }

    fn steady(&mut self, operations: usize) {
        let mark = self.begin("steady");
        self.write(operations);
        let peers = self.peers as u64;
        let phase = self.end(&mark);
        let needed = phase.operations as u64 * (peers - 1);
        assert_eq!(phase.deliveries, needed, "every operation reaches every peer once");
    }

    /// Messages vanish, connections break, peers restart, leave and join, and all the while some write.
    fn trouble(&mut self, operations: usize) {
        let mark = self.begin("churn");
        let calm = self.world.network().conditions().clone();
        self.world.network().set_conditions(Conditions { loss: self.options.loss, ..calm.clone() });
        let lasts_us = operations as u64 * 1_000_000 / self.options.writes_per_s.max(1);
        if self.options.churn > 0 {
            let each = (self.peers * self.options.churn) as u64 * lasts_us / 60_000_000 / 100;
            self.come_and_go(usize::try_from(each).unwrap_or(0).max(1), lasts_us);
        }
        self.write(operations);
        self.world.network().set_conditions(calm);
        // Those that are away come back before everybody must have everything.
        self.world.run(2 * AWAY_US / 1_000);
        self.end(&mark);
    }

    /// So many restarts and replacements, and some broken connections, at any time.
    fn come_and_go(&mut self, each: usize, lasts_us: u64) {
        let mut moment = || self.random.between(0, lasts_us.max(1) - 1);
        let restarts: Vec<u64> = (0..each).map(|_| moment()).collect();
        let breaks: Vec<u64> = (0..each * BREAKS_PER_RESTART).map(|_| moment()).collect();
        let replacements: Vec<u64> = (0..each).map(|_| moment()).collect();
        let mut seeds = self.random.fork();
        for at in restarts {
            let mut random = seeds.fork();
            self.world.after(at, move |world| {
                let index = some_running(world, &mut random);
                world.end(index, End::Killed);
                world.after(AWAY_US, move |world| {
                    world.try_start(index).expect("memory opens again");
                    connect_to_two(world, &mut random, index);
                });
            });
        }
        for at in breaks {
            let mut random = seeds.fork();
            self.world.after(at, move |world| {
                let index = some_running(world, &mut random);
                let neighbours = world.network().neighbours(index);
                if !neighbours.is_empty() {
                    let other = *random.pick(&neighbours);
                    world.network().drop_session(index, other);
                }
            });
        }
        for at in replacements {
            let mut random = seeds.fork();
            self.world.after(at, move |world| replace(world, &mut random));
        }
    }

    /// Two halves write apart from each other and meet again.
    fn partition(&mut self, operations: usize) {
        let mark = self.begin("partition");
        let mut running = self.running();
        let mut sides = vec![false; self.world.nodes().len()];
        for _ in 0..running.len() / 2 {
            let chosen = self.random.below(running.len());
            sides[running.swap_remove(chosen)] = true;
        }
        self.world.network().divide(sides);
        self.write(operations);
        self.world.heal();
        let healed_us = self.world.now_us();
        self.end(&mark);
        let last_us = self.world.paths.as_ref().expect("they are followed").last_us;
        self.report.converged_ms = ratio(last_us.saturating_sub(healed_us), 1_000);
    }

    /// One more peer joins when all is written, and fetches everything.
    fn join(&mut self) {
        let mark = self.begin("join");
        let start_us = self.world.now_us();
        self.add();
        self.end(&mark);
        let last_us = self.world.paths.as_ref().expect("they are followed").last_us;
        self.report.joined_ms = ratio(last_us.saturating_sub(start_us), 1_000);
    }
}

/// One that runs.
fn some_running(world: &crate::World, random: &mut crate::random::Random) -> usize {
    let running: Vec<usize> =
        world.nodes().iter().filter(|node| node.is_running()).map(|node| node.index).collect();
    *random.pick(&running)
}

/// A peer leaves for good, and another one joins by two that are there.
fn replace(world: &mut crate::World, random: &mut crate::random::Random) {
    let gone = some_running(world, random);
    let gone = world.nodes()[gone].name.clone();
    world.leave(&gone);
    let index = world.nodes().len();
    world.add(&format!("n{index}"));
    connect_to_two(world, random, index);
}

/// A peer that starts is told of two that are there, as its operator would have it; it remembers none.
fn connect_to_two(world: &mut crate::World, random: &mut crate::random::Random, index: usize) {
    for _ in 0..2 {
        let mut seed = some_running(world, random);
        while seed == index {
            seed = some_running(world, random);
        }
        let (name, seed) = (world.nodes()[index].name.clone(), world.nodes()[seed].name.clone());
        world.connect(&name, &seed);
    }
}
