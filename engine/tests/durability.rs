//! Nothing leaves a node before it is durable there, and nothing is acknowledged that may be lost.

mod world;

use tidelock_engine::frame::Frame;
use tidelock_engine::message::{FrameBytes, Message};
use tidelock_engine::op::Op;
use tidelock_engine::ports::Durability;
use tidelock_engine::replica::Input;
use tidelock_engine::request::{Action, Atomicity, Request, RequestError, RequestId};
use world::by_hand::{COURIER, Station, card};
use world::forge::Forger;
use world::words::set;
use world::{NOTES, World, keyspace_id, named};

fn buffered(key: &str, value: &str) -> Request {
    Request {
        keyspace: named(NOTES),
        actions: vec![Action::Write(set(key, value))],
        atomicity: Atomicity::Each,
        durability: Durability::Buffered,
    }
}

/// A buffered write is seen here at once, and by peers only after the disk has it.
#[test]
fn buffered_write_leaves_only_after_the_sync() {
    let mut world = World::connected(50, &["a", "b"]);
    world.ask("a", buffered("k", "v")).expect("it is executed");
    assert_eq!(world.get("a", "k").as_deref(), Some("v"));
    assert!(!world.driver("a").is_durable());
    world.run(3_000);
    assert_eq!(world.get("b", "k"), None);
    world.sync("a");
    world.run(500);
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// A durable write behind a buffered one makes both durable.
#[test]
fn durable_write_takes_buffered_ones_along() {
    let mut world = World::connected(51, &["a", "b"]);
    world.ask("a", buffered("k", "v")).expect("it is executed");
    world.write("a", set("other", "v"));
    assert!(world.driver("a").is_durable());
    world.run(500);
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// A node crashes with a buffered write: it is gone everywhere, and its dot is used again by nobody who could
/// be misled, because nobody saw the first use.
#[test]
fn crash_loses_what_was_buffered_and_nothing_else() {
    let mut world = World::connected(52, &["a", "b"]);
    world.write("a", set("durable", "v"));
    world.ask("a", buffered("buffered", "v")).expect("it is executed");
    world.run(1_000);
    world.restart("a");
    assert_eq!(world.get("a", "durable").as_deref(), Some("v"));
    assert_eq!(world.get("a", "buffered"), None);
    world.connect("a", "b");
    world.write("a", set("later", "v"));
    world.settle();
    assert_eq!(world.get("b", "later").as_deref(), Some("v"));
    assert_eq!(world.report("b").evidence, []);
}

/// A commit fails: the client is told, peers see nothing, and the node takes no more writes but still reads.
#[test]
fn failed_commit_acknowledges_and_sends_nothing() {
    let mut world = World::connected(53, &["a", "b"]);
    world.write("a", set("before", "v"));
    world.settle();
    world.faults("a").commit_fails.set(true);
    let pushed = world.network.borrow().sent["push"];
    let write = || vec![Action::Write(set("k", "v"))];
    let reply = world.request("a", NOTES, Atomicity::Each, write());
    assert!(matches!(reply, Err(RequestError::Commit(_))), "{reply:?}");
    world.faults("a").commit_fails.set(false);
    let reply = world.request("a", NOTES, Atomicity::Each, write());
    assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
    world.run(5_000);
    assert_eq!(world.network.borrow().sent["push"], pushed);
    assert_eq!(world.get("a", "before").as_deref(), Some("v"));
    assert_eq!(world.get("a", "k"), None);
    assert_eq!(world.get("b", "k"), None);
    assert!(world.report("a").failed.is_some());
    assert!(!world.is_linked("b", "a"));
    world.restart("a");
    world.connect("a", "b");
    world.write("a", set("k", "again"));
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("again"));
}

/// A sync fails: what waited for it never leaves.
#[test]
fn failed_sync_sends_nothing_of_what_waited() {
    let mut world = World::connected(54, &["a", "b"]);
    world.ask("a", buffered("k", "v")).expect("it is executed");
    world.faults("a").sync_fails.set(true);
    world.sync("a");
    world.run(5_000);
    assert_eq!(world.get("b", "k"), None);
    assert!(world.report("a").failed.is_some());
    let reply = world.ask("a", buffered("k", "v"));
    assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
}

/// A client waits for its write to be on the disks of two peers.
#[test]
fn confirmations_count_the_peers_that_have_the_write_on_disk() {
    let mut world = World::connected(55, &["a", "b", "c"]);
    world.write("a", set("k", "v"));
    let wait = world.wait("a");
    assert_eq!(world.confirmed("a", wait), 0);
    world.run(500);
    assert_eq!(world.confirmed("a", wait), 2);
}

/// A peer that is away does not confirm; when it is back it does, although it was not connected when the wait
/// began.
#[test]
fn peer_that_comes_back_confirms() {
    let mut world = World::connected(56, &["a", "b", "c"]);
    world.settle();
    world.partition("a", "c");
    world.partition("b", "c");
    world.run(200);
    world.write("a", set("k", "v"));
    let wait = world.wait("a");
    world.run(2_000);
    assert_eq!(world.confirmed("a", wait), 1);
    world.heal();
    world.run(5_000);
    assert_eq!(world.confirmed("a", wait), 2);
}

/// A peer whose disk only has the write in memory has not confirmed it.
#[test]
fn peer_confirms_only_what_its_disk_has() {
    let mut world = World::connected(57, &["a", "b"]);
    world.ask("b", buffered("own", "v")).expect("it is executed");
    world.write("a", set("k", "v"));
    let wait = world.wait("a");
    // The frame of a is committed durably by itself, which syncs b: so b may confirm.
    world.run(500);
    assert_eq!(world.confirmed("a", wait), 1);
    assert!(world.driver("b").is_durable());
}

/// The confirmation is refused by a full queue.
#[test]
fn confirmation_that_was_lost_is_asked_for_again() {
    let mut world = World::connected(58, &["a", "b"]);
    world.settle();
    world.network.borrow_mut().queue_max = 2;
    world.stall("b", "a");
    for n in 0..5 {
        world.write("b", set("k", &n.to_string()));
    }
    world.write("a", set("mine", "v"));
    let wait = world.wait("a");
    world.run(300);
    world.network.borrow_mut().queue_max = 1_000;
    world.unstall("b", "a");
    world.run(5_000);
    assert_eq!(world.confirmed("a", wait), 1);
}

/// A peer that has an earlier write only has not confirmed the later one, and one peer counts once.
#[test]
fn confirmation_of_an_earlier_write_does_not_count() {
    let mut a = Station::new(0, 1);
    a.write(set("k", "1"));
    a.write(set("k", "2"));
    let wait = RequestId(9);
    let outcome = a.turn(vec![Input::Confirm(wait, named(NOTES))]);
    assert_eq!(outcome.confirmations, [(wait, 0)]);
    let keyspace = keyspace_id(NOTES);
    let confirmed = |seq| Message::Confirmed { keyspace, seq };
    assert_eq!(a.say(COURIER, &confirmed(1)).confirmations, []);
    assert_eq!(a.say(COURIER, &confirmed(2)).confirmations, [(wait, 1)]);
    assert_eq!(a.say(COURIER, &confirmed(3)).confirmations, []);
    a.turn(vec![Input::Forget(wait)]);
    a.said();
    a.pass(5_000);
    assert!(
        !a.said().iter().any(|message| matches!(message, Message::Confirm { .. })),
        "nobody waits any more"
    );
}

/// A peer waits for its second write; we have the first.
#[test]
fn peer_is_told_when_all_of_its_writes_are_here() {
    let mut a = Station::new(0, 1);
    let mut courier = Forger::new(200);
    let (first, second) = (courier.frame(&[], &[set_op()]), courier.frame(&[], &[set_op()]));
    let push = |frame: &Frame| Message::Push {
        cards: vec![card(200)],
        frames: vec![FrameBytes(frame.bytes().to_vec())],
    };
    let keyspace = keyspace_id(NOTES);
    a.say(COURIER, &push(&first));
    a.said();
    a.say(COURIER, &Message::Confirm { keyspace, seq: 2 });
    assert_eq!(a.said(), []);
    a.say(COURIER, &push(&second));
    assert_eq!(a.said(), [Message::Confirmed { keyspace, seq: 2 }]);
    a.say(COURIER, &Message::Confirm { keyspace, seq: 1 });
    assert_eq!(a.said(), [Message::Confirmed { keyspace, seq: 1 }]);
}

fn set_op() -> Op {
    Op::Set { key: b"k".to_vec(), value: b"v".to_vec(), observed: Vec::new(), slots: Vec::new() }
}
