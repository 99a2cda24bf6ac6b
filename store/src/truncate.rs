//! Letting go of the oldest records of the log.
//!
//! The rows on disk hold what these did, so nothing is lost but the frames themselves: who lacks one of them has
//! to learn the state in its place. A crash may bring records back, never take rows back.
//!
//! Invariant: the floor that readers see is never below what is missing from the log.

use std::sync::{MutexGuard, PoisonError};

use tidelock_engine::ports::{CommitError, LogPosition, ReadError};

use crate::published::numbered_floors;
use crate::schema::LOG_FILE;
use crate::store::{Retention, Shared};

/// The records that are let go in one commit; writers wait for it.
const RECORDS_PER_COMMIT: u64 = 512;

/// The commits of one call.
const COMMITS_PER_CALL: usize = 16;

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

    fn oldest_pin(&self) -> Option<LogPosition> {
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
        // State that was taken over may have raised them further.
        let floors = {
            let mut published = self.published_mut();
            published.raise_floors(&plan.floors);
            published.first = LogPosition(plan.until.0 + 1);
            let raised = plan.floors.keys().map(|of| (*of, published.floor(of.0, of.1)));
            raised.collect()
        };
        let floors = numbered_floors(&names, &floors);
        self.log.truncate(&self.guard, &plan, &floors, &mut writer.copy)?;
        Ok(true)
    }
}
