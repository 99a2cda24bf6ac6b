//! Anchors come and go on whole nodes. The names in brackets are those of reference/raft.md, section 4.2; those that need no
//! more than groups are played in `raft-mode/tests`.

use std::collections::BTreeSet;

use sim::World;
use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use tidelock_engine::ports::{AnchorId, LogIndex};
use tidelock_engine::replica::{AnchorOrder, Input};
use tidelock_engine::request::RequestId;

use crate::strong::{ORDERS, ask_for, ends_well};

/// Four who are willing, of whom three are wanted.
const FOUR: [&str; 4] = ["a", "b", "c", "d"];

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Three anchors, one more who would be one, and clients who ask for a while.
fn with_a_spare(seed: u64, replay: String) -> World {
    spared(World::new(seed), replay)
}

fn spared(mut world: World, replay: String) -> World {
    world.replay = replay;
    FOUR.iter().for_each(|name| world.add_with(name, |node| node.config.anchors_target = 3));
    for (number, name) in FOUR.iter().enumerate() {
        FOUR[number + 1..].iter().for_each(|other| world.connect(name, other));
    }
    world.run(1_000);
    world.found("a");
    world.until("three vote", 60_000, |world| voters(world).len() == 3);
    world.make_strong("a", ORDERS);
    world.all_know(ORDERS);
    ask_for(&mut world, 10_000);
    world.run(500);
    world
}

/// Who of the four votes, as the leader says; nobody while there is none, or while the group passes from one set to another.
fn voters(world: &World) -> BTreeSet<&'static str> {
    voters_of(world, &FOUR)
}

fn voters_of(world: &World, names: &[&'static str]) -> BTreeSet<&'static str> {
    let Some(leader) = world.leader() else { return BTreeSet::new() };
    let [voters] = &world.group(&leader).membership.voters[..] else { return BTreeSet::new() };
    let is_one = |name: &&str| world.node(name).is_running() && is_in(world, name, voters);
    names.iter().copied().filter(is_one).collect()
}

fn is_in(world: &World, name: &str, anchors: &BTreeSet<AnchorId>) -> bool {
    world.anchor(name).is_some_and(|anchor| anchors.contains(&anchor))
}

/// A voter who does not lead, the leader, and who is no anchor yet.
fn parts(world: &mut World) -> (String, &'static str, &'static str) {
    let leader = world.elected();
    let voters = voters(world);
    let follower = voters.iter().find(|name| **name != leader).expect("three vote");
    let spare = FOUR.into_iter().find(|name| !voters.contains(name)).expect("three of four vote");
    (leader, follower, spare)
}

/// Orders something, and does not wait.
fn order(world: &mut World, name: &str, number: u64, order: AnchorOrder) {
    world.input(name, Input::Govern(RequestId(1_000_000_000 + number), order));
}

fn rejoin(world: &mut World, names: &[&str], name: &str) {
    if !world.node(name).is_running() {
        world.start(name);
    }
    names.iter().filter(|other| **other != name).for_each(|other| world.connect(name, other));
}

/// An anchor that is cut off is removed, and another takes its place meanwhile. When it can be reached again it has no vote
/// and does no harm (M03, M05).
#[test]
fn anchor_that_is_cut_off_is_replaced() {
    at_seeds(|seed, replay| {
        let mut world = with_a_spare(seed, replay);
        let (leader, away, spare) = parts(&mut world);
        let gone = world.anchor(away).expect("it votes");
        let others: Vec<&str> = FOUR.into_iter().filter(|name| *name != away).collect();
        world.split(&[away], &others);
        assert_eq!(world.govern(&leader, AnchorOrder::Remove(vec![gone])), Ok(()));
        world.until("the spare votes", 10_000, |world| voters(world).contains(spare));
        assert!(!world.group(&leader).membership.is_voter(gone));
        world.run(3_000);
        world.heal();
        world.run(5_000);
        assert!(!voters(&world).contains(away), "{:?}", voters(&world));
        ends_well(&mut world, &FOUR);
    });
}

/// The leader orders that a follower be removed, which the spare is to replace; answers who leads, and who is the spare.
fn begin_to_replace(world: &mut World) -> (String, &'static str) {
    let (leader, removed, spare) = parts(world);
    let gone = world.anchor(removed).expect("it votes");
    order(world, &leader, 1, AnchorOrder::Remove(vec![gone]));
    (leader, spare)
}

/// The change ends one way or the other, with three voters.
fn change_ends_well(world: &mut World) {
    world.elected();
    world.until("three vote", 30_000, |world| voters(world).len() == 3);
    world.run(4_000);
    ends_well(world, &FOUR);
}

/// The leader dies while an anchor is replaced, at some moment of that. Whoever leads next ends what was begun, one way or
/// the other (M07).
#[test]
fn leader_that_dies_in_a_change_of_members_leaves_one_set_of_voters() {
    at_seeds(|seed, replay| {
        for after_ms in [20, 150] {
            let mut world = with_a_spare(seed, replay.clone());
            let (leader, _) = begin_to_replace(&mut world);
            world.run(after_ms);
            world.kill(&leader);
            world.run(3_000);
            rejoin(&mut world, &FOUR, &leader);
            change_ends_well(&mut world);
        }
    });
}

/// Who is to take the place of an anchor dies in the middle of that. The others go on, and it votes once it is back (M08).
#[test]
fn newcomer_that_dies_in_a_change_of_members_holds_up_nobody() {
    at_seeds(|seed, replay| {
        let mut world = with_a_spare(seed, replay);
        let (_, spare) = begin_to_replace(&mut world);
        world.run(60);
        world.kill(spare);
        let others: Vec<&str> = FOUR.into_iter().filter(|name| *name != spare).collect();
        world.serves_strong(ORDERS, &others, 5_000);
        world.run(2_000);
        rejoin(&mut world, &FOUR, spare);
        change_ends_well(&mut world);
    });
}

/// A follower needs a snapshot, over a link that is slow, while the other one is replaced. In the end both the one that was
/// away and the one that is new vote, and make frames (P08).
#[test]
fn snapshot_and_change_of_members_do_not_hinder_each_other() {
    at_seeds(|seed, replay| {
        let mut world = World::new(seed);
        world.keep_group_logs(2_000, 5);
        let mut world = spared(world, replay);
        let (leader, away, spare) = parts(&mut world);
        let removed = voters(&world).into_iter().find(|name| *name != leader && *name != away);
        let removed = removed.expect("three vote");
        world.kill(away);
        world.run(6_000);
        assert!(world.group(&leader).purged > Some(LogIndex(20)));
        world.worsen(|conditions| conditions.delay_us = (20_000, 60_000));
        rejoin(&mut world, &FOUR, away);
        let gone = world.anchor(removed).expect("it votes");
        assert_eq!(world.govern(&leader, AnchorOrder::Remove(vec![gone])), Ok(()));
        world.until("the spare votes", 60_000, |world| {
            let voters = voters(world);
            voters.len() == 3 && voters.contains(away) && voters.contains(spare)
        });
        world.until("both make frames", 20_000, |world| {
            [away, spare].iter().all(|name| world.is_exact(name, ORDERS))
        });
        assert!(world.group(away).purged > Some(LogIndex(20)));
        ends_well(&mut world, &FOUR);
    });
}

/// Two operators remove an anchor each at the same time, at two nodes. There is one who could take a place: never are there
/// two voters, and in the end there are three (M09).
#[test]
fn changes_of_members_come_one_after_the_other() {
    at_seeds(|seed, replay| {
        let mut world = with_a_spare(seed, replay);
        let leader = world.elected();
        let followers: Vec<&str> = voters(&world).into_iter().filter(|name| *name != leader).collect();
        for (number, name) in (1..).zip(&followers) {
            let gone = world.anchor(name).expect("it votes");
            let other = followers[2 - usize::try_from(number).expect("two")];
            order(&mut world, other, number, AnchorOrder::Remove(vec![gone]));
        }
        for _ in 0..300 {
            world.run(20);
            let sizes = world.leader().map(|leader| world.group(&leader).membership.voters.clone());
            let is_odd = sizes.iter().flatten().all(|voters| voters.len() % 2 == 1);
            assert!(is_odd, "{sizes:?}");
        }
        world.until("three vote", 60_000, |world| voters(world).len() == 3);
        ends_well(&mut world, &FOUR);
    });
}

/// Five anchors become three, one, and three again, while clients ask (M10, M17).
#[test]
fn group_shrinks_to_one_and_grows_again() {
    at_seeds(|seed, replay| {
        let mut world = World::with_anchors(seed, &FIVE, 5, ORDERS);
        world.replay = replay;
        ask_for(&mut world, 8_000);
        world.run(500);
        let mut peers = Vec::new();
        for left in [3, 1] {
            let leader = world.elected();
            let others: Vec<&str> =
                voters_of(&world, &FIVE).into_iter().filter(|name| *name != leader).collect();
            let gone = others[..2].iter().map(|name| world.anchor(name).expect("it votes")).collect();
            peers = others[..2].iter().map(|name| world.peer(name)).collect();
            assert_eq!(world.govern(&leader, AnchorOrder::Remove(gone)), Ok(()));
            world.until("they vote no more", 10_000, |world| voters_of(world, &FIVE).len() == left);
            // Nobody is invited who was sent away.
            world.run(4_000);
            assert_eq!(voters_of(&world, &FIVE).len(), left);
            world.serves_strong(ORDERS, &FIVE, 5_000);
        }
        let leader = world.elected();
        for peer in peers {
            assert_eq!(world.govern(&leader, AnchorOrder::Add(peer)), Ok(()));
        }
        world.until("three vote", 60_000, |world| voters_of(world, &FIVE).len() >= 3);
        world.run(4_000);
        ends_well(&mut world, &FIVE);
    });
}

/// Who is to lead has been stopped, and lacks what was written since. Either it leads once it has that, or the order is
/// refused; nothing is lost (M13).
#[test]
fn leader_hands_over_to_nobody_that_lags() {
    at_seeds(|seed, replay| {
        let mut world = with_a_spare(seed, replay);
        let (leader, lagging, _) = parts(&mut world);
        let to = world.anchor(lagging).expect("it votes");
        world.pause(lagging, 4_000);
        world.run(2_000);
        assert_eq!(world.deed(&leader, ORDERS, Deed::Put(0, 1)), Told::Done);
        let reply = world.govern(&leader, AnchorOrder::Transfer(to));
        world.run(4_000);
        if reply.is_ok() {
            world.until("it leads", 5_000, |world| world.leader().as_deref() == Some(lagging));
        }
        let other = world.elected();
        assert_eq!(world.deed(&other, ORDERS, Deed::Get(0)), Told::Value(Some(1)));
        ends_well(&mut world, &FOUR);
    });
}

/// Of five anchors two and two see each other only by way of the fifth. A majority has a leader and serves (E14).
#[test]
fn bridge_between_two_sides_keeps_a_majority() {
    at_seeds(|seed, replay| {
        let mut world = World::with_anchors(seed, &FIVE, 5, ORDERS);
        world.replay = replay;
        ask_for(&mut world, 10_000);
        world.run(500);
        world.split(&["a", "b"], &["d", "e"]);
        world.run(3_000);
        // Who leads has the middle on its side.
        world.serves_strong(ORDERS, &["c"], 8_000);
        assert_eq!(world.deed("c", ORDERS, Deed::Add(1, 1)), Told::Sum(1));
        world.heal();
        world.run(3_000);
        ends_well(&mut world, &FIVE);
    });
}

/// Messages take longer than an election waits for them. Nothing is promised meanwhile that does not hold, and afterwards
/// all goes on (E20).
#[test]
fn links_slower_than_elections_break_no_promise() {
    at_seeds(|seed, replay| {
        let mut world = with_a_spare(seed, replay);
        let before = world.strong.elections();
        world.worsen(|conditions| conditions.delay_us = (700_000, 1_500_000));
        world.run(8_000);
        assert!(world.strong.elections() > before || world.strong.clients.denied > 0, "nobody noticed");
        world.worsen(|conditions| conditions.delay_us = (100, 2_000));
        world.run(5_000);
        ends_well(&mut world, &FOUR);
    });
}
