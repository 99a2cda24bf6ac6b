//! What the network does to messages: how long they take, and how often something happens to them.

use crate::random::Random;
use crate::tally::Tally;

/// Rates and delays. All rates are per thousand messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The shortest and the longest time on the way, in microseconds.
    pub delay_us: (u64, u64),
    /// Messages that vanish although the session goes on.
    pub loss: u32,
    /// Messages that arrive twice.
    pub duplication: u32,
    /// Messages that overtake others or are overtaken.
    pub reordering: u32,
    /// Messages of which a bit or a byte is another.
    pub corruption: u32,
    /// Messages of which the end is missing.
    pub truncation: u32,
    /// The messages that a queue towards a peer holds before it is full.
    pub queue_max: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self::GOOD
    }
}

impl Conditions {
    /// Nothing happens to messages.
    pub const GOOD: Self = Self {
        delay_us: (0, 20_000),
        loss: 0,
        duplication: 0,
        reordering: 0,
        corruption: 0,
        truncation: 0,
        queue_max: 10_000,
    };

    /// What becomes of a message: nothing, itself, itself twice, or something else.
    pub(crate) fn afflict(
        &self,
        mut message: Vec<u8>,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Vec<Vec<u8>> {
        if random.chance(self.loss) {
            tally.count("lost messages");
            return Vec::new();
        }
        if random.chance(self.corruption) && !message.is_empty() {
            tally.count("corrupted messages");
            let at = random.below(message.len());
            let flip = 1 << random.below(8);
            message[at] ^= flip;
        }
        if random.chance(self.truncation) && !message.is_empty() {
            tally.count("truncated messages");
            message.truncate(random.below(message.len()));
        }
        if random.chance(self.duplication) {
            tally.count("duplicated messages");
            return vec![message.clone(), message];
        }
        vec![message]
    }
}
