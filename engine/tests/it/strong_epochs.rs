//! What nodes take in around the end of an epoch, by the rules of reference/switch.md.

use tidelock_engine::command::{Command, EpochSecret};
use tidelock_engine::id::Epoch;
use tidelock_engine::message::{FrameBytes, Message};
use tidelock_engine::ports::LogIndex;
use tidelock_engine::replica::Terms;

use crate::world::group::Group;
use crate::world::replies::write;
use crate::world::words::set;
use crate::world::{NOTES, keyspace_id, named};

/// An anchor that hears of an epoch before its own log has come to it is fenced, and adopts nothing: else nobody might be
/// left who makes the frames.
#[test]
fn anchor_adopts_no_epoch_that_it_only_hears_of() {
    let mut group = Group::new(3, 0);
    group.order_strong(0);
    for _ in 0..20 {
        group.deliver();
        group.apply(0, 100);
        group.apply(1, 100);
        group.pass(100);
    }
    assert!(group.is_exact(0) && group.is_exact(1));
    let heard = group.mode(2).expect("it was told");
    assert!(heard.is_fenced && heard.epoch == Epoch(0), "{heard:?}");
    group.settle(10);
    assert!(group.is_exact(2));
}

/// An epoch that ends takes in nothing but what its cut names, until it is known that it goes on.
#[test]
fn fenced_anchor_applies_nothing_that_comes() {
    let mut group = Group::new(3, 0);
    let (keyspace, begin) = (keyspace_id(NOTES), LogIndex(group.log.len() as u64));
    let secret = EpochSecret::from([5; 32]);
    group.append(&[Command::BeginSeal { keyspace: named(NOTES), epoch: Epoch(1), secret }]);
    group.apply(1, 1);
    // This one has not come to it.
    group.ask(0, write(set("k", "v")), Terms::default());
    group.deliver();
    assert_eq!(group.frames(2).len(), 1);
    assert!(group.frames(1).is_empty());
    group.append(&[Command::AbortSeal { keyspace, begin }]);
    group.settle(60);
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    assert_eq!(group.frames(1).len(), 1);
}

/// A guest that has not heard of an epoch applies none of its frames: what it writes itself would come behind them.
#[test]
fn strong_frame_is_not_applied_before_its_epoch_is_known() {
    let mut group = Group::new(3, 1);
    group.cut.extend([(0, 3), (1, 3), (2, 3)]);
    group.order_strong(0);
    group.settle(10);
    group.ask(3, write(set("late", "v")), Terms::default());
    group.ask(0, write(set("k", "v")), Terms::default());
    group.settle(3);
    let record = group.replica(0).mode(keyspace_id(NOTES)).and_then(|mode| mode.record().cloned());
    let frames: Vec<FrameBytes> = group.strong_frames(0).into_iter().map(FrameBytes).collect();
    assert!(!frames.is_empty());
    let push = Message::Push { cards: vec![record.expect("it is strong").card], frames };
    group.say(0, 3, &push);
    assert!(group.strong_frames(3).is_empty() && group.mode(3).is_none());
    group.cut.clear();
    group.restart(3);
    group.settle(60);
    assert_eq!(group.strong_frames(3), group.strong_frames(0));
}
