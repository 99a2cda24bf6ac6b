//! Random scenarios: how many nodes, what clients do, what goes wrong. The seed decides the rest.

use crate::faults::{self, Rate};
use crate::network::Conditions;
use crate::node::Storage;
use crate::tally::Tally;
use crate::workload::Workload;
use crate::world::{Scrutiny, World};

/// After the faults clients go on for so long, in milliseconds, before everything must become equal.
const CALM_MS: u64 = 2_000;

/// Within so long after the faults all nodes are equal, in milliseconds. A node that was turned away stays away
/// for half a minute, and an answer is awaited for a whole one.
const CONVERGES_MS: u64 = 180_000;

/// Within so long a write reaches everybody once all is well, in milliseconds.
const REACHES_MS: u64 = 5_000;

/// A family of histories.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, which is the name of its test.
    pub name: &'static str,
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
    /// How nodes stand on their stores.
    pub storage: Storage,
}

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
}

impl Scenario {
    /// Plays the history of a seed.
    ///
    /// # Panics
    /// If a property does not hold; the message says what happened and how to replay it.
    pub fn play(&self, seed: u64) -> Outcome {
        let mut world = self.world(seed);
        let end_us = world.now_us() + 1_000 * self.lasts_ms;
        world.network().set_conditions(self.conditions.clone());
        world.workload = Some((self.workload.clone(), end_us + 1_000 * CALM_MS));
        (0..world.nodes().len()).for_each(|index| world.keep_writing_at(index));
        for (fault, every_ms) in self.faults {
            fault.keep_striking(&mut world, *every_ms, end_us);
        }
        world.run(self.lasts_ms);
        faults::stop(&mut world);
        world.run(CALM_MS);
        Self::calm_down(&mut world);
        self.outcome(&world)
    }

    fn world(&self, seed: u64) -> World {
        let mut world = World::new(seed);
        world.replay = format!("SEED={seed} cargo test -p tidelock-tests --test random {}", self.name);
        world.has_operator = true;
        world.storage = self.storage;
        let (least, most) = self.nodes;
        let count = least + world.random.below(most - least + 1);
        (0..count).for_each(|n| world.add(&format!("n{n}")));
        (0..count).for_each(|index| faults::connect_somewhere(&mut world, index));
        world.run(500);
        world
    }

    /// Faults are over: everybody becomes equal, nothing is lost, nobody is left out, nothing is left over.
    fn calm_down(world: &mut World) {
        let names: Vec<String> =
            world.nodes().iter().filter(|node| node.is_running()).map(|node| node.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.settle_within(&names, CONVERGES_MS);
        world.settle();
        for name in &names {
            world.write(name, crate::words::increment("reaches everybody", 1));
            world.settle_within(&names, REACHES_MS);
        }
        if world.scrutiny == Scrutiny::Everything {
            world.has_no_leftovers(&names);
        }
    }

    fn outcome(&self, world: &World) -> Outcome {
        let mut tally = world.tally.clone();
        tally.join(&world.network.borrow().tally);
        let outcome = Outcome {
            tally,
            hash: world.trace.hash(),
            steps: world.trace.steps(),
            simulated_ms: world.now_us() / 1_000,
        };
        let writes = outcome.tally.get("writes");
        let expected = self.lasts_ms / self.workload.every_ms / 4;
        assert!(writes >= expected, "an idle run: {writes} writes of {expected}; {}", world.replay);
        outcome
    }
}
