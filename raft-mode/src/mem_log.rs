//! A [`RaftLog`] in memory, for tests: with writes that are there but not yet durable, and power cuts that take those
//! away. A disk that lies is one that is not told to sync.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidelock_engine::ports::{LogIndex, RaftLog, RaftLogState, RaftWrite, ReadError};

use crate::runtime::lock;
use crate::suite::WritableLog;

/// A log in memory. What a write changed is read at once, and survives [`MemRaftLog::lose_power`] after
/// [`MemRaftLog::sync`].
#[derive(Debug, Default)]
pub struct MemRaftLog {
    disk: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    now: Content,
    durable: Content,
    unsynced: Vec<Written>,
}

#[derive(Clone, Debug)]
enum Written {
    Log(RaftWrite),
    Applied(Vec<u8>),
}

#[derive(Clone, Debug, Default)]
struct Content {
    entries: BTreeMap<u64, Vec<u8>>,
    vote: Option<Vec<u8>>,
    purged: Option<Vec<u8>>,
    applied: Option<Vec<u8>>,
}

impl Content {
    fn take(&mut self, written: &Written) {
        match written {
            Written::Log(RaftWrite::Append { index, bytes }) => {
                self.entries.insert(index.0, bytes.clone());
            }
            Written::Log(RaftWrite::Truncate { from }) => drop(self.entries.split_off(&from.0)),
            Written::Log(RaftWrite::Purge { until, record }) => {
                self.entries = self.entries.split_off(&(until.0 + 1));
                self.purged = Some(record.clone());
            }
            Written::Log(RaftWrite::Vote(vote)) => self.vote = Some(vote.clone()),
            Written::Log(RaftWrite::Forget) => *self = Self::default(),
            Written::Applied(record) => self.applied = Some(record.clone()),
        }
    }
}

impl Disk {
    fn take(&mut self, written: Written) {
        self.now.take(&written);
        self.unsynced.push(written);
    }
}

impl MemRaftLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out writes. They are not durable yet.
    pub fn write(&self, writes: Vec<RaftWrite>) {
        let mut disk = lock(&self.disk);
        writes.into_iter().for_each(|write| disk.take(Written::Log(write)));
    }

    /// Puts down a record of what is applied. It is not durable yet.
    pub fn set_applied(&self, record: Vec<u8>) {
        lock(&self.disk).take(Written::Applied(record));
    }

    /// Makes everything durable.
    pub fn sync(&self) {
        let mut disk = lock(&self.disk);
        let Disk { durable, unsynced, .. } = &mut *disk;
        unsynced.drain(..).for_each(|written| durable.take(&written));
    }

    /// Takes away what is not durable.
    pub fn lose_power(&self) {
        let mut disk = lock(&self.disk);
        disk.unsynced.clear();
        disk.now = disk.durable.clone();
    }

    /// Forgets the vote, durable or not: what a broken disk may do, and the election of two leaders.
    pub fn forget_vote(&self) {
        let mut disk = lock(&self.disk);
        disk.now.vote = None;
        disk.durable.vote = None;
    }

    /// An entry, if it is durable.
    pub fn durable_entry(&self, index: LogIndex) -> Option<Vec<u8>> {
        lock(&self.disk).durable.entries.get(&index.0).cloned()
    }
}

impl WritableLog for MemRaftLog {
    fn write(&self, writes: Vec<RaftWrite>, applied: Option<Vec<u8>>) {
        Self::write(self, writes);
        applied.into_iter().for_each(|record| self.set_applied(record));
        self.sync();
    }

    fn reader(self: Arc<Self>) -> Arc<dyn RaftLog> {
        self
    }
}

impl RaftLog for MemRaftLog {
    fn state(&self) -> Result<RaftLogState, ReadError> {
        let Content { entries, vote, purged, applied } = lock(&self.disk).now.clone();
        let last = entries.last_key_value().map(|(index, _)| LogIndex(*index));
        Ok(RaftLogState { vote, purged, applied, last })
    }

    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let disk = lock(&self.disk);
        let mut room = bytes_max;
        let mut found: Vec<Vec<u8>> = Vec::new();
        let range = disk.now.entries.range(from.0..until.0.max(from.0));
        for (expected, (index, bytes)) in (from.0..).zip(range) {
            if *index != expected || (bytes.len() > room && !found.is_empty()) {
                break;
            }
            room = room.saturating_sub(bytes.len());
            found.push(bytes.clone());
        }
        Ok(found)
    }
}
