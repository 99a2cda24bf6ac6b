//! Batches and frames: a batch is in one frame or nowhere, and never larger than a frame.

use crate::world::by_hand::{COURIER, Station, request};
use crate::world::refusal;
use crate::world::words::{add, change, delete, increment, put, set};
use tidelock_engine::bounds::{
    CHUNK_BYTES_MAX, ELEMENTS_MAX, FRAME_OPS_MAX, KEY_BYTES_MAX, OBSERVED_LISTED_MAX, SUBKEY_BYTES_MAX,
    VALUE_BYTES_MAX,
};
use tidelock_engine::ports::TransportEvent;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Input;
use tidelock_engine::request::RequestError;
use tidelock_engine::write::Write;

/// The third action cannot be done: the first two are not done either, and no dot was used.
#[test]
fn refused_batch_leaves_nothing() {
    let mut a = Station::new(0, 1);
    a.write(set("text", "not a number"));
    let before = a.rows().clone();
    let reply = a.try_write(vec![set("k", "v"), add("s", "e"), increment("text", 1), set("k", "w")]);
    assert_eq!(
        refusal(reply),
        "action 2: value is not an integer or out of range; nothing of the batch was done"
    );
    assert_eq!(a.rows(), &before);
    assert_eq!(a.write(set("k", "v"))[0].header().first, 2, "the next operation has the next dot");
}

/// A turn of write, frame from a peer, write: two frames, and only the second depends on the peer's.
#[test]
fn remote_frame_between_two_writes_cuts_the_frame() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    let remote = b.write(add("s", "x"));
    let bytes = a.push(&remote).encode();
    let message = Input::Network(TransportEvent::Message { session: COURIER, bytes });
    a.turn(vec![request(vec![Write::Clear]), message, request(vec![delete("s")])]);
    let frames = a.new_frames();
    let [clear, from_b, delete] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(from_b, &remote[0]);
    assert_eq!(clear.header().dependencies, []);
    assert_eq!(delete.header().dependencies.len(), 1);
    assert_eq!(delete.header().previous, clear.id());
}

/// Writes of one turn without a frame in between share one.
#[test]
fn writes_of_one_turn_are_one_frame() {
    let mut a = Station::new(0, 1);
    a.turn((0..100).map(|n| request(vec![set(&format!("key{n}"), "value")])).collect());
    let frames = a.new_frames();
    assert_eq!(frames.iter().map(|frame| frame.header().count).collect::<Vec<_>>(), [100]);
}

/// As many operations as a frame holds, and one more.
#[test]
fn batch_is_bounded_by_operations() {
    let mut a = Station::new(0, 1);
    a.write(set("k", "v"));
    let full = vec![increment("n", 1); FRAME_OPS_MAX];
    let frames = a.batch(full.clone());
    assert_eq!(frames.len(), 1);
    let mut over = full;
    over.push(increment("n", 1));
    let reply = a.try_write(over);
    assert!(matches!(reply, Err(RequestError::Action { .. })), "{reply:?}");
    assert_eq!(a.get("n"), Some(FRAME_OPS_MAX.to_string()));
}

/// As many bytes as a frame of many operations holds, and one more.
#[test]
fn batch_is_bounded_by_bytes() {
    let mut a = Station::new(0, 1);
    let fifth = |more: usize| set("k12345", &"x".repeat((1 << 20) / 5 - 64 + more));
    let writes = |more| vec![fifth(0), fifth(0), fifth(0), fifth(0), fifth(more)];
    let base = a.batch(writes(0));
    let used: usize = base[0].ops().iter().map(|op| postcard::to_stdvec(op).expect("memory").len()).sum();
    let room = (1 << 20) - used;
    let mut b = Station::new(0, 1);
    assert_eq!(b.batch(writes(room)).len(), 1);
    let mut c = Station::new(0, 1);
    let reply = c.try_write(writes(room + 1));
    assert!(refusal(reply).contains("batch of 1048577 bytes in 5 operations"));
    assert!(c.log().is_empty());
}

/// A batch that does not fit behind what is in the turn's frame already starts a frame of its own.
#[test]
fn batch_that_does_not_fit_behind_others_starts_a_frame() {
    let mut a = Station::new(0, 1);
    let half = || set("k", &"x".repeat(600_000));
    let outcome = a.turn(vec![
        request(vec![half(), increment("n", 1), increment("n", 1)]),
        request(vec![half(), increment("n", 1), increment("n", 1)]),
    ]);
    assert!(outcome.replies.iter().all(|(_, reply)| reply.is_ok()));
    let counts: Vec<u32> = a.new_frames().iter().map(|frame| frame.header().count).collect();
    assert_eq!(counts, [3, 3]);
}

/// Keys, elements, fields and values at their bounds, and one byte past.
#[test]
fn keys_elements_and_values_are_bounded() {
    let mut a = Station::new(0, 2);
    let text = |length: usize| "x".repeat(length);
    let taken = [
        set(&text(KEY_BYTES_MAX), "v"),
        set("k", &text(VALUE_BYTES_MAX)),
        add("s", &text(SUBKEY_BYTES_MAX)),
        put("m", &text(SUBKEY_BYTES_MAX), &text(VALUE_BYTES_MAX)),
        change("d", text(CHUNK_BYTES_MAX), Vec::new()),
    ];
    let refused = [
        set(&text(KEY_BYTES_MAX + 1), "v"),
        set("k", &text(VALUE_BYTES_MAX + 1)),
        add("s", &text(SUBKEY_BYTES_MAX + 1)),
        put("m", &text(SUBKEY_BYTES_MAX + 1), "v"),
        put("m", "f", &text(VALUE_BYTES_MAX + 1)),
        delete(&text(KEY_BYTES_MAX + 1)),
        change("d", text(CHUNK_BYTES_MAX + 1), Vec::new()),
        change(text(KEY_BYTES_MAX + 1), "c", Vec::new()),
    ];
    for write in refused {
        let reply = a.try_write(vec![write]);
        assert!(reply.is_err());
    }
    assert!(a.log().is_empty());
    for write in taken {
        assert_eq!(a.write(write).len(), 1);
    }
    let mut b = Station::new(1, 2);
    b.pull(&a, 10);
    assert_eq!(a.rows(), b.rows());
}

/// A change of a document replaces as many rows as one operation lists, and builds on rows that are there.
#[test]
fn change_replaces_bounded_rows_that_are_there() {
    let mut a = Station::new(0, 1);
    let mut dots = Vec::new();
    for _ in 0..=OBSERVED_LISTED_MAX {
        let frames = a.write(change("d", "c", Vec::new()));
        dots.push(frames[0].header().last_dot());
    }
    assert!(refusal(a.try_write(vec![change("d", "all", dots.clone())])).contains("replaces 65 rows"));
    a.write(change("d", "most", dots[1..].to_vec()));
    assert_eq!(a.rows().rows().len(), 2);
    // Two of one batch build on the same row, and only one finds it.
    let twice = vec![change("d", "x", vec![dots[0]]), change("d", "y", vec![dots[0]])];
    assert!(refusal(a.try_write(twice)).contains("changed meanwhile"));
    a.write(delete("d"));
    assert!(refusal(a.try_write(vec![change("d", "x", vec![dots[0]])])).contains("changed meanwhile"));
    assert!(a.rows().rows().is_empty());
}

/// The elements of one write are bounded.
#[test]
fn elements_of_one_write_are_bounded() {
    let mut a = Station::new(0, 1);
    let elements = |count: usize| (0..count).map(|n| n.to_be_bytes()[4..].to_vec()).collect();
    let add = |count| Write::Add { key: b"s".to_vec(), elements: elements(count) };
    assert!(refusal(a.try_write(vec![add(ELEMENTS_MAX + 1)])).contains("65537 elements"));
    a.write(add(ELEMENTS_MAX));
    assert_eq!(a.query(&Query::Cardinality(b"s".to_vec())), Answer::Count(ELEMENTS_MAX as u64));
}

/// A value that is larger than a batch replaces a set whose elements are large too.
#[test]
fn large_value_replaces_another_kind() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    for n in 0..40 {
        a.write(add("k", &format!("{n}{}", "x".repeat(60_000))));
    }
    a.write(set("k", &"y".repeat(VALUE_BYTES_MAX)));
    a.write(add("other", "e"));
    a.write(set("other", "small"));
    b.pull(&a, 100);
    assert_eq!(a.rows(), b.rows());
    assert_eq!(b.rows().rows().len(), 2);
}
