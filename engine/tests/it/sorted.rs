//! Sorted sets: what single writes do, how concurrent ones merge, and what is read in which order.

use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::world::by_hand::Station;
use crate::world::words::{add, delete, expire, put, score, set, unscore};
use crate::world::{START_MS, check_derived, refusal};
use tidelock_engine::bounds::ELEMENTS_MAX;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{
    Answer, Collection, Query, RandomPick, Scored, SortedPage, SortedRange, SubkeyPage,
};
use tidelock_engine::request::{ActionReply, RequestReply};
use tidelock_engine::score::Score;
use tidelock_engine::write::{MemberIf, Outcome, ScoreRule, Toward, Write};

type Members = &'static [(&'static str, f64)];

fn number(number: f64) -> Score {
    Score::new(number).expect("a number")
}

fn scored(members: &[(&str, f64)]) -> Vec<Scored> {
    members.iter().map(|(member, score)| (member.as_bytes().to_vec(), number(*score))).collect()
}

fn all(station: &Station, key: &str) -> Answer {
    station.query(&Query::Sorted(SortedPage::all(key.into())))
}

fn outcome(reply: RequestReply) -> Outcome {
    match reply.expect("the write is done").pop() {
        Some(Ok(ActionReply::Outcome(outcome))) => outcome,
        other => panic!("{other:?}"),
    }
}

/// Both have all of each other's frames.
fn settle(both: &mut [Station; 2]) {
    let [a, b] = both;
    a.pull(b, usize::MAX);
    b.pull(a, usize::MAX);
    assert_eq!(a.rows(), b.rows());
    check_derived(a.rows());
}

fn two() -> [Station; 2] {
    [Station::new(0, 2), Station::new(1, 2)]
}

#[test]
fn rule_says_which_members_are_scored() {
    let rule = |only, toward| ScoreRule { only, toward };
    let (missing, there) = (Some(MemberIf::Missing), Some(MemberIf::There));
    let (greater, less) = (Some(Toward::Greater), Some(Toward::Less));
    let cases: [(ScoreRule, Members, (u64, u64), Members); 10] = [
        (ScoreRule::default(), &[("a", 1.0), ("b", 9.0)], (1, 0), &[("a", 1.0), ("m", 5.0), ("b", 9.0)]),
        (ScoreRule::default(), &[("m", 5.0)], (0, 0), &[("m", 5.0)]),
        (ScoreRule::default(), &[("n", 1.0), ("n", 2.0)], (1, 1), &[("n", 2.0), ("m", 5.0)]),
        (rule(missing, None), &[("m", 6.0), ("n", 6.0)], (1, 0), &[("m", 5.0), ("n", 6.0)]),
        (rule(there, None), &[("m", 6.0), ("n", 6.0)], (0, 1), &[("m", 6.0)]),
        (rule(None, greater), &[("m", 6.0), ("n", 1.0)], (1, 1), &[("n", 1.0), ("m", 6.0)]),
        (rule(None, greater), &[("m", 5.0)], (0, 0), &[("m", 5.0)]),
        (rule(None, less), &[("m", 6.0), ("m", 4.0), ("m", 4.5)], (0, 1), &[("m", 4.0)]),
        (rule(there, less), &[("n", 1.0)], (0, 0), &[("m", 5.0)]),
        (
            rule(None, None),
            &[("z", f64::NEG_INFINITY), ("y", f64::INFINITY)],
            (2, 0),
            &[("z", f64::NEG_INFINITY), ("m", 5.0), ("y", f64::INFINITY)],
        ),
    ];
    for (number, (rule, members, (added, changed), left)) in cases.into_iter().enumerate() {
        let mut a = Station::new(0, 1);
        a.batch(vec![score("k", "m", 5.0), score("k", "a", 0.0), unscore("k", "a")]);
        let members = scored(members);
        let got = outcome(a.try_write(vec![Write::Score { key: "k".into(), members, rule }]));
        let added = added + u64::from(number == 0);
        assert_eq!(got, Outcome::Scored { added, changed }, "case {number}");
        assert_eq!(all(&a, "k"), Answer::Scored(scored(left)), "case {number}");
        check_derived(a.rows());
    }
}

#[test]
fn addition_is_to_what_is_read() {
    let mut a = Station::new(0, 1);
    let mut add = |by: f64, rule| {
        let write = Write::AddToScore { key: "k".into(), member: "m".into(), by: number(by), rule };
        a.try_write(vec![write])
    };
    let any = ScoreRule::default();
    assert_eq!(
        outcome(add(1.0, ScoreRule { only: Some(MemberIf::There), toward: None })),
        Outcome::Score(None)
    );
    assert_eq!(outcome(add(1.5, any)), Outcome::Score(Some(number(1.5))));
    assert_eq!(outcome(add(-2.0, any)), Outcome::Score(Some(number(-0.5))));
    assert_eq!(
        outcome(add(-1.0, ScoreRule { only: None, toward: Some(Toward::Greater) })),
        Outcome::Score(None)
    );
    assert_eq!(outcome(add(f64::INFINITY, any)), Outcome::Score(Some(number(f64::INFINITY))));
    assert!(refusal(add(f64::NEG_INFINITY, any)).contains("resulting score is not a number (NaN)"));
    assert_eq!(all(&a, "k"), Answer::Scored(scored(&[("m", f64::INFINITY)])));
}

/// Two replicas score a member at once: the later is read on both, and the other stays as a conflict until the
/// member is scored again.
#[test]
fn of_concurrent_scores_one_is_read_and_the_other_is_a_conflict() {
    let mut both = two();
    both[1].unix_ms += 10;
    both[0].batch(vec![score("k", "m", 9.0), score("k", "n", 5.0)]);
    both[1].write(score("k", "m", 1.0));
    settle(&mut both);
    for station in &both {
        assert_eq!(all(station, "k"), Answer::Scored(scored(&[("m", 1.0), ("n", 5.0)])));
        let Answer::Entry(entry) = station.query(&Query::Entry("k".into())) else { panic!("an entry") };
        let lost: Vec<_> = entry.conflicts().map(|row| (row.subkey.clone(), row.value.clone())).collect();
        assert_eq!(lost, [(b"m".to_vec(), Some(b"9".to_vec()))]);
    }
    both[0].write(score("k", "m", 7.0));
    settle(&mut both);
    assert_eq!(all(&both[1], "k"), Answer::Scored(scored(&[("n", 5.0), ("m", 7.0)])));
    assert_eq!(both[0].rows().rows().len(), 2);
}

/// One scores a member as it is already while the other removes it: it stays.
#[test]
fn score_that_is_written_again_wins_over_a_concurrent_removal() {
    let mut both = two();
    both[0].batch(vec![score("k", "m", 1.0), score("k", "n", 1.0)]);
    settle(&mut both);
    both[0].write(score("k", "m", 1.0));
    both[1].batch(vec![unscore("k", "m"), unscore("k", "n")]);
    settle(&mut both);
    assert_eq!(all(&both[1], "k"), Answer::Scored(scored(&[("m", 1.0)])));
}

/// The removal takes the score that it saw away and leaves the one that it did not.
#[test]
fn removal_leaves_the_concurrent_score_alone() {
    let mut both = two();
    both[1].unix_ms += 10;
    both[0].write(score("k", "m", 1.0));
    both[1].write(score("k", "m", 2.0));
    both[0].write(unscore("k", "m"));
    settle(&mut both);
    assert_eq!(all(&both[0], "k"), Answer::Scored(scored(&[("m", 2.0)])));
}

/// Of kinds that stand under one key at once a document, a map and a set are shown before a sorted set, and this
/// before a register.
#[test]
fn sorted_set_is_shown_behind_sets_and_before_registers() {
    let mut both = two();
    both[0].batch(vec![score("k", "m", 1.0), score("l", "m", 1.0)]);
    both[1].batch(vec![add("k", "m"), set("l", "v")]);
    settle(&mut both);
    let kind = |station: &Station, key: &str| station.query(&Query::Kind(key.into()));
    assert_eq!(kind(&both[0], "k"), Answer::Kind(Some(VisibleKind::Set)));
    assert_eq!(kind(&both[0], "l"), Answer::Kind(Some(VisibleKind::Sorted)));
    assert!(refusal(both[0].try_write(vec![score("k", "m", 1.0)])).contains(": set"));
    for write in [add("l", "e"), put("l", "f", "v"), Write::Increment { key: "l".into(), by: 1 }] {
        assert!(refusal(both[0].try_write(vec![write.clone()])).contains(": sorted"), "{write:?}");
    }
    both[0].batch(vec![set("l", "w"), delete("k")]);
    settle(&mut both);
    assert_eq!((both[1].get("l").as_deref(), kind(&both[1], "k")), (Some("w"), Answer::Kind(None)));
    assert_eq!(both[1].rows().rows().len(), 1);
}

#[test]
fn ranges_are_by_rank_score_and_member_from_both_ends() {
    let mut a = Station::new(0, 1);
    for (member, at) in [("b", 1.0), ("a", 1.0), ("d", 3.0), ("c", 2.0), ("e", 3.0)] {
        a.write(score("k", member, at));
    }
    let members = |range: &SortedRange, is_reverse: bool, offset: u64, count: Option<u64>| {
        let page = SortedPage { key: "k".into(), range: range.clone(), is_reverse, offset, count };
        let Answer::Scored(scored) = a.query(&Query::Sorted(page)) else { panic!("members") };
        String::from_utf8(scored.into_iter().flat_map(|(member, _)| member).collect()).expect("letters")
    };
    let scores = |min, max| SortedRange::Scores { min, max };
    let lex = |min, max| SortedRange::Members { min, max };
    let cases = [
        (SortedRange::ALL, "abcde", "edcba"),
        (SortedRange::Ranks { start: 1, stop: -2 }, "bcd", "dcb"),
        (SortedRange::Ranks { start: -2, stop: 9 }, "de", "ba"),
        (SortedRange::Ranks { start: 3, stop: 1 }, "", ""),
        (scores(Unbounded, Unbounded), "abcde", "edcba"),
        (scores(Included(number(1.0)), Excluded(number(3.0))), "abc", "cba"),
        (scores(Excluded(number(1.0)), Included(number(3.0))), "cde", "edc"),
        (scores(Excluded(number(3.0)), Included(number(3.0))), "", ""),
        (scores(Included(number(9.0)), Included(number(3.0))), "", ""),
        (lex(Included(b"b".to_vec()), Excluded(b"e".to_vec())), "bcd", "dcb"),
        (lex(Excluded(b"b".to_vec()), Unbounded), "cde", "edc"),
        (lex(Excluded(b"e".to_vec()), Included(b"a".to_vec())), "", ""),
    ];
    for (range, forwards, backwards) in &cases {
        assert_eq!(members(range, false, 0, None), *forwards, "{range:?}");
        assert_eq!(members(range, true, 0, None), *backwards, "{range:?}");
        let cut = forwards.get(1..2).unwrap_or("");
        assert_eq!(members(range, false, 1, Some(1)), cut, "{range:?}");
        let count = a.query(&Query::SortedCount("k".into(), range.clone()));
        assert_eq!(count, Answer::Count(forwards.len() as u64), "{range:?}");
    }
    let rank = |member: &str, is_reverse| {
        a.query(&Query::Rank { key: "k".into(), member: member.into(), is_reverse })
    };
    assert_eq!(rank("c", false), Answer::Rank(Some((2, number(2.0)))));
    assert_eq!(rank("b", true), Answer::Rank(Some((3, number(1.0)))));
    assert_eq!(rank("x", true), Answer::Rank(None));
    let asked = vec![b"c".to_vec(), b"x".to_vec(), b"c".to_vec()];
    let answered = vec![Some(number(2.0)), None, Some(number(2.0))];
    assert_eq!(a.query(&Query::Scores("k".into(), asked)), Answer::Scores(answered));
}

#[test]
fn members_are_popped_from_both_ends_and_removed_by_range() {
    let mut a = Station::new(0, 1);
    a.batch((0..6).map(|n| score("k", &format!("m{n}"), f64::from(n))).collect());
    let pop = |count, is_highest| vec![Write::PopScored { key: "k".into(), count, is_highest }];
    let popped = outcome(a.try_write(pop(2, true)));
    assert_eq!(popped, Outcome::ScoredMembers(scored(&[("m5", 5.0), ("m4", 4.0)])));
    assert_eq!(outcome(a.try_write(pop(1, false))), Outcome::ScoredMembers(scored(&[("m0", 0.0)])));
    assert_eq!(outcome(a.try_write(pop(0, false))), Outcome::ScoredMembers(Vec::new()));
    let range = SortedRange::Scores { min: Included(number(2.0)), max: Unbounded };
    let remove = |range| vec![Write::UnscoreRange { key: "k".into(), range }];
    assert_eq!(outcome(a.try_write(remove(range))), Outcome::Changed(2));
    assert_eq!(all(&a, "k"), Answer::Scored(scored(&[("m1", 1.0)])));
    assert_eq!(outcome(a.try_write(remove(SortedRange::ALL))), Outcome::Changed(1));
    assert_eq!(outcome(a.try_write(remove(SortedRange::ALL))), Outcome::Changed(0));
    assert_eq!(outcome(a.try_write(pop(3, true))), Outcome::ScoredMembers(Vec::new()));
    assert_eq!(a.query(&Query::Kind("k".into())), Answer::Kind(None));
    assert!(a.rows().rows().is_empty());
}

/// Devices store the same range of their own copies at once; what one adds to the destination meanwhile stays.
#[test]
fn stored_range_replaces_what_was_seen_and_nothing_else() {
    let mut both = two();
    both[0].batch(vec![score("k", "a", 1.0), score("k", "b", 2.0), score("k", "c", 3.0), set("d", "text")]);
    settle(&mut both);
    let range = SortedRange::Ranks { start: 1, stop: -1 };
    let store = |into: &str| {
        let page = SortedPage { range: range.clone(), ..SortedPage::all("k".into()) };
        vec![Write::StoreRange { into: into.into(), page }]
    };
    let [a, b] = &mut both;
    assert_eq!(outcome(a.try_write(store("d"))), Outcome::Changed(2));
    b.batch(vec![delete("d"), score("d", "other", 9.0)]);
    assert_eq!(outcome(b.try_write(store("k"))), Outcome::Changed(2));
    settle(&mut both);
    let [a, _] = &mut both;
    assert_eq!(all(a, "d"), Answer::Scored(scored(&[("b", 2.0), ("c", 3.0), ("other", 9.0)])));
    assert_eq!(all(a, "k"), Answer::Scored(scored(&[("b", 2.0), ("c", 3.0)])));
    let nothing = SortedPage { offset: 5, ..SortedPage::all("k".into()) };
    let store = Write::StoreRange { into: "k".into(), page: nothing };
    assert_eq!(outcome(a.try_write(vec![store])), Outcome::Changed(0));
    assert_eq!(a.query(&Query::Kind("k".into())), Answer::Kind(None));
}

/// What no operation can name at once is refused as a whole.
#[test]
fn more_members_than_an_operation_names_are_not_removed() {
    let mut a = Station::new(0, 1);
    let mut left = ELEMENTS_MAX + 1;
    while left > 0 {
        let members = (0..left.min(20_000)).map(|n| (format!("{left}:{n}").into(), Score::ZERO));
        let members: Vec<Scored> = members.collect();
        left -= members.len();
        a.write(Write::Score { key: "k".into(), members, rule: ScoreRule::default() });
    }
    let pop = Write::PopScored { key: "k".into(), count: u64::MAX, is_highest: false };
    let store = Write::StoreRange { into: "l".into(), page: SortedPage::all("k".into()) };
    for write in [Write::UnscoreRange { key: "k".into(), range: SortedRange::ALL }, pop, store] {
        assert!(refusal(a.try_write(vec![write])).contains("at most"));
    }
    a.write(delete("k"));
    assert!(a.rows().rows().is_empty());
    check_derived(a.rows());
}

/// Of a key that has expired nothing is seen, and what is scored then is a new one.
#[test]
fn expired_sorted_set_is_not_seen() {
    let mut a = Station::new(0, 1);
    a.batch(vec![score("k", "m", 1.0), expire("k", START_MS + 5_000)]);
    let questions = || {
        let key = || b"k".to_vec();
        let pick =
            RandomPick { key: key(), collection: Collection::Sorted, count: 5, is_repeated: false, seed: 1 };
        let page = SubkeyPage { key: key(), collection: Collection::Sorted, after: None, count: 5 };
        [
            Query::Sorted(SortedPage::all(key())),
            Query::Page(page),
            Query::Random(pick),
            Query::Scores(key(), vec![b"m".to_vec()]),
            Query::Rank { key: key(), member: b"m".to_vec(), is_reverse: false },
            Query::SortedCount(key(), SortedRange::ALL),
        ]
    };
    let one = || Answer::Scored(scored(&[("m", 1.0)]));
    let seen = [
        one(),
        one(),
        one(),
        Answer::Scores(vec![Some(number(1.0))]),
        Answer::Rank(Some((0, number(1.0)))),
        Answer::Count(1),
    ];
    for (question, answer) in questions().iter().zip(seen) {
        assert_eq!(a.query(question), answer, "{question:?}");
    }
    a.pass(6_000);
    let none = || Answer::Scored(Vec::new());
    let gone = [none(), none(), none(), Answer::Scores(vec![None]), Answer::Rank(None), Answer::Count(0)];
    for (question, answer) in questions().iter().zip(gone) {
        assert_eq!(a.query(question), answer, "{question:?}");
    }
    a.write(score("k", "n", 2.0));
    assert_eq!(all(&a, "k"), Answer::Scored(scored(&[("n", 2.0)])));
    assert_eq!(a.query(&Query::Deadline("k".into())), Answer::Deadline(Some(None)));
    check_derived(a.rows());
}
