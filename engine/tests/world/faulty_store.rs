//! The memory store with a disk that can fail, and that forgets what was not synced when the node crashes.

use std::cell::Cell;
use std::rc::Rc;

use tidelock_engine::causality::Dot;
use tidelock_engine::id::{AuthorCard, KeyspaceId, ReplicaId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    Batch, CommitError, Durability, Log, LogPosition, LoggedFrame, ReadError, Recovered, RowRange, Rows,
    Store, Visit,
};
use tidelock_engine::row::{Kind, Payload, RowId};

/// What the disk does wrong, shared with the test.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The next commit fails, and so do all after it.
    pub(crate) commit_fails: Cell<bool>,
    /// The next sync fails.
    pub(crate) sync_fails: Cell<bool>,
    /// The commits that were taken.
    pub(crate) commits: Cell<usize>,
}

/// A memory store with a faulty disk under it.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    now: MemStore,
    /// What the disk has, when that is less than what readers see.
    on_disk: Option<MemStore>,
    pub(crate) faults: Rc<Faults>,
}

impl FaultyStore {
    pub(crate) fn new(store: MemStore) -> Self {
        Self { now: store, on_disk: None, faults: Rc::default() }
    }

    /// What readers see.
    pub(crate) fn memory(&self) -> &MemStore {
        &self.now
    }

    /// What is left after a crash.
    pub(crate) fn crash(self) -> MemStore {
        self.on_disk.unwrap_or(self.now)
    }

    fn failure(file: &'static str) -> CommitError {
        CommitError::Io { file, source: std::io::Error::other("the test's disk fails") }
    }
}

impl Rows for FaultyStore {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.now.row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.now.scan(keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.now.members(keyspace, key, kind)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.now.keys(keyspace)
    }
}

impl Log for FaultyStore {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        self.now.missing(keyspace, after, bytes_max)
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        self.now.frame_with(keyspace, dot)
    }

    fn frames_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LoggedFrame>, ReadError> {
        self.now.frames_from(position, count_max)
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        self.now.card(replica)
    }
}

impl Store for FaultyStore {
    fn recovered(&self) -> Recovered {
        self.now.recovered()
    }

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError> {
        if self.faults.commit_fails.get() {
            return Err(Self::failure("log.redb"));
        }
        self.faults.commits.set(self.faults.commits.get() + 1);
        match durability {
            Durability::Buffered if self.on_disk.is_none() => self.on_disk = Some(self.now.clone()),
            Durability::Buffered => {}
            Durability::Durable => self.on_disk = None,
        }
        self.now.commit(batch, durability)
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        if self.faults.sync_fails.get() {
            return Err(Self::failure("log.redb"));
        }
        self.on_disk = None;
        Ok(())
    }
}
