//! When what nodes say in strong keyspaces leaves them, to whom, and in how many entries.

use std::collections::BTreeSet;

use tidelock_engine::command::{Command, EpochSecret, decode_entry};
use tidelock_engine::frame::Frame;
use tidelock_engine::id::Epoch;
use tidelock_engine::message::Message;
use tidelock_engine::ports::{Durability, LogIndex};
use tidelock_engine::replica::Terms;
use tidelock_engine::write::Outcome;

use crate::world::group::Group;
use crate::world::replies::{get, outcome, stale, value, write};
use crate::world::words::set;
use crate::world::{NOTES, keyspace_id, named};

/// The nodes to which strong frames are pushed, of what has left one.
fn pushed_to(left: &[(usize, Message)]) -> BTreeSet<usize> {
    let has_strong = |message: &Message| match message {
        Message::Push { frames, .. } => frames
            .iter()
            .any(|bytes| Frame::decode(&bytes.0).expect("it was committed").header().epoch.is_strong()),
        _ => false,
    };
    left.iter().filter(|(_, message)| has_strong(message)).map(|(to, _)| *to).collect()
}

/// A disk holds back what was committed. What is asked of an anchor says nothing of that, nor does its answer, which rests
/// on what a majority has on disk; frames wait.
#[test]
fn asking_and_telling_wait_for_no_disk() {
    let mut group = Group::strong(1, 1);
    group.settle(5);
    let (_, buffered) = group.elsewhere_as(Durability::Buffered);
    group.turn(1, vec![buffered]);
    let put = group.ask(1, write(set("k", "v")), Terms::default());
    assert!(!group.driver(1).is_durable());
    let left = group.left(1);
    let [(0, ask @ Message::Ask { .. })] = &left[..] else { panic!("{left:?}") };

    group.say(1, 0, ask);
    group.execute(0, 10);
    assert!(!group.driver(0).is_durable());
    let left = group.left(0);
    let [(1, told @ Message::Told { .. })] = &left[..] else { panic!("{left:?}") };

    group.say(0, 1, told);
    assert!(!group.driver(1).is_durable());
    assert_eq!(outcome(group.reply(1, put).expect("it is answered")), Outcome::Done);
    (0..2).for_each(|index| group.sync(index));
    assert_eq!(pushed_to(&group.left(0)), BTreeSet::from([1]));
    assert!(!group.left(1).is_empty(), "what waited for the disk");
}

/// A guest answers its client by what the anchor told it, before the frame comes; what it reads beside the anchors is old
/// until then, and what it asks of them is not.
#[test]
fn guest_is_told_before_the_frame_comes() {
    let mut group = Group::strong(1, 1);
    group.settle(5);
    let frames = group.strong_frames(1).len();
    let put = group.ask(1, write(set("k", "v")), Terms::default());
    for (_, message) in group.left(1) {
        group.say(1, 0, &message);
    }
    group.execute(0, 10);
    for (_, message) in group.left(0) {
        group.say(0, 1, &message);
    }
    assert_eq!(outcome(group.reply(1, put).expect("it is answered")), Outcome::Done);
    assert_eq!(group.strong_frames(1).len(), frames, "the frame waits for a disk");
    let old = group.ask(1, get("k"), stale());
    assert_eq!(value(group.reply(1, old).expect("at once")), None);
    assert_eq!(value(group.asked(1, get("k"))).as_deref(), Some("v"));
    assert_eq!(group.strong_frames(1).len(), frames + 1);
}

/// Anchors that make the same frames are sent none; guests are, and an anchor that follows, as soon as it says so.
#[test]
fn strong_frames_are_pushed_to_nobody_who_makes_them() {
    let mut group = Group::strong(3, 1);
    group.settle(10);
    let pushed = |group: &mut Group, key: &str| {
        group.left(0);
        group.ask(0, write(set(key, "v")), Terms::default());
        group.execute(0, 10);
        group.sync(0);
        let to = pushed_to(&group.left(0));
        group.settle(10);
        to
    };
    for key in ["a", "b", "c"] {
        assert_eq!(pushed(&mut group, key), BTreeSet::from([3]));
    }
    group.append(&[]);
    group.apply(0, usize::MAX / 2);
    group.skip_by_snapshot(0, 2);
    assert!(!group.is_exact(2));
    // It says so with the time that passes.
    group.pass(100);
    group.deliver();
    assert_eq!(pushed(&mut group, "d"), BTreeSet::from([2, 3]));
    group.settle(60);
    assert!(group.is_exact(2));
    assert_eq!(pushed(&mut group, "e"), BTreeSet::from([3]));
}

/// What a majority confirms must be in the next epoch: who is fenced confirms nothing of the one that ends, whatever its
/// disk holds.
#[test]
fn fenced_anchor_confirms_nothing() {
    let mut group = Group::new(3, 0);
    group.ask(0, write(set("k", "v")), Terms::default());
    group.settle(5);
    let (keyspace, begin) = (keyspace_id(NOTES), LogIndex(group.log.len() as u64));
    let secret = EpochSecret::from([5; 32]);
    group.append(&[Command::BeginSeal { keyspace: named(NOTES), epoch: Epoch(1), secret }]);
    group.apply(1, 1);
    let confirms = |group: &mut Group| {
        let left = group.left(1);
        left.iter().any(|(to, message)| *to == 0 && matches!(message, Message::Confirmed { seq: 1, .. }))
    };
    group.say(0, 1, &Message::Confirm { keyspace, seq: 1 });
    group.pass(100);
    assert!(!confirms(&mut group));
    group.append(&[Command::AbortSeal { keyspace, begin }]);
    group.apply(1, 1);
    group.pass(100);
    assert!(confirms(&mut group), "the epoch goes on");
}

/// Each entry costs the group a round: while two are open what comes is gathered, until one of them is applied.
#[test]
fn what_comes_while_two_entries_are_open_is_one_entry() {
    let mut group = Group::strong(1, 0);
    let before = group.log.len();
    let ask = |group: &mut Group, number: usize| {
        group.ask(0, write(set(&format!("k{number}"), "v")), Terms::default())
    };
    let asked: Vec<_> = (0..6).map(|number| ask(&mut group, number)).collect();
    assert_eq!(group.log.len(), before + 2);
    group.execute(0, 1);
    assert_eq!(group.log.len(), before + 3);
    assert_eq!(decode_entry(&group.log[before + 2]).expect("an entry").len(), 4);
    group.settle(2);
    for id in asked {
        assert_eq!(outcome(group.reply(0, id).expect("it is answered")), Outcome::Done);
    }
}

/// An entry that waits for a leader holds up no other for long.
#[test]
fn what_was_gathered_is_proposed_after_a_moment_whatever_is_open() {
    let mut group = Group::strong(1, 0);
    let before = group.log.len();
    for number in 0..3 {
        group.ask(0, write(set(&format!("k{number}"), "v")), Terms::default());
    }
    group.pass(10);
    assert_eq!(group.log.len(), before + 2);
    group.pass(10);
    assert_eq!(group.log.len(), before + 3);
}
