//! Decisions: which nodes make them, and what becomes of two that are made at the same time.

use sim::World;
use sim::words::set;
use sim::world::NOTES;
use tidelock_engine::condition::Condition;
use tidelock_engine::ports::Conditional;
use tidelock_engine::replica::Order;
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Decision};

/// Takes a lock if nobody has it; answers whether it was taken, or `None` if the node may not decide.
fn take(world: &mut World, name: &str) -> Option<bool> {
    let decision = Decision {
        conditions: vec![Condition::Missing(b"lock".to_vec())],
        actions: vec![Action::Write(set("lock", name))],
        is_whole: true,
        ..Decision::default()
    };
    let actions = vec![Action::Decide(Box::new(decision))];
    let mut replies = world.request(name, NOTES, Atomicity::Each, actions).expect("it is executed");
    match replies.pop().expect("one action, one reply") {
        Ok(ActionReply::Decided(decided)) => Some(decided.given.is_some()),
        Err(ActionError::NeedsStrong(keyspace)) if keyspace.as_str() == NOTES => None,
        other => panic!("{other:?}"),
    }
}

fn order(world: &mut World, name: &str, conditional: Option<Conditional>) {
    world.order_and_wait(name, NOTES, Order::Conditional(conditional)).expect("it is taken");
}

/// A node decides once it was told to, also after it lost power, and its peer does not.
#[test]
fn node_that_may_decide_remembers_it_and_its_peers_may_not() {
    let mut world = World::connected(90, &["a", "b"]);
    assert_eq!(take(&mut world, "a"), None);
    order(&mut world, "a", Some(Conditional::Local));
    world.lose_power("a");
    world.start("a");
    assert_eq!(take(&mut world, "a"), Some(true));
    assert_eq!(take(&mut world, "a"), Some(false));
    world.settle();
    assert_eq!((take(&mut world, "b"), world.get("b", "lock").as_deref()), (None, Some("a")));
    assert_eq!(world.report("a").keyspaces[0].conditional, Conditional::Local);
    order(&mut world, "a", None);
    assert_eq!(take(&mut world, "a"), None);
}

/// What the config says counts where nothing was said at run time.
#[test]
fn config_lets_a_node_decide_until_it_is_told_otherwise() {
    let mut world = World::new(91);
    world.add_with("a", |node| node.config.conditional = Conditional::Local);
    assert_eq!(take(&mut world, "a"), Some(true));
    order(&mut world, "a", Some(Conditional::Strong));
    world.restart("a");
    assert_eq!(take(&mut world, "a"), None);
}

/// Two nodes that are apart both take the lock. When they meet they agree who has it, and that there was another.
#[test]
fn decisions_on_both_sides_of_a_partition_both_succeed_and_converge() {
    let mut world = World::connected(92, &["a", "b"]);
    for name in ["a", "b"] {
        order(&mut world, name, Some(Conditional::Local));
    }
    world.partition("a", "b");
    assert_eq!((take(&mut world, "a"), take(&mut world, "b")), (Some(true), Some(true)));
    world.heal();
    world.settle();
    let winner = world.get("a", "lock");
    assert!(winner.is_some() && winner == world.get("b", "lock"));
    assert_eq!((take(&mut world, "a"), take(&mut world, "b")), (Some(false), Some(false)));
}
