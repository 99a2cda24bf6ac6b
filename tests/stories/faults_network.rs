//! One story for each fault of the network: what it does to messages and connections, and that nothing is lost.

use sim::World;
use sim::network::Conditions;
use sim::words::{add, increment, remove, set};

/// Everybody writes in every round, and time passes.
fn talk(world: &mut World, names: &[&str], rounds: usize, ms: u64) {
    for round in 0..rounds {
        for name in names {
            world.write(name, increment("count", 1));
            world.write(name, add("set", &format!("{name}{}", round % 3)));
            world.write(name, set("last", name));
        }
        world.write(names[round % names.len()], remove("set", "a0"));
        world.run(ms);
    }
}

/// The count is what everybody counted, everywhere.
fn all_counted(world: &mut World, names: &[&str], count: usize) {
    world.settle();
    for name in names {
        assert_eq!(world.get(name, "count"), Some(count.to_string()));
    }
}

/// Three nodes talk while something happens to messages; then that stops. Answers how often it happened.
fn under(seed: u64, conditions: Conditions, what: &str) -> (World, u64) {
    let names = ["a", "b", "c"];
    let mut world = World::connected(seed, &names);
    world.network().set_conditions(conditions);
    talk(&mut world, &names, 25, 2_000);
    world.network().set_conditions(Conditions::default());
    all_counted(&mut world, &names, 75);
    let struck = world.network().tally.get(what);
    (world, struck)
}

/// One message in four vanishes, with the session going on as if nothing were.
#[test]
fn lost_messages_are_made_good() {
    let conditions = Conditions { loss: 250, ..Conditions::default() };
    let (_, lost) = under(1, conditions, "lost messages");
    assert!(lost >= 30, "{lost}");
}

/// Messages take up to two seconds.
#[test]
fn late_messages_only_take_time() {
    let names = ["a", "b"];
    let mut world = World::connected(2, &names);
    world.worsen(|conditions| conditions.delay_us = (1_500_000, 2_000_000));
    world.write("a", set("k", "v"));
    world.run(1_000);
    assert_eq!(world.get("b", "k"), None, "it is on its way");
    talk(&mut world, &names, 5, 200);
    all_counted(&mut world, &names, 10);
}

/// Every other message arrives twice.
#[test]
fn doubled_messages_count_once() {
    let conditions = Conditions { duplication: 500, ..Conditions::default() };
    let (world, doubled) = under(3, conditions, "duplicated messages");
    assert!(doubled >= 50, "{doubled}");
    assert!(world.counter("a", "frames_duplicate") > 0);
}

/// Messages overtake each other: what comes before what it requires waits for it.
#[test]
fn overtaking_messages_are_applied_in_order() {
    let conditions = Conditions { reordering: 400, delay_us: (1_000, 400_000), ..Conditions::default() };
    let (world, reordered) = under(4, conditions, "reordered messages");
    assert!(reordered >= 50, "{reordered}");
    let early: u64 = ["a", "b", "c"].iter().map(|name| world.counter(name, "frames_early")).sum();
    assert!(early > 0, "nothing came early");
}

/// A bit of one message in twenty is another: it ends the session or means nothing, and is never believed.
#[test]
fn corrupted_messages_are_not_believed() {
    let conditions = Conditions { corruption: 50, ..Conditions::default() };
    let (world, corrupted) = under(5, conditions, "corrupted messages");
    assert!(corrupted >= 3, "{corrupted}");
    let refused = |name: &&str| {
        world.counter(name, "refused_malformed_messages") + world.counter(name, "refused_frames")
    };
    assert!(["a", "b", "c"].iter().map(refused).sum::<u64>() > 0, "nobody noticed");
}

/// The end of one message in twenty is missing: that ends the session, and the next one goes on.
#[test]
fn truncated_messages_end_a_session_and_no_more() {
    let conditions = Conditions { truncation: 50, ..Conditions::default() };
    let (world, truncated) = under(6, conditions, "truncated messages");
    assert!(truncated >= 3, "{truncated}");
    let refused = |name: &&str| world.counter(name, "refused_malformed_messages");
    assert!(["a", "b", "c"].iter().map(refused).sum::<u64>() > 0, "nobody noticed");
}

/// Two sides that cannot reach each other go on writing, and meet.
#[test]
fn both_sides_of_a_partition_go_on_writing() {
    let names = ["a", "b", "c", "d"];
    let mut world = World::connected(7, &names);
    world.split(&["a", "b"], &["c", "d"]);
    talk(&mut world, &names, 6, 300);
    assert_eq!(world.get("a", "count").as_deref(), Some("12"), "only one side's");
    world.heal();
    all_counted(&mut world, &names, 24);
}

/// Nothing gets through any more and nobody is told: the connection breaks when that takes too long.
#[test]
fn silent_partition_is_noticed_and_healed() {
    let names = ["a", "b"];
    let mut world = World::connected(8, &names);
    world.block("a", "b");
    world.block("b", "a");
    talk(&mut world, &names, 6, 5_000);
    let timed_out = world.network().tally.get("connections that timed out");
    assert!(timed_out > 0, "the connection went on");
    assert!(!world.is_linked("a", "b"));
    world.heal();
    all_counted(&mut world, &names, 12);
}

/// What `a` says does not arrive, what `b` says does. It is shorter than what breaks a connection.
#[test]
fn one_way_partition_stops_one_way_only() {
    let names = ["a", "b"];
    let mut world = World::connected(9, &names);
    world.block("a", "b");
    talk(&mut world, &names, 4, 1_000);
    assert_eq!(world.get("b", "count").as_deref(), Some("4"), "only its own");
    assert_eq!(world.get("a", "count").as_deref(), Some("8"), "both");
    world.unblock("a", "b");
    all_counted(&mut world, &names, 8);
}

/// Two nodes that cannot reach each other are equal as long as there is one that reaches both.
#[test]
fn bridge_passes_on_what_the_sides_cannot_say() {
    let names = ["a", "bridge", "c"];
    let mut world = World::connected(10, &names);
    world.partition("a", "c");
    talk(&mut world, &names, 6, 300);
    all_counted(&mut world, &names, 18);
    assert!(!world.is_linked("a", "c"), "still cut off from each other");
}

/// A connection comes and goes, fifteen times in nine seconds.
#[test]
fn flapping_connection_loses_nothing() {
    let names = ["a", "b"];
    let mut world = World::connected(11, &names);
    for n in 0..15 {
        world.partition("a", "b");
        talk(&mut world, &names, 1, 100 + 10 * n);
        world.heal();
        talk(&mut world, &names, 1, 300 + 20 * n);
    }
    all_counted(&mut world, &names, 60);
}

/// One node looks at its messages every other second: the two others do not wait for it.
#[test]
fn slow_peer_slows_nobody_else() {
    let names = ["a", "b", "slow"];
    let mut world = World::connected(12, &names);
    world.node_mut("slow").slowness_us = 4_000_000;
    for _ in 0..10 {
        world.write("a", increment("count", 1));
        world.write("b", increment("count", 1));
        world.run(100);
    }
    world.settle_within(&["a", "b"], 1_000);
    assert!(!world.is_settled(&["a", "slow"]), "it was not slow");
    world.node_mut("slow").slowness_us = 2_000;
    all_counted(&mut world, &names, 20);
}

/// The queue towards a slow peer holds two messages: what was refused is made good when it has room.
#[test]
fn full_queue_is_made_good() {
    let names = ["a", "b"];
    let mut world = World::connected(13, &names);
    world.worsen(|conditions| conditions.queue_max = 2);
    world.node_mut("b").slowness_us = 1_000_000;
    talk(&mut world, &["a"], 30, 100);
    let full = world.network().tally.get("full queues");
    assert!(full > 0 && world.counter("a", "peers_congested") > 0, "no queue was full");
    world.worsen(|conditions| conditions.queue_max = 10_000);
    world.node_mut("b").slowness_us = 2_000;
    all_counted(&mut world, &names, 30);
}
