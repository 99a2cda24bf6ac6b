//! Who watches what, and what they are told after each turn.
//!
//! A watcher has a bounded queue, and all queues together are bounded too, so memory never grows with slow
//! readers: who lost changes is told so. A watcher that comes back with a cursor first reads the log from there
//! up to the position at which its queue begins, so between the two nothing is lost and nothing is said twice.

mod notifying;
mod observers;
mod queue;
mod replay;
mod tail;
#[cfg(test)]
mod tests;
mod tracked;
mod visible;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelock_engine::causality::Hlc;
use tidelock_engine::draft::Changes;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName};
use tidelock_engine::ports::{LogPosition, Rows};
use tidelock_store::Reader;
use tokio::sync::watch;

use self::notifying::touched;
pub(crate) use self::observers::Observers;
use self::queue::{QueueReader, QueueWriter};
pub(crate) use self::replay::Replays;
use self::replay::{Replay, Replayed};
pub(crate) use self::tail::Tail;
use self::visible::{Seen, visible_changes};
use crate::pubsub::PubSub;
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// The bytes that wait for all watchers of a node together. Beyond it the fullest queue is given up.
const ALL_QUEUES_BYTES_MAX: usize = 64 << 20;

/// A closure that is told of every visible change.
pub(crate) type ChangeObserver = dyn Fn(&Change) + Send + Sync;

/// A watcher that wants to be told from now on.
#[derive(Debug)]
pub(crate) struct WatchRequest {
    range: WatchRange,
    keyspace: KeyspaceId,
    queue: QueueWriter,
}

/// Who watches what. Lives in the event loop.
#[derive(Debug)]
pub(crate) struct WatchHub {
    reader: Reader,
    watchers: Vec<WatchRequest>,
    observers: Arc<Observers<ChangeObserver>>,
    /// Who is told of keys by messages.
    pubsub: PubSub,
    /// The position after the last turn.
    position: LogPosition,
    /// What had expired after the last turn is not to be seen since then, or before.
    expiry: Hlc,
    /// The same of strong keyspaces, which have clocks of their own.
    expiries: BTreeMap<KeyspaceId, Hlc>,
    /// Says after each turn how far the log is, to those who read it themselves.
    commits: watch::Sender<LogPosition>,
    /// What waits in all queues, or more: readers take from them without saying so.
    queued_bytes: usize,
}

/// The visible changes of one turn.
struct Turn {
    /// With the cursor before the turn, except the last.
    changes: Vec<(KeyspaceId, Change)>,
    before: Cursor,
    after: Cursor,
}

impl WatchHub {
    /// A hub without watchers.
    pub(crate) fn new(reader: Reader, observers: Arc<Observers<ChangeObserver>>, pubsub: PubSub) -> Self {
        let (position, expiry) = (reader.position(), reader.expiry());
        let (watchers, expiries) = (Vec::new(), BTreeMap::new());
        let (commits, _) = watch::channel(position);
        Self { reader, watchers, observers, pubsub, position, expiry, expiries, commits, queued_bytes: 0 }
    }

    /// How far the log is, until the node ends.
    pub(crate) fn commits(&self) -> watch::Receiver<LogPosition> {
        self.commits.subscribe()
    }

    /// Adds a watcher, which is told of all turns from the next one on.
    pub(crate) fn add(&mut self, request: WatchRequest) {
        request.queue.begin(self.position);
        self.watchers.push(request);
    }

    /// Tells watchers and observers what a turn changed that was just committed.
    /// `unix_ms` says which deadlines are past.
    pub(crate) fn publish(&mut self, changes: &Changes, position: LogPosition, unix_ms: u64) {
        let before = Cursor(std::mem::replace(&mut self.position, position).0);
        self.commits.send_replace(position);
        self.forget_abandoned();
        self.invalidate(changes);
        let tells_of_keys = self.pubsub.tells_of_keys();
        if self.watchers.is_empty() && self.observers.is_empty() && !tells_of_keys {
            return;
        }
        let is_wanted = |keyspace: KeyspaceId, key: &[u8]| {
            let mut watchers = self.watchers.iter();
            tells_of_keys
                || !self.observers.is_empty()
                || watchers.any(|watcher| watcher.wants(keyspace, key))
        };
        let (snapshot, names) = (self.reader.snapshot(), self.reader.keyspaces());
        let seen = match visible_changes(&snapshot, changes, &is_wanted) {
            Ok(seen) => seen,
            Err(error) => {
                tracing::error!(%error, "cannot tell watchers of a change");
                self.watchers.iter().for_each(|watcher| watcher.queue.lose(position));
                return;
            }
        };
        let turn = Turn::new(seen, &names, (before, Cursor(position.0)));
        if tells_of_keys {
            match touched(&snapshot, changes, &turn.changes) {
                Ok(keys) => self.pubsub.tell_of_keys(keys, &names, unix_ms),
                Err(error) => tracing::error!(%error, "cannot notify of a change"),
            }
        }
        self.observers.tell(|observe| turn.changes.iter().for_each(|(_, change)| observe(change)));
        self.tell_all(&turn);
    }

    /// A keyspace is here no more: who watches it is told that it has lost what there was.
    pub(crate) fn lose(&self, keyspace: KeyspaceId) {
        let of = self.watchers.iter().filter(|watcher| watcher.keyspace == keyspace);
        of.for_each(|watcher| watcher.queue.lose(self.position));
        self.commits.send_replace(self.position);
        self.invalidate_all();
    }

    /// Forgets the watchers that went away, so that they do not gather while nothing is written.
    pub(crate) fn tick(&mut self) {
        self.forget_abandoned();
    }

    fn forget_abandoned(&mut self) {
        self.watchers.retain(|watcher| !watcher.queue.is_abandoned());
    }

    fn tell_all(&mut self, turn: &Turn) {
        self.queued_bytes = self.watchers.iter().map(|watcher| watcher.queue.bytes()).sum();
        for index in 0..self.watchers.len() {
            self.tell(index, turn);
        }
    }

    /// Queues what a watcher wants of a turn. When it loses a change it is not told the rest of the turn either,
    /// so that behind the loss whole turns follow.
    fn tell(&mut self, index: usize, turn: &Turn) {
        let position = LogPosition(turn.after.0);
        let WatchRequest { range, keyspace, .. } = &self.watchers[index];
        let (range, keyspace) = (range.clone(), *keyspace);
        let wanted =
            turn.changes.iter().filter(|(id, change)| *id == keyspace && range.contains(&change.key));
        let mut wanted = wanted.map(|(_, change)| change).peekable();
        while let Some(change) = wanted.next() {
            let bytes = queue::bytes(change);
            if self.watchers[index].queue.has_room(bytes) {
                self.make_room(bytes, position);
            }
            // Making room may have taken this watcher's queue.
            let queue = &self.watchers[index].queue;
            if !queue.has_room(bytes) {
                queue.lose(position);
                return;
            }
            let cursor = if wanted.peek().is_none() { turn.after } else { turn.before };
            queue.push(Change { cursor, ..change.clone() });
            self.queued_bytes += bytes;
        }
    }

    /// Gives up the fullest queues until so many bytes fit. A watcher that reads keeps its queue small, so it
    /// does not pay for those that do not read.
    fn make_room(&mut self, bytes: usize, position: LogPosition) {
        while self.queued_bytes + bytes > ALL_QUEUES_BYTES_MAX {
            let sizes = || self.watchers.iter().map(|watcher| watcher.queue.bytes());
            self.queued_bytes = sizes().sum();
            if self.queued_bytes + bytes <= ALL_QUEUES_BYTES_MAX {
                return;
            }
            let fullest = sizes().enumerate().max_by_key(|(_, bytes)| *bytes);
            let Some((fullest, 1..)) = fullest else { return };
            tracing::warn!("watchers do not read; one loses {} queued bytes", self.queued_bytes);
            self.watchers[fullest].queue.evict(position);
        }
    }
}

impl WatchRequest {
    fn wants(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.keyspace == keyspace && self.range.contains(key)
    }
}

impl Turn {
    fn new(
        seen: Vec<(KeyspaceId, Seen)>,
        names: &[(KeyspaceId, KeyspaceName)],
        (before, after): (Cursor, Cursor),
    ) -> Self {
        let change = |(id, seen): (KeyspaceId, Seen)| {
            let (_, name) = names.iter().find(|(known, _)| *known == id)?;
            let Seen { key, kind, subkey, old, new, author } = seen;
            let keyspace = name.clone();
            let change =
                Change { cursor: before, keyspace, key, kind, subkey, old, new, author, is_replayed: false };
            Some((id, change))
        };
        let mut changes: Vec<(KeyspaceId, Change)> = seen.into_iter().filter_map(change).collect();
        if let Some((_, last)) = changes.last_mut() {
            last.cursor = after;
        }
        Self { changes, before, after }
    }
}

/// Changes of a key or prefix as they happen.
#[derive(Debug)]
pub struct Watch {
    replay: Option<Replay>,
    queue: QueueReader,
}

impl Watch {
    /// A watch, and the request that makes it live. With a cursor, what happened behind it comes first.
    pub(crate) fn new(
        (keyspace, cluster): (&KeyspaceName, ClusterId),
        range: WatchRange,
        from: Option<Cursor>,
        replays: &Arc<Replays>,
    ) -> (Self, WatchRequest) {
        let id = KeyspaceId::of(cluster, keyspace);
        let (writer, reader) = queue::queue();
        let replay = from
            .map(|cursor| Replay::new((keyspace.clone(), id), range.clone(), cursor, Arc::clone(replays)));
        (Self { replay, queue: reader }, WatchRequest { range, keyspace: id, queue: writer })
    }

    /// The next event; `None` once the node has shut down. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        while let Some(replay) = &mut self.replay {
            let live_from = self.queue.live_from().await?;
            match replay.next(live_from).await {
                Replayed::Event(event) => return Some(event),
                // What the queue could not hold meanwhile is in the log too.
                Replayed::End if self.queue.restart() => {}
                Replayed::End => self.replay = None,
                Replayed::Failed => {
                    self.replay = None;
                    return Some(WatchEvent::Lagged(Cursor(live_from.0)));
                }
                // The queue's changes are behind the ones that were not replayed.
                Replayed::Closed => return None,
            }
        }
        self.queue.next().await
    }
}
