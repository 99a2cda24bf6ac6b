//! Nothing leaves a node before it is durable there, and nothing is acknowledged that may be lost.

use sim::World;
use sim::words::set;
use sim::world::{NOTES, named};
use tidelock_engine::ports::Durability;
use tidelock_engine::request::{Action, Atomicity, Request, RequestError};
use tidelock_store::Faults;

/// A disk that takes no sync any more.
const SYNCS_FAIL: Faults = Faults {
    syncs_until_error: Some(0),
    bytes_until_full: None,
    is_read_only: false,
    changes_until_power_cut: None,
};

/// A buffered write is seen here at once, and by peers only after the disk has it.
#[test]
fn buffered_write_leaves_only_after_the_sync() {
    let mut world = World::connected(50, &["a", "b"]);
    world.syncs_after_us = None;
    world.write_buffered("a", set("k", "v"));
    assert_eq!(world.get("a", "k").as_deref(), Some("v"));
    assert!(!world.node("a").driver().is_durable());
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
    world.syncs_after_us = None;
    world.write_buffered("a", set("k", "v"));
    world.write("a", set("other", "v"));
    assert!(world.node("a").driver().is_durable());
    world.run(500);
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// A node crashes with a buffered write: it is gone everywhere, and its dot is used again by nobody who could
/// be misled, because nobody saw the first use.
#[test]
fn crash_loses_what_was_buffered_and_nothing_else() {
    let mut world = World::connected(52, &["a", "b"]);
    world.write("a", set("durable", "v"));
    // Rows are not written before the log is synced, so writing them would make it durable.
    (world.syncs_after_us, world.materializing) = (None, 0);
    world.write_buffered("a", set("buffered", "v"));
    world.run(1_000);
    world.lose_power("a");
    world.start("a");
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
    world.count_by_name();
    world.node("a").disk().set_faults(SYNCS_FAIL);
    let pushed = world.sent("push");
    let write = || vec![Action::Write(set("k", "v"))];
    let reply = world.request("a", NOTES, Atomicity::Each, write());
    assert!(matches!(reply, Err(RequestError::Commit(_))), "{reply:?}");
    world.node("a").disk().set_faults(Faults::default());
    let reply = world.request("a", NOTES, Atomicity::Each, write());
    assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
    world.run(5_000);
    assert_eq!(world.sent("push"), pushed);
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
    (world.syncs_after_us, world.materializing) = (None, 0);
    world.write_buffered("a", set("k", "v"));
    world.node("a").disk().set_faults(SYNCS_FAIL);
    world.sync("a");
    world.run(5_000);
    assert_eq!(world.get("b", "k"), None);
    assert!(world.report("a").failed.is_some());
    let actions = vec![Action::Write(set("k", "v"))];
    let (keyspace, durability) = (named(NOTES), Durability::Buffered);
    let reply = world.ask("a", Request { keyspace, actions, atomicity: Atomicity::Each, durability });
    assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
}

/// A client waits for its write to be on the disks of two peers.
#[test]
fn confirmations_count_the_peers_that_have_the_write_on_disk() {
    let mut world = World::connected(55, &["a", "b", "c"]);
    world.write("a", set("k", "v"));
    let wait = world.wait("a");
    assert_eq!(world.confirmed(wait), 0);
    world.run(500);
    assert_eq!(world.confirmed(wait), 2);
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
    assert_eq!(world.confirmed(wait), 1);
    world.heal();
    world.run(5_000);
    assert_eq!(world.confirmed(wait), 2);
}

/// A peer whose disk only has the write in memory has not confirmed it.
#[test]
fn peer_confirms_only_what_its_disk_has() {
    let mut world = World::connected(57, &["a", "b"]);
    (world.syncs_after_us, world.materializing) = (None, 0);
    world.write_buffered("b", set("own", "v"));
    assert!(!world.node("b").driver().is_durable());
    world.write("a", set("k", "v"));
    let wait = world.wait("a");
    // The frame of a is committed durably by itself, which syncs b: so b may confirm.
    world.run(500);
    assert_eq!(world.confirmed(wait), 1);
    assert!(world.node("b").driver().is_durable());
}

/// The confirmation is refused by a full queue.
#[test]
fn confirmation_that_was_lost_is_asked_for_again() {
    let mut world = World::connected(58, &["a", "b"]);
    world.settle();
    world.worsen(|conditions| conditions.queue_max = 2);
    world.block("b", "a");
    for n in 0..5 {
        world.write("b", set("k", &n.to_string()));
    }
    world.write("a", set("mine", "v"));
    let wait = world.wait("a");
    world.run(300);
    world.worsen(|conditions| conditions.queue_max = 1_000);
    world.unblock("b", "a");
    world.run(5_000);
    assert_eq!(world.confirmed(wait), 1);
}
