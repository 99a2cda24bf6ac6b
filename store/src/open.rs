//! Opening a store: whose it is, which version it has, and what a crash left to be replayed.
//!
//! The log decides. Rows are brought to its end by applying what they lack, as when it was first committed.
//! A store is never changed before it is known to be ours and of a version that we know.

mod error;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use tidelock_engine::causality::{Hlc, VersionVector};
use tidelock_engine::draft::Changes;
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{KeyspaceState, LogEnd, LogPosition, ReadError, Rows};

pub use self::error::OpenError;
use crate::backend::WriteGuard;
use crate::database::Opening;
use crate::disk::{Disk, DiskLock};
use crate::identity;
use crate::log::LogFile;
use crate::mark::{Mark, Reached};
use crate::names::Names;
use crate::overlay::Overlay;
use crate::published::{Published, Space};
use crate::raft::RaftBounds;
use crate::replay::replay;
use crate::rows::RowsFile;
use crate::schema::{LOG_FILE, MARK_FILE, ROOM_FILE, ROWS_FILE, ROWS_FILE_ASIDE, SpaceState};
use crate::store::{Retention, Shared, Writer};
use crate::view::Generation;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The cluster that the store is of. A store of another one is refused.
    pub cluster: ClusterId,
    /// Whose store it becomes if it is new, or turns out to be a copy of another; so its nonce must be fresh. In
    /// all other cases the store's own card wins, and only the public key must be the same.
    pub card: AuthorCard,
    /// What redb may cache of both files, in bytes; a quarter of it is the log's. Default 256 MiB. Less makes
    /// reads of cold rows slower (a page per read), more takes memory from the user's programs.
    pub cache_bytes: usize,
    /// Whether `rows.redb` is read as a whole at opening, to find bits that turned while nobody looked. Default
    /// true. Without it a row that cannot be found for a damaged page above it reads as absent; with it
    /// opening takes about a second per gigabyte.
    pub verify_rows: bool,
    /// When committed rows are written to `rows.redb`.
    pub materialize: MaterializeOptions,
}

impl OpenOptions {
    /// The defaults.
    pub fn new(cluster: ClusterId, card: AuthorCard) -> Self {
        let materialize = MaterializeOptions::default();
        Self { cluster, card, cache_bytes: 256 << 20, verify_rows: true, materialize }
    }
}

/// When committed rows are written to `rows.redb`. Later means fewer pages written per row, since rows that are
/// written together share pages, but more memory, and more to replay after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaterializeOptions {
    /// The number of entries in memory at which the background thread starts writing. Default 200,000: of
    /// 1,000,000 small keys that are written at random, several share a page then.
    pub entries: usize,
    /// The same in bytes. Default 32 MiB.
    pub bytes: usize,
    /// At so many times either figure a commit waits for the thread, or writes itself if there is none, so
    /// that memory stays bounded by about twice that. From 2; default 2.
    pub wait_at: usize,
    /// Every so many times the rows are synced. From 1, which is the default: what is written at once is much already.
    /// The log is replayed from the last time, at 10 us for each write or so.
    pub synced_every: u64,
    /// The background thread writes what is there after so long. Default 5 s.
    pub idle: Duration,
}

impl Default for MaterializeOptions {
    fn default() -> Self {
        Self { entries: 200_000, bytes: 32 << 20, wait_at: 2, synced_every: 1, idle: Duration::from_secs(5) }
    }
}

/// What the log says, before the rows are looked at.
#[derive(Debug)]
struct OpenLog {
    log: LogFile,
    mark: Mark,
    card: AuthorCard,
    former: Option<ReplicaId>,
    names: Names,
    /// Per keyspace and author the seq up to which frames may be missing.
    floors: BTreeMap<KeyspaceId, VersionVector>,
    /// The position of the first record that is held.
    first: LogPosition,
    /// Where it ends, and its highest clock.
    end: (LogEnd, Hlc),
    /// What has a deadline up to this moment has expired.
    expiry: Hlc,
    modes: BTreeMap<KeyspaceName, Vec<u8>>,
    anchor: Option<Vec<u8>>,
    raft: RaftBounds,
}

/// Opens a store and brings its rows to the end of its log. Rows that turn out to be damaged are moved aside
/// and made again, once.
pub(crate) fn open(disk: &dyn Disk, options: &OpenOptions) -> Result<Arc<Shared>, OpenError> {
    let lock = Arc::new(disk.lock()?);
    open_guarded(disk, options, &lock, &Arc::default())
}

/// Opens a store whose lock is held, and whose files are written as `guard` says.
pub(crate) fn open_guarded(
    disk: &dyn Disk,
    options: &OpenOptions,
    lock: &Arc<DiskLock>,
    guard: &Arc<WriteGuard>,
) -> Result<Arc<Shared>, OpenError> {
    match open_locked(disk, options, lock, guard) {
        Err(OpenError::Read(ReadError::Damaged { file: ROWS_FILE, what })) => {
            tracing::warn!(%what, "rows.redb is moved aside and made again from the log");
            disk.rename(ROWS_FILE, ROWS_FILE_ASIDE)
                .map_err(|source| OpenError::Io { file: ROWS_FILE, source })?;
            open_locked(disk, options, lock, guard)
        }
        result => result,
    }
}

fn open_locked(
    disk: &dyn Disk,
    options: &OpenOptions,
    lock: &Arc<DiskLock>,
    guard: &Arc<WriteGuard>,
) -> Result<Arc<Shared>, OpenError> {
    let opening = |name, cache_bytes| Opening { disk, name, guard: Arc::clone(guard), cache_bytes };
    let log_opening = opening(LOG_FILE, log_cache_bytes(options.cache_bytes));
    let rows_opening = opening(ROWS_FILE, rows_cache_bytes(options.cache_bytes));
    // A crash may have left copies that were begun.
    log_opening.remove_new()?;
    rows_opening.remove_new()?;
    let io = |source| OpenError::Io { file: ROOM_FILE, source };
    if disk.exists(ROOM_FILE).map_err(io)? {
        disk.remove(ROOM_FILE).map_err(io)?;
    }
    let open_log = open_log(&log_opening, options)?;
    let replica = open_log.card.replica();
    let replicas = (replica, open_log.former);
    let end = open_log.end.0.position;
    let rows = RowsFile::open_or_make(&rows_opening, replicas, end, options.verify_rows)?;
    let fork = identity::fork(&open_log.log, replica)?;
    let OpenLog { expiry, modes, anchor, raft, .. } = open_log;
    let loaded = load(&rows, open_log.names, open_log.card)?;
    let mut published = Published { fork, expiry, modes, anchor, raft, ..loaded };
    published.find_clocks();
    published.first = open_log.first;
    for (keyspace, floor) in open_log.floors {
        published.spaces.entry(keyspace).or_default().floor = Arc::new(floor);
    }
    let retention = Retention { rows_synced: published.position, ..Retention::default() };
    let shared = Arc::new(Shared {
        published: RwLock::new(published),
        writer: Mutex::new(Writer::behind(Reached { position: end, raft_commits: raft.commits })),
        rounds: Mutex::default(),
        retention: Mutex::new(retention),
        thread: Mutex::default(),
        thread_wakes: Condvar::new(),
        guard: Arc::clone(guard),
        options: options.materialize,
        drop_progress: Mutex::default(),
        pins: Mutex::default(),
        log: open_log.log,
        mark: open_log.mark,
        rows,
        disk: disk.handle(),
        cache_bytes: options.cache_bytes,
        is_compacting: AtomicBool::new(false),
        compaction: Mutex::default(),
        lock: Arc::clone(lock),
    });
    skip_what_is_gone(&shared);
    replay(&shared, open_log.end)?;
    guard.serve();
    Ok(shared)
}

/// What redb may cache of the log, of what it may cache of both files. Its end is what is read most.
pub(crate) fn log_cache_bytes(cache_bytes: usize) -> usize {
    cache_bytes / 4
}

/// What it may cache of the rows.
pub(crate) fn rows_cache_bytes(cache_bytes: usize) -> usize {
    cache_bytes - log_cache_bytes(cache_bytes)
}

/// Opens the log, or makes it if there is no store yet.
fn open_log(opening: &Opening<'_>, options: &OpenOptions) -> Result<OpenLog, OpenError> {
    let exists = |name| opening.disk.exists(name).map_err(|source| opening.io(source));
    if !exists(LOG_FILE)? {
        if exists(ROWS_FILE)? {
            return Err(OpenError::LogMissing);
        }
        // What another log was acknowledged up to says nothing of this one.
        opening.disk.remove(MARK_FILE).map_err(|source| opening.io(source))?;
        LogFile::create(opening, options.cluster, &options.card)?;
    }
    let log = LogFile::open(opening)?;
    let (cluster, card) = log.identity()?;
    if cluster != options.cluster {
        return Err(OpenError::OtherCluster { found: cluster, asked: options.cluster });
    }
    if card.public_key != options.card.public_key {
        return Err(OpenError::OtherKey);
    }
    let mut names = log.names(options.cluster, card)?;
    let (floors, first, end) = (log.floors(&names)?, log.first()?, log.end()?);
    let expiry = log.expiry()?;
    let mark = Mark::open(opening.disk).map_err(|source| OpenError::Io { file: MARK_FILE, source })?;
    mark.is_reached(log.reached()?)?;
    let card = identity::settle(opening, &log, &mut names, (card, &options.card))?;
    let former = identity::former(&log)?;
    let (modes, anchor, raft) = (log.modes()?, log.anchor()?, log.raft_bounds()?);
    Ok(OpenLog { log, mark, card, former, names, floors, first, end, expiry, modes, anchor, raft })
}

/// Rows that stand before the first record that is held cannot be made from the log. The keyspaces of which
/// something is gone have no rows then: they are taken over from peers.
fn skip_what_is_gone(shared: &Shared) {
    let _writer = shared.writer();
    let (names, end, states) = {
        let published = shared.published();
        let end = LogEnd { position: LogPosition(published.first.0 - 1), total_bytes: 0 };
        if published.position >= end.position {
            return;
        }
        let gone = published.spaces.iter().filter(|(_, space)| space.floor.iter().next().is_some());
        let partial = |(keyspace, _): (&KeyspaceId, &Space)| {
            (*keyspace, SpaceState { is_partial: true, ..SpaceState::default() })
        };
        (Arc::clone(&published.names), end, gone.map(partial).collect::<BTreeMap<_, _>>())
    };
    tracing::error!(
        keyspaces = states.len(),
        "rows are gone, and so is the log that made them; peers have them"
    );
    let update = shared.update(&names, [], &Changes::default(), states);
    shared.make_visible(update, |published, update| published.publish(update, None, end, Hlc::default()));
}

/// The rows as they were last written.
fn load(rows: &RowsFile, names: Names, card: AuthorCard) -> Result<Published, ReadError> {
    let generation =
        Generation { active: Arc::new(Overlay::default()), frozen: None, rows: Arc::new(rows.table()?) };
    let mut published = Published {
        card,
        fork: None,
        generation: Arc::new(generation),
        moment: 0,
        position: rows.position()?,
        total_bytes: 0,
        first: LogPosition(1),
        partial: Arc::default(),
        clock: Hlc::default(),
        expiry: Hlc::default(),
        names: Arc::new(names),
        spaces: BTreeMap::new(),
        modes: BTreeMap::new(),
        clocks: Arc::default(),
        anchor: None,
        raft: RaftBounds::default(),
    };
    let view = published.view();
    let own = card.replica();
    for (_, keyspace, _) in view.names.held() {
        let state = view.state(keyspace)?.unwrap_or_default();
        let keys = view.keys(keyspace)?;
        let bytes = view.bytes(keyspace)?;
        let KeyspaceState { fingerprint, heads, is_partial } = state;
        // Who joined again, and whose rows do not say so yet, has not taken over anything.
        let is_partial = is_partial || view.names.settings(keyspace).is_behind(own, heads.seq(own));
        let (heads, floor) = (Arc::new(heads), Arc::default());
        let mut has_deadlines = false;
        view.deadlines(keyspace, None, u64::MAX, &mut |_| {
            has_deadlines = true;
            ControlFlow::Break(())
        })?;
        let space = Space { fingerprint, keys, bytes, is_partial, has_deadlines, heads, floor };
        published.spaces.insert(keyspace, space);
    }
    published.partial = Arc::new(published.partial_spaces());
    Ok(published)
}

#[cfg(test)]
mod tests {
    use tidelock_engine::frame::{FrameBuilder, FrameStart, SigningKey};
    use tidelock_engine::id::{Epoch, FrameId};
    use tidelock_engine::op::{Element, Op};
    use tidelock_engine::ports::{Batch, Durability, Store};

    use super::*;
    use crate::disk::MemDisk;
    use crate::schema::{LOG_FORMAT, META_CARD, META_CLUSTER, META_FORMAT, META_REPLICA, ROWS_FORMAT, seal};
    use crate::store::RedbStore;

    fn options() -> OpenOptions {
        let card = SigningKey::from_seed([1; 32]).card([2; 16]);
        OpenOptions { cache_bytes: 4 << 20, ..OpenOptions::new(ClusterId::named("c"), card) }
    }

    fn opening<'a>(disk: &'a MemDisk, name: &'static str) -> Opening<'a> {
        Opening { disk, name, guard: Arc::default(), cache_bytes: 4 << 20 }
    }

    /// The entries of a file as they are stored.
    fn entries(disk: &MemDisk, name: &'static str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let format = if name == LOG_FILE { LOG_FORMAT } else { ROWS_FORMAT };
        let file = opening(disk, name).open(format..=format).expect("the file is sound");
        let entries = file.entries().expect("the file is sound");
        let all = entries.range::<&[u8]>(..).expect("the file is sound");
        all.map(|item| item.expect("the file is sound"))
            .map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
            .collect()
    }

    /// A store with one frame, which adds the element `e` to the set `k`.
    fn store_with_a_frame(disk: &MemDisk) -> tidelock_engine::frame::Frame {
        let options = options();
        let name: KeyspaceName = "n".parse().expect("a valid name");
        let start = FrameStart {
            keyspace: KeyspaceId::of(options.cluster, &name),
            epoch: Epoch(0),
            author: options.card.replica(),
            first: 1,
            previous: FrameId::NONE,
            hlc: Hlc::at(1),
        };
        let mut builder = FrameBuilder::new(start, &VersionVector::default());
        let elements = vec![Element { element: b"e".to_vec(), observed: Vec::new() }];
        builder.push(Op::Add { key: b"k".to_vec(), elements });
        let frame = builder.seal(&SigningKey::from_seed([1; 32]));
        let mut store = RedbStore::open(disk, &options).expect("an empty disk");
        let records = [crate::replay::Record::Frame(frame.clone())];
        let changes = crate::replay::apply(&store, |_, _| 0, &records).expect("the store can be read");
        let (keyspaces, frames, clock) = (vec![name], vec![frame.clone()], Hlc::at(2));
        let batch = Batch { keyspaces, frames, changes, clock, ..Batch::default() };
        store.commit(&batch, Durability::Durable).expect("nothing fails");
        store.flush().expect("nothing fails");
        frame
    }

    #[test]
    fn log_has_golden_bytes() {
        let disk = MemDisk::new();
        let frame = store_with_a_frame(&disk);
        let clock = [0, 0, 0, 0, 0, 2, 0, 0];
        let total = (frame.bytes().len() as u64).to_be_bytes();
        let golden = [
            (vec![2, 0, 0, 0, 0], b"n".to_vec()),
            (vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], vec![0, 0, 0, 0, 0, 0, 0, 1]),
            (vec![5, 0, 0, 0, 0, 0, 0, 0, 1], [&clock[..], &total, &[0], frame.bytes()].concat()),
        ];
        let golden: Vec<_> =
            golden.into_iter().map(|(key, value)| (key.clone(), seal(&key, value))).collect();
        assert_eq!(entries(&disk, LOG_FILE), golden);
        let file = opening(&disk, LOG_FILE).open(LOG_FORMAT..=LOG_FORMAT).expect("the file is sound");
        let meta = |key| file.meta(key).expect("the file is sound").expect("the row is there");
        assert_eq!(meta(META_FORMAT), [0, 0, 0, 2]);
        assert_eq!(meta(META_CLUSTER), ClusterId::named("c").as_bytes());
        assert_eq!(meta(META_CARD), [&options().card.public_key[..], &[2; 16]].concat());
    }

    #[test]
    fn rows_have_golden_bytes() {
        let disk = MemDisk::new();
        let frame = store_with_a_frame(&disk);
        let fingerprint = {
            let store = RedbStore::open(&disk, &options()).expect("the store is sound");
            store.reader().summary(frame.header().keyspace).expect("the keyspace is known").fingerprint
        };
        let golden = [
            (vec![0], vec![0, 0, 0, 0, 0, 0, 0, 1]),
            (
                vec![1, 0],
                [
                    &fingerprint.to_bits().to_be_bytes()[..],
                    &[0, 0, 0, 0, 0, 0, 0, 1, 0],
                    &[0, 0, 0, 0, 0, 0, 0, 2],
                ]
                .concat(),
            ),
            (vec![2, 0, 0], [&[1][..], frame.id().as_bytes()].concat()),
            (vec![3, 0, b'k', 0, 3], vec![0, 0, 0, 0, 0, 0, 0, 1]),
            (vec![4, 0, b'k', 0, 3, b'e', 0, 0, 1], vec![]),
        ];
        let golden: Vec<_> =
            golden.into_iter().map(|(key, value)| (key.clone(), seal(&key, value))).collect();
        assert_eq!(entries(&disk, ROWS_FILE), golden);
        let file = opening(&disk, ROWS_FILE).open(ROWS_FORMAT..=ROWS_FORMAT).expect("the file is sound");
        let meta = |key| file.meta(key).expect("the file is sound").expect("the row is there");
        assert_eq!(meta(META_FORMAT), [0, 0, 0, 2]);
        assert_eq!(meta(META_REPLICA), options().card.replica().as_bytes());
    }

    #[test]
    fn unknown_version_of_either_file_is_refused_and_the_file_is_kept() {
        for (name, version, ours) in
            [(LOG_FILE, 1, 3), (LOG_FILE, 4, 3), (ROWS_FILE, 1, 2), (ROWS_FILE, 3, 2)]
        {
            let disk = MemDisk::new();
            store_with_a_frame(&disk);
            let replica = options().card.replica();
            let other = [(META_FORMAT, &[0, 0, 0, version][..]), (META_REPLICA, replica.as_bytes())];
            opening(&disk, name).create(&other).expect("nothing fails");
            let bytes = disk.size(name);
            let refused = RedbStore::open(&disk, &options()).expect_err("the version is not known");
            let is_version = matches!(refused, OpenError::Version { file, found, known } if file == name && (found, known) == (u32::from(version), ours));
            assert!(is_version, "{refused}");
            assert!(crate::check(&disk, &mut |_| {}).is_err());
            assert_eq!(disk.size(name), bytes);
            assert!(!disk.names().contains(&ROWS_FILE_ASIDE.to_owned()));
        }
    }
}
