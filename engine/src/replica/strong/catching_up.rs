//! Following: an anchor that does not stand where the log does takes the frames that others make, until it does.
//!
//! It keeps the commands that it cannot execute in memory, as far as there is room, and goes on by itself once what it has
//! applied is what is committed up to an entry behind which it lacks none. Frames may come one by one, or state may be
//! taken over: the rows say of which entry the last of them was made.

use std::collections::VecDeque;

use super::execute::{Entry, place_of};
use super::{Strong, outcomes};
use crate::causality::Hlc;
use crate::command::Command;
use crate::frame::Frame;
use crate::id::KeyspaceId;
use crate::mode::{Mode, Standing};
use crate::ports::LogIndex;
use crate::replica::{Now, Replica, Step, View};

/// The entries that are kept in memory for a keyspace that is followed; those before them are waited for.
const MISSED_ENTRIES_MAX: usize = 1_024;

/// As many bytes of them, in memory about as much again.
const MISSED_BYTES_MAX: usize = 32 << 20;

/// Commands of a keyspace that this anchor follows, by their place in the log.
#[derive(Debug)]
pub(super) struct Missed {
    /// The last entry that is not here and was not executed.
    lacking: LogIndex,
    /// Places, what the entries say, and how long they are.
    entries: VecDeque<(LogIndex, Vec<Command>, usize)>,
    bytes: usize,
}

impl Replica {
    fn missed(&mut self, id: KeyspaceId) -> &mut Missed {
        let lacking = match self.mode(id).and_then(Mode::standing) {
            Some(Standing::Behind { missed }) => missed,
            Some(Standing::Exact) | None => LogIndex(0),
        };
        let begin = || Missed { lacking, entries: VecDeque::new(), bytes: 0 };
        self.strong.missed.entry(id).or_insert_with(begin)
    }

    /// Remembers a command of a keyspace that is followed.
    pub(super) fn miss(&mut self, id: KeyspaceId, Entry { index, commands, bytes, .. }: Entry<'_>) {
        let missed = self.missed(id);
        // It was exact when its rows were lost, and has applied all before this.
        missed.lacking = missed.lacking.min(LogIndex(index.0.saturating_sub(1)));
        if missed.entries.back().is_some_and(|(last, ..)| *last == index) {
            return;
        }
        missed.entries.push_back((index, commands.to_vec(), bytes));
        missed.bytes += bytes;
        while missed.entries.len() > MISSED_ENTRIES_MAX || missed.bytes > MISSED_BYTES_MAX {
            let Some((lost, _, bytes)) = missed.entries.pop_front() else { break };
            (missed.lacking, missed.bytes) = (lost, missed.bytes - bytes);
        }
        self.change_mode(id, None, |mode| {
            mode.stand(Standing::Behind { missed: index });
            true
        });
    }

    /// A strong frame came from a peer and was applied: whoever waits for an operation in it is answered, the clock goes
    /// on, and an anchor may stand where those stand who make the frames.
    pub(crate) fn followed(&mut self, now: Now, frame: &Frame, view: &mut View<'_, '_>, step: &mut Step) {
        let id = frame.header().keyspace;
        if self.mode(id).and_then(Mode::author) != Some(frame.header().author) {
            return;
        }
        self.noted(frame);
        view.draft.set_clock(id, self.mode(id).map_or(Hlc::default(), Mode::clock));
        self.answer_outcomes(frame, step);
        self.catch_up(now, id, view, step);
    }

    /// State of a keyspace was taken over: its rows say what frames would have said.
    pub(crate) fn took_over_state(
        &mut self,
        now: Now,
        id: KeyspaceId,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        if self.mode(id).and_then(Mode::author).is_none() {
            return;
        }
        match outcomes::last(view.draft, id) {
            Ok(Some((index, hlc))) => {
                self.change_mode(id, None, |mode| {
                    mode.advance(hlc, Some(index));
                    true
                });
                view.draft.set_clock(id, self.mode(id).map_or(Hlc::default(), Mode::clock));
                self.catch_up(now, id, view, step);
            }
            Ok(None) => {}
            Err(error) => {
                // It follows on, until frames tell it.
                tracing::error!(%error, "cannot read where state that was taken over stands");
                self.counters.count("positions_not_read");
            }
        }
    }

    /// Goes on by itself where this anchor stands exactly at what is committed and has every command from the entry on
    /// of which the last frame is. That entry is executed again: there may be more of it, and what was executed is not
    /// executed twice.
    fn catch_up(&mut self, now: Now, id: KeyspaceId, view: &mut View<'_, '_>, step: &mut Step) {
        let Some(Standing::Behind { .. }) = self.mode(id).and_then(Mode::standing) else { return };
        let position = self.mode(id).map(Mode::position).unwrap_or_default();
        let lacking = self.missed(id).lacking;
        if position <= lacking || !self.is_at_committed(id) {
            return;
        }
        let Some(Missed { entries, .. }) = self.strong.missed.remove(&id) else { return };
        self.change_mode(id, None, |mode| {
            mode.stand(Standing::Exact);
            true
        });
        self.counters.count("caught_up");
        for (index, commands, bytes) in entries.into_iter().filter(|(index, ..)| *index >= position) {
            let is_alone = commands.len() == 1;
            let of_keyspace =
                commands.into_iter().filter(|command| place_of(command).is_some_and(|of| of.0 == id));
            let of_keyspace: Vec<Command> = of_keyspace.collect();
            let entry = Entry { index, commands: &of_keyspace, is_alone, bytes };
            if let Err(error) = self.execute(now, entry, view, step) {
                // Nothing of it was taken in; the others' frames are waited for.
                tracing::error!(%error, "cannot execute what was missed");
                step.absorb(self.commit_failed(&error.to_string()));
                return;
            }
        }
    }
}

impl Strong {
    /// After a start, rows may be lost of which this anchor had made all: it follows, and has missed what it has applied.
    pub(crate) fn lose_rows(&mut self, id: KeyspaceId) {
        if let Some((_, mode)) = self.modes.get_mut(&id)
            && mode.is_exact()
        {
            mode.stand(Standing::Behind { missed: LogIndex(u64::MAX) });
            self.changed.insert(id);
        }
    }
}
