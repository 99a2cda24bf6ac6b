//! What a store in memory has of a Raft group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::{Batch, LogIndex, RaftLog, RaftLogState, RaftWrite, ReadError};

/// What is there of a Raft group. Handles for reading share it, and a clone is another one that holds the same.
#[derive(Debug, Default)]
pub(super) struct RaftMemory(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf(Mutex<Content>);

#[derive(Clone, Debug, Default)]
struct Content {
    entries: BTreeMap<LogIndex, Vec<u8>>,
    vote: Option<Vec<u8>>,
    purged: Option<Vec<u8>>,
    applied: Option<Vec<u8>>,
}

impl Clone for RaftMemory {
    fn clone(&self) -> Self {
        Self(Arc::new(Shelf(Mutex::new(self.0.content().clone()))))
    }
}

impl RaftMemory {
    pub(super) fn log(&self) -> Arc<dyn RaftLog> {
        Arc::clone(&self.0) as _
    }

    /// Forgets all of it, for those who read it, too.
    pub(super) fn forget(&self) {
        *self.0.content() = Content::default();
    }

    /// Takes in what a batch writes.
    pub(super) fn write(&self, batch: &Batch) {
        let mut content = self.0.content();
        content.applied = batch.raft_applied.clone().or(content.applied.take());
        batch.raft.iter().for_each(|write| content.take(write));
    }
}

impl Content {
    fn take(&mut self, write: &RaftWrite) {
        match write {
            RaftWrite::Append { index, bytes } => {
                self.entries.insert(*index, bytes.clone());
            }
            RaftWrite::Truncate { from } => drop(self.entries.split_off(from)),
            RaftWrite::Purge { until, record } => {
                self.entries.retain(|index, _| index > until);
                self.purged = Some(record.clone());
            }
            RaftWrite::Vote(vote) => self.vote = Some(vote.clone()),
            RaftWrite::Forget => *self = Self::default(),
        }
    }
}

impl Shelf {
    /// No holder of the lock leaves anything half done.
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLog for Shelf {
    fn state(&self) -> Result<RaftLogState, ReadError> {
        let content = self.content();
        Ok(RaftLogState {
            vote: content.vote.clone(),
            purged: content.purged.clone(),
            applied: content.applied.clone(),
            last: content.entries.keys().next_back().copied(),
        })
    }

    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let content = self.content();
        let mut room = bytes_max;
        let mut found: Vec<Vec<u8>> = Vec::new();
        let range = content.entries.range(from..until.max(from));
        for (expected, (index, bytes)) in (from.0..).zip(range) {
            if index.0 != expected || (bytes.len() > room && !found.is_empty()) {
                break;
            }
            room = room.saturating_sub(bytes.len());
            found.push(bytes.clone());
        }
        Ok(found)
    }
}
