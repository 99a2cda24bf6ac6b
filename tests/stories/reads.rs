//! What users read: values, kinds, pages of keys, and all that concurrent writes left under a key.

use sim::World;
use sim::node::Storage;
use sim::words::{add, delete, increment, put, set, text};
use sim::world::NOTES;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Answer, ENTRY_ROWS_MAX, Entry, KeyPage, Query, QueryError};
use tidelock_engine::request::{Action, ActionError, Atomicity};
use tidelock_engine::row::Kind;
use tidelock_engine::write::Write;

fn alone(seed: u64) -> World {
    World::connected(seed, &["a"])
}

fn page(world: &mut World, prefix: &str, after: Option<&str>, count: usize) -> Vec<String> {
    let page = KeyPage { prefix: prefix.into(), after: after.map(Into::into), count };
    match world.query("a", Query::Keys(page)) {
        Answer::List(keys) => keys.iter().map(|key| text(key)).collect(),
        other => panic!("{other:?}"),
    }
}

fn entry(world: &mut World, key: &str) -> Entry {
    match world.query("a", Query::Entry(key.into())) {
        Answer::Entry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn refused(world: &mut World, query: Query) -> VisibleKind {
    let replies = world.request("a", NOTES, Atomicity::Each, vec![Action::Query(query)]);
    match &replies.expect("reads are answered")[..] {
        [Err(ActionError::Query(QueryError::WrongKind { found }))] => *found,
        other => panic!("{other:?}"),
    }
}

fn kinds(world: &World) -> Vec<Kind> {
    world.rows_of("a", NOTES).iter().map(|(row, _)| row.kind).collect()
}

/// Two write under one key, apart, the second a little later, and meet.
fn apart(seed: u64, first: Write, second: Write) -> World {
    let mut world = World::new(seed);
    ["a", "b"].into_iter().for_each(|name| world.add(name));
    world.write("a", first);
    world.set_clock("b", 10);
    world.write("b", second);
    world.connect("a", "b");
    world.settle();
    world
}

/// Keys with one row and with thousands, keys that are deleted, pages of every size.
#[test]
fn pages_list_every_key_once_and_in_order() {
    let mut world = alone(90);
    for n in 0..30 {
        world.write("a", set(&format!("key{n:02}"), "v"));
    }
    world.batch("a", (0..500).map(|n| add("key10x", &n.to_string())).collect()).expect("it is executed");
    let fields = (0..40).map(|n| put("key29x", &n.to_string(), "v")).collect();
    world.batch("a", fields).expect("it is executed");
    for n in 20..25 {
        world.write("a", delete(&format!("key{n}")));
    }
    let mut expected: Vec<String> =
        (0..30).filter(|n| !(20..25).contains(n)).map(|n| format!("key{n:02}")).collect();
    expected.extend(["key10x".to_owned(), "key29x".to_owned()]);
    expected.sort();
    for count in [1, 2, 7, 26, 27, 28, 100] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let keys = page(&mut world, "", found.last().map(String::as_str), count);
            assert!(keys.len() <= count);
            if keys.is_empty() {
                break;
            }
            found.extend(keys);
        }
        assert_eq!(found, expected, "pages of {count}");
    }
    assert_eq!(world.query("a", Query::Size), Answer::Count(27));
    assert_eq!(page(&mut world, "", None, 0), [""; 0]);
}

/// Keys that begin alike, and pages that begin before, within and behind them.
#[test]
fn prefix_bounds_a_page() {
    let mut world = alone(91);
    for key in ["a", "ab", "ab\0", "abc", "ac", "b"] {
        world.write("a", set(key, "v"));
    }
    assert_eq!(page(&mut world, "ab", None, 10), ["ab", "ab\0", "abc"]);
    assert_eq!(page(&mut world, "ab", Some("ab"), 10), ["ab\0", "abc"]);
    assert_eq!(page(&mut world, "ab", Some("zz"), 10), [""; 0]);
    assert_eq!(page(&mut world, "ab", Some("a"), 2), ["ab", "ab\0"]);
    assert_eq!(page(&mut world, "x", None, 10), [""; 0]);
}

/// A key that holds nothing but a spent slot does not exist.
#[test]
fn key_of_a_spent_slot_does_not_exist() {
    let mut world = World::connected(92, &["a", "b"]);
    world.write("b", increment("n", 1));
    world.settle();
    world.partition("a", "b");
    world.write("a", delete("n"));
    assert_eq!(world.rows_of("a", NOTES).len(), 1);
    assert_eq!(page(&mut world, "", None, 10), [""; 0]);
    assert_eq!(world.query("a", Query::Size), Answer::Count(0));
    assert_eq!(world.query("a", Query::Kind(b"n".to_vec())), Answer::Kind(None));
    assert_eq!(world.get("a", "n"), None);
    assert_eq!(entry(&mut world, "n").conflicts().count(), 0, "a spent slot is no conflict");
}

/// The losers of concurrent writes are in the entry, the one that is read first.
#[test]
fn entry_shows_the_value_that_lost() {
    let mut world = apart(93, set("k", "earlier"), set("k", "later"));
    assert_eq!(world.get("a", "k").as_deref(), Some("later"));
    let entry = entry(&mut world, "k");
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
        let mut world = apart(94, first, second);
        let entry = entry(&mut world, "k");
        assert_eq!(entry.conflicts().count(), 1);
        (entry.visible.expect("the key exists"), world)
    };
    let map = || put("k", "f", "v");
    let members = || add("k", "e");
    let (visible, mut world) = both(map(), members());
    assert_eq!(visible, VisibleKind::Map);
    assert_eq!(refused(&mut world, Query::Members(b"k".to_vec())), VisibleKind::Map);
    let (visible, mut world) = both(set("k", "v"), members());
    assert_eq!(visible, VisibleKind::Set);
    assert_eq!(refused(&mut world, Query::Get(b"k".to_vec())), VisibleKind::Set);
    assert_eq!(refused(&mut world, Query::Field(b"k".to_vec(), b"f".to_vec())), VisibleKind::Set);
    let (visible, mut world) = both(set("k", "text"), increment("k", 5));
    assert_eq!(visible, VisibleKind::Register);
    assert_eq!(world.get("a", "k").as_deref(), Some("text"), "what is no number is shown as it is");
}

/// DEL removes all kinds, those that do not show too.
#[test]
fn delete_removes_every_kind() {
    let mut world = apart(95, put("k", "f", "v"), add("k", "e"));
    world.write("a", delete("k"));
    assert_eq!(kinds(&world), []);
}

/// A write of the visible kind leaves the others as they are; SET replaces all.
#[test]
fn set_replaces_every_kind() {
    let mut world = apart(96, put("k", "f", "v"), add("k", "e"));
    world.write("a", put("k", "f", "w"));
    assert_eq!(kinds(&world).len(), 2);
    world.write("a", set("k", "v"));
    assert_eq!(kinds(&world), [Kind::Register]);
}

/// Concurrent writes of a field: the later stamp is read, the other is a conflict of the entry.
#[test]
fn fields_have_winners_of_their_own() {
    let mut world = apart(97, put("m", "f", "earlier"), put("m", "f", "later"));
    let pairs = vec![(b"f".to_vec(), b"later".to_vec())];
    assert_eq!(world.query("a", Query::Fields(b"m".to_vec())), Answer::Pairs(pairs));
    assert_eq!(world.field("a", "m", "f").as_deref(), Some("later"));
    assert_eq!(world.query("a", Query::FieldCount(b"m".to_vec())), Answer::Count(1));
    assert_eq!(entry(&mut world, "m").conflicts().count(), 1);
    assert_eq!(world.field("a", "m", "g"), None);
}

/// A key with more rows than an entry shows.
#[test]
fn entry_of_a_large_key_is_cut() {
    let mut world = alone(98);
    let elements = (0..ENTRY_ROWS_MAX).map(|n| add("s", &n.to_string())).collect();
    world.batch("a", elements).expect("it is executed");
    let at_the_bound = entry(&mut world, "s");
    assert_eq!((at_the_bound.rows.len(), at_the_bound.is_truncated), (ENTRY_ROWS_MAX, false));
    world.write("a", add("s", "one more"));
    let past = entry(&mut world, "s");
    assert_eq!((past.rows.len(), past.is_truncated), (ENTRY_ROWS_MAX, true));
}

/// More siblings than an operation lists: the next write still removes all of them, here and elsewhere.
#[test]
fn write_observes_more_siblings_than_it_lists() {
    let mut world = alone(99);
    let three = || vec![set("r", "v"), add("s", "e"), put("m", "f", "v")];
    world.batch("a", three()).expect("it is executed");
    world.storage = Storage::Memory;
    for n in 1..70 {
        let name = format!("n{n}");
        world.add(&name);
        world.batch(&name, three()).expect("it is executed");
        world.connect(&name, "a");
        world.settle();
        world.kill(&name);
    }
    assert_eq!(world.rows_of("a", NOTES).len(), 3 * 70);
    world.write("a", set("r", "w"));
    world.write("a", add("s", "e"));
    world.write("a", put("m", "f", "w"));
    assert_eq!(world.rows_of("a", NOTES).len(), 3);
    world.start("n1");
    world.connect("n1", "a");
    world.settle();
    assert_eq!(world.rows_of("n1", NOTES), world.rows_of("a", NOTES));
}
