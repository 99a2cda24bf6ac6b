//! Frames from peers: what is a duplicate, what is too early, what is a lie, and what is applied.
//!
//! A frame is applied when it holds its author's next operation and all that it requires was applied. One that
//! comes early waits in a bounded buffer outside the version vector; one that does not fit is dropped and
//! pulled again later. Nothing is applied that its author did not sign.
//!
//! A frame that does not follow the one before it proves that its author has two histories. It is applied all
//! the same, by its numbers: so whatever one replica has applied, any other can apply, in the same order.
//! Otherwise a member that tells two stories would keep honest writes, made after one of them, from all who were
//! told the other.

use std::collections::BTreeMap;

use crate::apply::apply_frame;
use crate::causality::{Dot, Head, Observed};
use crate::frame::{Frame, FrameError};
use crate::id::{AuthorCard, Epoch, FrameId, KeyspaceId, ReplicaId};
use crate::message::FrameBytes;
use crate::mode::Mode;
use crate::ports::SessionId;
use crate::replica::early::Early;
use crate::replica::evidence::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, Evidence};
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
    /// Another history of its author than the one that was applied.
    Fork,
    /// Our own history, which nobody else can write.
    Own,
    /// It may not be applied by itself in the epoch that the keyspace is in.
    Held,
}

impl Replica {
    /// Takes in the frames of one message. A peer that sent one which cannot be taken in is refused.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        session: SessionId,
        sent: (Vec<AuthorCard>, Vec<FrameBytes>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Option<Receipt> {
        let received = self.take_frames(now, session, sent, view, step).inspect_err(|error| {
            self.counters.count("refused_frames");
            self.refuse(session, &error.to_string(), step);
        });
        received.ok()
    }

    /// Takes in frames one by one.
    ///
    /// # Errors
    /// A frame is malformed or not signed by its author. Those before it were taken in, the session must end.
    fn take_frames(
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
            if self.takes_over(keyspace) || self.orders.is_leaving(keyspace) {
                // It is fetched again, if the state that is taken over does not hold it.
                self.counters.count("frames_deferred");
                continue;
            }
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
                let mut next = Some(arrived);
                let mut woken = Vec::new();
                while let Some(possible) = next {
                    let header = possible.frame.header();
                    if self.apply(now, &possible, view, step) {
                        tally.applied += 1;
                        woken.extend(self.early.wake(header.keyspace, header.last_dot()));
                    } else {
                        tally.misses(header.last_dot());
                    }
                    next = self.next_possible(&mut woken, view);
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
            Verdict::Fork => self.compare(&arrived.frame, view),
            Verdict::Own => self.keep_evidence(&arrived.frame, view),
            Verdict::Held => {
                self.counters.count("frames_held");
                let header = arrived.frame.header();
                if header.epoch > self.mode(header.keyspace).map(Mode::epoch).unwrap_or_default() {
                    tally.misses(header.last_dot());
                }
            }
            Verdict::Duplicate => {}
        }
    }

    /// Looks again at frames that waited, up to one that may be applied now. Each is looked at when its turn has
    /// come: of two histories both may have waited for the same.
    fn next_possible(&mut self, woken: &mut Vec<Early>, view: &View<'_, '_>) -> Option<Early> {
        while let Some(early) = woken.pop() {
            match self.judge(&early.frame, view) {
                Verdict::Apply => return Some(early),
                Verdict::Early(missing) => drop(self.early.keep(early, missing)),
                Verdict::Duplicate | Verdict::Held => {}
                Verdict::Fork => self.compare(&early.frame, view),
                Verdict::Own => self.keep_evidence(&early.frame, view),
            }
        }
        None
    }

    fn card_of(&self, author: ReplicaId, view: &View<'_, '_>) -> Option<AuthorCard> {
        self.card_known(author, view.log).or_else(|| self.early.card(author))
    }

    /// Cases: (1) all of it was applied, and it is the same frame or, at the head of the chain or where we
    /// still hold the other one, provably another; (2) it is our own and we do not have it: our replica has two
    /// histories; (3) its epoch has not begun here, or is over; (4) something it requires is missing; (5) it holds the
    /// author's next operation.
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
        let is_taken = match self.mode(header.keyspace) {
            Some(mode) => mode.takes_frame(header),
            None => header.epoch == Epoch(0),
        };
        if !is_taken {
            return Verdict::Held;
        }
        if header.first > applied + 1 {
            return Verdict::Early(Dot::new(header.author, header.first - 1));
        }
        frame.requirements().find(|dot| !heads.covers(*dot)).map_or(Verdict::Apply, Verdict::Early)
    }

    /// Applies a frame that may be applied; answers whether it could be.
    fn apply(&mut self, now: Now, arrived: &Early, view: &mut View<'_, '_>, step: &mut Step) -> bool {
        let Early { frame, card, session } = arrived;
        let header = frame.header();
        // A frame of our own must depend on exactly what its operations saw.
        self.seal(header.keyspace, step);
        let head = self.keyspaces[&header.keyspace].heads.get(header.author);
        let (applied, previous) = head.map_or((0, FrameId::NONE), |head| (head.seq, head.frame));
        let mark = view.draft.mark();
        if let Err(error) = apply_frame(view.draft, frame, applied) {
            view.draft.take_back(mark);
            tracing::error!(%error, "cannot apply a frame; it will be pulled again");
            self.counters.count("frames_not_applied");
            return false;
        }
        view.draft.keep(mark);
        if applied == 0 {
            step.cards.push(*card);
        }
        if (header.first, header.previous) != (applied + 1, previous) {
            self.keep_evidence(frame, view);
        }
        self.cards.insert(header.author, *card);
        self.keyspaces.get_mut(&header.keyspace).expect("judged before").advance_by(frame);
        self.touched.insert(header.keyspace);
        self.note_retirements(frame);
        self.note_resets(frame);
        if self.clock.observe(now.unix_ms, header.hlc) == Observed::Ahead {
            self.counters.count("stamps_ahead");
        }
        self.counters.count("frames_applied");
        self.counters.add("operations_applied", header.last() - applied);
        self.fresh.push((frame.clone(), Some(*session)));
        step.frames.push(frame.clone());
        self.followed(now, frame, view, step);
        true
    }

    /// Takes in that a frame was applied with state that was taken over.
    pub(crate) fn took_over(&mut self, now: Now, frame: Frame, step: &mut Step) {
        let header = frame.header();
        self.keyspaces.get_mut(&header.keyspace).expect("it was applied there").advance_by(&frame);
        self.note_retirements(&frame);
        self.note_resets(&frame);
        if self.clock.observe(now.unix_ms, header.hlc) == Observed::Ahead {
            self.counters.count("stamps_ahead");
        }
        step.frames.push(frame);
    }

    /// Applies the frames that waited for what was taken over.
    pub(crate) fn wake_all(
        &mut self,
        now: Now,
        id: KeyspaceId,
        dots: &[Dot],
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let mut woken: Vec<Early> = dots.iter().flat_map(|dot| self.early.wake(id, *dot)).collect();
        while let Some(possible) = self.next_possible(&mut woken, view) {
            if self.apply(now, &possible, view, step) {
                woken.extend(self.early.wake(id, possible.frame.header().last_dot()));
            }
        }
    }

    /// Takes in that the heads of a keyspace changed in this turn.
    pub(crate) fn touch(&mut self, id: KeyspaceId) {
        self.touched.insert(id);
    }

    /// Takes in the card of an author, which goes with the commit.
    pub(crate) fn know_card(&mut self, card: AuthorCard) {
        self.cards.insert(card.replica(), card);
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

    /// Takes in another history of what was applied. Where it is the last frame that differs, all who know both
    /// take the smaller one for the head, so that their heads are equal again and their rows are compared.
    fn compare(&mut self, frame: &Frame, view: &View<'_, '_>) {
        self.keep_evidence(frame, view);
        let header = frame.header();
        let keyspace = self.keyspaces.get_mut(&header.keyspace).expect("judged before");
        let head = keyspace.heads.get(header.author).expect("it was applied");
        if header.author != self.id && header.last() == head.seq && frame.id() < head.frame {
            keyspace.advance(header.author, Head { seq: head.seq, frame: frame.id() });
            self.touched.insert(header.keyspace);
        }
    }

    /// Keeps both histories.
    fn keep_evidence(&mut self, frame: &Frame, view: &View<'_, '_>) {
        let header = frame.header();
        self.counters.count("frames_forked");
        if header.author == self.id {
            self.note_fork(header.keyspace, header.first);
        }
        // The frame at the same place or, if that is beyond our head, our head, which it does not follow.
        let dot = Dot::new(header.author, header.first);
        let applied = [dot, Dot::new(header.author, header.first - 1)]
            .into_iter()
            .filter(|dot| dot.seq > 0)
            .find_map(|dot| view.log.frame_with(header.keyspace, dot).ok().flatten())
            .map(|held| held.bytes);
        let proof = Evidence { keyspace: header.keyspace, dot, applied, other: frame.bytes().clone() };
        let is_known = self.evidence.iter().any(|known| known.other == proof.other);
        let bytes: usize = self.evidence.iter().map(Evidence::bytes).sum();
        let has_room = self.evidence.len() < EVIDENCE_MAX && bytes + proof.bytes() <= EVIDENCE_BYTES_MAX;
        if has_room && !is_known {
            tracing::error!(author = %header.author, seq = header.first, "an author has two histories");
            self.evidence.push(proof);
        }
    }

    /// Whether an author in a keyspace is known to have two histories.
    pub(crate) fn has_forks(&self, id: KeyspaceId) -> bool {
        self.evidence.iter().any(|proof| proof.keyspace == id)
    }

    /// The frames of other histories that somebody lacks who has the given authors up to the given seq, up to some
    /// bytes: who knows only one history learns here that there are two. None is beyond our heads.
    pub(crate) fn other_histories(
        &self,
        id: KeyspaceId,
        after: &BTreeMap<ReplicaId, u64>,
        bytes_max: usize,
    ) -> Vec<FrameBytes> {
        let Some(keyspace) = self.keyspace(id) else { return Vec::new() };
        let mut bytes = 0;
        let proofs = self.evidence.iter().filter(|proof| proof.keyspace == id);
        let lacking = proofs.filter(|proof| {
            let last = Frame::peek(&proof.other);
            let after = last.and_then(|last| after.get(&last.replica).map(|after| (last, *after)));
            after.is_some_and(|(last, after)| last.seq > after && keyspace.heads.covers(last))
        });
        let within = lacking.take_while(|proof| {
            bytes += proof.other.len();
            bytes <= bytes_max
        });
        within.map(|proof| FrameBytes(proof.other.to_vec())).collect()
    }
}

impl Tally {
    /// The sender has this, and we need it.
    fn misses(&mut self, dot: Dot) {
        let seq = self.missing.entry(dot.replica).or_default();
        *seq = dot.seq.max(*seq);
    }
}
