//! Two peers that are equal, or nearly: what it takes to know it, and what to become equal again.
//!
//! The check compares a hash of the heads and the fingerprint, both kept up to date, so its cost does not
//! depend on the number of keys: it is measured at 100 and at 1,000,000. Then one peer, alone, changes 100 keys
//! in one turn, and they meet again, at 10,000, 100,000 and 1,000,000 keys: once with the log that tells what
//! changed, and once after it was let go of, when ranges of rows are compared. The fingerprints of the ranges are
//! made when they are needed first; what that takes is told by itself.
//! Against iroh-docs 0.101 for 100 of 100,000: 480 KB and 1.0 s of CPU (reference/performance.md, section 7).

mod measure;

use std::time::Duration;

use measure::figures::{Figure, Target, print};
use measure::number;
use measure::pair::{Pair, Traffic, mem_store};
use measure::work::{BATCH, CONTENT_BYTES, sets};
use tidelock_engine::mem_store::MemStore;

/// The sizes, in keys.
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

/// Long enough for one summary each way between peers that know themselves equal, in milliseconds of virtual
/// time.
const SUMMARY_MS: u64 = 10_000;

/// Long enough for ranges to be compared, in milliseconds of virtual time.
const COMPARED_MS: u64 = 15_000;

/// What iroh-docs 0.101 takes for 100 of 100,000 entries, as gate and goal.
const IROH_BYTES: (f64, f64) = (480_000.0, 480_000.0);
const IROH_MS: f64 = 1_000.0;

/// What it took to become equal again.
struct Cost {
    keys: usize,
    /// Beyond the keys and values that changed.
    bytes: usize,
    cpu: Duration,
}

fn main() {
    let once = check_of(&greeting(&mut pair_of(BATCH), BATCH));
    let (mut by_log, mut by_ranges) = (Vec::new(), Vec::new());
    let mut round_trips = 0.0;
    for keys in SIZES {
        let mut pair = pair_of(keys);
        let greeting = greeting(&mut pair, keys);
        assert_eq!(check_of(&greeting), once, "the check does not depend on the number of keys");
        // The first leg carries the hellos.
        round_trips = number(greeting.legs - 1) / 2.0;
        by_log.push(change(&mut pair, keys, 1, false));
        let first = change(&mut pair, keys, 2, true);
        println!("  of which making the fingerprints of ranges, once: about {:?}", first.cpu);
        by_ranges.push(change(&mut pair, keys, 3, true));
    }
    let figure = |what, value, unit, gate, goal| Figure {
        what,
        value,
        unit,
        gate: Target::AtMost(gate),
        goal: Target::AtMost(goal),
    };
    let ms = |cost: &Cost| cost.cpu.as_secs_f64() * 1e3;
    let mut figures = vec![
        figure("the check of two equal peers of 1,000,000 keys, both ways", number(once), "B", 200.0, 200.0),
        figure("their new session, after its hellos", round_trips, "round trips", 1.0, 1.0),
    ];
    // Ranges are compared with what iroh-docs takes for the same.
    for (how, costs, (bytes, least), ms_most) in
        [("by the log", &by_log, (4096.0, 2048.0), 5.0), ("by ranges", &by_ranges, IROH_BYTES, IROH_MS)]
    {
        for cost in costs {
            let what = format!("100 of {} keys changed, {how}", cost.keys);
            let beyond = format!("{what}: beyond the content");
            figures.push(figure(beyond.leak(), number(cost.bytes), "B", bytes, least));
            figures.push(figure(format!("{what}: CPU of both").leak(), ms(cost), "ms", ms_most, ms_most));
        }
    }
    print(&figures);
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

/// A new session of two equal nodes, and a quiet while in it.
fn greeting(pair: &mut Pair<MemStore>, keys: usize) -> Traffic {
    pair.take_traffic();
    pair.connect();
    let greeting = pair.take_traffic();
    println!("equal at {keys} keys, a new session: {}", told(&greeting));
    let before = pair.cpu();
    pair.pass(SUMMARY_MS);
    let check = pair.take_traffic();
    let cpu = pair.cpu().saturating_sub(before);
    println!("equal at {keys} keys, 10 s of a quiet session: {}; CPU {cpu:?}", told(&check));
    greeting
}

/// One node changes some keys while nobody listens, and lets go of the log that says so if it `forgets`. Then they
/// meet.
fn change(pair: &mut Pair<MemStore>, keys: usize, salt: usize, forgets: bool) -> Cost {
    pair.cut();
    pair.write(0, sets((0..BATCH).map(|number| number * (keys / BATCH)), salt));
    if forgets {
        // The last record is always kept: one more, of the same key as the last one.
        pair.write(0, sets([(BATCH - 1) * (keys / BATCH)], salt));
        pair.truncate(0);
    }
    pair.take_traffic();
    let before = pair.cpu();
    pair.connect();
    if forgets {
        pair.pass(COMPARED_MS);
    }
    let (traffic, cpu) = (pair.take_traffic(), pair.cpu().saturating_sub(before));
    pair.assert_equal();
    let how = if forgets { "by ranges" } else { "by the log" };
    println!("{BATCH} of {keys} keys changed, {how}: {}; CPU of both {cpu:?}", told(&traffic));
    Cost { keys, bytes: traffic.bytes() - BATCH * CONTENT_BYTES, cpu }
}

/// The bytes of one check: a summary each way.
fn check_of(greeting: &Traffic) -> usize {
    greeting.bytes_of("Summary")
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
