//! Runs of many seeds: one seed, one history; a failure prints the command that replays it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::scenario::{Outcome, Scenario};
use crate::tally::Tally;

/// The seeds of a story that has several, in the gate.
const STORY_SEEDS: u64 = 2;

/// Plays a story at some seeds: `SEED` alone, or `SEEDS` of them from `FIRST_SEED` on; two otherwise. It is given the
/// seed and the command that plays it again.
pub fn at_seeds(story: impl Fn(u64, String)) {
    let (first, count) = seeds(STORY_SEEDS);
    let this = std::thread::current();
    let name = this.name().unwrap_or_default();
    for seed in first..first + count {
        story(seed, format!("SEED={seed} cargo test -p tidelock-tests --test stories {name}"));
    }
}

fn seeds(otherwise: u64) -> (u64, u64) {
    match setting("SEED") {
        Some(seed) => (seed, 1),
        None => (setting("FIRST_SEED").unwrap_or(0), setting("SEEDS").unwrap_or(otherwise)),
    }
}

/// Plays the seeds of a scenario: `SEED` alone, or `SEEDS` of them from `FIRST_SEED` on; as many as it has in the gate
/// otherwise. Over all of them, everything that the scenario switches on must have struck.
///
/// # Panics
/// If a seed fails, or the seeds together did not do what they should.
pub fn campaign(scenario: &Scenario) {
    let (first, count) = seeds(scenario.seeds);
    let mut total = Tally::default();
    let mut converged_ms = Vec::new();
    for seed in first..first + count {
        let outcome = play(scenario, seed);
        total.join(&outcome.tally);
        converged_ms.push(outcome.converged_ms);
    }
    converged_ms.sort_unstable();
    let at = |per_cent: usize| converged_ms[(converged_ms.len() - 1) * per_cent / 100];
    println!("{}: {count} seeds: {total}", scenario.name);
    println!("  equal after {} ms (median), {} ms (99 %), {} ms (all)", at(50), at(99), at(100));
    if count >= scenario.seeds {
        assert_floor(scenario, &total, count);
    }
}

/// Plays one seed of a scenario; names it when the code under test itself panics.
fn play(scenario: &Scenario, seed: u64) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| scenario.play(seed))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            println!(
                "replay: SEED={seed} cargo test -p tidelock-tests --test stories random::{}",
                scenario.name
            );
            resume_unwind(panic);
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs that did nothing prove nothing: each fault that is switched on has struck, and clients have written.
fn assert_floor(scenario: &Scenario, total: &Tally, seeds: u64) {
    let least = |name: &str, count: u64| {
        assert!(total.get(name) >= count, "{}: only {} {name}", scenario.name, total.get(name));
    };
    least("writes", 20 * seeds);
    least("frames applied", 40 * seeds);
    least("states checked", 20 * seeds);
    if scenario.strong.is_some() {
        least("strong operations acknowledged", 50 * seeds);
        least("strong reads", 20 * seeds);
        least("strong states checked", 50 * seeds);
    }
    let workload = &scenario.workload;
    least("decisions that were taken", if workload.decisions == 0 { 0 } else { seeds });
    least("keys expired", if workload.expiring == 0 { 0 } else { 5 * seeds });
    least("computed writes", if workload.computed == 0 { 0 } else { 10 * seeds });
    // Where keys expire all the time few are left to take a range of.
    let is_lasting = workload.computed > 0 && workload.expiring == 0;
    least("ranges of sorted sets that were taken", if is_lasting { seeds / 10 } else { 0 });
    for (fault, _) in scenario.faults {
        least(fault.name(), seeds / 10);
    }
    let conditions = &scenario.conditions;
    let rates = [
        (conditions.loss, "lost messages"),
        (conditions.duplication, "duplicated messages"),
        (conditions.reordering, "reordered messages"),
        (conditions.corruption, "corrupted messages"),
        (conditions.truncation, "truncated messages"),
    ];
    for (rate, name) in rates {
        least(name, if rate == 0 { 0 } else { seeds / 4 });
    }
}
