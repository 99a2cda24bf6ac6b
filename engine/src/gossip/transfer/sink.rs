//! The side that takes over state: it asks, keeps what differs beside the rows, and takes all of it over at once.

use std::collections::{BTreeMap, VecDeque};

use crate::causality::{Dot, VersionVector};
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceId, ReplicaId};
use crate::install::{Install, LISTED_ROWS_MAX, RowList};
use crate::message::{FrameBytes, Message, PartRows, RANGES_MAX, RangeAsk, RangePart, StateHead};
use crate::ports::{LogPosition, ReadError, SessionId};
use crate::ranges::{Edge, Print, Range, RangeIndex};
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Payload, RowId, Slot};

use super::SILENT_MS;

/// What differs is kept in memory up to so many bytes.
const STAGED_BYTES_MAX: usize = 64 << 20;

/// So are the frames that the source committed meanwhile.
const TAIL_BYTES_MAX: usize = 64 << 20;

/// How long a peer that has some of what is lacking may still bring it, before state is taken over, in milliseconds.
const BELOW_MS: u64 = 1_000;

/// State that is being taken over.
#[derive(Debug)]
pub(crate) struct Sink {
    /// With whom; none when the session ended.
    session: Option<SessionId>,
    /// Whether the rows become those of the source, whatever they are.
    pub(super) is_mirror: bool,
    /// The source's heads when it began; empty before it did.
    pub(super) heads: BTreeMap<ReplicaId, StateHead>,
    /// The source's vector when it answered last.
    vector: VersionVector,
    pub(super) cards: BTreeMap<ReplicaId, AuthorCard>,
    /// Up to where the source's log was taken.
    position: LogPosition,
    /// The ranges that are still to be compared.
    open: VecDeque<Range>,
    /// Those that were asked for.
    asked: Vec<Range>,
    pub(super) staged: BTreeMap<RowId, Staged>,
    staged_bytes: usize,
    pub(super) tail: Vec<Frame>,
    tail_bytes: usize,
    heard_ms: u64,
}

/// What becomes of a row.
#[derive(Clone, Debug)]
pub(super) enum Staged {
    Put(Payload),
    Drop,
    /// It merges with what is here.
    Merge(Slot),
}

/// Why a transfer ends without a result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source breaks a rule.
    Lie(&'static str),
    /// It does not fit.
    TooMuch,
    /// The rows here cannot be read.
    Read(ReadError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Sink {
    fn new(session: SessionId, now_ms: u64) -> Self {
        Self {
            session: Some(session),
            is_mirror: false,
            heads: BTreeMap::new(),
            vector: VersionVector::default(),
            cards: BTreeMap::new(),
            position: LogPosition(0),
            open: VecDeque::new(),
            asked: Vec::new(),
            staged: BTreeMap::new(),
            staged_bytes: 0,
            tail: Vec::new(),
            tail_bytes: 0,
            heard_ms: now_ms,
        }
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        if self.session == Some(session) {
            self.session = None;
        }
    }

    /// Takes in what the source says of authors, and that its rows may hold so much now.
    fn hear(&mut self, heads: &[StateHead]) {
        for head in heads {
            let author = head.card.replica();
            self.cards.insert(author, head.card);
            self.vector.raise(Dot::new(author, head.seq));
        }
    }

    fn stage(&mut self, row: RowId, staged: Staged) -> Result<(), Failure> {
        let payload = match &staged {
            Staged::Put(Payload::Value { value, .. } | Payload::Chunk(value)) => value.len(),
            _ => 0,
        };
        self.staged_bytes += payload + row.key.len() + row.subkey.len() + 128;
        self.staged.insert(row, staged);
        let is_within = self.staged_bytes <= STAGED_BYTES_MAX && self.staged.len() < LISTED_ROWS_MAX;
        if is_within { Ok(()) } else { Err(Failure::TooMuch) }
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
        self.keyspaces.get(&id).is_some_and(|keyspace| keyspace.is_partial || keyspace.sink.is_some())
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
            if keyspace.sink.is_none() {
                due.push(*id);
            }
        }
        for id in due {
            if let Some(session) = self.source_for(id) {
                let sink = Sink::new(session, now_ms);
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
    fn sink(&mut self, session: SessionId, id: KeyspaceId) -> Option<Sink> {
        let now_ms = self.mono_ms;
        let keyspace = self.keyspaces.get_mut(&id)?;
        let mut sink = keyspace.sink.take_if(|sink| sink.session == Some(session))?;
        sink.heard_ms = now_ms;
        // Who had nothing may have written since.
        sink.is_mirror = keyspace.is_partial || keyspace.heads.is_empty();
        Some(sink)
    }

    /// Goes on with a transfer, or ends it.
    fn put_sink(
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
            Failure::TooMuch => {
                tracing::error!(
                    "the state of a keyspace differs by more than fits in memory; it is not taken over"
                );
                self.counters.count("transfers_too_large");
            }
            Failure::Read(error) => self.cannot_read(&error),
        }
    }

    pub(super) fn taken(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        position: u64,
        heads: Vec<StateHead>,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(mut sink) = self.sink(session, id) else { return };
        sink.position = LogPosition(position);
        sink.hear(&heads);
        // Who joined again goes on behind its own last operation, so it takes only state that holds that.
        if self.orders.settings(id).is_behind(self.id(), sink.vector.get(self.id())) {
            self.counters.count("transfers_given_up");
            step.sends.push((session, Message::EndTake { keyspace: id }));
            return;
        }
        sink.heads = heads.into_iter().map(|head| (head.card.replica(), head)).collect();
        sink.open.push_back(Range::default());
        let sink = self.ask_on(session, id, sink, view, step);
        self.put_sink(session, id, sink.map(Some), step);
    }

    /// Asks for the next ranges, or, when there are no more, for the frames that came meanwhile.
    fn ask_on(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        mut sink: Sink,
        view: &View<'_, '_>,
        step: &mut Step,
    ) -> Result<Sink, Failure> {
        if sink.open.is_empty() {
            step.sends.push((session, Message::Tail { keyspace: id, after: sink.position.0 }));
            return Ok(sink);
        }
        let mut index = self.take_ranges(id, view).ok_or(Failure::TooMuch)?;
        let count = sink.open.len().min(RANGES_MAX);
        sink.asked = sink.open.drain(..count).collect();
        let asks = sink.asked.iter().map(|range| {
            let print = index.print(view.draft, id, range)?;
            Ok(RangeAsk { range: range.clone(), print })
        });
        let asks: Result<Vec<RangeAsk>, ReadError> = asks.collect();
        self.keyspaces.get_mut(&id).expect("looked up before").ranges = Some(index);
        step.sends.push((session, Message::Compare { keyspace: id, asks: asks? }));
        Ok(sink)
    }

    pub(super) fn compared(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        heads: &[StateHead],
        parts: Vec<RangePart>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(mut sink) = self.sink(session, id) else { return };
        sink.hear(heads);
        let sink = self.take_parts(id, &mut sink, parts, view, step).map(|()| sink);
        let sink = sink.and_then(|sink| {
            // Rows that were taken into the draft are not what the fingerprints follow; they are compared later.
            self.ask_on(session, id, sink, view, step)
        });
        self.put_sink(session, id, sink.map(Some), step);
    }

    fn take_parts(
        &mut self,
        id: KeyspaceId,
        sink: &mut Sink,
        parts: Vec<RangePart>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mut index = self.take_ranges(id, view).ok_or(Failure::TooMuch)?;
        let mut mirrored = Vec::new();
        let mut result = Ok(());
        for RangePart { range, rows } in parts {
            let asked = sink.asked.iter().position(|asked| *asked == range);
            let Some(asked) = asked else {
                result = Err(Failure::Lie("a range that was not asked for"));
                break;
            };
            sink.asked.remove(asked);
            result = match rows {
                PartRows::Equal => Ok(()),
                PartRows::Split(parts) => split(&mut index, id, sink, &range, parts, view),
                PartRows::Rows(list) => self.take_rows(id, sink, &range, list, &mut mirrored, view),
            };
            if result.is_err() {
                break;
            }
        }
        self.keyspaces.get_mut(&id).expect("looked up before").ranges = Some(index);
        result?;
        for range in std::mem::take(&mut sink.asked).into_iter().rev() {
            sink.open.push_front(range);
        }
        if !mirrored.is_empty() {
            mirrored.sort_by(|(a, _), (b, _): &(RowId, _)| a.cmp(b));
            self.take_over(Install { keyspace: id, rows: mirrored, heads: None }, &sink.cards, view, step)?;
        }
        Ok(())
    }

    /// Takes in the rows of a range: to be merged at the end, or at once where nothing here counts.
    fn take_rows(
        &self,
        id: KeyspaceId,
        sink: &mut Sink,
        range: &Range,
        list: RowList,
        mirrored: &mut Vec<(RowId, Option<Payload>)>,
        view: &View<'_, '_>,
    ) -> Result<(), Failure> {
        let rows = list.read().map_err(|_| Failure::Lie("rows that are none"))?;
        let mut theirs = BTreeMap::new();
        for (row, payload) in rows {
            let payload = payload.ok_or(Failure::Lie("a row without a payload"))?;
            if !range.contains(&row) || !sink.vector.covers(row.dot) {
                return Err(Failure::Lie("a row that cannot be there"));
            }
            theirs.insert(row, payload);
        }
        let mut mine = Vec::new();
        range.visit(view.draft, id, &mut |row, payload| mine.push((row, payload)))?;
        for (row, payload) in mine {
            match theirs.remove(&row) {
                Some(other) if other == payload => {}
                Some(other) if sink.is_mirror => mirrored.push((row, Some(other))),
                Some(Payload::Slot(slot)) => sink.stage(row, Staged::Merge(slot))?,
                // Of one row with two contents, which only a liar makes, all take the same.
                Some(other) if bytes(&other) > bytes(&payload) => sink.stage(row, Staged::Put(other))?,
                None if sink.is_mirror => mirrored.push((row, None)),
                None if sink.vector.covers(row.dot) => sink.stage(row, Staged::Drop)?,
                _ => {}
            }
        }
        let heads = &self.keyspaces[&id].heads;
        for (row, payload) in theirs {
            if sink.is_mirror {
                mirrored.push((row, Some(payload)));
            } else if !heads.covers(row.dot) {
                sink.stage(row, Staged::Put(payload))?;
            }
        }
        Ok(())
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
        sink.hear(&heads);
        let result = self.take_tail(&mut sink, id, frames, until, view);
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

/// Takes in how the source splits a range: what differs in it is asked for.
fn split(
    index: &mut RangeIndex,
    id: KeyspaceId,
    sink: &mut Sink,
    range: &Range,
    parts: Vec<(Edge, Print)>,
    view: &View<'_, '_>,
) -> Result<(), Failure> {
    let mut from = range.from.clone();
    let is_whole = parts.len() > 1 && parts.last().is_some_and(|(to, _)| *to == range.to);
    if !is_whole {
        return Err(Failure::Lie("a range that is split into another"));
    }
    for (to, theirs) in parts {
        let part = Range { from, to: to.clone() };
        if !part.is_valid() || (to.is_none() && range.to.is_some()) {
            return Err(Failure::Lie("a range that is split into another"));
        }
        if index.print(view.draft, id, &part)? != theirs {
            sink.open.push_back(part);
        }
        from = to;
    }
    Ok(())
}

fn bytes(payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload.encode_into(&mut bytes);
    bytes
}
