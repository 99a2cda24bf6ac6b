//! Documents made of rows, good and bad, without a node.

use std::collections::BTreeSet;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Automerge, ObjType, ROOT, ReadDoc};
use serde_json::{Value, json};
use tidelock_engine::causality::Dot;
use tidelock_engine::id::ReplicaId;

use super::chunk::{ChunkError, OPS_MAX, Size};
use super::json::{self, JsonError};
use super::loading::{Chunks, Loaded, changes_of, parse_saved};
use super::path::DEPTH_MAX;
use super::save;

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn dot(author: u8, seq: u64) -> Dot {
    Dot::new(replica(author), seq)
}

fn author(name: &str) -> AutoCommit {
    AutoCommit::new().with_actor(ActorId::from(name.as_bytes()))
}

/// Edits a document; the chunk is the change that came of it.
fn edit(document: &mut AutoCommit, field: &str, value: i64) -> Vec<u8> {
    let before = document.get_heads();
    document.put(ROOT, field, value).expect("an edit");
    document.save_after(&before)
}

fn load(chunks: &Chunks) -> Loaded {
    Loaded::load(replica(1), chunks)
}

fn shown(loaded: &Loaded) -> Value {
    loaded.visible().map_or(Value::Null, |document| {
        json::read(document, &"".parse().expect("a path")).expect("it can be read").expect("it is there")
    })
}

/// One document edited by two, as rows: a creates it, both edit apart.
fn shared() -> (AutoCommit, AutoCommit, Chunks) {
    let mut a = author("a");
    let first = edit(&mut a, "x", 1);
    let mut b = a.fork().with_actor(ActorId::from(&b"b"[..]));
    let chunks =
        vec![(dot(1, 1), first), (dot(1, 2), edit(&mut a, "y", 2)), (dot(2, 1), edit(&mut b, "z", 3))];
    (a, b, chunks)
}

#[test]
fn rows_make_one_document_in_whatever_order_they_come() {
    let (_, _, chunks) = shared();
    let all = load(&chunks);
    assert_eq!(shown(&all), json!({"x": 1, "y": 2, "z": 3}));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut loaded = load(&Vec::new());
        for place in order {
            loaded.add(&chunks[place..=place]).expect("a sound row");
        }
        assert_eq!(shown(&loaded), shown(&all));
        assert_eq!(loaded.doc.get_heads(), all.doc.get_heads());
        assert!(!loaded.is_pending());
    }
}

#[test]
fn row_that_cannot_be_read_is_skipped_and_the_others_count() {
    let (mut a, _, mut chunks) = shared();
    let mut flipped = edit(&mut a, "w", 4);
    flipped[40] ^= 0x10;
    chunks.extend([
        (dot(3, 1), b"no document".to_vec()),
        (dot(3, 2), Vec::new()),
        (dot(3, 3), chunks[0].1[..20].to_vec()),
        (dot(3, 4), a.save()[..60].to_vec()),
    ]);
    let loaded = load(&chunks);
    assert_eq!(shown(&loaded), json!({"x": 1, "y": 2, "z": 3}));
    assert_eq!(loaded.skipped.len(), 4);
    assert_eq!(loaded.rows.len(), 3);
    // A flipped bit makes another change, or none; never another document than the rest says.
    chunks.push((dot(3, 5), flipped));
    assert_eq!(shown(&load(&chunks))["x"], json!(1));
}

/// An author that uses one name for two histories: whoever loads all rows skips the same one.
#[test]
fn rows_that_contradict_each_other_are_skipped_alike_by_all() {
    let (_, _, mut chunks) = shared();
    let mut twin = author("a");
    chunks.push((dot(3, 1), edit(&mut twin, "x", 99)));
    let expected = json!({"x": 1, "y": 2, "z": 3});
    let loaded = load(&chunks);
    assert_eq!(shown(&loaded), expected);
    assert_eq!(loaded.skipped.keys().copied().collect::<Vec<_>>(), [dot(3, 1)]);
    // Where the contradiction came first it is found when the rest comes, and all is loaded anew.
    let mut other = load(&chunks[3..].to_vec());
    assert_eq!(shown(&other), json!({"x": 99}));
    assert!(other.add(&chunks[..3]).is_err());
    assert_eq!(shown(&load(&chunks)), expected);
}

#[test]
fn change_without_what_it_builds_on_shows_nothing_until_that_is_restored() {
    let (_, b, chunks) = shared();
    let mut orphan = load(&chunks[2..].to_vec());
    assert_eq!(shown(&orphan), Value::Null);
    assert!(orphan.is_pending() && !orphan.is_half());
    assert_eq!(orphan.restore(|_| None), Ok(false));
    assert_eq!(shown(&orphan), Value::Null);
    let mut known = changes_of(&b.clone().save());
    assert_eq!(orphan.restore(|hash| known.remove(hash)), Ok(true));
    // What it was built on comes back, and nothing else: y was written beside it.
    assert_eq!(shown(&orphan), json!({"x": 1, "z": 3}));
    assert!(!orphan.is_pending());
}

/// Two create a document at once; a third sees both and edits. A DEL that saw only one of them leaves the other
/// and an edit that waits: a half, which nobody is shown.
#[test]
fn half_of_a_document_is_not_shown() {
    let (mut a, mut b) = (author("a"), author("b"));
    let (first, second) = (edit(&mut a, "x", 1), edit(&mut b, "y", 2));
    a.merge(&mut b).expect("a merge");
    let third = edit(&mut a, "z", 3);
    let half = load(&vec![(dot(2, 1), second.clone()), (dot(1, 2), third.clone())]);
    assert!(half.is_half());
    assert_eq!(shown(&half), Value::Null);
    let whole = load(&vec![(dot(1, 1), first), (dot(2, 1), second), (dot(1, 2), third)]);
    assert_eq!(shown(&whole), json!({"x": 1, "y": 2, "z": 3}));
}

/// What waits is kept when a document is written whole, so that the rows that held it may go.
#[test]
fn whole_document_keeps_changes_that_wait() {
    let (_, _, chunks) = shared();
    let mut fresh = author("c");
    let mut rows = vec![(dot(3, 1), edit(&mut fresh, "v", 5))];
    rows.extend_from_slice(&chunks[1..]);
    let loaded = load(&rows);
    let whole = loaded.doc.save();
    let mut again = load(&vec![(dot(3, 2), whole)]);
    assert!(again.is_pending());
    assert_eq!(shown(&again), json!({"v": 5}));
    again.add(&chunks[..1]).expect("a sound row");
    assert_eq!(shown(&again), json!({"v": 5, "x": 1, "y": 2, "z": 3}));
}

#[test]
fn saved_document_is_taken_only_if_it_is_whole() {
    let (mut a, _, chunks) = shared();
    let saved = a.save();
    assert_eq!(parse_saved(replica(1), &saved).map(|document| document.get_heads()), Ok(a.get_heads()));
    assert!(matches!(parse_saved(replica(1), &chunks[1].1), Err(ChunkError::Malformed(_))));
    for bytes in [&saved[..saved.len() - 1], &saved[1..], b"", b"{}"] {
        assert!(parse_saved(replica(1), bytes).is_err());
    }
    let both = [a.save(), saved].concat();
    assert!(parse_saved(replica(1), &both).is_ok(), "saved documents may be appended to each other");
}

#[test]
fn rows_together_are_bounded() {
    let most = Size { inflated: 0, ops: OPS_MAX };
    let one = Size { inflated: 0, ops: 1 };
    assert!(most.plus(Size::default()).is_ok());
    assert_eq!(most.plus(one), Err(ChunkError::TooLarge));
}

#[test]
fn replaceable_rows_are_the_oldest() {
    let (_, _, chunks) = shared();
    let loaded = load(&chunks);
    assert_eq!(loaded.replaceable(2), [dot(1, 1), dot(2, 1)]);
    assert!(loaded.is_within(&BTreeSet::from([dot(1, 1), dot(1, 2), dot(2, 1), dot(9, 9)])));
    assert!(!loaded.is_within(&BTreeSet::from([dot(1, 1), dot(2, 1)])));
}

fn written(before: &Value, change: impl FnOnce(&mut Automerge) -> Result<(), JsonError>) -> Value {
    let mut document = Automerge::new();
    set(&mut document, "", before).expect("an object");
    change(&mut document).expect("a change");
    json::read(&document, &"".parse().expect("a path")).expect("it can be read").expect("it is there")
}

fn set(document: &mut Automerge, path: &str, value: &Value) -> Result<(), JsonError> {
    let path = path.parse().expect("a path");
    document.transact(|edit| json::set(edit, &path, value)).map(drop).map_err(|failure| failure.error)
}

fn patch(document: &mut Automerge, patch: &Value) -> Result<(), JsonError> {
    document.transact(|edit| json::patch(edit, patch)).map(drop).map_err(|failure| failure.error)
}

#[test]
fn json_that_is_written_is_read_back() {
    let value = json!({
        "text": "häß", "list": [1, [], {}, null, "a", true], "map": {"": {"~/": -1}},
        "numbers": [0, -5, 2.5, 18_446_744_073_709_551_615_u64, -9_223_372_036_854_775_808_i64],
    });
    assert_eq!(written(&json!({}), |document| set(document, "", &value)), value);
    assert_eq!(written(&value, |document| set(document, "", &json!({"list": [2]}))), json!({"list": [2]}));
}

#[test]
fn json_is_set_at_a_path() {
    let before = json!({"a": {"b": [1, 2]}, "t": "text"});
    let after = |path: &str, value: Value| written(&before, |document| set(document, path, &value));
    assert_eq!(after("/a/b/1", json!("x")), json!({"a": {"b": [1, "x"]}, "t": "text"}));
    assert_eq!(after("/a/b/2", json!(3)), json!({"a": {"b": [1, 2, 3]}, "t": "text"}));
    assert_eq!(after("/a/b/-", json!({"c": 1})), json!({"a": {"b": [1, 2, {"c": 1}]}, "t": "text"}));
    assert_eq!(after("/a/new", json!(null)), json!({"a": {"b": [1, 2], "new": null}, "t": "text"}));
    assert_eq!(after("/t", json!([])), json!({"a": {"b": [1, 2]}, "t": []}));
    for (path, step) in [("/a/b/3", 2), ("/a/x/y", 1), ("/t/0", 1), ("/a/b/x", 2), ("/a/b/0/c", 2)] {
        let mut document = Automerge::new();
        set(&mut document, "", &before).expect("an object");
        assert_eq!(set(&mut document, path, &json!(1)), Err(JsonError::NoSuchPath(step)), "{path}");
    }
    let mut document = Automerge::new();
    assert_eq!(set(&mut document, "", &json!([1])), Err(JsonError::NotAnObject));
    assert!(document.is_empty());
}

/// The examples of RFC 7396, appendix A, whose targets and results are objects.
#[test]
fn patches_are_those_of_the_rfc() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (before, change, after) in cases {
        assert_eq!(written(&before, |document| patch(document, &change)), after, "{change}");
    }
    assert_eq!(patch(&mut Automerge::new(), &json!([1])), Err(JsonError::NotAnObject));
}

#[test]
fn text_that_is_set_again_keeps_what_others_typed() {
    let mut ours = Automerge::new();
    set(&mut ours, "", &json!({"t": "one two"})).expect("an object");
    let mut theirs = ours.fork();
    set(&mut ours, "/t", &json!("one and two")).expect("a text");
    set(&mut theirs, "/t", &json!("one two three")).expect("a text");
    ours.merge(&mut theirs).expect("a merge");
    let path = "/t".parse().expect("a path");
    assert_eq!(json::read(&ours, &path), Ok(Some(json!("one and two three"))));
    let heads = ours.get_heads();
    set(&mut ours, "/t", &json!("one and two three")).expect("a text");
    assert_eq!(ours.get_heads(), heads, "what is equal is no edit");
}

#[test]
fn depth_is_bounded_when_written_and_when_read() {
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
    let mut document = Automerge::new();
    set(&mut document, "", &nested(DEPTH_MAX)).expect("at the bound");
    assert_eq!(set(&mut document, "", &nested(DEPTH_MAX + 1)), Err(JsonError::TooDeep));
    assert!(json::read(&document, &"".parse().expect("a path")).is_ok());
    // Deeper ones come from others.
    let deep = document.transact::<_, _, automerge::AutomergeError>(|edit| {
        (0..2_000).try_fold(ROOT, |parent, _| edit.put_object(&parent, "d", ObjType::Map)).map(drop)
    });
    assert!(deep.is_ok());
    assert_eq!(json::read(&document, &"".parse().expect("a path")), Err(JsonError::TooDeep));
}

#[test]
fn what_is_saved_for_others_holds_nothing_that_waits() {
    let (_, _, chunks) = shared();
    let mut fresh = author("c");
    let loaded = load(&vec![(dot(3, 1), edit(&mut fresh, "v", 5)), chunks[2].clone()]);
    let saved = Automerge::load(&save(&loaded.doc)).expect("a document");
    assert!(saved.get_missing_deps(&[]).is_empty());
    assert_eq!(saved.get_heads(), fresh.get_heads());
}
