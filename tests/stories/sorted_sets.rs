//! Sorted sets: all replicas end with the same members in the same order, and with the scores that lost.

use sim::World;
use sim::words::delete;
use tidelock_engine::read::{Answer, Query, Scored, SortedPage, SortedRange};
use tidelock_engine::replica::Retention;
use tidelock_engine::score::Score;
use tidelock_engine::write::{ScoreRule, Write};

/// `ZADD board score member`.
fn score(member: &str, score: f64) -> Write {
    let score = Score::new(score).expect("it is a number");
    Write::Score { key: "board".into(), members: vec![(member.into(), score)], rule: ScoreRule::default() }
}

/// `ZREM board member`.
fn unscore(member: &str) -> Write {
    Write::Unscore { key: "board".into(), members: vec![member.into()] }
}

fn listed(world: &mut World, name: &str, page: SortedPage) -> Vec<Scored> {
    match world.query(name, Query::Sorted(page)) {
        Answer::Scored(members) => members,
        other => panic!("{other:?}"),
    }
}

/// What all of these nodes show, which is the same: the members in order, each with its score, and what lost. Ranges and
/// ranks say the same as the list, at each of them.
fn agreed(world: &mut World, names: &[&str]) -> (Vec<String>, Vec<String>) {
    let shown: Vec<_> = names.iter().map(|name| shown(world, name)).collect();
    assert!(shown.windows(2).all(|two| two[0] == two[1]), "{shown:?}");
    shown.into_iter().next().expect("there is a node")
}

fn shown(world: &mut World, name: &str) -> (Vec<String>, Vec<String>) {
    let all = SortedPage::all("board".into());
    let members = listed(world, name, all.clone());
    let mut backwards = listed(world, name, SortedPage { is_reverse: true, ..all.clone() });
    backwards.reverse();
    assert_eq!(members, backwards, "{name}");
    for (rank, (member, score)) in (0..).zip(&members) {
        let ask = |is_reverse| Query::Rank { key: "board".into(), member: member.clone(), is_reverse };
        assert_eq!(world.query(name, ask(false)), Answer::Rank(Some((rank, *score))), "{name}");
        let from_the_end = members.len() as u64 - 1 - rank;
        assert_eq!(world.query(name, ask(true)), Answer::Rank(Some((from_the_end, *score))), "{name}");
        let place = i64::try_from(rank).expect("there are few");
        let range = SortedRange::Ranks { start: place, stop: place };
        let there = listed(world, name, SortedPage { range, ..all.clone() });
        assert_eq!(there, [(member.clone(), *score)], "{name}");
    }
    let text = |(member, score): &Scored| format!("{} {}", String::from_utf8_lossy(member), score.get());
    let members = members.iter().map(text).collect();
    let Answer::Entry(entry) = world.query(name, Query::Entry("board".into())) else { panic!("an entry") };
    let lost = entry.conflicts().map(|row| {
        let value = row.value.as_deref().unwrap_or_default();
        format!("{} {}", String::from_utf8_lossy(&row.subkey), String::from_utf8_lossy(value))
    });
    (members, lost.collect())
}

/// Two score one member apart: the later score is shown everywhere, and decides the order; the other is kept as a
/// conflict until somebody who saw both scores it again.
#[test]
fn scores_of_one_member_given_apart_end_in_one_order() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(130, &names);
    world.write("a", score("ann", 5.0));
    world.write("c", score("eve", 7.0));
    world.settle();
    world.split(&["a"], &["b", "c"]);
    world.write("a", score("ann", 9.0));
    world.write("a", score("bob", 7.0));
    world.run(1_000);
    world.write("b", score("ann", 1.0));
    world.write("c", score("bob", 7.0));
    assert_eq!(shown(&mut world, "a").0, ["bob 7", "eve 7", "ann 9"]);
    world.lose_power("b");
    world.start("b");
    world.heal();
    world.settle();
    let (members, lost) = agreed(&mut world, &names);
    assert_eq!(members, ["ann 1", "bob 7", "eve 7"]);
    assert_eq!(lost, ["ann 9", "bob 7"]);
    world.write("c", score("ann", 8.0));
    world.settle();
    let (members, lost) = agreed(&mut world, &names);
    assert_eq!((members, lost), (vec!["bob 7".into(), "eve 7".into(), "ann 8".into()], vec!["bob 7".into()]));
}

/// Who scores a member wins over a removal beside it, also if the score is the one it had; what nobody scored goes.
#[test]
fn score_beside_a_removal_stays() {
    let names = ["a", "b"];
    let mut world = World::connected(131, &names);
    ["ann", "bob", "eve"].iter().for_each(|member| world.write("a", score(member, 3.0)));
    world.settle();
    world.partition("a", "b");
    world.write("b", score("ann", 3.0));
    world.write("b", score("dan", 2.0));
    world.run(1_000);
    world.write("a", unscore("ann"));
    let range = SortedRange::Scores {
        min: std::ops::Bound::Unbounded,
        max: std::ops::Bound::Included(Score::new(3.0).expect("it is a number")),
    };
    world.write("a", Write::UnscoreRange { key: "board".into(), range });
    assert_eq!(shown(&mut world, "a").0, [""; 0]);
    world.heal();
    world.settle();
    assert_eq!(agreed(&mut world, &names), (vec!["dan 2".into(), "ann 3".into()], Vec::new()));
    world.partition("a", "b");
    world.write("a", delete("board"));
    world.write("b", score("bob", 4.0));
    world.heal();
    world.settle();
    assert_eq!(agreed(&mut world, &names), (vec!["bob 4".into()], Vec::new()));
}

/// A node is off while others score, remove, and store a range elsewhere; it wrote itself before anybody heard of it.
#[test]
fn node_that_was_away_brings_scores_and_takes_the_order() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(132, &names);
    ["ann", "bob", "eve"]
        .iter()
        .zip([1.0, 2.0, 3.0])
        .for_each(|(member, n)| world.write("a", score(member, n)));
    world.settle();
    world.split(&["c"], &["a", "b"]);
    world.write("c", score("bob", 8.0));
    world.write("c", score("zoe", 0.5));
    world.lose_power("c");
    world.run(60_000);
    world.write("b", score("bob", 0.0));
    world.write("a", unscore("ann"));
    let page = SortedPage { count: Some(2), ..SortedPage::all("board".into()) };
    world.write("a", Write::StoreRange { into: "first".into(), page });
    world.settle_among(&["a", "b"]);
    world.start("c");
    world.heal();
    world.settle();
    let (members, lost) = agreed(&mut world, &names);
    assert_eq!(
        (members, lost),
        (vec!["bob 0".into(), "zoe 0.5".into(), "eve 3".into()], vec!["bob 8".into()])
    );
    let firsts: Vec<_> =
        names.iter().map(|name| listed(&mut world, name, SortedPage::all("first".into()))).collect();
    assert!(firsts[0].len() == 2 && firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
}

/// A node comes back, with scores of its own, after the others let go of their logs: it takes over state, and they take
/// what it brings. Order, ranks and conflicts are the same everywhere, also after power cuts.
#[test]
fn order_is_the_same_where_state_was_taken_over() {
    let names = ["a", "b", "c"];
    let mut world = World::new(133);
    world.retention = Retention { age_ms: 1_000, bytes: 0, peers_ms: 1_000 };
    names.iter().for_each(|name| world.add(name));
    [("a", "b"), ("a", "c"), ("b", "c")].iter().for_each(|(one, other)| world.connect(one, other));
    world.run(1_000);
    for number in 0..60_u32 {
        world.write("a", score(&format!("m{number:02}"), f64::from(number % 7)));
    }
    world.settle();
    world.kill("c");
    (0..60_u32).step_by(2).for_each(|number| world.write("b", unscore(&format!("m{number:02}"))));
    world.write("a", score("m01", 100.0));
    world.settle_among(&["a", "b"]);
    world.run(20_000);
    assert!(world.report("a").log.records <= 1, "{:?}", world.report("a").log);
    world.split(&["c"], &["a", "b"]);
    world.start("c");
    world.write("c", score("m01", -1.0));
    world.write("c", score("m02", 50.0));
    world.run(20_000);
    world.heal();
    world.settle();
    let done: u64 = names.iter().map(|name| world.counter(name, "transfers_done")).sum();
    assert!(done >= 1, "nobody took over state");
    let (members, lost) = agreed(&mut world, &names);
    assert_eq!(members.len(), 31);
    assert_eq!((members[0].as_str(), members[30].as_str()), ("m01 -1", "m02 50"));
    assert_eq!(lost, ["m01 100"]);
    for name in names {
        world.lose_power(name);
        world.start(name);
    }
    assert_eq!(agreed(&mut world, &names), (members, lost));
}
