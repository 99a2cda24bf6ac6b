//! Clocks may be wrong by any amount: causality decides, stamps break ties, no frame waits for a clock.

use sim::World;
use sim::node::START_MS;
use sim::words::set;
use sim::world::NOTES;

const HOUR_MS: i64 = 3_600_000;
const CENTURY_MS: i64 = 100 * 365 * 24 * HOUR_MS;

/// The clock of one node is far ahead. Its writes arrive at once, are counted, and do not move other clocks.
#[test]
fn clock_that_is_ahead_is_counted_and_not_followed() {
    for ahead_ms in [HOUR_MS, CENTURY_MS] {
        let mut world = World::connected(40, &["a", "b"]);
        world.set_clock("b", ahead_ms);
        world.write("b", set("k", "from the future"));
        world.run(200);
        assert_eq!(world.get("a", "k").as_deref(), Some("from the future"));
        assert_eq!(world.counter("a", "stamps_ahead"), 1);
        world.write("a", set("k", "after it"));
        let clock_ms = world.node("a").driver().replica().clock().last().unix_ms();
        assert!(clock_ms < START_MS + 60_000, "a follows the clock of b");
        world.settle();
        assert_eq!(world.get("b", "k").as_deref(), Some("after it"), "a later write wins over a high stamp");
    }
}

/// A stamp less than a second ahead is folded, so that stamps follow what happened.
#[test]
fn clock_that_is_a_little_ahead_is_followed() {
    let mut world = World::connected(41, &["a", "b"]);
    world.set_clock("b", 900);
    world.write("b", set("k", "v"));
    world.run(100);
    assert_eq!(world.counter("a", "stamps_ahead"), 0);
    let (a, b) = (
        world.node("a").driver().replica().clock().last(),
        world.node("b").driver().replica().clock().last(),
    );
    assert_eq!(a, b);
}

/// A node whose clock was a century ahead is corrected: it starts again from its clock, and its new writes win
/// over its old ones although their stamps are lower.
#[test]
fn node_with_a_stored_clock_far_ahead_starts_again() {
    let mut world = World::connected(42, &["a", "b"]);
    world.set_clock("a", CENTURY_MS);
    world.write("a", set("k", "old"));
    world.settle();
    world.set_clock("a", 0);
    world.restart("a");
    world.connect("a", "b");
    world.write("a", set("k", "new"));
    let clock_ms = world.node("a").driver().replica().clock().last().unix_ms();
    assert!(clock_ms < START_MS + 60_000);
    world.settle();
    assert_eq!(world.get("a", "k").as_deref(), Some("new"));
    assert_eq!(world.get("b", "k").as_deref(), Some("new"));
}

/// A fast clock wins a tie, and the loser stays readable until the next write.
#[test]
fn fast_clock_wins_ties_and_the_loser_is_kept_as_a_conflict() {
    let mut world = World::connected(43, &["a", "b"]);
    world.set_clock("b", HOUR_MS);
    world.partition("a", "b");
    world.write("a", set("k", "slow"));
    world.write("b", set("k", "fast"));
    world.heal();
    world.settle();
    assert_eq!(world.get("a", "k").as_deref(), Some("fast"));
    assert_eq!(world.rows_of("a", NOTES).len(), 2);
    world.write("a", set("k", "resolved"));
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("resolved"));
    assert_eq!(world.rows_of("b", NOTES).len(), 1);
}
