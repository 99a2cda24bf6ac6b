//! Decisions: reads, conditions and actions at one moment, in a keyspace that lets this replica decide.

use crate::world::by_hand::Station;
use crate::world::words::{add, delete, expire, increment, put, set, text};
use crate::world::{NOTES, START_MS, named};
use tidelock_engine::condition::Condition;
use tidelock_engine::ports::{Conditional, Durability};
use tidelock_engine::read::{Answer, Query, QueryError, REVISION_ROWS_MAX};
use tidelock_engine::replica::{Input, Order};
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Decided, Decision, Request, RequestId, RequestReply,
};
use tidelock_engine::write::{Outcome, Write, WriteError};

/// A station that decides by what it sees.
fn deciding(index: u8, count: u8) -> Station {
    let mut station = Station::new(index, count);
    order(&mut station, Some(Conditional::Local));
    station
}

fn order(station: &mut Station, conditional: Option<Conditional>) {
    let input = Input::Order(RequestId(9), named(NOTES), Order::Conditional(conditional));
    let outcome = station.turn(vec![input]);
    assert!(matches!(&outcome.orders[..], [(_, Ok(()))]), "{:?}", outcome.orders);
}

fn asked(station: &mut Station, actions: Vec<Action>, atomicity: Atomicity) -> RequestReply {
    let request = Request { keyspace: named(NOTES), actions, atomicity, durability: Durability::Durable };
    let outcome = station.turn(vec![Input::Request(RequestId(1), request)]);
    outcome.replies.into_iter().next().expect("every request is answered").1
}

fn decide(station: &mut Station, decision: Decision) -> Result<Decided, ActionError> {
    let actions = vec![Action::Decide(Box::new(decision))];
    let mut replies = asked(station, actions, Atomicity::Each).expect("the request is executed");
    match replies.pop().expect("one action, one reply")? {
        ActionReply::Decided(decided) => Ok(decided),
        other => panic!("a decision answered {other:?}"),
    }
}

fn whole(conditions: Vec<Condition>, writes: Vec<Write>) -> Decision {
    let actions = writes.into_iter().map(Action::Write).collect();
    Decision { reads: Vec::new(), conditions, actions, is_whole: true }
}

fn key(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// Two devices of one user, neither of which may decide for the other: the command is refused, and nothing is done.
#[test]
fn decision_is_refused_where_it_would_hold_on_one_replica_only() {
    let mut a = Station::new(0, 1);
    let decision = || whole(vec![Condition::Missing(key("k"))], vec![set("k", "v")]);
    let error = decide(&mut a, decision()).expect_err("it is refused");
    assert!(matches!(&error, ActionError::NeedsStrong(keyspace) if keyspace.as_str() == NOTES), "{error}");
    assert_eq!(a.get("k"), None);
    order(&mut a, Some(Conditional::Local));
    assert!(decide(&mut a, decision()).expect("it may decide").given.is_some());
    a.restart();
    assert!(decide(&mut a, decision()).expect("it outlasts a restart").given.is_none(), "the key is there");
    order(&mut a, None);
    assert!(matches!(decide(&mut a, decision()), Err(ActionError::NeedsStrong(_))));
}

#[test]
fn every_condition_holds_and_does_not() {
    let mut a = deciding(0, 1);
    a.batch(vec![set("k", "v"), add("s", "x"), put("h", "f", "v"), increment("n", 3)]);
    let Answer::Revision(revision) = a.query(&Query::Revision(key("k"))) else { panic!("it has one") };
    let Answer::Revision(other) = a.query(&Query::Revision(key("s"))) else { panic!("it has one") };
    let field = |name: &str| Condition::FieldMissing { key: key("h"), field: key(name) };
    let contains = |element: &str, is_in| Condition::Contains { key: key("s"), element: key(element), is_in };
    let equals =
        |name: &str, value: Option<&str>| Condition::Equals { key: key(name), value: value.map(key) };
    let cases = [
        (Condition::Exists(key("k")), Condition::Exists(key("nothing"))),
        (Condition::Missing(key("nothing")), Condition::Missing(key("n"))),
        (field("g"), field("f")),
        (contains("x", true), contains("y", true)),
        (contains("y", false), contains("x", false)),
        (equals("k", Some("v")), equals("k", Some("w"))),
        (equals("n", Some("3")), equals("n", None)),
        (equals("nothing", None), equals("nothing", Some("v"))),
        (
            Condition::Unchanged { key: key("k"), revision },
            Condition::Unchanged { key: key("k"), revision: other },
        ),
    ];
    for (number, (holds, fails)) in cases.into_iter().enumerate() {
        let name = format!("done{number}");
        let refused = decide(&mut a, whole(vec![holds.clone(), fails.clone()], vec![set(&name, "v")]));
        assert!(refused.expect("it is decided").given.is_none(), "{fails:?}");
        assert_eq!(a.get(&name), None);
        let done = decide(&mut a, whole(vec![holds.clone()], vec![set(&name, "v")]));
        assert!(done.expect("it is decided").given.is_some(), "{holds:?}");
        assert_eq!(a.get(&name).as_deref(), Some("v"));
    }
}

/// A condition or read that a key of another kind cannot answer lets nothing be done.
#[test]
fn wrong_kind_lets_nothing_be_done() {
    let mut a = deciding(0, 1);
    a.write(add("s", "x"));
    let read = Decision { reads: vec![Query::Get(key("s"))], ..whole(Vec::new(), vec![set("k", "v")]) };
    let equals = Condition::Equals { key: key("s"), value: None };
    for decision in [read, whole(vec![equals], vec![set("k", "v")])] {
        let error = decide(&mut a, decision).expect_err("it is refused");
        assert!(matches!(error, ActionError::Query(QueryError::WrongKind { .. })), "{error}");
    }
    assert_eq!(a.get("k"), None);
}

/// What is read is from before the actions, which see each other.
#[test]
fn reads_are_from_before_and_actions_see_each_other() {
    let mut a = deciding(0, 1);
    a.write(set("k", "old"));
    let mut decision = whole(Vec::new(), vec![set("k", "new")]);
    decision.reads = vec![Query::Get(key("k"))];
    decision.actions.push(Action::Query(Query::Get(key("k"))));
    let decided = decide(&mut a, decision).expect("it is decided");
    assert_eq!(decided.answers, [Answer::Value(Some(key("old")))]);
    let given = decided.given.expect("nothing had to hold");
    assert!(matches!(&given[0], Ok(ActionReply::Outcome(Outcome::Done))));
    let read = matches!(&given[1], Ok(ActionReply::Answer(Answer::Value(Some(v)))) if v == b"new");
    assert!(read, "{given:?}");
}

/// The second action fails. Of a whole decision nothing is left, not even a dot; of another one the rest is.
#[test]
fn failed_action_takes_back_the_whole_or_leaves_the_others_alone() {
    let mut a = deciding(0, 1);
    a.write(set("text", "no number"));
    let before = a.rows().clone();
    let writes = || vec![set("k", "v"), increment("text", 1), set("l", "w")];
    let error = decide(&mut a, whole(Vec::new(), writes())).expect_err("it fails");
    assert!(matches!(error, ActionError::Write(WriteError::NotAnInteger)), "{error}");
    assert_eq!(a.rows(), &before);
    let each = Decision { is_whole: false, ..whole(Vec::new(), writes()) };
    let given = decide(&mut a, each).expect("it is decided").given.expect("nothing had to hold");
    assert_eq!(given.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((a.get("k").as_deref(), a.get("l").as_deref()), (Some("v"), Some("w")));
}

/// A command of several steps within a transaction: it needs nobody to decide, and leaves nothing behind if a step
/// fails, where the other commands are done.
#[test]
fn whole_is_done_without_deciding_or_not_at_all() {
    let mut a = Station::new(0, 1);
    a.write(set("text", "no number"));
    let both =
        |number: &str| Action::Whole([set("k", "v"), increment(number, 1)].map(Action::Write).to_vec());
    let actions = vec![both("text"), Action::Write(set("l", "w"))];
    let replies = asked(&mut a, actions, Atomicity::Together).expect("the request is executed");
    assert!(
        matches!(&replies[..], [Err(ActionError::Write(WriteError::NotAnInteger)), Ok(_)]),
        "{replies:?}"
    );
    assert_eq!((a.get("k"), a.get("l").as_deref()), (None, Some("w")));
    let replies = asked(&mut a, vec![both("n")], Atomicity::Together).expect("the request is executed");
    let given = matches!(
        &replies[..],
        [Ok(ActionReply::Whole(given))]
            if matches!(given[..], [ActionReply::Outcome(Outcome::Done), ActionReply::Outcome(Outcome::Number(1))])
    );
    assert!(given, "{replies:?}");
    assert_eq!(a.get("k").as_deref(), Some("v"));
}

/// A transaction is a decision whose commands may be decisions, and no more than that.
#[test]
fn decisions_stand_in_each_other_to_a_depth() {
    let mut a = deciding(0, 1);
    let inner = Action::Decide(Box::new(whole(vec![Condition::Missing(key("k"))], vec![set("k", "v")])));
    let middle = Decision { actions: vec![inner.clone(), inner], is_whole: false, ..Decision::default() };
    let given = decide(&mut a, middle.clone()).expect("two are allowed").given.expect("nothing had to hold");
    let done = |reply: &Result<ActionReply, ActionError>| match reply {
        Ok(ActionReply::Decided(decided)) => decided.given.is_some(),
        other => panic!("{other:?}"),
    };
    assert_eq!(given.iter().map(done).collect::<Vec<_>>(), [true, false], "the second sees the first");
    let outer = Decision { actions: vec![Action::Decide(Box::new(middle))], ..Decision::default() };
    let given = decide(&mut a, outer).expect("it is decided").given.expect("nothing had to hold");
    let Ok(ActionReply::Decided(Decided { given: Some(given), .. })) = &given[0] else { panic!("{given:?}") };
    assert!(given.iter().all(|reply| matches!(reply, Err(ActionError::TooDeep))), "{given:?}");
}

/// A decision that does not fit behind what its turn has written begins a frame of its own, and is whole in it.
#[test]
fn decision_is_in_one_frame() {
    let mut a = deciding(0, 1);
    a.new_frames();
    let half = "x".repeat(600 << 10);
    let writes = vec![set("c", "1"), set("d", &half), set("x", "2"), set("y", "3"), set("z", "4")];
    let decision = Action::Decide(Box::new(whole(vec![Condition::Missing(key("c"))], writes)));
    let actions = vec![Action::Write(set("a", &half)), decision];
    let replies = asked(&mut a, actions, Atomicity::Each).expect("the request is executed");
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    let frames = a.new_frames();
    assert_eq!(frames.iter().map(|frame| frame.header().count).collect::<Vec<_>>(), [1, 5]);
    let third = "x".repeat(400 << 10);
    let too_much = ["e", "f", "g", "h", "i"].map(|name| set(name, &third)).to_vec();
    let error = decide(&mut a, whole(Vec::new(), too_much)).expect_err("no frame holds it");
    assert!(matches!(error, ActionError::Write(WriteError::Bound(_))), "{error}");
    assert_eq!(a.get("e"), None);
}

/// The revision of a key changes with what is seen of it, by whoever it is written, and with nothing else.
#[test]
fn revision_changes_with_the_key_and_with_nothing_else() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    let revision = |station: &Station, name: &str| station.query(&Query::Revision(key(name)));
    let mut seen = vec![revision(&a, "k")];
    let mut changed = |station: &Station, what: &str| {
        let now = revision(station, "k");
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    a.write(set("k", "v"));
    changed(&a, "a write");
    a.write(set("k", "v"));
    changed(&a, "a write of the same value");
    a.write(increment("other", 1));
    let before = revision(&a, "k");
    a.write(delete("other"));
    assert_eq!(revision(&a, "k"), before, "another key");
    b.write(set("k", "w"));
    a.pull(&b, usize::MAX);
    changed(&a, "a concurrent write of a peer");
    a.write(delete("k"));
    assert_eq!(revision(&a, "k"), revision(&a, "nothing"), "a key that is gone is as one that never was");
    // A reset slot of a peer stays until its owner closes it, and nobody sees it.
    b.pull(&a, usize::MAX);
    b.write(increment("n", 1));
    a.pull(&b, usize::MAX);
    a.write(delete("n"));
    assert_eq!(revision(&a, "n"), revision(&a, "nothing"), "a spent slot");
    a.write(set("e", "v"));
    let before = revision(&a, "e");
    a.write(expire("e", START_MS + 10_000));
    assert_ne!(revision(&a, "e"), before, "a deadline");
    a.unix_ms = START_MS + 10_000;
    a.write(set("clock", "moves"));
    assert_eq!(revision(&a, "e"), revision(&a, "nothing"), "a key that has expired");
}

#[test]
fn revision_is_bounded_by_rows() {
    let mut a = deciding(0, 1);
    let elements = (0..REVISION_ROWS_MAX).map(|n| n.to_string().into_bytes()).collect();
    a.write(Write::Add { key: key("s"), elements });
    let read = || Decision { reads: vec![Query::Revision(key("s"))], ..Decision::default() };
    let decided = decide(&mut a, read()).expect("as many as may be");
    let [Answer::Revision(revision)] = decided.answers[..] else { panic!("{decided:?}") };
    a.write(add("s", "one more"));
    let error = decide(&mut a, read()).expect_err("too many");
    assert!(matches!(error, ActionError::Query(QueryError::NoRevision)), "{error}");
    let unchanged = Condition::Unchanged { key: key("s"), revision };
    assert!(decide(&mut a, whole(vec![unchanged], Vec::new())).expect("it is decided").given.is_none());
}

/// Two replicas that decide for themselves decide alike: what they wrote merges as any writes do, which is why nobody
/// decides unless the operator says so.
#[test]
fn concurrent_decisions_of_two_replicas_both_succeed_and_merge() {
    let (mut a, mut b) = (deciding(0, 2), deciding(1, 2));
    let take = |station: &mut Station, owner: &str| {
        let decided = decide(station, whole(vec![Condition::Missing(key("lock"))], vec![set("lock", owner)]));
        decided.expect("it is decided").given.is_some()
    };
    assert!(take(&mut a, "a") && take(&mut b, "b"), "each sees no lock");
    a.pull(&b, usize::MAX);
    b.pull(&a, usize::MAX);
    assert_eq!(a.rows(), b.rows());
    assert!(!take(&mut a, "a") && !take(&mut b, "b"), "now both see one");
    let Answer::Entry(entry) = a.query(&Query::Entry(key("lock"))) else { panic!("an entry") };
    let conflicts: Vec<String> = entry.conflicts().filter_map(|row| row.value.as_deref().map(text)).collect();
    assert_eq!(conflicts.len(), 1, "the one who lost can be found out: {conflicts:?}");
}
