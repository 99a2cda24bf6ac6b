//! How frames and news of them travel: trees that are pruned and grafted, pulls, slow peers, lost messages.

use sim::World;
use sim::words::{increment, set};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{Action, Atomicity};

/// Five nodes, all connected: after a while a write costs about one push per node.
#[test]
fn redundant_links_are_pruned() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::connected(20, &names);
    world.count_by_name();
    for _ in 0..20 {
        world.write("a", increment("n", 1));
        world.run(200);
    }
    let before = world.sent("push");
    for _ in 0..50 {
        world.write("a", increment("n", 1));
        world.run(200);
    }
    let pushes = world.sent("push") - before;
    assert!((200..=220).contains(&pushes), "{pushes} pushes of 50 writes to 4 others");
    world.settle();
}

/// A link of the tree breaks: the others notice by the heads, and graft another link.
#[test]
fn broken_tree_is_grafted() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut world = World::connected(21, &names);
    for _ in 0..30 {
        world.write("a", increment("n", 1));
        world.run(100);
    }
    for (x, y) in [("a", "b"), ("a", "c"), ("a", "d"), ("a", "e")] {
        world.partition(x, y);
    }
    for _ in 0..10 {
        world.write("a", increment("n", 1));
        world.run(100);
    }
    world.run(1_000);
    for name in names {
        assert_eq!(world.get(name, "n").as_deref(), Some("40"), "{name}");
    }
}

/// Rings, where both ends of a link may prune each other at once: nobody loses the last link, all converge.
#[test]
fn pruning_never_isolates_a_node() {
    for seed in 0..20 {
        let names = ["a", "b", "c", "d"];
        let mut world = World::new(seed);
        names.into_iter().for_each(|name| world.add(name));
        world.partition("a", "c");
        world.partition("b", "d");
        for (x, y) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")] {
            world.connect(x, y);
        }
        world.run(500);
        for _ in 0..15 {
            names.into_iter().for_each(|name| world.write(name, increment("n", 1)));
            world.run(50);
            for name in names {
                let eager: usize = world.report(name).links.iter().map(|link| link.eager).sum();
                assert!(eager > 0, "seed {seed}: {name} has no eager link");
            }
        }
        world.run(2_000);
        for name in names {
            assert_eq!(world.get(name, "n").as_deref(), Some("60"), "seed {seed}: {name}");
        }
    }
}

/// A peer takes nothing for a while: its queue fills, and it is not sent frames that it cannot take.
#[test]
fn congested_peer_catches_up_by_heads_and_pull() {
    let mut world = World::connected(22, &["a", "b", "c"]);
    world.worsen(|conditions| conditions.queue_max = 16);
    world.block("a", "b");
    world.block("c", "b");
    for n in 0..200 {
        world.write("a", set(&format!("key{n}"), "value"));
        world.run(10);
    }
    assert!(world.counter("a", "peers_congested") > 0);
    let is_congested = |world: &World| world.report("a").links.iter().any(|link| link.is_congested);
    assert!(is_congested(&world));
    assert!(world.counter("a", "frames_pushed") < 350, "frames are not pushed at a full queue");
    world.unblock("a", "b");
    world.unblock("c", "b");
    world.run(8_000);
    assert_eq!(world.get("b", "key199").as_deref(), Some("value"));
    assert!(!is_congested(&world));
    world.settle();
}

/// A link with two seconds of latency: what is on its way is not asked for again and again.
#[test]
fn answer_that_is_on_its_way_is_not_asked_for_again() {
    let mut world = World::new(23);
    world.add("a");
    world.add("b");
    let value = "x".repeat(100_000);
    for n in 0..60 {
        world.write("a", set(&format!("key{n}"), &value));
    }
    world.worsen(|conditions| conditions.delay_us = (0, 2_000_000));
    world.count_by_name();
    world.connect("b", "a");
    world.settle();
    let wants = world.sent("want");
    let bytes = world.network().traffic.bytes;
    assert!(bytes > 60 * 100_000, "{bytes} bytes for 6,000,000");
    assert!(bytes < 2 * 60 * 100_000, "{bytes} bytes for 6,000,000");
    assert!(wants <= 12, "{wants} wants");
}

/// A link so slow that an answer takes longer than other peers are given.
#[test]
fn slow_peer_is_not_asked_twice_for_what_it_is_sending() {
    let mut world = World::new(27);
    world.add("a");
    world.add("b");
    let value = "x".repeat(100_000);
    for n in 0..25 {
        world.write("a", set(&format!("key{n}"), &value));
    }
    world.connect("b", "a");
    while !world.is_linked("b", "a") {
        world.run(1);
    }
    world.worsen(|conditions| conditions.delay_us = (9_000_000, 9_000_000));
    assert_eq!(world.get("b", "key0"), None, "nothing was answered yet");
    world.settle();
    let bytes = world.network().traffic.bytes;
    assert!(bytes < 2_600_000, "{bytes} bytes for 2,500,000");
}

/// The queue of the peer that answers was full: the question is asked again once it says so.
#[test]
fn answer_that_did_not_fit_a_queue_is_asked_for_again_soon() {
    let mut world = World::connected(28, &["a", "b"]);
    world.partition("a", "b");
    for n in 0..20 {
        world.write("a", set(&format!("key{n}"), "value"));
    }
    world.worsen(|conditions| conditions.queue_max = 3);
    world.heal();
    world.run(300);
    world.block("a", "b");
    for n in 20..40 {
        world.write("a", set(&format!("key{n}"), "value"));
        world.run(100);
    }
    world.worsen(|conditions| conditions.queue_max = 1_000);
    world.unblock("a", "b");
    world.run(2_000);
    assert_eq!(world.get("b", "key39").as_deref(), Some("value"));
}

/// The session that brought an early frame ends before the gap is filled; the frame is also elsewhere.
#[test]
fn frames_lost_with_a_session_are_fetched_again_soon() {
    let mut world = World::connected(24, &["a", "b", "c", "d"]);
    for round in 0..40 {
        world.write(["a", "b"][round % 2], increment("n", 1));
        world.run(20);
        world.drop_session("c", ["a", "b", "d"][round % 3]);
    }
    world.run(6_000);
    assert_eq!(world.get("c", "n").as_deref(), Some("40"));
}

/// The message that tells of a new keyspace is refused by a full queue.
#[test]
fn keyspace_told_to_a_full_queue_is_told_again() {
    let mut world = World::connected(25, &["a", "b"]);
    world.write("a", set("k", "v"));
    world.settle();
    world.worsen(|conditions| conditions.queue_max = 4);
    world.block("a", "b");
    for n in 0..20 {
        world.write("a", set("k", &n.to_string()));
    }
    let write = vec![Action::Write(set("k", "new"))];
    world.request("a", "other", Atomicity::Each, write).expect("it is executed");
    world.worsen(|conditions| conditions.queue_max = 1_000);
    world.unblock("a", "b");
    world.run(5_000);
    let value = world.query_in("b", "other", Query::Get("k".into()));
    assert_eq!(value, Answer::Value(Some("new".into())));
}

/// A push that carried an author's card is refused by a full queue; later pushes do not carry it again.
#[test]
fn card_that_was_lost_is_sent_again() {
    let mut world = World::connected(26, &["a", "b"]);
    world.worsen(|conditions| conditions.queue_max = 2);
    world.block("a", "b");
    for n in 0..10 {
        world.write("a", set("k", &n.to_string()));
    }
    world.worsen(|conditions| conditions.queue_max = 1_000);
    world.unblock("a", "b");
    for n in 0..10 {
        world.write("a", set("k", &n.to_string()));
        world.run(20);
    }
    world.run(2_000);
    assert_eq!(world.get("b", "k").as_deref(), Some("9"));
}

/// A node joins that knows two others. What it fetches from one the other has announced, and is not sent.
#[test]
fn what_a_peer_has_announced_is_not_pushed_to_it() {
    let mut world = World::connected(27, &["a", "b"]);
    (0..50).for_each(|n| world.write("a", set("k", &n.to_string())));
    world.settle();
    world.add("c");
    world.connect("c", "a");
    world.connect("c", "b");
    world.settle();
    assert_eq!(world.get("c", "k").as_deref(), Some("49"));
    assert_eq!(world.counter("c", "frames_pushed"), 0);
    world.write("c", set("k", "new"));
    world.settle();
    assert!(world.counter("c", "frames_pushed") >= 1, "what is new is pushed");
}
