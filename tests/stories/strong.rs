//! Strong keyspaces on whole nodes: openraft's tasks, the engine's turns and the real store, in one thread.

use sim::World;
use sim::strong::deeds::{Deed, Told};

const ORDERS: &str = "orders";

/// Three anchors and a guest, and a keyspace that is strong and known to all.
fn strong(seed: u64) -> World {
    let mut world = World::connected(seed, &["a", "b", "c", "guest"]);
    world.found("a");
    world.add_anchors("a", &["b", "c"]);
    world.make_strong("a", ORDERS);
    world.all_know(ORDERS);
    world
}

/// One node founds a group and is its only anchor; what it writes is there after a power cut.
#[test]
fn only_anchor_keeps_what_it_acknowledged() {
    let mut world = World::connected(1, &["a"]);
    world.found("a");
    world.make_strong("a", ORDERS);
    assert_eq!(world.deed("a", ORDERS, Deed::Put(0, 7)), Told::Done);
    world.lose_power("a");
    world.start("a");
    world.elected();
    assert_eq!(world.deed("a", ORDERS, Deed::Get(0)), Told::Value(Some(7)));
}

/// Anchors and a guest write; each reads what all the others wrote before, and in the end all are equal.
#[test]
fn anchors_and_guests_write_and_all_see_it() {
    let mut world = strong(2);
    for (sum, name) in (1..).zip(["a", "b", "c", "guest"]) {
        assert_eq!(world.deed(name, ORDERS, Deed::Add(0, 1)), Told::Sum(sum));
        for reader in ["a", "b", "c", "guest"] {
            assert_eq!(world.deed(reader, ORDERS, Deed::Get(0)), Told::Value(Some(sum)), "{reader}");
        }
    }
    world.settle();
    assert_eq!(world.strong.executed(), 4);
}
