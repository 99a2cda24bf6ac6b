//! What the event loop records of its turns, by the recorder that the program has installed, if it has.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tidelock_engine::request::{Action, Request};
use tidelock_engine::write::Write;

/// What the loop records. The recorder is that of the moment at which this is made.
#[derive(Debug)]
pub(super) struct LoopMetrics {
    turn_seconds: Histogram,
    turn_inputs: Histogram,
    set: Counter,
    increment: Counter,
    add: Counter,
    remove: Counter,
    put: Counter,
    unset: Counter,
    score: Counter,
    unscore: Counter,
    change: Counter,
    delete: Counter,
    other: Counter,
}

impl LoopMetrics {
    pub(super) fn new() -> Self {
        let writes = |kind: &'static str| counter!("tidelock_writes_total", "kind" => kind);
        Self {
            turn_seconds: histogram!("tidelock_turn_seconds"),
            turn_inputs: histogram!("tidelock_turn_inputs"),
            set: writes("set"),
            increment: writes("increment"),
            add: writes("add"),
            remove: writes("remove"),
            put: writes("put"),
            unset: writes("unset"),
            score: writes("score"),
            unscore: writes("unscore"),
            change: writes("change"),
            delete: writes("delete"),
            other: writes("other"),
        }
    }

    /// Counts the writes that a client asks for.
    pub(super) fn asked(&self, request: &Request) {
        for action in &request.actions {
            let Action::Write(write) = action else { continue };
            let kind = match write {
                Write::Set { .. } => &self.set,
                Write::Increment { .. } => &self.increment,
                Write::Add { .. } => &self.add,
                Write::Remove { .. } => &self.remove,
                Write::Put { .. } => &self.put,
                Write::Unset { .. } => &self.unset,
                Write::Score { .. } | Write::AddToScore { .. } => &self.score,
                Write::Unscore { .. } | Write::UnscoreRange { .. } | Write::PopScored { .. } => &self.unscore,
                Write::Change { .. } => &self.change,
                Write::Delete { .. } => &self.delete,
                _ => &self.other,
            };
            kind.increment(1);
        }
    }

    /// Records a turn of so many inputs.
    pub(super) fn turned(&self, inputs: usize, duration: Duration) {
        self.turn_seconds.record(duration);
        self.turn_inputs.record(f64::from(u32::try_from(inputs).unwrap_or(u32::MAX)));
    }
}
