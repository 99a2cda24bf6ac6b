//! How long the log is kept: until all who may need it have it, up to an age, and never beyond a size.
//!
//! Whoever needs what was let go learns the state in its place, so nothing here is a question of convergence,
//! only of what it costs to come back.

use crate::causality::Dot;
use crate::frame::Frame;
use crate::id::{KeyspaceId, PeerId};
use crate::ports::{LogEnd, LogEntry, LogPosition, LogRecord, ReadError};
use crate::replica::{Now, Replica, Step, View};

/// How often it is looked for what may go, in milliseconds.
const LOOK_EVERY_MS: u64 = 2_000;

/// The records that are looked at in one step.
const LOOKED_AT_MAX: usize = 512;

/// A record whose time is so far ahead tells nothing of its age, in milliseconds.
const AHEAD_MS: u64 = 86_400_000;

/// How long the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A record is kept for so long at least, in milliseconds. Default one day.
    pub age_ms: u64,
    /// Beyond so many bytes the oldest records go, whoever needs them. Default 1 GiB.
    pub bytes: u64,
    /// A peer that was not connected for so long is not waited for, in milliseconds. Default seven days.
    pub peers_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: 86_400_000, bytes: 1 << 30, peers_ms: 7 * 86_400_000 }
    }
}

/// Why the oldest record of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is not old enough.
    Young,
    /// This peer was connected not long ago and does not have it, as far as is known.
    For(PeerId),
    /// It is of this replica, and no peer is known to have it.
    Alone,
    /// It was written in an epoch that has ended, and no epoch has taken it in: it is in the outbox.
    Outbox,
    /// It is read by a peer that takes over state, or holds state that is being taken over here.
    Read,
}

/// The log, as far as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// The records.
    pub records: u64,
    /// The bytes of what they hold.
    pub bytes: u64,
    /// Where the oldest of them is: all before it were let go of.
    pub first: LogPosition,
    /// How old the oldest was when it was last looked at, in milliseconds; 0 if it seems to come from the future.
    pub age_ms: u64,
    /// Why the oldest of them is kept, when it was last looked at; nothing keeps it otherwise.
    pub kept: Option<Kept>,
}

/// What is known of the log between two looks.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looked_ms: Option<u64>,
    pub(crate) report: LogReport,
}

impl Replica {
    /// Finds out what of the log may go.
    pub(crate) fn tick_retention(&mut self, now: Now, view: &View<'_, '_>, step: &mut Step) {
        let is_due = self.looks.looked_ms.is_none_or(|looked| now.mono_ms >= looked + LOOK_EVERY_MS);
        if !is_due {
            return;
        }
        self.looks.looked_ms = Some(now.mono_ms);
        self.holdings.forget_before(now.mono_ms.saturating_sub(self.config().retention.peers_ms));
        match self.oldest_needed(now, view) {
            Ok(Some(until)) => step.truncate = step.truncate.max(Some(until)),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "cannot look for what may go of the log");
                self.counters.count("retentions_failed");
            }
        }
    }

    /// The last record before the first that is needed, of those that are looked at.
    fn oldest_needed(&mut self, now: Now, view: &View<'_, '_>) -> Result<Option<LogPosition>, ReadError> {
        let Some(first) = view.log.records_from(view.log.first(), 1)?.pop() else { return Ok(None) };
        let end = view.log.end();
        let before = first.total_bytes - first.bytes().len() as u64;
        let mut until = None;
        let mut kept = self.why_kept(now, end, &first);
        // Mostly the first is kept, and then the others are not worth reading.
        if kept.is_none() {
            for record in view.log.records_from(first.position, LOOKED_AT_MAX)? {
                kept = self.why_kept(now, end, &record);
                if kept.is_some() {
                    break;
                }
                until = Some(record.position);
            }
        }
        let records = end.position.0 + 1 - first.position.0;
        let age_ms = now.unix_ms.saturating_sub(first.clock.unix_ms());
        let bytes = end.total_bytes - before;
        self.looks.report = LogReport { records, bytes, first: first.position, age_ms, kept };
        Ok(until)
    }

    fn why_kept(&self, now: Now, end: LogEnd, record: &LogRecord) -> Option<Kept> {
        if self.sources.need(record.position) || self.staging_needs(record.position) {
            return Some(Kept::Read);
        }
        let held_bytes = end.total_bytes - (record.total_bytes - record.bytes().len() as u64);
        let is_within = held_bytes <= self.config().retention.bytes;
        self.keeps_for_outbox(record).or_else(|| if is_within { self.is_needed(now, record) } else { None })
    }

    /// What no epoch has taken in is nowhere else for sure, whatever its age and size.
    fn keeps_for_outbox(&self, record: &LogRecord) -> Option<Kept> {
        let LogEntry::Frame(bytes) = &record.entry else { return None };
        let (keyspace, dot) = Frame::place(bytes)?;
        self.is_in_outbox(keyspace, dot).then_some(Kept::Outbox)
    }

    fn is_needed(&self, now: Now, record: &LogRecord) -> Option<Kept> {
        if record.entry == LogEntry::Dropped {
            return None;
        }
        let made_ms = record.clock.unix_ms();
        let is_young = now.unix_ms < made_ms.saturating_add(self.config().retention.age_ms);
        if is_young && made_ms < now.unix_ms.saturating_add(AHEAD_MS) {
            return Some(Kept::Young);
        }
        let LogEntry::Frame(bytes) = &record.entry else { return None };
        let (keyspace, dot): (KeyspaceId, Dot) = Frame::place(bytes)?;
        if let Some(peer) = self.holdings.who_lacks(keyspace, dot) {
            return Some(Kept::For(peer));
        }
        let is_alone = dot.replica == self.id() && !self.holdings.is_held(keyspace, dot);
        is_alone.then_some(Kept::Alone)
    }
}
