//! A store that is not the only one of its name: copied, or put back from an older state. A dot is never used twice.

use sim::World;
use sim::hostile::Behaviour;
use sim::words::{add, increment, set};
use sim::world::{NOTES, keyspace_id};
use tidelock_engine::replica::Retention;
use tidelock_engine::request::{Action, Atomicity, RequestError};

/// A write that must be refused; answers why.
fn refused(world: &mut World, name: &str) -> String {
    let actions = vec![Action::Write(set("refused", "v"))];
    match world.request(name, NOTES, Atomicity::Each, actions) {
        Err(RequestError::ReadOnly(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// A node is moved by copying its folder: it goes on as another replica, and nobody has two histories.
#[test]
fn copy_of_a_disk_writes_under_another_name() {
    let mut world = World::connected(1, &["a", "b"]);
    world.write("a", increment("count", 1));
    world.write("a", add("s", "before"));
    world.settle();
    let before = world.node("a").driver().replica().id();
    world.kill("a");
    let copy = world.node("a").disk().copied();
    world.put_back("a", copy);
    world.start("a");
    assert_ne!(world.node("a").driver().replica().id(), before);
    world.write("a", increment("count", 1));
    world.write("a", add("s", "after"));
    world.connect("a", "b");
    world.settle();
    assert_eq!(world.get("b", "count").as_deref(), Some("2"));
    assert_eq!(world.members("b", "s"), ["after", "before"]);
    // Once it has its name it keeps it.
    let after = world.node("a").driver().replica().id();
    world.restart("a");
    assert_eq!(world.node("a").driver().replica().id(), after);
    world.accuses_nobody(&["a", "b"]);
}

/// The same when the peers hold what it wrote since only as state, and no frame any more: that they say so is
/// enough.
#[test]
fn old_state_put_back_is_found_out_below_the_floor() {
    let mut world = World::new(6);
    world.retention = Retention { age_ms: 1_000, bytes: 0, peers_ms: 1_000 };
    ["a", "b"].iter().for_each(|name| world.add(name));
    world.connect("a", "b");
    world.write("a", add("s", "old"));
    world.settle();
    let image = world.node("a").disk().imaged();
    (0..20).for_each(|n| world.write("a", add("s", &format!("{n:02}"))));
    world.settle();
    world.run(60_000);
    assert!(world.report("b").log.records <= 1, "{:?}", world.report("b").log);
    world.kill("a");
    world.put_back("a", image);
    world.start("a");
    world.connect("a", "b");
    world.run(10_000);
    refused(&mut world, "a");
    let fork = world.report("a").fork.expect("it is reported");
    assert_eq!((fork.keyspace, fork.seq), (keyspace_id(NOTES), 2));
    assert_eq!(world.members("a", "s"), ["old"], "it reads on");
    world.accuses_nobody(&["a", "b"]);
    world.restart("a");
    refused(&mut world, "a");
    world.rejoin("a");
    world.write("a", add("s", "new"));
    world.settle();
    ["a", "b"].iter().for_each(|name| assert_eq!(world.members(name, "s").len(), 22, "{name}"));
}

/// An image of a disk is put back, and nothing on it tells. The peers remember what its replica wrote since; it
/// takes no writes from the moment it learns of that, reads on, and gets everything back once it has rejoined.
#[test]
fn old_state_put_back_takes_no_writes_until_it_rejoins() {
    let mut world = World::connected(2, &["a", "b", "c"]);
    world.write("a", add("s", "old"));
    world.settle();
    let image = world.node("a").disk().imaged();
    for n in 0..20 {
        world.write("a", add("s", &format!("{n:02}")));
        world.write("a", increment("count", 1));
    }
    world.settle();
    world.kill("a");
    world.put_back("a", image);
    world.start("a");
    let before = world.node("a").driver().replica().id();
    world.connect("a", "b");
    world.run(3_000);
    let reason = refused(&mut world, "a");
    assert!(reason.contains("tidelock rejoin") && reason.contains(NOTES), "{reason}");
    assert_eq!(world.members("a", "s"), ["old"], "it reads on");
    let report = world.report("a");
    let fork = report.fork.expect("it is reported");
    assert_eq!((fork.replica, fork.keyspace), (before, keyspace_id(NOTES)));
    assert!(report.evidence.iter().any(|proof| proof.dot.seq == fork.seq));
    // Even if somebody writes elsewhere meanwhile.
    world.write("b", increment("count", 1));
    world.rejoin("a");
    assert_ne!(world.node("a").driver().replica().id(), before);
    world.write("a", increment("count", 1));
    world.settle();
    for name in ["a", "b", "c"] {
        assert_eq!(world.members(name, "s").len(), 21);
        assert_eq!(world.get(name, "count").as_deref(), Some("22"));
    }
    world.restart("a");
    world.connect("a", "b");
    world.write("a", increment("count", 1));
    world.settle();
    assert_eq!(world.get("c", "count").as_deref(), Some("23"));
    assert!(world.report("b").evidence.is_empty(), "nobody else was told two stories");
}

/// An old state is put back, and nobody has what was written since: then there is nothing to fork from.
#[test]
fn old_state_that_nobody_remembers_goes_on() {
    let mut world = World::connected(3, &["a", "b"]);
    world.write("a", add("s", "old"));
    world.settle();
    world.kill("a");
    let image = world.node("a").disk().imaged();
    world.put_back("a", image);
    world.start("a");
    world.connect("a", "b");
    world.run(3_000);
    world.write("a", add("s", "new"));
    world.settle();
    assert_eq!(world.members("b", "s"), ["new", "old"]);
    world.accuses_nobody(&["a", "b"]);
}

/// The operator's first try is to switch it off and on again, with nobody there to tell it once more.
#[test]
fn fork_is_not_forgotten_by_a_restart() {
    let mut world = World::connected(4, &["a", "b"]);
    world.write("a", add("s", "old"));
    world.settle();
    let image = world.node("a").disk().imaged();
    world.write("a", add("s", "new"));
    world.settle();
    world.kill("a");
    world.put_back("a", image);
    world.start("a");
    world.connect("a", "b");
    world.run(3_000);
    refused(&mut world, "a");
    world.split(&["a"], &["b"]);
    for round in 0..3 {
        if round % 2 == 0 {
            world.restart("a");
        } else {
            world.lose_power("a");
        }
        if !world.node("a").is_running() {
            world.start("a");
        }
        refused(&mut world, "a");
    }
    world.heal();
    world.connect("a", "b");
    world.run(3_000);
    world.rejoin("a");
    world.restart("a");
    world.connect("a", "b");
    world.write("a", add("s", "newer"));
    world.settle();
    assert_eq!(world.members("b", "s"), ["new", "newer", "old"]);
}

/// A member claims to have more of us than there is, and has no frame to show for it.
#[test]
fn claim_without_proof_stops_nobody() {
    let mut world = World::connected(5, &["a", "b"]);
    world.write("a", set("k", "v"));
    world.settle();
    world.add_hostile("liar", &[Behaviour::Withholds]);
    world.run(20_000);
    assert!(world.tally.get(Behaviour::Withholds.name()) > 5);
    world.write("a", set("k", "w"));
    assert_eq!(world.report("a").fork, None);
    world.settle();
}
