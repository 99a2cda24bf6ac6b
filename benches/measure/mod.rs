//! What the benchmarks share: clocks that count CPU, dice, medians.
//!
//! CPU, bytes and counts are what is gated; they hold within a tenth on a busy machine. Wall time here measures
//! the scheduler as much as us (a sync takes 0.15 ms or 4 ms, by whether a core is free), so it is shown and
//! never gated.

#![allow(dead_code, reason = "each benchmark uses its part of this module")]

pub(crate) mod figures;
pub(crate) mod pair;
pub(crate) mod work;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// The CPU time that all threads of this process have used.
pub(crate) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// The CPU time that this thread has used since [`thread_cpu`] answered `start`.
pub(crate) fn thread_cpu_since(start: Duration) -> Duration {
    thread_cpu().saturating_sub(start)
}

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("CPU time is not negative")
}

/// What one of `count` operations took, in microseconds.
pub(crate) fn micros_each(total: Duration, count: usize) -> f64 {
    total.as_secs_f64() * 1e6 / number(count)
}

/// A count to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// The middle one; of an even number the lower.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// The numbers on the command line. Cargo's own arguments are none.
pub(crate) fn arguments() -> Vec<usize> {
    std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect()
}

/// A seeded generator (splitmix64): every run does the same work.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % bound as u64).expect("it is below a usize")
    }
}
