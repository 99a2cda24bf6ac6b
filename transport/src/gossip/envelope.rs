//! An envelope: the messages that a node sent together, as bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 32 | public key of the author |
//! | 8 | session: drawn anew at each start of the author |
//! | 8 | number of the envelope in its session, from 0, without gaps |
//! | 4 and more, repeated | length and bytes of a message |
//! | 64 | ed25519 signature over [`signed_bytes`] |
//!
//! Numbers are big-endian. Decoding copies nothing and checks every length; it does not check the signature.

use tidelock_engine::id::PeerId;

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The messages of one envelope at most.
pub(crate) const MESSAGES_MAX: usize = 4_096;

/// The longest envelope, in bytes: the longest message fits.
pub(crate) const ENVELOPE_BYTES_MAX: usize = HEAD_BYTES + LENGTH_BYTES + MESSAGE_BYTES_MAX + SIGNATURE_BYTES;

/// What stands in front of each message.
pub(crate) const LENGTH_BYTES: usize = 4;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 32 + 8 + 8;
const SIGNATURE_BYTES: usize = 64;

/// What stands in front of what is signed, so that no other signature of the key can be taken for one.
const DOMAIN: &[u8] = b"tidelock gossip envelope 1\0";

/// An envelope that can be read; whether its author wrote it is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) author: PeerId,
    pub(crate) session: u64,
    pub(crate) number: u64,
    body: &'a [u8],
    messages: &'a [u8],
    pub(crate) signature: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads an envelope; `None` if the bytes are none, or are beyond a bound.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return None;
        }
        let (body, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        let (version, rest) = body.split_first()?;
        let (author, rest) = rest.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (number, messages) = rest.split_first_chunk()?;
        let envelope = Self {
            author: PeerId::from_public_key(*author),
            session: u64::from_be_bytes(*session),
            number: u64::from_be_bytes(*number),
            body,
            messages,
            signature,
        };
        let (mut count, mut left) = (0, messages);
        while !left.is_empty() {
            left = split_message(left)?.1;
            count += 1;
        }
        (*version == VERSION && (1..=MESSAGES_MAX).contains(&count)).then_some(envelope)
    }

    /// The messages, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut left = self.messages;
        std::iter::from_fn(move || {
            let (message, rest) = split_message(left)?;
            left = rest;
            Some(message)
        })
    }

    /// What the signature is over.
    pub(crate) fn signed_bytes(&self, topic: &str) -> Vec<u8> {
        signed_bytes(topic, self.body)
    }
}

fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// What an author signs: a domain, the topic with its length, and the envelope without its signature. So an
/// envelope of one cluster is none of another.
pub(crate) fn signed_bytes(topic: &str, body: &[u8]) -> Vec<u8> {
    let length = u64::try_from(topic.len()).unwrap_or(u64::MAX).to_be_bytes();
    [DOMAIN, &length, topic.as_bytes(), body].concat()
}

/// An envelope without its signature.
pub(crate) fn encode_body(author: PeerId, session: u64, number: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let bytes: usize = messages.iter().map(|message| LENGTH_BYTES + message.len()).sum();
    let mut body = Vec::with_capacity(HEAD_BYTES + bytes + SIGNATURE_BYTES);
    body.push(VERSION);
    body.extend_from_slice(author.public_key());
    body.extend_from_slice(&session.to_be_bytes());
    body.extend_from_slice(&number.to_be_bytes());
    for message in messages {
        let length = u32::try_from(message.len()).expect("messages are bounded far below");
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(message);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = encode_body(PeerId::from_public_key([7; 32]), 0x0102, 3, messages);
        bytes.extend([9; SIGNATURE_BYTES]);
        bytes
    }

    #[test]
    fn envelope_has_golden_bytes() {
        let bytes = sealed(&[b"ab".to_vec(), Vec::new()]);
        let golden = [
            "01".to_owned(),
            "07".repeat(32),
            "0000000000000102".to_owned(),
            "0000000000000003".to_owned(),
            "00000002".to_owned() + "6162",
            "00000000".to_owned(),
            "09".repeat(64),
        ];
        let golden = golden.concat();
        let golden: Vec<u8> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).expect("hex"))
            .collect();
        assert_eq!(bytes, golden);
        let envelope = Envelope::decode(&bytes).expect("it was encoded");
        assert_eq!((envelope.session, envelope.number), (0x0102, 3));
        assert_eq!(envelope.messages().collect::<Vec<_>>(), [&b"ab"[..], b""]);
    }

    #[test]
    fn what_is_signed_names_the_topic_and_all_but_the_signature() {
        let bytes = sealed(&[b"ab".to_vec()]);
        let envelope = Envelope::decode(&bytes).expect("it was encoded");
        let signed = envelope.signed_bytes("t");
        assert_eq!(signed, signed_bytes("t", &bytes[..bytes.len() - SIGNATURE_BYTES]));
        assert_ne!(signed, envelope.signed_bytes("u"));
    }

    #[test]
    fn every_other_length_and_version_is_refused() {
        let bytes = sealed(&[b"ab".to_vec()]);
        for length in 0..bytes.len() {
            assert_eq!(Envelope::decode(&bytes[..length]), None, "cut to {length}");
        }
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Envelope::decode(&other), None);
        assert_eq!(Envelope::decode(&sealed(&[])), None, "an envelope holds something");
    }

    #[test]
    fn bounds_hold_at_the_bound_and_past_it() {
        assert!(Envelope::decode(&sealed(&[vec![0; MESSAGE_BYTES_MAX]])).is_some());
        assert!(Envelope::decode(&sealed(&[vec![0; MESSAGE_BYTES_MAX + 1]])).is_none());
        assert!(Envelope::decode(&sealed(&vec![Vec::new(); MESSAGES_MAX])).is_some());
        assert!(Envelope::decode(&sealed(&vec![Vec::new(); MESSAGES_MAX + 1])).is_none());
    }
}
