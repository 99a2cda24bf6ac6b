//! Snapshots of anchors while other things go wrong, and what clients' numbers promise. The names in brackets are those of
//! reference/raft.md, section 4.2.

use sim::World;
use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use tidelock_engine::bounds::{OUTCOMES_AT_ONCE, OUTCOMES_PER_CLIENT};
use tidelock_engine::id::ClientId;
use tidelock_engine::ports::LogIndex;
use tidelock_engine::replica::Terms;
use tidelock_engine::request::{RequestError, RequestReply};

use crate::strong::{ALL, ORDERS, ask_for, back, ends_well, followers, strong, with_short_logs};

/// After so many bytes of log anchors make a snapshot: some entries of clients.
const SNAPSHOT_BYTES: u64 = 2_000;

/// Three anchors that keep few entries, one of which was away for longer than those are kept.
fn with_one_away(seed: u64, replay: String) -> (World, String, &'static str) {
    let mut world = with_short_logs(seed, replay, SNAPSHOT_BYTES);
    let leader = world.elected();
    let away = followers(&leader)[0];
    ask_for(&mut world, 16_000);
    world.kill(away);
    world.run(6_000);
    let group = world.group(&leader);
    assert!(group.purged > Some(LogIndex(20)), "{group:?}");
    (world, leader, away)
}

/// It has what only a snapshot could bring it, and makes frames itself again.
fn is_up_to_date(world: &mut World, name: &str) {
    world.until("it is brought up to date", 20_000, |world| {
        world.is_exact(name, ORDERS) && world.group(name).purged > Some(LogIndex(20))
    });
}

/// A follower is away for longer than the log of the anchors is kept, and is brought up to date by a snapshot (P01, P04,
/// P11).
#[test]
fn anchor_that_was_away_is_brought_up_to_date_by_a_snapshot() {
    at_seeds(|seed, replay| {
        let (mut world, _, away) = with_one_away(seed, replay);
        back(&mut world, away);
        is_up_to_date(&mut world, away);
        ends_well(&mut world, &ALL);
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

/// Pieces of snapshots are damaged on their way. What proves who speaks lets nothing damaged pass: the connection breaks,
/// again and again, and in the end the snapshot goes over one that does not (P06).
#[test]
fn damaged_snapshot_is_sent_again() {
    at_seeds(|seed, replay| {
        let (mut world, leader, away) = with_one_away(seed, replay);
        world.worsen(|conditions| conditions.damaged_snapshots = 1_000);
        back(&mut world, away);
        world.until("pieces are damaged", 20_000, |world| world.befell("damaged pieces of snapshots") >= 3);
        assert!(world.group(away).applied < world.group(&leader).purged, "nothing of it was taken");
        world.worsen(|conditions| conditions.damaged_snapshots = 300);
        is_up_to_date(&mut world, away);
        ends_well(&mut world, &ALL);
    });
}

/// A leader is cut off while its clients wait for what it appended, and takes over a snapshot of the next one in place of
/// that. Who waits is told soon that nobody knows, or what came of it at the next leader, and nothing is done twice (P05).
#[test]
fn who_waits_at_a_leader_whose_log_is_replaced_is_answered() {
    at_seeds(|seed, replay| {
        let mut world = with_short_logs(seed, replay, SNAPSHOT_BYTES);
        ask_for(&mut world, 16_000);
        world.run(500);
        let leader = world.elected();
        let others: Vec<&str> = ALL.into_iter().filter(|name| *name != leader).collect();
        world.split(&[&leader], &others);
        let terms = Terms { within_ms: 60_000, ..Terms::default() };
        let mut asked = Vec::new();
        for _ in 0..6 {
            asked.push(world.ask_strong(&leader, Deed::Add(0, 1).request(ORDERS, 100), terms));
            world.run(30);
        }
        let appended = world.group(&leader).last;
        let next = |world: &World| world.leader().filter(|other| *other != leader);
        world.until("its log is gone", 12_000, |world| {
            next(world).is_some_and(|next| world.group(&next).purged > appended)
        });
        world.heal();
        let healed_us = world.now_us();
        let replies: Vec<RequestReply> = asked.into_iter().map(|id| world.reply_to(id)).collect();
        assert!(world.now_us() - healed_us < 15_000_000, "{replies:?}");
        let is_unknown = |reply: &&RequestReply| matches!(reply, Err(RequestError::Unknown(_)));
        let (unknown, done) = (replies.iter().filter(is_unknown).count(), replies.iter().flatten().count());
        assert!(unknown > 0, "nothing was appended: {replies:?}");
        let sum = world.deed("guest", ORDERS, Deed::Add(0, 0));
        let Told::Sum(sum) = sum else { panic!("{sum:?}") };
        let sum = usize::try_from(sum).expect("it was counted up");
        assert!((done..=done + unknown).contains(&sum), "{sum}: {replies:?}");
        ends_well(&mut world, &ALL);
    });
}

/// Anchors make a snapshot after every few entries, and let go of what it covers. The power of one after the other goes in
/// the middle of that (P07).
#[test]
fn power_goes_while_snapshots_are_made() {
    at_seeds(|seed, replay| {
        let mut world = with_short_logs(seed, replay, 400);
        ask_for(&mut world, 40_000);
        let mut purged = None;
        for change in 0..18 {
            let name = ["a", "b", "c"][usize::try_from(change % 3).expect("it is small")];
            let before = world.group(name).purged;
            world.until("it lets go of entries", 20_000, |world| world.group(name).purged > before);
            world.plan_power_cut(name, change / 3);
            world.until("the power goes", 20_000, |world| !world.node(name).is_running());
            back(&mut world, name);
            world.run(600);
            purged = purged.max(world.group(name).purged);
        }
        assert!(purged > Some(LogIndex(60)), "{purged:?}");
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
