//! Frames from peers: what is a duplicate, what is too early, what is a lie, and what is applied.
//!
//! A frame is applied when it is next in its author's chain and all that it requires was applied. One that
//! comes early waits in a bounded buffer outside the version vector; one that does not fit is dropped and
//! pulled again later. Nothing is applied that its author did not sign.

use std::collections::BTreeMap;

use crate::apply::apply_frame;
use crate::causality::{Dot, Observed};
use crate::frame::{Frame, FrameError};
use crate::id::{AuthorCard, FrameId, KeyspaceId, ReplicaId};
use crate::message::FrameBytes;
use crate::ports::SessionId;
use crate::replica::early::Early;
use crate::replica::evidence::{EVIDENCE_MAX, Evidence};
use crate::replica::{Now, Replica, Step, View};

/// What became of the frames of one message, by keyspace.
pub(crate) type Receipt = BTreeMap<KeyspaceId, Tally>;

/// What became of the frames of one keyspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Frames that were applied.
    pub(crate) applied: usize,
    /// Frames that had been applied before.
    pub(crate) duplicate: usize,
    /// Frames that wait for others.
    pub(crate) early: usize,
    /// What the sender has and we need, for frames that could not be applied: per author the highest seq.
    pub(crate) missing: BTreeMap<ReplicaId, u64>,
}

enum Verdict {
    Apply,
    /// It requires something that is missing: at least this.
    Early(Dot),
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
            let (keyspace, last) = (frame.header().keyspace, frame.header().last_dot());
            if !self.keyspaces.contains_key(&keyspace) {
                self.counters.count("frames_of_unknown_keyspace");
                continue;
            }
            self.counters.count("frames_received");
            let tally = receipt.entry(keyspace).or_default();
            let verdict = self.judge(&frame, view);
            if let Verdict::Duplicate = verdict {
                self.counters.count("frames_duplicate");
                tally.duplicate += 1;
                continue;
            }
            let Some(card) = cards.get(&last.replica).copied().or_else(|| self.card_of(last.replica, view))
            else {
                // The card was with an earlier frame that we had no room for. An answer to a pull repeats it.
                self.counters.count("frames_without_card");
                tally.misses(last);
                continue;
            };
            frame.verify(&card)?;
            self.take_in(now, Early { frame, card, session }, &verdict, tally, view, step);
        }
        Ok(receipt)
    }

    /// Does with a frame what the verdict says. An applied one may make others possible that waited.
    fn take_in(
        &mut self,
        now: Now,
        arrived: Early,
        verdict: &Verdict,
        tally: &mut Tally,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        match verdict {
            Verdict::Apply => {
                let mut possible = vec![arrived];
                while let Some(next) = possible.pop() {
                    if self.apply(now, &next, view, step) {
                        tally.applied += 1;
                        self.wake(&next.frame, &mut possible, view);
                    } else {
                        tally.misses(next.frame.header().last_dot());
                    }
                }
            }
            Verdict::Early(missing) => {
                tally.early += 1;
                let heads = &self.keyspaces[&arrived.frame.header().keyspace].heads;
                let header = arrived.frame.header();
                let before = Dot::new(header.author, header.first - 1);
                let required = std::iter::once(before).chain(arrived.frame.requirements());
                required.filter(|dot| !heads.covers(*dot)).for_each(|dot| tally.misses(dot));
                let last = header.last_dot();
                let is_kept = self.early.keep(arrived, *missing);
                self.counters.count(if is_kept { "frames_early" } else { "frames_early_dropped" });
                if !is_kept {
                    tally.misses(last);
                }
            }
            Verdict::Fork | Verdict::Own => self.keep_evidence(&arrived, view),
            Verdict::Duplicate => {}
        }
    }

    /// Looks again at the frames that waited for this one; those that may be applied now are possible.
    fn wake(&mut self, applied: &Frame, possible: &mut Vec<Early>, view: &View<'_, '_>) {
        let header = applied.header();
        for early in self.early.wake(header.keyspace, header.last_dot()) {
            match self.judge(&early.frame, view) {
                Verdict::Apply => possible.push(early),
                Verdict::Early(missing) => drop(self.early.keep(early, missing)),
                Verdict::Duplicate => {}
                Verdict::Fork | Verdict::Own => self.keep_evidence(&early, view),
            }
        }
    }

    fn card_of(&self, author: ReplicaId, view: &View<'_, '_>) -> Option<AuthorCard> {
        self.card_known(author, view.log).or_else(|| self.early.card(author))
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
            return Verdict::Early(Dot::new(header.author, header.first - 1));
        }
        if header.previous != head.map_or(FrameId::NONE, |head| head.frame) {
            return Verdict::Fork;
        }
        frame.requirements().find(|dot| !heads.covers(*dot)).map_or(Verdict::Apply, Verdict::Early)
    }

    /// Applies a frame that may be applied; answers whether it could be.
    fn apply(&mut self, now: Now, arrived: &Early, view: &mut View<'_, '_>, step: &mut Step) -> bool {
        let Early { frame, card, session } = arrived;
        let header = frame.header();
        // A frame of our own must depend on exactly what its operations saw.
        self.seal(header.keyspace, step);
        let mark = view.draft.mark();
        if let Err(error) = apply_frame(view.draft, frame) {
            view.draft.take_back(mark);
            tracing::error!(%error, "cannot apply a frame; it will be pulled again");
            self.counters.count("frames_not_applied");
            return false;
        }
        view.draft.keep(mark);
        if header.previous == FrameId::NONE {
            step.cards.push(*card);
        }
        self.cards.insert(header.author, *card);
        self.keyspaces.get_mut(&header.keyspace).expect("judged before").advance_by(frame);
        self.touched.insert(header.keyspace);
        self.note_resets(frame);
        if self.clock.observe(now.unix_ms, header.hlc) == Observed::Ahead {
            self.counters.count("stamps_ahead");
        }
        self.counters.count("frames_applied");
        self.counters.add("operations_applied", u64::from(header.count));
        self.fresh.push((frame.clone(), Some(*session)));
        step.frames.push(frame.clone());
        true
    }

    /// A session ended: nothing more is awaited from it.
    pub(crate) fn forget_frames_of(&mut self, session: SessionId) {
        self.early.forget(session);
        self.forget_awaited(session);
    }

    /// Nothing that was asked for in a session is awaited any more.
    pub(crate) fn forget_awaited(&mut self, session: SessionId) {
        for keyspace in self.keyspaces.values_mut() {
            keyspace.awaited.retain(|_, (from, _)| *from != session);
        }
    }

    /// Keeps both histories, and asks this peer for no more of that author.
    fn keep_evidence(&mut self, arrived: &Early, view: &View<'_, '_>) {
        let frame = &arrived.frame;
        let header = frame.header();
        self.counters.count("frames_forked");
        let shared =
            self.links.get_mut(&arrived.session).and_then(|link| link.shared.get_mut(&header.keyspace));
        if let Some(shared) = shared {
            shared.refused.insert(header.author);
        }
        let is_known = self.evidence.iter().any(|proof| proof.refused == *frame.bytes());
        if is_known || self.evidence.len() == EVIDENCE_MAX {
            return;
        }
        tracing::error!(author = %header.author, seq = header.first, "an author has two histories; refused");
        // The frame at the same place or, if that is beyond our head, our head, which it does not follow.
        let dot = Dot::new(header.author, header.first);
        let held = [dot, Dot::new(header.author, header.first - 1)]
            .into_iter()
            .filter(|dot| dot.seq > 0)
            .find_map(|dot| view.log.frame_with(header.keyspace, dot).ok().flatten());
        self.evidence.push(Evidence {
            keyspace: header.keyspace,
            dot,
            applied: held.map(|held| held.bytes),
            refused: frame.bytes().clone(),
        });
    }
}

impl Tally {
    /// The sender has this, and we need it.
    fn misses(&mut self, dot: Dot) {
        let seq = self.missing.entry(dot.replica).or_default();
        *seq = dot.seq.max(*seq);
    }
}
