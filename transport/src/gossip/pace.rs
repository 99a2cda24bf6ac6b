//! How much of something may happen a second. Pure; no clock.
//!
//! The generic cell rate algorithm (ITU-T I.371): one moment says all, so nothing has to be refilled.

use std::time::{Duration, Instant};

/// A pace: so much a second, and at once what comes in a burst of some length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// What one unit takes at this pace.
    unit: Duration,
    burst: Duration,
    /// When all that was spent would have come at the even pace.
    even_at: Instant,
}

impl Pace {
    /// So many units a second, after as many as come in `burst` at once.
    pub(crate) fn new(units_per_second: u32, burst: Duration, now: Instant) -> Self {
        Self { unit: Duration::from_secs(1) / units_per_second.max(1), burst, even_at: now }
    }

    /// Whether something may be spent. It may cost more than is left, and then is made up for afterwards, so
    /// that nothing is too large for a pace.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.ready_at() <= now
    }

    /// When something may be spent again.
    pub(crate) fn ready_at(&self) -> Instant {
        self.even_at.checked_sub(self.burst).unwrap_or(self.even_at)
    }

    /// Spends, whether it may or not.
    pub(crate) fn spend(&mut self, now: Instant, units: usize) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.even_at = self.even_at.max(now) + self.unit.saturating_mul(units).min(Duration::from_hours(1));
    }

    /// Spends if it may; answers whether.
    pub(crate) fn try_spend(&mut self, now: Instant, units: usize) -> bool {
        let is_ready = self.is_ready(now);
        if is_ready {
            self.spend(now, units);
        }
        is_ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_at_once_and_then_an_even_pace() {
        let now = Instant::now();
        let mut pace = Pace::new(10, Duration::from_secs(1), now);
        let at_once = (0..100).filter(|_| pace.try_spend(now, 1)).count();
        assert_eq!(at_once, 11, "a second's worth, and the one that goes beyond");
        assert!(!pace.try_spend(now + Duration::from_millis(99), 1));
        assert!(pace.try_spend(now + Duration::from_millis(100), 1));
        assert!(!pace.try_spend(now + Duration::from_millis(100), 1));
        let later = now + Duration::from_mins(1);
        assert_eq!((0..100).filter(|_| pace.try_spend(later, 1)).count(), 11, "what was saved up is bounded");
    }

    #[test]
    fn what_is_too_large_for_the_burst_is_made_up_for() {
        let now = Instant::now();
        let mut pace = Pace::new(1_000, Duration::from_millis(10), now);
        assert!(pace.try_spend(now, 2_000));
        assert!(!pace.is_ready(now + Duration::from_millis(1_989)));
        assert_eq!(pace.ready_at(), now + Duration::from_millis(1_990));
    }
}
