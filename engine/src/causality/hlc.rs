//! The hybrid logical clock and its rules for clocks that are wrong.
//!
//! Causality decides; a stamp only breaks ties among concurrent writes. So no frame is refused, parked or
//! delayed for its stamp. A stamp that is far ahead is applied but not folded into our clock, so that one bad
//! clock does not spread. The price: a fast clock wins ties; the losers stay readable as conflicts.
//! Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots" (2014).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Epoch;

/// A remote stamp further ahead of our wall clock than this is not folded.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(1);

/// A stored clock further ahead of the wall clock than this starts again from the wall clock.
pub const CLOCK_RESTART_AFTER: Duration = Duration::from_mins(10);

const COUNTER_BITS: u32 = 16;
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// A hybrid logical time: 48 bits of Unix milliseconds, then 16 bits of counter.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hlc(#[serde(with = "postcard::fixint::be")] u64);

impl Hlc {
    /// The first moment of a Unix millisecond; beyond the year 10889 it is the last representable one.
    pub const fn at(unix_ms: u64) -> Self {
        let millis = if unix_ms > MILLIS_MAX { MILLIS_MAX } else { unix_ms };
        Self(millis << COUNTER_BITS)
    }

    /// The Unix milliseconds.
    pub const fn unix_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The time as stored: milliseconds in the high 48 bits, counter in the low 16.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// A time that was stored or received.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.unix_ms(), self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

/// What ranks concurrent writes of one register: the epoch first, then the time; the row's dot breaks the tie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The keyspace's epoch when the write was minted.
    pub epoch: Epoch,
    /// The author's clock then.
    pub hlc: Hlc,
}

/// What became of a remote stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Our clock is now at or after it.
    Folded,
    /// It is more than [`CLOCK_AHEAD_MAX`] ahead of our wall clock and left our clock alone.
    Ahead,
}

/// The clock of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// The clock of a store whose highest persisted value is `last`.
    pub const fn starting_at(last: Hlc) -> Self {
        Self { last }
    }

    /// The highest value so far.
    pub const fn last(self) -> Hlc {
        self.last
    }

    /// A new value for a local write, above all that was handed out or folded before, unless that is more than
    /// [`CLOCK_RESTART_AFTER`] ahead. Starting again is safe: our later writes observe our earlier ones.
    pub fn tick(&mut self, unix_ms: u64) -> Hlc {
        let wall = Hlc::at(unix_ms);
        let restart_above = Hlc::at(unix_ms.saturating_add(millis(CLOCK_RESTART_AFTER)));
        self.last = if self.last < wall || self.last > restart_above {
            wall
        } else {
            // A counter overflow carries into the milliseconds, which keeps the order.
            Hlc(self.last.0.saturating_add(1))
        };
        self.last
    }

    /// Folds a stamp that was received, unless it is too far ahead.
    pub fn observe(&mut self, unix_ms: u64, remote: Hlc) -> Observed {
        if remote > Hlc::at(unix_ms.saturating_add(millis(CLOCK_AHEAD_MAX))) {
            return Observed::Ahead;
        }
        self.last = self.last.max(remote);
        Observed::Folded
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("the constants of this file are minutes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn ticks_rise_while_the_wall_clock_stands_or_steps_back() {
        let mut clock = Clock::default();
        let first = clock.tick(NOW);
        let second = clock.tick(NOW);
        let third = clock.tick(NOW - 60_000);
        assert!(first < second && second < third);
    }

    #[test]
    fn counter_overflow_keeps_the_order() {
        let mut clock = Clock::default();
        let mut last = clock.tick(NOW);
        for _ in 0..70_000 {
            let next = clock.tick(NOW);
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.unix_ms(), NOW + 1);
    }

    #[test]
    fn stamp_within_a_second_is_folded_and_one_beyond_is_not() {
        let mut clock = Clock::default();
        clock.tick(NOW);
        assert_eq!(clock.observe(NOW, Hlc::at(NOW + 1_000)), Observed::Folded);
        assert_eq!(clock.last(), Hlc::at(NOW + 1_000));
        assert_eq!(clock.observe(NOW, Hlc::from_bits(Hlc::at(NOW + 1_000).to_bits() + 1)), Observed::Ahead);
        assert_eq!(clock.observe(NOW, Hlc::at(u64::MAX)), Observed::Ahead);
        assert_eq!(clock.last(), Hlc::at(NOW + 1_000));
    }

    #[test]
    fn stored_clock_far_ahead_starts_again_from_the_wall_clock() {
        let century = Hlc::at(NOW + 100 * 365 * 24 * 3_600_000);
        assert_eq!(Clock::starting_at(century).tick(NOW), Hlc::at(NOW));
        let nine_minutes = Hlc::at(NOW + 9 * 60_000);
        assert!(Clock::starting_at(nine_minutes).tick(NOW) > nine_minutes);
    }

    #[test]
    fn stored_clock_ten_minutes_ahead_goes_on_and_one_beyond_does_not() {
        let bound = Hlc::at(NOW + 10 * 60_000);
        assert!(Clock::starting_at(bound).tick(NOW) > bound);
        let beyond = Hlc::from_bits(bound.to_bits() + 1);
        assert_eq!(Clock::starting_at(beyond).tick(NOW), Hlc::at(NOW));
    }

    #[test]
    fn time_past_the_last_millisecond_is_the_last() {
        let last_ms = (1 << 48) - 1;
        assert_eq!(Hlc::at(last_ms).unix_ms(), last_ms);
        assert!(Hlc::at(last_ms) > Hlc::at(last_ms - 1));
        assert_eq!(Hlc::at(last_ms + 1), Hlc::at(last_ms));
        assert_eq!(Hlc::at(u64::MAX), Hlc::at(last_ms));
    }

    #[test]
    fn time_is_shown_as_milliseconds_and_counter() {
        let time = Hlc::from_bits(Hlc::at(NOW).to_bits() + 7);
        assert_eq!(format!("{time:?}"), "1800000000000+7");
    }
}
