//! What clients of strong keyspaces are answered, when, and what they may rely on.

use tidelock_engine::command::OperationId;
use tidelock_engine::id::{ClientId, Epoch};
use tidelock_engine::replica::{Freshness, Terms};
use tidelock_engine::request::RequestError;
use tidelock_engine::write::Outcome;

use crate::world::group::Group;
use crate::world::replies::{error, get, outcome, stale, value, write};
use crate::world::words::set;
use crate::world::{NOTES, keyspace_id, named};

#[test]
fn without_a_leader_all_is_certainly_not_done_and_in_time() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(set("k", "v"))).expect("it is done");
    group.has_no_leader = true;
    for index in [0, 3] {
        let (put, read) = (
            group.ask(index, write(set("k", "w")), Terms::default()),
            group.ask(index, get("k"), Terms::default()),
        );
        group.settle(2);
        assert!(matches!(error(group.reply(index, put)), RequestError::NoLeader(_)));
        assert!(matches!(error(group.reply(index, read)), RequestError::NoLeader(_)));
    }
    let read = group.ask(0, get("k"), stale());
    assert_eq!(value(group.reply(0, read).expect("at once")).as_deref(), Some("v"));
    assert_eq!(group.nodes[0].replies.len(), 0);
}

#[test]
fn write_that_was_proposed_and_not_heard_of_is_unknown_and_its_outcome_is_told_later() {
    let mut group = Group::strong(3, 0);
    let terms = Terms { operation: Some((ClientId([9; 16]), 4)), within_ms: 300, ..Terms::default() };
    let id = group.ask(0, write(set("k", "v")), terms);
    group.pass(200);
    assert!(group.reply(0, id).is_none());
    group.pass(200);
    assert!(matches!(error(group.reply(0, id)), RequestError::Unknown(_)));
    let operation = OperationId { epoch: Epoch(1), client: ClientId([9; 16]), number: 4 };
    let find = |group: &Group| group.replica(0).outcome(group.driver(0).store(), &named(NOTES), &operation);
    assert!(find(&group).expect("memory").is_none());
    group.settle(1);
    assert_eq!(outcome(find(&group).expect("memory").expect("it is done")), Outcome::Done);
    // Asked for again, it is not done again.
    group.asked(1, write(set("k", "w"))).expect("it is done");
    let id = group.ask(2, write(set("k", "v")), terms);
    group.settle(2);
    assert_eq!(outcome(group.reply(2, id).expect("answered")), Outcome::Done);
    assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("w"));
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
