//! The store that the engine writes to, and what it shares with readers and with the background thread.
//!
//! The log is the commit point; the rows follow.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use metrics::Histogram;
use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::draft::Changes;
use tidelock_engine::id::{AuthorCard, KeyspaceId, ReplicaId};
use tidelock_engine::ports::{
    Batch, CommitError, Due, Durability, Fork, Log, LogEnd, LogPosition, LogRecord, LoggedFrame, Milestone,
    ReadError, Recovered, RowRange, Rows, Store, Visit,
};
use tidelock_engine::row::{Kind, Payload, RowId};

use crate::backend::WriteGuard;
use crate::compact::CompactProgress;
use crate::copying::Follower;
use crate::disk::{Disk, DiskLock};
use crate::dropping::DropProgress;
use crate::log::LogFile;
use crate::mark::{Mark, Reached};
use crate::materialize::{Materializer, ThreadState};
use crate::names::Names;
use crate::open::{self, MaterializeOptions, OpenError, OpenOptions};
use crate::overlay::{Moment, Overlay};
use crate::published::{Published, Recorded, Update};
use crate::raft::StoredRaftLog;
use crate::reader::Reader;
use crate::rows::RowsFile;
use crate::schema::SpaceState;
use crate::view::View;

/// A durable store on two redb files.
///
/// There is one per open store, and it alone writes; any number of [`Reader`]s read beside it. The files are
/// closed and the lock is released when the store, its last reader and its thread are gone.
#[derive(Debug)]
pub struct RedbStore {
    reader: Reader,
    recovered: Recovered,
    options: OpenOptions,
    commit_seconds: Histogram,
}

/// What the store, its readers and its thread share.
///
/// The order of the fields is the order in which they are dropped: the log is closed before the rows, so that
/// closing never makes rows durable that are ahead of the log, and the lock is released last.
///
/// Order of locks: `rounds`, then `writer`, then `published`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) published: RwLock<Published>,
    /// Held while a commit is on its way, or while the active overlay is replaced.
    pub(crate) writer: Mutex<Writer>,
    /// Held while rows are written.
    pub(crate) rounds: Mutex<Rounds>,
    /// Up to where records are needed no more, and where the rows on disk stand.
    pub(crate) retention: Mutex<Retention>,
    pub(crate) thread: Mutex<ThreadState>,
    /// Signalled when the overlay grew, shrank, or the thread is to stop.
    pub(crate) thread_wakes: Condvar,
    pub(crate) guard: Arc<WriteGuard>,
    pub(crate) options: MaterializeOptions,
    /// How far the records were dropped of the keyspace that is being dropped.
    pub(crate) drop_progress: Mutex<Option<DropProgress>>,
    /// Behind these positions a backup reads the log.
    pub(crate) pins: Mutex<Vec<LogPosition>>,
    pub(crate) log: LogFile,
    pub(crate) mark: Mark,
    pub(crate) rows: RowsFile,
    pub(crate) disk: Arc<dyn Disk>,
    /// What redb may cache of both files.
    pub(crate) cache_bytes: usize,
    pub(crate) is_compacting: AtomicBool,
    /// How far the compaction is that is under way.
    pub(crate) compaction: Mutex<Option<CompactProgress>>,
    pub(crate) lock: Arc<DiskLock>,
}

/// What only the writing of rows touches.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// The times that rows were written.
    pub(crate) count: u64,
    pub(crate) copy: Follower,
}

/// What may be let go of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    /// Records up to here were said to be needed no more.
    pub(crate) wanted: LogPosition,
    /// The rows stand here on disk, whatever happens.
    pub(crate) rows_synced: LogPosition,
}

/// What only commits and syncs touch.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Whether the last commit may be on disk only after a sync. So it is at first: what a process wrote that
    /// was killed may still be on its way.
    pub(crate) log_is_unsynced: bool,
    /// Whether something that this store alone has was acknowledged by this process, and is not on disk yet.
    pub(crate) owes_sync: bool,
    /// What opening the files again gives at least.
    pub(crate) synced: Reached,
    pub(crate) copy: Follower,
}

impl Writer {
    /// Of a log that was just opened.
    pub(crate) fn behind(synced: Reached) -> Self {
        Self { log_is_unsynced: true, owes_sync: false, synced, copy: Follower::default() }
    }

    /// All that was committed is on disk.
    pub(crate) fn is_synced(&mut self, synced: Reached) {
        (self.log_is_unsynced, self.owes_sync, self.synced) = (false, false, synced);
    }
}

impl RedbStore {
    /// Opens the store on `disk`, or makes one if there is none, and replays what a crash left.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way; the log was not changed.
    pub fn open(disk: &dyn Disk, options: &OpenOptions) -> Result<Self, OpenError> {
        let shared = open::open(disk, options)?;
        let recovered = shared.recovered();
        let commit_seconds = metrics::histogram!("tidelock_commit_seconds");
        Ok(Self { reader: Reader::new(shared), recovered, options: options.clone(), commit_seconds })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.reader.shared()
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.options
    }

    pub(crate) fn set_recovered(&mut self, recovered: Recovered) {
        self.recovered = recovered;
    }

    /// A handle for reading beside this store, from any thread.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The log of the store's Raft group, for reading beside this store, from any thread.
    pub fn raft_log(&self) -> StoredRaftLog {
        StoredRaftLog::new(Arc::clone(self.shared()))
    }

    /// Starts the thread that writes committed rows to `rows.redb`, until the handle is dropped. Without it
    /// commits do that themselves now and then. At most one may run.
    pub fn spawn_materializer(&self) -> std::io::Result<Materializer> {
        Materializer::spawn(Arc::clone(self.reader.shared()))
    }

    /// Writes the committed rows to `rows.redb` now; does nothing if it has them. It is synced every few times.
    ///
    /// # Errors
    /// The store takes no more writes; reads go on.
    pub fn materialize(&self) -> Result<(), CommitError> {
        self.reader.shared().materialize(false)
    }

    /// Makes everything durable and writes all rows, so that the next opening has nothing to replay. The store
    /// may be used on.
    ///
    /// # Errors
    /// As [`RedbStore::materialize`].
    pub fn flush(&self) -> Result<(), CommitError> {
        self.reader.shared().sync()?;
        self.reader.shared().materialize(true)
    }
}

impl Store for RedbStore {
    fn recovered(&self) -> Recovered {
        self.recovered.clone()
    }

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError> {
        let started = Instant::now();
        let committed = self.reader.shared().commit(batch, durability);
        self.commit_seconds.record(started.elapsed());
        committed
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        self.reader.shared().sync()
    }

    /// It happens little by little, whenever rows were written.
    fn truncate(&mut self, until: LogPosition) {
        self.reader.shared().truncate_until(until);
    }

    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError> {
        self.reader.shared().keep_fork(fork)
    }

    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError> {
        self.reader.shared().rejoin(card)
    }
}

impl Rows for RedbStore {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.reader.row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.reader.scan(keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.reader.members(keyspace, key, kind)
    }

    fn expiry(&self) -> Hlc {
        self.reader.expiry()
    }

    fn expiry_of(&self, keyspace: KeyspaceId) -> Hlc {
        self.reader.expiry_of(keyspace)
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.reader.has_deadlines(keyspace)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.reader.deadlines(keyspace, after, until_ms, visit)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.reader.order(keyspace, key, from, visit)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.reader.keys(keyspace)
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.reader.bytes(keyspace)
    }
}

impl Log for RedbStore {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        self.reader.missing(keyspace, after, bytes_max)
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        self.reader.frame_with(keyspace, dot)
    }

    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        self.reader.records_from(position, count_max)
    }

    fn first(&self) -> LogPosition {
        self.reader.first()
    }

    fn end(&self) -> LogEnd {
        self.reader.end()
    }

    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.reader.floor(keyspace, author)
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        self.reader.card(replica)
    }

    fn is_dropping(&self, keyspace: KeyspaceId) -> bool {
        self.reader.is_dropping(keyspace)
    }
}

impl Shared {
    pub(crate) fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().expect("no holder of this lock panics")
    }

    pub(crate) fn published_mut(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().expect("no holder of this lock panics")
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn view(&self) -> View {
        self.published().view()
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let published = self.published();
        let keyspaces = published.names.held().map(|(_, keyspace, name)| {
            (name.clone(), published.state(keyspace).expect("every held keyspace has a state"))
        });
        Recovered {
            card: published.card,
            keyspaces: keyspaces.collect(),
            clock: published.clock,
            expiry: published.expiry,
            settings: published.names.all_settings(),
            modes: published.modes.clone(),
            anchor: published.anchor.clone(),
            position: published.position,
            fork: published.fork,
        }
    }

    /// What the next commit changes. The caller holds `writer` until it is published, so that the heads which share a
    /// block with new ones are those of the commit before.
    pub(crate) fn update<'a>(
        &self,
        names: &Names,
        records: impl IntoIterator<Item = Recorded<'a>>,
        changes: &Changes,
        states: BTreeMap<KeyspaceId, SpaceState>,
    ) -> Update {
        let mut update = Update::new(names, records, changes, states);
        update.put_heads(&self.published(), names);
        update
    }

    /// Adds the entries of an update beside the readers, then publishes. The caller holds `writer`, so that
    /// the active overlay stays the same one.
    pub(crate) fn make_visible(&self, mut update: Update, publish: impl FnOnce(&mut Published, Update)) {
        let entries = std::mem::take(&mut update.entries);
        let (active, moment, oldest_read) = self.next_moment();
        active.add(moment, oldest_read, entries);
        publish(&mut self.published_mut(), update);
        if self.is_over(1, &active) {
            self.thread_wakes.notify_all();
        }
    }

    /// Where the next commit goes, its moment, and the oldest moment at which somebody reads.
    fn next_moment(&self) -> (Arc<Overlay>, Moment, Moment) {
        let published = self.published();
        let active = Arc::clone(&published.generation.active);
        // Readers of earlier moments hold the generation; readers that come now read at the present one.
        let is_read = Arc::strong_count(&published.generation) > 1;
        let oldest_read = if is_read { 0 } else { published.moment };
        (active, published.moment + 1, oldest_read)
    }

    /// Makes the log durable. No commit is under way meanwhile, so nothing is published that it does not cover.
    pub(crate) fn sync(&self) -> Result<(), CommitError> {
        self.guard.check()?;
        let mut writer = self.writer();
        if writer.log_is_unsynced {
            self.log.write_out(redb::Durability::Immediate, &mut writer.copy)?;
            let reached = self.published().reached();
            self.mark.set(reached);
            writer.is_synced(reached);
        }
        Ok(())
    }
}
