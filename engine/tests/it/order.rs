//! The order of sorted sets against a plain model: places that are sorted, whatever comes and goes in which order.

use std::collections::BTreeSet;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use crate::world::by_hand::Station;
use crate::world::random::Random;
use crate::world::words::{delete, score, unscore};
use crate::world::{NOTES, check_derived, keyspace_id};
use proptest::prelude::*;
use tidelock_engine::crdt::DotStore;
use tidelock_engine::order::Order;
use tidelock_engine::ports::Place;
use tidelock_engine::read::{Answer, Query, Scored, SortedPage, SortedRange};
use tidelock_engine::score::Score;
use tidelock_engine::write::{ScoreRule, Write};

type Model = BTreeSet<(Score, Vec<u8>)>;

fn number(number: f64) -> Score {
    Score::new(number).expect("a number")
}

/// What the rows say: of each member the score of the highest stamp.
fn model(rows: &DotStore) -> Model {
    use std::collections::BTreeMap;
    use tidelock_engine::row::{Kind, Payload};
    let mut read: BTreeMap<Vec<u8>, _> = BTreeMap::new();
    for (row, payload) in rows.rows().iter().filter(|(row, _)| row.kind == Kind::Sorted && row.key == b"k") {
        let Payload::Value { stamp, value } = payload else { panic!("{payload:?}") };
        let found = (*stamp, row.dot, Score::from_bytes(value).expect("a score"));
        let best = read.entry(row.subkey.clone()).or_insert(found);
        *best = found.max(*best);
    }
    read.into_iter().map(|(member, (.., score))| (score, member)).collect()
}

fn ask(station: &Station, query: &Query) -> Vec<Scored> {
    match station.query(query) {
        Answer::Scored(scored) => scored,
        other => panic!("{other:?}"),
    }
}

/// The order is whole, and everything that is asked is answered as the model says.
fn check(station: &Station, random: &mut Random) {
    check_derived(station.rows());
    assert_eq!(station.rows().order_complaint(), None);
    let model: Vec<(Score, Vec<u8>)> = model(station.rows()).into_iter().collect();
    let count = model.len();
    assert_eq!(station.query(&Query::SortedCount("k".into(), SortedRange::ALL)), Answer::Count(count as u64));
    let Some(last) = count.checked_sub(1) else { return };
    for _ in 0..4 {
        let place = random.below(count);
        let (score, member) = model[place].clone();
        for is_reverse in [false, true] {
            let rank = if is_reverse { last - place } else { place } as u64;
            let query = Query::Rank { key: "k".into(), member: member.clone(), is_reverse };
            assert_eq!(station.query(&query), Answer::Rank(Some((rank, score))));
        }
        let other = model[random.below(count)].0;
        let bound = |at: Score, random: &mut Random| match random.below(5) {
            0 => Unbounded,
            1 | 2 => Included(at),
            _ => Excluded(at),
        };
        let (min, max) = (bound(score.min(other), random), bound(score.max(other), random));
        check_range(station, random, &model, &SortedRange::Scores { min, max });
        let ranks = |random: &mut Random| signed(random.below(2 * count + 4)) - signed(count) - 2;
        let range = SortedRange::Ranks { start: ranks(random), stop: ranks(random) };
        check_range(station, random, &model, &range);
        let min = Included(member.clone());
        check_range(station, random, &model, &SortedRange::Members { min, max: Unbounded });
    }
}

fn fraction(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("counts are small here"))
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("counts are small here")
}

fn holds<T: Ord>(min: &Bound<T>, max: &Bound<T>, value: &T) -> bool {
    let is_low = match max {
        Included(max) => value <= max,
        Excluded(max) => value < max,
        Unbounded => true,
    };
    let is_high = match min {
        Included(min) => value >= min,
        Excluded(min) => value > min,
        Unbounded => true,
    };
    is_low && is_high
}

fn check_range(station: &Station, random: &mut Random, model: &[(Score, Vec<u8>)], range: &SortedRange) {
    for is_reverse in [false, true] {
        let mut in_order: Vec<Scored> =
            model.iter().map(|(score, member)| (member.clone(), *score)).collect();
        if let SortedRange::Members { .. } = range {
            in_order.sort();
        }
        if is_reverse {
            in_order.reverse();
        }
        let all = in_order.len();
        let wanted: Vec<Scored> = match range {
            SortedRange::Ranks { start, stop } => {
                let place = |at: i64| if at < 0 { at + signed(all) } else { at };
                let within = |at: usize| (place(*start)..=place(*stop)).contains(&signed(at));
                let places = in_order.into_iter().enumerate();
                places.filter(|(at, _)| within(*at)).map(|(_, scored)| scored).collect()
            }
            SortedRange::Scores { min, max } => {
                in_order.into_iter().filter(|(_, score)| holds(min, max, score)).collect()
            }
            SortedRange::Members { min, max } => {
                in_order.into_iter().filter(|(member, _)| holds(min, max, member)).collect()
            }
        };
        if !is_reverse || !matches!(range, SortedRange::Ranks { .. }) {
            let count = station.query(&Query::SortedCount("k".into(), range.clone()));
            assert_eq!(count, Answer::Count(wanted.len() as u64), "{range:?}");
        }
        let (offset, count) = (random.below(4), random.chance(50).then(|| random.below(9)));
        let limit = count.unwrap_or(usize::MAX);
        let count = count.map(|count| count as u64);
        let page =
            SortedPage { key: "k".into(), range: range.clone(), is_reverse, offset: offset as u64, count };
        let listed: Vec<Scored> = wanted.into_iter().skip(offset).take(limit).collect();
        assert_eq!(ask(station, &Query::Sorted(page.clone())), listed, "{page:?}");
    }
}

fn many(random: &mut Random, members: usize, scores: usize, count: usize) -> Write {
    let mut one = || {
        let member = format!("m{:05}", random.below(members)).into_bytes();
        (member, number(fraction(random.below(scores)) - 3.0))
    };
    let members = (0..count).map(|_| one()).collect();
    Write::Score { key: "k".into(), members, rule: ScoreRule::default() }
}

fn step(random: &mut Random, stations: &mut [Station; 3], (members, scores): (usize, usize)) {
    let at = random.below(3);
    let other = (at + 1 + random.below(2)) % 3;
    let name = format!("m{:05}", random.below(members));
    match random.below(20) {
        0..6 => {
            let count = 1 + random.below(40);
            stations[at].write(many(random, members, scores, count));
        }
        6..9 => drop(stations[at].write(score("k", &name, fraction(random.below(scores))))),
        9..12 => drop(stations[at].write(unscore("k", &name))),
        12..14 => {
            let count = random.below(60) as u64;
            stations[at].write(Write::PopScored { key: "k".into(), count, is_highest: random.chance(50) });
        }
        14 => {
            let start = signed(random.below(members));
            let range = SortedRange::Ranks { start, stop: start + signed(random.below(200)) };
            stations[at].write(Write::UnscoreRange { key: "k".into(), range });
        }
        15 if random.chance(20) => drop(stations[at].write(delete("k"))),
        _ => {
            let (low, high) = stations.split_at_mut(at.max(other));
            let (one, two) = (&mut low[at.min(other)], &mut high[0]);
            let (to, from) = if at < other { (one, two) } else { (two, one) };
            to.pull(from, usize::MAX);
        }
    }
}

/// Three replicas score, remove, pop and clear, and hear of each other now and then.
fn story(seed: u64, steps: usize, sizes: (usize, usize)) -> u64 {
    let mut random = Random::new(seed);
    let mut stations = [Station::new(0, 3), Station::new(1, 3), Station::new(2, 3)];
    let mut most = 0;
    for number in 0..steps {
        step(&mut random, &mut stations, sizes);
        if number % 7 == 0 {
            for station in &stations {
                check(station, &mut random);
            }
        }
        most = most.max(model(stations[0].rows()).len() as u64);
    }
    let [a, b, c] = &mut stations;
    c.pull(b, usize::MAX);
    c.pull(a, usize::MAX);
    a.pull(c, usize::MAX);
    b.pull(c, usize::MAX);
    let [a, b, c] = &stations;
    assert!(a.rows() == b.rows() && b.rows() == c.rows(), "the replicas differ");
    for station in &stations {
        check(station, &mut random);
    }
    most
}

#[test]
fn order_is_that_of_the_rows_whatever_comes_and_goes() {
    let most = (0..8).map(|seed| story(seed, 150, (1_500, 40))).max();
    assert!(most > Some(200), "the sets were small: {most:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn order_is_that_of_the_rows(seed: u64, members in 2..400_usize, scores in 1..60_usize) {
        story(seed, 60, (members, scores));
    }
}

/// Members that come in ascending or descending order, or all with the same score, and then go from one end, the other
/// or both, never make a walk long: no stretch has too many parts.
#[test]
fn members_that_come_and_go_in_order_leave_the_order_flat() {
    let members = 6_000;
    let at = |n: u32| (format!("m{n:05}").into_bytes(), number(f64::from(n)));
    let same = |n: u32| (format!("m{n:05}").into_bytes(), Score::ZERO);
    let scored = |members: Vec<Scored>| Write::Score { key: "k".into(), members, rule: ScoreRule::default() };
    for is_same in [false, true] {
        let place = |n| if is_same { same(n) } else { at(n) };
        for is_descending in [false, true] {
            let mut a = Station::new(0, 1);
            let order: Vec<u32> =
                if is_descending { (0..members).rev().collect() } else { (0..members).collect() };
            for chunk in order.chunks(500) {
                a.write(scored(chunk.iter().map(|n| place(*n)).collect()));
            }
            check(&a, &mut Random::new(1));
            // From the right of each stretch to its left, so that each gets small while its neighbour is large.
            for left in (0..members).rev().filter(|n| n % 40 != 0).collect::<Vec<_>>().chunks(500) {
                let members = left.iter().map(|n| place(*n).0).collect();
                a.write(Write::Unscore { key: "k".into(), members });
                assert_eq!(a.rows().order_complaint(), None);
            }
            check(&a, &mut Random::new(2));
            a.write(Write::UnscoreRange { key: "k".into(), range: SortedRange::ALL });
            assert_eq!(a.rows(), &DotStore::from_rows(a.rows().vector().clone(), a.rows().rows().clone()));
            assert_eq!(a.rows().order_complaint(), None);
        }
    }
}

/// A walk reads about as many entries of a set of a million as its height says, wherever it goes.
#[test]
fn counting_reads_few_entries() {
    use std::cell::Cell;
    use std::ops::ControlFlow;
    use tidelock_engine::causality::Hlc;
    use tidelock_engine::id::KeyspaceId;
    use tidelock_engine::ports::{Milestone, ReadError, RowRange, Rows, Visit};
    use tidelock_engine::row::{Kind, Payload, RowId};

    struct Counted<'a>(&'a DotStore, Cell<u64>);
    impl Rows for Counted<'_> {
        fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
            self.0.row(keyspace, row)
        }
        fn scan(&self, k: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
            self.0.scan(k, range, visit)
        }
        fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
            self.0.members(keyspace, key, kind)
        }
        fn expiry(&self) -> Hlc {
            self.0.expiry()
        }
        fn order(
            &self,
            keyspace: KeyspaceId,
            key: &[u8],
            from: &Milestone,
            visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
        ) -> Result<(), ReadError> {
            self.0.order(keyspace, key, from, &mut |milestone, count| {
                self.1.set(self.1.get() + 1);
                visit(milestone, count)
            })
        }
        fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
            self.0.keys(keyspace)
        }
    }

    let mut a = Station::new(0, 1);
    let total: u32 = 40_000;
    for start in (0..total).step_by(4_000) {
        let of = |n: u32| (n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec(), number(f64::from(n / 3)));
        let members = (start..start + 4_000).map(of).collect();
        a.write(Write::Score { key: "k".into(), members, rule: ScoreRule::default() });
    }
    let counted = Counted(a.rows(), Cell::new(0));
    let order = Order::of(&counted, keyspace_id(NOTES), b"k");
    for rank in (0..u64::from(total)).step_by(977) {
        counted.1.set(0);
        let mut at = None;
        let found = order.from(rank, |place| {
            at = Some(place);
            ControlFlow::Break(())
        });
        found.expect("in memory");
        let place: Place = at.expect("there are more");
        assert_eq!(order.before(&place).expect("in memory"), rank);
        assert!(counted.1.get() < 500, "{} entries at {rank}", counted.1.get());
    }
}
