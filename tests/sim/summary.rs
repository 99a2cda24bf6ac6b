//! What a hunt came to: a table for people, a row for each scenario, and all that was counted by name.

use std::collections::BTreeMap;
use std::fmt;

use crate::scenario::{Outcome, Scenario};
use crate::tally::Tally;
use crate::verdict::Failure;

/// What the network counts when something happens to a message.
const MESSAGE_FAULTS: [&str; 5] = [
    "lost messages",
    "duplicated messages",
    "reordered messages",
    "corrupted messages",
    "truncated messages",
];

/// The failures that are told at the end; all of them are in the file of failing seeds.
const FAILURES_MAX: usize = 50;

/// What one scenario came to.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The seeds that were played, whether they failed or not.
    pub seeds: u64,
    /// Those that failed.
    pub failed: u64,
    /// The simulated time of those that did not, in milliseconds.
    pub simulated_ms: u64,
    /// What was done in those and what went wrong.
    pub tally: Tally,
    /// The faults that struck in those, of messages and of all else.
    pub faults: u64,
}

impl Row {
    fn join(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.simulated_ms += other.simulated_ms;
        self.faults += other.faults;
        self.tally.join(&other.tally);
    }
}

/// What all of them came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    rows: BTreeMap<&'static str, Row>,
    /// What broke.
    pub failures: Vec<Failure>,
}

impl Summary {
    /// Counts a seed.
    pub fn count(&mut self, scenario: &'static Scenario, result: Result<Outcome, Failure>) {
        let row = self.rows.entry(scenario.name).or_default();
        row.seeds += 1;
        match result {
            Ok(outcome) => {
                row.simulated_ms += outcome.simulated_ms;
                row.tally.join(&outcome.tally);
                let names = scenario.faults.iter().map(|(fault, _)| fault.name()).chain(MESSAGE_FAULTS);
                row.faults += names.map(|name| outcome.tally.get(name)).sum::<u64>();
            }
            Err(failure) => {
                row.failed += 1;
                self.failures.push(failure);
            }
        }
    }

    /// The sum over all scenarios.
    pub fn total(&self) -> Row {
        let mut total = Row::default();
        self.rows.values().for_each(|row| total.join(row));
        total
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}{:>9}{:>8}{:>14}{:>12}{:>16}{:>12}",
            "scenario", "seeds", "failed", "simulated", "writes", "states checked", "faults"
        )?;
        let total = self.total();
        for (name, row) in self.rows.iter().chain([(&"all", &total)]) {
            let (seeds, failed, hours) = (row.seeds, row.failed, hours(row.simulated_ms));
            let (writes, states) = (row.tally.get("writes"), row.tally.get("states checked"));
            let faults = row.faults;
            writeln!(
                f,
                "{name:<16}{seeds:>9}{failed:>8}{hours:>12.2} h{writes:>12}{states:>16}{faults:>12}"
            )?;
        }
        for (name, row) in &self.rows {
            writeln!(f, "\n{name}:")?;
            row.tally.iter().try_for_each(|(what, count)| writeln!(f, "{count:>12}  {what}"))?;
        }
        for failure in self.failures.iter().take(FAILURES_MAX) {
            writeln!(f, "\nFAILED {failure}\n  replay: {}", failure.replay())?;
        }
        if self.failures.len() > FAILURES_MAX {
            writeln!(f, "\nand {} more", self.failures.len() - FAILURES_MAX)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}
