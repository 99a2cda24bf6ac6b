//! Who talks to whom: nodes find each other, keep few links, stay connected, leave alone who turns them away.

use std::collections::BTreeSet;

use sim::World;
use sim::words::{increment, set};
use sim::world::{NOTES, named};
use tidelock_engine::id::ClusterId;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Replicate;
use tidelock_engine::request::{Action, Atomicity};

const NAMES: [&str; 30] = [
    "n00", "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09", "n10", "n11", "n12", "n13", "n14",
    "n15", "n16", "n17", "n18", "n19", "n20", "n21", "n22", "n23", "n24", "n25", "n26", "n27", "n28", "n29",
];

fn reachable(world: &World, from: &'static str, alive: &[&'static str]) -> usize {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for other in alive {
            if world.is_linked(node, other) && seen.insert(other) {
                open.push(other);
            }
        }
    }
    seen.len()
}

/// Two nodes know only a third one; when that is gone they still have each other.
#[test]
fn nodes_that_know_only_a_third_find_each_other() {
    let mut world = World::new(30);
    ["a", "b", "c"].into_iter().for_each(|name| world.add(name));
    world.connect("a", "c");
    world.connect("b", "c");
    world.run(30_000);
    assert!(world.is_linked("a", "b"));
    world.kill("c");
    world.write("a", set("k", "v"));
    world.settle_among(&["a", "b"]);
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// Thirty nodes that all begin at the same one.
#[test]
fn thirty_nodes_keep_few_links_and_stay_connected() {
    let mut world = World::new(31);
    for name in NAMES {
        world.add(name);
        if name != "n00" {
            world.connect(name, "n00");
        }
        world.run(100);
    }
    world.run(120_000);
    for name in NAMES {
        let links = world.report(name).links.len();
        assert!((3..=9).contains(&links), "{name} has {links} links");
    }
    assert_eq!(reachable(&world, "n00", &NAMES), NAMES.len());
    for name in NAMES {
        world.write(name, increment("n", 1));
    }
    world.settle();
    assert_eq!(world.get("n29", "n").as_deref(), Some("30"));
    let let_go =
        |world: &World| -> u64 { NAMES.iter().map(|name| world.counter(name, "neighbours_let_go")).sum() };
    let before = let_go(&world);
    world.run(60_000);
    let churn = let_go(&world) - before;
    assert!(churn <= 30, "{churn} neighbours were let go in a quiet minute");
}

/// The node that everybody began at dies, with a third of the others.
#[test]
fn overlay_survives_the_loss_of_a_third() {
    let mut world = World::new(32);
    for name in &NAMES[..20] {
        world.add(name);
        if *name != "n00" {
            world.connect(name, "n00");
        }
    }
    world.run(90_000);
    for name in &NAMES[..7] {
        world.kill(name);
    }
    world.run(60_000);
    let alive = &NAMES[7..20];
    assert_eq!(reachable(&world, "n10", alive), alive.len());
    world.write("n10", set("k", "v"));
    world.settle_among(alive);
}

/// The operator names a peer of another cluster: it is tried again now and then, not all the time.
#[test]
fn peer_that_turns_us_away_is_left_alone_for_a_while() {
    let mut world = World::new(33);
    world.add("a");
    world.add_with("b", |node| node.config.cluster = ClusterId::named("another"));
    world.count_by_name();
    world.connect("a", "b");
    world.run(60_000);
    let hellos = world.sent("hello");
    assert!((4..=12).contains(&hellos), "{hellos} hellos in a minute");
    assert!(!world.is_linked("a", "b"));
}

/// Two of twenty nodes replicate a keyspace that nobody else does. They do not know each other, and look for
/// neighbours until they have found each other.
#[test]
fn nodes_of_a_rare_keyspace_find_each_other() {
    let mut world = World::new(34);
    for (index, name) in NAMES[..20].iter().enumerate() {
        let mut names = BTreeSet::from([named(NOTES)]);
        if [7, 15].contains(&index) {
            names.insert(named("rare"));
        }
        world.add_with(name, |node| node.config.replicate = Replicate::Only(names));
        if index > 0 {
            world.connect(name, "n00");
        }
        world.run(100);
    }
    world.run(60_000);
    let write = vec![Action::Write(set("k", "v"))];
    world.request("n07", "rare", Atomicity::Each, write).expect("it is executed");
    world.run(240_000);
    let found = world.query_in("n15", "rare", Query::Get("k".into()));
    assert_eq!(found, Answer::Value(Some(b"v".to_vec())));
    for name in &NAMES[..20] {
        assert!(world.report(name).links.len() >= 3, "{name}");
    }
    assert_eq!(reachable(&world, "n00", &NAMES[..20]), 20);
}

/// The two keyspaces of twenty that a node has: each is at three of thirty nodes.
fn keyspaces_of(index: usize) -> [String; 2] {
    [2 * index, 2 * index + 1].map(|slot| format!("rare-{}", slot * 7 % 20))
}

/// Every node counts in its keyspaces, and all holders of each must know of all within a minute.
fn count_everywhere(world: &mut World) {
    for (index, name) in NAMES.iter().enumerate() {
        keyspaces_of(index).iter().for_each(|keyspace| world.write_in(name, keyspace, increment("n", 1)));
    }
}

fn counts(world: &mut World) -> BTreeSet<String> {
    let mut counts = BTreeSet::new();
    for (index, name) in NAMES.iter().enumerate() {
        for keyspace in keyspaces_of(index) {
            match world.query_in(name, &keyspace, Query::Get("n".into())) {
                Answer::Value(Some(value)) => counts.insert(String::from_utf8_lossy(&value).into_owned()),
                other => panic!("{name} in {keyspace}: {other:?}"),
            };
        }
    }
    counts
}

/// Thirty nodes that all begin at the same one have two of twenty keyspaces each. The three of each keyspace find
/// each other, and again after a partition in which some were alone.
#[test]
fn holders_of_twenty_rare_keyspaces_find_each_other() {
    let mut world = World::new(41);
    for (index, name) in NAMES.iter().enumerate() {
        let names = keyspaces_of(index).iter().map(|name| named(name)).collect();
        world.add_with(name, |node| node.config.replicate = Replicate::Only(names));
        if index > 0 {
            world.connect(name, "n00");
        }
        world.run(100);
    }
    count_everywhere(&mut world);
    world.run(60_000);
    assert_eq!(counts(&mut world), BTreeSet::from(["3".to_owned()]), "all three know of each");
    let (side, other) = NAMES.split_at(15);
    world.split(side, other);
    world.run(5_000);
    let is_alone =
        |name: &&&str| world.report(name).keyspaces.iter().any(|keyspace| keyspace.alone_ms.is_some());
    let alone = NAMES.iter().filter(is_alone).count();
    assert!((1..30).contains(&alone), "{alone} were cut off from all of a keyspace");
    count_everywhere(&mut world);
    world.run(60_000);
    world.heal();
    world.run(60_000);
    assert_eq!(counts(&mut world), BTreeSet::from(["6".to_owned()]));
    for name in NAMES {
        let report = world.report(name);
        assert!(report.keyspaces.iter().all(|keyspace| keyspace.alone_ms.is_none()), "{name}");
        assert!(report.links.len() <= 9, "{name} has {} links", report.links.len());
    }
}

/// Two nodes that name each other lose their connection for longer than a dial is given. When the network is
/// whole again they find each other at once: what they dialled by themselves and gave up was not the dial that
/// the operator asked for.
#[test]
fn named_peer_is_dialled_for_as_long_as_it_takes() {
    let mut world = World::connected(5_380, &["a", "b"]);
    world.partition("a", "b");
    world.run(25_000);
    world.write("a", set("k", "v"));
    world.heal();
    let took = world.settle_within(&["a", "b"], 10_000);
    assert!(took < 2_000, "{took} ms");
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// Sixty nodes dial the same one at the same moment. It greets them one after another, and keeps no more than a
/// node may; all the others are told of peers to try, and the overlay holds together.
#[test]
fn hub_that_everybody_dials_at_once_keeps_its_links_within_the_bound() {
    let mut world = World::new(40);
    world.storage = sim::node::Storage::Memory;
    world.add("hub");
    let names: Vec<String> = (0..60).map(|n| format!("n{n:02}")).collect();
    names.iter().for_each(|name| world.add(name));
    names.iter().for_each(|name| world.connect(name, "hub"));
    world.run(61_000);
    assert!(world.report("hub").links.len() <= 8, "{} links", world.report("hub").links.len());
    assert!(world.counter("hub", "neighbours_let_go") >= 52);
    world.write("hub", set("k", "v"));
    world.settle();
}
