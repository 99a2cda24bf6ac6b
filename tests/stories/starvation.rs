//! Nobody starves: whatever others do, what a node writes reaches everybody soon.

use sim::World;
use sim::words::{increment, set};

/// The time between a write and its arrival everywhere that is acceptable on a good network, in milliseconds.
const SOON_MS: u64 = 2_000;

/// Lets `busy` happen every 10 ms until `is_there` holds everywhere; answers how long that took.
fn while_busy(
    world: &mut World,
    mut busy: impl FnMut(&mut World, u64),
    mut is_there: impl FnMut(&mut World) -> bool,
) -> u64 {
    for n in 0..SOON_MS / 10 {
        busy(world, n);
        world.run(10);
        if is_there(world) {
            return 10 * n;
        }
    }
    panic!("not within {SOON_MS} ms")
}

/// One node writes all the time. Each of the others writes once.
#[test]
fn busy_writer_does_not_starve_the_others() {
    let names = ["busy", "b", "c", "d"];
    let mut world = World::connected(71, &names);
    for quiet in ["b", "c", "d"] {
        world.write(quiet, set(quiet, "here"));
        let busy = |world: &mut World, n: u64| world.write("busy", set("n", &n.to_string()));
        let took = while_busy(&mut world, busy, |world| {
            names.iter().all(|name| world.get(name, quiet).as_deref() == Some("here"))
        });
        assert!(took < SOON_MS);
    }
    world.settle();
    assert!(world.tally.get("writes") > 3);
}

/// All nodes write all the time, in a line where the middle must pass on everything.
#[test]
fn ends_of_a_line_hear_of_each_other_while_everybody_writes() {
    let mut world = World::new(72);
    ["a", "m", "z"].into_iter().for_each(|name| world.add(name));
    world.partition("a", "z");
    world.connect("a", "m");
    world.connect("m", "z");
    world.run(1_000);
    world.write("a", set("first", "a"));
    world.write("z", set("last", "z"));
    let busy =
        |world: &mut World, _| ["a", "m", "z"].into_iter().for_each(|n| world.write(n, increment("n", 1)));
    while_busy(&mut world, busy, |world| {
        world.get("z", "first").is_some() && world.get("a", "last").is_some()
    });
    assert!(!world.is_linked("a", "z"));
    world.heal();
    world.settle();
    let total = world.get("a", "n").expect("it was counted").parse::<u64>().expect("a number");
    assert_eq!(total + 2, world.tally.get("writes"));
}

/// One peer takes two seconds to look at anything, and its queue is full. The others are as fast as ever.
#[test]
fn slow_peer_delays_nobody_else() {
    let names = ["a", "b", "slow"];
    let mut world = World::connected(73, &names);
    world.node_mut("slow").slowness_us = 2_000_000;
    let conditions = sim::network::Conditions { queue_max: 3, ..sim::network::Conditions::default() };
    let (a, slow) = (0, 2);
    world.network().set_particular(a, slow, Some(conditions));
    for n in 0..40 {
        world.write("a", set("k", &n.to_string()));
        world.run(20);
    }
    world.write("a", set("marker", "here"));
    while_busy(&mut world, |_, _| (), |world| world.get("b", "marker").is_some());
    assert!(world.network().tally.get("full queues") > 0, "the queue was never full");
    world.settle();
    assert_eq!(world.get("slow", "marker").as_deref(), Some("here"));
}

/// A node that was away for an hour gets what it missed while all others go on writing.
#[test]
fn late_comer_catches_up_while_others_write() {
    let mut world = World::connected(74, &["a", "b", "late"]);
    world.kill("late");
    for n in 0..300 {
        world.write(if n % 2 == 0 { "a" } else { "b" }, set(&format!("k{n}"), "v"));
        world.run(20);
    }
    world.run(3_600_000);
    world.start("late");
    world.connect("late", "a");
    let busy = |world: &mut World, _| world.write("a", increment("n", 1));
    while_busy(&mut world, busy, |world| world.get("late", "k299").is_some());
    world.settle();
}
