//! Replicas end equal: whoever wrote what, whatever the network did in between.

use sim::World;
use sim::words::{add, delete, increment, put, remove, set};

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

/// Three nodes in a line: the middle one passes on what the ends write.
#[test]
fn three_nodes_in_a_line_end_equal() {
    let mut world = World::new(2);
    ["a", "b", "c"].into_iter().for_each(|name| world.add(name));
    world.partition("a", "c");
    world.connect("a", "b");
    world.connect("b", "c");
    world.run(500);
    world.write("a", set("k", "from a"));
    world.write("c", put("map", "field", "from c"));
    world.settle();
    assert_eq!(world.get("c", "k").as_deref(), Some("from a"));
    assert!(!world.is_linked("a", "c"));
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

/// A partition: both sides go on; a delete on one side meets an add on the other.
#[test]
fn sides_of_a_partition_keep_what_the_other_did_not_see() {
    let mut world = World::connected(4, &["a", "b", "c"]);
    world.write("a", add("cart", "tea"));
    world.settle();
    world.split(&["a"], &["b", "c"]);
    world.write("a", delete("cart"));
    world.write("b", add("cart", "jam"));
    world.write("c", increment("visits", 1));
    world.run(5_000);
    assert_eq!(world.members("a", "cart"), [""; 0]);
    world.heal();
    world.settle();
    for node in ["a", "b", "c"] {
        assert_eq!(world.members(node, "cart"), ["jam"]);
    }
}

/// Add wins over a concurrent remove, and a remove removes what it saw.
#[test]
fn add_wins_over_concurrent_remove() {
    let mut world = World::connected(5, &["a", "b"]);
    world.write("a", add("s", "x"));
    world.write("a", add("s", "y"));
    world.settle();
    world.partition("a", "b");
    world.write("a", remove("s", "x"));
    world.write("a", remove("s", "y"));
    world.write("b", add("s", "x"));
    world.heal();
    world.settle();
    assert_eq!(world.members("a", "s"), ["x"]);
    assert_eq!(world.members("b", "s"), ["x"]);
}

/// The counter of DESIGN.md section 4: 12, then 21, then 1, and it is there after a power cut.
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
    world.split(&["a"], &["b", "c"]);
    world.write("a", increment("n", 1));
    world.write("c", set("n", "20"));
    world.heal();
    world.settle();
    assert_eq!(world.get("b", "n").as_deref(), Some("21"));
    world.split(&["b"], &["a", "c"]);
    world.write("b", increment("n", 1));
    world.write("c", delete("n"));
    world.heal();
    world.settle();
    assert_eq!(world.get("a", "n").as_deref(), Some("1"));
    world.lose_power("c");
    world.start("c");
    assert_eq!(world.get("c", "n").as_deref(), Some("1"));
}

/// A node joins when the others have written for a while.
#[test]
fn late_joiner_gets_everything() {
    let mut world = World::connected(7, &["a", "b"]);
    for n in 0..300 {
        world.write(if n % 2 == 0 { "a" } else { "b" }, set(&format!("key{n}"), "value"));
    }
    world.settle();
    world.add("c");
    world.connect("c", "a");
    world.settle();
    assert_eq!(world.get("c", "key299").as_deref(), Some("value"));
    assert!(world.counter("c", "frames_applied") >= 300);
}

/// A node is restarted, loses its sessions and what it had not applied, and goes on with the same replica.
#[test]
fn restarted_node_goes_on_where_it_was() {
    let mut world = World::connected(8, &["a", "b"]);
    world.write("a", increment("n", 1));
    world.settle();
    let id = world.node("a").driver().replica().id();
    world.restart("a");
    assert_eq!(world.node("a").driver().replica().id(), id);
    assert_eq!(world.get("a", "n").as_deref(), Some("1"));
    world.write("a", increment("n", 1));
    world.write("b", increment("n", 1));
    world.connect("a", "b");
    world.settle();
    assert_eq!(world.get("b", "n").as_deref(), Some("3"));
}

/// Sessions break again and again while everybody writes.
#[test]
fn broken_sessions_lose_nothing() {
    let names = ["a", "b", "c", "d"];
    let mut world = World::connected(9, &names);
    for round in 0..60 {
        let name = *world.random.pick(&names);
        world.write(name, increment("n", 1));
        world.run(30);
        let (x, y) = (*world.random.pick(&names), *world.random.pick(&names));
        if x != y && round % 2 == 0 {
            world.drop_session(x, y);
        }
    }
    world.settle();
    assert_eq!(world.get("a", "n").as_deref(), Some("60"));
}
