//! Fresh frames along trees: eager links push, a duplicate prunes a link, a gap grafts one.
//!
//! Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees" (SRDS 2007). A node never gives up its last
//! eager link of a keyspace, so that two prunes at once can not cut anybody off. Lazy links carry heads, which
//! are the paper's IHAVE.

use std::collections::BTreeSet;

use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, ReplicaId};
use crate::message::{FrameBytes, Message};
use crate::ports::{Log, SessionId};
use crate::replica::{Keyspace, Now, Replica, Step, View};

/// The frames of one push, in bytes, unless one frame is larger.
const PUSH_BYTES_MAX: usize = 1 << 20;

impl Replica {
    /// Pushes the frames of this turn, confirms what peers wait for.
    pub(crate) fn broadcast(&mut self, log: &dyn Log, step: &mut Step) {
        let fresh = std::mem::take(&mut self.fresh);
        let sessions: Vec<SessionId> = self.links.keys().copied().collect();
        for session in sessions {
            if !fresh.is_empty() {
                self.push(session, &fresh, log, step);
            }
            self.confirm_to(session, step);
            self.links.get_mut(&session).expect("the session is up").answered_bytes = 0;
        }
    }

    fn push(
        &mut self,
        session: SessionId,
        fresh: &[(Frame, Option<SessionId>)],
        log: &dyn Log,
        step: &mut Step,
    ) {
        let link = &self.links[&session];
        if link.is_congested {
            return;
        }
        let lacks = |frame: &Frame| {
            let header = frame.header();
            let shared = link.shared.get(&header.keyspace).filter(|shared| shared.is_eager);
            // Another anchor makes the same strong frames.
            let makes = header.epoch.is_strong() && link.seat.exact.contains(&header.keyspace);
            !makes && shared.is_some_and(|shared| !shared.has_told_of(header.last_dot()))
        };
        let frames: Vec<&Frame> = fresh
            .iter()
            .filter(|(frame, from)| *from != Some(session) && lacks(frame))
            .map(|(frame, _)| frame)
            .collect();
        let touched: BTreeSet<KeyspaceId> = fresh.iter().map(|(frame, _)| frame.header().keyspace).collect();
        for piece in pieces(&frames) {
            let cards = self.cards_for(session, &piece, log);
            self.counters.add("frames_pushed", piece.len() as u64);
            let frames = piece.iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
            step.sends.push((session, Message::Push { cards, frames }));
        }
        // The peer now knows of these heads: it was sent the frames, or they came from it, or it makes them itself.
        for id in touched {
            let Some(changes) = self.keyspace(id).map(Keyspace::changes) else { continue };
            let link = self.links.get_mut(&session).expect("the session is up");
            if let Some(shared) = link.shared.get_mut(&id).filter(|shared| shared.is_eager) {
                shared.announced = changes;
            }
        }
    }

    /// The cards of these frames' authors that were not sent in this session.
    fn cards_for(&mut self, session: SessionId, frames: &[&Frame], log: &dyn Log) -> Vec<AuthorCard> {
        let authors: BTreeSet<ReplicaId> = frames.iter().map(|frame| frame.header().author).collect();
        let link = self.links.get_mut(&session).expect("the session is up");
        let unsent: Vec<ReplicaId> =
            authors.into_iter().filter(|author| link.cards_sent.insert(*author)).collect();
        unsent.into_iter().filter_map(|author| self.card_known(author, log)).collect()
    }

    /// Tells the peer that its writes are on our disk, once they are: this goes out after the commit.
    fn confirm_to(&mut self, session: SessionId, step: &mut Step) {
        let link = &self.links[&session];
        let Some(author) = link.card.map(|card| card.replica()) else { return };
        let done: Vec<(KeyspaceId, u64)> = link
            .to_confirm
            .iter()
            .filter(|(keyspace, seq)| self.keyspace(**keyspace).is_some_and(|k| k.heads.seq(author) >= **seq))
            // Who is fenced acknowledges nothing of the epoch that ends: it may not be in the next one.
            .filter(|(keyspace, _)| self.is_open(**keyspace))
            .map(|(keyspace, seq)| (*keyspace, *seq))
            .collect();
        let link = self.links.get_mut(&session).expect("the session is up");
        for (keyspace, seq) in done {
            link.to_confirm.remove(&keyspace);
            step.sends.push((session, Message::Confirmed { keyspace, seq }));
        }
    }

    pub(crate) fn pushed(
        &mut self,
        now: Now,
        session: SessionId,
        frames: (Vec<AuthorCard>, Vec<FrameBytes>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(receipt) = self.receive(now, session, frames, view, step) else { return };
        for (keyspace, tally) in receipt {
            let is_useless = tally.duplicate > 0 && tally.applied + tally.early == 0;
            // The peer may push on a link that we have pruned already, if it had no other one: it is told again.
            if is_useless && self.has_other_eager_link(session, keyspace) {
                self.set_eager(session, keyspace, false);
                self.counters.count("links_pruned");
                step.sends.push((session, Message::Prune { keyspace }));
            }
            if !tally.missing.is_empty() {
                self.close_gap(now, session, keyspace, &tally.missing, step);
            }
        }
    }

    pub(crate) fn pruned(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        if self.has_other_eager_link(session, keyspace) {
            self.set_eager(session, keyspace, false);
        } else {
            step.sends.push((session, Message::Graft { keyspace }));
        }
    }

    pub(crate) fn grafted(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        self.set_eager(session, keyspace, true);
        self.announce(session, keyspace, step);
    }

    pub(crate) fn graft(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        let shared = self.links.get(&session).and_then(|link| link.shared.get(&keyspace));
        if shared.is_some_and(|shared| !shared.is_eager) {
            self.set_eager(session, keyspace, true);
            self.counters.count("links_grafted");
            step.sends.push((session, Message::Graft { keyspace }));
        }
    }

    fn set_eager(&mut self, session: SessionId, keyspace: KeyspaceId, is_eager: bool) {
        let shared = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&keyspace));
        if let Some(shared) = shared {
            shared.is_eager = is_eager;
        }
    }

    fn has_other_eager_link(&self, session: SessionId, keyspace: KeyspaceId) -> bool {
        let others = self.links.iter().filter(|(other, _)| **other != session);
        others.filter_map(|(_, link)| link.shared.get(&keyspace)).any(|shared| shared.is_eager)
    }

    /// A slow peer gets heads in place of frames until its queue has room, and then pulls.
    pub(crate) fn congested(&mut self, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session) {
            link.is_congested = true;
            // What was refused may have been any message: a card, heads, a question.
            link.cards_sent.clear();
            link.shared.values_mut().for_each(|shared| (shared.announced, shared.summary_sent) = (0, None));
            self.counters.count("peers_congested");
            self.forget_awaited(session);
        }
    }

    pub(crate) fn drained(&mut self, session: SessionId, step: &mut Step) {
        let Some(link) = self.links.get_mut(&session) else { return };
        link.is_congested = false;
        let shared: Vec<KeyspaceId> = link.shared.keys().copied().collect();
        let names = self.keyspaces().map(|(_, keyspace)| keyspace.name.clone()).collect();
        step.sends.push((session, Message::Keyspaces(names)));
        self.tell_of_left(session, step);
        for keyspace in shared {
            let link = self.links.get_mut(&session).expect("it was there");
            if link.shared.get_mut(&keyspace).is_some_and(|shared| std::mem::take(&mut shared.has_asked)) {
                // The answer may have been refused: have the peer ask again.
                let (cards, frames) = (Vec::new(), Vec::new());
                step.sends.push((session, Message::Answer { keyspace, cards, frames, has_more: true }));
            }
            self.summarize(session, keyspace, step);
            self.announce(session, keyspace, step);
        }
    }
}

/// Frames in runs of about one message each.
fn pieces<'a>(frames: &[&'a Frame]) -> Vec<Vec<&'a Frame>> {
    let mut pieces: Vec<Vec<&Frame>> = Vec::new();
    let mut bytes = 0;
    for frame in frames {
        let length = frame.bytes().len();
        match pieces.last_mut() {
            Some(piece) if bytes + length <= PUSH_BYTES_MAX => {
                piece.push(frame);
                bytes += length;
            }
            _ => {
                pieces.push(vec![frame]);
                bytes = length;
            }
        }
    }
    pieces
}
