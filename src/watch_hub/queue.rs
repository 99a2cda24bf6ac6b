//! What waits for one watcher, between the event loop that fills it and the watcher that empties it.
//!
//! It is bounded by number and by bytes. A watcher that lost something hears of it once it has read what was
//! queued before, and only then is it told more: so it lags once, not with every change.
//!
//! Invariant: every change behind `live_from` that the watcher wants was queued, or `lost` is at or behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidelock_engine::ports::LogPosition;
use tokio::sync::Notify;

use crate::watch::{Change, Cursor, WatchEvent};

/// The changes that wait for one watcher at most.
const QUEUE_MAX: usize = 1_024;

/// The bytes that wait for one watcher at most, except that one change alone may be larger.
const QUEUE_BYTES_MAX: usize = 8 << 20;

/// The bytes that a change takes beside its key and values, about.
const CHANGE_BYTES: usize = 256;

/// The event loop's end. When it is dropped the watcher reads what is queued, and then the end.
#[derive(Debug)]
pub(super) struct QueueWriter(Arc<Queue>);

/// The watcher's end.
#[derive(Debug)]
pub(super) struct QueueReader(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<Change>,
    /// What the changes take.
    bytes: usize,
    /// The last turn of which a change was lost, until the watcher knows.
    lost: Option<LogPosition>,
    /// The position behind which changes are queued; `None` until the event loop knows of the watcher.
    live_from: Option<LogPosition>,
    is_closed: bool,
}

/// A queue's two ends.
pub(super) fn queue() -> (QueueWriter, QueueReader) {
    let queue = Arc::new(Queue::default());
    (QueueWriter(Arc::clone(&queue)), QueueReader(queue))
}

/// What a change takes while it waits, in bytes, about.
pub(super) fn bytes(change: &Change) -> usize {
    let values = change.old.as_ref().map_or(0, Vec::len) + change.new.as_ref().map_or(0, Vec::len);
    CHANGE_BYTES + change.key.len() + change.subkey.len() + values
}

impl QueueWriter {
    /// From now on every change behind a position is queued.
    pub(super) fn begin(&self, position: LogPosition) {
        self.0.lock().live_from = Some(position);
        self.0.wake.notify_one();
    }

    /// Whether nobody will read any more.
    pub(super) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Whether a change of so many bytes would be queued.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let state = self.0.lock();
        let fits = state.changes.is_empty() || state.bytes.saturating_add(bytes) <= QUEUE_BYTES_MAX;
        state.lost.is_none() && state.changes.len() < QUEUE_MAX && fits
    }

    /// Queues a change. The caller knows that there is room.
    pub(super) fn push(&self, change: Change) {
        let mut state = self.0.lock();
        state.bytes += bytes(&change);
        state.changes.push_back(change);
        drop(state);
        self.0.wake.notify_one();
    }

    /// Notes that a change of the turn that ended at a position was not queued.
    pub(super) fn lose(&self, position: LogPosition) {
        self.0.lock().lost = Some(position);
        self.0.wake.notify_one();
    }

    /// Gives up what is queued, for the memory's sake, in the turn that ended at a position.
    pub(super) fn evict(&self, position: LogPosition) {
        self.0.lock().clear();
        self.lose(position);
    }
}

impl Drop for QueueWriter {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.wake.notify_one();
    }
}

impl QueueReader {
    /// The next event, or `None` behind the last one. Nothing is lost when the future is dropped.
    pub(super) async fn next(&self) -> Option<WatchEvent> {
        self.wait_for(|state| {
            if let Some(change) = state.changes.pop_front() {
                state.bytes -= bytes(&change);
                return Some(Some(WatchEvent::Changed(change)));
            }
            let lagged = state.lost.take().map(|position| WatchEvent::Lagged(Cursor(position.0)));
            if lagged.is_some() || state.is_closed { Some(lagged) } else { None }
        })
        .await
    }

    /// The position behind which the queue is live; `None` when the event loop ended without it.
    pub(super) async fn live_from(&self) -> Option<LogPosition> {
        self.wait_for(|state| match state.live_from {
            None if !state.is_closed => None,
            live_from => Some(live_from),
        })
        .await
    }

    /// Makes good a loss before anything was read: forgets what is queued and is live behind the loss. The
    /// caller finds the rest in the log. Answers whether there was a loss.
    pub(super) fn restart(&self) -> bool {
        let mut state = self.0.lock();
        let Some(lost) = state.lost.take() else { return false };
        state.clear();
        state.live_from = Some(lost);
        true
    }

    /// Waits until `look` finds something. The wake-up of a writer is kept for whoever waits next.
    async fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // The lock is released before the wait.
            let found = look(&mut self.0.lock());
            match found {
                Some(found) => return found,
                None => self.0.wake.notified().await,
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clear(&mut self) {
        self.changes = VecDeque::new();
        self.bytes = 0;
    }
}
