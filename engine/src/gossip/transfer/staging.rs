//! State that differs by more than fits memory: it waits in the log until all of it is there.
//!
//! Pieces are written while the ranges are compared, and change nothing: reads and writes go on. When the source has
//! told everything the rows are made from the pieces, in many commits, for none of which the rows are those of a
//! version vector: that long the keyspace is not to be read. Nothing is asked of anybody any more by then, and a
//! restart goes on where it was.

use std::collections::BTreeMap;

use crate::causality::{Dot, Head, VersionVector};
use crate::frame::Frame;
use crate::id::{KeyspaceId, ReplicaId};
use crate::install::{Install, LISTED_ROWS_MAX, ListedHead, RowList};
use crate::message::FrameBytes;
use crate::ports::{LogEntry, LogPosition, LogRecord};
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Payload, RowId};
use crate::staged::{Piece, Staged};

use super::flip::Settled;
use super::sink::{Failure, Sink};

/// A piece is about so long, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// The bytes of the log that are read in one turn. More delays writes to other keyspaces, fewer keeps this one from
/// being read for longer.
const READ_BYTES: usize = 4 << 20;

/// The records that are read at once; one may be as long as a piece.
const RECORDS: usize = 16;

/// More rows than this are not taken over in one commit.
const ROWS_MAX: usize = LISTED_ROWS_MAX / 2;

/// What a sink has written to the log.
#[derive(Debug)]
pub(crate) struct Spill {
    since: LogPosition,
    /// The highest operation of each author whose row is in it.
    highest: VersionVector,
}

/// What is known of pieces in the log.
#[derive(Debug)]
pub(crate) enum Staging {
    /// After a start: whether there is something complete that was not taken over wholly is being looked for.
    Looking { next: LogPosition, found: Option<LogPosition> },
    /// Rows are made from the pieces since a place.
    Applying { since: LogPosition, next: LogPosition, frames: Vec<Frame> },
    /// The log cannot be read, or holds what was never written there. A peer's state would not help: it may lack
    /// operations of our own that the rows no longer show.
    Stuck,
}

impl Staging {
    /// For a keyspace that was partial when the store was opened.
    pub(crate) fn unknown() -> Self {
        Self::Looking { next: LogPosition(0), found: None }
    }

    fn applying(since: LogPosition) -> Self {
        Self::Applying { since, next: LogPosition(since.0 + 1), frames: Vec::new() }
    }

    /// From where on the log must not be let go of.
    fn needs(&self) -> LogPosition {
        match self {
            Self::Looking { next, found } => found.unwrap_or(*next),
            Self::Applying { since, .. } => *since,
            Self::Stuck => LogPosition(0),
        }
    }
}

impl Replica {
    /// Whether state that waits needs the log from this record on, or from one before it.
    pub(crate) fn staging_needs(&self, position: LogPosition) -> bool {
        self.keyspaces.values().any(|keyspace| {
            let spilled = keyspace.sink.as_ref().and_then(|sink| sink.spill.as_ref());
            let staged = keyspace.staging.as_ref().map(Staging::needs);
            spilled.map(|spill| spill.since).or(staged).is_some_and(|since| since < position)
        })
    }

    /// What does not fit memory goes to the log, and then what comes after it.
    pub(super) fn spill_if_large(
        &mut self,
        id: KeyspaceId,
        sink: &mut Sink,
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let is_spilled = sink.spill.is_some() && sink.staged_bytes >= PIECE_BYTES;
        let is_over = sink.staged_bytes > self.config().limits.staged_bytes || sink.staged.len() > ROWS_MAX;
        if is_spilled || is_over {
            self.spill(id, sink, view, step);
        }
    }

    /// Writes what differs so far to the log.
    fn spill(&mut self, id: KeyspaceId, sink: &mut Sink, view: &View<'_, '_>, step: &mut Step) {
        let since = view.log.end().position;
        let (rows, cards) = (sink.take_staged(), &sink.cards);
        let authors: Vec<ReplicaId> = rows.iter().map(|(row, _)| row.dot.replica).collect();
        self.note_cards(authors, cards, view, step);
        let spill = sink.spill.get_or_insert_with(|| Spill { since, highest: VersionVector::default() });
        rows.iter()
            .filter(|(_, payload)| payload.is_some())
            .for_each(|(row, _)| spill.highest.raise(row.dot));
        let lists = in_pieces(&rows)
            .map(|rows| Piece::Rows(RowList::new(rows.iter().map(|(row, payload)| (row, payload.as_ref())))));
        let since = spill.since;
        step.staged.extend(lists.map(|piece| Staged { keyspace: id, since, piece }));
        self.counters.count("transfers_staged");
    }

    /// Everything is there: it is complete in the log, and from now on rows are made from it.
    pub(super) fn begin_to_apply(
        &mut self,
        id: KeyspaceId,
        mut sink: Sink,
        heads: &[(ReplicaId, Head)],
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        self.spill(id, &mut sink, view, step);
        let Some(Spill { since, highest }) = sink.spill.take() else { return Ok(()) };
        let mut at = self.keyspaces[&id].heads.vector();
        heads.iter().for_each(|(author, head)| at.raise(Dot::new(*author, head.seq)));
        for frame in &sink.tail {
            super::flip::follow(&mut at, frame)?;
        }
        if !highest.iter().all(|dot| at.covers(dot)) {
            return Err(Failure::Lie("rows that no frame explains"));
        }
        let authors = heads.iter().map(|(author, _)| *author);
        let authors = authors.chain(sink.tail.iter().map(|frame| frame.header().author)).collect();
        self.note_cards(authors, &sink.cards, view, step);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut bytes = PIECE_BYTES;
        for frame in &sink.tail {
            if bytes >= PIECE_BYTES {
                bytes = 0;
                pieces.push(Piece::Frames(Vec::new()));
            }
            bytes += frame.bytes().len();
            if let Some(Piece::Frames(frames)) = pieces.last_mut() {
                frames.push(FrameBytes(frame.bytes().to_vec()));
            }
        }
        pieces.push(Piece::end(heads));
        step.staged.extend(pieces.into_iter().map(|piece| Staged { keyspace: id, since, piece }));
        // Without heads the keyspace is partial from now on.
        self.install(Install { keyspace: id, rows: Vec::new(), heads: None }, &BTreeMap::new(), view, step)?;
        self.keyspaces.get_mut(&id).expect("looked up before").staging = Some(Staging::applying(since));
        Ok(())
    }

    /// Goes on with state that waits in the log, at the beginning of a turn.
    pub(super) fn go_on_from_log(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        let waiting = self
            .keyspaces
            .iter_mut()
            .filter(|(_, keyspace)| !matches!(keyspace.staging, Some(Staging::Stuck)))
            .find_map(|(id, keyspace)| keyspace.staging.take().map(|staging| (*id, staging)));
        let Some((id, staging)) = waiting else { return };
        let next = match staging {
            Staging::Looking { next, found } => look(id, next, found, view),
            Staging::Applying { since, next, frames } => {
                self.apply_pieces(now, id, (since, next, frames), view, step)
            }
            Staging::Stuck => Ok(Some(Staging::Stuck)),
        };
        let staging = next.unwrap_or_else(|failure| {
            tracing::error!(
                ?failure,
                "state that waits in the log cannot be taken over; restart the node to try again"
            );
            self.counters.count("transfers_failed");
            Some(Staging::Stuck)
        });
        self.keyspaces.get_mut(&id).expect("it was there").staging = staging;
    }

    /// Makes rows of some pieces; with the last one the keyspace is whole again.
    fn apply_pieces(
        &mut self,
        now: Now,
        id: KeyspaceId,
        (since, mut next, mut frames): (LogPosition, LogPosition, Vec<Frame>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<Option<Staging>, Failure> {
        let mut bytes = 0;
        while bytes < READ_BYTES {
            let records = view.log.records_from(next, RECORDS)?;
            if records.is_empty() {
                return Err(Failure::Lie("the last piece is missing"));
            }
            for record in records {
                next = LogPosition(record.position.0 + 1);
                bytes += record.bytes().len();
                let piece = staged(id, &record).filter(|staged| staged.since == since);
                match piece.map(|staged| staged.piece) {
                    None => {}
                    Some(Piece::Rows(list)) => {
                        let rows = list.read().map_err(|_| Failure::Lie("rows that are none"))?;
                        let rows = self.settled(id, rows, view)?;
                        let install = Install { keyspace: id, rows, heads: None };
                        self.install(install, &BTreeMap::new(), view, step)?;
                    }
                    Some(Piece::Frames(list)) => {
                        let decoded = list.iter().map(|FrameBytes(bytes)| Frame::decode(bytes));
                        let decoded: Result<Vec<Frame>, _> = decoded.collect();
                        frames.extend(decoded.map_err(|_| Failure::Lie("a malformed frame"))?);
                    }
                    Some(Piece::End(heads)) => {
                        let heads = heads.into_iter().map(ListedHead::read).collect();
                        let install = Install { keyspace: id, rows: Vec::new(), heads: Some(heads) };
                        let settled = Settled { install, tail: frames, held: Vec::new() };
                        self.complete(now, settled, &BTreeMap::new(), view, step)?;
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(Staging::Applying { since, next, frames }))
    }
}

/// Looks for state that is complete in the log.
fn look(
    id: KeyspaceId,
    mut next: LogPosition,
    mut found: Option<LogPosition>,
    view: &View<'_, '_>,
) -> Result<Option<Staging>, Failure> {
    let mut bytes = 0;
    while bytes < READ_BYTES {
        let records = view.log.records_from(next, RECORDS)?;
        let Some(last) = records.last() else {
            return Ok(found.map(Staging::applying));
        };
        next = LogPosition(last.position.0 + 1);
        for record in &records {
            bytes += record.bytes().len();
            match &record.entry {
                LogEntry::Staged(_) => {
                    if let Some(Staged { since, piece: Piece::End(_), .. }) = staged(id, record) {
                        found = Some(since);
                    }
                }
                LogEntry::Install(bytes) => {
                    let is_whole = Install::decode(bytes)
                        .is_ok_and(|install| install.keyspace == id && install.heads.is_some());
                    found = found.filter(|_| !is_whole);
                }
                LogEntry::Frame(_) | LogEntry::Dropped => {}
            }
        }
    }
    Ok(Some(Staging::Looking { next, found }))
}

/// The piece of a keyspace's state that a record holds.
fn staged(id: KeyspaceId, record: &LogRecord) -> Option<Staged> {
    let LogEntry::Staged(bytes) = &record.entry else { return None };
    Staged::decode(bytes).ok().filter(|staged| staged.keyspace == id)
}

/// Rows in lists of about the length of a piece.
fn in_pieces(rows: &[(RowId, Option<Payload>)]) -> impl Iterator<Item = &[(RowId, Option<Payload>)]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = rest.iter().take_while(|(row, payload)| {
            let fits = bytes < PIECE_BYTES;
            bytes += super::sink::staged_bytes(row, payload.as_ref());
            fits
        });
        let (piece, behind) = rest.split_at(count.count());
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}
