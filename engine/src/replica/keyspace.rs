//! A keyspace as a replica follows it: heads, the frame in the making, and what peers have been told.

use std::collections::{BTreeMap, VecDeque};

use crate::causality::{Dot, Head, Heads, VersionVector};
use crate::frame::{Frame, FrameBuilder};
use crate::gossip::{Divergence, Sink, Staging};
use crate::id::{KeyspaceName, ReplicaId};
use crate::message::{HEADS_MAX, HeadEntry};
use crate::ports::{KeyspaceState, SessionId};
use crate::ranges::RangeIndex;
use crate::replica::Deadlines;
use crate::replica::housekeeping::SpentSlots;
use crate::replica::retirement::Retired;
use crate::row::Fingerprint;

/// The recent states that are kept for comparing with a peer that is a little behind or ahead.
pub(crate) const RING_MAX: usize = 64;

/// A keyspace as a replica follows it.
#[derive(Debug)]
pub(crate) struct Keyspace {
    /// Its name.
    pub(crate) name: KeyspaceName,
    /// What has been applied, of each author.
    pub(crate) heads: Heads,
    /// The fingerprint of the committed rows.
    pub(crate) fingerprint: Fingerprint,
    /// The heads that changed since our own last frame and that no other of them requires: the dependencies
    /// that the next frame names. After a start they begin with all heads, which is more than needed and never
    /// wrong.
    pub(crate) undeclared: VersionVector,
    /// The frame of this turn.
    pub(crate) open: Option<FrameBuilder>,
    /// From which session an author's frames are awaited, and since when.
    pub(crate) awaited: BTreeMap<ReplicaId, (SessionId, u64)>,
    /// Counter slots that we may remove once they are spent.
    pub(crate) spent: SpentSlots,
    /// What is known of its deadlines.
    pub(crate) deadlines: Deadlines,
    /// What is known of peers with equal heads and other rows.
    pub(crate) divergence: Divergence,
    /// Who was retired; `None` until it is read.
    pub(crate) retired: Option<Retired>,
    /// Whether the rows are those of no version vector, because state is being taken over.
    pub(crate) is_partial: bool,
    /// Since when no connected peer replicates it.
    pub(crate) alone_since_ms: Option<u64>,
    /// How often state was taken over since the start.
    pub(crate) generation: u64,
    /// The fingerprints of ranges of the committed rows, once they are needed.
    pub(crate) ranges: Option<RangeIndex>,
    /// State that is being taken over.
    pub(crate) sink: Option<Sink>,
    /// State that waits in the log, or may.
    pub(crate) staging: Option<Staging>,
    ring: VecDeque<(u128, Fingerprint)>,
    changes: u64,
    changed: BTreeMap<u64, ReplicaId>,
    changed_at: BTreeMap<ReplicaId, u64>,
}

impl Keyspace {
    pub(crate) fn new(name: KeyspaceName, state: &KeyspaceState, own: ReplicaId) -> Self {
        let has_written = state.heads.seq(own) > 0;
        let mut keyspace = Self {
            name,
            heads: Heads::default(),
            fingerprint: state.fingerprint,
            undeclared: VersionVector::default(),
            open: None,
            awaited: BTreeMap::new(),
            retired: None,
            spent: if has_written { SpentSlots::unknown() } else { SpentSlots::default() },
            deadlines: Deadlines::default(),
            divergence: Divergence::default(),
            is_partial: state.is_partial,
            alone_since_ms: None,
            generation: 0,
            ranges: None,
            sink: None,
            staging: state.is_partial.then(Staging::unknown),
            ring: VecDeque::new(),
            changes: 0,
            changed: BTreeMap::new(),
            changed_at: BTreeMap::new(),
        };
        state.heads.iter().for_each(|(author, head)| keyspace.advance(author, head));
        keyspace.remember();
        keyspace
    }

    /// Takes in that a frame of another author was applied. Whoever applies it has applied what it requires, so
    /// our next frame need name only this one: else frames would grow with the number of authors.
    pub(crate) fn advance_by(&mut self, frame: &Frame) {
        frame.requirements().for_each(|dot| self.undeclared.drop_covered(dot));
        let header = frame.header();
        self.advance(header.author, Head { seq: header.last(), frame: frame.id() });
    }

    /// Takes in that an author has a new head.
    pub(crate) fn advance(&mut self, author: ReplicaId, head: Head) {
        self.heads.advance(author, head);
        self.undeclared.raise(Dot::new(author, head.seq));
        self.changes += 1;
        if let Some(before) = self.changed_at.insert(author, self.changes) {
            self.changed.remove(&before);
        }
        self.changed.insert(self.changes, author);
    }

    /// Others may have reset own slots meanwhile, or retired somebody, in ways that nobody saw.
    pub(crate) fn look_for_spent_slots(&mut self) {
        (self.spent, self.retired) = (SpentSlots::unknown(), None);
    }

    /// Begins to write as another replica, whose first frame must name all that was applied here.
    pub(crate) fn begin_anew(&mut self) {
        (self.open, self.spent, self.retired) = (None, SpentSlots::default(), None);
        self.heads.iter().for_each(|(author, head)| self.undeclared.raise(Dot::new(author, head.seq)));
    }

    /// Remembers the state after a commit.
    pub(crate) fn remember(&mut self) {
        if self.is_partial {
            return;
        }
        let state = (self.heads.hash(), self.fingerprint);
        if self.ring.back() != Some(&state) {
            if self.ring.len() == RING_MAX {
                self.ring.pop_front();
            }
            self.ring.push_back(state);
        }
    }

    /// Heads and fingerprint as of the last commit.
    pub(crate) fn last_committed(&self) -> Option<(u128, Fingerprint)> {
        self.ring.back().copied()
    }

    /// The fingerprint that went with these heads, if they are recent.
    pub(crate) fn fingerprint_at(&self, heads: u128) -> Option<Fingerprint> {
        self.ring.iter().rev().find(|(hash, _)| *hash == heads).map(|(_, fingerprint)| *fingerprint)
    }

    /// The number of the last change of heads, for [`Keyspace::heads_since`].
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The heads that changed after the `since`-th change, in the pieces of one message each.
    pub(crate) fn heads_since(&self, since: u64) -> Vec<Vec<HeadEntry>> {
        let changed = self.changed.range(since + 1..).filter_map(|(_, author)| {
            let Head { seq, frame } = self.heads.get(*author)?;
            let frame = *frame.as_bytes().first_chunk().expect("a frame id has 32 bytes");
            Some(HeadEntry { author: *author, seq, frame })
        });
        let entries: Vec<HeadEntry> = changed.collect();
        entries.chunks(HEADS_MAX).map(<[HeadEntry]>::to_vec).collect()
    }
}
