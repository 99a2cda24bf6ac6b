//! Two histories of one author: to each peer one of them, and now and then the other.
//!
//! All histories of an author have equally many operations, and everybody is told all of one of them in the
//! end. An equivocator that leaves a history unfinished does more harm: that is a story of its own, in
//! `tests/hostile_members.rs`.

use std::collections::BTreeMap;

use tidelock_engine::causality::{Dot, Hlc, VersionVector};
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::PeerId;
use tidelock_engine::message::{FrameBytes, HeadEntry, Message, WantEntry};
use tidelock_engine::op::Op;
use tidelock_engine::ports::SessionId;

use super::forging::Forger;
use super::{Behaviour, Hostile, REPLICAS_MAX};
use crate::node::START_MS;

/// The histories of one author.
const HISTORIES: usize = 3;

/// The frames of one history; then another author begins.
const FRAMES_MAX: usize = 25;

/// A hundred years, in milliseconds.
const CENTURY_MS: u64 = 3_153_600_000_000;

/// The author of some histories, each with all that it has signed in it.
#[derive(Debug)]
struct Author {
    histories: Vec<(Forger, Vec<Frame>)>,
    /// So many frames are in all histories.
    forks_after: usize,
    /// Which history a peer has, and how much of it, as far as we know.
    told: BTreeMap<PeerId, (usize, u64)>,
}

/// All that an equivocator has signed.
#[derive(Debug)]
pub(super) struct Histories(Vec<Author>);

impl Histories {
    pub(super) fn new(key: &SigningKey) -> Self {
        let author = |nonce| Author {
            histories: vec![(Forger::new(key, nonce), Vec::new()); HISTORIES],
            forks_after: 4 * usize::from(nonce - 1),
            told: BTreeMap::new(),
        };
        Self((1..=REPLICAS_MAX).map(author).collect())
    }

    /// Learns from its heads which history a peer has.
    pub(super) fn note(&mut self, peer: PeerId, entries: &[HeadEntry]) {
        for author in &mut self.0 {
            let of_author = |entry: &&HeadEntry| entry.author == author.histories[0].0.author();
            let Some(entry) = entries.iter().find(of_author) else { continue };
            let is_head = |frame: &Frame| frame.id().as_bytes().starts_with(&entry.frame);
            let has = |(_, frames): &(Forger, Vec<Frame>)| frames.iter().any(is_head);
            // Before the fork all histories are the one that it is told.
            let is_told = author.told.get(&peer).is_some_and(|(which, _)| has(&author.histories[*which]));
            let which = author.histories.iter().position(has).filter(|_| !is_told);
            if let Some(which) = which.or_else(|| author.told.get(&peer).map(|(which, _)| *which)) {
                author.told.insert(peer, (which, entry.seq));
            }
        }
    }
}

impl Author {
    /// Goes on with every history by as many operations: the same ones before they fork, others after.
    fn go_on(&mut self, hlc: Hlc, after: &VersionVector, mut ops: impl FnMut(&Forger) -> Vec<Op>) {
        let is_common = self.histories[0].1.len() < self.forks_after;
        let common = ops(&self.histories[0].0);
        for (which, (forger, frames)) in self.histories.iter_mut().enumerate() {
            forger.hlc = hlc;
            let mut own = common.clone();
            if !is_common && which > 0 {
                let value = format!("{which}").into_bytes();
                let key = b"evil-fork".to_vec();
                own[0] = Op::Set { key, value, observed: Vec::new(), slots: Vec::new() };
            }
            frames.push(forger.frame(after, &own));
        }
    }

    /// The first frames of a history that no other one has.
    fn at_the_fork(&self, which: usize) -> Vec<FrameBytes> {
        let own = self.histories[which].1.iter().skip(self.forks_after).take(2);
        own.map(|frame| FrameBytes(frame.bytes().to_vec())).collect()
    }

    /// The frames of a history behind a seq.
    fn behind(&self, which: usize, seq: u64) -> Vec<FrameBytes> {
        let wanted = self.histories[which].1.iter().filter(|frame| frame.header().first > seq);
        wanted.map(|frame| FrameBytes(frame.bytes().to_vec())).collect()
    }
}

impl Hostile {
    /// Goes on with an author, and tells a peer the rest of its history, or of another.
    pub(super) fn equivocate(&mut self, session: SessionId) {
        let Some(peer) = self.sessions.get(&session).map(|of| of.peer) else { return };
        let ahead = if self.random.chance(50) { CENTURY_MS } else { 0 };
        let hlc = Hlc::at(START_MS + self.now_us / 1_000 + ahead);
        let after = self.dependencies();
        let (own, other, is_lie) =
            (self.random.below(HISTORIES), self.random.below(HISTORIES), self.random.chance(150));
        let random = &mut self.random;
        let unfinished = |author: &&mut Author| author.histories[0].1.len() < FRAMES_MAX;
        if let Some(author) = self.histories.0.iter_mut().find(unfinished) {
            author
                .go_on(hlc, &after, |forger| (0..=random.below(2)).map(|_| forger.any_op(random)).collect());
        }
        let mut messages = Vec::new();
        for author in self.histories.0.iter_mut().filter(|author| !author.histories[0].1.is_empty()) {
            let (which, seq) = *author.told.entry(peer).or_insert((own, 0));
            let frames = if is_lie { author.at_the_fork(other) } else { author.behind(which, seq) };
            if !is_lie {
                // It mostly arrives; what does not is told again.
                let is_heard = self.random.chance(800);
                let end = author.histories[which].0.last_dot().seq;
                author.told.insert(peer, (which, if is_heard { end } else { 0 }));
            }
            if !frames.is_empty() {
                messages.push(Message::Push { cards: vec![author.histories[0].0.card], frames });
            }
        }
        for message in messages {
            self.tally.count(Behaviour::Equivocates.name());
            self.say(session, &message);
        }
    }

    /// Mostly nothing, sometimes what honest authors have written, and sometimes what they have not.
    fn dependencies(&mut self) -> VersionVector {
        let Some(seen) = self.promises.any_head(&mut self.random) else { return VersionVector::default() };
        match self.random.below(100) {
            0..20 => [seen].into_iter().collect(),
            20 => [Dot::new(seen.replica, seen.seq + 1_000)].into_iter().collect(),
            _ => VersionVector::default(),
        }
    }

    /// Answers who asks for frames of ours with the history that it is told; answers whether that was asked.
    pub(super) fn tell_history(&mut self, session: SessionId, wants: &[WantEntry]) -> bool {
        let Some(peer) = self.sessions.get(&session).map(|of| of.peer) else { return false };
        let mut answers = Vec::new();
        for WantEntry { author, after } in wants {
            let of_author = |one: &&Author| one.histories[0].0.author() == *author;
            let Some(author) = self.histories.0.iter().find(of_author) else { continue };
            let which = author.told.get(&peer).map_or(0, |(which, _)| *which);
            let (forger, frames) = (&author.histories[which].0, author.behind(which, *after));
            let (keyspace, cards) = (forger.keyspace, vec![forger.card]);
            answers.push(Message::Answer { keyspace, cards, frames, has_more: false });
        }
        answers.iter().for_each(|answer| self.say(session, answer));
        !answers.is_empty()
    }
}
