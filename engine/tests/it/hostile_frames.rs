//! Authors that lie: what they sign is taken in only where it can harm nobody else, and all replicas that take
//! it in end equal.

use crate::world::by_hand::{COURIER, Station, card, courier_key, key};
use crate::world::forge::{Forger, dot, encode, sign};
use crate::world::words::{add, delete, increment, set};
use crate::world::{NOTES, keyspace_id};
use tidelock_engine::frame::Frame;
use tidelock_engine::id::FrameId;
use tidelock_engine::message::{FrameBytes, HeadEntry, Message};
use tidelock_engine::op::{Op, RowRef, SlotChange};
use tidelock_engine::ports::TransportEvent;
use tidelock_engine::replica::{EARLY_BYTES_MAX, EARLY_FRAMES_MAX, Input};
use tidelock_engine::request::RequestError;
use tidelock_engine::row::Kind;

fn set_op(key: &str, value: &str) -> Op {
    Op::Set { key: key.into(), value: value.into(), observed: Vec::new(), slots: Vec::new() }
}

fn increment_op(birth: u64, sum: i128) -> Op {
    Op::Increment { key: b"n".to_vec(), birth, sum }
}

fn push_bytes(bytes: Vec<u8>, cards: Vec<tidelock_engine::id::AuthorCard>) -> Message {
    Message::Push { cards, frames: vec![FrameBytes(bytes)] }
}

/// A frame whose bytes were changed on the way, or that another key signed: the session ends.
#[test]
fn frame_that_its_author_did_not_sign_ends_the_session() {
    let mut b = Station::new(1, 2);
    let honest = b.write(set("k", "v"));
    let mut changed = honest[0].bytes().to_vec();
    let value = changed.len() - 64 - 3;
    changed[value] ^= 1;
    let header = Forger::new(1).header(Vec::new(), 1);
    let by_another = sign(&key(7), encode(&header, &[set_op("k", "forged")]));
    let other_card = push_bytes(by_another.clone(), vec![card(7)]);
    let own_card = push_bytes(by_another, vec![card(1)]);
    for message in [push_bytes(changed, vec![card(1)]), own_card] {
        let mut a = Station::new(0, 2);
        a.say(COURIER, &message);
        assert_eq!(a.closed(), ["wrong signature"]);
        assert_eq!(a.counter("refused_frames"), 1);
        assert!(a.log().is_empty());
    }
    // A card that proves another author proves nothing of this one: the frame is not even looked at.
    let mut a = Station::new(0, 2);
    a.say(COURIER, &other_card);
    assert_eq!(a.counter("frames_without_card"), 1);
    assert!(a.log().is_empty());
}

/// Frames before a malformed one are kept, and what waited for them is applied.
#[test]
fn frames_before_a_malformed_one_are_taken_in() {
    let (mut a, mut b) = (Station::new(0, 2), Station::new(1, 2));
    let frames: Vec<Frame> = (0..3).flat_map(|_| b.write(increment("n", 1))).collect();
    a.deliver(&frames[2..]);
    let mut bytes: Vec<FrameBytes> =
        frames[..2].iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
    bytes.push(FrameBytes(vec![1, 2, 3]));
    a.say(COURIER, &Message::Push { cards: vec![card(1)], frames: bytes });
    assert_eq!(a.closed(), ["malformed frame: shorter than a signature"]);
    assert_eq!(a.get("n").as_deref(), Some("3"));
}

/// An author tells one replica one thing and another replica another.
#[test]
fn equivocation_is_kept_as_evidence_and_harms_only_its_author() {
    let mut forger = Forger::new(2);
    let one = forger.frame(&[], &[set_op("k", "one")]);
    let mut forger = Forger::new(2);
    let other = forger.frame(&[], &[set_op("k", "other")]);
    let next = forger.frame(&[], &[set_op("k", "next")]);
    let (mut a, mut b) = (Station::new(0, 3), Station::new(1, 3));
    a.deliver(std::slice::from_ref(&one));
    a.deliver(std::slice::from_ref(&other));
    assert_eq!(a.get("k").as_deref(), Some("one"));
    let evidence = a.report().evidence;
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0].applied.as_ref(), Some(one.bytes()));
    assert_eq!(&evidence[0].other, other.bytes());
    a.deliver(std::slice::from_ref(&other));
    assert_eq!(a.report().evidence.len(), 1, "told once");
    let honest = b.write(add("s", "x"));
    a.deliver(&honest);
    a.deliver(&[next]);
    assert_eq!(a.counter("frames_applied"), 3, "the history goes on, by its numbers");
    assert_eq!(a.closed(), [""; 0], "whoever passes it on is not to blame");
}

/// One replica was told two operations in one frame, and wrote after them. Another was told another first one
/// alone. It applies what it lacks of the frame, and then what was written after it; it is told of no operation
/// twice.
#[test]
fn what_follows_one_history_is_applied_by_who_knows_the_other() {
    let one = Forger::new(4).frame(&[], &[set_op("first", "one"), set_op("k", "one")]);
    let other = Forger::new(4).frame(&[], &[set_op("first", "other")]);
    let (mut a, mut b) = (Station::new(0, 5), Station::new(1, 5));
    a.deliver(std::slice::from_ref(&one));
    b.deliver(std::slice::from_ref(&other));
    let after = a.write(set("after", "honest"));
    b.deliver(&after);
    assert_eq!(b.get("after"), None, "what it saw is missing");
    b.deliver(&[one]);
    assert_eq!(b.get("after").as_deref(), Some("honest"));
    assert_eq!((b.get("first").as_deref(), b.get("k").as_deref()), (Some("other"), Some("one")));
    assert_eq!(b.counter("operations_applied"), 3);
    assert_eq!(b.report().evidence[0].applied.as_ref(), Some(other.bytes()));
    b.restart();
    b.deliver(&a.write(set("after", "again")));
    assert_eq!(b.get("after").as_deref(), Some("again"));
}

/// A peer shows heads of the other history again and again: it is asked once for each, as evidence.
#[test]
fn fork_in_the_heads_is_fetched_once() {
    let mut forger = Forger::new(2);
    let one = forger.frame(&[], &[set_op("k", "one")]);
    let mut forger = Forger::new(2);
    let other = forger.frame(&[], &[set_op("k", "other")]);
    let next = forger.frame(&[], &[set_op("k", "next")]);
    let mut a = Station::new(0, 3);
    a.deliver(std::slice::from_ref(&one));
    a.said();
    let mut wants = 0;
    for (seq, frame) in [(1, &other), (2, &next)].into_iter().cycle().take(200) {
        let frame_prefix = *frame.id().as_bytes().first_chunk().expect("32 bytes");
        let entry = HeadEntry { author: forger.id, seq, frame: frame_prefix };
        a.say(COURIER, &Message::Heads { keyspace: keyspace_id(NOTES), entries: vec![entry] });
        a.pass(100);
        for message in a.said() {
            if let Message::Want { keyspace, after } = message {
                wants += 1;
                assert_eq!(after[0].author, forger.id);
                let frames = vec![FrameBytes(other.bytes().to_vec()), FrameBytes(next.bytes().to_vec())];
                let cards = vec![card(2)];
                a.say(COURIER, &Message::Answer { keyspace, cards, frames, has_more: false });
            }
        }
    }
    assert_eq!(wants, 1);
    assert_eq!(a.counter("frames_applied"), 2);
}

/// Frames in our own name, which we alone can sign: somebody runs a copy of us. We take no writes, until we go on
/// under another name; then the old one is an author like others.
#[test]
fn frames_in_our_own_name_are_evidence_and_stop_writes_until_we_rejoin() {
    let mut a = Station::new(0, 2);
    let own = a.write(set("k", "mine")).remove(0);
    let mut forger = Forger::new(0);
    let same_place = forger.frame(&[], &[set_op("k", "not mine")]);
    let beyond = forger.frame(&[], &[set_op("k", "not mine")]);
    a.deliver(&[same_place.clone(), beyond.clone()]);
    assert_eq!(a.get("k").as_deref(), Some("mine"));
    let evidence = a.report().evidence;
    assert_eq!(evidence.len(), 2);
    assert_eq!(evidence[0].applied.as_ref(), Some(own.bytes()), "both contents are kept");
    assert_eq!(evidence[0].other, *same_place.bytes());
    let refused = a.try_write(vec![set("k", "still mine")]);
    assert!(matches!(refused, Err(RequestError::ReadOnly(_))), "{refused:?}");
    assert_eq!(a.get("k").as_deref(), Some("mine"), "it reads on");
    let other = key(0).card([9; 16]);
    a.rejoin(other);
    a.greet(COURIER, &courier_key());
    a.deliver(std::slice::from_ref(&beyond));
    assert_eq!(a.get("k").as_deref(), Some("not mine"), "what the old name wrote elsewhere is taken in");
    let frame = &a.write(set("k", "mine again"))[0];
    assert_eq!((frame.header().author, frame.header().first), (other.replica(), 1));
    assert!(frame.requirements().any(|dot| dot == beyond.header().last_dot()), "it names all that it saw");
    let prefix = *beyond.id().as_bytes().first_chunk().expect("32 bytes");
    let mut fresh = Station::new(0, 2);
    let entries = vec![HeadEntry { author: forger.id, seq: 2, frame: prefix }];
    fresh.said();
    fresh.say(COURIER, &Message::Heads { keyspace: keyspace_id(NOTES), entries });
    let said = fresh.said();
    assert!(matches!(&said[..], [Message::Want { .. }]), "a head of ours that we do not have: {said:?}");
    fresh.deliver(std::slice::from_ref(&beyond));
    assert_eq!(fresh.report().evidence.len(), 1);
}

/// A chain that is broken: a frame that does not name its predecessor, and one that overlaps it. Both prove two
/// histories, and every operation is applied once.
#[test]
fn broken_chain_is_evidence() {
    let mut forger = Forger::new(2);
    let first = forger.frame(&[], &[increment_op(0, 1), increment_op(1, 2)]);
    let mut header = forger.header(Vec::new(), 1);
    header.previous = FrameId::of(b"another");
    let unchained = forger.seal(&header, &[increment_op(1, 3)]);
    let mut overlap = Forger { next: 3, previous: first.id(), ..Forger::new(2) };
    let overlapping = overlap.frame(&[], &[increment_op(1, 30), increment_op(1, 4)]);
    let mut a = Station::new(0, 3);
    a.deliver(&[first, unchained.clone(), overlapping.clone()]);
    assert_eq!(a.get("n").as_deref(), Some("4"));
    assert_eq!((a.counter("frames_applied"), a.counter("operations_applied")), (3, 4));
    let evidence: Vec<_> = a.report().evidence.into_iter().map(|proof| proof.other).collect();
    assert_eq!(evidence, [unchained.bytes().clone(), overlapping.bytes().clone()]);
}

/// An operation names a row that its frame does not declare as a dependency: the frame waits for it.
#[test]
fn frame_waits_for_what_its_operations_name() {
    let (mut a, mut b) = (Station::new(0, 3), Station::new(1, 3));
    let added = b.write(add("s", "x"));
    let mut forger = Forger::new(2);
    let rows = vec![RowRef { kind: Kind::Set, subkey: b"x".to_vec(), dot: dot(1, 1) }];
    let removal =
        forger.frame(&[card(1).replica()], &[Op::Delete { key: b"s".to_vec(), rows, slots: vec![] }]);
    a.deliver(std::slice::from_ref(&removal));
    assert_eq!((a.log().len(), a.report().early.0), (0, 1));
    a.deliver(&added);
    assert_eq!((a.log().len(), a.report().early.0), (2, 0));
    assert!(a.rows().rows().is_empty(), "the add does not come back");
}

/// Two liars reset the same increments of an honest counter to different sums: all replicas agree on one.
#[test]
fn lies_about_resets_end_equal_everywhere() {
    let mut owner = Station::new(1, 4);
    let counted: Vec<Frame> = (0..3).flat_map(|_| owner.write(increment("n", 5))).collect();
    let lie = |index: u8, sum: i128| {
        let change = SlotChange::Reset { birth: dot(1, 1), top: 3, sum };
        let op = Op::Delete { key: b"n".to_vec(), rows: Vec::new(), slots: vec![change] };
        Forger::new(index).frame(&[card(1).replica()], &[op])
    };
    let (low, high) = (lie(2, -100), lie(3, i128::MAX));
    let (mut a, mut b) = (Station::new(0, 4), Station::new(4, 4));
    a.deliver(&counted);
    b.deliver(&counted);
    a.deliver(&[low.clone(), high.clone()]);
    b.deliver(&[high, low]);
    assert_eq!(a.rows(), b.rows());
    owner.pull(&a, 10);
    assert_eq!(owner.write(increment("n", 1)).len(), 1, "the owner goes on counting");
}

/// An owner closes its slot and goes on with it as if it were open, while a reset is on its way.
#[test]
fn slot_that_its_owner_closed_stays_closed() {
    let mut forger = Forger::new(2);
    let close =
        Op::Delete { key: b"n".to_vec(), rows: Vec::new(), slots: vec![SlotChange::Close { birth: 1 }] };
    let opened = forger.frame(&[], &[increment_op(0, 5)]);
    let reopened = forger.frame(&[], &[close, increment_op(1, 8)]);
    let (mut a, mut b, mut c) = (Station::new(0, 3), Station::new(1, 3), Station::new(3, 3));
    b.deliver(std::slice::from_ref(&opened));
    let reset = b.write(delete("n"));
    for (station, frames) in
        [(&mut a, [&opened, &reset[0], &reopened]), (&mut c, [&opened, &reopened, &reset[0]])]
    {
        frames.into_iter().for_each(|frame| drop(station.deliver(std::slice::from_ref(frame))));
        assert_eq!(station.log().len(), 3);
    }
    assert_eq!(a.rows(), c.rows());
}

/// A flood of frames that wait for what never comes: bounded, and honest frames still get through.
#[test]
fn flood_of_early_frames_is_bounded_and_harms_nobody() {
    let (mut a, mut b) = (Station::new(0, 3), Station::new(1, 3));
    let honest: Vec<Frame> = (0..5).flat_map(|_| b.write(increment("n", 1))).collect();
    let mut forger = Forger { next: 10, ..Forger::new(2) };
    let flood: Vec<Frame> =
        (0..EARLY_FRAMES_MAX + 50).map(|_| forger.frame(&[], &[set_op("k", "never")])).collect();
    for frames in flood.chunks(200) {
        a.deliver(frames);
    }
    assert_eq!(a.report().early.0, EARLY_FRAMES_MAX);
    a.said();
    a.deliver(&honest[1..]);
    assert_eq!(a.report().early.0, EARLY_FRAMES_MAX, "there is no room for more");
    let said = a.said();
    let wants_all = |message: &Message| match message {
        Message::Want { after, .. } => {
            after.iter().any(|want| want.author == card(1).replica() && want.after == 0)
        }
        _ => false,
    };
    assert!(said.iter().any(wants_all), "what did not fit is pulled: {said:?}");
    a.deliver(&honest);
    assert_eq!(a.get("n").as_deref(), Some("5"));
    let reason = "gone".to_owned();
    a.turn(vec![Input::Network(TransportEvent::Down { session: COURIER, reason })]);
    assert_eq!(a.report().early, (0, 0));
}

/// The same by bytes.
#[test]
fn early_frames_are_bounded_by_bytes() {
    let mut a = Station::new(0, 3);
    let mut forger = Forger { next: 10, ..Forger::new(2) };
    let value = "x".repeat(1 << 20);
    for _ in 0..40 {
        let frame = forger.frame(&[], &[set_op("k", &value)]);
        a.deliver(std::slice::from_ref(&frame));
    }
    let (frames, bytes) = a.report().early;
    assert!(frames == 31 && bytes <= EARLY_BYTES_MAX, "{frames} frames, {bytes} bytes");
}

/// An early frame takes the place of another with the same name: what was dropped is fetched again, and the history
/// goes on with one of them.
#[test]
fn early_fork_does_not_hold_up_its_author() {
    let mut true_author = Forger::new(2);
    let one = true_author.frame(&[], &[set_op("k", "1")]);
    let two = true_author.frame(&[], &[set_op("k", "2")]);
    let mut liar = Forger { next: 2, previous: FrameId::of(b"nothing"), ..Forger::new(2) };
    let false_two = liar.frame(&[], &[set_op("k", "false")]);
    let mut a = Station::new(0, 3);
    a.deliver(&[false_two]);
    a.deliver(std::slice::from_ref(&two));
    assert_eq!(a.counter("frames_early_dropped"), 1);
    let wants = |message: &Message| matches!(message, Message::Want { after, .. } if after[0].after == 0);
    assert!(a.said().iter().any(wants), "what was dropped is pulled");
    a.deliver(&[one, two]);
    assert!(a.get("k").is_some());
    assert_eq!(a.counter("frames_applied"), 2);
    assert_eq!(
        a.report().evidence.len(),
        2,
        "it does not follow the one before it, and another is in its place"
    );
}
