//! What a watcher missed: the log from its cursor on, as changes with the values of now.
//!
//! The log says which keys were touched and by whom, not what they held. So several changes of one key in one
//! piece of the log are one, the old value is unknown, and a removal by prefix is told as a loss: the watcher
//! reads again what it cares for.
//!
//! The log is read in small steps on threads that may block, a few at once, so that replays hold up nobody.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::op::{Op, RowRef};
use tidelock_engine::ports::{Log, LogEntry, LogPosition, LogRecord, ReadError};
use tidelock_engine::row::Kind;
use tidelock_store::Reader;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{queue, visible};
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// The steps that run at once on a node. More read faster on an idle machine, and leave less to the clients.
const STEPS_AT_ONCE: u32 = 2;

/// The frames that one step reads at most.
const STEP_FRAMES_MAX: usize = 64;

/// The bytes of frames after which a step reads no more of them.
const STEP_FRAME_BYTES: usize = 1 << 20;

/// The events that one step makes at most.
const STEP_EVENTS_MAX: usize = 256;

/// The bytes of events after which a step makes no more of them.
const STEP_EVENT_BYTES: usize = 1 << 20;

/// What all replays of a node share: who reads, on what, and how many at once.
#[derive(Debug)]
pub(crate) struct Replays {
    /// Gone after a shutdown, so that the store can be opened again.
    reader: RwLock<Option<Reader>>,
    permits: Arc<Semaphore>,
    runtime: Handle,
}

/// A replay under way.
#[derive(Debug)]
pub(super) struct Replay {
    replays: Arc<Replays>,
    /// Where it stands; `None` while a step is under way, and after the last.
    place: Option<Place>,
    /// The step under way; it answers `None` when the node was shut down. Dropping the set gives it up.
    step: JoinSet<Option<Result<Stepped, ReadError>>>,
    ready: VecDeque<WatchEvent>,
}

/// Where a step ended, and what it found.
type Stepped = (Place, VecDeque<WatchEvent>);

/// What a replay says next.
#[derive(Debug)]
pub(super) enum Replayed {
    /// Something that happened.
    Event(WatchEvent),
    /// All up to the end was said.
    End,
    /// The rest cannot be said; it was logged why.
    Failed,
    /// The node was shut down before the end.
    Closed,
}

/// Where a replay stands in the log.
#[derive(Debug)]
struct Place {
    keyspace: (KeyspaceName, KeyspaceId),
    range: WatchRange,
    /// The first frame that was not read.
    next: LogPosition,
    /// The position before the piece that was read last: where to resume until all of the piece was told.
    before: Cursor,
    /// What that piece touched and was not told yet.
    untold: VecDeque<(visible::Group, ReplicaId)>,
    /// Whether that piece removed by prefix, which is told last.
    is_cleared: bool,
}

impl Replays {
    /// Replays from a reader, by the threads of a runtime.
    pub(crate) fn new(reader: Reader, runtime: Handle) -> Self {
        let permits = Arc::new(Semaphore::new(STEPS_AT_ONCE as usize));
        Self { reader: RwLock::new(Some(reader)), permits, runtime }
    }

    /// The reader, until the shutdown.
    pub(crate) fn reader(&self) -> Option<Reader> {
        self.reader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads on a thread that may block, once it is its turn; `None` when the node was shut down.
    pub(crate) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<Result<T, ReadError>> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let runtime = self.runtime.clone();
        let reading = runtime.spawn_blocking(move || {
            // The reader goes before the permit, so that whoever has all permits knows that nobody reads.
            let _permit = permit;
            let reader = self.reader()?;
            Some(read(&reader))
        });
        reading.await.unwrap_or_else(|panic| {
            let source = io::Error::other(panic);
            Some(Err(ReadError::Io { file: "the log", source }))
        })
    }

    /// Nobody begins to read any more.
    pub(crate) fn let_go(&self) {
        self.reader.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Ends all replays. When it returns none of them reads any more.
    pub(crate) async fn close(&self) {
        self.let_go();
        // It fails only when this was done before.
        let _ = self.permits.acquire_many(STEPS_AT_ONCE).await;
        self.permits.close();
    }
}

impl Replay {
    pub(super) fn new(
        keyspace: (KeyspaceName, KeyspaceId),
        range: WatchRange,
        from: Cursor,
        replays: Arc<Replays>,
    ) -> Self {
        let next = LogPosition(from.0.saturating_add(1));
        let place = Place { keyspace, range, next, before: from, untold: VecDeque::new(), is_cleared: false };
        Self { replays, place: Some(place), step: JoinSet::new(), ready: VecDeque::new() }
    }

    /// What comes next of the log up to `until`, which may grow from call to call. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn next(&mut self, until: LogPosition) -> Replayed {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Replayed::Event(event);
            }
            if let Some(place) = self.place.take() {
                if place.next.0 > until.0.saturating_add(1) {
                    let (next, until) = (place.next.0, until.0);
                    tracing::warn!(next, until, "a watcher's cursor is behind the end of this log");
                    return Replayed::Failed;
                }
                if place.is_at_end(until) {
                    self.place = Some(place);
                    return Replayed::End;
                }
                self.begin(place, until);
            }
            match self.step.join_next().await {
                Some(Ok(Some(Ok((place, events))))) => {
                    self.place = Some(place);
                    self.ready = events;
                }
                Some(Ok(Some(Err(error)))) => {
                    tracing::error!(%error, "cannot replay the log for a watcher");
                    return Replayed::Failed;
                }
                // (1) The node was shut down, (2) its runtime was, (3) either was said before.
                Some(Ok(None) | Err(_)) | None => return Replayed::Closed,
            }
        }
    }

    /// Begins the next step: it waits for its turn as a task, and reads on a thread that may block.
    fn begin(&mut self, mut place: Place, until: LogPosition) {
        let replays = Arc::clone(&self.replays);
        let step = replays.read(move |reader| place.step(reader, until).map(|events| (place, events)));
        self.step.spawn_on(step, &self.replays.runtime);
    }
}

impl Place {
    fn is_at_end(&self, until: LogPosition) -> bool {
        self.untold.is_empty() && !self.is_cleared && self.next > until
    }

    /// Reads a piece of the log, or tells more of the one that was read.
    fn step(&mut self, reader: &Reader, until: LogPosition) -> Result<VecDeque<WatchEvent>, ReadError> {
        if self.untold.is_empty() && !self.is_cleared {
            self.read_piece(reader, until)?;
        }
        let last = Cursor(self.next.0 - 1);
        let mut events = VecDeque::new();
        let mut bytes = 0;
        while events.len() < STEP_EVENTS_MAX
            && bytes < STEP_EVENT_BYTES
            && let Some((group, author)) = self.untold.pop_front()
        {
            let new = visible::read(reader, &group)?;
            let (_, key, kind, subkey) = group;
            let is_last = self.untold.is_empty() && !self.is_cleared;
            let cursor = if is_last { last } else { self.before };
            let keyspace = self.keyspace.0.clone();
            let change =
                Change { cursor, keyspace, key, kind, subkey, old: None, new, author, is_replayed: true };
            bytes += queue::bytes(&change);
            events.push_back(WatchEvent::Changed(change));
        }
        if self.untold.is_empty() && std::mem::take(&mut self.is_cleared) {
            events.push_back(WatchEvent::Lagged(last));
        }
        Ok(events)
    }

    fn read_piece(&mut self, reader: &Reader, until: LogPosition) -> Result<(), ReadError> {
        self.before = Cursor(self.next.0 - 1);
        // Key, kind and subkey, with the last author.
        let mut touched: BTreeMap<visible::Group, ReplicaId> = BTreeMap::new();
        let (mut frames, mut bytes) = (0, 0);
        // One by one, because a frame may be large.
        while self.next <= until && frames < STEP_FRAMES_MAX && bytes < STEP_FRAME_BYTES {
            let record = reader.records_from(self.next, 1)?.pop();
            let record = record.ok_or_else(|| damaged(format!("no record at {}", self.next.0)))?;
            // What was let go of the log may have been anything.
            self.is_cleared |= record.position > self.next;
            bytes += self.note(&record, &mut touched)?;
            frames += 1;
            self.next = LogPosition(record.position.0 + 1);
        }
        self.untold = touched.into_iter().filter(|((_, key, ..), _)| self.range.contains(key)).collect();
        Ok(())
    }
}

impl Place {
    /// Notes what a record touched; answers its bytes.
    fn note(
        &mut self,
        record: &LogRecord,
        touched: &mut BTreeMap<visible::Group, ReplicaId>,
    ) -> Result<usize, ReadError> {
        let place = record.position.0;
        match &record.entry {
            LogEntry::Frame(bytes) => {
                let frame = Frame::decode(bytes)
                    .map_err(|error| damaged(format!("the frame at {place}: {error}")))?;
                if frame.header().keyspace == self.keyspace.1 {
                    for op in frame.ops() {
                        self.is_cleared |= touch(op, (self.keyspace.1, frame.header().author), touched);
                    }
                }
                Ok(bytes.len())
            }
            // What was dropped with a keyspace may have been of this one.
            LogEntry::Dropped => {
                self.is_cleared = true;
                Ok(0)
            }
            // State that was taken over says what is, and not what was done.
            LogEntry::Install(bytes) => {
                let install = Install::decode(bytes)
                    .map_err(|error| damaged(format!("the record at {place}: {error}")))?;
                self.is_cleared |= install.keyspace == self.keyspace.1;
                Ok(bytes.len())
            }
            LogEntry::Staged(bytes) => Ok(bytes.len()),
        }
    }
}

fn damaged(what: String) -> ReadError {
    ReadError::Damaged { file: "log.redb", what }
}

/// Notes what an operation touched; answers whether it removed by prefix, which names no rows.
fn touch(
    op: &Op,
    (keyspace, author): (KeyspaceId, ReplicaId),
    touched: &mut BTreeMap<visible::Group, ReplicaId>,
) -> bool {
    let mut note = |key: &[u8], kind: Kind, subkey: &[u8]| {
        let kind = if kind == Kind::Counter { Kind::Register } else { kind };
        touched.insert((keyspace, key.to_vec(), kind, subkey.to_vec()), author);
    };
    match op {
        Op::Set { key, .. } | Op::Increment { key, .. } => note(key, Kind::Register, &[]),
        Op::Add { key, elements } => elements.iter().for_each(|it| note(key, Kind::Set, &it.element)),
        Op::Put { key, fields } => fields.iter().for_each(|it| note(key, Kind::Map, &it.field)),
        Op::Score { key, members } => members.iter().for_each(|it| note(key, Kind::Sorted, &it.member)),
        Op::Change { key, .. } => note(key, Kind::Document, &[]),
        Op::Retire { .. } | Op::Expire { .. } | Op::Outcome { .. } | Op::Forget { .. } => {}
        Op::Delete { key, rows, slots } => {
            rows.iter().for_each(|RowRef { kind, subkey, .. }| note(key, *kind, subkey));
            if !slots.is_empty() {
                note(key, Kind::Counter, &[]);
            }
        }
        Op::Clear { slots, .. } => {
            slots.iter().for_each(|slot| note(&slot.key, Kind::Counter, &[]));
            return true;
        }
    }
    false
}
