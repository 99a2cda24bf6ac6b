//! Keyspaces that are joined and left while the node runs.

use sim::World;
use sim::words::{add, increment, set};
use sim::world::{NOTES, keyspace_id, named};
use tidelock_engine::ports::{Log, LogPosition};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::{Kept, Order, OrderError, Replicate, Retention};
use tidelock_engine::request::{Action, Atomicity, RequestError};

const LEAVE: Order = Order::Leave { is_forced: false };
const FORSAKE: Order = Order::Leave { is_forced: true };

fn leave(world: &mut World, name: &str) {
    world.order_and_wait(name, NOTES, LEAVE).expect("somebody vouches");
}

fn refusal(world: &mut World, name: &str) -> RequestError {
    let read = vec![Action::Query(Query::Get("k".into()))];
    world.request(name, NOTES, Atomicity::Each, read).expect_err("it is not here")
}

/// The frames of a keyspace in a node's log.
fn frames_of(world: &World, name: &str, keyspace: &str) -> usize {
    let records = world.node(name).driver().store().records_from(LogPosition(1), usize::MAX);
    let records = records.expect("the log can be read");
    records.iter().filter(|record| record.entry.keyspace() == Some(keyspace_id(keyspace))).count()
}

fn write_rows_until_dropped(world: &mut World, name: &str) {
    for _ in 0..100 {
        if !world.node(name).driver().store().is_dropping(keyspace_id(NOTES)) {
            return;
        }
        world.write_rows(name);
    }
    panic!("{name} still drops");
}

/// A phone that replicates one keyspace joins another one: what is there comes on the session that is up.
#[test]
fn joined_keyspace_comes_without_a_new_session() {
    let mut world = World::new(70);
    world.add("server");
    world.add_with("phone", |node| {
        node.config.replicate = Replicate::Only([named("other")].into_iter().collect());
    });
    world.write("server", set("k", "v"));
    world.connect("phone", "server");
    world.run(2_000);
    world.count_by_name();
    assert!(matches!(refusal(&mut world, "phone"), RequestError::NotReplicated(_)));
    world.join("phone", NOTES);
    world.run(500);
    assert_eq!(world.get("phone", "k").as_deref(), Some("v"));
    world.write("phone", increment("n", 2));
    world.run(500);
    assert_eq!(world.get("server", "n").as_deref(), Some("2"));
    assert_eq!(world.sent("hello"), 0);
    world.restart("phone");
    world.connect("phone", "server");
    world.write("server", increment("n", 1));
    world.run(2_000);
    assert_eq!(world.get("phone", "n").as_deref(), Some("3"), "the choice outlasts a restart");
}

/// Two that know only some keyspaces each, of which one comes later on both sides.
#[test]
fn both_sides_join_in_any_order() {
    let mut world = World::new(71);
    for name in ["a", "b"] {
        world.add_with(name, |node| {
            node.config.replicate = Replicate::Only([named(name)].into_iter().collect());
        });
    }
    world.connect("a", "b");
    world.run(1_000);
    world.join("a", NOTES);
    world.write("a", set("k", "v"));
    world.run(2_000);
    world.join("b", NOTES);
    world.run(1_000);
    assert_eq!(world.get("b", "k").as_deref(), Some("v"));
}

/// A node leaves, and everybody goes on; it joins again and counts on where it was. That no name of an operation is
/// used twice is checked after every turn.
#[test]
fn node_leaves_and_joins_again_behind_its_last_operation() {
    let mut world = World::connected(72, &["a", "b", "c"]);
    for n in 0..30 {
        world.write("a", increment("count", 1));
        world.write("a", add("set", &format!("e{n}")));
        world.write("b", set("k", &n.to_string()));
    }
    world.settle();
    leave(&mut world, "a");
    assert!(matches!(refusal(&mut world, "a"), RequestError::NotReplicated(_)));
    assert!(world.report("a").keyspaces.is_empty());
    world.write("b", increment("count", 5));
    world.run(3_000);
    assert_eq!(world.counter("a", "frames_of_unknown_keyspace"), 0, "nobody tells it of what it left");
    world.join("a", NOTES);
    let loading = world.request("a", NOTES, Atomicity::Each, vec![Action::Write(set("k", "v"))]);
    assert!(matches!(loading, Err(RequestError::Loading(_))), "{loading:?}");
    world.run(2_000);
    world.write("a", increment("count", 1));
    world.write("a", set("k", "again"));
    world.settle();
    for name in ["a", "b", "c"] {
        assert_eq!(world.get(name, "count").as_deref(), Some("36"), "{name}");
        assert_eq!(world.get(name, "k").as_deref(), Some("again"), "{name}");
        assert_eq!(world.members(name, "set").len(), 30, "{name}");
    }
    let authors = world.report("b").keyspaces[0].authors;
    assert_eq!(authors, 2, "it goes on under its name");
}

/// Nobody else has what it wrote: it stays, says how much that is, and goes when somebody has it.
#[test]
fn node_does_not_leave_what_nobody_else_has() {
    let mut world = World::connected(73, &["a", "b"]);
    world.write("a", set("k", "told"));
    world.settle();
    // What a peer holds is told every ten seconds.
    world.run(12_000);
    world.partition("a", "b");
    world.write("a", set("k", "untold"));
    world.write("a", increment("n", 1));
    let alone = world.order_and_wait("a", NOTES, LEAVE);
    assert!(matches!(alone, Err(OrderError::Unconfirmed { operations: 2, .. })), "{alone:?}");
    world.write("a", increment("n", 1));
    world.heal();
    world.run(1_000);
    leave(&mut world, "a");
    assert_eq!(world.get("b", "n").as_deref(), Some("2"));
    assert_eq!(world.get("b", "k").as_deref(), Some("untold"));
}

/// A peer that takes part hears nothing: the node waits for it, takes no writes meanwhile, and stays.
#[test]
fn node_that_waits_to_leave_takes_no_writes() {
    let mut world = World::connected(74, &["a", "b"]);
    world.write("a", set("k", "v"));
    world.settle();
    world.pause("b", 60_000);
    let order = world.order("a", NOTES, LEAVE);
    world.run(1_000);
    let write = world.request("a", NOTES, Atomicity::Each, vec![Action::Write(set("k", "w"))]);
    assert!(matches!(write, Err(RequestError::Leaving(_))), "{write:?}");
    assert_eq!(world.get("a", "k").as_deref(), Some("v"), "it is still read");
    world.run(11_000);
    assert!(matches!(world.orders.remove(&order), Some(Err(OrderError::Unconfirmed { .. }))));
    world.write("a", set("k", "w"));
    world.run(60_000);
    world.settle();
}

/// Two that have everything want to leave at the same moment. One of them stays.
#[test]
fn two_that_leave_at_once_do_not_rely_on_each_other() {
    let mut world = World::connected(75, &["a", "b"]);
    world.write("a", set("k", "v"));
    world.write("b", increment("n", 1));
    world.settle();
    let orders = ["a", "b"].map(|name| world.order(name, NOTES, LEAVE));
    world.run(15_000);
    let gone = orders.iter().filter(|order| world.orders[*order].is_ok()).count();
    assert!(gone <= 1, "both are gone");
    let stayed = ["a", "b"].into_iter().find(|name| !world.report(name).keyspaces.is_empty());
    let stayed = stayed.expect("one of them stays");
    assert_eq!(world.get(stayed, "k").as_deref(), Some("v"));
    assert_eq!(world.get(stayed, "n").as_deref(), Some("1"));
}

/// A node that takes in all keyspaces has left one: it does not take it in again when it hears of it.
#[test]
fn what_was_left_is_not_taken_in_again() {
    let mut world = World::connected(76, &["a", "b", "c"]);
    world.write("b", set("k", "v"));
    world.settle();
    leave(&mut world, "a");
    world.write("b", set("k", "w"));
    world.drop_session("a", "b");
    world.run(5_000);
    world.lose_power("a");
    world.start("a");
    world.connect("a", "b");
    world.write("b", set("k", "x"));
    world.run(15_000);
    assert!(world.report("a").keyspaces.is_empty());
    assert!(matches!(refusal(&mut world, "a"), RequestError::NotReplicated(_)));
    assert_eq!(frames_of(&world, "a", NOTES), 0);
    world.write_in("a", "more", set("k", "v"));
    world.run(2_000);
    assert!(matches!(world.query_in("c", "more", Query::Get("k".into())), Answer::Value(Some(_))));
}

/// Power goes at every change to the disk while what was left is dropped. In the end nothing of it is there, and what
/// is beside it is whole.
#[test]
fn drop_that_is_interrupted_goes_on() {
    let mut world = World::connected(77, &["a", "b"]);
    for n in 0..200 {
        world.write("a", add(&format!("set{}", n % 7), &format!("element {n}")));
        world.write_in("a", "beside", increment("n", 1));
    }
    world.settle();
    world.write_rows("a");
    leave(&mut world, "a");
    let mut cuts = 0;
    for changes in 0..60 {
        world.plan_power_cut("a", changes);
        world.write_rows("a");
        world.run(50);
        if !world.node("a").is_running() {
            cuts += 1;
            world.start("a");
            world.connect("a", "b");
        }
    }
    assert!(cuts >= 5, "{cuts} cuts");
    world.restart("a");
    world.connect("a", "b");
    write_rows_until_dropped(&mut world, "a");
    assert_eq!(frames_of(&world, "a", NOTES), 0);
    assert_eq!(frames_of(&world, "a", "beside"), 200);
    world.restart("a");
    world.connect("a", "b");
    assert!(world.rows_of("a", NOTES).is_empty());
    assert!(matches!(
        world.query_in("a", "beside", Query::Get("n".into())),
        Answer::Value(Some(value)) if value == b"200"
    ));
    world.join("a", NOTES);
    world.settle();
    assert_eq!(world.members("a", "set3").len(), 29);
}

/// By force it goes at once, and what nobody else has is lost. It writes under another name when it comes back.
#[test]
fn forced_leave_loses_what_nobody_has_and_uses_no_dot_twice() {
    let mut world = World::connected(78, &["a", "b"]);
    world.write("a", increment("n", 1));
    world.settle();
    world.partition("a", "b");
    world.write("a", increment("n", 10));
    world.order_and_wait("a", NOTES, FORSAKE).expect("it is forced");
    let before = world.node("a").driver().replica().id();
    world.heal();
    world.join("a", NOTES);
    assert_ne!(world.node("a").driver().replica().id(), before);
    world.run(1_000);
    world.write("a", increment("n", 100));
    world.settle();
    assert_eq!(world.get("b", "n").as_deref(), Some("101"));
    assert_eq!(world.get("a", "n").as_deref(), Some("101"));
}

/// A log is not kept for a peer that has left.
#[test]
fn log_is_not_kept_for_a_peer_that_left() {
    let mut world = World::new(79);
    world.retention = Retention { age_ms: 1_000, bytes: 1 << 30, peers_ms: 3_600_000 };
    ["a", "b", "c"].into_iter().for_each(|name| world.add(name));
    world.connect("a", "b");
    world.connect("a", "c");
    world.connect("b", "c");
    world.write("a", set("k", "v"));
    world.run(15_000);
    let peer = world.peer("c");
    leave(&mut world, "c");
    (0..20).for_each(|n| world.write("a", set("k", &n.to_string())));
    world.run(40_000);
    let log = world.report("a").log;
    assert_ne!(log.kept, Some(Kept::For(peer)));
    assert!(log.records <= 2, "{log:?}");
}
