//! Two peers that are equal, or nearly: what it takes to know it, and what to become equal again.
//!
//! The check compares a hash of the heads and the fingerprint, both kept up to date, so its cost does not
//! depend on the number of keys: it is measured at 100 and at 100,000. Then one peer, alone, changes 100 keys
//! in one turn, and they meet again.
//! Against iroh-docs 0.101 for the latter: 480 KB and 1.0 s of CPU (reference/performance.md, section 7).

mod measure;

use std::time::Duration;

use measure::figures::{Figure, Target, print};
use measure::number;
use measure::pair::{Pair, Traffic, mem_store};
use measure::work::{BATCH, CONTENT_BYTES, sets};
use tidelock_engine::mem_store::MemStore;

const KEYS: usize = 100_000;

/// Long enough for one summary each way between peers that know themselves equal, in milliseconds of virtual
/// time.
const SUMMARY_MS: u64 = 10_000;

fn main() {
    let mut small = pair_of(BATCH);
    let mut large = pair_of(KEYS);
    let [few, many] = [("100 keys", &mut small), ("100,000 keys", &mut large)].map(|(what, pair)| {
        let greeting = meet(pair);
        println!("equal at {what}, a new session: {}", told(&greeting));
        let before = pair.cpu();
        pair.pass(SUMMARY_MS);
        let check = pair.take_traffic();
        println!(
            "equal at {what}, 10 s of a quiet session: {}; CPU {:?}",
            told(&check),
            pair.cpu().saturating_sub(before)
        );
        greeting
    });
    let (bytes, cpu, changed) = changed_keys(&mut large);
    println!("{BATCH} of 100,000 keys changed: {}; CPU of both {cpu:?}", told(&changed));
    let once = check_of(&many);
    assert_eq!(once, check_of(&few), "the check does not depend on the number of keys");
    let figure = |what, value, unit, gate, goal| Figure {
        what,
        value,
        unit,
        gate: Target::AtMost(gate),
        goal: Target::AtMost(goal),
    };
    print(&[
        figure("the check of two equal peers, both ways", number(once), "B", 200.0, 200.0),
        figure(
            "a new session of two equal peers, after its hellos",
            round_trips(&many),
            "round trips",
            1.0,
            1.0,
        ),
        figure("100 of 100,000 keys changed, beyond the content", number(bytes), "B", 4096.0, 2048.0),
        figure("100 of 100,000 keys changed, CPU of both", cpu.as_secs_f64() * 1e3, "ms", 5.0, 5.0),
    ]);
}

/// Two equal nodes, not connected.
fn pair_of(keys: usize) -> Pair<MemStore> {
    let mut pair = Pair::new([mem_store(1), mem_store(2)]);
    for start in (0..keys).step_by(BATCH) {
        pair.write(0, sets(start..start + BATCH, 0));
    }
    pair.connect();
    pair.assert_equal();
    pair.cut();
    pair
}

fn meet(pair: &mut Pair<MemStore>) -> Traffic {
    pair.take_traffic();
    pair.connect();
    pair.take_traffic()
}

/// One node changes some keys while nobody listens; answers the bytes beyond the content and the CPU time that
/// it then takes them to be equal.
fn changed_keys(pair: &mut Pair<MemStore>) -> (usize, Duration, Traffic) {
    pair.cut();
    pair.write(0, sets((0..BATCH).map(|number| number * (KEYS / BATCH)), 1));
    let before = pair.cpu();
    let traffic = meet(pair);
    pair.assert_equal();
    (traffic.bytes() - BATCH * CONTENT_BYTES, pair.cpu().saturating_sub(before), traffic)
}

/// The bytes of one check: a summary each way.
fn check_of(greeting: &Traffic) -> usize {
    greeting.bytes_of("Summary")
}

/// The first leg carries the hellos.
fn round_trips(greeting: &Traffic) -> f64 {
    number(greeting.legs - 1) / 2.0
}

fn told(traffic: &Traffic) -> String {
    format!(
        "{} B in {} messages, {} legs: {}",
        traffic.bytes(),
        traffic.messages.len(),
        traffic.legs,
        traffic.summary()
    )
}
