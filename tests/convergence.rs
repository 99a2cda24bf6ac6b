//! Replicas end equal: whoever wrote what, whatever the network did in between.

use sim::World;
use sim::words::{add, increment, set};

/// Two nodes write offline and meet.
#[test]
fn two_nodes_that_wrote_apart_end_equal() {
    let mut world = World::new(1);
    world.add("a");
    world.add("b");
    world.write("a", set("title", "shopping"));
    world.write("b", add("list", "bread"));
    world.write("a", add("list", "milk"));
    world.write("b", increment("visits", 3));
    world.write("a", increment("visits", 4));
    world.connect("a", "b");
    world.settle();
    for node in ["a", "b"] {
        assert_eq!(world.get(node, "title").as_deref(), Some("shopping"));
        assert_eq!(world.members(node, "list"), ["bread", "milk"]);
        assert_eq!(world.get(node, "visits").as_deref(), Some("7"));
    }
}

/// Eight nodes write concurrently under the same keys.
#[test]
fn eight_nodes_end_equal() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut world = World::connected(3, &names);
    for round in 0..10 {
        for name in names {
            world.write(name, increment("total", 1));
            world.write(name, set("last", name));
            world.write(name, add("seen", name));
            world.run(if round % 3 == 0 { 20 } else { 0 });
        }
    }
    world.settle();
    for name in names {
        assert_eq!(world.get(name, "total").as_deref(), Some("80"));
        assert_eq!(world.members(name, "seen"), names);
    }
}

/// The counter of DESIGN.md section 4, and it is there after a power cut.
#[test]
fn counters_count_what_a_set_did_not_see() {
    let mut world = World::connected(6, &["a", "b", "c"]);
    world.write("a", set("n", "10"));
    world.settle();
    world.split(&["a"], &["b", "c"]);
    world.write("a", increment("n", 1));
    world.write("b", increment("n", 1));
    world.heal();
    world.settle();
    assert_eq!(world.get("c", "n").as_deref(), Some("12"));
    world.lose_power("c");
    world.start("c");
    assert_eq!(world.get("c", "n").as_deref(), Some("12"));
}
