//! What users read: values, kinds, pages of keys, and all that concurrent writes left under a key.

mod world;

use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Answer, ENTRY_ROWS_MAX, Entry, KeyPage, Query, QueryError, answer};
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;
use world::by_hand::Station;
use world::words::{add, delete, increment, put, set, text};
use world::{NOTES, keyspace_id};

fn page(station: &Station, prefix: &str, after: Option<&str>, count: usize) -> Vec<String> {
    let page = KeyPage { prefix: prefix.into(), after: after.map(Into::into), count };
    match station.query(&Query::Keys(page)) {
        Answer::List(keys) => keys.iter().map(|key| text(key)).collect(),
        other => panic!("{other:?}"),
    }
}

fn entry(station: &Station, key: &str) -> Entry {
    match station.query(&Query::Entry(key.into())) {
        Answer::Entry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn refused(station: &Station, query: &Query) -> VisibleKind {
    match answer(station.store(), keyspace_id(NOTES), query) {
        Err(QueryError::WrongKind { found }) => found,
        other => panic!("{other:?}"),
    }
}

/// Both write under one key, apart, and meet.
fn apart(first: Write, second: Write) -> Station {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    a.write(first);
    b.unix_ms += 10;
    b.write(second);
    a.pull(&b, 9);
    a
}

/// Keys with one row and with thousands, keys that are deleted, pages of every size.
#[test]
fn pages_list_every_key_once_and_in_order() {
    let mut a = Station::new(0, 1);
    for n in 0..30 {
        a.write(set(&format!("key{n:02}"), "v"));
    }
    a.batch((0..500).map(|n| add("key10x", &n.to_string())).collect());
    a.batch((0..40).map(|n| put("key29x", &n.to_string(), "v")).collect());
    for n in 20..25 {
        a.write(delete(&format!("key{n}")));
    }
    let mut expected: Vec<String> =
        (0..30).filter(|n| !(20..25).contains(n)).map(|n| format!("key{n:02}")).collect();
    expected.extend(["key10x".to_owned(), "key29x".to_owned()]);
    expected.sort();
    for count in [1, 2, 7, 26, 27, 28, 100] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let keys = page(&a, "", found.last().map(String::as_str), count);
            assert!(keys.len() <= count);
            if keys.is_empty() {
                break;
            }
            found.extend(keys);
        }
        assert_eq!(found, expected, "pages of {count}");
    }
    assert_eq!(a.query(&Query::Size), Answer::Count(27));
    assert_eq!(page(&a, "", None, 0), [""; 0]);
}

#[test]
fn prefix_bounds_a_page() {
    let mut a = Station::new(0, 1);
    for key in ["a", "ab", "ab\0", "abc", "ac", "b"] {
        a.write(set(key, "v"));
    }
    assert_eq!(page(&a, "ab", None, 10), ["ab", "ab\0", "abc"]);
    assert_eq!(page(&a, "ab", Some("ab"), 10), ["ab\0", "abc"]);
    assert_eq!(page(&a, "ab", Some("zz"), 10), [""; 0]);
    assert_eq!(page(&a, "ab", Some("a"), 2), ["ab", "ab\0"]);
    assert_eq!(page(&a, "x", None, 10), [""; 0]);
}

/// A key that holds nothing but a spent slot does not exist.
#[test]
fn key_of_a_spent_slot_does_not_exist() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    a.write(increment("n", 1));
    b.pull(&a, 9);
    b.write(delete("n"));
    assert_eq!(b.rows().rows().len(), 1);
    assert_eq!(page(&b, "", None, 10), [""; 0]);
    assert_eq!(b.query(&Query::Size), Answer::Count(0));
    assert_eq!(b.query(&Query::Kind(b"n".to_vec())), Answer::Kind(None));
    assert_eq!(b.get("n"), None);
    assert_eq!(entry(&b, "n").conflicts().count(), 0, "a spent slot is no conflict");
}

/// The losers of concurrent writes are in the entry, the one that is read first.
#[test]
fn entry_shows_the_value_that_lost() {
    let a = apart(set("k", "earlier"), set("k", "later"));
    assert_eq!(a.get("k").as_deref(), Some("later"));
    let entry = entry(&a, "k");
    let shown: Vec<(String, bool)> = entry
        .rows
        .iter()
        .map(|row| (text(row.value.as_ref().expect("a register")), row.is_visible))
        .collect();
    assert_eq!(shown, [("later".to_owned(), true), ("earlier".to_owned(), false)]);
    assert_eq!(entry.conflicts().count(), 1);
    assert_eq!(entry.value, Some(b"later".to_vec()));
}

/// Two kinds under one key: the first of map, set, register and counter shows, the others are conflicts.
#[test]
fn kinds_under_one_key_show_in_their_order() {
    let both = |first: Write, second: Write| {
        let a = apart(first, second);
        let entry = entry(&a, "k");
        assert_eq!(entry.conflicts().count(), 1);
        (entry.visible.expect("the key exists"), a)
    };
    let map = || put("k", "f", "v");
    let members = || add("k", "e");
    let (visible, a) = both(map(), members());
    assert_eq!(visible, VisibleKind::Map);
    assert_eq!(refused(&a, &Query::Members(b"k".to_vec())), VisibleKind::Map);
    let (visible, a) = both(set("k", "v"), members());
    assert_eq!(visible, VisibleKind::Set);
    assert_eq!(refused(&a, &Query::Get(b"k".to_vec())), VisibleKind::Set);
    assert_eq!(refused(&a, &Query::Field(b"k".to_vec(), b"f".to_vec())), VisibleKind::Set);
    let (visible, a) = both(set("k", "text"), increment("k", 5));
    assert_eq!(visible, VisibleKind::Register);
    assert_eq!(a.get("k").as_deref(), Some("text"), "what is no number is shown as it is");
}

/// DEL removes all kinds, those that do not show too.
#[test]
fn delete_removes_every_kind() {
    let mut a = apart(put("k", "f", "v"), add("k", "e"));
    a.write(delete("k"));
    assert!(a.rows().rows().is_empty());
}

/// A write of the visible kind leaves the others as they are; SET replaces all.
#[test]
fn set_replaces_every_kind() {
    let mut a = apart(put("k", "f", "v"), add("k", "e"));
    a.write(put("k", "f", "w"));
    assert_eq!(a.rows().rows().len(), 2);
    a.write(set("k", "v"));
    let kinds: Vec<Kind> = a.rows().rows().keys().map(|row| row.kind).collect();
    assert_eq!(kinds, [Kind::Register]);
}

/// Concurrent writes of a field: the later stamp is read, the other is a conflict of the entry.
#[test]
fn fields_have_winners_of_their_own() {
    let a = apart(put("m", "f", "earlier"), put("m", "f", "later"));
    let pairs = vec![(b"f".to_vec(), b"later".to_vec())];
    assert_eq!(a.query(&Query::Fields(b"m".to_vec())), Answer::Pairs(pairs));
    let value = a.query(&Query::Field(b"m".to_vec(), b"f".to_vec()));
    assert_eq!(value, Answer::Value(Some(b"later".to_vec())));
    assert_eq!(a.query(&Query::FieldCount(b"m".to_vec())), Answer::Count(1));
    assert_eq!(entry(&a, "m").conflicts().count(), 1);
    let missing = a.query(&Query::Field(b"m".to_vec(), b"g".to_vec()));
    assert_eq!(missing, Answer::Value(None));
}

#[test]
fn entry_of_a_large_key_is_cut() {
    let mut a = Station::new(0, 1);
    a.batch((0..ENTRY_ROWS_MAX).map(|n| add("s", &n.to_string())).collect());
    let at_the_bound = entry(&a, "s");
    assert_eq!((at_the_bound.rows.len(), at_the_bound.is_truncated), (ENTRY_ROWS_MAX, false));
    a.write(add("s", "one more"));
    let past = entry(&a, "s");
    assert_eq!((past.rows.len(), past.is_truncated), (ENTRY_ROWS_MAX, true));
}

/// More siblings than an operation lists: the next write still removes all of them.
#[test]
fn write_observes_more_siblings_than_it_lists() {
    let count = 70;
    let mut stations: Vec<Station> = (0..count).map(|index| Station::new(index, count)).collect();
    for station in &mut stations {
        station.batch(vec![set("r", "v"), add("s", "e"), put("m", "f", "v")]);
    }
    let (a, others) = stations.split_first_mut().expect("there are stations");
    others.iter().for_each(|other| a.pull(other, 9));
    assert_eq!(a.rows().rows().len(), 3 * usize::from(count));
    a.write(set("r", "w"));
    a.write(add("s", "e"));
    a.write(put("m", "f", "w"));
    assert_eq!(a.rows().rows().len(), 3);
    others[0].pull(a, 500);
    assert_eq!(others[0].rows(), a.rows());
}
