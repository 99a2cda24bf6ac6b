//! Logs that are let go of, and peers that come back after that.

use sim::World;
use sim::words::{add, delete, increment, put, remove, set};
use sim::world::NOTES;
use tidelock_engine::replica::{Kept, Limits, Retention};
use tidelock_engine::request::{Action, Atomicity};
use tidelock_store::Disk;

/// Nothing is kept longer than a second.
const AT_ONCE: Retention = Retention { age_ms: 1_000, bytes: 0, peers_ms: 1_000 };

fn world(seed: u64, names: &[&str], retention: Retention) -> World {
    world_with(seed, names, retention, Limits::STAGED_BYTES)
}

fn world_with(seed: u64, names: &[&str], retention: Retention, staged_bytes: usize) -> World {
    let mut world = World::new(seed);
    (world.retention, world.staged_bytes) = (retention, staged_bytes);
    names.iter().for_each(|name| world.add(name));
    for (index, name) in names.iter().enumerate() {
        names[index + 1..].iter().for_each(|other| world.connect(name, other));
    }
    world.run(1_000);
    world
}

/// Waits until the log of a node was let go of, but for its last record.
fn let_go(world: &mut World, name: &str) {
    // What it tells is some seconds old.
    world.run(4_000);
    for _ in 0..60 {
        world.run(1_000);
        if world.report(name).log.records <= 1 {
            return;
        }
    }
    panic!("the log of {name} is kept: {:?}", world.report(name).log);
}

/// Everybody has everything, and it is old enough.
#[test]
fn log_goes_when_all_have_it() {
    let retention = Retention { age_ms: 20_000, bytes: 1 << 30, peers_ms: 3_600_000 };
    let mut world = world(1, &["a", "b", "c"], retention);
    (0..20).for_each(|n| world.write("a", set("k", &n.to_string())));
    world.settle();
    world.run(10_000);
    assert_eq!(world.report("a").log.kept, Some(Kept::Young));
    ["a", "b", "c"].iter().for_each(|name| let_go(&mut world, name));
    world.restart("b");
    world.write("b", set("k", "more"));
    world.settle();
    assert_eq!(world.get("a", "k").as_deref(), Some("more"));
}

/// A peer was there not long ago: its share of the log is kept for it, and let go of in the end.
#[test]
fn log_is_kept_for_a_peer_that_is_away_and_not_for_ever() {
    let retention = Retention { age_ms: 1_000, bytes: 1 << 30, peers_ms: 120_000 };
    let mut world = world(2, &["a", "b"], retention);
    world.write("a", set("k", "first"));
    world.run(15_000);
    let peer = world.peer("b");
    world.kill("b");
    (0..20).for_each(|n| world.write("a", set("k", &n.to_string())));
    world.run(60_000);
    let log = world.report("a").log;
    assert_eq!(log.kept, Some(Kept::For(peer)));
    assert!(log.records >= 20 && log.bytes >= 20 * 64, "{log:?}");
    assert!((58_000..80_000).contains(&log.age_ms) && log.first.0 >= 1, "{log:?}");
    world.run(60_000);
    world.run(20_000);
    assert_eq!(world.report("a").log.kept, Some(Kept::Alone), "nobody else has it");
    world.start("b");
    world.settle();
    assert_eq!(world.counter("b", "transfers_done"), 0, "the frames were still there");
}

/// The log is larger than it may be: the oldest records go, whoever lacks them.
#[test]
fn log_never_grows_beyond_its_bytes() {
    let retention = Retention { age_ms: 3_600_000, bytes: 20_000, peers_ms: 3_600_000 };
    let mut world = world(3, &["a", "b"], retention);
    world.run(1_000);
    world.partition("a", "b");
    for n in 0..400 {
        world.write("a", set(&format!("k{}", n % 7), &"v".repeat(200)));
        world.run(100);
    }
    world.run(10_000);
    let log = world.report("a").log;
    assert!(log.bytes <= 25_000, "{log:?}");
    world.heal();
    world.settle();
    assert!(world.counter("b", "transfers_done") >= 1);
}

/// A peer comes back after all that happened was let go of. What it wrote meanwhile is there, what was deleted stays
/// deleted, counters count everything once.
#[test]
fn peer_beyond_every_floor_loses_and_resurrects_nothing() {
    let mut world = world(4, &["a", "b", "c"], AT_ONCE);
    for n in 0..30 {
        world.write("a", add("set", &format!("old{n}")));
        world.write("a", put("map", &format!("f{n}"), "old"));
    }
    world.write("c", increment("count", 5));
    world.settle();
    world.kill("c");
    (0..30).for_each(|n| world.write("a", remove("set", &format!("old{n}"))));
    world.write("b", delete("map"));
    world.write("b", increment("count", 7));
    world.write("b", add("set", "kept"));
    world.settle_among(&["a", "b"]);
    let_go(&mut world, "a");
    let_go(&mut world, "b");
    world.split(&["c"], &["a", "b"]);
    world.start("c");
    world.write("c", add("set", "unseen"));
    world.write("c", increment("count", 1));
    world.write("c", set("own", "unseen"));
    let_go(&mut world, "c");
    world.heal();
    world.settle();
    for name in ["a", "b", "c"] {
        assert_eq!(world.members(name, "set"), ["kept", "unseen"], "{name}");
        assert_eq!(world.get(name, "count").as_deref(), Some("13"), "{name}");
        assert_eq!(world.get(name, "own").as_deref(), Some("unseen"), "{name}");
        assert_eq!(world.field(name, "map", "f3"), None, "{name}");
    }
    let done: u64 = ["a", "b", "c"].iter().map(|name| world.counter(name, "transfers_done")).sum();
    assert!(done >= 2, "both sides had to learn state: {done}");
}

/// A new node takes over what no log holds any more, is killed in between, and goes on.
#[test]
fn new_node_takes_over_the_state_across_kills() {
    let mut world = world(5, &["a", "b"], AT_ONCE);
    for batch in 0..10 {
        let elements = (0..300).map(|n| add(&format!("set{}", n % 5), &format!("element {batch} {n}")));
        world.batch("a", elements.collect()).expect("it is executed");
    }
    world.settle();
    let_go(&mut world, "a");
    let_go(&mut world, "b");
    world.add("c");
    world.connect("c", "a");
    let mut kills = 0;
    for _ in 0..200 {
        world.run(40);
        let is_partial = world.report("c").keyspaces.iter().any(|keyspace| keyspace.is_partial);
        if is_partial && kills < 3 {
            kills += 1;
            world.lose_power("c");
            world.start("c");
            world.connect("c", if kills % 2 == 0 { "a" } else { "b" });
        }
    }
    assert!(kills >= 1, "it was never in between");
    world.settle();
    assert_eq!(world.members("c", "set3").len(), 600);
}

/// The file of the rows is lost after the log was let go of: the peers have the state. Meanwhile nothing wrong is
/// read and nothing is written.
#[test]
fn rows_that_are_lost_are_taken_over_from_peers() {
    let mut world = world(6, &["a", "b"], AT_ONCE);
    (0..50).for_each(|n| world.write("a", increment(&format!("k{}", n % 9), 1)));
    world.settle();
    let_go(&mut world, "a");
    let_go(&mut world, "b");
    world.write("a", set("last", "in the log"));
    let rows = world.rows_of("b", NOTES);
    world.settle();
    world.kill("a");
    world.node("a").disk().remove("rows.redb").expect("the disk works");
    world.split(&["a"], &["b"]);
    world.start("a");
    assert!(world.report("a").keyspaces[0].is_partial);
    world.heal();
    world.settle();
    assert!(!world.report("a").keyspaces[0].is_partial);
    assert_eq!(world.get("a", "last").as_deref(), Some("in the log"));
    assert!(world.rows_of("a", NOTES).len() > rows.len());
    world.write("a", increment("k1", 1));
    world.settle();
    assert_eq!(world.get("b", "k1").as_deref(), Some("7"));
}

/// The rows are lost, and with them operations of its own that nobody else has, for its log was let go of too. It
/// knows that it wrote them, and gives none of their names again.
#[test]
fn own_operations_that_are_lost_for_ever_are_not_named_again() {
    let retention = Retention { age_ms: 3_600_000, bytes: 2_000, peers_ms: 3_600_000 };
    let mut world = world(8, &["a", "b"], retention);
    world.write("a", add("s", "shared"));
    world.settle();
    world.partition("a", "b");
    (0..200).for_each(|n| world.write("a", add("s", &format!("lost {n:03} {}", "x".repeat(100)))));
    world.write("b", add("s", "of another"));
    world.run(20_000);
    // What was let go of is gone for certain with the next commit.
    world.write("a", add("s", "lost at last"));
    world.kill("a");
    world.node("a").disk().remove("rows.redb").expect("the disk works");
    world.start("a");
    assert!(world.report("a").keyspaces[0].is_partial);
    world.heal();
    world.run(30_000);
    let report = world.report("a");
    assert!(report.fork.is_some_and(|fork| fork.seq == 2), "{report:?}");
    assert_eq!(world.members("a", "s"), ["of another", "shared"]);
    world.rejoin("a");
    world.write("a", add("s", "new"));
    world.run(3_000);
    assert_eq!(world.members("b", "s"), ["new", "of another", "shared"]);
}

/// Two halves that were apart for long, with more on both sides than fits memory: it waits in the log, the node is
/// killed at any moment, and in the end everybody has everything.
#[test]
fn state_beyond_memory_waits_in_the_log_across_kills() {
    for seed in 0..12 {
        let mut world = world_with(9 + seed, &["a", "b"], AT_ONCE, 2_000);
        (0..50).for_each(|n| world.write("a", add("gone", &format!("{n:03}"))));
        world.write("b", increment("count", 5));
        world.settle();
        world.partition("a", "b");
        for (name, other) in [("a", "b"), ("b", "a")] {
            for batch in 0..6 {
                let of = |n| add(&format!("set {name}"), &format!("{batch} {n:03} {}", "x".repeat(40)));
                world.batch(name, (0..50).map(of).collect()).expect("it is executed");
                world.write(name, increment("count", 1));
                world.write(name, set(&format!("last of {name}"), &format!("{batch} beside {other}")));
            }
        }
        (0..50).for_each(|n| world.write("b", remove("gone", &format!("{n:03}"))));
        let_go(&mut world, "a");
        let_go(&mut world, "b");
        world.heal();
        let (mut kills, mut written) = (0, 17_i64);
        for moment in 0..300 {
            world.run(20);
            let staged = world.counter("a", "transfers_staged") + world.counter("b", "transfers_staged");
            if staged > 0 && kills < 4 && (moment + seed) % 7 == 0 {
                kills += 1;
                let name = if (kills + seed) % 2 == 0 { "a" } else { "b" };
                if kills % 2 == 0 {
                    world.kill(name);
                } else {
                    world.lose_power(name);
                }
                world.start(name);
                world.connect("a", "b");
                // Refused while its state is taken over.
                let write = vec![Action::Write(increment("count", 1))];
                written += i64::from(world.request(name, NOTES, Atomicity::Each, write).is_ok());
            }
        }
        assert!(kills >= 1, "nothing was staged");
        world.settle();
        for name in ["a", "b"] {
            assert_eq!(world.members(name, "set a").len(), 300, "{name}");
            assert_eq!(world.members(name, "set b").len(), 300, "{name}");
            assert_eq!(world.members(name, "gone").len(), 0, "{name}");
            assert_eq!(world.get(name, "last of b").as_deref(), Some("5 beside a"));
            assert_eq!(world.get(name, "count"), Some(written.to_string()), "{name}");
        }
    }
}

/// The same differences cost about the same, however much there is beside them.
#[test]
fn state_costs_what_differs_and_not_what_there_is() {
    let cost = |keys: usize| {
        let mut world = world(7, &["a", "b"], AT_ONCE);
        let all: Vec<usize> = (0..keys).collect();
        for some in all.chunks(500) {
            let writes = some.iter().map(|n| set(&format!("key {n:06}"), "value")).collect();
            world.batch("a", writes).expect("it is executed");
        }
        world.settle();
        world.partition("a", "b");
        (0..20).for_each(|n| world.write("a", set(&format!("key {:06}", n * keys / 20), "other")));
        let_go(&mut world, "a");
        world.count_by_name();
        world.heal();
        world.settle();
        assert!(world.counter("b", "transfers_done") >= 1);
        ["compare", "compared", "tail", "tailed", "take", "taken"]
            .iter()
            .map(|name| world.sent_bytes(name))
            .sum()
    };
    let (few, many): (u64, u64) = (cost(500), cost(8_000));
    println!("bytes for 20 of 500 keys {few}, of 8,000 {many}");
    assert!(many < 4 * few, "{few} bytes for 500 keys, {many} for 8,000");
}
