//! What a keyspace may hold on a node, and how many keyspaces peers may bring.

use sim::World;
use sim::words::{add, delete, remove, set};
use sim::world::{NOTES, named};
use tidelock_engine::replica::Order;
use tidelock_engine::request::{Action, ActionError, Atomicity, RequestError, RequestReply};
use tidelock_engine::write::WriteError;

fn try_to_set(world: &mut World, name: &str, key: &str, bytes: usize) -> RequestReply {
    let write = vec![Action::Write(set(key, &"v".repeat(bytes)))];
    world.request(name, NOTES, Atomicity::Each, write)
}

fn is_refused(reply: &RequestReply) -> bool {
    let over = |error: &ActionError| matches!(error, ActionError::Write(WriteError::OverQuota { .. }));
    match reply {
        Ok(replies) => replies.iter().any(|reply| reply.as_ref().is_err_and(over)),
        Err(RequestError::Action { source, .. }) => over(source),
        Err(_) => false,
    }
}

fn bytes(world: &World, name: &str) -> u64 {
    use tidelock_engine::ports::Rows;
    world.node(name).driver().store().bytes(sim::world::keyspace_id(NOTES)).expect("it is read")
}

/// A node writes up to its quota and not beyond, also after a restart; what is removed makes room again.
#[test]
fn write_beyond_the_quota_is_refused_and_removals_are_not() {
    let mut world = World::connected(80, &["a"]);
    world.order_and_wait("a", NOTES, Order::Quota(Some(1_000))).expect("it is taken");
    for n in 0..9 {
        world.write("a", set(&format!("key{n}"), &"v".repeat(96)));
    }
    world.write("a", add("set", "element"));
    assert_eq!(bytes(&world, "a"), 910);
    assert!(is_refused(&try_to_set(&mut world, "a", "more", 96)));
    assert_eq!(bytes(&world, "a"), 910, "it left nothing behind");
    let batch = (0..2).map(|n| set(&format!("b{n}"), &"v".repeat(60))).collect();
    assert!(is_refused(&world.batch("a", batch)));
    world.lose_power("a");
    world.start("a");
    assert_eq!(bytes(&world, "a"), 910);
    assert!(is_refused(&try_to_set(&mut world, "a", "more", 96)), "the quota outlasts a restart");
    world.write("a", set("key0", &"w".repeat(90)));
    world.write("a", delete("key1"));
    world.write("a", remove("set", "element"));
    world.write("a", set("more", &"v".repeat(96)));
    world.order_and_wait("a", NOTES, Order::Quota(None)).expect("it is taken");
    world.write("a", set("much more", &"v".repeat(5_000)));
}

/// What peers write is taken in whatever the quota says; then nothing grows here, and removing goes on.
#[test]
fn frames_of_peers_are_never_refused_for_a_quota() {
    let mut world = World::connected(81, &["a", "b"]);
    world.order_and_wait("a", NOTES, Order::Quota(Some(500))).expect("it is taken");
    for n in 0..10 {
        world.write("b", set(&format!("key{n}"), &"v".repeat(100)));
    }
    world.settle();
    let report = &world.report("a").keyspaces[0];
    assert!(report.quota_bytes == Some(500) && bytes(&world, "a") > 1_000);
    assert!(is_refused(&try_to_set(&mut world, "a", "mine", 10)));
    world.write("a", set("key0", "shorter"));
    (1..8).for_each(|n| world.write("a", delete(&format!("key{n}"))));
    world.write("a", set("mine", &"v".repeat(10)));
    world.settle();
    assert_eq!(world.get("b", "mine").as_deref(), Some("vvvvvvvvvv"));
}

/// The quota of the config counts where nothing was said at run time, in each keyspace by itself.
#[test]
fn quota_of_the_start_counts_until_another_is_set() {
    let mut world = World::new(82);
    world.add_with("a", |node| node.config.limits.quotas = [(named(NOTES), 100)].into());
    assert!(is_refused(&try_to_set(&mut world, "a", "k", 200)));
    world.write_in("a", "other", set("k", &"v".repeat(200)));
    world.order_and_wait("a", NOTES, Order::Quota(Some(u64::MAX))).expect("it is taken");
    world.write("a", set("k", &"v".repeat(200)));
    world.restart("a");
    world.write("a", set("l", &"v".repeat(200)));
}

/// A peer makes more keyspaces than a node takes in from peers. The node goes on making its own.
#[test]
fn keyspaces_of_peers_leave_room_for_own_ones() {
    let mut world = World::new(83);
    world.add_with("a", |node| node.config.limits.keyspaces_max = 20);
    world.add("b");
    world.connect("a", "b");
    world.run(1_000);
    for n in 0..40 {
        world.write_in("b", &format!("of-b-{n}"), set("k", "v"));
    }
    world.run(2_000);
    assert_eq!(world.report("a").keyspaces.len(), 20);
    assert!(world.counter("a", "keyspaces_not_taken_in") >= 20);
    world.write_in("a", "own", set("k", "v"));
    world.order_and_wait("a", "of-b-39", Order::Join).expect("the operator may have more");
    world.run(2_000);
    assert_eq!(world.report("a").keyspaces.len(), 22);
    assert!(world.report("b").keyspaces.iter().any(|keyspace| keyspace.name == named("own")));
}
