//! The moment of taking over: rows, heads and frames become the state of a keyspace in one commit.

use std::collections::BTreeMap;

use crate::apply::{apply_again, apply_install};
use crate::causality::{Dot, Head, VersionVector};
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, ReplicaId};
use crate::install::Install;
use crate::ports::{LogEntry, LogPosition, Rows};
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Payload, RowId};

use super::sink::{Failure, Sink, Way};

/// The records of the own log that are looked at in one piece.
const OWN_RECORDS: usize = 64;

/// State that is ready to be the state of a keyspace.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) install: Install,
    /// The frames that the source committed meanwhile.
    pub(super) tail: Vec<Frame>,
    /// Those that the own log holds, of a keyspace whose rows were lost.
    pub(super) held: Vec<Frame>,
}

impl Replica {
    /// Takes everything over: rows, heads, and the frames that came meanwhile.
    pub(super) fn flip(
        &mut self,
        now: Now,
        id: KeyspaceId,
        sink: Sink,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let keyspace = &self.keyspaces[&id];
        let newer = sink.heads.iter().filter(|(author, head)| keyspace.heads.seq(**author) < head.seq);
        let heads: Vec<(ReplicaId, Head)> =
            newer.map(|(author, head)| (*author, Head { seq: head.seq, frame: head.frame })).collect();
        if sink.spill.is_some() {
            return self.begin_to_apply(id, sink, &heads, view, step);
        }
        let held =
            if sink.way == Way::Mirror && keyspace.is_partial { held_frames(id, view)? } else { Vec::new() };
        let rows = self.settled(id, sink.staged, view)?;
        let install = Install { keyspace: id, rows, heads: Some(heads) };
        self.complete(now, Settled { install, tail: sink.tail, held }, &sink.cards, view, step)
    }

    /// What rows that were staged are to be, now that those here may have changed: a slot merges with the one that
    /// is here, and if that was closed meanwhile it stays so.
    pub(super) fn settled(
        &self,
        id: KeyspaceId,
        staged: impl IntoIterator<Item = (RowId, Option<Payload>)>,
        view: &View<'_, '_>,
    ) -> Result<Vec<(RowId, Option<Payload>)>, Failure> {
        let heads = &self.keyspaces[&id].heads;
        let mut settled = Vec::new();
        for (row, payload) in staged {
            let payload = match payload {
                Some(Payload::Slot(theirs)) => match view.draft.row(id, &row)? {
                    Some(Payload::Slot(mine)) => Some(Payload::Slot(mine.merged(theirs))),
                    _ if heads.covers(row.dot) => continue,
                    _ => Some(Payload::Slot(theirs)),
                },
                other => other,
            };
            settled.push((row, payload));
        }
        Ok(settled)
    }

    /// Makes what was taken over the state of the keyspace.
    pub(super) fn complete(
        &mut self,
        now: Now,
        settled: Settled,
        cards: &BTreeMap<ReplicaId, AuthorCard>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let Settled { install, tail, held } = settled;
        let id = install.keyspace;
        let mark = view.draft.mark();
        let applied = self.draft_all(&install, tail, held, view);
        let applied = match applied {
            Ok(applied) => {
                view.draft.keep(mark);
                applied
            }
            Err(failure) => {
                view.draft.take_back(mark);
                return Err(failure);
            }
        };
        let of_heads = install.heads.iter().flatten().map(|(author, head)| Dot::new(*author, head.seq));
        let of_frames = applied.iter().map(|frame| frame.header().last_dot());
        let dots: Vec<Dot> = of_heads.chain(of_frames).collect();
        self.adopt(now, install, applied, cards, view, step);
        let has = self.keyspaces[&id].heads.seq(self.id());
        if has < view.log.floor(id, self.id()) {
            // Our own rows were lost, and nobody has all that we wrote.
            self.note_fork(id, has + 1);
        }
        self.wake_all(now, id, &dots, view, step);
        self.took_over_state(now, id, view, step);
        Ok(())
    }

    /// Applies everything to the draft: what the source has, and of the frames `held` here those that follow it.
    /// Answers the frames that were new.
    fn draft_all(
        &self,
        install: &Install,
        tail: Vec<Frame>,
        held: Vec<Frame>,
        view: &mut View<'_, '_>,
    ) -> Result<Vec<Frame>, Failure> {
        let mut at = self.keyspaces[&install.keyspace].heads.vector();
        for (author, head) in install.heads.iter().flatten() {
            at.raise(Dot::new(*author, head.seq));
        }
        apply_install(view.draft, install)?;
        let mut applied = Vec::new();
        let of_source = tail.len();
        for (number, frame) in tail.into_iter().chain(held).enumerate() {
            let seq = at.get(frame.header().author);
            match follow(&mut at, &frame) {
                Ok(true) => {
                    apply_again(view.draft, &frame, seq)?;
                    applied.push(frame);
                }
                Ok(false) => {}
                // What was between it and the state is gone, here and there.
                Err(_) if number >= of_source => {}
                Err(failure) => return Err(failure),
            }
        }
        let is_outside = |(row, payload): &(RowId, Option<Payload>)| payload.is_some() && !at.covers(row.dot);
        if install.rows.iter().any(is_outside) {
            return Err(Failure::Lie("rows that no frame explains"));
        }
        Ok(applied)
    }

    /// Makes what was drafted the state of the keyspace.
    fn adopt(
        &mut self,
        now: Now,
        install: Install,
        frames: Vec<Frame>,
        cards: &BTreeMap<ReplicaId, AuthorCard>,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let id = install.keyspace;
        let of_rows = install.rows.iter().map(|(row, _)| row.dot.replica);
        let of_heads = install.heads.iter().flatten().map(|(author, _)| *author);
        let of_frames = frames.iter().map(|frame| frame.header().author);
        let authors: Vec<ReplicaId> = of_rows.chain(of_heads).chain(of_frames).collect();
        self.note_cards(authors, cards, view, step);
        let keyspace = self.keyspaces.get_mut(&id).expect("looked up before");
        for (author, head) in install.heads.iter().flatten() {
            keyspace.advance(*author, *head);
        }
        keyspace.is_partial = false;
        keyspace.generation += 1;
        let shared = self.links.values_mut().filter_map(|link| link.shared.get_mut(&id));
        shared.for_each(|shared| shared.below_since_ms = None);
        keyspace.look_for_spent_slots();
        step.installs.push((step.frames.len(), install));
        self.counters.count("transfers_done");
        for frame in frames {
            self.took_over(now, frame, step);
        }
        self.touch(id);
    }

    /// Takes over rows alone.
    pub(super) fn install(
        &mut self,
        install: Install,
        cards: &BTreeMap<ReplicaId, AuthorCard>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mark = view.draft.mark();
        if let Err(error) = apply_install(view.draft, &install) {
            view.draft.take_back(mark);
            return Err(error.into());
        }
        view.draft.keep(mark);
        let authors: Vec<ReplicaId> = install.rows.iter().map(|(row, _)| row.dot.replica).collect();
        self.note_cards(authors, cards, view, step);
        let id = install.keyspace;
        self.keyspaces.get_mut(&id).expect("looked up before").is_partial = install.heads.is_none();
        step.installs.push((step.frames.len(), install));
        self.touch(id);
        Ok(())
    }

    /// The cards of authors that are new here go with the commit.
    pub(super) fn note_cards(
        &mut self,
        authors: Vec<ReplicaId>,
        cards: &BTreeMap<ReplicaId, AuthorCard>,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        for author in authors {
            let card = cards.get(&author).copied().or_else(|| self.card_cached(author));
            // What is known of it here may be only heard: that of an epoch's author comes with the mode.
            let is_stored = view.log.card(author).is_ok_and(|stored| stored.is_some());
            if let Some(card) = card.filter(|_| !is_stored) {
                self.know_card(card);
                step.cards.push(card);
            }
        }
    }
}

/// Takes in that a frame comes next; answers whether it holds anything new.
pub(super) fn follow(at: &mut VersionVector, frame: &Frame) -> Result<bool, Failure> {
    let (header, seq) = (frame.header(), at.get(frame.header().author));
    if header.last() <= seq {
        return Ok(false);
    }
    if header.first > seq + 1 || !frame.requirements().all(|dot| at.covers(dot)) {
        return Err(Failure::Lie("frames that do not follow the state"));
    }
    at.raise(header.last_dot());
    Ok(true)
}

/// The frames of a keyspace that the own log holds.
fn held_frames(id: KeyspaceId, view: &View<'_, '_>) -> Result<Vec<Frame>, Failure> {
    let mut frames = Vec::new();
    let mut from = view.log.first();
    loop {
        let records = view.log.records_from(from, OWN_RECORDS)?;
        let Some(last) = records.last() else { return Ok(frames) };
        from = LogPosition(last.position.0 + 1);
        for record in &records {
            if let LogEntry::Frame(bytes) = &record.entry
                && Frame::place(bytes).is_some_and(|(keyspace, _)| keyspace == id)
                && let Ok(frame) = Frame::decode(bytes)
            {
                frames.push(frame);
            }
        }
    }
}
