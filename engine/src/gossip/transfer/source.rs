//! The side that has the state: it answers questions and holds its log from where the transfer began.

use std::collections::BTreeMap;

use crate::frame::Frame;
use crate::id::KeyspaceId;
use crate::install::RowList;
use crate::message::{FrameBytes, Message, PartRows, RangeAsk, RangePart, StateHead};
use crate::mode::Mode;
use crate::ports::{LogEntry, LogPosition, ReadError, SessionId};
use crate::ranges::RangeIndex;
use crate::replica::{Replica, Step, View};
use crate::row::{Payload, RowId};

/// The transfers that one node serves at once.
const SOURCES_MAX: usize = 8;

/// What one answer holds, in bytes, unless one range or frame holds more.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A range of so many rows is told row by row.
const LISTED_ROWS: u64 = 16;

/// So are so many rows that the asker has nothing of.
const LISTED_FRESH_ROWS: u64 = 2_048;

/// The parts into which a range is split.
const PARTS: u64 = 16;

/// The records of the log that one answer looks at.
const TAIL_RECORDS_MAX: usize = 256;

/// The transfers that are served.
#[derive(Debug, Default)]
pub(crate) struct Sources(BTreeMap<(SessionId, KeyspaceId), Source>);

/// A transfer that is served.
#[derive(Debug)]
struct Source {
    /// Where the log stood when it began.
    position: LogPosition,
    /// The keyspace's generation then; when it is another, the log leads no more from there to here.
    generation: u64,
    /// Up to which change of heads they were told.
    told: u64,
    heard_ms: u64,
}

impl Sources {
    pub(super) fn close(&mut self, session: SessionId, id: KeyspaceId) {
        self.0.remove(&(session, id));
    }

    pub(super) fn close_all(&mut self, session: SessionId) {
        self.0.retain(|(of, _), _| *of != session);
    }

    /// The keyspace is here no more.
    pub(crate) fn forget_keyspace(&mut self, id: KeyspaceId) {
        self.0.retain(|(_, of), _| *of != id);
    }

    pub(super) fn give_up_silent(&mut self, before_ms: u64) {
        self.0.retain(|_, source| source.heard_ms >= before_ms);
    }

    /// Whether a transfer needs the log from this record on, or from one before it.
    pub(crate) fn need(&self, position: LogPosition) -> bool {
        self.0.values().any(|source| source.position < position)
    }
}

impl Replica {
    pub(super) fn open_source(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        // That state is being taken over here changes no rows before its end, which ends this transfer too. To refuse
        // it until then would let two who need each other's state wait for ever.
        let keyspace = &self.keyspaces[&id];
        let is_full = self.sources.0.len() >= SOURCES_MAX && !self.sources.0.contains_key(&(session, id));
        if keyspace.is_partial || keyspace.divergence.is_damaged || is_full {
            step.sends.push((session, Message::EndTake { keyspace: id }));
            return;
        }
        let position = view.log.end().position;
        let told = keyspace.changes();
        let source = Source { position, generation: keyspace.generation, told, heard_ms: self.mono_ms };
        let heads = self.state_heads(id, 0, view);
        self.sources.0.insert((session, id), source);
        self.counters.count("transfers_served");
        let (keyspace, epoch) = (id, self.mode(id).map(Mode::epoch).unwrap_or_default());
        step.sends.push((session, Message::Taken { keyspace, epoch, position: position.0, heads }));
    }

    /// The heads that changed after the `since`-th change.
    fn state_heads(&self, id: KeyspaceId, since: u64, view: &View<'_, '_>) -> Vec<StateHead> {
        let keyspace = &self.keyspaces[&id];
        let changed = keyspace.heads_since(since).into_iter().flatten().filter_map(|entry| {
            let head = keyspace.heads.get(entry.author)?;
            Some(StateHead {
                card: self.card_known(entry.author, view.log)?,
                seq: head.seq,
                frame: head.frame,
            })
        });
        changed.collect()
    }

    /// The transfer that a question belongs to, if it can go on.
    fn source(&mut self, session: SessionId, id: KeyspaceId, step: &mut Step) -> Option<&mut Source> {
        let generation = self.keyspaces[&id].generation;
        let is_whole = !self.keyspaces[&id].is_partial;
        let source = self.sources.0.get(&(session, id));
        if source.is_none_or(|source| source.generation != generation) || !is_whole {
            self.sources.close(session, id);
            step.sends.push((session, Message::EndTake { keyspace: id }));
            return None;
        }
        let source = self.sources.0.get_mut(&(session, id))?;
        source.heard_ms = self.mono_ms;
        Some(source)
    }

    /// Answers as many questions as fit one message.
    pub(super) fn compare_ranges(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        asks: &[RangeAsk],
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(told) = self.source(session, id, step).map(|source| source.told) else { return };
        let mut index = self.take_ranges(id);
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut failed = None;
        for ask in asks {
            if bytes >= ANSWER_BYTES_MAX {
                break;
            }
            match part(&mut index, id, ask, view) {
                Ok((rows, part_bytes)) => {
                    bytes += part_bytes;
                    parts.push(RangePart { range: ask.range.clone(), rows });
                }
                Err(error) => failed = Some(error),
            }
        }
        let heads = self.state_heads(id, told, view);
        let keyspace = self.keyspaces.get_mut(&id).expect("it was there");
        keyspace.ranges = Some(index);
        let changes = keyspace.changes();
        if let Some(source) = self.sources.0.get_mut(&(session, id)) {
            source.told = changes;
        }
        if let Some(error) = failed {
            self.cannot_read(&error);
        }
        step.sends.push((session, Message::Compared { keyspace: id, heads, parts }));
    }

    /// Answers with frames of the keyspace behind a place.
    pub(super) fn tail(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        after: u64,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let source = self.source(session, id, step).map(|source| (source.position, source.told));
        let Some((from, told)) = source else { return };
        let heads = self.state_heads(id, told, view);
        let changes = self.keyspaces[&id].changes();
        let after = LogPosition(after.max(from.0));
        let end = view.log.end().position;
        match frames_behind(id, after, view) {
            Ok((frames, until)) => {
                if let Some(source) = self.sources.0.get_mut(&(session, id)) {
                    (source.position, source.told) = (until, changes);
                }
                let is_end = until >= end;
                step.sends
                    .push((session, Message::Tailed { keyspace: id, heads, frames, until: until.0, is_end }));
            }
            Err(error) => {
                self.cannot_read(&error);
                self.sources.close(session, id);
                step.sends.push((session, Message::EndTake { keyspace: id }));
            }
        }
    }
}

/// What is here of a range, and about how long that is as a message.
fn part(
    index: &mut RangeIndex,
    id: KeyspaceId,
    ask: &RangeAsk,
    view: &View<'_, '_>,
) -> Result<(PartRows, usize), ReadError> {
    let print = index.print(view.draft, id, &ask.range)?;
    if print == ask.print {
        return Ok((PartRows::Equal, 0));
    }
    let is_short = print.rows <= LISTED_ROWS || (ask.print.rows == 0 && print.rows <= LISTED_FRESH_ROWS);
    if !is_short {
        let parts_max = if ask.print.rows == 0 { print.rows / LISTED_FRESH_ROWS + 2 } else { PARTS };
        let parts = index.split(view.draft, id, &ask.range, parts_max.clamp(2, PARTS))?;
        if parts.len() > 1 {
            let bytes =
                parts.iter().map(|(edge, _)| 64 + edge.as_ref().map_or(0, crate::ranges::Group::bytes));
            let bytes = bytes.sum();
            return Ok((PartRows::Split(parts), bytes));
        }
        // One group cannot be split.
    }
    let mut rows: Vec<(RowId, Payload)> = Vec::new();
    ask.range.visit_all(view.draft, id, &mut |row, payload| rows.push((row, payload)))?;
    let list = RowList::new(rows.iter().map(|(row, payload)| (row, Some(payload))));
    let bytes = list.bytes();
    Ok((PartRows::Rows(list), bytes))
}

/// Frames of a keyspace behind a place, and the place up to which these are all.
fn frames_behind(
    id: KeyspaceId,
    after: LogPosition,
    view: &View<'_, '_>,
) -> Result<(Vec<FrameBytes>, LogPosition), ReadError> {
    let (mut frames, mut bytes, mut until) = (Vec::new(), 0, after);
    for record in view.log.records_from(LogPosition(after.0 + 1), TAIL_RECORDS_MAX)? {
        if let LogEntry::Frame(frame) = &record.entry
            && Frame::place(frame).is_some_and(|(keyspace, _)| keyspace == id)
        {
            if !frames.is_empty() && bytes + frame.len() > ANSWER_BYTES_MAX {
                break;
            }
            bytes += frame.len();
            frames.push(FrameBytes(frame.to_vec()));
        }
        until = record.position;
    }
    Ok((frames, until))
}
