//! Frames from peers: what is a duplicate, what is too early, what is a lie, and what is applied.
//!
//! A frame is applied when it is next in its author's chain and all that it requires was applied. One that
//! comes early waits in a bounded buffer outside the version vector; one that does not fit is dropped and
//! pulled again later. Nothing is applied that its author did not sign.

use std::collections::BTreeMap;

use crate::apply::apply_frame;
use crate::causality::{Dot, Head, Observed};
use crate::draft::Draft;
use crate::frame::{Frame, FrameError};
use crate::id::{AuthorCard, FrameId, KeyspaceId, ReplicaId};
use crate::message::FrameBytes;
use crate::ports::SessionId;
use crate::replica::evidence::{EVIDENCE_MAX, Evidence};
use crate::replica::{Now, Replica, Step, View};

/// The frames that wait for others at most.
pub const EARLY_FRAMES_MAX: usize = 4_096;

/// The bytes of frames that wait for others at most.
pub const EARLY_BYTES_MAX: usize = 32 << 20;

/// The passes over waiting frames in one go; a chain of dependencies that is longer goes on with the next frame.
const EARLY_PASSES_MAX: usize = 64;

/// Frames whose requirements have not been applied, by keyspace, author and first seq.
#[derive(Debug, Default)]
pub(super) struct EarlyFrames {
    frames: BTreeMap<(KeyspaceId, ReplicaId, u64), Early>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Early {
    frame: Frame,
    card: AuthorCard,
    session: SessionId,
}

impl EarlyFrames {
    /// Keeps a frame if there is room.
    fn keep(&mut self, early: Early) -> bool {
        let header = early.frame.header();
        let name = (header.keyspace, header.author, header.first);
        let length = early.frame.bytes().len();
        let has_room = self.frames.len() < EARLY_FRAMES_MAX && self.bytes + length <= EARLY_BYTES_MAX;
        if has_room && !self.frames.contains_key(&name) {
            self.bytes += length;
            self.frames.insert(name, early);
        }
        has_room
    }

    /// Takes out all frames of a keyspace, in order of author and seq.
    fn take(&mut self, keyspace: KeyspaceId) -> Vec<Early> {
        let none = ReplicaId::from_bytes([0; 16]);
        let mut taken = Vec::new();
        let mut from = (keyspace, none, 0);
        while let Some((name, _)) = self.frames.range(from..).next().filter(|(name, _)| name.0 == keyspace) {
            from = *name;
            let early = self.frames.remove(&from).expect("it was just seen");
            self.bytes -= early.frame.bytes().len();
            taken.push(early);
        }
        taken
    }

    /// The card of an author whose frame waits.
    fn card(&self, author: ReplicaId) -> Option<AuthorCard> {
        self.frames.values().find(|early| early.frame.header().author == author).map(|early| early.card)
    }

    /// Drops what came in a session: whoever still has it will send it again.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.frames.retain(|_, early| early.session != session);
        self.bytes = self.frames.values().map(|early| early.frame.bytes().len()).sum();
    }

    /// The number of frames, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }
}

/// What became of the frames of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Per keyspace: frames applied, frames known before, frames that wait for others.
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Tally>,
}

/// What became of the frames of one keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) applied: usize,
    pub(crate) duplicate: usize,
    pub(crate) early: usize,
    pub(crate) refused: usize,
}

enum Verdict {
    Apply,
    Early,
    Duplicate,
    /// Two histories of one author.
    Fork,
    /// Our own history, which nobody else can write.
    Own,
}

impl Replica {
    /// Takes in the frames of one message.
    ///
    /// # Errors
    /// A frame is malformed or not signed by its author. Those before it were taken in, the session must end.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        session: SessionId,
        (cards, frames): (Vec<AuthorCard>, Vec<FrameBytes>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<Receipt, FrameError> {
        let cards: BTreeMap<ReplicaId, AuthorCard> =
            cards.into_iter().map(|card| (card.replica(), card)).collect();
        let mut receipt = Receipt::default();
        for FrameBytes(bytes) in frames {
            let frame = Frame::decode(&bytes)?;
            let keyspace = frame.header().keyspace;
            if !self.keyspaces.contains_key(&keyspace) {
                self.counters.count("frames_of_unknown_keyspace");
                continue;
            }
            let verdict = self.judge(&frame, view);
            self.counters.count("frames_received");
            let tally = receipt.keyspaces.entry(keyspace).or_default();
            if let Verdict::Duplicate = verdict {
                self.counters.count("frames_duplicate");
                tally.duplicate += 1;
                continue;
            }
            let author = frame.header().author;
            let Some(card) = cards.get(&author).copied().or_else(|| self.card_of(author, view)) else {
                // The card was with an earlier frame that we had no room for. An answer to a pull repeats it.
                self.counters.count("frames_without_card");
                tally.refused += 1;
                continue;
            };
            frame.verify(&card)?;
            match verdict {
                Verdict::Apply => {
                    self.apply(now, &frame, (card, session), view, step, tally);
                }
                Verdict::Early => {
                    tally.early += 1;
                    let is_kept = self.early.keep(Early { frame, card, session });
                    self.counters.count(if is_kept { "frames_early" } else { "frames_early_dropped" });
                }
                Verdict::Fork | Verdict::Own => {
                    tally.refused += 1;
                    self.keep_evidence(&frame, view);
                }
                Verdict::Duplicate => unreachable!("handled above"),
            }
        }
        for (keyspace, _) in receipt.keyspaces.iter().filter(|(_, tally)| tally.applied > 0) {
            self.apply_early(now, *keyspace, view, step);
        }
        Ok(receipt)
    }

    fn card_of(&self, author: ReplicaId, view: &View<'_, '_>) -> Option<AuthorCard> {
        let known = self.cards.get(&author).copied().or_else(|| self.early.card(author));
        known.or_else(|| view.log.card(author).ok().flatten())
    }

    /// Cases: (1) all of it was applied, and it is the same frame or, at the head of the chain or where we
    /// still hold the other one, provably another; (2) it overlaps what was applied or does not follow our
    /// head: the author has two histories; (3) it is our own and we do not have it: so has our replica;
    /// (4) something it requires is missing; (5) it is next.
    fn judge(&self, frame: &Frame, view: &View<'_, '_>) -> Verdict {
        let header = frame.header();
        let heads = &self.keyspaces[&header.keyspace].heads;
        let head = heads.get(header.author);
        let applied = head.map_or(0, |head| head.seq);
        if header.last() <= applied {
            let is_same = match head {
                Some(head) if head.seq == header.last() => head.frame == frame.id(),
                _ => match view.log.frame_with(header.keyspace, header.last_dot()) {
                    Ok(Some(logged)) => logged.bytes == *frame.bytes(),
                    // Not held in the log yet, or any more: nothing to compare with.
                    _ => true,
                },
            };
            return if is_same { Verdict::Duplicate } else { Verdict::Fork };
        }
        if header.author == self.id {
            return Verdict::Own;
        }
        if header.first <= applied {
            return Verdict::Fork;
        }
        if header.first > applied + 1 {
            return Verdict::Early;
        }
        if header.previous != head.map_or(FrameId::NONE, |head| head.frame) {
            return Verdict::Fork;
        }
        let is_early = frame.requirements().any(|dot| !heads.covers(dot));
        if is_early { Verdict::Early } else { Verdict::Apply }
    }

    fn apply(
        &mut self,
        now: Now,
        frame: &Frame,
        (card, session): (AuthorCard, SessionId),
        view: &mut View<'_, '_>,
        step: &mut Step,
        tally: &mut Tally,
    ) {
        let header = frame.header();
        // A frame of our own must depend on exactly what its operations saw.
        self.seal(header.keyspace, step);
        let mut draft = Draft::over(view.draft);
        if let Err(error) = apply_frame(&mut draft, frame) {
            tracing::error!(%error, "cannot apply a frame; it will be pulled again");
            self.counters.count("frames_not_applied");
            tally.refused += 1;
            return;
        }
        let changes = draft.into_changes();
        view.draft.absorb(changes);
        if header.previous == FrameId::NONE {
            step.cards.push(card);
        }
        self.cards.insert(header.author, card);
        let head = Head { seq: header.last(), frame: frame.id() };
        self.keyspaces.get_mut(&header.keyspace).expect("judged before").advance(header.author, head);
        if self.clock.observe(now.unix_ms, header.hlc) == Observed::Ahead {
            self.counters.count("stamps_ahead");
        }
        self.counters.count("frames_applied");
        self.counters.add("operations_applied", u64::from(header.count));
        tally.applied += 1;
        self.fresh.push((frame.clone(), Some(session)));
        step.frames.push(frame.clone());
    }

    /// Applies what waited, until nothing more becomes possible.
    fn apply_early(&mut self, now: Now, keyspace: KeyspaceId, view: &mut View<'_, '_>, step: &mut Step) {
        let mut waiting = self.early.take(keyspace);
        let mut is_progress = true;
        for _ in 0..EARLY_PASSES_MAX {
            if !std::mem::take(&mut is_progress) {
                break;
            }
            let mut still = Vec::new();
            for early in waiting {
                match self.judge(&early.frame, view) {
                    Verdict::Apply => {
                        let mut tally = Tally::default();
                        let from = (early.card, early.session);
                        self.apply(now, &early.frame, from, view, step, &mut tally);
                        is_progress |= tally.applied > 0;
                    }
                    Verdict::Early => still.push(early),
                    Verdict::Duplicate => {}
                    Verdict::Fork | Verdict::Own => self.keep_evidence(&early.frame, view),
                }
            }
            waiting = still;
        }
        for early in waiting {
            self.early.keep(early);
        }
    }

    /// What the frames that wait in a keyspace require and we do not have.
    pub(crate) fn early_requirements(&self, id: KeyspaceId) -> Vec<Dot> {
        let Some(keyspace) = self.keyspaces.get(&id) else { return Vec::new() };
        let waiting = self.early.frames.iter().filter(|((of, _, _), _)| *of == id);
        let required = waiting.flat_map(|(_, Early { frame, .. })| {
            let before = Dot::new(frame.header().author, frame.header().first - 1);
            std::iter::once(before).chain(frame.requirements())
        });
        required.filter(|dot| !keyspace.heads.covers(*dot)).collect()
    }

    /// A session ended: nothing more is awaited from it.
    pub(crate) fn forget_frames_of(&mut self, session: SessionId) {
        self.early.forget(session);
        for keyspace in self.keyspaces.values_mut() {
            keyspace.awaited.retain(|_, (from, _)| *from != session);
        }
    }

    fn keep_evidence(&mut self, frame: &Frame, view: &View<'_, '_>) {
        let header = frame.header();
        let dot = Dot::new(header.author, header.first);
        self.counters.count("frames_forked");
        let is_known = self.evidence.iter().any(|proof| proof.refused == *frame.bytes());
        if is_known || self.evidence.len() == EVIDENCE_MAX {
            return;
        }
        tracing::error!(author = %header.author, seq = header.first, "an author has two histories; refused");
        let held = view.log.frame_with(header.keyspace, dot).ok().flatten();
        let applied = held.map(|held| held.bytes);
        self.evidence.push(Evidence {
            keyspace: header.keyspace,
            dot,
            applied,
            refused: frame.bytes().clone(),
        });
    }
}
