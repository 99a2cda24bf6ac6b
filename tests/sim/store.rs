//! What a node of the simulator stands on: the real store on a disk in memory, or rows in memory for worlds of
//! a thousand peers.

use std::ops::ControlFlow;
use std::time::Duration;

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, ReplicaId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    Batch, CommitError, Due, Durability, Fork, Log, LogEnd, LogPosition, LogRecord, LoggedFrame, Milestone,
    ReadError, Recovered, RowRange, Rows, Store, Visit, Within,
};
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_store::{MaterializeOptions, MemDisk, OpenError, OpenOptions, RedbStore};

/// The store of a running node.
#[derive(Debug)]
pub struct SimStore {
    kind: Backed,
    /// Why it takes no more writes, once it does not.
    failed: Option<String>,
    /// Whether it does not find what came of an operation: it is broken on purpose.
    forgets_outcomes: bool,
}

#[derive(Debug)]
enum Backed {
    Memory(Box<MemStore>),
    Disk(Box<RedbStore>),
}

/// What is left of a store when its node does not run.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Rows in memory, which survive everything but a wipe.
    Memory(Box<MemStore>),
    /// A disk.
    Disk(MemDisk),
}

impl Backing {
    /// Opens the store, or makes one of the replica that `card` proves.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub(crate) fn open(&self, cluster: ClusterId, card: AuthorCard) -> Result<SimStore, OpenError> {
        let kind = match self {
            Self::Memory(store) => Backed::Memory(store.clone()),
            Self::Disk(disk) => Backed::Disk(Box::new(RedbStore::open(disk, &options(cluster, card))?)),
        };
        Ok(SimStore { kind, failed: None, forgets_outcomes: false })
    }
}

/// Rows are written often and synced now and then, so that a short run crosses all its paths.
pub(crate) const MATERIALIZE: MaterializeOptions = MaterializeOptions {
    entries: 30,
    bytes: 16 << 20,
    wait_at: 4,
    synced_every: 3,
    idle: Duration::from_secs(1),
};

fn options(cluster: ClusterId, card: AuthorCard) -> OpenOptions {
    OpenOptions { cache_bytes: 2 << 20, materialize: MATERIALIZE, ..OpenOptions::new(cluster, card) }
}

impl SimStore {
    /// Why it takes no more writes, once it does not.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// From now on it does not find what came of an operation, to show that it is found.
    pub(crate) fn forget_outcomes(&mut self) {
        self.forgets_outcomes = true;
    }

    /// The real store, if it is one.
    pub fn redb(&self) -> Option<&RedbStore> {
        match &self.kind {
            Backed::Disk(store) => Some(store),
            Backed::Memory(_) => None,
        }
    }

    /// The memory that would survive, if it is that.
    pub(crate) fn memory(&self) -> Option<&MemStore> {
        match &self.kind {
            Backed::Memory(store) => Some(store),
            Backed::Disk(_) => None,
        }
    }

    /// Writes committed rows to `rows.redb`, as the daemon's thread does in the background.
    pub(crate) fn materialize(&mut self) {
        let done = self.redb().map_or(Ok(()), RedbStore::materialize);
        self.note(&done);
    }

    /// Goes on if the disk was full and has room again; answers what it holds then.
    pub(crate) fn heal(&mut self) -> Option<Recovered> {
        let Backed::Disk(store) = &mut self.kind else { return None };
        let recovered = store.heal().ok()??;
        self.failed = None;
        Some(recovered)
    }

    fn note<T>(&mut self, done: &Result<T, CommitError>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error.to_string());
        }
    }

    fn as_store(&self) -> &dyn Store {
        match &self.kind {
            Backed::Memory(store) => &**store,
            Backed::Disk(store) => &**store,
        }
    }

    fn as_store_mut(&mut self) -> &mut dyn Store {
        match &mut self.kind {
            Backed::Memory(store) => &mut **store,
            Backed::Disk(store) => &mut **store,
        }
    }
}

impl Rows for SimStore {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.as_store().row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        if self.forgets_outcomes && matches!(range.within, Within::SubkeyPrefix(_, Kind::Outcome, _)) {
            return Ok(());
        }
        self.as_store().scan(keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.as_store().members(keyspace, key, kind)
    }

    fn expiry(&self) -> Hlc {
        self.as_store().expiry()
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.as_store().has_deadlines(keyspace)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.as_store().deadlines(keyspace, after, until_ms, visit)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.as_store().order(keyspace, key, from, visit)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.as_store().keys(keyspace)
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.as_store().bytes(keyspace)
    }
}

impl Log for SimStore {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        self.as_store().missing(keyspace, after, bytes_max)
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        self.as_store().frame_with(keyspace, dot)
    }

    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        self.as_store().records_from(position, count_max)
    }

    fn first(&self) -> LogPosition {
        self.as_store().first()
    }

    fn end(&self) -> LogEnd {
        self.as_store().end()
    }

    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.as_store().floor(keyspace, author)
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        self.as_store().card(replica)
    }

    fn is_dropping(&self, keyspace: KeyspaceId) -> bool {
        self.as_store().is_dropping(keyspace)
    }
}

impl Store for SimStore {
    fn recovered(&self) -> Recovered {
        self.as_store().recovered()
    }

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError> {
        let done = self.as_store_mut().commit(batch, durability);
        self.note(&done);
        done
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        let done = self.as_store_mut().sync();
        self.note(&done);
        done
    }

    fn truncate(&mut self, until: LogPosition) {
        self.as_store_mut().truncate(until);
    }

    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError> {
        let done = self.as_store_mut().keep_fork(fork);
        self.note(&done);
        done
    }

    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError> {
        let done = self.as_store_mut().rejoin(card);
        self.note(&done);
        done
    }
}
