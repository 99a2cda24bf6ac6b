//! The simulated network: every message takes a time that the seed says, is lost, doubled or cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelock_engine::id::PeerId;
use tokio::time::Instant;

/// Numbers from a seed. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Whether something of a chance in a hundred happens.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A time between two, in milliseconds.
    pub(crate) fn time(&mut self, (from, to): (u64, u64)) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Message {
    /// Who sent it, as the connection proves.
    pub(crate) from: PeerId,
    /// Whom it is for.
    pub(crate) to: PeerId,
    /// What it says.
    pub(crate) bytes: Vec<u8>,
    /// Whether there are two of it.
    pub(crate) is_doubled: bool,
}

/// The network and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// By time of arrival and then by number.
    on_their_way: BTreeMap<(Instant, u64), Message>,
    next: u64,
    /// Directions in which nothing arrives.
    cut: BTreeSet<(PeerId, PeerId)>,
    /// How long a message takes, in milliseconds, from and to.
    pub(crate) delay_ms: (u64, u64),
    /// The chance in a hundred that one is lost.
    pub(crate) loss: u64,
    /// The chance in a hundred that one arrives twice.
    pub(crate) doubling: u64,
    /// How many of the next pieces of snapshots arrive with another byte, as from a member whose memory fails: what a
    /// connection damages does not arrive.
    pub(crate) damages: u64,
    /// Messages of which this says yes are kept back.
    pub(crate) keeps: Option<fn(&[u8]) -> bool>,
    /// Those that were.
    pub(crate) kept: Vec<Message>,
    /// Messages that did not arrive because of a cut or a loss.
    pub(crate) dropped: u64,
    /// Messages that arrived twice.
    pub(crate) doubled: u64,
}

impl Network {
    /// Sends a message, or loses it.
    pub(crate) fn send(&mut self, now: Instant, random: &mut Random, mut message: Message) {
        if self.keeps.is_some_and(|keeps| keeps(&message.bytes)) {
            return self.kept.push(message);
        }
        let is_lost = random.percent(self.loss) || self.cut.contains(&(message.from, message.to));
        let is_doubled = random.percent(self.doubling);
        let (first, second) = (random.time(self.delay_ms), random.time(self.delay_ms));
        if is_lost {
            self.dropped += 1;
            return;
        }
        if is_doubled {
            self.doubled += 1;
            message.is_doubled = true;
            let again = Message { bytes: message.bytes.clone(), ..message };
            self.put(now + second * 3, again);
        }
        self.put(now + first, message);
    }

    fn put(&mut self, at: Instant, message: Message) {
        self.on_their_way.insert((at, self.next), message);
        self.next += 1;
    }

    /// When the next one arrives.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.on_their_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// A message that has arrived by now. What was cut off meanwhile does not.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Message> {
        while self.next_at().is_some_and(|at| at <= now) {
            let (_, message) = self.on_their_way.pop_first()?;
            if !self.cut.contains(&(message.from, message.to)) {
                return Some(message);
            }
            self.dropped += 1;
        }
        None
    }

    /// A peer ends. Of two equal messages to it none arrives at its next life: a connection that doubles messages is
    /// further than a transport may go, and one that does it across lives has none of its order left.
    pub(crate) fn ended(&mut self, peer: PeerId) {
        self.on_their_way.retain(|_, message| !(message.is_doubled && message.to == peer));
    }

    /// Lets nothing through in one direction.
    pub(crate) fn cut_one_way(&mut self, from: PeerId, to: PeerId) {
        self.cut.insert((from, to));
    }

    /// Lets everything through again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}
