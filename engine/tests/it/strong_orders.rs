//! What operators order of strong keyspaces, and what is done to all of one: it goes through the log, or it is refused with
//! the reason, and nothing is lost.

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::command::{Command, Execute, OperationId};
use tidelock_engine::id::{ClientId, Epoch};
use tidelock_engine::ports::{Log, LogPosition, RowRange, Rows, Within};
use tidelock_engine::read::Query;
use tidelock_engine::replica::{Freshness, Kept, Order, OrderError, Terms};
use tidelock_engine::request::{Action, ActionError, Atomicity, RequestError, RequestReply};
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_engine::write::{Outcome, Write, WriteError};

use crate::world::group::Group;
use crate::world::replies::{error, get, outcome, stale, value, write};
use crate::world::words::{add, delete, increment, put, score, set};
use crate::world::{NOTES, START_MS, keyspace_id};

const DAY_MS: u64 = 86_400_000;

/// Why an action of a request was not done.
fn refused(reply: RequestReply) -> WriteError {
    match reply {
        Err(RequestError::Action { source: ActionError::Write(error), .. }) => error,
        other => panic!("{other:?}"),
    }
}

fn keys(group: &Group, index: usize) -> u64 {
    group.driver(index).store().keys(keyspace_id(NOTES)).expect("memory")
}

/// An anchor holds what its group has agreed on. A guest may go, and what it asks for goes to an anchor.
#[test]
fn anchor_keeps_a_strong_keyspace_and_a_guest_may_leave_it() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(set("k", "v"))).expect("it is done");
    for is_forced in [false, true] {
        let order = group.order(1, Order::Leave { is_forced });
        group.settle(10);
        let refused = group.nodes[1].orders.remove(&order).expect("it is answered");
        assert!(matches!(refused, Err(OrderError::HeldByAnchor(_))), "{refused:?}");
        assert!(group.is_exact(1));
    }
    let order = group.order(3, Order::Leave { is_forced: false });
    group.settle(10);
    group.nodes[3].orders.remove(&order).expect("it is answered").expect("others have it");
    assert_eq!(keys(&group, 3), 0);
    assert_eq!(value(group.asked(3, get("k"))).as_deref(), Some("v"), "an anchor answers");
    assert_eq!(outcome(group.asked(3, write(set("k", "w")))), Outcome::Done);
    group.restart(3);
    let order = group.order(3, Order::Join);
    group.settle(40);
    group.nodes[3].orders.remove(&order).expect("it is answered").expect("it may come back");
    assert_eq!(group.fingerprint(3), group.fingerprint(0));
    assert_eq!(value(group.asked(3, get("k"))).as_deref(), Some("w"));
}

/// The others are away where the leader waits for them, and nobody has written: only time is in the way.
#[test]
fn keyspace_that_too_few_anchors_come_to_is_given_up_and_may_be_made_later() {
    let mut group = Group::new(3, 0);
    group.settle(5);
    group.cut.extend([(0, 1), (0, 2), (1, 2)]);
    let order = group.order_strong(0);
    group.settle(130);
    let refused = group.nodes[0].orders.remove(&order).expect("in time").expect_err("it is alone");
    assert!(matches!(refused, OrderError::NotNow(_)), "{refused}");
    assert!(group.mode(0).is_some_and(|mode| !mode.is_fenced && mode.epoch == Epoch(0)), "it goes on");
    group.cut.clear();
    let order = group.order_strong(0);
    group.settle(60);
    group.nodes[0].orders.remove(&order).expect("it is answered").expect("it is made");
    assert!((0..3).all(|index| group.is_exact(index)));
}

/// What a node may hold bounds what is asked for there, and not what the log says.
#[test]
fn quota_of_a_node_bounds_what_its_clients_write() {
    let mut group = Group::strong(3, 1);
    for index in [0, 3] {
        let order = group.order(index, Order::Quota(Some(2_000)));
        group.settle(1);
        group.nodes[index].orders.remove(&order).expect("answered").expect("it is remembered");
    }
    assert_eq!(outcome(group.asked(1, write(set("k", &"v".repeat(3_000))))), Outcome::Done, "no quota there");
    group.settle(5);
    let frames = group.strong_frames(0).len();
    for index in [0, 3] {
        let whole = vec![Action::Query(Query::Get("k".into())), Action::Whole(write(set("l", "v")))];
        for actions in [write(set("l", "v")), whole] {
            let error = refused(group.asked(index, actions));
            assert!(matches!(error, WriteError::OverQuota { quota_bytes: 2_000, .. }), "{error}");
        }
    }
    assert_eq!(group.strong_frames(0).len(), frames, "nothing was proposed");
    assert_eq!(outcome(group.asked(3, write(delete("k")))), Outcome::Changed(1), "what removes may be done");
    group.settle(5);
    assert_eq!(outcome(group.asked(3, write(set("l", "v")))), Outcome::Done);
    let frames = group.strong_frames(0);
    assert_eq!(group.strong_frames(2), frames);
}

/// All keys go at one place in the log, and what was executed before it is not executed again.
#[test]
fn clearing_removes_all_keys_and_no_outcome() {
    let mut group = Group::strong(3, 1);
    for act in [set("a", "1"), increment("b", 2), add("c", "x"), put("d", "f", "v"), score("e", "m", 1.0)] {
        group.ask(2, write(act), Terms::default());
    }
    let operation = OperationId { epoch: Epoch(1), client: ClientId([7; 16]), number: 1 };
    let again = Command::Execute(Execute {
        keyspace: keyspace_id(NOTES),
        operation,
        hlc: Hlc::at(START_MS + 1),
        actions: write(set("f", "v")),
        atomicity: Atomicity::AllOrNothing,
    });
    group.append(std::slice::from_ref(&again));
    group.settle(5);
    assert_eq!((0..4).map(|index| keys(&group, index)).collect::<Vec<_>>(), [6; 4]);
    group.asked(3, write(Write::Clear)).expect("it is done");
    group.append(&[again]);
    group.settle(5);
    assert_eq!((0..4).map(|index| keys(&group, index)).collect::<Vec<_>>(), [0; 4]);
    assert_eq!(group.strong_frames(0), group.strong_frames(2));
    assert!((1..4).all(|index| group.fingerprint(index) == group.fingerprint(0)));
}

/// Nobody but the log writes in a strong keyspace, so there is nobody to retire.
#[test]
fn nobody_is_retired_in_a_strong_keyspace() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(set("k", "v"))).expect("it is done");
    let author = group
        .replica(0)
        .mode(keyspace_id(NOTES))
        .and_then(tidelock_engine::mode::Mode::author)
        .expect("strong");
    for replica in [group.id_of(3), group.id_of(0), author] {
        let error = refused(group.asked(3, write(Write::Retire { replica })));
        assert!(matches!(error, WriteError::NotAnAuthor(of) if of == replica), "{error}");
    }
    assert_eq!(outcome(group.asked(3, write(set("k", "w")))), Outcome::Done);
}

/// One anchor's row is another than that of all others, under equal heads. It takes theirs, and makes the same frames.
#[test]
fn anchor_whose_row_is_another_takes_that_of_the_others() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(add("s", "a"))).expect("it is done");
    group.asked(0, write(add("s", "b"))).expect("it is done");
    group.settle(5);
    let mut found = Vec::new();
    let within = RowRange::all(Within::Kind(b"s".to_vec(), Kind::Set));
    let visited = group.driver(1).store().scan(keyspace_id(NOTES), &within, &mut |row, payload| {
        found.push((row, payload));
        std::ops::ControlFlow::Continue(())
    });
    visited.expect("memory");
    let (row, _): (RowId, Payload) = found.swap_remove(0);
    group.damage(1, row, None);
    assert_ne!(group.fingerprint(1), group.fingerprint(0));
    group.settle(400);
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    assert!(group.replica(1).report().counters.get("rows_repaired") > 0);
    assert_eq!(group.replica(0).report().counters.get("rows_repaired"), 0);
    group.asked(1, write(add("s", "c"))).expect("it is done");
    group.settle(5);
    assert!(group.is_exact(1));
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    assert_eq!(group.strong_frames(1).last(), group.strong_frames(0).last());
}

/// An anchor goes on as another replica: it is none any more, follows, and everybody who waits is answered.
#[test]
fn anchor_that_rejoins_is_a_guest_and_leaves_nobody_waiting() {
    let mut group = Group::strong(3, 1);
    group.asked(0, write(set("k", "v"))).expect("it is done");
    // The guest knows one anchor, which hands nothing on.
    group.part(3, 0);
    group.part(3, 2);
    group.cut.extend([(1, 0), (1, 2)]);
    let of_guest = group.ask(3, write(set("k", "guest")), Terms::default());
    let of_anchor = group.ask(1, write(set("l", "anchor")), Terms::default());
    let read = group.ask(1, get("k"), Terms::default());
    group.deliver();
    group.rejoin(1, 90);
    group.cut.clear();
    assert_eq!(group.replica(1).anchor(), None);
    group.settle(70);
    let unknown = |reply| matches!(reply, RequestError::Unknown(_));
    assert!(unknown(error(group.reply(3, of_guest))), "it was handed on");
    let own = group.reply(1, of_anchor).expect("it is answered");
    assert!(own.is_ok() || own.is_err_and(unknown));
    group.reply(1, read).expect("it is answered").expect_err("nobody knows");
    assert_eq!(group.mode(1).expect("it follows").standing, None);
    assert_eq!(value(group.asked(1, get("k"))).as_deref(), Some("guest"), "it was done");
    assert_eq!(outcome(group.asked(1, write(set("k", "w")))), Outcome::Done);
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    assert_eq!(group.replica(1).report().counters.get("rejoins"), 1);
}

/// What a guest wrote in the epoch that had ended is in its log alone, and stays there whatever its age.
#[test]
fn outbox_is_never_let_go_of() {
    let mut group = Group::new(3, 1);
    (0..3).for_each(|anchor| group.part(3, anchor));
    let terms = Terms { freshness: Freshness::Stale, ..Terms::default() };
    group.ask(3, write(set("late", "v")), terms);
    group.order_strong(0);
    group.settle(10);
    group.cut.clear();
    group.restart(3);
    for number in 0..20 {
        group.ask(0, write(set(&format!("k{number}"), "v")), Terms::default());
        group.settle(1);
    }
    group.settle(20);
    assert_eq!(group.replica(3).outbox_operations(keyspace_id(NOTES)), 1);
    for _ in 0..10 {
        group.pass(DAY_MS);
        group.settle(3);
    }
    let first = |index: usize| group.driver(index).store().first();
    assert!(first(0) > LogPosition(10), "others let go of what is old: {:?}", first(0));
    assert_eq!(group.replica(3).report().log.kept, Some(Kept::Outbox));
    let author = group.id_of(3);
    let kept = group.driver(3).store().frame_with(keyspace_id(NOTES), Dot::new(author, 1)).expect("memory");
    let outbox = group.replica(3).outbox(group.driver(3).store(), keyspace_id(NOTES), 1 << 20);
    assert_eq!(outbox.expect("memory"), [kept.expect("it is there")]);
    assert_eq!(value_of(&mut group, 0), None, "no epoch has taken it in");
}

/// What a node has under the key that was written late.
fn value_of(group: &mut Group, index: usize) -> Option<String> {
    let id = group.ask(index, get("late"), stale());
    value(group.reply(index, id).expect("it is answered"))
}
