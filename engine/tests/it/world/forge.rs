//! Frames that no honest replica makes, signed as their authors would.

use ed25519_dalek::Signer;
use tidelock_engine::causality::Hlc;
use tidelock_engine::frame::{FRAME_VERSION, Frame, FrameHeader, SigningKey};
use tidelock_engine::id::{Epoch, FrameId, ReplicaId};
use tidelock_engine::op::{DotRef, Op};

use super::by_hand::{card, key};
use super::{NOTES, START_MS, keyspace_id};

/// An author that writes what it wants.
pub(crate) struct Forger {
    pub(crate) index: u8,
    pub(crate) id: ReplicaId,
    pub(crate) next: u64,
    pub(crate) previous: FrameId,
}

impl Forger {
    /// The author that is the `index`-th station, or would be.
    pub(crate) fn new(index: u8) -> Self {
        Self { index, id: card(index).replica(), next: 1, previous: FrameId::NONE }
    }

    /// The header of its next frame.
    pub(crate) fn header(&self, replicas: Vec<ReplicaId>, count: usize) -> FrameHeader {
        FrameHeader {
            version: FRAME_VERSION,
            keyspace: keyspace_id(NOTES),
            epoch: Epoch(0),
            author: self.id,
            first: self.next,
            count: u32::try_from(count).expect("few"),
            previous: self.previous,
            replicas,
            dependencies: Vec::new(),
            hlc: Hlc::at(START_MS),
        }
    }

    /// Its next frame, which names `others`: index 1 is the first of them.
    pub(crate) fn frame(&mut self, others: &[ReplicaId], ops: &[Op]) -> Frame {
        let header = self.header(others.to_vec(), ops.len());
        self.seal(&header, ops)
    }

    /// A frame with this header; the chain goes on behind it.
    pub(crate) fn seal(&mut self, header: &FrameHeader, ops: &[Op]) -> Frame {
        let bytes = sign(&key(self.index), encode(header, ops));
        let frame = Frame::decode(&bytes).expect("forged, but well-formed");
        (self.next, self.previous) = (header.last() + 1, frame.id());
        frame
    }
}

/// The bytes of a frame but for the signature.
pub(crate) fn encode(header: &FrameHeader, ops: &[Op]) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(header).expect("memory");
    for op in ops {
        bytes.extend(postcard::to_stdvec(op).expect("memory"));
    }
    bytes
}

/// Adds the signature of a key, over whatever the bytes are.
pub(crate) fn sign(key: &SigningKey, mut body: Vec<u8>) -> Vec<u8> {
    let signer = ed25519_dalek::SigningKey::from_bytes(&key.to_seed());
    let signature = signer.sign(FrameId::of(&body).as_bytes()).to_bytes();
    body.extend_from_slice(&signature);
    body
}

/// A reference to an operation of the author (0) or of the n-th other replica of a frame.
pub(crate) fn dot(replica: u32, seq: u64) -> DotRef {
    DotRef { replica, seq }
}
