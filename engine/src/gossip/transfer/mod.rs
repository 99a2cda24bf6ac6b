//! State in place of frames: how a replica that was away for longer than its peers keep their logs comes back.
//!
//! The one that takes over (the sink) asks one peer (the source) for ranges of rows, finds by fingerprints where
//! they differ, and takes what differs, each range as the source has it at that moment. Then it takes the frames
//! that the source committed since the beginning, and takes all of it over in one commit. Until then nothing of it
//! is shown or enters the version vector, and no remote frame is applied; local writes go on. A source that was
//! silent, or has taken over state itself, is given up, and everything begins anew.
//!
//! Two ways: a replica with rows of its own *merges*: a row on one side only was removed by the other if that one's
//! vector covers its dot. A replica that has nothing, or whose rows are lost, *mirrors*: its rows become those of
//! the source, in many commits, and are not to be read before the last one.
//! Sources: the state merge of Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), and the fuzzy
//! snapshots of `ZooKeeper` (Hunt et al., 2010).

mod compare;
mod flip;
mod repair;
mod sink;
mod source;
mod staging;

pub(crate) use repair::Divergence;
pub use repair::Repair;
pub(crate) use sink::Sink;
pub(crate) use source::Sources;
pub(crate) use staging::Staging;

use crate::draft::Changes;
use crate::id::KeyspaceId;
use crate::message::Message;
use crate::ports::SessionId;
use crate::ranges::RangeIndex;
use crate::replica::{Now, Replica, Step, View};

/// A transfer whose other side says nothing for so long is given up, in milliseconds.
const SILENT_MS: u64 = 20_000;

/// The messages that wait for the next turn at most.
const POSTPONED_MAX: usize = 64;

/// The rows that are read in one turn to make the fingerprints of ranges. More delays writes, fewer delays the
/// first transfer after a start: an idle node has ten turns a second.
const ROWS_PER_TURN: u64 = 20_000;

impl Replica {
    /// A message of a transfer. Ranges are compared with what is committed, so one that comes behind a change of
    /// the same turn waits for the next.
    pub(crate) fn transfer(
        &mut self,
        now: Now,
        session: SessionId,
        message: Message,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(id) = keyspace_of(&message) else { return };
        let is_shared = self.links.get(&session).is_some_and(|link| link.shares(id));
        if !is_shared || !self.keyspaces.contains_key(&id) {
            return;
        }
        if !self.is_as_committed(id) || !self.has_ranges(id) {
            if self.postponed.len() < POSTPONED_MAX {
                self.postponed.push((session, message));
            }
            return;
        }
        match message {
            Message::Take { .. } => self.open_source(session, id, view, step),
            Message::Compare { asks, .. } => self.compare_ranges(session, id, &asks, view, step),
            Message::Tail { after, .. } => self.tail(session, id, after, view, step),
            Message::Taken { epoch, position, heads, .. } => {
                self.taken(session, id, (epoch, position), heads, view, step);
            }
            Message::Compared { heads, parts, .. } => {
                self.compared(session, id, &heads, parts, view, step);
            }
            Message::Tailed { heads, frames, until, is_end, .. } => {
                self.tailed(now, session, id, (heads, frames, until, is_end), view, step);
            }
            Message::EndTake { .. } => self.end_transfer(session, id),
            _ => unreachable!("only these name a keyspace here"),
        }
    }

    /// What came too late in the last turn comes first in this one.
    pub(crate) fn resume_transfers(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        self.go_on_from_log(now, view, step);
        self.read_ranges(view);
        for (session, message) in std::mem::take(&mut self.postponed) {
            self.transfer(now, session, message, view, step);
        }
    }

    /// Whether the keyspace is as it was committed last: nothing of it changed in this turn.
    fn is_as_committed(&self, id: KeyspaceId) -> bool {
        let has_draft = self.keyspaces.get(&id).is_some_and(|keyspace| keyspace.open.is_some());
        !has_draft && !self.is_touched(id)
    }

    /// The other side gives up, or is done.
    pub(crate) fn end_transfer(&mut self, session: SessionId, id: KeyspaceId) {
        self.sources.close(session, id);
        self.give_up(session, id);
    }

    /// The epoch of a keyspace is another: state of the one before neither goes nor comes any more.
    pub(crate) fn end_transfers_of(&mut self, id: KeyspaceId, step: &mut Step) {
        self.sources.forget_keyspace(id);
        let sink = self.keyspaces.get_mut(&id).and_then(|keyspace| keyspace.sink.take());
        if let Some(session) = sink.and_then(|sink| sink.session()) {
            self.counters.count("transfers_given_up");
            step.sends.push((session, Message::EndTake { keyspace: id }));
        }
    }

    /// A session is over.
    pub(crate) fn forget_transfers(&mut self, session: SessionId) {
        self.sources.close_all(session);
        self.postponed.retain(|(of, _)| *of != session);
        let sinks = self.keyspaces.values_mut().filter_map(|keyspace| keyspace.sink.as_mut());
        sinks.for_each(|sink| sink.end_session(session));
    }

    /// What is due: transfers that begin, and those that are given up.
    pub(crate) fn tick_transfers(&mut self, step: &mut Step) {
        self.sources.give_up_silent(self.mono_ms.saturating_sub(SILENT_MS));
        self.tick_sinks(step);
        self.tick_repairs(step);
    }

    /// The fingerprints of ranges follow what was committed.
    pub(crate) fn index_changes(&mut self, changes: &Changes) {
        for ((id, row), change) in &changes.rows {
            if let Some(index) = self.keyspaces.get_mut(id).and_then(|keyspace| keyspace.ranges.as_mut()) {
                index.change(row, change);
            }
        }
    }

    /// Whether there are fingerprints of ranges of a keyspace. They are made when they are needed first.
    fn has_ranges(&mut self, id: KeyspaceId) -> bool {
        let keyspace = self.keyspaces.get_mut(&id);
        keyspace.is_some_and(|keyspace| keyspace.ranges.get_or_insert_with(RangeIndex::unread).is_whole())
    }

    /// Reads on where fingerprints of ranges are being made, at the beginning of a turn, so that all is as it was
    /// committed.
    fn read_ranges(&mut self, view: &View<'_, '_>) {
        let making = self.keyspaces.iter_mut().find_map(|(id, keyspace)| {
            let index = keyspace.ranges.as_mut().filter(|index| !index.is_whole())?;
            Some((*id, index))
        });
        let Some((id, index)) = making else { return };
        if let Err(error) = index.read_on(view.draft, id, ROWS_PER_TURN) {
            self.keyspaces.get_mut(&id).expect("it was found").ranges = None;
            self.cannot_read(&error);
        }
    }

    /// The fingerprints of ranges of a keyspace, which has them.
    fn take_ranges(&mut self, id: KeyspaceId) -> RangeIndex {
        let ranges = self.keyspaces.get_mut(&id).and_then(|keyspace| keyspace.ranges.take());
        ranges.expect("looked up before the message was looked at")
    }

    fn cannot_read(&mut self, error: &crate::ports::ReadError) {
        tracing::error!(%error, "cannot read rows for a transfer of state");
        self.counters.count("transfers_failed");
    }
}

fn keyspace_of(message: &Message) -> Option<KeyspaceId> {
    match message {
        Message::Take { keyspace }
        | Message::Taken { keyspace, .. }
        | Message::Compare { keyspace, .. }
        | Message::Compared { keyspace, .. }
        | Message::Tail { keyspace, .. }
        | Message::Tailed { keyspace, .. }
        | Message::EndTake { keyspace } => Some(*keyspace),
        _ => None,
    }
}
