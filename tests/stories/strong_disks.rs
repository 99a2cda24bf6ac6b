//! Crashes and disks of anchors, on the real store. The names in brackets are those of reference/raft.md, section 4.2.

use sim::campaign::at_seeds;
use sim::strong::deeds::{Deed, Told};
use tidelock_store::{Disk, Faults};

use crate::strong::{ALL, ORDERS, ask_for, back, ends_well, followers, strong};

/// The power of all goes at once, again and again, while clients ask (D01, D02, D03, D14).
#[test]
fn power_of_all_goes() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 20_000);
        for _ in 0..4 {
            world.elected();
            world.run(1_500);
            ALL.iter().for_each(|name| world.lose_power(name));
            world.run(200);
            ALL.iter().for_each(|name| back(&mut world, name));
        }
        world.run(3_000);
        ends_well(&mut world, &ALL);
        assert!(world.strong.clients.done > 20, "only {} were done", world.strong.clients.done);
    });
}

/// Power goes between any two changes to the disk of one anchor after the other: in the middle of writing entries, votes,
/// what they did and how far they are applied; sectors are torn (D05, D06, D21, D22).
#[test]
fn power_goes_at_any_change_to_the_disk() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 60_000);
        let mut cuts = 0;
        for change in 0..24 {
            let name = ["a", "b", "c"][usize::try_from(change % 3).expect("it is small")];
            world.plan_power_cut(name, change / 2);
            world.until("the power goes", 30_000, |world| !world.node(name).is_running());
            cuts += 1;
            back(&mut world, name);
            world.run(900);
        }
        ends_well(&mut world, &ALL);
        assert_eq!(cuts, 24);
    });
}

/// A sync of the leader fails. It stops, acknowledges nothing more, and the others go on; started again it is brought up to
/// date (D08).
#[test]
fn failed_sync_ends_an_anchor_until_it_starts_again() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 10_000);
        world.run(500);
        let leader = world.elected();
        world.node(&leader).disk().set_faults(Faults { syncs_until_error: Some(1), ..Faults::default() });
        let before = leader.clone();
        world
            .until("another one leads", 5_000, |world| world.leader().is_some_and(|leader| leader != before));
        world.run(2_000);
        world.lose_power(&leader);
        back(&mut world, &leader);
        world.run(5_000);
        ends_well(&mut world, &ALL);
    });
}

/// The disk of the leader is full. Another one leads; when there is room again the first takes part again: by itself, or
/// after a restart if something is in memory that was not on disk (D09).
#[test]
fn anchor_with_a_full_disk_takes_part_again() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 12_000);
        world.run(500);
        let leader = world.elected();
        world.node(&leader).disk().set_faults(Faults { bytes_until_full: Some(0), ..Faults::default() });
        let before = leader.clone();
        world
            .until("another one leads", 5_000, |world| world.leader().is_some_and(|leader| leader != before));
        world.run(2_000);
        world.node(&leader).disk().set_faults(Faults::default());
        if !world.has_room_again(&leader) {
            world.restart(&leader);
        }
        back(&mut world, &leader);
        world.run(8_000);
        ends_well(&mut world, &ALL);
    });
}

/// A process is stopped for ten seconds, as if its disk stalled; then it goes on (D13).
#[test]
fn stalled_anchor_goes_on() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 25_000);
        for _ in 0..2 {
            world.run(500);
            let leader = world.elected();
            world.pause(&leader, 10_000);
            world.run(11_000);
        }
        world.run(3_000);
        ends_well(&mut world, &ALL);
    });
}

/// An anchor's disk is replaced by an empty one. It comes back as a guest that has everything, and the group, which it does
/// not hold up, makes it an anchor again under another number (D16, D17).
#[test]
fn anchor_with_an_empty_disk_comes_back_as_another() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 8_000);
        world.run(2_000);
        let leader = world.elected();
        let wiped = followers(&leader)[0];
        let was = world.anchor(wiped);
        world.kill(wiped);
        world.wipe(wiped);
        back(&mut world, wiped);
        assert_eq!(world.anchor(wiped), None);
        world.all_know(ORDERS);
        world.all_vote(&ALL[..3]);
        assert_ne!(world.anchor(wiped), was);
        world.run(6_000);
        ends_well(&mut world, &ALL);
    });
}

/// The rows of an anchor are lost, and its log is not: it makes them again, and makes frames again.
#[test]
fn anchor_whose_rows_are_lost_makes_them_again_from_its_log() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        ask_for(&mut world, 6_000);
        world.run(3_000);
        let leader = world.elected();
        let struck = followers(&leader)[0];
        world.kill(struck);
        world.node(struck).disk().remove("rows.redb").expect("it is there");
        back(&mut world, struck);
        world.until("it makes frames", 10_000, |world| world.is_exact(struck, ORDERS));
        world.run(4_000);
        ends_well(&mut world, &ALL);
    });
}

/// An anchor is started on a copy of its disk from before. It is another replica there, and votes for nobody (D18).
#[test]
fn anchor_on_an_old_copy_of_its_disk_votes_for_nobody() {
    at_seeds(|seed, replay| {
        let mut world = strong(seed, replay);
        let leader = world.elected();
        let copied = followers(&leader)[0];
        let was = world.anchor(copied);
        world.kill(copied);
        let copy = world.node(copied).disk().copied();
        back(&mut world, copied);
        world.run(1_000);
        assert_eq!(world.deed(copied, ORDERS, Deed::Put(0, 1)), Told::Done);
        world.kill(copied);
        world.put_back(copied, copy);
        back(&mut world, copied);
        world.run(1_000);
        assert_ne!(world.anchor(copied), was);
        assert_eq!(world.deed(copied, ORDERS, Deed::Get(0)), Told::Value(Some(1)));
        ends_well(&mut world, &ALL);
    });
}

/// A bit of an anchor's log turns while it is down: that is found when it opens, or does no harm (D07).
#[test]
fn turned_bit_in_an_anchors_log_is_found_or_harmless() {
    let mut found = 0;
    for seed in 0..8 {
        let mut world = strong(seed, String::new());
        ask_for(&mut world, 3_000);
        world.run(3_500);
        let leader = world.elected();
        let struck = followers(&leader)[0];
        world.kill(struck);
        let disk = world.node(struck).disk().clone();
        let byte = world.random.next() % disk.size("log.redb");
        disk.flip_bit("log.redb", byte, 3);
        world.damage(struck);
        let index = world.index_of(struck);
        if world.try_start(index).is_err() {
            found += 1;
            world.wipe(struck);
            world.start(struck);
        }
        back(&mut world, struck);
        world.all_know(ORDERS);
        ends_well(&mut world, &ALL);
    }
    println!("{found} of 8 were found");
}
