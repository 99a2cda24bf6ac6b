//! Frames that came before what they require: kept in a bounded buffer, outside the version vector.
//!
//! Each waits under the first operation that it misses, and is looked at again when that was applied. One that
//! does not fit is dropped; the sender has it, and it is pulled again. Nothing here was applied.

use std::collections::{BTreeMap, BTreeSet};

use crate::causality::Dot;
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, ReplicaId};
use crate::ports::SessionId;

/// The frames that wait for others at most.
pub const EARLY_FRAMES_MAX: usize = 4_096;

/// What frames that wait for others hold in memory at most, in bytes: room for one with the largest value, which
/// is there as it was signed and as an operation, and for as much besides.
pub const EARLY_BYTES_MAX: usize = 64 << 20;

/// A keyspace, an author, and the first seq of a frame.
type Name = (KeyspaceId, ReplicaId, u64);

/// Frames whose requirements have not been applied.
///
/// Invariant: every frame is in `waiting` exactly once, under an operation that was missing when it was kept.
#[derive(Debug, Default)]
pub(super) struct EarlyFrames {
    frames: BTreeMap<Name, Early>,
    waiting: BTreeSet<(KeyspaceId, Dot, Name)>,
    bytes: usize,
}

/// A frame that waits.
#[derive(Clone, Debug)]
pub(super) struct Early {
    /// The frame; its signature was checked.
    pub(super) frame: Frame,
    /// Its author's card.
    pub(super) card: AuthorCard,
    /// Who sent it last.
    pub(super) session: SessionId,
}

impl EarlyFrames {
    /// Keeps a frame that waits for `missing`; answers whether it is here now.
    pub(super) fn keep(&mut self, early: Early, missing: Dot) -> bool {
        let header = early.frame.header();
        let name = (header.keyspace, header.author, header.first);
        if let Some(held) = self.frames.get_mut(&name) {
            let is_same = held.frame.id() == early.frame.id();
            if is_same {
                held.session = early.session;
            }
            return is_same;
        }
        let length = early.frame.held_bytes();
        let has_room = self.frames.len() < EARLY_FRAMES_MAX && self.bytes + length <= EARLY_BYTES_MAX;
        if has_room {
            self.bytes += length;
            self.waiting.insert((header.keyspace, missing, name));
            self.frames.insert(name, early);
        }
        has_room
    }

    /// Takes out the frames of a keyspace that wait for operations of an author up to a seq.
    pub(super) fn wake(&mut self, keyspace: KeyspaceId, applied: Dot) -> Vec<Early> {
        let least: Name = (KeyspaceId::from_bytes([0; 16]), ReplicaId::from_bytes([0; 16]), 0);
        let from = (keyspace, Dot::new(applied.replica, 0), least);
        let of_author = |(of, missing, _): &&(KeyspaceId, Dot, Name)| {
            *of == keyspace && missing.replica == applied.replica && missing.seq <= applied.seq
        };
        let due: Vec<_> = self.waiting.range(from..).take_while(of_author).copied().collect();
        due.into_iter().map(|waiting| self.take(waiting)).collect()
    }

    fn take(&mut self, waiting: (KeyspaceId, Dot, Name)) -> Early {
        self.waiting.remove(&waiting);
        let early = self.frames.remove(&waiting.2).expect("what is in waiting is in frames");
        self.bytes -= early.frame.held_bytes();
        early
    }

    /// The card of an author whose frame waits.
    pub(super) fn card(&self, author: ReplicaId) -> Option<AuthorCard> {
        self.frames.values().find(|early| early.card.replica() == author).map(|early| early.card)
    }

    /// Drops what came in a session: whoever still has it will send it again.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.frames.retain(|_, early| early.session != session);
        self.waiting.retain(|(_, _, name)| self.frames.contains_key(name));
        self.bytes = self.frames.values().map(|early| early.frame.held_bytes()).sum();
    }

    /// Drops what waits in a keyspace.
    pub(super) fn forget_keyspace(&mut self, keyspace: KeyspaceId) {
        self.frames.retain(|(of, ..), _| *of != keyspace);
        self.waiting.retain(|(of, ..)| *of != keyspace);
        self.bytes = self.frames.values().map(|early| early.frame.held_bytes()).sum();
    }

    /// The number of frames, and what they hold in memory, in bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::SLOTS_MAX;
    use crate::causality::{Hlc, VersionVector};
    use crate::frame::{FrameBuilder, FrameStart, SigningKey};
    use crate::id::{Epoch, FrameId};
    use crate::op::{Op, SlotChange};

    const SESSION: SessionId = SessionId(1);

    /// A frame of the author's `first` operation: half a MiB on the wire, twelve in memory.
    fn early(first: u64) -> Early {
        let key = SigningKey::from_seed([1; 32]);
        let card = key.card([0; 16]);
        let start = FrameStart {
            keyspace: KeyspaceId::from_bytes([0; 16]),
            epoch: Epoch(0),
            author: card.replica(),
            first,
            previous: FrameId::NONE,
            hlc: Hlc::default(),
        };
        let mut builder = FrameBuilder::new(start, &VersionVector::default());
        let slots = vec![SlotChange::Close { birth: 1 }; SLOTS_MAX];
        builder.push(Op::Delete { key: Vec::new(), rows: Vec::new(), slots });
        Early { frame: builder.seal(&key), card, session: SESSION }
    }

    /// A fuzzed frame of slots was held thirty times as large as it was counted.
    #[test]
    fn frames_are_counted_as_what_they_hold_in_memory() {
        let mut frames = EarlyFrames::default();
        let kept = (10..40).filter(|first| {
            let early = early(*first);
            let missing = Dot::new(early.card.replica(), first - 1);
            frames.keep(early, missing)
        });
        let (kept, held) = (kept.count(), SLOTS_MAX * size_of::<SlotChange>());
        assert!(kept > 0 && kept * held <= EARLY_BYTES_MAX && (kept + 2) * held > EARLY_BYTES_MAX, "{kept}");
        let (count, bytes) = frames.size();
        assert!(count == kept && (kept * held..=EARLY_BYTES_MAX).contains(&bytes), "{count}, {bytes}");
        let woken = frames.wake(KeyspaceId::from_bytes([0; 16]), Dot::new(early(10).card.replica(), 9));
        assert_eq!((woken.len(), frames.size().0), (1, kept - 1));
        assert!(bytes - frames.size().1 >= held, "what is taken out is counted no more");
        frames.forget(SESSION);
        assert_eq!(frames.size(), (0, 0));
    }
}
