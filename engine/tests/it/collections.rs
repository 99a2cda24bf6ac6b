//! What is read of sets and maps in parts, at random and together, against the collections of the standard library.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidelock_engine::causality::{Dot, Hlc, Stamp};
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{ClusterId, Epoch, KeyspaceId, ReplicaId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::read::{Answer, Collection, Combination, Query, RandomPick, SubkeyPage, answer};
use tidelock_engine::row::{Kind, Payload, RowId};

type Names = BTreeSet<Vec<u8>>;

/// Rows in a keyspace of their own.
struct World {
    store: MemStore,
    keyspace: KeyspaceId,
}

impl World {
    fn new() -> Self {
        let cluster = ClusterId::named("test");
        let store = MemStore::new(cluster, SigningKey::from_seed([1; 32]).card([0; 16]));
        Self { store, keyspace: KeyspaceId::of(cluster, &"default".parse().expect("a valid name")) }
    }

    /// Each element twice, as two replicas that added it at once leave it.
    fn with_sets(&self, sets: &[Names]) -> Draft<'_> {
        let mut draft = Draft::over(&self.store);
        for (number, set) in sets.iter().enumerate() {
            for (seq, element) in set.iter().enumerate() {
                for author in [1, 2] {
                    let replica = ReplicaId::from_bytes([author; 16]);
                    let dot = Dot::new(replica, 1 + seq as u64);
                    let row = RowId { key: key(number), kind: Kind::Set, subkey: element.clone(), dot };
                    draft.put(self.keyspace, row, Some(Payload::Member), replica).expect("in memory");
                }
            }
        }
        draft
    }

    fn ask(&self, draft: &Draft<'_>, query: &Query) -> Answer {
        answer(draft, self.keyspace, query).expect("the keys hold what is asked for")
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key{number}").into_bytes()
}

fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(key).collect()
}

fn list(answer: Answer) -> Vec<Vec<u8>> {
    let Answer::List(list) = answer else { panic!("{answer:?} is no list") };
    list
}

fn pick(count: u64, is_repeated: bool, seed: u64) -> Query {
    Query::Random(RandomPick { key: key(0), collection: Collection::Set, count, is_repeated, seed })
}

fn names() -> impl Strategy<Value = Names> {
    prop::collection::btree_set(prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4), 0..30)
}

proptest! {
    #[test]
    fn combinations_are_those_of_sets(sets in prop::collection::vec(names(), 1..4), limit in 1_u64..9) {
        let world = World::new();
        let draft = world.with_sets(&sets);
        let keys = keys(sets.len());
        let fold = |by: fn(&Names, &Names) -> Names| {
            sets.iter().skip(1).fold(sets[0].clone(), |made, set| by(&made, set))
        };
        let cases = [
            (Combination::Intersection, fold(|a, b| a & b)),
            (Combination::Union, fold(|a, b| a | b)),
            (Combination::Difference, fold(|a, b| a - b)),
        ];
        for (combination, expected) in cases {
            let found = list(world.ask(&draft, &Query::Combined(combination, keys.clone())));
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{:?}", combination);
        }
        let common = fold(|a, b| a & b).len() as u64;
        prop_assert_eq!(world.ask(&draft, &Query::CommonCount(keys, limit)), Answer::Count(common.min(limit)));
    }

    #[test]
    fn pages_are_the_whole(set in names(), count in 1_usize..8) {
        let world = World::new();
        let draft = world.with_sets(std::slice::from_ref(&set));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = SubkeyPage { key: key(0), collection: Collection::Set, after, count };
            let page = list(world.ask(&draft, &Query::Page(page)));
            prop_assert!(page.len() <= count);
            found.extend(page.iter().cloned());
            after = page.last().cloned();
            if page.len() < count {
                break;
            }
        }
        prop_assert_eq!(found, set.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn random_ones_are_of_the_set(set in names(), count in 0_u64..40, seed: u64) {
        let world = World::new();
        let draft = world.with_sets(std::slice::from_ref(&set));
        let distinct = list(world.ask(&draft, &pick(count, false, seed)));
        prop_assert_eq!(distinct.len() as u64, count.min(set.len() as u64));
        prop_assert!(distinct.iter().all(|element| set.contains(element)));
        prop_assert_eq!(distinct.iter().collect::<BTreeSet<_>>().len(), distinct.len());
        let repeated = list(world.ask(&draft, &pick(count, true, seed)));
        prop_assert_eq!(repeated.len() as u64, if set.is_empty() { 0 } else { count });
        prop_assert!(repeated.iter().all(|element| set.contains(element)));
    }
}

#[test]
fn random_ones_of_a_large_set_are_distinct_and_differ_by_seed() {
    let set: Names = (0..6_000).map(|number| format!("element:{number}").into_bytes()).collect();
    let world = World::new();
    let draft = world.with_sets(std::slice::from_ref(&set));
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let found = list(world.ask(&draft, &pick(5, false, seed)));
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 5);
        assert!(found.iter().all(|element| set.contains(element)));
        seen.extend(found);
        assert_eq!(list(world.ask(&draft, &pick(7, true, seed))).len(), 7);
    }
    assert!(seen.len() > 150, "{} of 200 differ", seen.len());
}

#[test]
fn small_set_is_chosen_from_evenly() {
    let set: Names = [&b"a"[..], b"aa", b"aaaaaaaa", b"zz"].iter().map(|name| name.to_vec()).collect();
    let world = World::new();
    let draft = world.with_sets(std::slice::from_ref(&set));
    let mut times: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for seed in 0..4_000 {
        *times.entry(list(world.ask(&draft, &pick(1, false, seed))).remove(0)).or_default() += 1;
    }
    assert_eq!(times.len(), 4);
    assert!(times.values().all(|count| (850..1_150).contains(count)), "{times:?}");
}

#[test]
fn fields_come_with_the_value_that_is_read() {
    let world = World::new();
    let mut draft = Draft::over(&world.store);
    for (author, hlc) in [(1, 5), (2, 9), (3, 7)] {
        let replica = ReplicaId::from_bytes([author; 16]);
        let row = RowId { key: key(0), kind: Kind::Map, subkey: b"f".to_vec(), dot: Dot::new(replica, 1) };
        let stamp = Stamp { epoch: Epoch(0), hlc: Hlc::at(hlc) };
        let value = Payload::Value { stamp, value: vec![author] };
        draft.put(world.keyspace, row, Some(value), replica).expect("in memory");
    }
    let expected = Answer::Pairs(vec![(b"f".to_vec(), vec![2])]);
    let page = SubkeyPage { key: key(0), collection: Collection::Map, after: None, count: 10 };
    assert_eq!(world.ask(&draft, &Query::Page(page)), expected);
    let random =
        RandomPick { key: key(0), collection: Collection::Map, count: 3, is_repeated: false, seed: 1 };
    assert_eq!(world.ask(&draft, &Query::Random(random)), expected);
}
