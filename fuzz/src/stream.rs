//! The length in front of every message of a stream: any pieces give the same messages, and memory follows what
//! has come and never what was announced.

// The file is compiled in, so that the transport need not show what nobody else should use.
#[path = "../../transport/src/frame.rs"]
mod decoder;

use self::decoder::{FrameDecoder, FrameEncoder, Oversize};
use crate::Verdict;
use crate::input::Input;
use crate::memory::Bound;

/// What has come, twice while it grows, and the list of what is complete, of which the shortest has 4 bytes.
pub const BOUND: Bound = Bound { base: 1 << 10, per_byte: 24, max: 64 << 20 };

/// A stream of any bytes in any pieces, or one of messages that an encoder wrote.
pub fn stream(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let bytes_max = if input.once_in(2) { 1 << 24 } else { usize::from(input.byte()) };
    let (steps, is_encoded): ([u8; 4], bool) = (input.array(), input.once_in(2));
    let bytes = if is_encoded { encoded(&mut input) } else { input.rest().to_vec() };
    let expected = messages(&bytes, bytes_max);
    let decoded = BOUND.hold(bytes.len(), || decode(&bytes, bytes_max, steps));
    assert_eq!(decoded, expected, "in steps of {steps:?}");
    if expected.0.is_empty() { Verdict::Refused } else { Verdict::Decoded }
}

/// What was read: the messages, whether the stream stands between two of them, and what was announced too long.
type Read = (Vec<Vec<u8>>, bool, Option<(usize, usize)>);

fn decode(mut bytes: &[u8], bytes_max: usize, steps: [u8; 4]) -> Read {
    let (mut decoder, mut messages) = (FrameDecoder::new(bytes_max), Vec::new());
    for step in steps.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let step = if *step == 0 { bytes.len() } else { usize::from(*step).min(bytes.len()) };
        let (now, later) = bytes.split_at(step);
        if let Err(Oversize { bytes, bytes_max }) = decoder.decode(now, &mut messages) {
            return (messages, false, Some((bytes, bytes_max)));
        }
        bytes = later;
    }
    (messages, decoder.is_at_boundary(), None)
}

/// The same, seen whole.
fn messages(mut bytes: &[u8], bytes_max: usize) -> Read {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > bytes_max {
            return (messages, false, Some((length, bytes_max)));
        }
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        messages.push(message.to_vec());
        bytes = rest;
    }
    (messages, bytes.is_empty(), None)
}

/// Messages as an encoder writes them to a socket that takes a few bytes at a time.
fn encoded(input: &mut Input<'_>) -> Vec<u8> {
    let (mut encoder, mut written, mut expected) = (FrameEncoder::default(), Vec::new(), Vec::new());
    for _ in 0..input.below(6) {
        let message = if input.once_in(64) { vec![7; 70_000] } else { input.bytes(30).to_vec() };
        expected.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
        expected.extend_from_slice(&message);
        while encoder.is_full() {
            write(&mut encoder, &mut written, 40_000);
        }
        match message.split_at_checked(3).filter(|_| message.len() < 1_000) {
            Some((head, body)) => encoder.push_parts(head, body),
            None => encoder.push(message),
        }
        if input.once_in(2) {
            write(&mut encoder, &mut written, input.below(20));
        }
    }
    while !encoder.unwritten().is_empty() {
        write(&mut encoder, &mut written, 40_000);
    }
    assert_eq!(written, expected, "what is packed is written once, in order");
    written
}

fn write(encoder: &mut FrameEncoder, written: &mut Vec<u8>, most: usize) {
    let bytes = encoder.unwritten().len().min(most);
    written.extend_from_slice(&encoder.unwritten()[..bytes]);
    encoder.advance(bytes);
}
