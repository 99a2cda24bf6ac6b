//! Letting go of the oldest records of the log.
//!
//! The rows on disk hold what these did, so nothing is lost but the frames themselves: who lacks one of them has
//! to learn the state in its place. A crash may bring records back, never take rows back.
//!
//! Invariant: the floor that readers see is never below what is missing from the log.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::{MutexGuard, PoisonError};

use redb::Durability;
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{CommitError, LogEntry, LogPosition, ReadError};

use crate::copying::Follower;
use crate::log::{Entry, LogFile, damaged, header, sealed};
use crate::names::Names;
use crate::schema::{LOG_FILE, index_key, record_key};
use crate::store::{Retention, Shared};

/// The records that are let go in one commit; writers wait for it.
const RECORDS_PER_COMMIT: u64 = 512;

/// The commits of one call.
const COMMITS_PER_CALL: usize = 16;

/// The records that are let go at once.
#[derive(Debug, Default)]
pub(crate) struct Truncation {
    /// The last of them.
    pub(crate) until: LogPosition,
    /// How far the floors rise.
    pub(crate) floors: BTreeMap<(KeyspaceId, ReplicaId), u64>,
    keys: Vec<Vec<u8>>,
}

impl LogFile {
    /// What letting go of some records would take away and raise.
    pub(crate) fn plan_truncation(
        &self,
        positions: RangeInclusive<u64>,
        names: &Names,
    ) -> Result<Truncation, ReadError> {
        let mut plan = Truncation { until: LogPosition(*positions.end()), ..Truncation::default() };
        self.visit_records(positions, &mut |record| {
            plan.keys.push(record_key(record.position.0));
            if let LogEntry::Frame(bytes) = record.entry {
                let header = header(&bytes)?;
                if names.is_dropping(header.keyspace) {
                    // Its entries of the index go with it.
                    return Ok(ControlFlow::Continue(()));
                }
                let (keyspace, author) = (names.keyspace(header.keyspace), names.author(header.author));
                let numbers = keyspace.zip(author).ok_or_else(|| damaged("a frame of an unknown author"))?;
                plan.keys.push(index_key(numbers.0, numbers.1, header.last()));
                let floor = plan.floors.entry((header.keyspace, header.author)).or_default();
                *floor = header.last().max(*floor);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(plan)
    }

    /// Lets go of records. It is on disk with what is committed next: until then a crash brings them back.
    pub(crate) fn truncate(
        &self,
        plan: &Truncation,
        floors: Vec<Entry>,
        copy: &mut Follower,
    ) -> Result<(), CommitError> {
        let mut entries = sealed(floors);
        entries.extend(plan.keys.iter().map(|key| (key.clone(), None)));
        self.change(Durability::None, entries, copy)
    }
}

impl Shared {
    /// Records up to here are needed no more.
    pub(crate) fn truncate_until(&self, until: LogPosition) {
        let mut retention = self.retention();
        retention.wanted = until.max(retention.wanted);
    }

    pub(crate) fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the records behind a position until [`Shared::unpin`].
    pub(crate) fn pin(&self, position: LogPosition) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).push(position);
    }

    pub(crate) fn unpin(&self, position: LogPosition) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = pins.iter().position(|pin| *pin == position) {
            pins.swap_remove(index);
        }
    }

    pub(crate) fn oldest_pin(&self) -> Option<LogPosition> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).iter().min().copied()
    }

    /// Whether records that are needed no more are kept only until the rows are synced.
    pub(crate) fn waits_for_rows(&self) -> bool {
        let Retention { wanted, rows_synced } = *self.retention();
        wanted > rows_synced && self.published().position > rows_synced
    }

    /// Lets go of some of the records that are needed no more.
    pub(crate) fn truncate(&self) -> Result<(), CommitError> {
        for _ in 0..COMMITS_PER_CALL {
            if !self.truncate_some()? {
                break;
            }
        }
        Ok(())
    }

    /// Answers whether there may be more.
    fn truncate_some(&self) -> Result<bool, CommitError> {
        let Retention { wanted, rows_synced } = *self.retention();
        let mut writer = self.writer();
        self.guard.check()?;
        let (first, last, names) = {
            let published = self.published();
            (published.first, published.position, std::sync::Arc::clone(&published.names))
        };
        // The last record stays, for it says where the log ends.
        let pinned = self.oldest_pin().map_or(u64::MAX, |pin| pin.0);
        let until = wanted.0.min(rows_synced.0).min(last.0.saturating_sub(1)).min(pinned);
        if until < first.0 {
            return Ok(false);
        }
        let until = until.min(first.0 + RECORDS_PER_COMMIT - 1);
        let plan = self.log.plan_truncation(first.0..=until, &names);
        let plan = match plan {
            Ok(plan) => plan,
            // A record that cannot be read is kept: `check` tells of it.
            Err(error @ ReadError::Damaged { .. }) => {
                tracing::error!(%error, "the log is not truncated");
                return Ok(false);
            }
            Err(ReadError::Io { source, .. }) => return Err(CommitError::Io { file: LOG_FILE, source }),
            Err(_) => return Ok(false),
        };
        let floors = self.published().floors_after(&names, &plan.floors);
        {
            let mut published = self.published_mut();
            published.raise_floors(&plan.floors);
            published.first = LogPosition(plan.until.0 + 1);
        }
        self.log.truncate(&plan, floors, &mut writer.copy)?;
        Ok(true)
    }
}
