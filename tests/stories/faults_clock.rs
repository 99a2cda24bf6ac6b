//! One story for each fault of a clock: it orders true ties, and nothing else.

use sim::World;
use sim::node::START_MS;
use sim::words::{add, increment, remove, set};

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const DECADE_MS: i64 = 10 * 365 * 24 * HOUR_MS;

/// Before 1970 there is nothing to show: the clock stands at its start.
const BEFORE_1970_MS: i64 = -3 * (START_MS.cast_signed() / 2);

/// Beyond what 48 bits of milliseconds hold.
const BEYOND_ALL_MS: i64 = 1 << 60;

/// A node's clock jumps; what it writes then follows what it wrote before and what it has seen, and so do the
/// writes of those that see it.
fn jump_changes_nothing(seed: u64, jumps_ms: &[i64]) {
    let mut world = World::connected(seed, &["a", "b"]);
    for (n, jump_ms) in (0..).zip(jumps_ms) {
        world.write("a", set("k", &format!("before {n}")));
        world.write("a", add("s", "x"));
        world.set_clock("a", *jump_ms);
        world.write("a", set("k", &format!("after {n}")));
        world.write("a", remove("s", "x"));
        world.write("a", increment("count", 1));
        world.settle();
        assert_eq!(world.get("b", "k"), Some(format!("after {n}")));
        assert!(world.members("b", "s").is_empty(), "nothing comes back");
        world.write("b", set("k", &format!("answer {n}")));
        world.settle();
        assert_eq!(world.get("a", "k"), Some(format!("answer {n}")));
    }
    assert_eq!(world.tally.get("clock jumps"), jumps_ms.len() as u64);
    assert_eq!(world.get("b", "count"), Some(jumps_ms.len().to_string()));
}

/// Seconds, as after a correction by NTP.
#[test]
fn jump_by_seconds_changes_no_order() {
    jump_changes_nothing(1, &[2 * SECOND_MS, -2 * SECOND_MS, 30 * SECOND_MS, -30 * SECOND_MS, 0]);
}

/// Hours, as after a wrong time zone.
#[test]
fn jump_by_hours_changes_no_order() {
    jump_changes_nothing(2, &[HOUR_MS, -HOUR_MS, 12 * HOUR_MS, -12 * HOUR_MS, 0]);
}

/// Decades, as with an empty battery.
#[test]
fn jump_by_decades_changes_no_order() {
    jump_changes_nothing(3, &[DECADE_MS, -DECADE_MS, 5 * DECADE_MS, -5 * DECADE_MS, 0]);
}

/// Before 1970, and beyond what a stamp can hold.
#[test]
fn clock_at_the_ends_of_time_changes_no_order() {
    jump_changes_nothing(4, &[BEFORE_1970_MS, BEYOND_ALL_MS, BEFORE_1970_MS, BEYOND_ALL_MS, 0]);
}

/// A clock stands still while its node writes a thousand times.
#[test]
fn frozen_clock_still_orders_writes() {
    let mut world = World::connected(5, &["a", "b"]);
    world.freeze_clock("a", true);
    let frozen_ms = world.node("a").clock.unix_ms(world.now_us());
    for n in 0..200 {
        world.write("a", set("k", &n.to_string()));
        world.run(20);
    }
    assert_eq!(world.node("a").clock.unix_ms(world.now_us()), frozen_ms);
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("199"));
    world.freeze_clock("a", false);
    world.write("b", set("k", "b"));
    world.settle();
    world.write("a", set("k", "a"));
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("a"));
}

/// Everybody's clock is wrong, each by another amount.
#[test]
fn skewed_peers_converge() {
    let names = ["a", "b", "c", "d"];
    let mut world = World::connected(6, &names);
    for (name, ahead_ms) in names.iter().zip([HOUR_MS, -HOUR_MS, DECADE_MS, BEFORE_1970_MS]) {
        world.set_clock(name, ahead_ms);
    }
    for round in 0..8 {
        for name in names {
            world.write(name, set("k", &format!("{name}{round}")));
            world.write(name, increment("count", 1));
            world.run(30);
        }
    }
    world.settle();
    let value = world.get("a", "k");
    for name in names {
        assert_eq!(world.get(name, "count").as_deref(), Some("32"));
        assert_eq!(world.get(name, "k"), value);
    }
    assert!(world.counter("a", "stamps_ahead") > 0, "no clock was ahead");
}

/// A clock is ahead, its node is restarted, and the clock is right again, or the other way round.
#[test]
fn jump_over_a_restart_changes_no_order() {
    let mut world = World::connected(7, &["a", "b"]);
    for (n, ahead_ms) in [HOUR_MS, 0, DECADE_MS, -DECADE_MS, BEYOND_ALL_MS, 0].into_iter().enumerate() {
        world.write("a", set("k", &format!("before {n}")));
        world.kill("a");
        world.set_clock("a", ahead_ms);
        world.start("a");
        world.connect("a", "b");
        world.write("a", set("k", &format!("after {n}")));
        world.settle();
        assert_eq!(world.get("b", "k"), Some(format!("after {n}")));
    }
    assert_eq!(world.tally.get("kills"), 6);
}

/// Two nodes write the same field at once: the one with the fast clock is read everywhere, the other one's
/// value is still there until the next write, whose author may be slow.
#[test]
fn fast_clock_wins_a_tie_of_fields_and_loses_to_what_comes_after() {
    use sim::words::put;
    let mut world = World::connected(8, &["fast", "slow"]);
    world.set_clock("fast", DECADE_MS);
    world.set_clock("slow", -DECADE_MS);
    world.partition("fast", "slow");
    world.write("fast", put("map", "field", "fast"));
    world.write("slow", put("map", "field", "slow"));
    world.heal();
    world.settle();
    for name in ["fast", "slow"] {
        assert_eq!(world.field(name, "map", "field").as_deref(), Some("fast"));
        assert_eq!(world.rows_of(name, sim::world::NOTES).len(), 2, "the loser is kept");
    }
    world.write("slow", put("map", "field", "later"));
    world.settle();
    assert_eq!(world.field("fast", "map", "field").as_deref(), Some("later"));
    assert_eq!(world.rows_of("fast", sim::world::NOTES).len(), 1);
}
