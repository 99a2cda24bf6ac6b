//! One story for each thing that happens to processes and members: they come, leave, die, sleep, and begin anew.

use sim::World;
use sim::words::{add, increment, set};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// A node comes to a cluster that has written much.
#[test]
fn joining_node_gets_everything() {
    let mut world = World::connected(1, &["a", "b"]);
    for n in 0..30 {
        world.write("a", add("s", &format!("{n:02}")));
        world.write("b", increment("count", 1));
    }
    world.add("new");
    world.connect("new", "a");
    world.settle();
    assert_eq!(world.get("new", "count").as_deref(), Some("30"));
    assert_eq!(world.members("new", "s").len(), 30);
    world.write("new", increment("count", 1));
    world.settle();
    assert_eq!(world.get("b", "count").as_deref(), Some("31"));
}

/// A node leaves for good. What it told anybody stays, and whoever knew the others only through it finds them.
#[test]
fn leaving_node_takes_nothing_with_it() {
    let mut world = World::new(2);
    ["a", "middle", "c"].iter().for_each(|name| world.add(name));
    world.connect("a", "middle");
    world.connect("c", "middle");
    world.write("middle", set("will", "stay"));
    world.settle();
    world.run(15_000);
    world.leave("middle");
    world.write("a", increment("count", 1));
    world.write("c", increment("count", 1));
    world.settle();
    assert_eq!(world.get("a", "count").as_deref(), Some("2"));
    assert_eq!(world.get("c", "will").as_deref(), Some("stay"));
    assert_eq!(world.tally.get("departures"), 1);
}

/// A node is away while the others write and remove: nothing that was removed comes back with it, and what it
/// wrote before it went is not lost.
fn long_absence(seed: u64, away: impl FnOnce(&mut World)) {
    let mut world = World::connected(seed, &["a", "b", "phone"]);
    world.write("a", add("s", "old"));
    world.settle();
    world.split(&["phone"], &["a", "b"]);
    world.write("phone", add("s", "unseen"));
    world.write("phone", increment("count", 5));
    world.kill("phone");
    world.write("a", sim::words::remove("s", "old"));
    world.write("b", increment("count", 2));
    away(&mut world);
    world.heal();
    world.start("phone");
    world.connect("phone", "a");
    world.settle();
    for name in ["a", "b", "phone"] {
        assert_eq!(world.members(name, "s"), ["unseen"]);
        assert_eq!(world.get(name, "count").as_deref(), Some("7"));
    }
}

/// Ten minutes.
#[test]
fn absence_of_ten_minutes_resurrects_and_loses_nothing() {
    long_absence(3, |world| world.run(10 * MINUTE_MS));
}

/// A day, of which the others are switched off most of the time.
#[test]
fn absence_of_a_day_resurrects_and_loses_nothing() {
    long_absence(4, |world| {
        world.run(MINUTE_MS);
        world.settle_among(&["a", "b"]);
        world.kill("a");
        world.kill("b");
        world.run(DAY_MS);
        world.start("a");
        world.start("b");
        world.connect("a", "b");
        world.run(MINUTE_MS);
    });
}

/// A node is killed a moment later in each round: in the hello, in a pull, in a push, in between.
#[test]
fn kill_at_any_moment_costs_nothing() {
    let mut world = World::connected(5, &["a", "b"]);
    for moment in 0..40 {
        world.write("a", add("s", &format!("a{moment:02}")));
        world.write("b", add("s", &format!("b{moment:02}")));
        world.run(moment * 3);
        world.restart("b");
        world.connect("b", "a");
    }
    world.settle();
    assert_eq!(world.members("a", "s").len(), 80);
    assert_eq!(world.tally.get("kills"), 40);
}

/// Everybody is killed at once, several times.
#[test]
fn kill_of_everybody_costs_nothing() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(6, &names);
    for round in 0..6 {
        names.iter().for_each(|name| world.write(name, increment("count", 1)));
        world.run(15 * round);
        names.iter().for_each(|name| world.kill(name));
        world.run(1_000);
        names.iter().for_each(|name| world.start(name));
        world.connect("a", "b");
        world.connect("b", "c");
    }
    world.settle();
    names.iter().for_each(|name| assert_eq!(world.get(name, "count").as_deref(), Some("18")));
    assert_eq!(world.tally.get("kills"), 18);
}

/// A process is stopped for a minute, as by SIGSTOP, and goes on in the middle of everything.
#[test]
fn process_that_was_stopped_for_a_minute_goes_on() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(7, &names);
    world.pause("b", MINUTE_MS);
    for _ in 0..12 {
        world.write("a", increment("count", 1));
        world.write("c", increment("count", 1));
        world.run(4_000);
    }
    world.settle_within(&["a", "c"], 1_000);
    assert_eq!(world.get("a", "count").as_deref(), Some("24"), "the others go on without it");
    assert!(!world.is_settled(&["a", "b"]), "it was not stopped");
    world.run(15_000);
    world.write("b", increment("count", 1));
    world.settle();
    assert_eq!(world.get("c", "count").as_deref(), Some("25"));
    assert_eq!(world.tally.get("pauses"), 1);
}

/// The same key starts with an empty directory, five times: its dots are new each time, so that nothing which
/// it wrote before is taken for something else.
#[test]
fn identity_with_an_empty_directory_uses_no_dot_twice() {
    let mut world = World::connected(8, &["a", "b"]);
    let mut replicas = std::collections::BTreeSet::new();
    for round in 0..5 {
        replicas.insert(world.node("a").driver().replica().id());
        world.write("a", increment("count", 1));
        world.write("a", set(&format!("k{round}"), "v"));
        world.run(2_000);
        world.settle();
        world.kill("a");
        world.wipe("a");
        world.start("a");
        world.write("a", increment("count", 1));
        world.connect("a", "b");
    }
    world.settle();
    assert_eq!(world.get("b", "count").as_deref(), Some("10"));
    assert_eq!(replicas.len(), 5);
    let peers = world.report("b").evidence;
    assert!(peers.is_empty(), "{peers:?}");
}

/// Two of three nodes are replaced by new ones, one after another: what there was is where it was.
#[test]
fn two_nodes_replaced_one_after_another_lose_nothing() {
    let mut world = World::connected(9, &["a", "b", "c"]);
    for n in 0..10 {
        ["a", "b", "c"].iter().for_each(|name| world.write(name, add("s", &format!("{name}{n}"))));
    }
    for (old, new, to) in [("a", "d", "b"), ("b", "e", "c")] {
        world.settle();
        world.leave(old);
        world.add(new);
        world.connect(new, to);
        world.settle();
        world.write(new, add("s", new));
    }
    world.settle();
    for name in ["c", "d", "e"] {
        assert_eq!(world.members(name, "s").len(), 32);
    }
    assert_eq!(world.tally.get("departures"), 2);
}

/// Twelve nodes whose operators have each dial all others: nobody keeps more links than a node may, and all end
/// equal.
#[test]
fn crowd_keeps_its_links_within_the_bound() {
    let names: Vec<String> = (0..12).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::connected(10, &names);
    names.iter().for_each(|name| world.write(name, increment("count", 1)));
    world.run(5_000);
    world.settle();
    assert_eq!(world.get("n00", "count").as_deref(), Some("12"));
    let let_go: u64 = names.iter().map(|name| world.counter(name, "neighbours_let_go")).sum();
    assert!(let_go > 0, "nobody had too many");
}
