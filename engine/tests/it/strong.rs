//! Strong keyspaces: what anchors make of one log and what others follow, by the rules of reference/switch.md.

use tidelock_engine::causality::Hlc;
use tidelock_engine::command::{Command, Execute, OperationId, decode_entry};
use tidelock_engine::condition::Condition;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{ClientId, Epoch};
use tidelock_engine::ports::{LogIndex, Store};
use tidelock_engine::read::{Answer, Executed, Query};
use tidelock_engine::replica::{OrderError, Terms};
use tidelock_engine::request::{Action, ActionReply, Atomicity, Decision, RequestError, decode_reply};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::write::{Outcome, Ttl, Write};

use crate::world::group::Group;
use crate::world::replies::{became, decided, error, executed, get, outcome, stale, value, write};
use crate::world::words::{add, delete, increment, put, score, set};
use crate::world::{NOTES, START_MS, keyspace_id};

/// An operation of a client that nobody here is.
fn execute(epoch: u64, number: u64, actions: Vec<Action>) -> Command {
    let operation = OperationId { epoch: Epoch(epoch), client: ClientId([7; 16]), number };
    let (keyspace, hlc) = (keyspace_id(NOTES), Hlc::at(START_MS + number));
    Command::Execute(Execute { keyspace, operation, hlc, actions, atomicity: Atomicity::AllOrNothing })
}

/// Set, if there is nothing.
fn claim(key: &str, value: &str) -> Vec<Action> {
    let actions = write(set(key, value));
    let conditions = vec![Condition::Missing(key.into())];
    vec![Action::Decide(Box::new(Decision { reads: Vec::new(), conditions, actions, is_whole: true }))]
}

/// Writes of all kinds, at several anchors, some in one turn.
fn write_all_kinds(group: &mut Group) {
    for (number, done) in [
        set("register", "one"),
        set("register", "two"),
        add("set", "a"),
        add("set", "b"),
        put("map", "f", "v"),
        increment("number", 3),
        increment("number", 4),
        score("sorted", "m", 1.5),
        Write::SetFor { key: "brief".into(), value: "v".into(), ttl: Ttl::Until(START_MS + 900_000) },
        Write::Pop { key: "set".into(), count: 1, seed: 99 },
        delete("register"),
        set("register", "three"),
    ]
    .into_iter()
    .enumerate()
    {
        group.ask(number % 2, write(done), Terms::default());
        if number % 3 == 0 {
            group.apply(number % 2, 1);
            group.pass(7);
        }
    }
    group.pass(100);
}

#[test]
fn anchors_make_the_same_frames_byte_for_byte_whatever_their_pace_and_restarts() {
    let mut group = Group::strong(3, 0);
    write_all_kinds(&mut group);
    // One takes all at once, one takes them one by one and begins again behind each.
    group.apply(0, usize::MAX / 2);
    while group.strong_frames(1).len() < group.strong_frames(0).len() {
        let at_most = group.strong_frames(1).len() + 1;
        group.apply(1, 1);
        assert!(group.strong_frames(1).len() <= at_most);
        group.restart(1);
        assert!(group.is_exact(1), "what it is outlasts a restart");
    }
    group.apply(2, usize::MAX / 2);
    let frames = group.strong_frames(0);
    assert!(frames.len() >= 4, "{}", frames.len());
    assert_eq!(group.strong_frames(1), frames);
    assert_eq!(group.strong_frames(2), frames);
    assert_eq!(group.fingerprint(1), group.fingerprint(0));
    group.settle(30);
    assert_eq!(group.strong_frames(2), group.strong_frames(0));
    assert_eq!(value(group.asked(2, get("register"))).as_deref(), Some("three"));
}

#[test]
fn strong_frames_are_dense_signed_and_depend_on_nothing_but_each_other() {
    let mut group = Group::strong(3, 0);
    write_all_kinds(&mut group);
    group.settle(3);
    let record = group.replica(0).mode(keyspace_id(NOTES)).and_then(|mode| mode.record().cloned());
    let record = record.expect("it is strong");
    let (mut next, mut previous) = (1, tidelock_engine::id::FrameId::NONE);
    for bytes in group.strong_frames(0) {
        let frame = Frame::decode(&bytes).expect("well-formed");
        frame.verify(&record.card).expect("signed with the key of the epoch");
        let header = frame.header();
        assert_eq!((header.first, header.previous, header.epoch), (next, previous, Epoch(1)));
        assert_eq!((header.author, header.dependencies.len()), (record.card.replica(), 0));
        (next, previous) = (header.last() + 1, frame.id());
    }
    assert!(next > 10, "{next}");
}

#[test]
fn guest_follows_by_frames_alone_and_ends_equal() {
    let mut group = Group::strong(3, 1);
    write_all_kinds(&mut group);
    group.settle(30);
    assert_eq!(group.strong_frames(3), group.strong_frames(0));
    assert_eq!(group.fingerprint(3), group.fingerprint(0));
    let id = group.ask(3, get("register"), stale());
    assert_eq!(value(group.reply(3, id).expect("at once")).as_deref(), Some("three"));
    group.restart(3);
    group.settle(10);
    assert_eq!(group.mode(3).expect("it remembers").epoch, Epoch(1));
    // It hands on what it is asked for.
    assert_eq!(outcome(group.asked(3, write(set("k", "v")))), Outcome::Done);
    assert_eq!(value(group.asked(3, get("k"))).as_deref(), Some("v"));
    assert_eq!(value(group.asked(1, get("k"))).as_deref(), Some("v"));
}

#[test]
fn operation_takes_effect_once_however_often_it_is_proposed() {
    let mut group = Group::strong(3, 0);
    let pop = || write(Write::Pop { key: "set".into(), count: 1, seed: 1 });
    for element in ["a", "b", "c", "d"] {
        group.asked(0, write(add("set", element))).expect("it is done");
    }
    let once = execute(1, 1, pop());
    group.append(&[once.clone(), once.clone()]);
    group.append(std::slice::from_ref(&once));
    group.settle(3);
    group.restart(1);
    group.append(&[once]);
    group.settle(3);
    let reply = group.asked(1, vec![Action::Query(Query::Cardinality("set".into()))]);
    let given = reply.expect("it is answered").pop().expect("one").expect("one");
    assert!(matches!(given, ActionReply::Answer(Answer::Count(3))), "{given:?}");
    let Executed::Done { result: Some(kept), .. } = executed(group.asked(2, became(7, 1))) else {
        panic!("it was executed")
    };
    let kept = outcome(decode_reply(&kept).expect("a reply"));
    assert!(matches!(kept, Outcome::Elements(elements) if elements.len() == 1));
}

#[test]
fn operation_whose_client_went_far_ahead_is_not_executed_again() {
    let mut group = Group::strong(1, 0);
    for number in [1, 2, 3 + 1_024] {
        let command = execute(1, number, write(set("k", &number.to_string())));
        group.append(&[command]);
    }
    for number in [1, 2, 3] {
        let command = execute(1, number, write(set("k", "again")));
        group.append(&[command]);
    }
    group.settle(1);
    assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("1027"));
    let near = execute(1, 4, write(set("k", "late, and near enough")));
    group.append(&[near]);
    group.settle(1);
    assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("late, and near enough"));
}

#[test]
fn of_two_that_claim_one_key_one_gets_it() {
    let mut group = Group::strong(3, 0);
    let ids: Vec<_> =
        (0..3).map(|index| group.ask(index, claim("lock", &index.to_string()), Terms::default())).collect();
    group.settle(3);
    let won: Vec<bool> = ids
        .into_iter()
        .enumerate()
        .map(|(index, id)| decided(group.reply(index, id).expect("it is answered")))
        .collect();
    assert_eq!(won, [true, false, false]);
    for index in 0..3 {
        assert_eq!(value(group.asked(index, get("lock"))).as_deref(), Some("0"));
    }
}

#[test]
fn batch_of_which_one_action_fails_does_nothing_but_is_remembered() {
    let mut group = Group::strong(3, 0);
    group.asked(0, write(add("set", "a"))).expect("it is done");
    let before = group.strong_frames(0).len();
    let batch = vec![Action::Write(set("k", "v")), Action::Write(put("set", "f", "v"))];
    let reply = group.asked(1, batch);
    assert!(matches!(reply, Err(RequestError::Action { index: 1, .. })), "{reply:?}");
    assert_eq!(value(group.asked(0, get("k"))), None);
    assert_eq!(group.strong_frames(0), group.strong_frames(2));
    assert_eq!(group.strong_frames(0).len(), before + 1, "the outcome is a frame too");
}

#[test]
fn command_of_another_epoch_does_nothing_for_ever() {
    let mut group = Group::strong(3, 0);
    let before = group.strong_frames(0);
    for epoch in [0, 2, 3] {
        let command = execute(epoch, 1, write(set("k", "v")));
        group.append(&[command]);
    }
    group.settle(3);
    assert_eq!(value(group.asked(0, get("k"))), None);
    assert_eq!(group.strong_frames(0), before);
}

/// An anchor that did not hear of it writes while the others begin: it follows, and its write is in its outbox.
#[test]
fn anchor_that_wrote_late_follows_and_keeps_its_write_in_the_outbox() {
    let mut group = Group::new(3, 0);
    group.cut.extend([(0, 2), (1, 2)]);
    let late = group.ask(2, write(set("late", "v")), Terms::default());
    group.reply(2, late).expect("at once").expect("it is eventual there");
    let order = group.order_strong(0);
    for _ in 0..20 {
        group.deliver();
        group.apply(0, 100);
        group.apply(1, 100);
        group.pass(100);
    }
    group.nodes[0].orders.remove(&order).expect("answered").expect("a majority is there");
    group.cut.clear();
    group.asked(0, write(set("k", "v"))).expect("it is done");
    group.settle(60);
    assert!(group.is_exact(0) && group.is_exact(1) && !group.is_exact(2));
    let mode = group.mode(2).expect("it knows");
    assert_eq!((mode.outbox, mode.epoch), (1, Epoch(1)));
    assert_eq!(group.mode(0).expect("it knows").outbox, 0, "it is not taken by itself");
    let store = group.driver(2).store();
    let outbox = group.replica(2).outbox(store, keyspace_id(NOTES), 1 << 20).expect("memory");
    assert_eq!(Frame::peek(&outbox[0].bytes).map(|dot| dot.replica), Some(group.id_of(2)));
    // It has what the others made, and another one says what it cannot.
    assert_eq!(group.strong_frames(2), group.strong_frames(0));
    assert_eq!(value(group.asked(2, get("late"))), None);
    let read = group.ask(2, get("late"), stale());
    assert_eq!(value(group.reply(2, read).expect("at once")).as_deref(), Some("v"));
    assert_eq!(group.replica(2).label(group.now(), keyspace_id(NOTES)).tentative, 1);
    assert_eq!(value(group.asked(0, get("late"))), None, "it is not served as strong");
    group.restart(2);
    assert_eq!(group.mode(2).expect("it remembers").outbox, 1);
    assert!(!group.is_exact(2));
}

/// A guest that has not heard of it goes on writing. When it hears, nothing of that is lost, and nothing strong.
#[test]
fn guest_keeps_what_it_acknowledged_before_it_heard() {
    let mut group = Group::new(3, 1);
    group.cut.extend([(0, 3), (1, 3), (2, 3)]);
    let order = group.order_strong(0);
    group.settle(10);
    group.nodes[0].orders.remove(&order).expect("answered").expect("it is made");
    let late = group.ask(3, write(set("late", "v")), Terms::default());
    group.reply(3, late).expect("at once").expect("it is eventual there");
    group.cut.clear();
    group.restart(3);
    group.settle(60);
    assert_eq!(group.mode(3).expect("it heard").epoch, Epoch(1));
    assert_eq!(group.mode(3).expect("it heard").outbox, 1);
    assert_eq!(value(group.asked(3, get("late"))), None, "an anchor answers");
    assert_eq!(outcome(group.asked(3, write(set("late", "strong")))), Outcome::Done);
    group.settle(10);
    let read = group.ask(3, get("late"), stale());
    assert_eq!(value(group.reply(3, read).expect("at once")).as_deref(), Some("strong"), "the epoch leads");
    assert_eq!(group.mode(3).expect("it heard").outbox, 1);
}

#[test]
fn keyspace_that_is_sealed_takes_no_write_until_that_ends() {
    let mut group = Group::new(3, 0);
    group.order_strong(0);
    group.apply(1, 1);
    let refused = group.ask(1, write(set("k", "v")), Terms::default());
    assert!(matches!(error(group.reply(1, refused)), RequestError::SwitchInProgress(_)));
    group.restart(1);
    let refused = group.ask(1, write(set("k", "v")), Terms::default());
    assert!(
        matches!(error(group.reply(1, refused)), RequestError::SwitchInProgress(_)),
        "a fence is durable"
    );
    let abort = |begin| Command::AbortSeal { keyspace: keyspace_id(NOTES), begin: LogIndex(begin) };
    let (wrong, right) = (abort(7), abort(1));
    group.append(&[wrong]);
    group.apply(1, 1);
    assert!(group.mode(1).expect("sealing").is_fenced, "another attempt's end lifts no fence");
    group.append(&[right]);
    group.apply(1, 1);
    let done = group.ask(1, write(set("k", "v")), Terms::default());
    group.reply(1, done).expect("at once").expect("the epoch goes on");
}

#[test]
fn seal_of_a_cut_that_was_renewed_has_no_effect() {
    let mut group = Group::new(3, 0);
    group.order_strong(0);
    let keyspace = keyspace_id(NOTES);
    let cut = |begin| Command::Cut { keyspace, begin: LogIndex(begin), frontier: Vec::new() };
    let seal = |cut| Command::Seal {
        keyspace,
        begin: LogIndex(1),
        cut: LogIndex(cut),
        fingerprint: Fingerprint::default(),
    };
    // Entries: 0 names the group, 1 begins, 2 and 3 cut, 4 is of another attempt.
    group.append(&[cut(1)]);
    group.append(&[cut(1)]);
    group.append(&[cut(9)]);
    group.append(&[seal(2)]);
    group.append(&[seal(4)]);
    group.apply(1, 100);
    assert!(group.mode(1).is_some_and(|mode| mode.is_fenced && mode.epoch == Epoch(0)));
    group.append(&[seal(3)]);
    group.apply(1, 100);
    assert!(group.is_exact(1));
    group.append(&[seal(3)]);
    group.apply(1, 100);
    assert_eq!(group.mode(1).expect("strong").epoch, Epoch(1), "once");
}

#[test]
fn keyspace_that_holds_data_is_refused_also_when_that_shows_late() {
    let mut group = Group::new(3, 1);
    group.ask(3, write(set("k", "v")), Terms::default());
    let order = group.order_strong(0);
    group.settle(20);
    let refused = group.nodes[0].orders.remove(&order).expect("answered").expect_err("it holds data");
    assert!(matches!(refused, OrderError::HoldsData(_)), "{refused}");
    assert!(group.mode(0).is_some_and(|mode| !mode.is_fenced && mode.epoch == Epoch(0)), "it goes on");
    let order = group.order_strong(0);
    let refused = group.nodes[0].orders.remove(&order).expect("at once").expect_err("it holds data");
    assert!(matches!(refused, OrderError::HoldsData(_)), "{refused}");
    group.ask(1, write(set("k", "w")), Terms::default());
    group.settle(10);
    assert_eq!(group.fingerprint(0), group.fingerprint(3));
    let order = group.order_strong(3);
    let refused = group.nodes[3].orders.remove(&order).expect("at once").expect_err("it is a guest");
    assert!(matches!(refused, OrderError::HoldsData(_)), "{refused}");
}

/// The order is handed on to the leader, and answered once the node itself knows that the keyspace is strong.
#[test]
fn keyspace_is_made_strong_from_any_node() {
    for index in [1, 3] {
        let mut group = Group::new(3, 1);
        group.settle(5);
        let order = group.order_strong(index);
        group.settle(20);
        group.nodes[index].orders.remove(&order).expect("it was answered").expect("it was made");
        assert_eq!(group.mode(index).map(|mode| mode.epoch), Some(Epoch(1)), "{index}");
        assert_eq!(outcome(group.asked(index, write(set("k", "v")))), Outcome::Done);
        assert_eq!(value(group.asked(0, get("k"))).as_deref(), Some("v"));
    }
}

#[test]
fn keyspace_that_only_the_leader_knows_to_hold_data_is_refused_at_a_guest() {
    let mut group = Group::new(3, 1);
    group.settle(5);
    group.cut.extend([(0, 3), (1, 3), (2, 3)]);
    group.ask(0, write(set("k", "v")), Terms::default());
    let order = group.order_strong(3);
    assert!(!group.nodes[3].orders.contains_key(&order), "it knows of nothing that is in the way");
    group.cut.clear();
    group.settle(20);
    let refused = group.nodes[3].orders.remove(&order).expect("answered").expect_err("it holds data");
    assert!(matches!(refused, OrderError::HoldsData(_)), "{refused}");
}

#[test]
fn order_that_nobody_can_carry_out_ends_in_time() {
    let mut group = Group::new(3, 1);
    group.settle(5);
    group.has_no_leader = true;
    let orders = [0, 3].map(|index| (index, group.order_strong(index)));
    group.settle(160);
    for (index, order) in orders {
        let refused = group.nodes[index].orders.remove(&order).expect("in time").expect_err("nobody leads");
        assert!(matches!(refused, OrderError::NoLeader(_)), "{index}: {refused}");
    }
    let mut alone = Group::new(0, 1);
    let order = alone.order_strong(0);
    let refused = alone.nodes[0].orders.remove(&order).expect("at once").expect_err("it knows of no anchor");
    assert!(matches!(refused, OrderError::NoAnchor), "{refused}");
}

#[test]
fn another_leader_goes_on_where_the_first_one_stopped() {
    let mut group = Group::new(3, 0);
    let order = group.order_strong(0);
    (0..3).for_each(|index| group.apply(index, 1));
    group.restart(0);
    group.lead(1);
    group.settle(20);
    assert!((0..3).all(|index| group.is_exact(index)));
    assert!(group.nodes[0].orders.remove(&order).is_none(), "whoever asked is gone");
}

/// What has a deadline goes by the clock of the log, whatever the clocks of the nodes say.
#[test]
fn keys_expire_by_the_clock_of_the_log() {
    let mut group = Group::strong(3, 1);
    let brief = Write::SetFor { key: "brief".into(), value: "v".into(), ttl: Ttl::Until(START_MS + 5_000) };
    group.asked(0, write(brief)).expect("it is done");
    // The leader would let it expire, and cannot.
    group.has_no_leader = true;
    group.pass(60_000);
    group.has_no_leader = false;
    let at = |ms| Hlc::at(START_MS + ms);
    let (keyspace, epoch) = (keyspace_id(NOTES), Epoch(1));
    group.append(&[Command::Expire { keyspace, epoch, until: at(4_999) }]);
    (0..3).for_each(|index| group.apply(index, 10));
    let read = group.ask(1, get("brief"), stale());
    assert_eq!(value(group.reply(1, read).expect("at once")).as_deref(), Some("v"));
    group.append(&[Command::Expire { keyspace, epoch, until: at(5_000) }]);
    (0..3).for_each(|index| group.apply(index, 10));
    let read = group.ask(1, get("brief"), stale());
    assert_eq!(value(group.reply(1, read).expect("at once")), None);
    group.settle(20);
    assert_eq!(group.strong_frames(0), group.strong_frames(2));
    assert_eq!(group.strong_frames(0), group.strong_frames(3));
    assert_eq!(group.fingerprint(0), group.fingerprint(3));
}

/// An anchor that was away while a snapshot took the place of entries follows, catches up, and makes frames again.
#[test]
fn anchor_that_missed_entries_catches_up_by_frames_and_then_makes_its_own() {
    let mut group = Group::strong(3, 0);
    write_all_kinds(&mut group);
    group.apply(0, 100);
    group.apply(1, 100);
    group.skip_by_snapshot(0, 2);
    assert!(!group.is_exact(2));
    // What came behind the snapshot waits until the frames before it have come.
    group.cut.extend([(0, 2), (1, 2)]);
    group.ask(0, write(set("k", "v")), Terms::default());
    for index in 0..3 {
        group.apply(index, 100);
    }
    assert!(group.strong_frames(2).len() < group.strong_frames(0).len());
    group.cut.clear();
    group.ask(1, write(set("k", "w")), Terms::default());
    group.settle(80);
    group.ask(1, write(set("k", "x")), Terms::default());
    group.settle(80);
    assert!(group.is_exact(2));
    assert_eq!(group.strong_frames(2), group.strong_frames(0));
    assert_eq!(value(group.asked(2, get("k"))).as_deref(), Some("x"));
}

#[test]
fn keyspace_without_a_mode_is_as_it_was() {
    let mut group = Group::new(3, 1);
    group.ask(0, write(set("k", "v")), Terms::default());
    group.settle(20);
    for index in 0..4 {
        assert_eq!(group.mode(index), None);
        assert_eq!(group.fingerprint(index), group.fingerprint(0));
        assert!(group.driver(index).store().recovered().modes.is_empty());
    }
    assert_eq!(group.log.len(), 1, "it names the group");
}

#[test]
fn entries_hold_what_was_asked_for_in_one_turn() {
    let mut group = Group::strong(1, 0);
    let before = group.log.len();
    group.ask(0, write(set("a", "1")), Terms::default());
    assert_eq!(group.log.len(), before + 1);
    let commands = decode_entry(&group.log[before]).expect("an entry");
    assert!(matches!(&commands[..], [Command::Execute(_)]));
}

/// What an anchor says of a fence, and what it does not write any more, rests on it: it is on disk with its entry. What
/// operations have done need not be, for it is applied again.
#[test]
fn fence_is_on_disk_when_its_entry_is_applied() {
    let mut group = Group::new(3, 0);
    group.order_strong(0);
    let mut changes = 0;
    for _ in 0..30 {
        group.deliver();
        for index in 0..3 {
            let mode = |group: &Group| group.replica(index).mode(keyspace_id(NOTES)).cloned();
            let before = mode(&group);
            group.execute(index, 1);
            if before != mode(&group) {
                assert!(group.driver(index).is_durable());
                changes += 1;
            }
            group.hear(index);
        }
        group.pass(50);
    }
    assert!((0..3).all(|index| group.is_exact(index)));
    assert_eq!(changes, 9, "it began, was cut and ended, three times");
    group.ask(0, write(set("k", "v")), Terms::default());
    group.execute(1, 1);
    assert!(!group.driver(1).is_durable());
}
