//! Who watches what, and what they are told after each turn.
//!
//! A watcher has a bounded queue. When it is full the watcher is told so once it reads again, and memory never
//! grows with a slow reader. A watcher that comes back with a cursor first reads the log from there.

mod replay;
mod visible;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tidelock_engine::draft::Changes;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName};
use tidelock_engine::ports::LogPosition;
use tidelock_store::Reader;
use tokio::sync::mpsc;

use self::replay::Replay;
use self::visible::visible_changes;
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// The changes that wait for one watcher at most.
const QUEUE_MAX: usize = 1_024;

/// A closure that is told of every visible change.
pub(crate) type Observer = Box<dyn Fn(&Change) + Send + Sync>;

/// The closures that are told of every visible change.
#[derive(Default)]
pub(crate) struct Observers(RwLock<Vec<Observer>>);

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

impl Observers {
    /// Adds a closure for the life of the node.
    pub(crate) fn add(&self, observer: Observer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn tell(&self, change: &Change) {
        for observer in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(change);
        }
    }
}

/// A watcher that wants to be told from now on.
#[derive(Debug)]
pub(crate) struct WatchRequest {
    range: WatchRange,
    keyspace: KeyspaceName,
    sender: mpsc::Sender<WatchEvent>,
}

#[derive(Debug)]
struct Watcher {
    range: WatchRange,
    keyspace: KeyspaceId,
    sender: mpsc::Sender<WatchEvent>,
    /// The last change that it lost, until it was told.
    lost: Option<Cursor>,
}

/// Who watches what. Lives in the event loop.
#[derive(Debug)]
pub(crate) struct WatchHub {
    cluster: ClusterId,
    reader: Reader,
    watchers: Vec<Watcher>,
    observers: Arc<Observers>,
}

impl WatchHub {
    /// A hub without watchers.
    pub(crate) fn new(cluster: ClusterId, reader: Reader, observers: Arc<Observers>) -> Self {
        Self { cluster, reader, watchers: Vec::new(), observers }
    }

    /// Adds a watcher.
    pub(crate) fn add(&mut self, request: WatchRequest) {
        let keyspace = KeyspaceId::of(self.cluster, &request.keyspace);
        self.watchers.push(Watcher { range: request.range, keyspace, sender: request.sender, lost: None });
    }

    /// Tells watchers and observers what a turn changed that was just committed.
    pub(crate) fn publish(&mut self, changes: &Changes, position: LogPosition) {
        self.watchers.retain(|watcher| !watcher.sender.is_closed());
        if self.watchers.is_empty() && self.observers.is_empty() {
            return;
        }
        let is_wanted = |keyspace: KeyspaceId, key: &[u8]| {
            let mut watchers = self.watchers.iter();
            !self.observers.is_empty() || watchers.any(|watcher| watcher.wants(keyspace, key))
        };
        let visible = match visible_changes(&self.reader.snapshot(), changes, &is_wanted) {
            Ok(visible) => visible,
            Err(error) => {
                tracing::error!(%error, "cannot tell watchers of a change");
                for watcher in &mut self.watchers {
                    watcher.lost = Some(Cursor(position.0));
                }
                return;
            }
        };
        let names = self.reader.keyspaces();
        for (id, seen) in visible {
            let Some((_, name)) = names.iter().find(|(known, _)| *known == id) else { continue };
            let change = Change {
                cursor: Cursor(position.0),
                keyspace: name.clone(),
                key: seen.key,
                kind: seen.kind,
                subkey: seen.subkey,
                old: seen.old,
                new: seen.new,
                author: seen.author,
                is_replayed: false,
            };
            self.observers.tell(&change);
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.wants(id, &change.key)) {
                watcher.tell(&change);
            }
        }
    }

    /// Tells watchers that were slow and have room again what they lost.
    pub(crate) fn tick(&mut self) {
        self.watchers.iter_mut().for_each(Watcher::tell_lost);
    }
}

impl Watcher {
    fn wants(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        self.keyspace == keyspace && self.range.contains(key)
    }

    fn tell(&mut self, change: &Change) {
        self.tell_lost();
        let is_told =
            self.lost.is_none() && self.sender.try_send(WatchEvent::Changed(change.clone())).is_ok();
        if !is_told {
            self.lost = Some(change.cursor);
        }
    }

    fn tell_lost(&mut self) {
        if let Some(cursor) = self.lost
            && self.sender.try_send(WatchEvent::Lagged(cursor)).is_ok()
        {
            self.lost = None;
        }
    }
}

/// Changes of a key or prefix as they happen.
#[derive(Debug)]
pub struct Watch {
    replay: Option<Replay>,
    receiver: mpsc::Receiver<WatchEvent>,
}

impl Watch {
    /// A watch, and the request that makes it live. With a cursor, what happened behind it comes first.
    pub(crate) fn new(
        (keyspace, id): (KeyspaceName, KeyspaceId),
        range: WatchRange,
        from: Option<Cursor>,
        reader: Option<Reader>,
    ) -> (Self, WatchRequest) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let replay = from
            .zip(reader)
            .map(|(cursor, reader)| Replay::new((keyspace.clone(), id), range.clone(), cursor, reader));
        (Self { replay, receiver }, WatchRequest { range, keyspace, sender })
    }

    /// The next event; `None` once the node has shut down. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        while let Some(replay) = &mut self.replay {
            match replay.next() {
                Some(event) => return Some(event),
                None => self.replay = None,
            }
        }
        self.receiver.recv().await
    }
}
