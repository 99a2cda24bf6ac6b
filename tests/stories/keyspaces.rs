//! Which keyspaces two nodes share, and whom a node does not talk to at all.

use sim::World;
use sim::words::{set, text};
use sim::world::named;
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::ClusterId;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Replicate;
use tidelock_engine::request::{Action, Atomicity, RequestError};

fn write_in(world: &mut World, node: &str, keyspace: &str, value: &str) {
    let action = vec![Action::Write(set("k", value))];
    world.request(node, keyspace, Atomicity::Each, action).expect("it is executed");
}

fn read_in(world: &mut World, node: &str, keyspace: &str) -> Option<String> {
    match world.query_in(node, keyspace, Query::Get("k".into())) {
        Answer::Value(value) => value.map(|value| text(&value)),
        other => panic!("{other:?}"),
    }
}

fn only(names: &[&str]) -> Replicate {
    Replicate::Only(names.iter().map(|name| named(name)).collect())
}

/// A phone replicates one keyspace of many.
#[test]
fn node_takes_only_the_keyspaces_it_was_told() {
    let mut world = World::new(60);
    world.add("server");
    world.add_with("phone", |node| node.config.replicate = only(&["notes"]));
    write_in(&mut world, "server", "notes", "shared");
    write_in(&mut world, "server", "secrets", "not shared");
    world.connect("phone", "server");
    world.run(2_000);
    assert_eq!(read_in(&mut world, "phone", "notes").as_deref(), Some("shared"));
    assert_eq!(world.report("phone").keyspaces.len(), 1);
    let write = vec![Action::Write(set("k", "v"))];
    let reply = world.request("phone", "secrets", Atomicity::Each, write);
    assert!(matches!(reply, Err(RequestError::NotReplicated(_))), "{reply:?}");
    let read = vec![Action::Query(Query::Get("k".into()))];
    let reply = world.request("phone", "secrets", Atomicity::Each, read);
    assert!(
        matches!(reply, Err(RequestError::NotReplicated(_))),
        "an empty answer would be a lie: {reply:?}"
    );
}

/// A keyspace is made on either side of a session that is up.
#[test]
fn keyspace_made_later_is_shared_at_once() {
    let mut world = World::new(61);
    world.add("server");
    world.add_with("phone", |node| node.config.replicate = only(&["notes", "photos"]));
    world.connect("phone", "server");
    world.run(1_000);
    write_in(&mut world, "server", "photos", "from the server");
    write_in(&mut world, "phone", "notes", "from the phone");
    world.run(500);
    assert_eq!(read_in(&mut world, "phone", "photos").as_deref(), Some("from the server"));
    assert_eq!(read_in(&mut world, "server", "notes").as_deref(), Some("from the phone"));
}

/// Two nodes that create the same name offline have created the same keyspace.
#[test]
fn same_name_made_apart_is_one_keyspace() {
    let mut world = World::new(62);
    world.add("a");
    world.add("b");
    write_in(&mut world, "a", "notes", "from a");
    write_in(&mut world, "b", "other", "from b");
    world.connect("a", "b");
    world.settle();
    assert_eq!(read_in(&mut world, "b", "notes").as_deref(), Some("from a"));
    assert_eq!(read_in(&mut world, "a", "other").as_deref(), Some("from b"));
}

/// Nodes of two clusters meet: they say why they part.
#[test]
fn node_of_another_cluster_is_refused_with_a_reason() {
    let mut world = World::new(63);
    world.add("a");
    world.add_with("b", |node| node.config.cluster = ClusterId::named("another"));
    world.count_by_name();
    world.connect("a", "b");
    world.run(1_000);
    assert!(!world.is_linked("a", "b"));
    assert_eq!(world.counter("a", "refused_other_cluster"), 1);
    assert_eq!(world.counter("b", "refused_other_cluster"), 1);
    assert!(world.sent("goodbye") >= 1);
}

/// A node shows the card of another key.
#[test]
fn card_of_another_key_is_refused() {
    let mut world = World::new(64);
    world.add("a");
    world.add_with("b", |node| node.card_key = SigningKey::from_seed([99; 32]));
    world.connect("a", "b");
    world.run(1_000);
    assert!(!world.is_linked("a", "b"));
    assert_eq!(world.counter("a", "refused_wrong_card"), 1);
    assert!(world.counter("b", "goodbyes") >= 1);
}
