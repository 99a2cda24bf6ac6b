//! What the port counts for operators, and records of each command.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Histogram, histogram};

use super::state::Shared;
use super::table::COMMANDS;

/// How long commands took, by name. One that was never given is not told.
#[derive(Debug)]
pub(super) struct CommandMetrics(Vec<(&'static str, OnceLock<Histogram>)>);

impl CommandMetrics {
    pub(super) fn new() -> Self {
        Self(COMMANDS.iter().map(|spec| (spec.name, OnceLock::new())).collect())
    }

    /// Records a command of the table.
    pub(super) fn executed(&self, name: &str, duration: Duration) {
        if let Ok(found) = self.0.binary_search_by(|(known, _)| (*known).cmp(name)) {
            let (name, recorded) = &self.0[found];
            let recorded =
                recorded.get_or_init(|| histogram!("tidelock_redis_command_seconds", "command" => *name));
            recorded.record(duration);
        }
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
        let shared = &self.0;
        RedisFigures {
            clients: shared.clients.len(),
            clients_accepted: shared.clients_accepted.load(Ordering::Relaxed),
            clients_refused: shared.clients_refused.load(Ordering::Relaxed),
            clients_closed_slow: shared.clients_closed_slow.load(Ordering::Relaxed),
            clients_malformed: shared.clients_malformed.load(Ordering::Relaxed),
            commands: shared.commands.load(Ordering::Relaxed),
            input_bytes: shared.input.used(),
            output_bytes: shared.output.used(),
        }
    }
}
