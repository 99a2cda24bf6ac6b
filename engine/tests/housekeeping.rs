//! Deleting leaves no rows: the owner of a spent counter slot closes it by itself.

mod world;

use tidelock_engine::write::Write;
use world::World;
use world::by_hand::Station;
use world::words::{add, delete, increment, put, set};

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
    world.write("c", Write::Clear);
    world.settle();
    world.run(5_000);
    world.settle();
    for name in names {
        assert_eq!(world.rows(name).rows().len(), 0, "{name}");
    }
    let closed: u64 = names.iter().map(|name| world.counter(name, "slots_closed")).sum();
    assert_eq!(closed, 18, "slots of others; each author removes its own at once");
}

/// A slot that is still live, or that its owner counts with again, is not closed.
#[test]
fn slot_that_counts_again_is_not_closed() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    a.write(increment("n", 1));
    b.pull(&a, 9);
    b.write(delete("n"));
    a.write(increment("n", 5));
    a.pull(&b, 9);
    a.pass(5_000);
    assert_eq!(a.counter("slots_closed"), 0);
    assert_eq!(a.get("n").as_deref(), Some("5"));
}

/// The reset came before a restart: the sweep finds what memory forgot, in many steps.
#[test]
fn spent_slots_are_found_after_a_restart() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    for n in 0..1_500 {
        a.write(increment(&format!("n{n:04}"), 1));
    }
    a.batch((0..2_500).map(|n| add("k-set", &n.to_string())).collect());
    b.pull(&a, usize::MAX);
    for n in 0..1_500 {
        b.write(delete(&format!("n{n:04}")));
    }
    a.pull(&b, usize::MAX);
    a.restart();
    for _ in 0..20 {
        a.pass(1_000);
    }
    assert_eq!(a.counter("slots_closed"), 1_500);
    assert_eq!(a.rows().rows().len(), 2_500);
}

/// More resets at once than are remembered.
#[test]
fn more_spent_slots_than_are_remembered_are_closed_too() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    a.batch((0..6_000).map(|n| increment(&format!("n{n}"), 1)).collect());
    b.pull(&a, 9);
    b.write(Write::Clear);
    a.pull(&b, 9);
    for _ in 0..40 {
        a.pass(1_000);
    }
    assert_eq!(a.counter("slots_closed"), 6_000);
    assert!(a.rows().rows().is_empty());
    b.pull(&a, usize::MAX);
    assert!(b.rows().rows().is_empty());
}
