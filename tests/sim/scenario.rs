//! Random scenarios: how many nodes, what clients do, what goes wrong. The seed decides the rest.

use tidelock_engine::ports::Conditional;
use tidelock_engine::replica::Retention;

use crate::faults::{self, Rate};
use crate::network::Conditions;
use crate::node::Storage;
use crate::tally::Tally;
use crate::trace::{Telling, Trace};
use crate::workload::Workload;
use crate::world::{Scrutiny, World};

/// After the faults clients go on for so long, in milliseconds, before everything must become equal.
const CALM_MS: u64 = 2_000;

/// Within so long a write reaches everybody once all is well, in milliseconds.
const REACHES_MS: u64 = 5_000;

/// A family of histories.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, which is the name of its test.
    pub name: &'static str,
    /// Its seeds in the gate.
    pub seeds: u64,
    /// The fewest and the most nodes at the start.
    pub nodes: (usize, usize),
    /// How long clients write while faults strike, in milliseconds.
    pub lasts_ms: u64,
    /// What clients do.
    pub workload: Workload,
    /// What happens to messages.
    pub conditions: Conditions,
    /// What else goes wrong, and how often.
    pub faults: &'static [Rate],
    /// Within so long after the faults all nodes are equal, in milliseconds.
    pub converges_ms: u64,
    /// How nodes stand on their stores.
    pub storage: Storage,
    /// How long they keep their logs.
    pub retention: Retention,
    /// How much state that is taken over waits in their memory, in bytes.
    pub staged_bytes: usize,
    /// Who decides on what is strong, and what clients do there, if there are anchors.
    pub strong: Option<StrongWorkload>,
}

/// Anchors, a strong keyspace, and who asks for things there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrongWorkload {
    /// The first so many nodes are anchors, all others guests.
    pub anchors: usize,
    /// The clients at each node, on average.
    pub clients: usize,
    /// The time between an answer and the client's next request, in milliseconds, on average.
    pub every_ms: u64,
}

/// The keyspace that is strong.
const ORDERS: &str = "orders";

/// Within so long after the faults a strong keyspace takes a write at every node, in milliseconds.
const SERVES_MS: u64 = 10_000;

/// What one history came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was done and what went wrong.
    pub tally: Tally,
    /// The hash of everything that happened.
    pub hash: u64,
    /// The turns.
    pub steps: u64,
    /// The simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// How long after the last client's write all nodes were equal, in milliseconds, to a tenth of a second.
    pub converged_ms: u64,
}

impl Scenario {
    /// Plays the history of a seed.
    ///
    /// # Panics
    /// If a property does not hold; the message says what happened and how to replay it.
    pub fn play(&self, seed: u64) -> Outcome {
        self.play_telling(seed, Telling::Last)
    }

    /// Plays the history of a seed, and tells so much of it.
    ///
    /// # Panics
    /// As [`Scenario::play`].
    pub fn play_telling(&self, seed: u64, telling: Telling) -> Outcome {
        let mut world = self.world(seed, telling);
        let end_us = world.now_us() + 1_000 * self.lasts_ms;
        world.network().set_conditions(self.conditions.clone());
        world.workload = Some((self.workload.clone(), end_us + 1_000 * CALM_MS));
        (0..world.nodes().len()).for_each(|index| world.keep_writing_at(index));
        if let Some(StrongWorkload { clients, every_ms, .. }) = self.strong {
            let clients = clients * world.nodes().len();
            world.keep_asking_strong(ORDERS, clients, every_ms, end_us + 1_000 * CALM_MS);
        }
        for (fault, every_ms) in self.faults {
            fault.keep_striking(&mut world, *every_ms, end_us);
        }
        world.run(self.lasts_ms);
        faults::stop(&mut world);
        world.run(CALM_MS);
        let converged_ms = self.calm_down(&mut world);
        self.outcome(&world, converged_ms)
    }

    fn world(&self, seed: u64, telling: Telling) -> World {
        let mut world = World::new(seed);
        world.trace = Trace::new(telling);
        world.replay =
            format!("SEED={seed} cargo test -p tidelock-tests --test stories random::{}", self.name);
        world.has_operator = true;
        world.storage = self.storage;
        (world.retention, world.staged_bytes) = (self.retention, self.staged_bytes);
        if self.workload.decisions > 0 {
            world.conditional = Conditional::Local;
        }
        let (least, most) = self.nodes;
        let count = least + world.random.below(most - least + 1);
        for number in 0..count {
            let anchors = self.strong.map_or(0, |strong| strong.anchors);
            let target = if number < anchors { anchors } else { 0 };
            world.add_with(&format!("n{number}"), |node| node.config.anchors_target = target);
        }
        (0..count).for_each(|index| faults::connect_somewhere(&mut world, index));
        world.run(500);
        if let Some(strong) = self.strong {
            // Anchors have many more turns.
            world.materializing /= 4;
            let names: Vec<String> = world.nodes().iter().map(|node| node.name.clone()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            world.found(names[0]);
            world.all_vote(&names[..strong.anchors]);
            world.make_strong(names[0], ORDERS);
            world.all_know(ORDERS);
        }
        world
    }

    /// Faults are over: everybody becomes equal, nothing is lost, nobody is left out, nothing is left over.
    fn calm_down(&self, world: &mut World) -> u64 {
        let names: Vec<String> =
            world.nodes().iter().filter(|node| node.is_running()).map(|node| node.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Some(strong) = self.strong {
            world.elected();
            world.serves_strong(ORDERS, &names, SERVES_MS);
            // Whoever lost its disk votes again, under another number.
            world.all_vote(&names[..strong.anchors]);
        }
        let converged_ms = world.settle_within(&names, self.converges_ms);
        world.settle();
        // Who has just taken over state with its own retirement in it knows of that a turn later.
        world.run(1_000);
        world.rejoin_the_retired();
        world.run(1_000);
        // A hostile member goes on to the end, and can hold up what depends on what it tells to some.
        let reaches_ms = if world.ledger.is_hostile() { self.converges_ms } else { REACHES_MS };
        for name in &names {
            world.write(name, crate::words::increment("reaches everybody", 1));
            world.settle_within(&names, reaches_ms);
        }
        world.write_in(names[0], "late", crate::words::increment("reaches everybody", 1));
        world.settle_within(&names, reaches_ms);
        if world.scrutiny == Scrutiny::Everything {
            world.has_no_leftovers(&names);
        }
        world.accuses_nobody(&names);
        if self.strong.is_some() {
            world.serves_strong(ORDERS, &names, SERVES_MS);
            world.settle_within(&names, self.converges_ms);
            world.judge_strong();
        }
        converged_ms
    }

    fn outcome(&self, world: &World, converged_ms: u64) -> Outcome {
        let mut tally = world.tally.clone();
        tally.join(&world.network.borrow().tally);
        tally.add("keys expired", world.ledger.spaces().map(|(_, space)| space.story.burials()).sum());
        tally.add("strong operations executed", world.strong.executed() as u64);
        tally.add("strong operations acknowledged", world.strong.clients.done);
        tally.add("strong operations of unknown outcome", world.strong.clients.unknown);
        tally.add("strong operations asked for again", world.strong.clients.repeated);
        tally.add("strong requests that were not done", world.strong.clients.denied);
        tally.add("strong reads", world.strong.clients.reads);
        tally.add("elections", world.strong.elections() as u64);
        let outcome = Outcome {
            tally,
            hash: world.trace.hash(),
            steps: world.trace.steps(),
            simulated_ms: world.now_us() / 1_000,
            converged_ms,
        };
        let writes = outcome.tally.get("writes");
        let expected = self.lasts_ms / self.workload.every_ms / 4;
        assert!(writes >= expected, "an idle run: {writes} writes of {expected}; {}", world.replay);
        outcome
    }
}
