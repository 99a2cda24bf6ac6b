//! How frames and news of them travel: trees that are pruned and grafted, pulls, slow peers, lost messages.

mod world;

use tidelock_engine::message::{Hello, Message, PROTOCOL_VERSION, WantEntry};
use tidelock_engine::ports::{SessionId, TransportEvent};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Input;
use tidelock_engine::request::{Action, Atomicity};
use world::by_hand::{COURIER, Station, card, key, request_in};
use world::words::{add, increment, set};
use world::{NOTES, World, cluster, keyspace_id, named};

/// Frames arrive last first, and all of them twice.
#[test]
fn reordered_and_repeated_frames_are_applied_once_and_in_order() {
    let (mut a, mut b, mut c) = (Station::new(0, 3), Station::new(1, 3), Station::new(2, 3));
    for n in 0..10 {
        a.write(increment("n", 1));
        b.pull(&a, 9);
        b.write(add("s", &n.to_string()));
        a.pull(&b, 9);
    }
    let frames = a.log();
    for frame in frames.iter().rev().chain(&frames) {
        c.deliver(std::slice::from_ref(frame));
    }
    assert_eq!(c.rows(), a.rows());
    assert_eq!(c.counter("frames_applied"), 20);
    assert_eq!(c.counter("frames_duplicate"), 20);
    assert_eq!(c.report().early, (0, 0));
}

/// A chain of a thousand frames, each of which waits for the next: nothing stays behind.
#[test]
fn long_chain_of_waiting_frames_is_applied_in_one_go() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    let frames: Vec<_> = (0..1_000).flat_map(|_| a.write(increment("n", 1))).collect();
    for frame in frames.iter().skip(1).rev() {
        b.deliver(std::slice::from_ref(frame));
    }
    assert_eq!(b.report().early.0, 999);
    b.deliver(&frames[..1]);
    assert_eq!(b.get("n").as_deref(), Some("1000"));
    assert_eq!(b.report().early, (0, 0));
}

/// Five nodes, all connected: after a while a write costs about one push per node.
#[test]
fn redundant_links_are_pruned() {
    let names = ["a", "b", "c", "d", "e"];
    let mut world = World::connected(20, &names);
    for _ in 0..20 {
        world.write("a", increment("n", 1));
        world.run(200);
    }
    let before = world.network.borrow().sent["push"];
    for _ in 0..50 {
        world.write("a", increment("n", 1));
        world.run(200);
    }
    let pushes = world.network.borrow().sent["push"] - before;
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
    world.network.borrow_mut().queue_max = 16;
    world.stall("a", "b");
    world.stall("c", "b");
    for n in 0..200 {
        world.write("a", set(&format!("key{n}"), "value"));
        world.run(10);
    }
    assert!(world.counter("a", "peers_congested") > 0);
    let is_congested = |world: &World| world.report("a").links.iter().any(|link| link.is_congested);
    assert!(is_congested(&world));
    assert!(world.counter("a", "frames_pushed") < 350, "frames are not pushed at a full queue");
    world.unstall("a", "b");
    world.unstall("c", "b");
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
    world.network.borrow_mut().latency_ms_max = 2_000;
    world.connect("b", "a");
    world.settle();
    let (bytes, wants) = (world.network.borrow().bytes_sent, world.network.borrow().sent["want"]);
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
    world.run(100);
    world.network.borrow_mut().latency_ms_min = 9_000;
    world.network.borrow_mut().latency_ms_max = 9_000;
    world.settle();
    let bytes = world.network.borrow().bytes_sent;
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
    world.network.borrow_mut().queue_max = 3;
    world.heal();
    world.run(300);
    world.stall("a", "b");
    for n in 20..40 {
        world.write("a", set(&format!("key{n}"), "value"));
        world.run(100);
    }
    world.network.borrow_mut().queue_max = 1_000;
    world.unstall("a", "b");
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

fn courier_hello() -> Message {
    Message::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        cluster: cluster(),
        card: card(7),
        keyspaces: Vec::new(),
        takes_any_keyspace: true,
        addresses: Vec::new(),
    })
}

fn courier_up(session: SessionId) -> Input {
    let address = "hand/late".to_owned();
    Input::Network(TransportEvent::Up { peer: key(7).peer(), session, address, is_dialer: false })
}

/// A keyspace is made after our hello was sent and before the peer's arrived.
#[test]
fn keyspace_made_between_two_hellos_is_told() {
    let mut a = Station::new(0, 1);
    let session = SessionId(9);
    a.turn(vec![courier_up(session)]);
    assert!(matches!(&a.said()[..], [.., Message::Hello(_)]));
    a.turn(vec![request_in("other", vec![set("k", "v")])]);
    a.say(session, &courier_hello());
    let told =
        |message: &Message| matches!(message, Message::Keyspaces(names) if names.contains(&named("other")));
    let said = a.said();
    assert!(said.iter().filter(|message| told(message)).count() >= 2, "to both peers: {said:?}");
}

/// The message that tells of a new keyspace is refused by a full queue.
#[test]
fn keyspace_told_to_a_full_queue_is_told_again() {
    let mut world = World::connected(25, &["a", "b"]);
    world.write("a", set("k", "v"));
    world.settle();
    world.network.borrow_mut().queue_max = 4;
    world.stall("a", "b");
    for n in 0..20 {
        world.write("a", set("k", &n.to_string()));
    }
    let write = vec![Action::Write(set("k", "new"))];
    world.request("a", "other", Atomicity::Each, write).expect("it is executed");
    world.network.borrow_mut().queue_max = 1_000;
    world.unstall("a", "b");
    world.run(5_000);
    let value = world.query_in("b", "other", Query::Get("k".into()));
    assert_eq!(value, Answer::Value(Some("new".into())));
}

/// A push that carried an author's card is refused by a full queue; later pushes do not carry it again.
#[test]
fn card_that_was_lost_is_sent_again() {
    let mut world = World::connected(26, &["a", "b"]);
    world.network.borrow_mut().queue_max = 2;
    world.stall("a", "b");
    for n in 0..10 {
        world.write("a", set("k", &n.to_string()));
    }
    world.network.borrow_mut().queue_max = 1_000;
    world.unstall("a", "b");
    for n in 0..10 {
        world.write("a", set("k", &n.to_string()));
        world.run(20);
    }
    world.run(2_000);
    assert_eq!(world.get("b", "k").as_deref(), Some("9"));
}

/// A pull is cut to a bounded size and goes on from where it stopped.
#[test]
fn large_backlog_is_answered_in_bounded_messages() {
    let mut a = Station::new(0, 1);
    for n in 0..40 {
        a.write(set(&format!("key{n}"), &"x".repeat(100_000)));
    }
    a.said();
    let want = Message::Want {
        keyspace: keyspace_id(NOTES),
        after: vec![WantEntry { author: card(0).replica(), after: 0 }],
    };
    a.say(COURIER, &want);
    let said = a.said();
    let [Message::Answer { frames, has_more: true, .. }] = &said[..] else { panic!("{said:?}") };
    assert!(frames.len() < 12, "{}", frames.len());
    let want = Message::Want {
        keyspace: keyspace_id(NOTES),
        after: vec![WantEntry { author: card(0).replica(), after: 35 }],
    };
    a.say(COURIER, &want);
    let said = a.said();
    let [Message::Answer { frames, has_more: false, .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(frames.len(), 5);
}
