//! Elections and partitions on whole nodes. The names in brackets are those of reference/raft.md, section 4.2; those that
//! need no more than groups are played in `raft-mode/tests`.

use sim::World;
use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use tidelock_engine::replica::Terms;
use tidelock_engine::request::RequestError;

use crate::strong::{ALL, ORDERS, ask_for, back, ends_well, followers, strong};

/// The leader is killed, again and again, while clients ask everywhere. Another one leads soon, and nothing that was
/// acknowledged is lost (E04).
#[test]
fn killed_leaders_are_replaced() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 10_000);
        for _ in 0..3 {
            let leader = world.elected();
            world.kill(&leader);
            let killed_us = world.now_us();
            let before = leader.clone();
            world.until("another one leads", 3_000, |world| {
                world.leader().is_some_and(|leader| leader != before)
            });
            assert!(world.now_us() - killed_us < 2_000_000);
            world.run(1_000);
            back(&mut world, &leader);
            world.run(500);
        }
        world.run(3_000);
        ends_well(&mut world, &ALL);
    });
}

/// A leader that is cut off acknowledges nothing more and serves no read, while the others go on (E05).
#[test]
fn leader_that_is_cut_off_serves_nothing() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        assert_eq!(world.deed("a", ORDERS, Deed::Put(0, 1)), Told::Done);
        let leader = world.elected();
        let others: Vec<&str> = ALL.into_iter().filter(|name| *name != leader).collect();
        world.split(&[&leader], &others);
        let terms = Terms { within_ms: 4_000, ..Terms::default() };
        let write = world.ask_strong(&leader, Deed::Put(0, 2).request(ORDERS, 100), terms);
        let read = world.ask_strong(&leader, Deed::Get(0).request(ORDERS, 100), terms);
        let before = leader.clone();
        world
            .until("another one leads", 5_000, |world| world.leader().is_some_and(|leader| leader != before));
        let other = followers(&leader)[0];
        assert_eq!(world.deed(other, ORDERS, Deed::Swap(0, Some(1), 3)), Told::Did(true));
        let reply = world.reply_to(read);
        assert!(matches!(reply, Err(RequestError::NoLeader(_) | RequestError::TryAgain { .. })), "{reply:?}");
        let reply = world.reply_to(write);
        assert!(reply.is_err(), "{reply:?}");
        world.heal();
        ends_well(&mut world, &ALL);
    });
}

/// Of five anchors the leader and another one are cut off: the other three go on (E06).
#[test]
fn minority_of_five_serves_nothing() {
    at_seeds(|seed, replay| {
        let names = ["a", "b", "c", "d", "e"];
        let mut world = World::with_anchors(seed, &names, 5, ORDERS);
        world.replay = replay;
        let leader = world.elected();
        let (with, rest): (Vec<&str>, Vec<&str>) = {
            let others: Vec<&str> = names.into_iter().filter(|name| *name != leader).collect();
            (vec![&leader, others[0]], others[1..].to_vec())
        };
        world.split(&with, &rest);
        world.run(3_000);
        assert_eq!(world.deed(rest[0], ORDERS, Deed::Put(0, 1)), Told::Done);
        for name in &with {
            let reply = world.request_on(name, Deed::Get(0).request(ORDERS, 100), Terms::default());
            assert!(reply.is_err(), "{name}: {reply:?}");
        }
        world.heal();
        ends_well(&mut world, &names);
    });
}

/// A follower that was cut off comes back without a higher term, and the leader leads on (E07).
#[test]
fn follower_that_comes_back_deposes_nobody() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let leader = world.elected();
        let term = world.group(&leader).term;
        let away = followers(&leader)[0];
        let others: Vec<&str> = ALL.into_iter().filter(|name| *name != away).collect();
        world.split(&[away], &others);
        world.run(10_000);
        world.heal();
        world.run(5_000);
        ends_well(&mut world, &ALL);
        assert_eq!((world.elected(), world.group(&leader).term), (leader.clone(), term));
    });
}

/// Links break and heal all the time, at one node after the other, while clients ask (E16, E17).
#[test]
fn rolling_partitions() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 12_000);
        for round in 0..8 {
            let away = ALL[round % 4];
            let others: Vec<&str> = ALL.into_iter().filter(|name| *name != away).collect();
            if round % 2 == 0 {
                world.split(&[away], &others);
            } else {
                others.iter().for_each(|other| world.block(away, other));
            }
            world.run(1_200);
            world.heal();
            world.run(300);
        }
        ends_well(&mut world, &ALL);
        assert!(world.strong.clients.done > 20, "only {} were done", world.strong.clients.done);
    });
}

/// Nobody sees anybody for a while; then all go on (E18).
#[test]
fn all_are_cut_off_and_come_back() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 12_000);
        world.run(1_000);
        for (number, name) in ALL.iter().enumerate() {
            world.split(&[name], &ALL[number + 1..]);
        }
        world.run(8_000);
        world.heal();
        world.run(5_000);
        ends_well(&mut world, &ALL);
    });
}

/// A leader is stopped for half a minute. When it goes on, what it is asked at once is not answered from what it knew (K05,
/// K06).
#[test]
fn leader_that_was_stopped_reads_nothing_stale() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        assert_eq!(world.deed("guest", ORDERS, Deed::Put(0, 1)), Told::Done);
        let leader = world.elected();
        world.pause(&leader, 30_000);
        let other = followers(&leader)[0];
        world.run(5_000);
        assert_eq!(world.deed(other, ORDERS, Deed::Swap(0, Some(1), 2)), Told::Did(true));
        world.run_until(world.node(&leader).paused_until_us());
        let deed = Deed::Get(0);
        let reply = world.request_on(&leader, deed.request(ORDERS, 100), Terms::default());
        if reply.is_ok() {
            assert_eq!(world.read_told(deed, reply), Told::Value(Some(2)));
        }
        ends_well(&mut world, &ALL);
    });
}

/// Clocks jump by an hour, at the leader and at others: nothing depends on them but deadlines (K01, K02).
#[test]
fn clocks_that_jump_change_nothing() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 8_000);
        for ahead_ms in [3_600_000, -3_600_000, 0, 86_400_000] {
            let leader = world.elected();
            world.set_clock(&leader, ahead_ms);
            world.set_clock("guest", -ahead_ms);
            world.run(1_500);
        }
        world.run(3_000);
        ends_well(&mut world, &ALL);
        assert_eq!(world.strong.elections(), 1, "nobody was deposed");
    });
}
