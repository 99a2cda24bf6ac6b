//! What the port counts for operators, and records of each command.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Histogram, histogram};

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
}

/// How often a command was executed, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

impl CommandMetrics {
    pub(super) fn new() -> Self {
        let metric = |name| {
            let (calls, nanoseconds) = (AtomicU64::new(0), AtomicU64::new(0));
            CommandMetric { name, histogram: OnceLock::new(), calls, nanoseconds }
        };
        Self(COMMANDS.iter().map(|spec| metric(spec.name)).collect())
    }

    /// Records that a command of the table was executed so many times. Each was answered after `duration`, of which its
    /// own `share` is less when others were executed with it.
    pub(super) fn executed(&self, name: &str, count: usize, (duration, share): (Duration, Duration)) {
        if let Ok(found) = self.0.binary_search_by(|metric| metric.name.cmp(name)) {
            let CommandMetric { name, histogram, calls, nanoseconds } = &self.0[found];
            let histogram =
                histogram.get_or_init(|| histogram!("tidelock_redis_command_seconds", "command" => *name));
            histogram.record_many(duration, count);
            calls.fetch_add(count as u64, Ordering::Relaxed);
            let share = u64::try_from(share.as_nanos()).unwrap_or(u64::MAX);
            nanoseconds.fetch_add(share.saturating_mul(count as u64), Ordering::Relaxed);
        }
    }

    /// What was executed, by command, in the order of the table.
    pub(super) fn calls(&self) -> Vec<(&'static str, Calls)> {
        let calls = |metric: &CommandMetric| Calls {
            count: metric.calls.load(Ordering::Relaxed),
            nanoseconds: metric.nanoseconds.load(Ordering::Relaxed),
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
        let since = Since { figures: self.figures(), calls: self.metrics.calls() };
        *self.since.lock().expect("no holder of the lock panics") = since;
    }
}

/// From what on INFO counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Since {
    pub(super) figures: RedisFigures,
    pub(super) calls: Vec<(&'static str, Calls)>,
}
