//! The laws that every data type keeps, for histories that honest replicas make.
//!
//! A history is made by a few replicas that write, deliver and merge at random; its states and frames are then
//! put through the laws of a state-based CRDT, of an operation-based one, and through the oracles of `crdts`.
//! 1,000 histories by default: `PROPTEST_CASES=100000 cargo nextest run -p tidelock-engine --test it laws`.

use std::collections::BTreeMap;

use crate::world;
use crate::world::by_hand::Station;
use crate::world::words::{add, delete, expire, increment, put, remove, set, unset};
use crate::world::{START_MS, check_derived, keyspace_id};
use crdts::{CmRDT, CvRDT, Orswot, PNCounter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidelock_engine::causality::{Dot, VersionVector};
use tidelock_engine::crdt::{DotStore, KeyView};
use tidelock_engine::frame::Frame;
use tidelock_engine::read::{Answer, Combination, Query, answer, siblings};
use tidelock_engine::row::Kind;
use tidelock_engine::write::{Addend, Decimal, Edit, Write};

const REPLICAS: usize = 3;

/// One event of a history.
#[derive(Clone, Debug)]
enum Event {
    Write(usize, Write),
    /// A replica takes some frames of another, in order.
    Pull(usize, usize, usize),
}

/// The writes that a law is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Registers,
    Counters,
    Sets,
    Maps,
    Deadlines,
    Edits,
    Everything,
}

const KINDS: [About; 7] = [
    About::Registers,
    About::Counters,
    About::Sets,
    About::Maps,
    About::Deadlines,
    About::Edits,
    About::Everything,
];

fn writes(about: About) -> BoxedStrategy<Write> {
    let key = || prop::sample::select(vec!["k", "l"]);
    let sub = || prop::sample::select(vec!["x", "y"]);
    let value = || (0..50_i64).prop_map(|n| n.to_string());
    let by = || -3..5_i64;
    let register = (key(), value()).prop_map(|(key, value)| set(key, &value));
    let counter = (key(), by()).prop_map(|(key, by)| increment(key, by));
    let adds = (key(), sub()).prop_map(|(key, element)| add(key, element));
    let removes = (key(), sub()).prop_map(|(key, element)| remove(key, element));
    let puts = (key(), sub(), value()).prop_map(|(key, field, value)| put(key, field, &value));
    let unsets = (key(), sub()).prop_map(|(key, field)| unset(key, field));
    let deletes = key().prop_map(delete);
    let clear = Just(Write::Clear);
    // One in four is past, and removes the key.
    let deadline = || (0..4_u64).prop_map(|n| START_MS - 1_000 + n * 1_000);
    let expires = (key(), deadline()).prop_map(|(key, deadline_ms)| expire(key, deadline_ms));
    let persists = key().prop_map(|key| Write::Persist { key: key.into() });
    match about {
        About::Registers => prop_oneof![6 => register, 2 => deletes, 1 => clear].boxed(),
        About::Counters => prop_oneof![6 => counter, 2 => register, 2 => deletes, 1 => clear].boxed(),
        About::Sets => prop_oneof![5 => adds, 3 => removes, 1 => deletes, 1 => clear].boxed(),
        About::Maps => prop_oneof![5 => puts, 3 => unsets, 1 => deletes, 1 => clear].boxed(),
        About::Deadlines => {
            prop_oneof![4 => expires, 2 => persists, 3 => register, 2 => adds, 1 => deletes, 1 => clear]
                .boxed()
        }
        About::Edits => prop_oneof![4 => edits(), 1 => register, 1 => adds, 1 => puts, 1 => deletes].boxed(),
        About::Everything => prop_oneof![
            2 => expires,
            3 => register,
            4 => counter,
            3 => adds,
            2 => removes,
            3 => puts,
            1 => unsets,
            2 => deletes,
            1 => clear
        ]
        .boxed(),
    }
}

/// Writes whose operations follow from what is read.
fn edits() -> impl Strategy<Value = Write> {
    let key = || prop::sample::select(vec!["k", "l", "m"]).prop_map(|key| key.as_bytes().to_vec());
    let decimal = || (-9..9_i64).prop_map(|n| Decimal::parse(format!("{n}.5").as_bytes()).expect("a number"));
    let edit = prop_oneof![
        vec(any::<u8>(), 0..4).prop_map(Edit::Append),
        (0..6_u64, vec(any::<u8>(), 0..4)).prop_map(|(offset, bytes)| Edit::Splice { offset, bytes }),
        (0..40_u64, any::<bool>()).prop_map(|(offset, is_set)| Edit::Bit { offset, is_set }),
        decimal().prop_map(Edit::Add),
    ];
    let addend = prop_oneof![(-3..5_i64).prop_map(Addend::Integer), decimal().prop_map(Addend::Decimal)];
    let how =
        prop::sample::select(vec![Combination::Intersection, Combination::Union, Combination::Difference]);
    prop_oneof![
        (key(), edit).prop_map(|(key, edit)| Write::Edit { key, edit }),
        (key(), addend).prop_map(|(key, by)| Write::AddToField { key, field: b"x".to_vec(), by }),
        (key(), 0..3_u64, any::<u64>()).prop_map(|(key, count, seed)| Write::Pop { key, count, seed }),
        (key(), key(), any::<bool>()).prop_map(|(from, to, is_move)| Write::Copy { from, to, is_move }),
        (key(), how, vec(key(), 1..3)).prop_map(|(into, how, keys)| Write::Combine { into, how, keys }),
    ]
}

fn events(about: About) -> impl Strategy<Value = Vec<Event>> {
    let write = (0..REPLICAS, writes(about)).prop_map(|(replica, write)| Event::Write(replica, write));
    let pull =
        (0..REPLICAS, 0..REPLICAS, 1..4_usize).prop_map(|(to, from, count)| Event::Pull(to, from, count));
    vec(prop_oneof![3 => write, 2 => pull], 4..30)
}

/// What came of the events.
struct History {
    stations: Vec<Station>,
    /// Every state that any replica was in.
    states: Vec<DotStore>,
    /// Every frame, each after those that it requires.
    frames: Vec<Frame>,
}

impl History {
    fn of(events: &[Event]) -> Self {
        let count = u8::try_from(REPLICAS).expect("few");
        let stations = (0..count).map(|index| Station::new(index, count)).collect();
        let mut history = Self { stations, states: vec![DotStore::default()], frames: Vec::new() };
        for event in events {
            let changed = match event {
                Event::Write(replica, write) => {
                    let station = &mut history.stations[*replica];
                    // A write that the key's kind refuses is no event.
                    drop(station.try_write(vec![write.clone()]));
                    let made = station.new_frames();
                    history.frames.extend(made);
                    *replica
                }
                Event::Pull(to, from, count) if to != from => {
                    let [to_station, from_station] =
                        history.stations.get_disjoint_mut([*to, *from]).expect("they differ");
                    to_station.pull(from_station, *count);
                    to_station.new_frames();
                    *to
                }
                Event::Pull(to, ..) => *to,
            };
            history.states.push(history.stations[changed].rows().clone());
        }
        history
    }

    /// Frames applied as an operation-based CRDT does, in the given order.
    fn replay<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> DotStore {
        let mut store = DotStore::default();
        frames.into_iter().for_each(|frame| store.apply(frame.clone()));
        store
    }

    /// The frames that a vector covers.
    fn covered(&self, vector: &VersionVector) -> impl Iterator<Item = &Frame> {
        let vector = vector.clone();
        self.frames.iter().filter(move |frame| vector.covers(frame.header().last_dot()))
    }
}

fn merged(a: &DotStore, b: &DotStore) -> DotStore {
    let mut merged = a.clone();
    merged.merge(b.clone());
    merged
}

/// Checks a law over many histories of every kind.
fn for_all(law: impl Fn(&History, &[usize])) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    for about in KINDS {
        let config = Config { cases: cases / 6, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let choices = vec(0..10_000_usize, 24);
        let outcome = runner.run(&(events(about), choices), |(events, choices)| {
            law(&History::of(&events), &choices);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{about:?}: {error}");
        }
    }
}

fn chosen<T>(things: &[T], choice: usize) -> &T {
    &things[choice % things.len()]
}

#[test]
fn state_merge_is_idempotent_commutative_and_associative() {
    for_all(|history, choices| {
        for triple in choices.chunks_exact(3).take(5) {
            let [a, b, c] = [0, 1, 2].map(|n| chosen(&history.states, triple[n]));
            assert_eq!(&merged(a, a), a, "idempotent");
            assert_eq!(merged(a, b), merged(b, a), "commutative");
            assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)), "associative");
            assert_eq!(merged(&merged(a, b), b), merged(a, b), "absorbing");
        }
    });
}

#[test]
fn log_replay_equals_state_merge() {
    for_all(|history, choices| {
        for pair in choices.chunks_exact(2).take(8) {
            let (a, b) = (chosen(&history.states, pair[0]), chosen(&history.states, pair[1]));
            let state = merged(a, b);
            let replayed = History::replay(history.covered(state.vector()));
            assert_eq!(state, replayed);
        }
    });
}

/// A frame changes a state when its past is there and it is not; what is told before is what happens.
#[test]
fn frames_are_applied_once_and_after_their_past() {
    for_all(|history, choices| {
        for choice in choices.iter().take(4) {
            let state = chosen(&history.states, *choice);
            for frame in &history.frames {
                let (header, covers) = (frame.header(), |dot| state.vector().covers(dot));
                let before = Dot::new(header.author, header.first - 1);
                let has_past = covers(before) && frame.requirements().all(covers);
                let is_next = has_past && !covers(header.last_dot());
                assert_eq!(state.validate_op(frame).is_ok(), is_next);
                let mut after = state.clone();
                after.apply(frame.clone());
                assert_eq!(after != *state, is_next);
                assert_eq!(after.vector().covers(header.last_dot()), is_next || covers(header.last_dot()));
            }
        }
    });
}

#[test]
fn derived_figures_are_what_the_rows_say() {
    for_all(|history, _| history.states.iter().for_each(check_derived));
}

#[test]
fn any_delivery_order_ends_equal() {
    for_all(|history, choices| {
        let whole = History::replay(&history.frames);
        let mut late = Station::new(9, u8::try_from(REPLICAS).expect("few"));
        // Some frames are lost, some come twice, all come out of order.
        for choice in choices {
            if !history.frames.is_empty() && choice % 4 > 0 {
                late.deliver(std::slice::from_ref(chosen(&history.frames, *choice)));
            }
            if choice % 8 == 0 {
                check_derived(late.rows());
                let replayed = History::replay(history.covered(late.rows().vector()));
                assert_eq!(late.rows(), &replayed);
            }
        }
        // What was lost is pulled.
        late.deliver(&history.frames);
        assert_eq!(late.rows(), &whole);
        assert_eq!(late.report().early, (0, 0));
    });
}

/// `Orswot` knows adds, and removes of what was seen: our sets without DEL and FLUSHDB are the same.
#[test]
fn sets_equal_the_orswot() {
    let strategy = events(About::Sets);
    check_oracle(strategy, |events| {
        let count = u8::try_from(REPLICAS).expect("few");
        let mut ours: Vec<Station> = (0..count).map(|index| Station::new(index, count)).collect();
        let mut theirs: Vec<Orswot<String, usize>> = vec![Orswot::new(); REPLICAS];
        for event in events {
            match event {
                Event::Write(replica, Write::Add { key, elements }) if key == b"k" => {
                    ours[*replica].write(Write::Add { key: key.clone(), elements: elements.clone() });
                    let context = theirs[*replica].read_ctx().derive_add_ctx(*replica);
                    let op = theirs[*replica].add(world::words::text(&elements[0]), context);
                    theirs[*replica].apply(op);
                }
                Event::Write(replica, Write::Remove { key, elements }) if key == b"k" => {
                    ours[*replica].write(Write::Remove { key: key.clone(), elements: elements.clone() });
                    let element = world::words::text(&elements[0]);
                    let context = theirs[*replica].contains(&element).derive_rm_ctx();
                    let op = theirs[*replica].rm(element, context);
                    theirs[*replica].apply(op);
                }
                Event::Pull(to, from, _) if to != from => {
                    let [to_ours, from_ours] = ours.get_disjoint_mut([*to, *from]).expect("they differ");
                    to_ours.pull(from_ours, usize::MAX);
                    let state = theirs[*from].clone();
                    theirs[*to].merge(state);
                }
                _ => {}
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let mut expected: Vec<Vec<u8>> =
                    theirs.read().val.into_iter().map(String::into_bytes).collect();
                expected.sort();
                assert_eq!(ours.query(&Query::Members(b"k".to_vec())), Answer::List(expected));
            }
        }
    });
}

/// `PNCounter` knows increments and decrements: our counters without SET and DEL are the same.
#[test]
fn counters_equal_the_pn_counter() {
    check_oracle(events(About::Counters), |events| {
        let count = u8::try_from(REPLICAS).expect("few");
        let mut ours: Vec<Station> = (0..count).map(|index| Station::new(index, count)).collect();
        let mut theirs: Vec<PNCounter<usize>> = vec![PNCounter::new(); REPLICAS];
        for event in events {
            match event {
                Event::Write(replica, Write::Increment { by, .. }) => {
                    ours[*replica].write(Write::Increment { key: b"n".to_vec(), by: *by });
                    for _ in 0..by.unsigned_abs() {
                        let counter = &mut theirs[*replica];
                        let op = if *by > 0 { counter.inc(*replica) } else { counter.dec(*replica) };
                        counter.apply(op);
                    }
                }
                Event::Pull(to, from, _) if to != from => {
                    let [to_ours, from_ours] = ours.get_disjoint_mut([*to, *from]).expect("they differ");
                    to_ours.pull(from_ours, usize::MAX);
                    let state = theirs[*from].clone();
                    theirs[*to].merge(state);
                }
                _ => {}
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let view = KeyView::read(ours.rows(), keyspace_id(world::NOTES), b"n").expect("memory");
                let number = view.number().expect("a counter");
                assert_eq!(number.to_string(), theirs.read().to_string());
            }
        }
    });
}

/// Registers are multi-value registers whose winner is the last writer: the siblings are exactly the writes
/// that no other write has seen, and the one that is read has the highest stamp.
#[test]
fn registers_equal_the_mv_register_and_the_lww_register() {
    check_oracle(events(About::Registers), |events| {
        let count = u8::try_from(REPLICAS).expect("few");
        let mut ours: Vec<Station> = (0..count).map(|index| Station::new(index, count)).collect();
        let mut theirs: Vec<crdts::MVReg<Vec<u8>, usize>> = vec![crdts::MVReg::new(); REPLICAS];
        let mut written = 0;
        let mut stamps: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for event in events {
            match event {
                Event::Write(replica, Write::Set { .. }) => {
                    written += 1;
                    let value = format!("value {written}").into_bytes();
                    ours[*replica].unix_ms += 1 + written * *replica as u64 % 7;
                    let frames =
                        ours[*replica].write(Write::Set { key: b"r".to_vec(), value: value.clone() });
                    stamps.insert(value.clone(), frames[0].header().hlc.to_bits());
                    let context = theirs[*replica].read_ctx().derive_add_ctx(*replica);
                    let op = theirs[*replica].write(value, context);
                    theirs[*replica].apply(op);
                }
                Event::Pull(to, from, _) if to != from => {
                    let [to_ours, from_ours] = ours.get_disjoint_mut([*to, *from]).expect("they differ");
                    to_ours.pull(from_ours, usize::MAX);
                    let state = theirs[*from].clone();
                    theirs[*to].merge(state);
                }
                _ => {}
            }
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let rows = ours.rows();
                let found =
                    siblings(rows, keyspace_id(world::NOTES), (b"r", Kind::Register, b"")).expect("memory");
                let mut values: Vec<Vec<u8>> = found.iter().map(|sibling| sibling.value.clone()).collect();
                let highest = values.iter().map(|value| stamps[value]).max();
                let read =
                    answer(rows, keyspace_id(world::NOTES), &Query::Get(b"r".to_vec())).expect("memory");
                if let Answer::Value(Some(value)) = read {
                    assert_eq!(Some(stamps[&value]), highest, "the last writer wins");
                }
                values.sort();
                let mut expected = theirs.read().val;
                expected.sort();
                assert_eq!(values, expected);
            }
        }
    });
}

fn check_oracle(strategy: impl Strategy<Value = Vec<Event>>, check: impl Fn(&[Event])) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |events| {
        check(&events);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
