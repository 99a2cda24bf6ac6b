//! Frames that no honest replica makes, well signed.

use tidelock_engine::causality::{Dot, Hlc, VersionVector};
use tidelock_engine::frame::{Frame, FrameBuilder, FrameStart, SigningKey};
use tidelock_engine::id::{AuthorCard, Epoch, FrameId, KeyspaceId, ReplicaId};
use tidelock_engine::op::{DotRef, Element, FieldValue, Op, RowRef, SlotChange};
use tidelock_engine::row::Kind;

use crate::node::START_MS;
use crate::random::Random;
use crate::world::{NOTES, keyspace_id};

/// An author that writes what it wants, and goes on from where it wants. A clone is another history.
#[derive(Clone, Debug)]
pub struct Forger {
    key: SigningKey,
    /// Whose frames they are.
    pub card: AuthorCard,
    /// Where they belong.
    pub keyspace: KeyspaceId,
    /// The seq of its next operation.
    pub next: u64,
    /// The frame that its next one follows.
    pub previous: FrameId,
    /// The time of its next frame.
    pub hlc: Hlc,
}

impl Forger {
    /// The author that a key and a nonce make.
    pub fn new(key: &SigningKey, nonce: u8) -> Self {
        let card = key.card([nonce; 16]);
        let (keyspace, hlc) = (keyspace_id(NOTES), Hlc::at(START_MS));
        Self { key: key.clone(), card, keyspace, next: 1, previous: FrameId::NONE, hlc }
    }

    /// Its replica.
    pub fn author(&self) -> ReplicaId {
        self.card.replica()
    }

    /// Its next frame, which says that it saw what `after` covers.
    pub fn frame(&mut self, after: &VersionVector, ops: &[Op]) -> Frame {
        let start = FrameStart {
            keyspace: self.keyspace,
            epoch: Epoch(0),
            author: self.author(),
            first: self.next,
            previous: self.previous,
            hlc: self.hlc,
        };
        let mut builder = FrameBuilder::new(start, after);
        for op in ops {
            builder.push(op.clone());
        }
        let frame = builder.seal(&self.key);
        (self.next, self.previous) = (self.next + ops.len() as u64, frame.id());
        frame
    }

    /// A frame that sets a key.
    pub fn set(&mut self, key: &str, value: &str) -> Frame {
        self.frame(&VersionVector::default(), &[set(key, value)])
    }

    /// A frame of two operations that set a key.
    pub fn two(&mut self, key: &str, value: &str) -> Frame {
        self.frame(&VersionVector::default(), &[set(key, "before"), set(key, value)])
    }

    /// A random operation under a key of a liar: it keeps the rules of a single frame, and no others.
    pub(super) fn any_op(&self, random: &mut Random) -> Op {
        let key = format!("evil-{}", random.below(3)).into_bytes();
        let subkey = vec![b'x' + u8::try_from(random.below(2)).expect("small")];
        let value = format!("{:x}", random.next()).into_bytes();
        let (count, last) = (random.below(3), self.next - 1);
        let observed = || -> Vec<DotRef> {
            let seqs = (last.saturating_sub(count as u64) + 1..=last).rev();
            seqs.map(|seq| DotRef { replica: 0, seq }).collect()
        };
        match random.below(6) {
            0 => Op::Set { key, value, observed: observed(), slots: Vec::new() },
            1 => {
                let birth = if last == 0 { 0 } else { random.next() % self.next };
                Op::Increment { key, birth, sum: i128::from(random.next()) - (1 << 63) }
            }
            2 => Op::Add { key, elements: vec![Element { element: subkey, observed: observed() }] },
            3 => Op::Put { key, fields: vec![FieldValue { field: subkey, value, observed: observed() }] },
            4 if last > 0 => {
                let slots = vec![SlotChange::Close { birth: 1 + random.next() % last }];
                Op::Delete { key, rows: Vec::new(), slots }
            }
            _ => {
                let row = |dot| RowRef { kind: Kind::Set, subkey: subkey.clone(), dot };
                Op::Delete { key, rows: observed().into_iter().map(row).collect(), slots: Vec::new() }
            }
        }
    }

    /// The dot of its last operation.
    pub fn last_dot(&self) -> Dot {
        Dot::new(self.author(), self.next - 1)
    }
}

fn set(key: &str, value: &str) -> Op {
    Op::Set { key: key.into(), value: value.into(), observed: Vec::new(), slots: Vec::new() }
}
