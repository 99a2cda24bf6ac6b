//! Promises that are not kept: heads whose frames never come, answers that hold nothing and promise more.

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::Dot;
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::message::{HeadEntry, Message};
use tidelock_engine::ports::SessionId;

use super::{Behaviour, Hostile};
use crate::random::Random;
use crate::world::{NOTES, keyspace_id};

/// The longest time that an answer is held back, in microseconds. An honest peer gives up after five seconds.
const HELD_BACK_US: u64 = 4_900_000;

/// What a withholder knows of the heads of others, and what it has promised.
#[derive(Debug, Default)]
pub(super) struct Promises {
    seen: BTreeMap<ReplicaId, u64>,
    /// Answers that come late: when, to whom, and whether they promise more.
    late: BTreeSet<(u64, SessionId, bool)>,
}

impl Promises {
    /// Remembers heads that somebody has.
    pub(super) fn note(&mut self, keyspace: KeyspaceId, entries: &[HeadEntry]) {
        for entry in entries.iter().filter(|_| keyspace == keyspace_id(NOTES)) {
            self.see(Dot::new(entry.author, entry.seq));
        }
    }

    /// Remembers an operation that somebody has.
    pub(super) fn see(&mut self, dot: Dot) {
        let seq = self.seen.entry(dot.replica).or_default();
        *seq = dot.seq.max(*seq);
    }

    /// The authors that were heard of.
    pub(super) fn authors(&self) -> impl Iterator<Item = ReplicaId> {
        self.seen.keys().copied()
    }

    /// The head of an author that was heard of.
    pub(super) fn any_head(&self, random: &mut Random) -> Option<Dot> {
        let seen: Vec<Dot> = self.seen.iter().map(|(author, seq)| Dot::new(*author, *seq)).collect();
        (!seen.is_empty()).then(|| *random.pick(&seen))
    }
}

impl Hostile {
    /// Announces more of every author than there is.
    pub(super) fn promise(&mut self, session: SessionId) {
        let beyond = self.random.between(1, 500);
        let entry = |(author, seq): (&ReplicaId, &u64)| HeadEntry {
            author: *author,
            seq: seq + beyond,
            frame: [0xee; 8],
        };
        let entries: Vec<HeadEntry> = self.promises.seen.iter().map(entry).collect();
        if !entries.is_empty() {
            self.tally.count(Behaviour::Withholds.name());
            self.say(session, &Message::Heads { keyspace: keyspace_id(NOTES), entries });
        }
    }

    /// Is asked for frames: says nothing, or that there is more, or that there is nothing, or each of it late.
    pub(super) fn withhold(&mut self, session: SessionId, keyspace: KeyspaceId) {
        self.tally.count("withheld answers");
        match self.random.below(4) {
            0 => {}
            1 => self.answer_nothing(session, keyspace, true),
            2 => self.answer_nothing(session, keyspace, false),
            _ => {
                let at = self.now_us + self.random.between(HELD_BACK_US / 2, HELD_BACK_US);
                self.promises.late.insert((at, session, true));
            }
        }
    }

    fn answer_nothing(&mut self, session: SessionId, keyspace: KeyspaceId, has_more: bool) {
        let (cards, frames) = (Vec::new(), Vec::new());
        self.say(session, &Message::Answer { keyspace, cards, frames, has_more });
    }

    /// Sends the late answers that are due, and new promises behind them.
    pub(super) fn keep_promises(&mut self) {
        while let Some((at, session, has_more)) = self.promises.late.first().copied() {
            if at > self.now_us {
                return;
            }
            self.promises.late.pop_first();
            self.answer_nothing(session, keyspace_id(NOTES), has_more);
            self.promise(session);
        }
    }
}
