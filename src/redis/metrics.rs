//! What the port counts for operators, and records of each command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Histogram, histogram};

use super::reply::Reply;
use super::state::Shared;
use super::table::COMMANDS;

/// How long commands took, by name. One that was never given is not told.
#[derive(Debug)]
pub(super) struct CommandMetrics(Vec<CommandMetric>);

#[derive(Debug)]
struct CommandMetric {
    name: &'static str,
    histogram: OnceLock<Histogram>,
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    by_duration: [AtomicU64; DURATIONS],
}

/// The classes of durations that calls are counted by: each is twice as long as the one before it, from a microsecond to
/// half an hour.
const DURATIONS: usize = 32;

/// How often a command was executed, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
    /// How often it took up to so many microseconds, which are a power of two, and longer than half of that.
    pub(super) by_duration: [u64; DURATIONS],
}

impl Calls {
    fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count - before.count,
            nanoseconds: self.nanoseconds - before.nanoseconds,
            by_duration: std::array::from_fn(|class| self.by_duration[class] - before.by_duration[class]),
        }
    }
}

/// The class of a duration: the power of two that its microseconds, rounded up, are not beyond.
fn class(nanoseconds: u64) -> usize {
    let micros = nanoseconds.div_ceil(1_000).max(1);
    (micros.next_power_of_two().ilog2() as usize).min(DURATIONS - 1)
}

impl CommandMetrics {
    pub(super) fn new() -> Self {
        let metric = |name| {
            let by_duration = std::array::from_fn(|_| AtomicU64::new(0));
            let (calls, nanoseconds) = (AtomicU64::new(0), AtomicU64::new(0));
            CommandMetric { name, histogram: OnceLock::new(), calls, nanoseconds, by_duration }
        };
        Self(COMMANDS.iter().map(|spec| metric(spec.name)).collect())
    }

    /// Records a command of the table. It was answered after `duration`, of which its own `share` is less when others
    /// were executed with it.
    pub(super) fn executed(&self, name: &str, duration: Duration, share: Duration) {
        if let Ok(found) = self.0.binary_search_by(|metric| metric.name.cmp(name)) {
            let CommandMetric { name, histogram, calls, nanoseconds, by_duration } = &self.0[found];
            let histogram =
                histogram.get_or_init(|| histogram!("tidelock_redis_command_seconds", "command" => *name));
            histogram.record(duration);
            calls.fetch_add(1, Ordering::Relaxed);
            let share = u64::try_from(share.as_nanos()).unwrap_or(u64::MAX);
            nanoseconds.fetch_add(share, Ordering::Relaxed);
            by_duration[class(share)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was executed, by command, in the order of the table.
    pub(super) fn calls(&self) -> Vec<(&'static str, Calls)> {
        let calls = |metric: &CommandMetric| Calls {
            count: metric.calls.load(Ordering::Relaxed),
            nanoseconds: metric.nanoseconds.load(Ordering::Relaxed),
            by_duration: std::array::from_fn(|class| metric.by_duration[class].load(Ordering::Relaxed)),
        };
        self.0.iter().map(|metric| (metric.name, calls(metric))).collect()
    }
}

/// What a Redis port counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisFigures {
    /// The clients that are connected.
    pub clients: usize,
    /// The clients that were accepted since the start.
    pub clients_accepted: u64,
    /// The clients that were refused because there were as many as may be.
    pub clients_refused: u64,
    /// The clients that were closed because they did not read their replies.
    pub clients_closed_slow: u64,
    /// The clients that were closed because what they sent is not Redis's protocol, or too much of it.
    pub clients_malformed: u64,
    /// The commands that were received.
    pub commands: u64,
    /// What clients have half sent, queued or in execution, in bytes.
    pub input_bytes: usize,
    /// What clients have not read yet, in bytes.
    pub output_bytes: usize,
}

/// Tells the figures of a port, also beside the port's owner.
#[derive(Clone, Debug)]
pub struct RedisObserver(pub(super) Arc<Shared>);

impl RedisObserver {
    /// The figures of now.
    pub fn figures(&self) -> RedisFigures {
        self.0.figures()
    }
}

impl Shared {
    /// The figures of now.
    pub(super) fn figures(&self) -> RedisFigures {
        RedisFigures {
            clients: self.clients.len(),
            clients_accepted: self.clients_accepted.load(Ordering::Relaxed),
            clients_refused: self.clients_refused.load(Ordering::Relaxed),
            clients_closed_slow: self.clients_closed_slow.load(Ordering::Relaxed),
            clients_malformed: self.clients_malformed.load(Ordering::Relaxed),
            commands: self.commands.load(Ordering::Relaxed),
            input_bytes: self.input.used(),
            output_bytes: self.output.used(),
        }
    }

    /// Lets INFO count from now on. What is told by metrics only grows.
    pub(super) fn reset_figures(&self) {
        let (calls, errors) = (self.metrics.calls(), self.errors.counts());
        let since = Since { figures: self.figures(), calls, errors };
        *self.since.lock().expect("no holder of the lock panics") = since;
    }
}

/// From what on INFO counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Since {
    pub(super) figures: RedisFigures,
    pub(super) calls: Vec<(&'static str, Calls)>,
    pub(super) errors: Vec<(&'static str, u64)>,
}

impl Since {
    /// What was executed since then, by command, in the order of the table.
    pub(super) fn calls_of(&self, shared: &Shared) -> Vec<(&'static str, Calls)> {
        let mut calls = shared.metrics.calls();
        for ((_, now), (_, before)) in calls.iter_mut().zip(&self.calls) {
            *now = now.since(before);
        }
        calls
    }

    /// The errors that clients were told since then, by their first words.
    pub(super) fn errors_of(&self, shared: &Shared) -> Vec<(&'static str, u64)> {
        let mut errors = shared.errors.counts();
        for ((_, now), (_, before)) in errors.iter_mut().zip(&self.errors) {
            *now -= before;
        }
        errors
    }
}

/// The first words of errors, of which programs know what became of a command.
const ERROR_WORDS: [&str; 14] = [
    "CONSISTENCY",
    "ERR",
    "EXECABORT",
    "LOADING",
    "NOAUTH",
    "NOLEADER",
    "NOPROTO",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNKNOWN",
    "WRONGPASS",
    "WRONGTYPE",
    "other",
];

/// The errors that clients were told, by their first words.
#[derive(Debug, Default)]
pub(super) struct ErrorCounts([AtomicU64; ERROR_WORDS.len()]);

impl ErrorCounts {
    /// Counts a reply, if it is an error, or the errors among those of a transaction.
    pub(super) fn told(&self, reply: &Reply) {
        match reply {
            Reply::Error(text) => {
                let word = text.split(' ').next().unwrap_or_default();
                let known = ERROR_WORDS.iter().position(|known| *known == word);
                self.0[known.unwrap_or(ERROR_WORDS.len() - 1)].fetch_add(1, Ordering::Relaxed);
            }
            Reply::Array(list) => {
                let errors = list.iter().filter(|reply| matches!(reply, Reply::Error(_)));
                errors.for_each(|error| self.told(error));
            }
            _ => {}
        }
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        ERROR_WORDS.into_iter().zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_by_the_power_of_two_they_are_not_beyond() {
        let cases =
            [(0, 0), (1, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (4_000, 2), (1_024_000, 10)];
        for (nanoseconds, expected) in cases {
            assert_eq!(class(nanoseconds), expected, "{nanoseconds}");
        }
        assert_eq!(class(u64::MAX), DURATIONS - 1);
    }

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let errors = ErrorCounts::default();
        let wrong = || Reply::error("WRONGTYPE no");
        errors.told(&Reply::OK);
        errors.told(&wrong());
        errors.told(&Reply::Array(vec![Reply::OK, wrong(), Reply::error("FROB no")]));
        let counts: Vec<_> = errors.counts().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("WRONGTYPE", 2), ("other", 1)]);
    }
}
