//! What clients do: random writes of every kind on a few keys, so that concurrent ones meet.

mod computed;
mod sorted;

use tidelock_engine::ports::Durability;
use tidelock_engine::read::Query;
use tidelock_engine::replica::Input;
use tidelock_engine::request::{Action, Atomicity, Request};
use tidelock_engine::write::Write;

use crate::random::Random;
use crate::world::{World, named};

/// What clients write, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The keyspaces that are written to.
    pub keyspaces: &'static [&'static str],
    /// The keys, and the elements and fields under each. Fewer conflict more.
    pub keys: usize,
    /// The elements and fields under each key.
    pub subkeys: usize,
    /// The elements or fields that one write names at most. Beyond 64 rows a key is removed by version vector.
    pub named_max: usize,
    /// Only registers, increments and deletes, so that counters meet resets all the time.
    pub is_counting: bool,
    /// How many of a thousand writes are computed from what is read: edits, pops, copies, combinations.
    pub computed: u32,
    /// How many of a thousand writes are about when keys expire.
    pub expiring: u32,
    /// How many of a thousand requests are decisions; nodes then decide by what they see.
    pub decisions: u32,
    /// The time between two requests of one node, in milliseconds, on average.
    pub every_ms: u64,
    /// How many of a thousand requests are answered from memory.
    pub buffered: u32,
}

impl Workload {
    /// All kinds on four keys of one keyspace.
    pub const ALL_KINDS: Self = Self {
        keyspaces: &["notes"],
        keys: 4,
        subkeys: 3,
        named_max: 3,
        is_counting: false,
        computed: 0,
        expiring: 0,
        decisions: 0,
        every_ms: 400,
        buffered: 150,
    };

    /// Registers and counters on two keys.
    pub const COUNTING: Self = Self { keys: 2, is_counting: true, ..Self::ALL_KINDS };

    /// Two large keys, so that removals go by version vector.
    pub const LARGE_KEYS: Self = Self { keys: 2, subkeys: 150, named_max: 60, ..Self::ALL_KINDS };

    /// Beside all kinds what is computed from what is read, and decisions.
    pub const COMPUTING: Self =
        Self { keys: 7, computed: 500, decisions: 150, every_ms: 300, ..Self::ALL_KINDS };

    /// Beside all that keys that expire, most of them soon.
    pub const EXPIRING: Self = Self { computed: 250, expiring: 400, ..Self::COMPUTING };

    /// A random write. `number` makes its value one that no other write has; `now_ms` is the client's clock, in Unix
    /// milliseconds.
    pub fn write(&self, random: &mut Random, number: u64, now_ms: u64) -> Write {
        if self.expiring > 0 && random.chance(self.expiring) {
            return self.expiring_write(random, number, now_ms);
        }
        if self.computed > 0 && random.chance(self.computed) {
            return self.computed_write(random, number);
        }
        let key = self.key(random);
        let subkey = |random: &mut Random| format!("s{}", random.below(self.subkeys)).into_bytes();
        let several =
            |random: &mut Random| (0..=random.below(self.named_max)).map(|_| subkey(random)).collect();
        let by = [-3, -1, 1, 1, 2, 5][random.below(6)];
        // A value that is no number makes increments fail, and hides counts.
        let value = if random.chance(50) { format!("text {number}") } else { number.to_string() };
        let value = value.into_bytes();
        // Each key is mostly used as one kind, so that most writes are accepted, and now and then as another.
        let usual = [0, 40, 70][(usize::from(key[1]) + 1) % 3];
        let kind = match random.below(10) {
            _ if self.is_counting => random.below(40),
            0..7 => usual + random.below(30),
            7 => 30 + random.below(10),
            _ => random.below(100),
        };
        match kind {
            0..10 => Write::Set { key, value },
            10..34 => Write::Increment { key, by },
            34..40 => Write::Delete { key },
            40..58 => Write::Add { key, elements: several(random) },
            58..70 => Write::Remove { key, elements: several(random) },
            70..88 => {
                let field = |random: &mut Random| (subkey(random), value.clone());
                Write::Put {
                    key,
                    fields: (0..=random.below(self.named_max)).map(|_| field(random)).collect(),
                }
            }
            88..99 => Write::Unset { key, fields: several(random) },
            _ => Write::Clear,
        }
    }

    /// A random request: mostly one write, now and then a batch, a decision or a read.
    pub fn request(&self, random: &mut Random, number: u64, now_ms: u64) -> Request {
        let keyspace = named(self.keyspaces[random.below(self.keyspaces.len())]);
        let durability =
            if random.chance(self.buffered) { Durability::Buffered } else { Durability::Durable };
        let (atomicity, count) = match random.below(20) {
            0..2 => (Atomicity::AllOrNothing, 2 + random.below(3)),
            2 => (Atomicity::Together, 2 + random.below(3)),
            3 => (Atomicity::Each, 2),
            _ => (Atomicity::Each, 1),
        };
        let mut action = || {
            if self.decisions > 0 && random.chance(self.decisions) {
                self.decided(random, (number, now_ms))
            } else {
                Action::Write(self.write(random, number, now_ms))
            }
        };
        let mut actions: Vec<Action> = (0..count).map(|_| action()).collect();
        if random.chance(100) {
            let key = self.key(random);
            actions.push(Action::Query(Query::Entry(key)));
        }
        // What is read first is held against what was there before.
        if self.computed > 0 && random.chance(100) {
            actions.insert(0, Action::Query(self.query(random)));
        }
        Request { keyspace, actions, atomicity, durability }
    }

    /// One turn of clients at a node: a request or several, and perhaps news of the network around them.
    pub fn strike(&self, world: &mut World, index: usize) {
        let mut random = world.random.fork();
        let requests = if random.chance(150) { 2 + random.below(3) } else { 1 };
        let mut inputs = Vec::new();
        for _ in 0..requests {
            let id = world.next_request();
            let now_ms = world.nodes()[index].clock.unix_ms(world.now_us());
            inputs.push(Input::Request(id, self.request(&mut random, id.0, now_ms)));
            if random.chance(200) {
                let count = 1 + random.below(3);
                inputs.extend(world.take_events(index, count));
            }
        }
        world.tally.add("requests", requests as u64);
        world.turn(index, inputs);
    }

    /// Has a node's clients write until `end_us`.
    pub fn keep_writing(self, world: &mut World, index: usize, end_us: u64) {
        let wait = 1_000 * self.every_ms * world.random.between(200, 1_800) / 1_000;
        world.after(wait, move |world| {
            let node = &world.nodes()[index];
            if node.is_gone || world.now_us() > end_us {
                return;
            }
            if node.is_running() && !world.is_paused(index) {
                self.strike(world, index);
            }
            self.keep_writing(world, index, end_us);
        });
    }
}
