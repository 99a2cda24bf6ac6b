//! Writes whose operations follow from what is read: edits of values and fields, and what is popped, copied, combined.
//!
//! On one replica they are compared with a plain model; between replicas they merge as the writes do that they become.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::by_hand::Station;
use crate::world::random::Random;
use crate::world::words::{add, change, expire, increment, put, remove, score, set, text};
use crate::world::{START_MS, refusal};
use tidelock_engine::bounds::{BoundError, ELEMENTS_MAX, VALUE_BYTES_MAX};
use tidelock_engine::read::Combination;
use tidelock_engine::read::{Answer, Query, SortedPage};
use tidelock_engine::request::{ActionReply, RequestError, RequestReply};
use tidelock_engine::write::{Addend, Decimal, Edit, Outcome, Write, WriteError};

fn key(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

fn edit(name: &str, edit: Edit) -> Write {
    Write::Edit { key: key(name), edit }
}

fn append(name: &str, bytes: &str) -> Write {
    edit(name, Edit::Append(key(bytes)))
}

fn decimal(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).expect("a number")
}

fn copy(from: &str, to: &str) -> Write {
    Write::Copy { from: key(from), to: key(to), is_move: false }
}

fn rename(from: &str, to: &str) -> Write {
    Write::Copy { from: key(from), to: key(to), is_move: true }
}

fn combine(into: &str, how: Combination, keys: &[&str]) -> Write {
    Write::Combine { into: key(into), how, keys: keys.iter().map(|name| key(name)).collect() }
}

fn pop(name: &str, count: u64, seed: u64) -> Write {
    Write::Pop { key: key(name), count, seed }
}

fn outcome(reply: RequestReply) -> Outcome {
    match reply.expect("the write is done").pop() {
        Some(Ok(ActionReply::Outcome(outcome))) => outcome,
        other => panic!("{other:?}"),
    }
}

fn elements(station: &Station, name: &str) -> Vec<String> {
    match station.query(&Query::Members(key(name))) {
        Answer::List(list) => list.iter().map(|element| text(element)).collect(),
        other => panic!("{other:?}"),
    }
}

fn field(station: &Station, name: &str, field: &str) -> Option<String> {
    match station.query(&Query::Field(key(name), key(field))) {
        Answer::Value(value) => value.as_deref().map(text),
        other => panic!("{other:?}"),
    }
}

/// Everybody takes what everybody has; all end equal.
fn settle(stations: &mut [Station]) {
    for _ in 0..2 {
        for to in 0..stations.len() {
            for from in (0..stations.len()).filter(|from| *from != to) {
                let [to, from] = stations.get_disjoint_mut([to, from]).expect("they differ");
                to.pull(from, usize::MAX);
            }
        }
    }
    assert!(stations.windows(2).all(|pair| pair[0].rows() == pair[1].rows()));
}

fn two() -> [Station; 2] {
    [Station::new(0, 2), Station::new(1, 2)]
}

/// A thousand random edits of one value, beside a vector of bytes.
#[test]
fn edits_of_a_value_are_those_of_its_bytes() {
    let (mut random, mut a, mut model) = (Random::new(5), Station::new(0, 1), Vec::<u8>::new());
    for _ in 0..1_000 {
        let byte = u8::try_from(random.below(256)).expect("it is one");
        let (edit, expected) = match random.below(4) {
            0 => {
                model.push(byte);
                (Edit::Append(vec![byte]), Outcome::Length(model.len() as u64))
            }
            1 => {
                let offset = random.below(model.len() + 3);
                model.resize(model.len().max(offset + 2), 0);
                model[offset..offset + 2].copy_from_slice(&[byte, 7]);
                let edit = Edit::Splice { offset: offset as u64, bytes: vec![byte, 7] };
                (edit, Outcome::Length(model.len() as u64))
            }
            2 => (Edit::Splice { offset: 1_000, bytes: Vec::new() }, Outcome::Length(model.len() as u64)),
            _ => {
                let (offset, is_set) = (random.below(8 * (model.len() + 2)), byte % 2 == 0);
                model.resize(model.len().max(offset / 8 + 1), 0);
                let mask = 0x80_u8 >> (offset % 8);
                let was = model[offset / 8] & mask != 0;
                if is_set {
                    model[offset / 8] |= mask;
                } else {
                    model[offset / 8] &= !mask;
                }
                (Edit::Bit { offset: offset as u64, is_set }, Outcome::Bit(was))
            }
        };
        assert_eq!(outcome(a.try_write(vec![Write::Edit { key: key("k"), edit }])), expected);
        let Answer::Value(value) = a.query(&Query::Get(key("k"))) else { panic!("a value") };
        assert_eq!(value.unwrap_or_default(), model);
    }
    assert!(model.len() > 200);
}

#[test]
fn edits_are_bounded_by_the_longest_value() {
    let mut a = Station::new(0, 1);
    let most = VALUE_BYTES_MAX as u64;
    a.write(edit("k", Edit::Splice { offset: most - 1, bytes: key("x") }));
    for (beyond, edit) in [
        (VALUE_BYTES_MAX + 1, Edit::Append(key("y"))),
        (VALUE_BYTES_MAX + 1, Edit::Splice { offset: most, bytes: key("y") }),
        (VALUE_BYTES_MAX + 1, Edit::Bit { offset: most * 8, is_set: true }),
        (usize::MAX, Edit::Splice { offset: u64::MAX, bytes: key("y") }),
    ] {
        let reply = a.try_write(vec![Write::Edit { key: key("k"), edit }]);
        let Err(RequestError::Action { source, .. }) = reply else { panic!("{reply:?}") };
        assert_eq!(source.to_string(), BoundError::Value(beyond).to_string());
    }
}

/// Two replicas append to one value at the same time: one is read, the other is a conflict, and none is torn.
#[test]
fn concurrent_edits_of_a_value_are_siblings() {
    let mut both = two();
    both[0].write(set("k", "base"));
    settle(&mut both);
    both[0].write(append("k", " left"));
    both[1].write(append("k", " right"));
    settle(&mut both);
    let read = both[0].get("k").expect("it is there");
    assert!(["base left", "base right"].contains(&read.as_str()), "{read}");
    let Answer::Entry(entry) = both[0].query(&Query::Entry(key("k"))) else { panic!("an entry") };
    assert_eq!(entry.rows.len(), 2);
    both[0].write(append("k", "!"));
    settle(&mut both);
    assert_eq!(both[1].get("k"), Some(read + "!"), "the next edit has seen both, and builds on what is read");
}

/// An edit of a counter writes what was counted as a value; what others count meanwhile is added to it.
#[test]
fn edit_of_a_counter_keeps_what_it_did_not_see() {
    let mut both = two();
    both[0].write(increment("n", 5));
    settle(&mut both);
    both[0].write(edit("n", Edit::Add(decimal("1"))));
    both[1].write(increment("n", 10));
    settle(&mut both);
    assert_eq!(both[0].get("n").as_deref(), Some("16"));
}

#[test]
fn concurrent_additions_to_a_field_are_siblings_and_other_fields_are_left_alone() {
    let mut both = two();
    both[0].batch(vec![put("h", "n", "10"), put("h", "other", "x")]);
    settle(&mut both);
    let by = |by| Write::AddToField { key: key("h"), field: key("n"), by: Addend::Integer(by) };
    both[0].write(by(1));
    both[1].write(by(2));
    both[1].write(put("h", "other", "y"));
    settle(&mut both);
    let read = field(&both[0], "h", "n").expect("it is there");
    assert!(["11", "12"].contains(&read.as_str()), "one of them is read, and they are not added up: {read}");
    assert_eq!(field(&both[0], "h", "other").as_deref(), Some("y"));
}

#[test]
fn numbers_that_cannot_be_added_to_are_refused_and_left_alone() {
    let mut a = Station::new(0, 1);
    let max = i64::MAX.to_string();
    a.batch(vec![set("text", "abc"), put("h", "text", "abc"), put("h", "max", &max), set("huge", "1e308")]);
    let to_field = |field: &str, by| Write::AddToField { key: key("h"), field: key(field), by };
    let cases = [
        (edit("text", Edit::Add(decimal("1"))), WriteError::NotANumber),
        (edit("huge", Edit::Add(decimal("1.7e308"))), WriteError::Infinite),
        (edit("huge", Edit::Add(decimal("inf"))), WriteError::Infinite),
        (to_field("text", Addend::Integer(1)), WriteError::FieldNotAnInteger),
        (to_field("text", Addend::Decimal(decimal("1"))), WriteError::FieldNotANumber),
        (to_field("max", Addend::Integer(1)), WriteError::Overflow),
    ];
    let before = a.rows().clone();
    for (write, wanted) in cases {
        let found = refusal(a.try_write(vec![write.clone()]));
        assert_eq!(found, format!("action 0: {wanted}; nothing of the batch was done"), "{write:?}");
    }
    assert_eq!(a.rows(), &before);
}

/// Which elements go follows from the seed and the rows; over many seeds each goes as often as any other.
#[test]
fn popping_follows_from_the_seed_and_prefers_nobody() {
    let full = |station: &mut Station| {
        station.batch((0..5).map(|n| add("s", &n.to_string())).collect());
    };
    let mut taken: BTreeMap<Vec<Vec<u8>>, u64> = BTreeMap::new();
    let (mut a, mut b) = (Station::new(0, 1), Station::new(0, 1));
    for seed in 0..2_000 {
        full(&mut a);
        full(&mut b);
        let popped = outcome(a.try_write(vec![pop("s", 2, seed)]));
        assert_eq!(outcome(b.try_write(vec![pop("s", 2, seed)])), popped, "the same rows, the same seed");
        let Outcome::Elements(popped) = popped else { panic!("{popped:?}") };
        assert_eq!(elements(&a, "s").len(), 3);
        *taken.entry(popped).or_default() += 1;
    }
    assert_eq!(taken.len(), 10, "every pair of five");
    assert!(taken.values().all(|count| (140..260).contains(count)), "{taken:?}");
}

#[test]
fn popping_takes_what_is_there_and_no_more() {
    let mut a = Station::new(0, 1);
    a.batch(vec![add("s", "x"), add("s", "y")]);
    assert_eq!(outcome(a.try_write(vec![pop("nothing", 3, 1)])), Outcome::Elements(Vec::new()));
    assert_eq!(outcome(a.try_write(vec![pop("s", 0, 1)])), Outcome::Elements(Vec::new()));
    let all = Outcome::Elements(vec![key("x"), key("y")]);
    assert_eq!(outcome(a.try_write(vec![pop("s", u64::MAX, 1)])), all);
    assert_eq!(a.query(&Query::Kind(key("s"))), Answer::Kind(None));
}

/// Two replicas pop the same set: an element may come out of both, and none comes back.
#[test]
fn concurrent_pops_may_give_an_element_twice_and_leave_none() {
    let mut both = two();
    both[0].write(add("s", "x"));
    settle(&mut both);
    for station in &mut both {
        assert_eq!(outcome(station.try_write(vec![pop("s", 1, 3)])), Outcome::Elements(vec![key("x")]));
    }
    settle(&mut both);
    assert_eq!(elements(&both[0], "s"), Vec::<String>::new());
}

/// What every kind shows is copied over whatever was there, and renaming takes it away.
#[test]
fn every_kind_is_copied_and_renamed() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("value", "v"), increment("count", 3), add("set", "x"), add("set", "y")]);
    a.batch(vec![put("map", "f", "v"), put("map", "g", "w")]);
    a.batch(vec![score("sorted", "m", 2.0), score("sorted", "n", -1.0)]);
    a.write(change("page", "one", Vec::new()));
    a.write(change("page", "two", Vec::new()));
    let shown = |station: &Station, name: &str| match station.query(&Query::Kind(key(name))) {
        Answer::Kind(Some(kind)) => {
            use tidelock_engine::crdt::VisibleKind as Kind;
            let query = match kind {
                Kind::Register | Kind::Counter => Query::Get(key(name)),
                Kind::Set => Query::Members(key(name)),
                Kind::Map => Query::Fields(key(name)),
                Kind::Sorted => Query::Sorted(SortedPage::all(key(name))),
                Kind::Document => Query::Chunks(key(name)),
            };
            match station.query(&query) {
                Answer::Chunks(chunks) => {
                    format!("{:?}", chunks.into_iter().map(|(_, chunk)| chunk).collect::<Vec<_>>())
                }
                answer => format!("{answer:?}"),
            }
        }
        other => format!("{other:?}"),
    };
    for from in ["value", "count", "set", "map", "sorted", "page"] {
        let wanted = shown(&a, from);
        a.batch(vec![put("to", "old", "v"), add("other", "old")]);
        assert_eq!(outcome(a.try_write(vec![copy(from, "to")])), Outcome::Changed(1));
        assert_eq!((shown(&a, "to"), shown(&a, from)), (wanted.clone(), wanted.clone()), "{from}");
        assert_eq!(outcome(a.try_write(vec![rename(from, "other")])), Outcome::Changed(1));
        assert_eq!((shown(&a, "other"), shown(&a, from)), (wanted, "Kind(None)".to_owned()), "{from}");
        a.batch(vec![Write::Delete { key: key("to") }, Write::Delete { key: key("other") }]);
    }
    assert_eq!(outcome(a.try_write(vec![copy("nothing", "to")])), Outcome::Changed(0));
    assert_eq!(outcome(a.try_write(vec![rename("nothing", "to")])), Outcome::Changed(0));
    assert!(a.rows().rows().is_empty());
}

/// One renames a set while another adds to it: what was added stays under the old name, and nothing is lost.
#[test]
fn renaming_leaves_what_it_did_not_see() {
    let mut both = two();
    both[0].batch(vec![add("old", "x"), add("new", "gone")]);
    settle(&mut both);
    both[0].write(rename("old", "new"));
    both[1].batch(vec![add("old", "late"), add("new", "later")]);
    settle(&mut both);
    assert_eq!(elements(&both[0], "old"), ["late"]);
    assert_eq!(elements(&both[0], "new"), ["later", "x"]);
}

#[test]
fn what_no_frame_holds_is_not_copied_and_the_source_stays() {
    let mut a = Station::new(0, 1);
    for part in 0..12 {
        let elements = (0..10).map(|n| format!("{part}-{n}-{}", "x".repeat(10 << 10)).into_bytes()).collect();
        a.write(Write::Add { key: key("s"), elements });
    }
    let before = a.rows().clone();
    let all = combine("into", Combination::Union, &["s"]);
    for write in [copy("s", "to"), rename("s", "to"), all, pop("s", u64::MAX, 1)] {
        let reply = refusal(a.try_write(vec![write.clone()]));
        assert!(reply.contains("batch of"), "{write:?}: {reply}");
    }
    let many: Vec<Vec<u8>> = (0..ELEMENTS_MAX).map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(a.rows(), &before);
    a.write(Write::Add { key: key("many"), elements: many });
    a.write(add("many", "one more"));
    assert!(refusal(a.try_write(vec![copy("many", "to")])).contains("at most 65536"));
    assert!(refusal(a.try_write(vec![pop("many", u64::MAX, 1)])).contains("at most 65536"));
}

const NAMES: [&str; 4] = ["p", "q", "r", "t"];

/// Random sets, combined in every way and compared with the standard library's.
#[test]
fn sets_combine_as_sets_do() {
    let (mut random, mut a) = (Random::new(8), Station::new(0, 1));
    let mut model: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut combined = 0;
    for _ in 0..600 {
        let name = *random.pick(&NAMES);
        let element = random.below(6).to_string();
        match random.below(4) {
            0 | 1 => {
                a.write(add(name, &element));
                model.entry(name).or_default().insert(element);
            }
            2 => {
                a.write(remove(name, &element));
                model.entry(name).or_default().remove(&element);
            }
            _ => {
                let keys: Vec<&str> = (0..=random.below(3)).map(|_| *random.pick(&NAMES)).collect();
                let sets: Vec<BTreeSet<String>> =
                    keys.iter().map(|name| model.get(name).cloned().unwrap_or_default()).collect();
                let ways = [Combination::Intersection, Combination::Union, Combination::Difference];
                let how = *random.pick(&ways);
                let fold = |a: BTreeSet<String>, b: &BTreeSet<String>| match how {
                    Combination::Intersection => &a & b,
                    Combination::Union => &a | b,
                    Combination::Difference => &a - b,
                };
                let wanted = sets[1..].iter().fold(sets[0].clone(), fold);
                let count = outcome(a.try_write(vec![combine(name, how, &keys)]));
                assert_eq!(count, Outcome::Changed(wanted.len() as u64));
                combined += usize::from(!wanted.is_empty());
                model.insert(name, wanted);
            }
        }
        let wanted = model.get(name).into_iter().flatten().cloned().collect::<Vec<_>>();
        assert_eq!(elements(&a, name), wanted);
    }
    assert!(combined > 50, "{combined} were not empty");
}

/// One stores a union while another adds to the set that it writes and to one that it reads.
#[test]
fn stored_set_keeps_what_is_added_to_it_and_not_what_is_added_to_its_sources() {
    let mut both = two();
    both[0].batch(vec![add("p", "x"), add("into", "old")]);
    settle(&mut both);
    both[0].write(combine("into", Combination::Union, &["p"]));
    both[1].batch(vec![add("into", "late"), add("p", "later")]);
    settle(&mut both);
    assert_eq!(elements(&both[0], "into"), ["late", "x"]);
}

#[test]
fn other_kinds_are_refused_and_left_alone() {
    let mut a = Station::new(0, 1);
    a.batch(vec![set("value", "v"), add("set", "x"), put("map", "f", "v")]);
    let before = a.rows().clone();
    let field = Write::AddToField { key: key("set"), field: key("f"), by: Addend::Integer(1) };
    let writes = [
        append("set", "x"),
        edit("map", Edit::Bit { offset: 0, is_set: true }),
        edit("set", Edit::Splice { offset: 0, bytes: Vec::new() }),
        field,
        pop("value", 1, 1),
        pop("map", 0, 1),
        combine("into", Combination::Intersection, &["nothing", "value"]),
        combine("into", Combination::Difference, &["set", "map"]),
    ];
    for write in writes {
        let reply = refusal(a.try_write(vec![write.clone()]));
        assert!(reply.contains("another kind than this is for"), "{write:?}: {reply}");
    }
    assert_eq!(a.rows(), &before);
}

/// An edit keeps the deadline of its key, a copy takes it along, and what has expired is not there to be read.
#[test]
fn deadlines_are_kept_by_edits_and_go_along_with_copies() {
    let mut a = Station::new(0, 1);
    let soon = START_MS + 10_000;
    let deadline = |station: &Station, name: &str| match station.query(&Query::Deadline(key(name))) {
        Answer::Deadline(deadline) => deadline,
        other => panic!("{other:?}"),
    };
    for name in ["value", "set", "map"] {
        let write = match name {
            "value" => set(name, "1"),
            "set" => add(name, "x"),
            _ => put(name, "f", "1"),
        };
        a.batch(vec![write, expire(name, soon), set("to", "old"), expire("to", soon + 5_000)]);
        a.write(copy(name, "to"));
        assert_eq!((deadline(&a, "to"), deadline(&a, name)), (Some(Some(soon)), Some(Some(soon))), "{name}");
    }
    a.write(append("value", "2"));
    a.write(Write::AddToField { key: key("map"), field: key("f"), by: Addend::Integer(1) });
    assert_eq!((deadline(&a, "value"), deadline(&a, "map")), (Some(Some(soon)), Some(Some(soon))));
    a.batch(vec![set("lives", "v"), set("to", "old"), expire("to", soon)]);
    a.write(copy("lives", "to"));
    assert_eq!(deadline(&a, "to"), Some(None), "the deadline of what was replaced goes with it");
    // Nothing ticks: the rows are there, and nobody is to see them.
    a.unix_ms = soon;
    a.write(set("clock", "moves"));
    assert_eq!(deadline(&a, "set"), None);
    for how in [Combination::Intersection, Combination::Union, Combination::Difference] {
        a.write(add("other", "y"));
        assert_eq!(outcome(a.try_write(vec![combine("into", how, &["set", "set"])])), Outcome::Changed(0));
    }
    assert_eq!(outcome(a.try_write(vec![copy("map", "to")])), Outcome::Changed(0));
    assert_eq!(outcome(a.try_write(vec![pop("set", 1, 1)])), Outcome::Elements(Vec::new()));
    assert_eq!(outcome(a.try_write(vec![append("value", "new")])), Outcome::Length(3));
    assert_eq!(deadline(&a, "value"), Some(None), "what is written to a key that has expired is a new key");
}
