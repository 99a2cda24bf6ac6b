//! Snapshots of anchors while other things go wrong, and what clients' numbers promise. The names in brackets are those of
//! reference/raft.md, section 4.2.

use sim::World;
use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use tidelock_engine::bounds::{OUTCOMES_AT_ONCE, OUTCOMES_PER_CLIENT};
use tidelock_engine::id::ClientId;
use tidelock_engine::ports::LogIndex;
use tidelock_engine::replica::Terms;

use crate::strong::{ALL, ORDERS, ask_for, ends_well, followers, strong};

/// Three anchors that keep few entries, one of which was away for longer than those are kept.
fn with_one_away(seed: u64, replay: String) -> (World, String, &'static str) {
    let mut world = World::new(seed);
    world.replay = replay;
    world.keep_short_group_logs();
    world.add_members(&ALL, 3);
    world.found("a");
    world.all_vote(&ALL[..3]);
    world.make_strong("a", ORDERS);
    world.all_know(ORDERS);
    let leader = world.elected();
    let away = followers(&leader)[0];
    ask_for(&mut world, 16_000);
    world.kill(away);
    world.run(6_000);
    let group = world.group(&leader);
    assert!(group.purged > Some(LogIndex(20)), "{group:?}");
    (world, leader, away)
}

fn back(world: &mut World, name: &str) {
    if !world.node(name).is_running() {
        world.start(name);
    }
    ALL.iter().filter(|other| **other != name).for_each(|other| world.connect(name, other));
}

/// It has what only a snapshot could bring it, and makes frames itself again.
fn is_up_to_date(world: &mut World, name: &str) {
    world.until("it is brought up to date", 20_000, |world| {
        world.is_exact(name, ORDERS) && world.group(name).purged > Some(LogIndex(20))
    });
}

/// The leader dies while it sends a snapshot, at some moment of that; the next one sends its own (P03).
#[test]
fn leader_that_dies_while_it_sends_a_snapshot_is_stood_in_for() {
    at_seeds(|seed, replay| {
        for after_ms in [5, 40, 150] {
            let (mut world, leader, away) = with_one_away(seed, replay.clone());
            back(&mut world, away);
            world.run(after_ms);
            world.kill(&leader);
            world.run(1_500);
            back(&mut world, &leader);
            world.run(4_000);
            is_up_to_date(&mut world, away);
            ends_well(&mut world, &ALL);
        }
    });
}

/// A snapshot goes over a link that is slow, and that has room for few messages (P09).
#[test]
fn snapshot_goes_over_a_slow_link() {
    at_seeds(|seed, replay| {
        let (mut world, _, away) = with_one_away(seed, replay);
        world.worsen(|conditions| (conditions.delay_us, conditions.queue_max) = ((20_000, 90_000), 24));
        back(&mut world, away);
        world.run(8_000);
        is_up_to_date(&mut world, away);
        ends_well(&mut world, &ALL);
    });
}

/// A client asks again for what it asked for more operations ago than are remembered. It is not done again, and the client
/// is told that nobody remembers (C05).
#[test]
fn operation_that_fell_out_is_not_done_again() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let deed = Deed::Add(0, 5);
        let numbered = |number| Terms { operation: Some((ClientId([7; 16]), number)), ..Terms::default() };
        let first = world.request_on("guest", deed.request(ORDERS, 100), numbered(1));
        assert_eq!(world.read_told(deed, first), Told::Sum(5));
        let far = world.request_on(
            "a",
            deed.request(ORDERS, 100),
            numbered(1 + OUTCOMES_PER_CLIENT + OUTCOMES_AT_ONCE),
        );
        assert_eq!(world.read_told(deed, far), Told::Sum(10));
        for name in ALL {
            let again = world.request_on(name, deed.request(ORDERS, 100), numbered(1));
            assert!(again.is_err(), "{name}: {again:?}");
        }
        assert_eq!(world.deed("b", ORDERS, Deed::Get(0)), Told::Value(Some(10)));
        ends_well(&mut world, &ALL);
    });
}
