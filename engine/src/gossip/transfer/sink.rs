//! The side that takes over state: it asks, keeps what differs beside the rows, and takes all of it over at once.

use std::collections::{BTreeMap, VecDeque};

use crate::causality::{Dot, VersionVector};
use crate::frame::Frame;
use crate::id::{AuthorCard, Epoch, KeyspaceId, ReplicaId};
use crate::message::{FrameBytes, Message, StateHead};
use crate::ports::{LogPosition, ReadError, SessionId};
use crate::ranges::Range;
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Payload, RowId};

use super::SILENT_MS;
use super::staging::Spill;

/// The frames that the source committed meanwhile are kept in memory up to so many bytes.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// How long a peer that has some of what is lacking may still bring it, before state is taken over, in milliseconds.
const BELOW_MS: u64 = 1_000;

/// State that is being taken over.
#[derive(Debug)]
pub(crate) struct Sink {
    /// With whom; none when the session ended.
    session: Option<SessionId>,
    pub(super) way: Way,
    /// The source's heads when it began; empty before it did.
    pub(super) heads: BTreeMap<ReplicaId, StateHead>,
    /// The source's vector when it answered last.
    pub(super) vector: VersionVector,
    pub(super) cards: BTreeMap<ReplicaId, AuthorCard>,
    /// Up to where the source's log was taken.
    pub(super) position: LogPosition,
    /// The ranges that are still to be compared.
    pub(super) open: VecDeque<Range>,
    /// Those that were asked for.
    pub(super) asked: Vec<Range>,
    /// What rows are to be, or that they go; see `Replica::settled`.
    pub(super) staged: BTreeMap<RowId, Option<Payload>>,
    pub(super) staged_bytes: usize,
    /// What is in the log already of what differs.
    pub(super) spill: Option<Spill>,
    pub(super) tail: Vec<Frame>,
    tail_bytes: usize,
    heard_ms: u64,
}

/// What the rows of the source are to the own ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Both are states of the keyspace, and merge.
    Merge,
    /// They take their place, whatever these are.
    Mirror,
    /// They ought to be the same.
    Repair {
        /// Whether more have those of the source.
        takes_theirs: bool,
    },
}

/// Why a transfer ends without a result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source breaks a rule.
    Lie(&'static str),
    /// It has operations of our own replica that are not here, from this one on.
    Forked(u64),
    /// The source committed more meanwhile than fits memory.
    TooMuch,
    /// The rows here do not have their own fingerprint.
    Damaged,
    /// The rows here cannot be read.
    Read(ReadError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Sink {
    pub(super) fn new(session: SessionId, way: Way, now_ms: u64) -> Self {
        Self {
            session: Some(session),
            way,
            heads: BTreeMap::new(),
            vector: VersionVector::default(),
            cards: BTreeMap::new(),
            position: LogPosition(0),
            open: VecDeque::new(),
            asked: Vec::new(),
            staged: BTreeMap::new(),
            staged_bytes: 0,
            spill: None,
            tail: Vec::new(),
            tail_bytes: 0,
            heard_ms: now_ms,
        }
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        if self.session == Some(session) {
            self.session = None;
        }
    }

    pub(super) fn stage(&mut self, row: RowId, payload: Option<Payload>) {
        self.staged_bytes += staged_bytes(&row, payload.as_ref());
        self.staged.insert(row, payload);
    }

    /// Takes what was staged out of memory.
    pub(super) fn take_staged(&mut self) -> Vec<(RowId, Option<Payload>)> {
        self.staged_bytes = 0;
        std::mem::take(&mut self.staged).into_iter().collect()
    }
}

impl Replica {
    /// A peer has the state of what is lacking here, and not the frames.
    pub(crate) fn below(&mut self, session: SessionId, id: KeyspaceId) {
        let now_ms = self.mono_ms;
        let shared = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&id));
        if let Some(shared) = shared {
            shared.below_since_ms.get_or_insert(now_ms);
        }
    }

    /// Whether frames of others are not applied to a keyspace now.
    pub(crate) fn takes_over(&self, id: KeyspaceId) -> bool {
        let takes = |sink: &Sink| !matches!(sink.way, Way::Repair { .. });
        let keyspace = self.keyspaces.get(&id);
        keyspace.is_some_and(|keyspace| keyspace.is_partial || keyspace.sink.as_ref().is_some_and(takes))
    }

    /// Begins the transfers that are due, and gives up those of which nothing is heard any more.
    pub(super) fn tick_sinks(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let mut due = Vec::new();
        for (id, keyspace) in &mut self.keyspaces {
            let is_over = |sink: &Sink| sink.session.is_none() || now_ms >= sink.heard_ms + SILENT_MS;
            if keyspace.sink.as_ref().is_some_and(is_over) {
                keyspace.sink = None;
                self.counters.count("transfers_given_up");
            }
            if keyspace.sink.is_none() && keyspace.staging.is_none() {
                due.push(*id);
            }
        }
        for id in due {
            if let Some(session) = self.source_for(id) {
                let sink = Sink::new(session, Way::Merge, now_ms);
                self.keyspaces.get_mut(&id).expect("it was there").sink = Some(sink);
                self.counters.count("transfers_begun");
                step.sends.push((session, Message::Take { keyspace: id }));
            }
        }
    }

    /// A peer to take state from: one that has what is lacking and cannot send it as frames. Whose rows are those
    /// of no vector can take nothing else, from anybody.
    fn source_for(&mut self, id: KeyspaceId) -> Option<SessionId> {
        let now_ms = self.mono_ms;
        let keyspace = &self.keyspaces[&id];
        if self.fork().is_some_and(|fork| fork.keyspace == id) {
            // What peers have of us would be taken over as ours.
            return None;
        }
        if self.mode(id).is_some_and(|mode| mode.is_exact() || mode.is_fenced()) {
            return None;
        }
        let mut found = None;
        for (session, link) in &mut self.links {
            let Some(shared) = link.shared.get_mut(&id).filter(|_| !link.is_congested) else { continue };
            if keyspace.is_partial {
                // Each in its turn: some of them may be partial too.
                let since_ms = shared.below_since_ms.unwrap_or(0);
                let is_rested = since_ms == 0 || now_ms >= since_ms + BELOW_MS;
                if is_rested && found.is_none_or(|(least, _)| since_ms < least) {
                    found = Some((since_ms, *session));
                }
            } else if let Some(since_ms) = shared.below_since_ms {
                if shared.is_in_sync {
                    shared.below_since_ms = None;
                } else if now_ms >= since_ms + BELOW_MS {
                    found = found.or(Some((since_ms, *session)));
                }
            }
        }
        let (_, session) = found?;
        let link = self.links.get_mut(&session).expect("it was found");
        link.shared.get_mut(&id).expect("it was found").below_since_ms = Some(now_ms);
        Some(session)
    }

    /// Ends a transfer from this peer without a result. It may begin anew.
    pub(super) fn give_up(&mut self, session: SessionId, id: KeyspaceId) {
        let keyspace = self.keyspaces.get_mut(&id).expect("looked up before");
        if keyspace.sink.as_ref().is_some_and(|sink| sink.session == Some(session)) {
            keyspace.sink = None;
            self.counters.count("transfers_given_up");
        }
    }

    /// The sink of a keyspace, if it takes from this peer.
    pub(super) fn sink(&mut self, session: SessionId, id: KeyspaceId) -> Option<Sink> {
        let now_ms = self.mono_ms;
        let keyspace = self.keyspaces.get_mut(&id)?;
        let mut sink = keyspace.sink.take_if(|sink| sink.session == Some(session))?;
        sink.heard_ms = now_ms;
        sink.way = match sink.way {
            Way::Repair { .. } if !keyspace.is_partial => sink.way,
            // Who had nothing may have written since.
            _ if keyspace.is_partial || keyspace.heads.is_empty() => Way::Mirror,
            _ => Way::Merge,
        };
        Some(sink)
    }

    /// Goes on with a transfer, or ends it.
    pub(super) fn put_sink(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        sink: Result<Option<Sink>, Failure>,
        step: &mut Step,
    ) {
        let failure = match sink {
            Ok(sink) => {
                self.keyspaces.get_mut(&id).expect("looked up before").sink = sink;
                return;
            }
            Err(failure) => failure,
        };
        self.counters.count("transfers_given_up");
        step.sends.push((session, Message::EndTake { keyspace: id }));
        match failure {
            Failure::Lie(what) => {
                self.counters.count("refused_state");
                self.refuse(session, what, step);
            }
            Failure::Forked(seq) => self.note_fork(id, seq),
            Failure::Damaged => {
                tracing::error!("rows do not have the fingerprint that was noted for them; restart the node");
                self.counters.count("rows_unlike_fingerprint");
            }
            Failure::TooMuch => {
                tracing::warn!("a peer writes faster than its state can be taken over; it begins anew");
                self.counters.count("transfers_too_large");
            }
            Failure::Read(error) => self.cannot_read(&error),
        }
    }

    /// Takes in what the source says of authors, and that its rows may hold so much now. Of our own replica it can
    /// have no more than we do, unless our own heads are lost.
    pub(super) fn hear(&self, id: KeyspaceId, sink: &mut Sink, heads: &[StateHead]) -> Result<(), Failure> {
        let keyspace = &self.keyspaces[&id];
        let before = self.orders.settings(id).written.filter(|written| written.replica == self.id());
        let written = keyspace.heads.seq(self.id()).max(before.map_or(0, |written| written.seq));
        for head in heads {
            let author = head.card.replica();
            if author == self.id() && head.seq > written && !keyspace.is_partial {
                return Err(Failure::Forked(written + 1));
            }
            sink.cards.insert(author, head.card);
            sink.vector.raise(Dot::new(author, head.seq));
        }
        Ok(())
    }

    pub(super) fn taken(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        (epoch, position): (Epoch, u64),
        told: Vec<StateHead>,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(mut sink) = self.sink(session, id) else { return };
        sink.position = LogPosition(position);
        let heard = self.hear(id, &mut sink, &told);
        // Who joined again goes on behind its own last operation, so it takes only state that holds that. And rows
        // take the place of others only if they hold all that these count as applied.
        let is_behind = self.orders.settings(id).is_behind(self.id(), sink.vector.get(self.id()));
        let heads = &self.keyspaces[&id].heads;
        let lacks = heads.iter().any(|(author, head)| sink.vector.get(author) < head.seq);
        let may_take = epoch == self.epoch_of(id) && self.may_take_over(id, &sink);
        if is_behind || !may_take || (sink.way == Way::Mirror && lacks) {
            self.counters.count("transfers_given_up");
            step.sends.push((session, Message::EndTake { keyspace: id }));
            return;
        }
        sink.heads = told.into_iter().map(|head| (head.card.replica(), head)).collect();
        sink.open.push_back(Range::default());
        let heard = heard.and_then(|()| match sink.way {
            Way::Repair { .. } => self.check_own_rows(id, view),
            Way::Merge | Way::Mirror => Ok(()),
        });
        let sink = heard.and_then(|()| self.ask_on(session, id, sink, view, step));
        self.put_sink(session, id, sink, step);
    }

    pub(super) fn tailed(
        &mut self,
        now: Now,
        session: SessionId,
        id: KeyspaceId,
        (heads, frames, until, is_end): (Vec<StateHead>, Vec<FrameBytes>, u64, bool),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(mut sink) = self.sink(session, id) else { return };
        let heard = self.hear(id, &mut sink, &heads).and_then(|()| {
            let leads_on = is_end || LogPosition(until) > sink.position;
            if leads_on { Ok(()) } else { Err(Failure::Lie("a log that leads nowhere")) }
        });
        let result = heard.and_then(|()| self.take_tail(&mut sink, id, frames, until, view));
        if is_end && !self.may_take_over(id, &sink) {
            // Either side has come to another epoch, or beyond what it may hold.
            self.counters.count("transfers_given_up");
            step.sends.push((session, Message::EndTake { keyspace: id }));
            return;
        }
        let result = match result {
            Ok(()) if is_end => self.flip(now, id, sink, view, step).map(|()| None),
            Ok(()) => {
                step.sends.push((session, Message::Tail { keyspace: id, after: until }));
                Ok(Some(sink))
            }
            Err(failure) => Err(failure),
        };
        let is_done = matches!(result, Ok(None));
        self.put_sink(session, id, result, step);
        if is_done {
            step.sends.push((session, Message::EndTake { keyspace: id }));
        }
    }

    /// Whether the source's state may become ours. Who makes strong frames takes over nothing, and neither does anybody in
    /// an epoch that ends. An anchor takes over only what it can go on from: the rows of one that stands where the log
    /// does, or did. Otherwise all that can might be lost one by one, each replaced by one that cannot.
    fn may_take_over(&self, id: KeyspaceId, sink: &Sink) -> bool {
        let Some(mode) = self.mode(id) else { return true };
        if mode.is_fenced() || matches!(sink.way, Way::Repair { .. }) {
            return !mode.is_fenced();
        }
        let Some((record, author)) = mode.record().zip(mode.author()) else { return true };
        let others = sink.vector.iter().filter(|dot| dot.replica != author);
        let is_at_frontier = others.eq(record.frontier.iter().copied());
        !mode.is_exact() && (self.anchor().is_none() || is_at_frontier)
    }

    fn take_tail(
        &self,
        sink: &mut Sink,
        id: KeyspaceId,
        frames: Vec<FrameBytes>,
        until: u64,
        view: &View<'_, '_>,
    ) -> Result<(), Failure> {
        for FrameBytes(bytes) in frames {
            let frame = Frame::decode(&bytes).map_err(|_| Failure::Lie("a malformed frame"))?;
            let author = frame.header().author;
            let card = sink.cards.get(&author).copied().or_else(|| self.card_known(author, view.log));
            let is_signed = card.is_some_and(|card| frame.verify(&card).is_ok());
            if frame.header().keyspace != id || !is_signed {
                return Err(Failure::Lie("a frame that its author did not sign"));
            }
            sink.tail_bytes += bytes.len();
            if sink.tail_bytes > TAIL_BYTES_MAX {
                return Err(Failure::TooMuch);
            }
            sink.tail.push(frame);
        }
        sink.position = LogPosition(until.max(sink.position.0));
        Ok(())
    }
}

/// About how much memory a row takes that is staged.
pub(super) fn staged_bytes(row: &RowId, payload: Option<&Payload>) -> usize {
    let payload = match payload {
        Some(Payload::Value { value, .. } | Payload::Chunk(value)) => value.len(),
        _ => 0,
    };
    payload + row.key.len() + row.subkey.len() + 128
}

pub(super) fn bytes(payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload.encode_into(&mut bytes);
    bytes
}
