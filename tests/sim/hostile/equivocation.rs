//! Several histories of one author: to each peer pieces of any of them, finished or not.

use tidelock_engine::causality::{Dot, Hlc, VersionVector};
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::message::{FrameBytes, Message, WantEntry};
use tidelock_engine::op::Op;
use tidelock_engine::ports::SessionId;

use super::forging::Forger;
use super::{Behaviour, Hostile, REPLICAS_MAX};
use crate::node::START_MS;
use crate::random::Random;

/// The histories of one author.
const HISTORIES: usize = 3;

/// The frames of the longest history; then another author begins.
const FRAMES_MAX: usize = 25;

/// A hundred years, in milliseconds.
const CENTURY_MS: u64 = 3_153_600_000_000;

/// The author of some histories, each with all that it has signed in it.
#[derive(Debug)]
struct Author {
    histories: Vec<(Forger, Vec<Frame>)>,
    /// So many frames are in all histories.
    forks_after: usize,
}

/// All that an equivocator has signed.
#[derive(Debug)]
pub(super) struct Histories(Vec<Author>);

impl Histories {
    pub(super) fn new(key: &SigningKey) -> Self {
        let author = |nonce| Author {
            histories: vec![(Forger::new(key, nonce), Vec::new()); HISTORIES],
            forks_after: 4 * usize::from(nonce - 1),
        };
        Self((1..=REPLICAS_MAX).map(author).collect())
    }
}

impl Author {
    fn length(&self) -> usize {
        self.histories.iter().map(|(_, frames)| frames.len()).max().unwrap_or(0)
    }

    /// Goes on with all histories before they fork, and with one of them after.
    fn go_on(&mut self, hlc: Hlc, after: &VersionVector, random: &mut Random) {
        let one = random.below(HISTORIES);
        let ops: Vec<Op> = (0..=random.below(3)).map(|_| self.histories[one].0.any_op(random)).collect();
        let is_common = self.length() < self.forks_after;
        for (_, (forger, frames)) in
            self.histories.iter_mut().enumerate().filter(|(n, _)| is_common || *n == one)
        {
            forger.hlc = hlc;
            frames.push(forger.frame(after, &ops));
        }
    }

    /// Some of the frames of a history that hold something behind a seq.
    fn behind(&self, seq: u64, random: &mut Random) -> Vec<FrameBytes> {
        let (_, frames) = &self.histories[random.below(HISTORIES)];
        let behind: Vec<&Frame> = frames.iter().filter(|frame| frame.header().last() > seq).collect();
        let count = if random.chance(500) { behind.len() } else { random.below(behind.len() + 1) };
        behind[..count].iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect()
    }
}

impl Hostile {
    /// Goes on with an author, and tells a peer pieces of the histories of all.
    pub(super) fn equivocate(&mut self, session: SessionId) {
        let ahead = if self.random.chance(50) { CENTURY_MS } else { 0 };
        let hlc = Hlc::at(START_MS + self.now_us / 1_000 + ahead);
        let after = self.dependencies();
        let random = &mut self.random;
        if let Some(author) = self.histories.0.iter_mut().find(|author| author.length() < FRAMES_MAX) {
            author.go_on(hlc, &after, random);
        }
        let mut messages = Vec::new();
        for author in &self.histories.0 {
            let last = author.histories.iter().map(|(forger, _)| forger.next).max().unwrap_or(0);
            let from = if random.chance(500) { 0 } else { random.next() % last };
            let frames = author.behind(from, random);
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

    /// Answers who asks for frames of ours with a piece of any history; answers whether they were asked for.
    pub(super) fn tell_history(&mut self, session: SessionId, wants: &[WantEntry]) -> bool {
        let mut answers = Vec::new();
        for WantEntry { author, after } in wants {
            let of_author = |one: &&Author| one.histories[0].0.author() == *author;
            let Some(author) = self.histories.0.iter().find(of_author) else { continue };
            let frames = author.behind(*after, &mut self.random);
            let forger = &author.histories[0].0;
            let (keyspace, cards) = (forger.keyspace, vec![forger.card]);
            answers.push(Message::Answer { keyspace, cards, frames, has_more: false });
        }
        answers.iter().for_each(|answer| self.say(session, answer));
        !answers.is_empty()
    }
}
