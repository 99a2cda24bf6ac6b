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
    /// Pieces of snapshots of the group of anchors of which a bit is another, beside those of all messages.
    pub damaged_snapshots: u32,
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
        damaged_snapshots: 0,
        queue_max: 10_000,
    };

    /// What becomes of a message: nothing, itself, itself twice, or something else.
    pub(crate) fn afflict(&self, message: Vec<u8>, random: &mut Random, tally: &mut Tally) -> Afflicted {
        let (mut bytes, mut is_damaged) = (message, false);
        if random.chance(self.loss) {
            tally.count("lost messages");
            return Afflicted { arriving: Vec::new(), is_damaged };
        }
        if random.chance(self.corruption) && !bytes.is_empty() {
            tally.count("corrupted messages");
            let at = random.below(bytes.len());
            let flip = 1 << random.below(8);
            bytes[at] ^= flip;
            is_damaged = true;
        }
        if random.chance(self.truncation) && !bytes.is_empty() {
            tally.count("truncated messages");
            bytes.truncate(random.below(bytes.len()));
            is_damaged = true;
        }
        if random.chance(self.duplication) {
            tally.count("duplicated messages");
            return Afflicted { arriving: vec![bytes.clone(), bytes], is_damaged };
        }
        Afflicted { arriving: vec![bytes], is_damaged }
    }
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct Afflicted {
    /// What arrives.
    pub(crate) arriving: Vec<Vec<u8>>,
    /// Whether that is something else.
    pub(crate) is_damaged: bool,
}
