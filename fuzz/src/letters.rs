//! What members publish: envelopes, as the transport reads them before it knows whose they are, and the letters within.

use tidelock_engine::id::PeerId;

// The files are compiled in, so that neither crate need show what nobody else should use.
#[allow(dead_code, unreachable_pub, reason = "the crate that it is of uses the rest")]
#[path = "../../transport/src/gossip/envelope.rs"]
mod envelope_decoder;
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the crate that it is of uses the rest")]
#[path = "../../src/pubsub/letter.rs"]
mod letter_decoder;

use self::envelope_decoder::{
    ENVELOPE_BYTES_MAX, Envelope, MESSAGE_BYTES_MAX, MESSAGES_MAX, encode_body, signed_bytes,
};
use self::letter_decoder::Letter;
use crate::Verdict;
use crate::memory::Bound;

/// An envelope is read where it lies.
pub const ENVELOPE_BOUND: Bound = Bound { base: 256, per_byte: 0, max: 256 };

/// A letter is its bytes, once more.
pub const LETTER_BOUND: Bound = Bound { base: 64, per_byte: 1, max: 64 << 20 };

const SIGNATURE_BYTES: usize = 64;

/// An envelope's bytes: what is read is within the bounds, and written again is the same.
pub fn envelope(data: &[u8]) -> Verdict {
    let Some(envelope) = ENVELOPE_BOUND.hold(data.len(), || Envelope::decode(data)) else {
        return Verdict::Refused;
    };
    assert!(data.len() <= ENVELOPE_BYTES_MAX);
    let messages: Vec<Vec<u8>> = envelope.messages().map(<[u8]>::to_vec).collect();
    assert!((1..=MESSAGES_MAX).contains(&messages.len()), "{} messages", messages.len());
    assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
    let body = encode_body(envelope.author, envelope.session, envelope.number, &messages);
    assert_eq!([&body, envelope.signature].concat(), data);
    assert_eq!(envelope.signed_bytes("topic"), signed_bytes("topic", &body));
    Verdict::Decoded
}

/// A letter's bytes: written again they are the same.
pub fn letter(data: &[u8]) -> Verdict {
    let author = PeerId::from_public_key([7; 32]);
    let Some(letter) = LETTER_BOUND.hold(data.len(), || Letter::decode(author, data)) else {
        return Verdict::Refused;
    };
    assert_eq!(letter.encode(), data);
    Verdict::Decoded
}

/// Envelopes of none, few and many messages.
pub fn envelopes() -> Vec<Vec<u8>> {
    let of = |messages: &[Vec<u8>]| {
        let mut bytes = encode_body(PeerId::from_public_key([7; 32]), 1, 2, messages);
        bytes.extend([9; SIGNATURE_BYTES]);
        bytes
    };
    let letters = self::letters();
    vec![of(&letters), of(&letters[..1]), of(&vec![Vec::new(); 300]), of(&[vec![7; 5_000]])]
}

/// Letters of both kinds of channels.
pub fn letters() -> Vec<Vec<u8>> {
    let letter = |kind: u8, channel: &[u8], payload: &[u8]| {
        let length = u32::try_from(channel.len()).expect("it is short").to_be_bytes();
        [&[kind], &length[..], channel, payload].concat()
    };
    vec![letter(0, b"news", b"hello"), letter(1, b"", b""), letter(0, &[b'c'; 300], &[b'x'; 2_000])]
}
