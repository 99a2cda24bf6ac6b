//! Deleting leaves no rows: the owner of a spent counter slot closes it by itself.

use sim::World;
use sim::node::Storage;
use sim::words::{add, clear, delete, increment, put, set};
use sim::world::NOTES;

/// Everybody counts, one deletes; after a while nothing is left anywhere.
#[test]
fn deleting_leaves_no_rows() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(80, &names);
    for name in names {
        for key in 0..10 {
            world.write(name, increment(&format!("n{key}"), 1));
        }
        world.write(name, add("s", name));
        world.write(name, put("m", name, "v"));
    }
    world.settle();
    world.write("a", delete("n0"));
    world.write("b", set("n1", "5"));
    world.write("b", delete("n1"));
    world.write("c", clear());
    world.settle();
    world.run(5_000);
    world.settle();
    for name in names {
        assert_eq!(world.rows_of(name, NOTES).len(), 0, "{name}");
    }
    let closed: u64 = names.iter().map(|name| world.counter(name, "slots_closed")).sum();
    assert_eq!(closed, 18, "slots of others; each author removes its own at once");
}

/// A slot that is still live, or that its owner counts with again, is not closed.
#[test]
fn slot_that_counts_again_is_not_closed() {
    let mut world = World::connected(81, &["a", "b"]);
    world.write("a", increment("n", 1));
    world.settle();
    world.partition("a", "b");
    world.write("b", delete("n"));
    world.write("a", increment("n", 5));
    world.heal();
    world.settle();
    world.run(5_000);
    assert_eq!(world.counter("a", "slots_closed"), 0);
    assert_eq!(world.get("a", "n").as_deref(), Some("5"));
}

/// The reset came before a restart: the sweep finds what memory forgot, in many steps.
#[test]
fn spent_slots_are_found_after_a_restart() {
    let mut world = World::connected(82, &["a", "b"]);
    let counters = || (0..1_500).map(|n| format!("n{n:04}"));
    world.batch("a", counters().map(|key| increment(&key, 1)).collect()).expect("it is executed");
    let elements = (0..2_500).map(|n| add("k-set", &n.to_string())).collect();
    world.batch("a", elements).expect("it is executed");
    world.settle();
    world.batch("b", counters().map(|key| delete(&key)).collect()).expect("it is executed");
    while world.get("a", "n0000").is_some() {
        world.run(1);
    }
    assert_eq!(world.counter("a", "slots_closed"), 0, "the restart comes first");
    world.restart("a");
    assert_eq!(world.rows_of("a", NOTES).len(), 4_000);
    world.run(20_000);
    assert_eq!(world.counter("a", "slots_closed"), 1_500);
    assert_eq!(world.rows_of("a", NOTES).len(), 2_500);
}

/// More resets at once than are remembered.
#[test]
fn more_spent_slots_than_are_remembered_are_closed_too() {
    let mut world = World::new(83);
    // The simulator's bound of the real store's overlay is for turns of fewer entries than one clear makes here.
    world.storage = Storage::Memory;
    ["a", "b"].into_iter().for_each(|name| world.add(name));
    world.connect("a", "b");
    world.run(1_000);
    let increments = (0..6_000).map(|n| increment(&format!("n{n}"), 1)).collect();
    world.batch("a", increments).expect("it is executed");
    world.settle();
    world.write("b", clear());
    world.run(40_000);
    assert_eq!(world.counter("a", "slots_closed"), 6_000);
    world.settle();
    for name in ["a", "b"] {
        assert!(world.rows_of(name, NOTES).is_empty(), "{name}");
    }
}
