//! Keys that expire: from when on they are not to be seen, and who removes what is left of them.
//!
//! A key is expired once its deadline is at or below the highest clock that the store has kept for that; so whatever
//! shows a key as expired first sees to it that the clock is kept, and one that steps back brings nothing back. What is
//! left is removed by an ordinary removal of what was seen, so that a concurrent write, or a concurrent EXPIRE,
//! survives it: at once by whoever set the deadline, and by anybody else when that one had a minute to do so.
//!
//! A clock that stood far ahead starts again from the wall clock. Everything that had expired by it is removed before.

use std::ops::ControlFlow;

use crate::causality::{CLOCK_RESTART_AFTER, Hlc};
use crate::crdt::KeyView;
use crate::draft::Changes;
use crate::id::KeyspaceId;
use crate::mode::Mode;
use crate::ports::{Due, ReadError, Rows};
use crate::replica::{Now, Replica, Step, View};
use crate::row::{Kind, Payload};
use crate::write::{Author, WriteError};

/// How long whoever set a deadline has to remove the key, before anybody does, in milliseconds.
const OTHERS_AFTER_MS: u64 = 60_000;

/// The deadlines that one turn looks at. More delays writes, fewer keeps expired keys on the disk for longer.
const DUE_PER_TURN: usize = 1_000;

/// Removing stops when the frame in the making has so many bytes; the rest comes in the next turn.
const REMOVING_BYTES_MAX: usize = 256 << 10;

/// How long who must not write waits before it looks again, in milliseconds.
const REFUSED_MS: u64 = 1_000;

/// What is known of the deadlines of a node.
#[derive(Debug)]
pub(super) struct Expiry {
    /// By this clock keys were shown as expired, so none before it counts while one of them is left.
    shown: Hlc,
    /// When the next deadline is due, in Unix milliseconds, or before.
    next_ms: u64,
}

/// What is known of the deadlines of one keyspace.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// When they are to be looked at again, in Unix milliseconds.
    look_ms: u64,
    /// When those that were looked at so far are to be looked at again.
    again_ms: Option<u64>,
    /// The last that was looked at; `None` at the beginning.
    after: Option<Due>,
    /// Whether whoever looked at those removed what had expired, whosever it was.
    is_everybodys: bool,
}

impl Expiry {
    /// What a replica begins with whose store has kept this clock.
    pub(super) fn since(shown: Hlc) -> Self {
        Self { shown, next_ms: 0 }
    }
}

impl Replica {
    /// When a turn is due for the sake of a deadline, in Unix milliseconds.
    pub fn next_deadline_ms(&self) -> u64 {
        if self.failed.is_some() { u64::MAX } else { self.expiry.next_ms }
    }

    /// Takes in new deadlines.
    pub(super) fn note_deadlines(&mut self, changes: &Changes) {
        for ((id, row), change) in &changes.rows {
            if row.kind == Kind::Deadline
                && let Some(Payload::Deadline(unix_ms)) = change.after
                && let Some(keyspace) = self.keyspaces.get_mut(id)
            {
                keyspace.deadlines.look_ms = keyspace.deadlines.look_ms.min(unix_ms);
                self.expiry.next_ms = self.expiry.next_ms.min(unix_ms);
            }
        }
    }

    /// Removes keys whose deadline is past, at the beginning of a turn, and hides those that others will remove.
    pub(super) fn expire(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        let begins_again = self.expiry.shown > restarts_above(now);
        if now.unix_ms < self.expiry.next_ms && !begins_again {
            return;
        }
        let until_ms = now.unix_ms.max(self.expiry.shown.unix_ms());
        let mut due: Vec<KeyspaceId> = Vec::new();
        // What cannot be looked at now may hold expired keys too.
        let mut is_any_left = false;
        for (id, keyspace) in &mut self.keyspaces {
            let is_open = self.strong.mode(*id).is_none_or(Mode::is_open);
            let is_refused = keyspace.is_partial || self.orders.is_leaving(*id) || !is_open;
            is_any_left |= is_refused;
            if is_refused || keyspace.deadlines.look_ms > until_ms && !begins_again {
                continue;
            }
            if view.draft.has_deadlines(*id) {
                due.push(*id);
            } else {
                keyspace.deadlines = Deadlines { look_ms: u64::MAX, ..Deadlines::default() };
            }
        }
        if !due.is_empty() {
            self.show_until(self.expiry.shown.max(Hlc::at(now.unix_ms)), view, step);
        }
        for id in due {
            match self.expire_keyspace(now, id, begins_again, view) {
                Ok(is_left) => is_any_left |= is_left,
                Err(error) => {
                    is_any_left = true;
                    tracing::error!(%error, "cannot look for expired keys");
                    self.counters.count("expiries_failed");
                    self.keyspaces.get_mut(&id).expect("it is due").deadlines.look_ms =
                        now.unix_ms + REFUSED_MS;
                }
            }
            self.seal(id, step);
        }
        if !is_any_left && begins_again {
            // All that had expired by the clock that stood ahead is gone.
            self.show_until(Hlc::at(now.unix_ms), view, step);
            self.keyspaces.values_mut().for_each(|keyspace| keyspace.deadlines.look_ms = now.unix_ms);
        }
        let looks = self.keyspaces.iter().map(|(id, keyspace)| {
            let is_refused = keyspace.is_partial || self.orders.is_leaving(*id) || !self.is_open(*id);
            if is_refused { now.unix_ms + REFUSED_MS } else { keyspace.deadlines.look_ms }
        });
        self.expiry.next_ms = looks.min().unwrap_or(u64::MAX);
    }

    /// From now on keys are expired by this clock, which is kept in the commit of the turn.
    fn show_until(&mut self, clock: Hlc, view: &mut View<'_, '_>, step: &mut Step) {
        self.expiry.shown = clock;
        view.draft.set_expiry(clock);
        step.expiry = Some(clock);
    }

    /// Looks at some deadlines of a keyspace, and leaves none to others if the clock begins again; answers whether more of
    /// them may be due now.
    fn expire_keyspace(
        &mut self,
        now: Now,
        id: KeyspaceId,
        begins_again: bool,
        view: &mut View<'_, '_>,
    ) -> Result<bool, WriteError> {
        let must_rejoin = self.must_rejoin();
        let (clock, own) = (self.expiry.shown, self.id());
        let deadlines = &mut self.keyspaces.get_mut(&id).expect("it is due").deadlines;
        if must_rejoin {
            deadlines.look_ms = now.unix_ms + REFUSED_MS;
            return Ok(true);
        }
        // Those that were left to others are looked at once more if the clock begins again.
        deadlines.is_everybodys &= begins_again;
        if deadlines.after.is_none() || begins_again && !deadlines.is_everybodys {
            *deadlines = Deadlines { look_ms: u64::MAX, is_everybodys: begins_again, ..Deadlines::default() };
        }
        let (due, mut next_ms) = due_by(view.draft, id, deadlines.after.as_ref(), clock)?;
        let mut is_whole = due.len() < DUE_PER_TURN;
        let (mut after, mut removed) = (deadlines.after.take(), 0);
        let mut frame = self.take_frame(now, id);
        let heads = &self.keyspaces[&id].heads;
        for due in due {
            if frame.size().0 >= REMOVING_BYTES_MAX {
                is_whole = false;
                break;
            }
            let key = KeyView::read_all(view.draft, id, &due.key)?;
            if key.is_expired(clock) {
                let others_ms = due.unix_ms.saturating_add(OTHERS_AFTER_MS);
                let is_ours = key.deadlines.iter().any(|dot| dot.replica == own);
                if is_ours || begins_again || others_ms <= now.unix_ms {
                    let mut author = Author { draft: view.draft, frame: &mut frame, heads };
                    author.delete(&due.key)?;
                    removed += 1;
                } else {
                    next_ms = next_ms.min(others_ms);
                }
            }
            after = Some(due);
        }
        self.put_frame(id, frame);
        self.counters.add("keys_expired", removed);
        let deadlines = &mut self.keyspaces.get_mut(&id).expect("it is due").deadlines;
        let again_ms = deadlines.again_ms.map_or(next_ms, |again_ms| again_ms.min(next_ms));
        if is_whole {
            *deadlines = Deadlines { look_ms: deadlines.look_ms.min(again_ms), ..Deadlines::default() };
        } else {
            (deadlines.look_ms, deadlines.again_ms, deadlines.after) = (now.unix_ms, Some(again_ms), after);
        }
        Ok(!is_whole)
    }
}

/// Some deadlines that are past by a clock, and when the first is that is not.
fn due_by(
    rows: &dyn Rows,
    id: KeyspaceId,
    after: Option<&Due>,
    clock: Hlc,
) -> Result<(Vec<Due>, u64), ReadError> {
    let (mut due, mut next_ms) = (Vec::new(), u64::MAX);
    rows.deadlines(id, after, u64::MAX, &mut |deadline| {
        if deadline.unix_ms > clock.unix_ms() {
            next_ms = deadline.unix_ms;
            return ControlFlow::Break(());
        }
        due.push(deadline);
        if due.len() == DUE_PER_TURN { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((due, next_ms))
}

/// A clock above this is not followed any more.
fn restarts_above(now: Now) -> Hlc {
    let after_ms = u64::try_from(CLOCK_RESTART_AFTER.as_millis()).unwrap_or(u64::MAX);
    Hlc::at(now.unix_ms.saturating_add(after_ms))
}
