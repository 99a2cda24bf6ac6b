//! A frame: consecutive operations of one author in one keyspace, committed together.
//!
//! It is the unit of log, wire and signature, and it is applied whole or not at all. It names the author's
//! previous frame, which makes the author's history a chain, and the heads that the author has applied since and
//! that no other of these requires, which makes delivery causal. Frames are bytes first: what was signed is what
//! is kept and passed on.
//!
//! Layout: version (1), keyspace (16), epoch (varint), author (16), first seq (varint), count (varint),
//! previous frame (32), replica table (varint, 16 each), dependencies (varint, index and seq as varints),
//! HLC (8, big endian), the operations, signature (64). The id is blake3 of all but the signature.

mod builder;
mod check;

use std::sync::Arc;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::builder::{FrameBuilder, FrameStart, SigningKey};
use crate::bounded::list;
use crate::bounds::{FRAME_OPS_BYTES_MAX, FRAME_OPS_MAX, LARGE_FRAME_OPS_MAX, OP_BYTES_MAX, REPLICAS_MAX};
use crate::causality::{Dot, Hlc, Stamp};
use crate::id::{AuthorCard, Epoch, FrameId, KeyspaceId, ReplicaId};
use crate::op::{DotRef, Op};

/// The version of the frame layout that this code reads and writes.
pub const FRAME_VERSION: u8 = 1;

/// The bytes of an ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// The longest header and signature, in bytes: as many replicas as can be, each with a dependency.
const HEADER_BYTES_MAX: usize = REPLICAS_MAX * (16 + 3 + 10) + 256;

/// The longest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = OP_BYTES_MAX + HEADER_BYTES_MAX;

/// Everything about a frame but its operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// The layout's version.
    pub version: u8,
    /// Where the operations belong.
    pub keyspace: KeyspaceId,
    /// The epoch of the keyspace when they were minted.
    pub epoch: Epoch,
    /// Who minted them.
    pub author: ReplicaId,
    /// The seq of the first operation, from 1.
    pub first: u64,
    /// The number of operations, from 1.
    pub count: u32,
    /// The author's previous frame in this keyspace, or [`FrameId::NONE`].
    pub previous: FrameId,
    /// The replicas that dots of this frame refer to, after the author, which has index 0.
    #[serde(deserialize_with = "list::<REPLICAS_MAX, _, _>")]
    pub replicas: Vec<ReplicaId>,
    /// What the author had applied, but for its own and for what its previous frame or another of these
    /// requires. More is allowed and changes nothing.
    #[serde(deserialize_with = "list::<REPLICAS_MAX, _, _>")]
    pub dependencies: Vec<DotRef>,
    /// The time part of every stamp in this frame.
    pub hlc: Hlc,
}

impl FrameHeader {
    /// Whether every operation has a seq: there is one at least, from 1 on, and the numbers do not run out.
    pub fn has_seqs(&self) -> bool {
        self.first > 0 && self.count > 0 && self.first.checked_add(u64::from(self.count)).is_some()
    }

    /// The seq of the last operation. The header must be that of a frame, or [`FrameHeader::has_seqs`].
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    /// The dot of the last operation.
    pub fn last_dot(&self) -> Dot {
        Dot::new(self.author, self.last())
    }

    /// The stamp of the frame's register writes.
    pub fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch, hlc: self.hlc }
    }

    /// The dot that a reference in this frame stands for.
    pub fn dot(&self, reference: DotRef) -> Option<Dot> {
        let replica = match reference.replica {
            0 => self.author,
            index => *self.replicas.get(usize::try_from(index).ok()? - 1)?,
        };
        Some(Dot::new(replica, reference.seq))
    }
}

/// A frame that was decoded and keeps every rule that can be checked without its author's card or history.
///
/// Cloning is cheap for the bytes; the operations are shared too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    header: FrameHeader,
    ops: Arc<[Op]>,
    id: FrameId,
    bytes: Arc<[u8]>,
}

/// Why bytes are not a frame, or not one that may be applied. Nothing was applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than [`FRAME_BYTES_MAX`].
    #[error("frame of {0} bytes; at most {FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The layout's version is not ours.
    #[error("frame version {0} is not known here, which is {FRAME_VERSION}")]
    Version(u8),
    /// The bytes end early, go on too long, or hold an unknown operation.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// The author's card does not prove the author, or its key did not sign these bytes.
    #[error("wrong signature")]
    Signature,
}

impl Frame {
    /// Decodes a frame and checks its bounds and internal references.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with the bytes. The signature is not looked at: see [`Frame::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(bytes.len()));
        }
        match bytes.first() {
            Some(&FRAME_VERSION) => {}
            Some(&version) => return Err(FrameError::Version(version)),
            None => return Err(FrameError::Malformed("no bytes")),
        }
        let body_length = bytes
            .len()
            .checked_sub(SIGNATURE_BYTES)
            .ok_or(FrameError::Malformed("shorter than a signature"))?;
        let body = &bytes[..body_length];
        let (header, encoded_ops) = postcard::take_from_bytes::<FrameHeader>(body)
            .map_err(|_| FrameError::Malformed("the header does not decode"))?;
        let ops = decode_ops(&header, encoded_ops)?;
        check::check(&header, &ops)?;
        Ok(Self { header, ops: ops.into(), id: FrameId::of(body), bytes: bytes.into() })
    }

    /// The last operation of a frame that was decoded before, without decoding it again. Only its header is
    /// looked at, so other bytes may have one too.
    pub fn peek(bytes: &[u8]) -> Option<Dot> {
        let (header, _) = postcard::take_from_bytes::<FrameHeader>(bytes).ok()?;
        header.has_seqs().then(|| header.last_dot())
    }

    /// Checks that `card` proves the author and that its key signed the frame.
    ///
    /// # Errors
    /// [`FrameError::Signature`]; the frame must not be applied.
    pub fn verify(&self, card: &AuthorCard) -> Result<(), FrameError> {
        if card.replica() != self.header.author {
            return Err(FrameError::Signature);
        }
        let key = VerifyingKey::from_bytes(&card.public_key).map_err(|_| FrameError::Signature)?;
        let (_, signature) =
            self.bytes.split_last_chunk::<SIGNATURE_BYTES>().expect("decode checked the length");
        key.verify_strict(self.id.as_bytes(), &Signature::from_bytes(signature))
            .map_err(|_| FrameError::Signature)
    }

    /// Everything but the operations.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The keyspace and the last operation of a frame's bytes, without looking at the rest of them.
    pub fn place(bytes: &[u8]) -> Option<(KeyspaceId, Dot)> {
        let (header, _) = postcard::take_from_bytes::<FrameHeader>(bytes).ok()?;
        header.has_seqs().then(|| (header.keyspace, header.last_dot()))
    }

    /// The operations, the first with the header's `first` as its seq.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The content address.
    pub fn id(&self) -> FrameId {
        self.id
    }

    /// The bytes as signed and as passed on.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Whether it says what only the author of a strong epoch may say. From anybody else it is refused.
    pub fn is_strong_only(&self) -> bool {
        self.ops.iter().any(Op::is_strong)
    }

    /// What the frame holds in memory, in bytes: as it was signed, and as operations.
    pub(crate) fn held_bytes(&self) -> usize {
        let tables = size_of_val(&self.header.replicas[..]) + size_of_val(&self.header.dependencies[..]);
        self.bytes.len() + tables + self.ops.iter().map(Op::held_bytes).sum::<usize>()
    }

    /// The operations, each with its dot.
    pub fn operations(&self) -> impl Iterator<Item = (Dot, &Op)> {
        (self.header.first..).zip(self.ops.iter()).map(|(seq, op)| (Dot::new(self.header.author, seq), op))
    }

    /// Every dot that must have been applied before this frame: its dependencies, and whatever its operations
    /// name besides. An honest author's operations name nothing more.
    pub fn requirements(&self) -> impl Iterator<Item = Dot> + '_ {
        let named = self.ops.iter().flat_map(Op::dots).filter(|reference| reference.replica != 0);
        self.header
            .dependencies
            .iter()
            .copied()
            .chain(named)
            .map(|reference| self.header.dot(reference).expect("decode checked the references"))
    }
}

fn decode_ops(header: &FrameHeader, mut bytes: &[u8]) -> Result<Vec<Op>, FrameError> {
    let count = header.count as usize;
    if count == 0 || count > FRAME_OPS_MAX {
        return Err(FrameError::Malformed("number of operations out of bounds"));
    }
    let bytes_max = if count > LARGE_FRAME_OPS_MAX { FRAME_OPS_BYTES_MAX } else { OP_BYTES_MAX };
    if bytes.len() > bytes_max {
        return Err(FrameError::Malformed("more operations than one frame may hold"));
    }
    // An operation takes at least two bytes, so the announced count cannot make us allocate more than was sent.
    let mut ops = Vec::with_capacity(count.min(bytes.len() / 2));
    for _ in 0..count {
        let (op, rest) = postcard::take_from_bytes::<Op>(bytes)
            .map_err(|_| FrameError::Malformed("an operation does not decode"))?;
        ops.push(op);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(ops) } else { Err(FrameError::Malformed("bytes after the last operation")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fuzzer found the first of them: bytes that no checksum protects made the sum run over.
    #[test]
    fn header_whose_operations_have_no_seqs_is_not_peeked() {
        let header = FrameHeader {
            version: FRAME_VERSION,
            keyspace: KeyspaceId::from_bytes([1; 16]),
            epoch: Epoch(0),
            author: ReplicaId::from_bytes([2; 16]),
            first: 1,
            count: 1,
            previous: FrameId::NONE,
            replicas: Vec::new(),
            dependencies: Vec::new(),
            hlc: Hlc::default(),
        };
        let peek = |first, count| {
            let header = FrameHeader { first, count, ..header.clone() };
            Frame::peek(&postcard::to_stdvec(&header).expect("memory")).map(|dot| dot.seq)
        };
        assert_eq!(
            [(0, 0), (0, 1), (5, 0), (u64::MAX, 1)].map(|(first, count)| peek(first, count)),
            [None; 4]
        );
        assert_eq!(
            [(1, 1), (u64::MAX - 1, 1)].map(|(first, count)| peek(first, count)),
            [Some(1), Some(u64::MAX - 1)]
        );
    }
}
