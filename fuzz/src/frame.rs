//! Frames: bytes as a peer sends them, and frames of any content that are signed as they should be.

use tidelock_engine::frame::{FRAME_BYTES_MAX, Frame};
use tidelock_engine::id::FrameId;

use crate::Verdict;
use crate::forge::{self, Chain, KEYSPACES, MEMBERS, card, encode, keyspace_id, sign};
use crate::input::Input;
use crate::memory::Bound;
use crate::sound;

/// An operation takes two bytes at least, and about a hundred in memory; a list that grows is there twice.
pub const BOUND: Bound = Bound { base: 192 << 10, per_byte: 160, max: 5 * FRAME_BYTES_MAX };

/// The bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes as they come from a peer or a disk. The signature is not looked at.
pub fn frame(data: &[u8]) -> Verdict {
    // What is behind a frame's header is not looked at here, so it need not be a frame.
    BOUND.hold(data.len(), || Frame::peek(data));
    match BOUND.hold(data.len(), || Frame::decode(data)) {
        Ok(frame) => {
            check(&frame, data);
            Verdict::Decoded
        }
        Err(_) => Verdict::Refused,
    }
}

/// A frame of any content, signed by a member. The oracle says whether it must be taken.
pub fn signed_frame(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let member = input.byte() % MEMBERS;
    let chain = Chain {
        member,
        keyspace: keyspace_id(KEYSPACES[0]),
        first: 1 + input.number() % 9,
        previous: FrameId::NONE,
    };
    let (header, ops) = forge::frame(&mut input, chain);
    let bytes = sign(member, encode(&header, &ops));
    let decoded = BOUND.hold(bytes.len(), || Frame::decode(&bytes));
    assert_eq!(decoded.is_ok(), sound::frame(&header, &ops), "{decoded:?} of {header:?} {ops:?}");
    let Ok(frame) = decoded else { return Verdict::Refused };
    assert_eq!((frame.header(), frame.ops()), (&header, &ops[..]));
    check(&frame, &bytes);
    let is_author = header.author == card(member).replica();
    assert_eq!(frame.verify(&card(member)).is_ok(), is_author, "only its author signs a frame");
    assert!(frame.verify(&card((member + 1) % MEMBERS)).is_err(), "another's card proves nothing");
    if input.once_in(4) {
        refuse_tampered(&mut input, member, bytes);
    }
    Verdict::Decoded
}

/// A signed frame with one bit turned is no frame, or nobody signed it.
fn refuse_tampered(input: &mut Input<'_>, member: u8, mut bytes: Vec<u8>) {
    let at = usize::from(u16::from_le_bytes(input.array())) % bytes.len();
    bytes[at] ^= 1 << input.below(8);
    if let Ok(frame) = Frame::decode(&bytes) {
        assert!(frame.verify(&card(member)).is_err(), "a turned bit at {at} was signed");
    }
}

/// What holds of every frame that was decoded.
pub fn check(frame: &Frame, bytes: &[u8]) {
    let (header, ops) = (frame.header(), frame.ops());
    assert!(sound::frame(header, ops), "not sound: {header:?} {ops:?}");
    let (body, signature) = bytes.split_at(bytes.len() - SIGNATURE_BYTES);
    assert_eq!((&frame.bytes()[..], frame.id()), (bytes, FrameId::of(body)));
    assert_eq!(Frame::peek(bytes), Some(header.last_dot()));
    assert_eq!(frame.operations().last().map(|(dot, _)| dot), Some(header.last_dot()));
    assert!(frame.requirements().all(|dot| dot.seq > 0 && dot.replica != header.author));
    // Numbers may be written in more bytes than they need; what they stand for must survive.
    let shortest = encode(header, ops);
    assert!(shortest.len() <= body.len(), "it grew");
    if shortest != body {
        let again = Frame::decode(&[&shortest, signature].concat()).expect("it is shorter");
        assert_eq!((again.header(), again.ops()), (header, ops));
    }
}
