//! Random bytes for every decoder: nothing panics, and what is taken in leaves the replica sound.
//!
//! Frames are mutated and then signed again, messages are mutated and sent, so that the deep code is reached.
//! More: `SEEDS=1000000 cargo nextest run -p tidelock-engine --test decoders`.

use crate::world::by_hand::{COURIER, Station, card, courier_key, key};
use crate::world::forge::{Forger, dot, encode, sign};
use crate::world::random::Random;
use crate::world::words::{add, delete, increment, put, remove, set};
use crate::world::{NOTES, check_derived, keyspace_id, named};
use tidelock_engine::bounds::{
    FRAME_OPS_BYTES_MAX, FRAME_OPS_MAX, KEY_BYTES_MAX, LARGE_FRAME_OPS_MAX, OBSERVED_LISTED_MAX,
    OP_BYTES_MAX, REPLICAS_MAX, SUBKEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use tidelock_engine::causality::Dot;
use tidelock_engine::frame::{FRAME_BYTES_MAX, Frame, FrameError, FrameHeader};
use tidelock_engine::id::{AuthorCard, Epoch, FrameId, ReplicaId};
use tidelock_engine::install::RowList;
use tidelock_engine::message::{
    FrameBytes, HeadEntry, KeyspaceHint, Message, PartRows, PeerRecord, RangeAsk, RangePart, StateHead,
    WantEntry,
};
use tidelock_engine::op::{DotRef, Element, KeySlot, Op, Prefix, RowRef, SlotChange};
use tidelock_engine::ports::{SessionId, TransportEvent};
use tidelock_engine::ranges::{Print, Range};
use tidelock_engine::replica::Input;
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_engine::write::Write;

/// The rounds of a test, and whether they are enough for its floor.
fn seeds(default: u64) -> (u64, bool) {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    (seeds, seeds >= default)
}

/// Changes some bytes: flips, numbers at their limits, cuts, repeats.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.remove(at)),
            4 => {
                let extreme = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
                bytes.splice(at..at, extreme[..=random.below(10)].iter().copied());
            }
            _ => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Frames of station 1 that depend on station 2, with every operation in them.
fn sample_frames() -> (Vec<Frame>, Vec<Frame>) {
    let (mut b, mut c) = (Station::new(1, 3), Station::new(2, 3));
    let mut base = Vec::new();
    for write in [set("k", "1"), increment("n", 5), add("s", "x"), put("m", "f", "v")] {
        base.extend(c.write(write));
    }
    b.pull(&c, 9);
    b.new_frames();
    let frames = [
        b.batch(vec![set("n", "3"), increment("n", 2), add("s", "x"), put("m", "f", "w")]),
        b.batch(vec![remove("s", "x"), delete("m"), increment("n", 1)]),
        b.batch(vec![delete("n"), Write::Clear, set("k", "2")]),
    ];
    (base, frames.concat())
}

#[test]
fn mutated_frames_never_harm() {
    let (base, frames) = sample_frames();
    let mut random = Random::new(7);
    let (mut decoded, mut applied) = (0, 0);
    let (rounds, is_full) = seeds(4_000);
    for _ in 0..rounds {
        let at = random.below(frames.len());
        let bytes = frames[at].bytes();
        let mut body = bytes[..bytes.len() - 64].to_vec();
        mutate(&mut random, &mut body);
        let signed = sign(&key(1), body);
        if Frame::decode(&signed).is_err() {
            continue;
        }
        decoded += 1;
        let mut a = Station::new(0, 3);
        a.deliver(&base);
        a.deliver(&frames[..at]);
        let before = a.log().len();
        let frames = vec![FrameBytes(signed)];
        a.say(COURIER, &Message::Push { cards: vec![card(1)], frames });
        applied += a.log().len() - before;
        check_derived(a.rows());
    }
    assert!(!is_full || decoded > 300 && applied > 50, "{decoded} decoded, {applied} applied");
}

/// Every rule that a frame must keep by itself, broken once.
#[test]
fn frames_that_break_a_rule_are_refused() {
    let b = || card(1).replica();
    let delete = |rows, slots| Op::Delete { key: b"k".to_vec(), rows, slots };
    let row = |kind, dot| RowRef { kind, subkey: Vec::new(), dot };
    let reset = |birth, top| SlotChange::Reset { birth, top, sum: 0 };
    let element = |name: &str| Element { element: name.into(), observed: Vec::new() };
    let add = |elements| Op::Add { key: b"k".to_vec(), elements };
    let observed = |observed| Op::Set { key: b"k".to_vec(), value: Vec::new(), observed, slots: Vec::new() };
    let long = |bytes: usize| vec![b'x'; bytes];
    let ops: Vec<(&str, Op)> = vec![
        ("no elements", add(vec![])),
        ("repeated elements", add(vec![element("x"), element("x")])),
        ("an element too long", add(vec![Element { element: long(SUBKEY_BYTES_MAX + 1), observed: vec![] }])),
        ("a key too long", Op::Increment { key: long(KEY_BYTES_MAX + 1), birth: 0, sum: 0 }),
        ("a slot of a later operation", Op::Increment { key: b"k".to_vec(), birth: 1, sum: 0 }),
        ("an own later operation", observed(vec![dot(0, 1)])),
        ("operation 0", observed(vec![dot(1, 0)])),
        ("a replica that is not in the table", observed(vec![dot(2, 1)])),
        ("too many observed rows", observed(vec![dot(1, 1); OBSERVED_LISTED_MAX + 1])),
        ("a slot as a row", delete(vec![row(Kind::Counter, dot(1, 1))], vec![])),
        ("a close of nothing", delete(vec![], vec![SlotChange::Close { birth: 0 }])),
        ("a close of a later slot", delete(vec![], vec![SlotChange::Close { birth: 1 }])),
        ("a reset of an own slot", delete(vec![], vec![reset(dot(0, 1), 1)])),
        ("a reset before the birth", delete(vec![], vec![reset(dot(1, 5), 4)])),
        ("a reset by nobody", delete(vec![], vec![reset(dot(7, 1), 1)])),
    ];
    let good = sign(&key(2), encode(&Forger::new(2).header(vec![b()], 1), &[observed(vec![dot(1, 1)])]));
    assert!(Frame::decode(&good).is_ok());
    for (what, op) in ops {
        let bytes = sign(&key(2), encode(&Forger::new(2).header(vec![b()], 1), &[op]));
        assert!(matches!(Frame::decode(&bytes), Err(FrameError::Malformed(_))), "{what}");
    }
    let header = || Forger::new(2).header(vec![b()], 1);
    let headers: Vec<(&str, FrameHeader)> = vec![
        ("seq 0", FrameHeader { first: 0, ..header() }),
        ("a seq past the end", FrameHeader { first: u64::MAX, ..header() }),
        ("no operations", FrameHeader { count: 0, ..header() }),
        ("more operations than there are", FrameHeader { count: 2, ..header() }),
        ("fewer operations than there are", FrameHeader { count: 1, ..header() }),
        ("its author in the table", FrameHeader { replicas: vec![card(2).replica()], ..header() }),
        ("a dependency on itself", FrameHeader { dependencies: vec![dot(0, 1)], ..header() }),
        ("a dependency on nothing", FrameHeader { dependencies: vec![dot(1, 0)], ..header() }),
        ("a dependency on nobody", FrameHeader { dependencies: vec![dot(2, 1)], ..header() }),
    ];
    for (what, header) in headers {
        let count = if what.starts_with("fewer") { 2 } else { 1 };
        let ops = vec![Op::Increment { key: b"k".to_vec(), birth: 0, sum: 0 }; count];
        let bytes = sign(&key(2), encode(&header, &ops));
        assert!(matches!(Frame::decode(&bytes), Err(FrameError::Malformed(_))), "{what}");
    }
    let version = sign(&key(2), encode(&FrameHeader { version: 2, ..header() }, &[observed(vec![])]));
    assert_eq!(Frame::decode(&version), Err(FrameError::Version(2)));
    assert_eq!(Frame::decode(&long(FRAME_BYTES_MAX + 1)), Err(FrameError::TooLong(FRAME_BYTES_MAX + 1)));
}

fn set_op(value_bytes: usize) -> Op {
    Op::Set { key: b"k".to_vec(), value: vec![b'x'; value_bytes], observed: Vec::new(), slots: Vec::new() }
}

/// Operations of exactly so many encoded bytes, of which the last is between 16 KiB and 2 MiB.
fn ops_of(mut ops: Vec<Op>, bytes: usize) -> Vec<Op> {
    let encoded =
        |ops: &[Op]| -> usize { ops.iter().map(|op| postcard::to_stdvec(op).expect("memory").len()).sum() };
    // Variant, key, length of the value, and two empty lists.
    ops.push(set_op(bytes - encoded(&ops) - 8));
    assert_eq!(encoded(&ops), bytes);
    ops
}

/// As many other replicas as a frame can name, and their number.
fn largest_table() -> (Vec<ReplicaId>, u32) {
    let replicas = u32::try_from(REPLICAS_MAX).expect("a frame indexes them by 32 bits");
    let id = |number: u32| ReplicaId::from_bytes(u128::from(number).to_be_bytes());
    ((1..=replicas).map(id).collect(), replicas)
}

/// Operations by number and by bytes, at their bounds and one past: one byte more than few large operations may
/// have, or many small ones.
#[test]
fn frames_are_bounded_at_their_bounds() {
    let decoded = |ops: &[Op]| {
        let bytes = sign(&key(2), encode(&Forger::new(2).header(Vec::new(), ops.len()), ops));
        Frame::decode(&bytes).map(|frame| frame.ops().len())
    };
    let increment = || Op::Increment { key: b"k".to_vec(), birth: 0, sum: 0 };
    assert_eq!(decoded(&vec![increment(); FRAME_OPS_MAX]), Ok(FRAME_OPS_MAX));
    let too_many = FrameError::Malformed("number of operations out of bounds");
    assert_eq!(decoded(&vec![increment(); FRAME_OPS_MAX + 1]), Err(too_many));
    let small = vec![increment(); LARGE_FRAME_OPS_MAX - 2];
    let few = |bytes| ops_of([vec![set_op(VALUE_BYTES_MAX)], small.clone()].concat(), bytes);
    let many = |bytes| ops_of(vec![set_op(0); LARGE_FRAME_OPS_MAX], bytes);
    let too_large = FrameError::Malformed("more operations than one frame may hold");
    assert_eq!(decoded(&few(OP_BYTES_MAX)), Ok(LARGE_FRAME_OPS_MAX));
    assert_eq!(decoded(&few(OP_BYTES_MAX + 1)), Err(too_large.clone()));
    assert_eq!(decoded(&many(FRAME_OPS_BYTES_MAX)), Ok(LARGE_FRAME_OPS_MAX + 1));
    assert_eq!(decoded(&many(FRAME_OPS_BYTES_MAX + 1)), Err(too_large));
}

/// A frame as long as all rules together allow: it fits the bound of a frame, which is hardly longer.
#[test]
fn longest_frame_fits_its_bound() {
    let (table, replicas) = largest_table();
    let dependencies: Vec<DotRef> = (1..=replicas).map(|replica| dot(replica, u64::MAX)).collect();
    let ops = ops_of(vec![set_op(VALUE_BYTES_MAX)], OP_BYTES_MAX);
    let header = FrameHeader {
        epoch: Epoch(u64::MAX),
        first: u64::MAX - 2,
        dependencies,
        ..Forger::new(2).header(table, ops.len())
    };
    let bytes = sign(&key(2), encode(&header, &ops));
    assert!(Frame::decode(&bytes).is_ok());
    let spare = FRAME_BYTES_MAX - bytes.len();
    assert!(spare < 32 << 10, "{spare} bytes more than any frame has");
    assert_eq!(
        Frame::decode(&vec![b'x'; FRAME_BYTES_MAX]),
        Err(FrameError::Version(b'x')),
        "it is looked at"
    );
}

/// FLUSHDB where as many replicas wrote as can be: the vector has an entry for each, and one for the author.
#[test]
fn clear_names_as_many_replicas_as_can_be() {
    let (table, replicas) = largest_table();
    let decoded = |entries: u32| {
        let header = FrameHeader { first: 2, ..Forger::new(2).header(table.clone(), 1) };
        let vector = (0..entries).map(|entry| dot(entry.min(replicas), 1)).collect();
        let clear = Op::Clear { prefix: Prefix::Keyspace, vector, slots: Vec::new() };
        Frame::decode(&sign(&key(2), encode(&header, &[clear]))).is_ok()
    };
    assert!(decoded(replicas + 1));
    assert!(!decoded(replicas + 2));
}

/// A removal by version vector is bounded, and refers to what is there, like any other operation.
#[test]
fn clears_that_break_a_rule_are_refused() {
    let long = |bytes: usize| vec![b'x'; bytes];
    let key_prefix = |bytes| Prefix::Key(long(bytes));
    let group = |key, subkey| Prefix::Group { key: long(key), kind: Kind::Set, subkey: long(subkey) };
    let slot = |key, change| vec![KeySlot { key: long(key), change }];
    let reset = |birth, top| SlotChange::Reset { birth, top, sum: 0 };
    let clear = |prefix, vector, slots| Op::Clear { prefix, vector, slots };
    let whole = |vector, slots| clear(Prefix::Keyspace, vector, slots);
    let is_taken = |op: Op| {
        let header = FrameHeader { first: 5, ..Forger::new(2).header(vec![card(1).replica()], 1) };
        Frame::decode(&sign(&key(2), encode(&header, &[op]))).is_ok()
    };
    for good in [
        whole(vec![dot(0, 4), dot(1, 1)], slot(KEY_BYTES_MAX, reset(dot(1, 1), 1))),
        clear(key_prefix(KEY_BYTES_MAX), vec![], vec![]),
        clear(group(KEY_BYTES_MAX, SUBKEY_BYTES_MAX), vec![], vec![]),
    ] {
        assert!(is_taken(good));
    }
    for (what, op) in [
        ("a key too long", clear(key_prefix(KEY_BYTES_MAX + 1), vec![], vec![])),
        ("a group's key too long", clear(group(KEY_BYTES_MAX + 1, 1), vec![], vec![])),
        ("a group's element too long", clear(group(1, SUBKEY_BYTES_MAX + 1), vec![], vec![])),
        ("a slot's key too long", whole(vec![], slot(KEY_BYTES_MAX + 1, reset(dot(1, 1), 1)))),
        ("operation 0 in the vector", whole(vec![dot(1, 0)], vec![])),
        ("nobody in the vector", whole(vec![dot(2, 1)], vec![])),
        ("an own later operation in the vector", whole(vec![dot(0, 5)], vec![])),
        ("a reset of an own slot", whole(vec![], slot(1, reset(dot(0, 1), 1)))),
        ("a reset before the birth", whole(vec![], slot(1, reset(dot(1, 5), 4)))),
        ("a close of nothing", whole(vec![], slot(1, SlotChange::Close { birth: 0 }))),
    ] {
        assert!(!is_taken(op), "{what}");
    }
}

#[test]
fn truncated_frames_are_refused() {
    let (_, frames) = sample_frames();
    for frame in frames {
        for length in 0..frame.bytes().len() {
            let bytes = &frame.bytes()[..length];
            let is_signed = Frame::decode(bytes).is_ok_and(|frame| frame.verify(&card(1)).is_ok());
            assert!(!is_signed, "{length} bytes of {}", frame.bytes().len());
        }
    }
}

fn sample_messages() -> Vec<Message> {
    let keyspace = keyspace_id(NOTES);
    let (base, frames) = sample_frames();
    let bytes = |frames: &[Frame]| frames.iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
    let cards: Vec<AuthorCard> = vec![card(1), card(2)];
    let author = card(1).replica();
    let keyspaces = vec![KeyspaceHint([7; 8])];
    let record = PeerRecord { peer: key(5).peer(), addresses: vec!["mem/x".into()], age_s: 9, keyspaces };
    let head = StateHead { card: card(1), seq: 4, frame: FrameId::of(b"head") };
    let print = Print { rows: 3, ..Print::default() };
    let row = RowId { key: b"s".to_vec(), kind: Kind::Set, subkey: b"e".to_vec(), dot: Dot::new(author, 2) };
    let rows = PartRows::Rows(RowList::new([(&row, Some(&Payload::Member))]));
    let part = RangePart { range: Range::default(), rows };
    vec![
        Message::Goodbye { reason: "bye".into() },
        Message::Keyspaces(vec![named("one"), named("two")]),
        Message::Peers(vec![record]),
        Message::Summary { keyspace, heads: [1; 16], fingerprint: [2; 16] },
        Message::Heads { keyspace, entries: vec![HeadEntry { author, seq: 4, frame: [3; 8] }] },
        Message::Want { keyspace, after: vec![WantEntry { author, after: 0 }] },
        Message::Answer { keyspace, cards: cards.clone(), frames: bytes(&base), has_more: true },
        Message::Push { cards, frames: bytes(&frames) },
        Message::Prune { keyspace },
        Message::Graft { keyspace },
        Message::Confirm { keyspace, seq: 3 },
        Message::Confirmed { keyspace, seq: 3 },
        Message::Held { keyspace, held: vec![WantEntry { author, after: 4 }] },
        Message::Take { keyspace },
        Message::Taken { keyspace, epoch: Epoch(0), position: 2, heads: vec![head] },
        Message::Compare { keyspace, asks: vec![RangeAsk { range: Range::default(), print }] },
        Message::Compared { keyspace, heads: vec![head], parts: vec![part] },
        Message::Tail { keyspace, after: 2 },
        Message::Tailed { keyspace, heads: vec![head], frames: bytes(&base), until: 9, is_end: true },
        Message::EndTake { keyspace },
        Message::Below { keyspace },
    ]
}

/// A peer that says mutated things in random order, is cut off, and comes back.
#[test]
fn mutated_messages_never_harm() {
    let messages = sample_messages();
    let mut random = Random::new(8);
    let mut a = Station::new(0, 3);
    let (mut session, mut cut_off) = (COURIER, 0);
    let (rounds, is_full) = seeds(8_000);
    for round in 0..rounds {
        let mut bytes = random.pick(&messages).encode();
        if random.chance(70) {
            mutate(&mut random, &mut bytes);
        }
        a.hear(session, bytes);
        if random.chance(20) {
            a.pass(150);
        }
        a.said();
        if !a.closed().is_empty() {
            cut_off += 1;
            let reason = "gone".to_owned();
            a.turn(vec![Input::Network(TransportEvent::Down { session, reason })]);
            session = SessionId(round + 10);
            a.greet(session, &courier_key());
        }
    }
    check_derived(a.rows());
    assert!(!is_full || cut_off > 50, "{cut_off} sessions were cut off");
    assert!(a.write(set("k", "still works")).len() == 1);
}

#[test]
fn random_payloads_never_panic() {
    let mut random = Random::new(9);
    let mut decoded = 0;
    let (rounds, is_full) = seeds(50_000);
    for _ in 0..rounds {
        let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.next().to_le_bytes()[0]).collect();
        for kind in Kind::ALL {
            if let Ok(payload) = Payload::decode(kind, &bytes) {
                decoded += 1;
                let mut again = Vec::new();
                payload.encode_into(&mut again);
                assert_eq!(Payload::decode(kind, &again), Ok(payload), "what was decoded survives");
            }
        }
    }
    assert!(!is_full || decoded > 1_000, "{decoded}");
}
