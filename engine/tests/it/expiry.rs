//! Keys that expire: when they are not to be seen any more, who removes them, and what survives that.

use crate::world::by_hand::Station;
use crate::world::words::{self, add, delete, increment, put, set};
use crate::world::{START_MS, check_derived};
use tidelock_engine::read::{Answer, Collection, Combination, KeyPage, Query, RandomPick, SubkeyPage};
use tidelock_engine::row::{Kind, Payload};
use tidelock_engine::write::{Addend, Edit, ExpireIf, Ttl, Write};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;

/// The key expires so long after the beginning.
fn expire(key: &str, after_ms: u64) -> Write {
    words::expire(key, START_MS + after_ms)
}

fn set_for(key: &str, value: &str, ttl: Ttl) -> Write {
    Write::SetFor { key: key.into(), value: value.into(), ttl }
}

fn two() -> [Station; 2] {
    [Station::new(0, 2), Station::new(1, 2)]
}

/// Both take what the other has.
fn meet([a, b]: &mut [Station; 2]) {
    a.pull(b, usize::MAX);
    b.pull(a, usize::MAX);
    assert_eq!(a.rows().fingerprint(), b.rows().fingerprint());
    [a, b].iter().for_each(|station| check_derived(station.rows()));
}

#[expect(clippy::option_option, reason = "no key, no deadline and a deadline are three answers")]
fn deadline(station: &Station, key: &str) -> Option<Option<u64>> {
    match station.query(&Query::Deadline(key.into())) {
        Answer::Deadline(deadline) => deadline.map(|at| at.map(|unix_ms| unix_ms - START_MS)),
        other => panic!("{other:?}"),
    }
}

fn keys(station: &Station) -> usize {
    match station.query(&Query::Keys(KeyPage { count: 100, ..KeyPage::default() })) {
        Answer::List(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

/// Whether anything of a key is in the rows.
fn has_rows(station: &Station, key: &str) -> bool {
    station.rows().rows().keys().any(|row| row.key == key.as_bytes())
}

#[test]
fn key_lives_until_its_deadline() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("k", "v"), expire("k", SECOND_MS)]);
    a.pass(SECOND_MS - 1);
    assert_eq!((a.get("k").as_deref(), deadline(&a, "k")), (Some("v"), Some(Some(SECOND_MS))));
    a.pass(1);
    assert_eq!((a.get("k"), deadline(&a, "k"), keys(&a)), (None, None, 0));
    assert!(!has_rows(&a, "k"), "whoever set the deadline removes the key");
    check_derived(a.rows());
}

#[test]
fn every_kind_expires_with_all_it_holds() {
    let mut a = Station::new(0, 1);
    a.batch(vec![increment("n", 3), expire("n", SECOND_MS)]);
    a.batch(vec![add("s", "e"), expire("s", SECOND_MS)]);
    a.batch(vec![put("m", "f", "v"), expire("m", SECOND_MS)]);
    // So many that they are not listed one by one.
    (0..200).for_each(|number| drop(a.write(add("many", &number.to_string()))));
    a.write(expire("many", SECOND_MS));
    assert_eq!(keys(&a), 4);
    a.pass(SECOND_MS);
    assert_eq!(keys(&a), 0);
    // What is left of a counter is closed a moment later.
    a.pass(2 * SECOND_MS);
    assert!(a.rows().rows().is_empty(), "{:?}", a.rows().rows());
}

/// The other replica is offline, so nobody who set the deadline removes the key here. It is not to be seen all the
/// same, and goes after a minute.
#[test]
fn deadline_of_another_is_kept_without_it() {
    let mut pair = two();
    pair[0].batch(vec![add("s", "e"), expire("s", SECOND_MS)]);
    meet(&mut pair);
    let [_, mut b] = pair;
    b.pass(SECOND_MS);
    assert_eq!((keys(&b), deadline(&b, "s")), (0, None));
    assert_eq!(b.query(&Query::Members("s".into())), Answer::List(Vec::new()));
    assert_eq!(b.query(&Query::Contains("s".into(), "e".into())), Answer::Bool(false));
    assert!(has_rows(&b, "s"));
    b.pass(59 * SECOND_MS);
    assert!(has_rows(&b, "s"));
    b.pass(SECOND_MS);
    assert!(!has_rows(&b, "s"));
    check_derived(b.rows());
}

#[test]
fn concurrent_write_survives_the_removal() {
    let mut pair = two();
    pair[0].batch(vec![set("k", "old"), expire("k", SECOND_MS)]);
    meet(&mut pair);
    let [a, b] = &mut pair;
    b.write(set("k", "new"));
    a.pass(SECOND_MS);
    assert_eq!(a.get("k"), None);
    meet(&mut pair);
    for station in &mut pair {
        station.pass(HOUR_MS);
        assert_eq!((station.get("k").as_deref(), deadline(station, "k")), (Some("new"), Some(None)));
    }
}

#[test]
fn latest_of_concurrent_deadlines_counts() {
    let mut pair = two();
    pair[0].write(set("k", "v"));
    meet(&mut pair);
    pair[0].write(expire("k", SECOND_MS));
    pair[1].write(expire("k", HOUR_MS));
    meet(&mut pair);
    for station in &mut pair {
        station.pass(SECOND_MS);
        assert_eq!(deadline(station, "k"), Some(Some(HOUR_MS)));
    }
    meet(&mut pair);
    pair[0].write(expire("k", 2 * SECOND_MS));
    assert_eq!(deadline(&pair[0], "k"), Some(Some(2 * SECOND_MS)), "what was seen counts no more");
}

/// A key of another expired, and was not removed yet, when the clock stepped back; perhaps the node was restarted then.
#[test]
fn clock_that_steps_back_brings_nothing_back() {
    for is_restarted in [false, true] {
        let mut pair = two();
        pair[0].batch(vec![set("k", "v"), expire("k", HOUR_MS)]);
        meet(&mut pair);
        let [_, mut b] = pair;
        b.pass(HOUR_MS);
        assert_eq!(b.get("k"), None);
        for back_ms in [5 * 60_000, 2 * HOUR_MS] {
            b.unix_ms -= back_ms;
            if is_restarted {
                b.restart();
            }
            assert_eq!(b.get("k"), None, "{back_ms}");
            b.pass(100);
            assert_eq!(b.get("k"), None, "{back_ms}");
        }
        assert!(!has_rows(&b, "k"), "it was removed before the clock began again");
    }
}

/// The clock stepped back while more keys than one turn looks at were looked at, of which those in front are left to
/// whoever set their deadlines.
#[test]
fn clock_that_steps_back_between_turns_brings_nothing_back() {
    let mut pair = two();
    for key in 0..1_500 {
        pair[0].batch(vec![set(&key.to_string(), "v"), expire(&key.to_string(), HOUR_MS)]);
    }
    meet(&mut pair);
    let [_, mut b] = pair;
    b.pass(HOUR_MS);
    b.unix_ms -= 2 * HOUR_MS;
    for _ in 0..5 {
        b.pass(100);
        assert_eq!(keys(&b), 0);
    }
    assert!(b.rows().rows().is_empty(), "all were removed before the clock began again");
}

/// No deadline is past by a clock that was never looked at for one.
#[test]
fn clock_that_stood_ahead_for_nothing_expires_nothing() {
    let mut pair = two();
    let [a, b] = &mut pair;
    b.unix_ms += 5 * 60_000;
    b.restart();
    b.pass(100);
    b.unix_ms -= 5 * 60_000;
    a.batch(vec![set("k", "v"), expire("k", 2 * 60_000)]);
    a.batch(vec![set("now", "v"), expire("now", SECOND_MS)]);
    b.pull(a, usize::MAX);
    b.pass(SECOND_MS);
    assert_eq!((b.get("now"), b.get("k").as_deref()), (None, Some("v")));
}

/// A clock that stood a year ahead is set right. What expired by it is gone; what is written now lives as long as it
/// is said.
#[test]
fn deadlines_are_right_again_once_the_clock_is() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("short", "v"), expire("short", HOUR_MS)]);
    a.unix_ms += 365 * 24 * HOUR_MS;
    a.pass(100);
    assert_eq!(a.get("short"), None);
    a.unix_ms = START_MS;
    // Already in the turn in which the clock begins again.
    a.batch(vec![set("new", "v"), expire("new", HOUR_MS)]);
    a.pass(100);
    assert_eq!(a.get("new").as_deref(), Some("v"));
    a.restart();
    a.pass(100);
    assert_eq!(a.get("new").as_deref(), Some("v"));
    a.pass(HOUR_MS);
    assert_eq!(a.get("new"), None);
}

#[test]
fn write_to_an_expired_key_begins_anew() {
    let mut pair = two();
    let writes = [increment("n", 5), add("s", "old"), put("m", "old", "v"), set("k", "old")];
    for (write, key) in writes.into_iter().zip(["n", "s", "m", "k"]) {
        pair[0].batch(vec![write, expire(key, SECOND_MS)]);
    }
    meet(&mut pair);
    let [_, b] = &mut pair;
    b.pass(SECOND_MS);
    b.batch(vec![increment("n", 2), add("s", "new"), put("m", "new", "v"), increment("k", 1)]);
    assert_eq!((b.get("n").as_deref(), b.get("k").as_deref()), (Some("2"), Some("1")));
    assert_eq!(b.query(&Query::Members("s".into())), Answer::List(vec![b"new".to_vec()]));
    assert_eq!(b.query(&Query::FieldCount("m".into())), Answer::Count(1));
    assert_eq!((deadline(b, "n"), keys(b)), (Some(None), 4));
    meet(&mut pair);
    pair[0].pass(HOUR_MS);
    assert_eq!(keys(&pair[0]), 4);
}

#[test]
fn setting_a_key_says_how_long_it_lives() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("k", "1"), expire("k", HOUR_MS), set_for("k", "2", Ttl::Keep)]);
    assert_eq!(deadline(&a, "k"), Some(Some(HOUR_MS)));
    a.write(set("k", "3"));
    assert_eq!(deadline(&a, "k"), Some(None));
    a.write(set_for("k", "4", Ttl::Until(START_MS + SECOND_MS)));
    assert_eq!(deadline(&a, "k"), Some(Some(SECOND_MS)));
    a.write(increment("k", 1));
    assert_eq!(deadline(&a, "k"), Some(Some(SECOND_MS)), "what changes a value leaves its deadline");
    a.write(Write::Persist { key: "k".into() });
    assert_eq!(deadline(&a, "k"), Some(None));
    // A set that is overwritten goes whole, and its deadline stays if that is wanted.
    a.batch(vec![add("s", "e"), expire("s", HOUR_MS), set_for("s", "v", Ttl::Keep)]);
    assert_eq!((a.get("s").as_deref(), deadline(&a, "s")), (Some("v"), Some(Some(HOUR_MS))));
    a.write(set_for("gone", "v", Ttl::Until(START_MS - 1)));
    assert_eq!((a.get("gone"), has_rows(&a, "gone")), (None, false));
    let deadlines = a.rows().rows().iter().filter(|(row, _)| row.kind == Kind::Deadline);
    assert_eq!(deadlines.count(), 1, "no more than one each is left");
}

#[test]
fn deadline_is_set_in_the_case_that_is_asked_for() {
    let mut a = Station::new(0, 1);
    a.write(set("k", "v"));
    let mut cases = |only, after_ms| {
        let write = Write::Expire { key: "k".into(), deadline_ms: START_MS + after_ms, only: Some(only) };
        let before = deadline(&a, "k");
        a.write(write);
        deadline(&a, "k") != before
    };
    assert!(!cases(ExpireIf::HasOne, 50_000));
    assert!(!cases(ExpireIf::Later, 50_000), "it lives for ever");
    assert!(cases(ExpireIf::Sooner, 50_000));
    assert!(!cases(ExpireIf::HasNone, 60_000));
    assert!(!cases(ExpireIf::Sooner, 60_000));
    assert!(cases(ExpireIf::Later, 60_000));
    assert!(!cases(ExpireIf::Later, 60_000));
    assert!(cases(ExpireIf::HasOne, 40_000));
    a.write(expire("nothing", SECOND_MS));
    assert!(!has_rows(&a, "nothing"), "only what is there can expire");
}

/// One removes the key while another sets its deadline. The deadline alone is no key, and it does not shorten the
/// life of what is written there later.
#[test]
fn deadline_that_is_left_over_is_nobodys() {
    let mut pair = two();
    pair[0].write(set("k", "v"));
    meet(&mut pair);
    pair[0].write(delete("k"));
    pair[1].write(expire("k", SECOND_MS));
    meet(&mut pair);
    assert_eq!((keys(&pair[0]), deadline(&pair[0], "k")), (0, None));
    assert!(has_rows(&pair[0], "k"));
    pair[0].write(put("k", "f", "v"));
    meet(&mut pair);
    pair.iter_mut().for_each(|station| station.pass(HOUR_MS));
    meet(&mut pair);
    assert_eq!((keys(&pair[0]), deadline(&pair[0], "k")), (1, Some(None)));
}

/// More deadlines are due than one turn looks at, of keys of both replicas.
#[test]
fn many_deadlines_are_kept_in_turns() {
    let mut pair = two();
    for (number, station) in (0..2).zip(&mut pair) {
        for key in 0..1_500 {
            station.batch(vec![
                set(&format!("{number}-{key}"), "v"),
                expire(&format!("{number}-{key}"), SECOND_MS),
            ]);
        }
    }
    meet(&mut pair);
    let [a, _] = &mut pair;
    a.pass(SECOND_MS);
    assert_eq!(keys(a), 0, "none is to be seen from the first turn on");
    (0..10).for_each(|_| a.pass(100));
    let left = a.rows().rows().keys().filter(|row| row.kind == Kind::Deadline).count();
    assert_eq!(left, 1_500, "its own are removed");
    a.pass(HOUR_MS);
    (0..10).for_each(|_| a.pass(100));
    assert!(a.rows().rows().is_empty());
    assert_eq!(a.counter("keys_expired"), 3_000);
}

/// An expired key of another, whose rows are still there, is to every question what a missing one is, and to every
/// write that reads it.
#[test]
fn expired_key_is_a_missing_key() {
    let mut pair = two();
    pair[0].batch(vec![add("s", "e"), expire("s", SECOND_MS)]);
    pair[0].batch(vec![put("m", "f", "1"), expire("m", SECOND_MS)]);
    pair[0].batch(vec![set("k", "v"), expire("k", SECOND_MS)]);
    pair[0].write(add("other", "e"));
    meet(&mut pair);
    let [_, b] = &mut pair;
    b.pass(SECOND_MS);
    assert!(has_rows(b, "s") && has_rows(b, "m") && has_rows(b, "k"));
    let page = |key: &str, collection| {
        Query::Page(SubkeyPage { key: key.into(), collection, after: None, count: 10 })
    };
    let pick = |key: &str, collection| {
        Query::Random(RandomPick { key: key.into(), collection, count: 5, is_repeated: true, seed: 1 })
    };
    let sets = |first: &str| vec![first.as_bytes().to_vec(), if first == "s" { "other" } else { "s" }.into()];
    let (nothing, one) = (|| Answer::List(Vec::new()), || Answer::List(vec![b"e".to_vec()]));
    let questions = [
        (Query::Get("k".into()), Answer::Value(None)),
        (Query::Kind("s".into()), Answer::Kind(None)),
        (Query::Field("m".into(), "f".into()), Answer::Value(None)),
        (Query::Fields("m".into()), Answer::Pairs(Vec::new())),
        (page("s", Collection::Set), nothing()),
        (page("m", Collection::Map), Answer::Pairs(Vec::new())),
        (pick("s", Collection::Set), nothing()),
        (pick("m", Collection::Map), Answer::Pairs(Vec::new())),
        (Query::Combined(Combination::Intersection, sets("s")), nothing()),
        (Query::CommonCount(sets("other"), 10), Answer::Count(0)),
        (Query::Combined(Combination::Difference, sets("s")), nothing()),
        (Query::Combined(Combination::Difference, sets("other")), one()),
        (Query::Combined(Combination::Union, sets("s")), one()),
        (Query::RandomKey(3), Answer::Value(Some(b"other".to_vec()))),
    ];
    for (question, answer) in questions {
        assert_eq!(b.query(&question), answer, "{question:?}");
    }
    let missing = b.query(&Query::Revision("nothing".into()));
    assert_eq!(b.query(&Query::Revision("k".into())), missing);
    let combine = |how| Write::Combine { into: "made".into(), how, keys: sets("s") };
    for (how, count) in
        [(Combination::Union, 1), (Combination::Intersection, 0), (Combination::Difference, 0)]
    {
        b.write(combine(how));
        assert_eq!(b.query(&Query::Cardinality("made".into())), Answer::Count(count), "{how:?}");
    }
    b.write(Write::Copy { from: "s".into(), to: "copied".into(), is_move: false });
    b.write(Write::Pop { key: "s".into(), count: 1, seed: 1 });
    b.write(Write::Edit { key: "k".into(), edit: Edit::Append(b"new".to_vec()) });
    b.write(Write::AddToField { key: "m".into(), field: "f".into(), by: Addend::Integer(1) });
    assert_eq!((b.get("k").as_deref(), b.get("copied")), (Some("new"), None));
    assert_eq!(b.query(&Query::Field("m".into(), "f".into())), Answer::Value(Some(b"1".to_vec())));
    assert_eq!((deadline(b, "k"), deadline(b, "m"), has_rows(b, "s")), (Some(None), Some(None), false));
    check_derived(b.rows());
}

/// What is copied lives as long, and an edit leaves the end of a key where it is.
#[test]
fn copies_and_edits_keep_deadlines() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("k", "v"), expire("k", SECOND_MS), set("to", "v"), expire("to", HOUR_MS)]);
    a.write(Write::Edit { key: "k".into(), edit: Edit::Append(b"w".to_vec()) });
    a.write(Write::Copy { from: "k".into(), to: "to".into(), is_move: false });
    a.batch(vec![add("s", "e"), expire("s", 2 * SECOND_MS)]);
    a.write(Write::Copy { from: "s".into(), to: "moved".into(), is_move: true });
    let ends = ["k", "to", "moved", "s"].map(|key| deadline(&a, key));
    assert_eq!(ends, [Some(Some(SECOND_MS)), Some(Some(SECOND_MS)), Some(Some(2 * SECOND_MS)), None]);
    a.batch(vec![set("plain", "v"), Write::Copy { from: "plain".into(), to: "to".into(), is_move: false }]);
    assert_eq!(deadline(&a, "to"), Some(None));
    a.pass(2 * SECOND_MS);
    assert_eq!(keys(&a), 2);
    check_derived(a.rows());
}

/// A value that fills a frame takes its deadline along, and the place of one that has another.
#[test]
fn large_value_is_renamed_with_its_deadline() {
    let mut a = Station::new(0, 1);
    let value = "x".repeat(2 << 20);
    for to in
        [vec![], vec![set("to", "v")], vec![set("to", "v"), expire("to", HOUR_MS)], vec![increment("to", 1)]]
    {
        a.batch([to, vec![set("from", "v")]].concat());
        a.write(set("from", &value));
        a.write(expire("from", SECOND_MS));
        a.write(Write::Copy { from: "from".into(), to: "to".into(), is_move: true });
        assert_eq!((a.get("to").as_ref(), has_rows(&a, "from")), (Some(&value), false));
        assert_eq!(deadline(&a, "to"), Some(Some(SECOND_MS)));
        a.write(delete("to"));
    }
    check_derived(a.rows());
}

/// What a row of a deadline says is all that there is to it.
#[test]
fn deadline_is_a_row() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("k", "v"), expire("k", SECOND_MS)]);
    let (row, payload) = a.rows().rows().iter().next().expect("it is the first row of its key");
    assert_eq!((row.kind, payload), (Kind::Deadline, &Payload::Deadline(START_MS + SECOND_MS)));
    assert_eq!(row.dot.seq, 2);
}
