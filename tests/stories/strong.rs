//! Strong keyspaces on whole nodes: openraft's tasks, the engine's turns and the real store, in one thread. What clients
//! are told, and what guests do. The names in brackets are those of reference/raft.md, section 4.2.

use sim::World;
use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use sim::words::set;
use tidelock_engine::id::ClientId;
use tidelock_engine::replica::Terms;
use tidelock_engine::request::{Action, RequestError};
use tidelock_engine::write::{Ttl, Write};

pub(crate) const ORDERS: &str = "orders";

/// Everybody in the world of most stories.
pub(crate) const ALL: [&str; 4] = ["a", "b", "c", "guest"];

/// Three anchors and a guest, and a keyspace that is strong and known to all.
pub(crate) fn strong(seed: u64, replay: String) -> World {
    let mut world = World::with_anchors(seed, &ALL, 3, ORDERS);
    world.replay = replay;
    world
}

/// The same with anchors that make a snapshot after so many bytes of log, and keep five entries behind it.
pub(crate) fn with_short_logs(seed: u64, replay: String, snapshot_bytes: u64) -> World {
    let mut world = World::new(seed);
    world.keep_group_logs(snapshot_bytes, 5);
    let mut world = founded(world, replay);
    world.make_strong("a", ORDERS);
    world.all_know(ORDERS);
    world
}

/// The same before any keyspace is strong.
fn not_strong_yet(seed: u64, replay: String) -> World {
    founded(World::new(seed), replay)
}

fn founded(mut world: World, replay: String) -> World {
    world.replay = replay;
    world.add_members(&ALL, 3);
    world.found("a");
    world.all_vote(&ALL[..3]);
    world
}

/// A node that may have ended starts again and dials all others.
pub(crate) fn back(world: &mut World, name: &str) {
    if !world.node(name).is_running() {
        world.start(name);
    }
    ALL.iter().filter(|other| **other != name).for_each(|other| world.connect(name, other));
}

/// Who does not lead, of the anchors.
pub(crate) fn followers(leader: &str) -> Vec<&'static str> {
    ["a", "b", "c"].into_iter().filter(|name| *name != leader).collect()
}

/// Clients at every node ask for a while.
pub(crate) fn ask_for(world: &mut World, ms: u64) {
    let end_us = world.now_us() + 1_000 * ms;
    world.keep_asking_strong(ORDERS, 8, 60, end_us);
}

/// In the end every node takes a write, all are equal, and what clients were told is linearizable.
pub(crate) fn ends_well(world: &mut World, names: &[&str]) {
    world.elected();
    world.serves_strong(ORDERS, names, 10_000);
    world.settle();
    world.judge_strong();
}

/// One node founds a group and is its only anchor; what it writes is there after a power cut (E03).
#[test]
fn only_anchor_keeps_what_it_acknowledged() {
    let mut world = World::with_anchors(1, &["a"], 1, ORDERS);
    assert_eq!(world.deed("a", ORDERS, Deed::Put(0, 7)), Told::Done);
    world.lose_power("a");
    world.start("a");
    world.elected();
    assert_eq!(world.deed("a", ORDERS, Deed::Get(0)), Told::Value(Some(7)));
}

/// Anchors and a guest write; each reads what all the others wrote before, and in the end all are equal (E01).
#[test]
fn anchors_and_guests_write_and_all_see_it() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        for (sum, name) in (1..).zip(ALL) {
            assert_eq!(world.deed(name, ORDERS, Deed::Add(0, 1)), Told::Sum(sum));
            for reader in ALL {
                assert_eq!(world.deed(reader, ORDERS, Deed::Get(0)), Told::Value(Some(sum)), "{reader}");
            }
        }
        world.settle();
        assert!(world.strong.executed() >= 4);
    });
}

/// Everybody wants a value to be theirs, at once: one of them gets it (C01).
#[test]
fn one_of_many_wins_a_swap() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        for round in 0..10 {
            let before = (round > 0).then_some(1_000 * round);
            let deed = Deed::Swap(0, before, 1_000 * (round + 1));
            let asked: Vec<_> = (0..16)
                .map(|number| world.ask_strong(ALL[number % 4], deed.request(ORDERS, 100), Terms::default()))
                .collect();
            let told: Vec<Told> = asked.into_iter().map(|id| world.told_of(id, deed)).collect();
            let won = told.iter().filter(|told| **told == Told::Did(true)).count();
            assert_eq!(won, 1, "{told:?}");
        }
    });
}

/// An operation is asked for twice under one number, at two nodes: it is done once, and both are told the same (C03, C04).
#[test]
fn operation_that_is_asked_for_again_is_done_once() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let deed = Deed::Add(0, 5);
        let terms = Terms { operation: Some((ClientId([7; 16]), 1)), ..Terms::default() };
        for name in ALL {
            let reply = world.request_on(name, deed.request(ORDERS, 100), terms);
            let told = world.read_told(deed, reply);
            assert_eq!(told, Told::Sum(5), "{name}");
        }
        assert_eq!(world.deed("guest", ORDERS, Deed::Get(0)), Told::Value(Some(5)));
        assert_eq!(world.strong.executed_of(ClientId([7; 16])), 1);
    });
}

/// The node that was asked dies before it answers. Asked again under its number, the operation is done once (C04).
#[test]
fn lost_answer_is_asked_for_elsewhere() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let deed = Deed::Add(0, 5);
        for number in 1..=5 {
            let terms = Terms { operation: Some((ClientId([7; 16]), number)), ..Terms::default() };
            world.ask_strong("guest", deed.request(ORDERS, 100), terms);
            world.run(10 * number);
            world.kill("guest");
            let reply = world.request_on("b", deed.request(ORDERS, 100), terms);
            let sum = i64::try_from(5 * number).expect("it is small");
            assert_eq!(world.read_told(deed, reply), Told::Sum(sum));
            back(&mut world, "guest");
            world.run(500);
        }
        world.settle();
        assert_eq!(world.strong.executed_of(ClientId([7; 16])), 5);
    });
}

/// A guest that was away while a keyspace became strong wrote there. It keeps what it acknowledged, shows it to nobody as
/// strong, also after a restart, and what it writes from then on is strong.
#[test]
fn guest_that_had_not_heard_of_it_keeps_its_writes_apart() {
    at_seeds(|seed, replay| {
        let mut world = not_strong_yet(seed, replay);
        world.split(&["guest"], &["a", "b", "c"]);
        world.make_strong("a", ORDERS);
        assert_eq!(world.deed("guest", ORDERS, Deed::Put(0, 1)), Told::Done);
        assert_eq!(world.deed("b", ORDERS, Deed::Put(0, 2)), Told::Done);
        world.heal();
        world.all_know(ORDERS);
        let kept = |world: &World| world.outbox("guest", ORDERS);
        world.until("what it wrote is in the outbox", 5_000, |world| kept(world) == 1);
        for name in ALL {
            assert_eq!(world.deed(name, ORDERS, Deed::Get(0)), Told::Value(Some(2)), "{name}");
        }
        world.kill("guest");
        back(&mut world, "guest");
        world.run(2_000);
        assert_eq!(kept(&world), 1);
        assert_eq!(world.deed("guest", ORDERS, Deed::Swap(0, Some(2), 3)), Told::Did(true));
        assert_eq!(world.deed("c", ORDERS, Deed::Get(0)), Told::Value(Some(3)));
        assert_eq!(kept(&world), 1);
    });
}

/// While a keyspace becomes strong, whoever knows of it acknowledges nothing in the epoch that ends.
#[test]
fn fenced_nodes_acknowledge_nothing() {
    at_seeds(|seed, replay| {
        let mut world = not_strong_yet(seed, replay);
        let mut refused = 0;
        for number in 0..20 {
            let keyspace = format!("orders-{number}");
            world.watch_strong(&keyspace);
            let order = world.order("a", &keyspace, tidelock_engine::replica::Order::MakeStrong);
            for _ in 0..60 {
                world.run(1);
                for name in ALL {
                    if world.is_fenced(name, &keyspace) {
                        let action = Action::Write(set("k", name));
                        let reply = world.request_strong(name, &keyspace, vec![action]);
                        assert!(matches!(reply, Err(RequestError::SwitchInProgress(_))), "{name}: {reply:?}");
                        refused += 1;
                    }
                }
            }
            world.until("the order ends", 20_000, |world| world.orders.contains_key(&order));
            world.orders.remove(&order).expect("it has ended").expect("nobody wrote");
        }
        assert!(refused > 20, "only {refused} were refused");
    });
}

/// Whoever joins late gets the mode and all that was written.
#[test]
fn guest_that_comes_late_gets_everything() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        for sum in 1..=20 {
            assert_eq!(world.deed("a", ORDERS, Deed::Add(0, 1)), Told::Sum(sum));
        }
        world.add("late");
        world.connect("late", "guest");
        world.connect("late", "b");
        world.all_know(ORDERS);
        // It hands on to anchors that it is connected with, and looks for them.
        world.serves_strong(ORDERS, &["late"], 10_000);
        assert_eq!(world.deed("late", ORDERS, Deed::Add(1, 1)), Told::Sum(1));
        world.settle();
    });
}

/// A key expires by the log and not by anybody's clock: at the same place everywhere, also when another anchor leads by then
/// (C11, K07).
#[test]
fn key_expires_at_one_place_in_the_log() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        world.set_clock("b", 3_600_000);
        world.set_clock("guest", -3_600_000);
        let now_ms = world.node("a").clock.unix_ms(world.now_us());
        let write =
            Write::SetFor { key: b"c100-0".to_vec(), value: b"1".to_vec(), ttl: Ttl::Until(now_ms + 3_000) };
        world.request_strong("c", ORDERS, vec![Action::Write(write)]).expect("it is done");
        let leader = world.elected();
        world.kill(&leader);
        world.run(10_000);
        back(&mut world, &leader);
        ends_well(&mut world, &["b", "c", "guest"]);
        // The cell of stories was written to since.
        assert_eq!(world.deed("guest", ORDERS, Deed::Get(1)), Told::Value(None));
    });
}

/// Clocks jump by ten years. What was executed before is not forgotten for that: asked for again, it is not done again.
#[test]
fn clocks_that_jump_forget_no_outcome() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let deed = Deed::Add(0, 5);
        let terms = Terms { operation: Some((ClientId([7; 16]), 1)), ..Terms::default() };
        let reply = world.request_on("guest", deed.request(ORDERS, 100), terms);
        assert_eq!(world.read_told(deed, reply), Told::Sum(5));
        for name in ALL {
            world.set_clock(name, 10 * 365 * 86_400_000);
        }
        assert_eq!(world.deed("a", ORDERS, Deed::Put(1, 1)), Told::Done);
        world.run(130_000);
        assert_eq!(world.deed("a", ORDERS, Deed::Put(1, 2)), Told::Done);
        let reply = world.request_on("b", deed.request(ORDERS, 100), terms);
        assert_eq!(world.read_told(deed, reply), Told::Sum(5));
        assert_eq!(world.deed("c", ORDERS, Deed::Get(0)), Told::Value(Some(5)));
    });
}
