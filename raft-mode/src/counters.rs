//! What a group counts, for the status and the metrics: above all what it refused, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a message was refused. Nothing in it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refused {
    /// It does not decode, or is of another version.
    Malformed,
    /// It is out of its bounds: a number that lies, entries with gaps, a list that is too long.
    OutOfBounds,
    /// It is for another group or another anchor.
    NotForUs,
    /// Its sender is no member under the name it gives.
    NotMember,
    /// It claims a vote that only another anchor could claim.
    OtherVote,
    /// Its sender has too many requests open.
    Busy,
    /// It answers what nobody asked, or what was given up.
    Late,
    /// It asks for the same a second time.
    Again,
    /// A snapshot whose bytes are not those that were announced.
    WrongHash,
}

/// All the reasons, in the order of their counters.
const REASONS: [Refused; 9] = [
    Refused::Malformed,
    Refused::OutOfBounds,
    Refused::NotForUs,
    Refused::NotMember,
    Refused::OtherVote,
    Refused::Busy,
    Refused::Late,
    Refused::Again,
    Refused::WrongHash,
];

impl Refused {
    /// The reason as a word, for a label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OutOfBounds => "out_of_bounds",
            Self::NotForUs => "not_for_us",
            Self::NotMember => "not_member",
            Self::OtherVote => "other_vote",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Again => "again",
            Self::WrongHash => "wrong_hash",
        }
    }
}

/// The numbers of a group since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    refused: [AtomicU64; REASONS.len()],
    pub(crate) sends_dropped: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) barriers: AtomicU64,
    pub(crate) read_rounds: AtomicU64,
    pub(crate) snapshots_built: AtomicU64,
    pub(crate) snapshots_installed: AtomicU64,
}

/// The numbers of a group since it was opened, as of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Messages refused, by reason.
    pub refused: Vec<(Refused, u64)>,
    /// Messages dropped because too many waited to be sent.
    pub sends_dropped: u64,
    /// Proposals sent on to the leader.
    pub forwarded: u64,
    /// Barriers asked for.
    pub barriers: u64,
    /// Rounds of messages that answered them.
    pub read_rounds: u64,
    /// Snapshots built here.
    pub snapshots_built: u64,
    /// Snapshots installed here.
    pub snapshots_installed: u64,
}

impl GroupCounts {
    /// How many messages were refused for a reason.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused.iter().find(|(it, _)| *it == reason).map_or(0, |(_, number)| *number)
    }
}

impl Counters {
    pub(crate) fn refuse(&self, reason: Refused) {
        count(&self.refused[reason as usize]);
    }

    pub(crate) fn read(&self) -> GroupCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GroupCounts {
            refused: REASONS.into_iter().zip(self.refused.iter().map(get)).collect(),
            sends_dropped: get(&self.sends_dropped),
            forwarded: get(&self.forwarded),
            barriers: get(&self.barriers),
            read_rounds: get(&self.read_rounds),
            snapshots_built: get(&self.snapshots_built),
            snapshots_installed: get(&self.snapshots_installed),
        }
    }
}

/// A number that only grows.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let counters = Counters::default();
        for (at, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            (0..=at).for_each(|_| counters.refuse(reason));
        }
        let counts = counters.read();
        for (at, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(counts.refused(reason), at as u64 + 1, "{}", reason.word());
        }
    }
}
