//! What clients of strong keyspaces are answered, when, and what they may rely on.

use tidelock_engine::id::ClientId;
use tidelock_engine::read::Executed;
use tidelock_engine::replica::{Freshness, Input, Terms};
use tidelock_engine::request::{Action, ActionError, Atomicity, RequestError, decode_reply};
use tidelock_engine::write::Outcome;

use crate::world::group::Group;
use crate::world::replies::{became, error, executed, get, outcome, stale, value, write};
use crate::world::words::{increment, set};
use crate::world::{NOTES, keyspace_id};

#[test]
fn without_a_leader_all_is_certainly_not_done_and_in_time() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(set("k", "v"))).expect("it is done");
    group.has_no_leader = true;
    let terms = Terms { within_ms: 250, ..Terms::default() };
    for index in [0, 3] {
        let (put, read) = (group.ask(index, write(set("k", "w")), terms), group.ask(index, get("k"), terms));
        group.settle(5);
        assert!(matches!(error(group.reply(index, put)), RequestError::NoLeader(_)));
        assert!(matches!(error(group.reply(index, read)), RequestError::NoLeader(_)));
    }
    let read = group.ask(0, get("k"), stale());
    assert_eq!(value(group.reply(0, read).expect("at once")).as_deref(), Some("v"));
    assert_eq!(group.nodes[0].replies.len(), 0);
}

#[test]
fn write_that_was_proposed_and_not_heard_of_is_unknown_and_its_outcome_is_told_later() {
    let mut group = Group::strong(3, 1);
    let terms = Terms { operation: Some((ClientId([9; 16]), 4)), within_ms: 300, ..Terms::default() };
    let id = group.ask(0, write(set("k", "v")), terms);
    group.pass(200);
    assert!(group.reply(0, id).is_none());
    group.pass(200);
    assert!(matches!(error(group.reply(0, id)), RequestError::Unknown(_)));
    // It is committed, and asked for at an anchor that has not applied it: what is told waits for that.
    let asked = group.ask(0, became(9, 4), Terms::default());
    let old = group.ask(0, became(9, 4), stale());
    assert_eq!(executed(group.reply(0, old).expect("at once")), Executed::Not);
    assert!(group.reply(0, asked).is_none());
    group.settle(1);
    for told in [group.reply(0, asked).expect("it is answered"), group.asked(3, became(9, 4))] {
        let Executed::Done { result: Some(kept), .. } = executed(told) else { panic!("it was executed") };
        assert_eq!(outcome(decode_reply(&kept).expect("a reply")), Outcome::Done);
    }
    // Asked for again, it is not done again.
    group.asked(1, write(set("k", "w"))).expect("it is done");
    let id = group.ask(2, write(set("k", "v")), terms);
    group.settle(2);
    assert_eq!(outcome(group.reply(2, id).expect("answered")), Outcome::Done);
    assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("w"));
}

/// A client that numbers its operations asks again at whatever node, an anchor or not, under whichever leader.
#[test]
fn operation_that_is_asked_for_again_is_done_once_and_answers_the_same() {
    let mut group = Group::strong(3, 1);
    let client = ClientId::named(b"billing");
    let of = |number| Terms { operation: Some((client, number)), ..Terms::default() };
    let count = || write(increment("n", 5));
    let mut replies = Vec::new();
    for (index, number) in [(0, 1), (2, 1), (3, 1), (1, 2), (3, 2), (0, 1)] {
        let id = group.ask(index, count(), of(number));
        group.settle(3);
        replies.push(outcome(group.reply(index, id).expect("it is answered")));
    }
    assert_eq!(replies, [5, 5, 5, 10, 10, 5].map(Outcome::Number));
    // In one entry, too.
    let both = [0, 1].map(|_| group.request(count(), Atomicity::Each, of(3)));
    group.turn(0, both.iter().map(|(_, input)| input.clone()).collect());
    group.settle(2);
    for (id, _) in both {
        assert_eq!(outcome(group.reply(0, id).expect("it is answered")), Outcome::Number(15));
    }
    // Who has gone on so far is told that nobody knows.
    let far = group.ask(0, count(), of(5_000));
    group.settle(2);
    assert_eq!(outcome(group.reply(0, far).expect("it is answered")), Outcome::Number(20));
    for index in [0, 3] {
        let id = group.ask(index, count(), of(1));
        group.settle(3);
        assert!(matches!(error(group.reply(index, id)), RequestError::Forgotten(_)));
    }
    assert_eq!(value(group.asked(0, get("n"))).as_deref(), Some("20"));
}

#[test]
fn operation_is_named_in_strong_keyspaces_only() {
    let mut group = Group::strong(1, 0);
    let terms = Terms { operation: Some((ClientId::named(b"billing"), 1)), ..Terms::default() };
    let (id, mut input) = group.request(write(set("k", "v")), Atomicity::Each, terms);
    let Input::RequestOn(_, request, _) = &mut input else { panic!("{input:?}") };
    request.keyspace = "elsewhere".parse().expect("a name");
    group.turn(0, vec![input]);
    let refused = error(group.reply(0, id));
    let is_needed = |source: &ActionError| matches!(source, ActionError::NeedsStrong(_));
    assert!(matches!(&refused, RequestError::Action { source, .. } if is_needed(source)), "{refused:?}");
}

#[test]
fn read_waits_for_the_barrier_and_sees_what_was_acknowledged_elsewhere() {
    let mut group = Group::strong(3, 0);
    group.ask(0, write(set("k", "v")), Terms::default());
    group.apply(0, 10);
    // The third anchor has not applied it, and is asked now.
    let read = group.ask(2, get("k"), Terms::default());
    assert!(group.reply(2, read).is_none());
    let old = group.ask(2, get("k"), stale());
    assert_eq!(value(group.reply(2, old).expect("at once")), None);
    group.apply(2, 10);
    assert_eq!(value(group.reply(2, read).expect("answered")).as_deref(), Some("v"));
}

#[test]
fn read_at_a_revision_waits_for_it() {
    let mut group = Group::strong(3, 1);
    group.ask(0, write(set("k", "v")), Terms::default());
    group.apply(0, 10);
    let revision = group.replica(0).label(group.now(), keyspace_id(NOTES)).revision;
    let terms = Terms { freshness: Freshness::Revision(revision), ..Terms::default() };
    let read = group.ask(3, get("k"), terms);
    assert!(group.reply(3, read).is_none());
    group.settle(2);
    assert_eq!(value(group.reply(3, read).expect("answered")).as_deref(), Some("v"));
    let never = Terms { freshness: Freshness::Revision(1_000), within_ms: 200, ..Terms::default() };
    let read = group.ask(3, get("k"), never);
    group.settle(4);
    assert!(matches!(error(group.reply(3, read)), RequestError::NoLeader(_)));
}

/// The disk is full in the turn in which the group says what became of things.
#[test]
fn what_the_group_said_is_told_although_the_turn_is_not_committed() {
    let mut group = Group::strong(3, 0);
    let put = group.ask(0, write(set("k", "v")), Terms::default());
    let (eventual, beside) = group.elsewhere();
    group.execute(0, 10);
    group.fill(0, true);
    group.beside = vec![beside];
    group.hear(0);
    assert_eq!(outcome(group.reply(0, put).expect("answered")), Outcome::Done);
    assert!(matches!(error(group.reply(0, eventual)), RequestError::ReadOnly(_)));
}

#[test]
fn what_was_not_proposed_because_the_turn_failed_is_certainly_not_done() {
    let mut group = Group::strong(3, 0);
    let before = group.log.len();
    let (put, put_input) = group.request(write(set("k", "v")), Atomicity::Each, Terms::default());
    let (read, read_input) = group.request(get("k"), Atomicity::Each, Terms::default());
    let (eventual, beside) = group.elsewhere();
    group.fill(0, true);
    group.turn(0, vec![put_input, read_input, beside]);
    for id in [put, read] {
        assert!(matches!(error(group.reply(0, id)), RequestError::TryAgain { .. }));
    }
    assert!(matches!(error(group.reply(0, eventual)), RequestError::ReadOnly(_)));
    assert_eq!(group.log.len(), before, "nothing was proposed");
}

/// What was proposed before the disk was full stays open, and is answered in time.
#[test]
fn who_waits_when_the_disk_is_full_is_answered_in_time() {
    for is_healed in [false, true] {
        let mut group = Group::strong(3, 0);
        let terms = Terms { within_ms: 1_000, ..Terms::default() };
        let put = group.ask(0, write(set("k", "v")), terms);
        let (_, beside) = group.elsewhere();
        group.fill(0, true);
        group.turn(0, vec![beside]);
        if is_healed {
            group.heal(0);
        }
        group.pass(500);
        assert!(group.reply(0, put).is_none());
        group.pass(500);
        assert!(matches!(error(group.reply(0, put)), RequestError::Unknown(_)));
    }
}

#[test]
fn of_one_entry_each_is_told_its_own_outcome_also_when_one_has_waited_too_long() {
    let mut group = Group::strong(1, 0);
    group.asked(0, write(set("number", "4"))).expect("it is done");
    let brief = Terms { within_ms: 100, ..Terms::default() };
    let (first, first_input) = group.request(write(set("k", "v")), Atomicity::Each, brief);
    let count = write(increment("number", 1));
    let (second, second_input) = group.request(count, Atomicity::Each, Terms::default());
    group.turn(0, vec![first_input, second_input]);
    group.pass(200);
    assert!(matches!(error(group.reply(0, first)), RequestError::Unknown(_)));
    group.settle(1);
    assert_eq!(outcome(group.reply(0, second).expect("answered")), Outcome::Number(5));
}

/// Each is an operation of its own, in entries of bounded size, and they are done in their order.
#[test]
fn pipeline_of_many_large_writes_is_done_in_its_order() {
    for index in [0, 3] {
        let mut group = Group::strong(3, 1);
        let large = "x".repeat(1 << 20);
        let mut actions: Vec<Action> =
            (0..60).flat_map(|number| write(set(&format!("k{}", number % 7), &large[number..]))).collect();
        actions.extend(get("k3"));
        actions.extend(write(crate::world::words::add("k3", "not a set")));
        let before = group.log.len();
        let id = group.ask_each(index, actions, Terms { within_ms: 60_000, ..Terms::default() });
        group.settle(20);
        let mut replies = group.reply(index, id).expect("answered").expect("it is done");
        assert_eq!(replies.len(), 62);
        assert!(
            matches!(replies.pop(), Some(Err(ActionError::Write(_)))),
            "one that fails leaves the others"
        );
        let read = replies.pop().map(|reply| vec![reply]).expect("a read");
        assert_eq!(
            value(Ok(read)).map(|value| value.len()),
            Some((1 << 20) - 59),
            "the last one of that key"
        );
        assert!(replies.iter().all(Result::is_ok));
        assert!(group.log.len() - before > 3, "{}", group.log.len() - before);
    }
}

#[test]
fn pipeline_that_loses_its_leader_says_what_was_done_of_it() {
    let mut group = Group::strong(1, 0);
    let large = "x".repeat(10 << 20);
    let actions = ["a", "b", "c"].iter().flat_map(|key| write(set(key, &large))).collect();
    let id = group.ask_each(0, actions, Terms::default());
    group.has_no_leader = true;
    group.settle(3);
    let replies = group.reply(0, id).expect("answered").expect("a part of it is done");
    assert!(matches!(&replies[..], [Ok(_), Err(ActionError::NoLeader(_)), Err(ActionError::NoLeader(_))]));
    let id = group.ask_each(0, get("a").into_iter().chain(write(set("d", "v"))).collect(), Terms::default());
    group.settle(1);
    assert!(matches!(error(group.reply(0, id)), RequestError::NoLeader(_)), "nothing of it");
}

#[test]
fn more_operations_are_open_than_one_client_has_outcomes_and_all_are_done() {
    let mut group = Group::strong(1, 0);
    let many = (0..1_500).flat_map(|number| write(set(&format!("k{number}"), "v"))).collect();
    let first = group.ask_each(0, many, Terms::default());
    let many = (0..1_500).flat_map(|number| write(set(&format!("l{number}"), "v"))).collect();
    let second = group.ask_each(0, many, Terms::default());
    let last = group.log.len() - 1;
    group.swap(0, (last - 1, last));
    group.settle(5);
    for id in [first, second] {
        let replies = group.reply(0, id).expect("answered").expect("it is done");
        assert!(replies.iter().all(Result::is_ok));
    }
}

#[test]
fn following_anchor_hands_on_and_is_handed_on_to_once_at_most() {
    let mut group = Group::strong(3, 1);
    // Two follow: the third anchor and, after it, the second one.
    for index in [1, 2] {
        group.skip_by_snapshot(0, index);
    }
    assert!(!group.is_exact(1) && !group.is_exact(2));
    assert_eq!(outcome(group.asked(2, write(set("k", "v")))), Outcome::Done);
    assert_eq!(value(group.asked(1, get("k"))).as_deref(), Some("v"));
    // The guest knows only one that follows, which hands on.
    group.part(0, 3);
    group.part(1, 3);
    follow(&mut group, 2);
    assert_eq!(outcome(group.asked(3, write(set("k", "w")))), Outcome::Done);
    assert_eq!(value(group.asked(3, get("k"))).as_deref(), Some("w"));
    // That one knows another that follows, which does not: it is certain and in time.
    group.part(0, 2);
    follow(&mut group, 1);
    follow(&mut group, 2);
    let terms = Terms { within_ms: 400, ..Terms::default() };
    let (put, read) = (group.ask(3, write(set("k", "x")), terms), group.ask(3, get("k"), terms));
    group.settle(6);
    for id in [put, read] {
        assert!(matches!(error(group.reply(3, id)), RequestError::TryAgain { .. }));
    }
}

/// It misses entries by a snapshot, and so follows.
fn follow(group: &mut Group, index: usize) {
    group.append(&[]);
    group.apply(0, usize::MAX / 2);
    group.skip_by_snapshot(0, index);
    assert!(!group.is_exact(index));
}

#[test]
fn guest_asks_another_anchor_where_nothing_was_proposed_and_again_while_there_is_time() {
    let mut group = Group::strong(3, 1);
    group.has_no_leader = true;
    let put = group.ask(3, write(set("k", "v")), Terms::default());
    let read = group.ask(3, get("k"), Terms::default());
    group.settle(8);
    assert!(group.reply(3, put).is_none() && group.reply(3, read).is_none());
    group.has_no_leader = false;
    group.settle(20);
    assert_eq!(outcome(group.reply(3, put).expect("answered")), Outcome::Done);
    assert_eq!(value(group.reply(3, read).expect("answered")).as_deref(), Some("v"));
}

#[test]
fn guest_whose_anchor_is_lost_reads_elsewhere_and_does_not_know_of_its_write() {
    let mut group = Group::strong(3, 1);
    group.cut.extend([(0, 3), (1, 3), (2, 3)]);
    let put = group.ask(3, write(set("k", "v")), Terms::default());
    let read = group.ask(3, get("k"), Terms::default());
    group.deliver();
    group.part(0, 3);
    group.part(1, 3);
    group.cut.clear();
    group.settle(5);
    assert!(matches!(error(group.reply(3, put)), RequestError::Unknown(_)));
    assert_eq!(value(group.reply(3, read).expect("answered")), None);
}
