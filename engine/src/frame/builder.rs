//! Making a frame: operations are encoded as they come, and the header is known when it is sealed.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::Signer;

use crate::bounds::{FRAME_OPS_BYTES_MAX, FRAME_OPS_MAX, LARGE_FRAME_OPS_MAX, OP_BYTES_MAX, REPLICAS_MAX};
use crate::causality::{Dot, Hlc, VersionVector};
use crate::frame::{FRAME_VERSION, Frame, FrameHeader};
use crate::id::{AuthorCard, Epoch, FrameId, KeyspaceId, PeerId, ReplicaId};
use crate::op::{DotRef, Op};

/// The secret key of a node: its libp2p identity, and what signs its frames. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The 32 bytes that the key follows from. They are the secret.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The signature of some bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// The peer that this key makes.
    pub fn peer(&self) -> PeerId {
        PeerId::from_public_key(self.0.verifying_key().to_bytes())
    }

    /// The card of a store of this node, made unique by a random nonce.
    pub fn card(&self, nonce: [u8; 16]) -> AuthorCard {
        AuthorCard { public_key: self.0.verifying_key().to_bytes(), nonce }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.peer())
    }
}

/// A frame in the making.
#[derive(Debug)]
pub struct FrameBuilder {
    header: FrameHeader,
    indexes: BTreeMap<ReplicaId, u32>,
    ops: Vec<Op>,
    /// After each operation, the number of replicas in the table.
    named: Vec<usize>,
    encoded: Vec<u8>,
}

/// What an author's next frame starts from.
#[derive(Clone, Copy, Debug)]
pub struct FrameStart {
    /// Where the operations belong.
    pub keyspace: KeyspaceId,
    /// The keyspace's epoch.
    pub epoch: Epoch,
    /// Whose frame it is.
    pub author: ReplicaId,
    /// The seq of its first operation.
    pub first: u64,
    /// The author's previous frame in the keyspace.
    pub previous: FrameId,
    /// The time part of its stamps.
    pub hlc: Hlc,
}

impl FrameBuilder {
    /// A frame without operations yet, which depends on what `dependencies` covers.
    pub fn new(start: FrameStart, dependencies: &VersionVector) -> Self {
        let FrameStart { keyspace, epoch, author, first, previous, hlc } = start;
        let (replicas, dependencies_made) = (Vec::new(), Vec::new());
        let header = FrameHeader {
            version: FRAME_VERSION,
            keyspace,
            epoch,
            author,
            first,
            count: 0,
            previous,
            replicas,
            dependencies: dependencies_made,
            hlc,
        };
        let (indexes, ops, named, encoded) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        let mut builder = Self { header, indexes, ops, named, encoded };
        for dot in dependencies.iter().filter(|dot| dot.replica != author) {
            let reference = builder.reference(dot);
            builder.header.dependencies.push(reference);
        }
        builder
    }

    /// How `dot` is written in this frame; adds its replica to the table if need be.
    pub fn reference(&mut self, dot: Dot) -> DotRef {
        if dot.replica == self.header.author {
            return DotRef { replica: 0, seq: dot.seq };
        }
        let replicas = &mut self.header.replicas;
        let replica = *self.indexes.entry(dot.replica).or_insert_with(|| {
            replicas.push(dot.replica);
            u32::try_from(replicas.len()).expect("there are fewer replicas than that")
        });
        DotRef { replica, seq: dot.seq }
    }

    /// The dot that the next operation will have.
    pub fn next_dot(&self) -> Dot {
        Dot::new(self.header.author, self.header.first + self.ops.len() as u64)
    }

    /// The header as it is now; `count` is not yet filled in.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Whether there is no operation yet.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The encoded size of the operations so far, in bytes, and their number.
    pub fn size(&self) -> (usize, usize) {
        (self.encoded.len(), self.ops.len())
    }

    /// Whether the operations fit into one frame.
    pub fn is_within_bounds(&self) -> bool {
        let is_large = self.ops.len() <= LARGE_FRAME_OPS_MAX;
        let bytes_max = if is_large { OP_BYTES_MAX } else { FRAME_OPS_BYTES_MAX };
        let has_few_replicas = self.header.replicas.len() <= REPLICAS_MAX;
        has_few_replicas && self.ops.len() <= FRAME_OPS_MAX && self.encoded.len() <= bytes_max
    }

    /// Appends an operation whose references were made by [`FrameBuilder::reference`]; answers its dot.
    pub fn push(&mut self, op: Op) -> Dot {
        let dot = self.next_dot();
        self.encoded = postcard::to_extend(&op, std::mem::take(&mut self.encoded))
            .expect("writing to memory cannot fail");
        self.ops.push(op);
        self.named.push(self.header.replicas.len());
        dot
    }

    /// Takes back all operations from the `ops`-th on, which ended at `bytes`, as [`FrameBuilder::size`] said,
    /// and the replicas that only they named.
    pub fn truncate(&mut self, (bytes, ops): (usize, usize)) {
        self.encoded.truncate(bytes);
        self.ops.truncate(ops);
        self.named.truncate(ops);
        let named = self.named.last().copied().unwrap_or(self.header.dependencies.len());
        for replica in self.header.replicas.drain(named..) {
            self.indexes.remove(&replica);
        }
    }

    /// Signs the frame. It must have operations.
    pub fn seal(mut self, key: &SigningKey) -> Frame {
        self.header.count = u32::try_from(self.ops.len()).expect("a frame holds a bounded number");
        let header = postcard::to_stdvec(&self.header).expect("writing to memory cannot fail");
        let mut bytes = header;
        bytes.extend_from_slice(&self.encoded);
        let id = FrameId::of(&bytes);
        bytes.extend_from_slice(&key.0.sign(id.as_bytes()).to_bytes());
        Frame { header: self.header, ops: self.ops.into(), id, bytes: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_key_shows_its_peer_and_not_its_secret() {
        let key = SigningKey::from_seed([7; 32]);
        assert_eq!(format!("{key:?}"), format!("SigningKey({:?})", key.peer()));
    }
}
