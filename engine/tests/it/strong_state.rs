//! State of strong keyspaces that is taken over, and anchors that come late: from whom they take it, and when they stand
//! where the log does.

use tidelock_engine::causality::Hlc;
use tidelock_engine::command::Command;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::Epoch;
use tidelock_engine::ports::Log as _;
use tidelock_engine::replica::Terms;
use tidelock_engine::write::{Outcome, Ttl, Write};

use crate::world::group::Group;
use crate::world::replies::{get, outcome, value, write};
use crate::world::words::set;
use crate::world::{NOTES, START_MS, keyspace_id};

/// A group whose keyspace holds rows of which nobody has the frames any more.
fn below_the_floor(anchors: usize, guests: usize) -> Group {
    let mut group = Group::strong(anchors, guests);
    for number in 0..40 {
        group.ask(0, write(set(&format!("k{number}"), "v")), Terms::default());
    }
    group.settle(3);
    (0..anchors + guests).for_each(|index| group.forget_log(index));
    group
}

fn is_like_the_others(group: &mut Group, index: usize) {
    assert!(group.is_exact(index), "{:?}", group.mode(index));
    assert_eq!(group.fingerprint(index), group.fingerprint(0));
    assert_eq!(outcome(group.asked(index, write(set("k", "w")))), Outcome::Done);
    group.settle(10);
    assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("w"));
    assert_eq!(group.fingerprint(index), group.fingerprint(0));
    let (own, first) = (group.strong_frames(index), group.strong_frames(0));
    assert_eq!(own.last(), first.last(), "it makes the same frames");
}

#[test]
fn anchor_whose_disk_was_lost_takes_state_over_and_becomes_exact_although_nothing_happens() {
    for with_snapshot in [false, true] {
        let mut group = below_the_floor(3, 0);
        group.wipe(2, 77);
        if with_snapshot {
            group.skip_by_snapshot(0, 2);
        }
        assert!(!group.is_exact(2));
        group.settle(200);
        is_like_the_others(&mut group, 2);
    }
}

#[test]
fn guest_that_becomes_an_anchor_becomes_exact() {
    for is_new in [false, true] {
        let mut group = below_the_floor(3, 1);
        if is_new {
            group.wipe(3, 78);
        }
        group.settle(20);
        group.promote();
        group.settle(200);
        is_like_the_others(&mut group, 3);
    }
}

/// It heard of the mode, and so whose frames these are, in an earlier life, and has none of them. The card of their author
/// comes with the state, as the store knows of nothing that was only heard.
#[test]
fn who_heard_of_the_mode_before_it_started_takes_state_over() {
    let mut group = below_the_floor(1, 1);
    group.wipe(1, 81);
    while group.mode(1).is_none_or(|mode| !mode.epoch.is_strong()) {
        group.deliver();
    }
    assert_ne!(group.fingerprint(1), group.fingerprint(0), "it has not taken over anything yet");
    group.restart(1);
    group.settle(50);
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    let last = group.strong_frames(0).pop().expect("it made some");
    let author = Frame::decode(&last).expect("it was committed").header().author;
    let log = group.driver(1).store();
    assert!(
        log.card(author).expect("readable").is_some(),
        "whoever asks it for the frames is given the card"
    );
}

/// A group of which the second anchor wrote in the epoch before, when the others were in the next one.
fn with_a_late_anchor() -> Group {
    let mut group = Group::new(3, 1);
    group.cut.extend([(0, 1), (1, 2), (1, 3)]);
    group.ask(1, write(set("late", "v")), Terms::default());
    let order = group.order_strong(0);
    for _ in 0..20 {
        group.deliver();
        group.apply(0, 100);
        group.apply(2, 100);
        group.pass(100);
    }
    group.nodes[0].orders.remove(&order).expect("answered").expect("a majority is there");
    group.cut.clear();
    group
}

/// The anchor that wrote late stands beyond what is committed. Whoever took its state would never be exact.
#[test]
fn anchor_takes_no_state_that_it_could_not_go_on_from() {
    let mut group = with_a_late_anchor();
    group.settle(40);
    for number in 0..20 {
        group.ask(0, write(set(&format!("k{number}"), "v")), Terms::default());
    }
    group.settle(40);
    assert!(group.is_exact(0) && !group.is_exact(1) && group.is_exact(2));
    (0..4).for_each(|index| group.forget_log(index));
    group.wipe(2, 79);
    group.part(2, 0);
    group.part(2, 3);
    group.skip_by_snapshot(0, 2);
    group.settle(100);
    assert!(!group.is_exact(2));
    let heads = group.replica(2).report().keyspaces.into_iter().find(|of| of.id == keyspace_id(NOTES));
    assert!(heads.is_none_or(|of| of.authors == 0), "it has taken nothing over");
    group.cut.clear();
    group.restart(2);
    group.settle(200);
    assert!(group.is_exact(2));
    // Who only follows takes what it gets.
    group.wipe(3, 80);
    group.part(3, 0);
    group.part(3, 2);
    group.settle(100);
    assert_eq!(group.fingerprint(3), group.fingerprint(1));
}

/// More expires than one command removes. Whoever catches up does not remove the rest of it once more.
#[test]
fn who_catches_up_does_not_let_more_expire_than_the_others_did() {
    let mut group = Group::strong(3, 0);
    let brief = |number: usize| Write::SetFor {
        key: format!("brief{number}").into(),
        value: "v".into(),
        ttl: Ttl::Until(START_MS + 5_000),
    };
    let id =
        group.ask_each(0, (0..2_600).flat_map(|number| write(brief(number))).collect(), Terms::default());
    (0..3).for_each(|_| group.apply(0, 100));
    group.reply(0, id).expect("answered").expect("it is done");
    group.has_no_leader = true;
    group.settle(60);
    // The third anchor hears of nothing until all of it has happened.
    group.cut.extend([(0, 2), (1, 2)]);
    let (keyspace, epoch, until) = (keyspace_id(NOTES), Epoch(1), Hlc::at(START_MS + 6_000));
    group.skip_by_snapshot(0, 2);
    group.append(&[Command::Expire { keyspace, epoch, until }]);
    (0..3).for_each(|index| group.apply(index, 10));
    let expired = group.strong_frames(0).len();
    group.append(&[Command::Expire { keyspace, epoch, until: Hlc::at(START_MS + 5_500) }]);
    (0..3).for_each(|index| group.apply(index, 10));
    assert_eq!(group.strong_frames(0).len(), expired + 1, "the rest of it");
    (0..2).for_each(|index| group.forget_log(index));
    group.cut.clear();
    group.has_no_leader = false;
    group.settle(200);
    assert!(group.is_exact(2));
    assert_eq!(group.fingerprint(2), group.fingerprint(0));
    // What it took over as state it has no frames of; the next one it makes as the others do.
    group.ask(0, write(set("k", "v")), Terms::default());
    group.settle(3);
    assert_eq!(group.strong_frames(2).last(), group.strong_frames(0).last());
}

/// Right after a start an anchor has applied nothing yet. The group knows how far its log was, and a snapshot says so.
#[test]
fn snapshot_that_is_made_right_after_a_start_says_how_far_the_log_is_applied() {
    let mut group = Group::strong(3, 0);
    group.ask(0, write(set("k", "v")), Terms::default());
    group.settle(3);
    let before = group.snapshot(1);
    group.restart(0);
    assert_eq!(group.snapshot(0), before);
    group.restart(1);
    assert_eq!(group.snapshot(1), before);
}

/// An anchor wrote late, and stands beyond what is committed for ever. The leader gives it the occasion to go on ever more
/// rarely, and at once again when it comes anew.
#[test]
fn keyspace_that_some_anchor_follows_for_ever_does_not_fill_the_log() {
    let mut group = with_a_late_anchor();
    group.settle(20);
    let entries = |group: &mut Group, tenths: usize| {
        let before = group.log.len();
        group.settle(tenths);
        group.log.len() - before
    };
    let first = entries(&mut group, 300);
    assert!((2..=6).contains(&first), "{first} in the first half minute");
    entries(&mut group, 1_000);
    let later = entries(&mut group, 1_200);
    assert!((1..=3).contains(&later), "{later} in two minutes");
    assert!(!group.is_exact(1));
    group.part(0, 1);
    group.pass(100);
    group.cut.clear();
    group.restart(1);
    let anew = entries(&mut group, 300);
    assert!((2..=6).contains(&anew), "{anew} in half a minute after it came anew");
}
