//! The seeded choice of operations, over a bounded space of keys, members and fields.
//!
//! The space is bounded so that the state of the nodes stays as large as it is after some minutes; what grows
//! then is the log, or a leak.

use super::operation::{Key, Kind, Operation, Verb};
use super::random::Random;

/// The keys of each writer, of a kind.
const OWN_KEYS: usize = 60;

/// The keys that all write, of a kind.
const SHARED_KEYS: usize = 30;

/// The members of a set and the fields of a map at most.
const WORDS: usize = 20;

/// A value has so many bytes at most.
const VALUE_BYTES_MAX: usize = 120;

/// Of so many operations one adds to the ledger.
const LEDGER_EVERY: usize = 100;

/// So many members does a writer add to the ledger at most, so that it is bounded too.
const LEDGER_MAX: usize = 2_000;

/// Of so many operations of a writer one is on its own keys, in per cent.
const OWN_PERCENT: usize = 60;

const OWN_KINDS: [Kind; 4] = [Kind::Register, Kind::Counter, Kind::Set, Kind::Map];
const SHARED_KINDS: [Kind; 5] = [Kind::Register, Kind::Counter, Kind::Set, Kind::Map, Kind::Mixed];

/// What one writer does.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    writer: usize,
    random: Random,
    values: u64,
    ledger: usize,
}

impl Workload {
    /// The workload of a writer of a seed.
    pub(crate) fn new(seed: u64, writer: usize) -> Self {
        let stream = u64::try_from(writer).expect("a usize has 64 bits at most") + 1;
        Self { writer, random: Random::new(seed, stream), values: 0, ledger: 0 }
    }

    /// All keys that a writer may own.
    pub(crate) fn own_keys(writer: usize) -> impl Iterator<Item = Key> {
        OWN_KINDS
            .into_iter()
            .flat_map(move |kind| (0..OWN_KEYS).map(move |number| Key { owner: Some(writer), kind, number }))
    }

    /// The counters that all writers increment, and nothing resets.
    pub(crate) fn shared_counters() -> impl Iterator<Item = Key> {
        (0..SHARED_KEYS).map(|number| Key { owner: None, kind: Kind::Counter, number })
    }

    /// The set of what is added once and never removed.
    pub(crate) fn ledger() -> Key {
        Key { owner: None, kind: Kind::Ledger, number: 0 }
    }

    /// The next operation.
    pub(crate) fn next(&mut self) -> Operation {
        if self.ledger < LEDGER_MAX && self.random.below(LEDGER_EVERY) == 0 {
            let member = format!("{}-{}", self.writer, self.ledger);
            self.ledger += 1;
            return Operation { key: Self::ledger(), verb: Verb::Add(member) };
        }
        let key = if self.random.percent(OWN_PERCENT) {
            let kind = OWN_KINDS[self.random.below(OWN_KINDS.len())];
            Key { owner: Some(self.writer), kind, number: self.random.below(OWN_KEYS) }
        } else {
            let kind = SHARED_KINDS[self.random.below(SHARED_KINDS.len())];
            Key { owner: None, kind, number: self.random.below(SHARED_KEYS) }
        };
        Operation { key, verb: self.verb(key) }
    }

    fn verb(&mut self, key: Key) -> Verb {
        let kind = match key.kind {
            Kind::Mixed => OWN_KINDS[self.random.below(OWN_KINDS.len())],
            kind => kind,
        };
        let word = format!("w{}", self.random.below(WORDS));
        let chance = self.random.below(100);
        match (kind, chance) {
            // The sum of a counter that all increment must be that of what was acknowledged.
            (Kind::Counter, ..70) => Verb::Increment,
            (Kind::Counter, 95..) if key.owner.is_some() => Verb::Delete,
            (Kind::Counter, _) => Verb::Get,
            (_, 95..) => Verb::Delete,
            (Kind::Register, 50..) => Verb::Get,
            (Kind::Register, _) => Verb::Set(self.value()),
            (Kind::Map, ..40) => Verb::Put(word, self.value()),
            (Kind::Map, 40..65) => Verb::Take(word),
            (Kind::Map, _) => Verb::Look(word),
            (_, ..40) => Verb::Add(word),
            (_, 40..65) => Verb::Remove(word),
            _ => Verb::Has(word),
        }
    }

    /// A value that was never written before.
    fn value(&mut self) -> String {
        self.values += 1;
        let padding = "=".repeat(self.random.below(VALUE_BYTES_MAX - 32));
        format!("v{}-{}{padding}", self.writer, self.values)
    }
}
