//! The bounds of memory: that they are measured, and that the largest inputs that decode keep them.

use tidelock_engine::bounds::{ELEMENTS_MAX, FRAME_OPS_MAX, LARGE_FRAME_OPS_MAX, SLOTS_MAX, VALUE_BYTES_MAX};
use tidelock_engine::frame::{FRAME_BYTES_MAX, Frame};
use tidelock_engine::id::FrameId;
use tidelock_engine::message::{FRAMES_MAX, FrameBytes, HEADS_MAX, HeadEntry, KEYSPACES_MAX, Message};
use tidelock_engine::op::{Element, KeySlot, Op, Prefix, SlotChange};
use tidelock_engine::ports::MESSAGE_BYTES_MAX;
use tidelock_fuzz::forge::{self, KEYSPACES, card, keyspace_id, named};
use tidelock_fuzz::memory::{Bound, Exceeded};
use tidelock_fuzz::{frame, message};

/// Decodes four bytes of length and then that many bytes, as it must not be done.
fn believe(bytes: &[u8]) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk().expect("it has a length");
    let mut decoded = Vec::with_capacity(u32::from_be_bytes(*length) as usize);
    decoded.extend_from_slice(rest);
    decoded
}

#[test]
fn decoder_that_believes_an_announced_length_is_caught() {
    let bound = Bound { base: 1 << 10, per_byte: 8, max: 1 << 20 };
    let announced = |length: u32| [&length.to_be_bytes()[..], b"abc"].concat();
    assert!(bound.check(7, || believe(&announced(3))).is_ok());
    let exceeded = Exceeded { input: 7, peak: (50 << 20) + 7, bound: (1 << 10) + 7 * 8 };
    assert_eq!(bound.check(7, || believe(&announced(50 << 20))), Err(exceeded));
    // It was given back at once, and counts all the same.
    assert!(bound.check(7, || drop(believe(&announced(50 << 20)))).is_err());
}

#[test]
fn bound_grows_with_the_input_up_to_its_end() {
    let bound = Bound { base: 100, per_byte: 10, max: 1_000 };
    assert_eq!([0, 1, 90, 91, usize::MAX].map(|input| bound.of(input)), [100, 110, 1_000, 1_000, 1_000]);
    let hold = |bytes: usize| move || drop(std::hint::black_box(vec![1_u8; bytes]));
    assert!(bound.check(1, hold(110)).is_ok() && bound.check(1, hold(111)).is_err());
}

/// The bytes of a frame of these operations.
fn signed(ops: &[Op]) -> Vec<u8> {
    let keyspace = keyspace_id(KEYSPACES[0]);
    let chain = forge::Chain { member: 1, keyspace, first: 10, previous: FrameId::NONE };
    let (mut header, _) = forge::frame(&mut forge::plain(), chain);
    header.count = u32::try_from(ops.len()).expect("a frame holds few");
    forge::sign(1, forge::encode(&header, ops))
}

/// The shortest operations on the wire are the longest in memory, by a factor.
#[test]
fn largest_frames_keep_the_bound() {
    let key = || b"k".to_vec();
    let slots = || vec![SlotChange::Close { birth: 1 }; SLOTS_MAX];
    let no_key = || KeySlot { key: Vec::new(), change: SlotChange::Close { birth: 1 } };
    let clear =
        || Op::Clear { prefix: Prefix::Keyspace, vector: Vec::new(), slots: vec![no_key(); SLOTS_MAX] };
    let delete = || Op::Delete { key: key(), rows: Vec::new(), slots: slots() };
    let value = |bytes| Op::Set { key: key(), value: vec![1; bytes], observed: vec![], slots: slots() };
    let element = |number: usize| Element { element: number.to_be_bytes()[5..].to_vec(), observed: vec![] };
    let add = Op::Add { key: key(), elements: (0..ELEMENTS_MAX).map(element).collect() };
    let small = Op::Delete { key: Vec::new(), rows: Vec::new(), slots: Vec::new() };
    let frames: [(&str, Vec<Op>); 6] = [
        ("slots of a keyspace", vec![clear(); LARGE_FRAME_OPS_MAX]),
        ("slots of a key", vec![delete(); LARGE_FRAME_OPS_MAX]),
        ("a value and slots", vec![value(VALUE_BYTES_MAX)]),
        ("a value and slots of a keyspace", vec![value(VALUE_BYTES_MAX - (1 << 20)), clear()]),
        ("elements", vec![add]),
        ("operations", vec![small; FRAME_OPS_MAX]),
    ];
    for (what, ops) in frames {
        let bytes = signed(&ops);
        let info = frame::BOUND.check(bytes.len(), || Frame::decode(&bytes).map(drop));
        assert_eq!(info, Ok(Ok(())), "{what}");
    }
}

#[test]
fn largest_messages_keep_the_bound() {
    let keyspace = keyspace_id(KEYSPACES[0]);
    let head = HeadEntry { author: forge::replica(1), seq: 1, frame: [0; 8] };
    let frames = |bytes: usize, count: usize| vec![FrameBytes(vec![1; bytes]); count];
    let messages = [
        Message::Keyspaces(vec![named("n"); KEYSPACES_MAX]),
        Message::Heads { keyspace, entries: vec![head; HEADS_MAX] },
        Message::Push { cards: vec![card(1); FRAMES_MAX], frames: frames(0, FRAMES_MAX) },
        Message::Push { cards: vec![card(1)], frames: frames(FRAME_BYTES_MAX, 1) },
        Message::Push { cards: Vec::new(), frames: frames(MESSAGE_BYTES_MAX / FRAMES_MAX - 8, FRAMES_MAX) },
    ];
    for message in messages {
        let bytes = message.encode();
        assert_eq!(message::BOUND.check(bytes.len(), || Message::decode(&bytes)), Ok(Ok(message)));
    }
}
