//! What waits for one subscriber, between those who publish and the one who reads.
//!
//! It is bounded by bytes, alone and with all others. Beyond a bound messages are lost and counted, until the
//! subscriber has read what was there before and was told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::letter::Letter;

/// What a waiting message takes beside its bytes.
pub(super) const COST_BYTES: usize = 64;

/// What may wait for all subscribers of a node together, in bytes; a message counts for each.
const ALL_BYTES_MAX: usize = 512 << 20;

/// A queue that is no longer than this is not cut for what waits in others, in bytes.
const FAIR_BYTES: usize = 64 << 10;

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A message, and the pattern that its channel matches if it came by one.
    Message {
        /// The pattern.
        pattern: Option<Arc<[u8]>>,
        /// The message.
        letter: Arc<Letter>,
    },
    /// So many messages were lost here: the subscriber did not read for too long.
    Lagged(u64),
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    bytes_max: usize,
    /// What waits for all.
    all_bytes: Arc<AtomicUsize>,
}

/// A message, and the pattern that its channel matches if it came by one.
type Waiting = (Option<Arc<[u8]>>, Arc<Letter>);

#[derive(Debug, Default)]
struct State {
    notices: VecDeque<Waiting>,
    bytes: usize,
    lost: u64,
}

fn bytes_of(letter: &Letter) -> usize {
    COST_BYTES + letter.channel.len() + letter.payload.len()
}

impl Queue {
    pub(super) fn new(bytes_max: usize, all_bytes: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), bytes_max, all_bytes }
    }

    /// Queues a message, or counts it as lost; answers whether it was queued.
    pub(super) fn push(&self, pattern: Option<Arc<[u8]>>, letter: &Arc<Letter>) -> bool {
        let bytes = bytes_of(letter);
        let mut state = self.lock();
        let is_within = state.bytes + bytes <= self.bytes_max
            && (state.bytes <= FAIR_BYTES || self.all_bytes.load(Ordering::Relaxed) <= ALL_BYTES_MAX);
        let is_taken = state.lost == 0 && is_within;
        if is_taken {
            state.bytes += bytes;
            self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
            state.notices.push_back((pattern, Arc::clone(letter)));
        } else {
            state.lost += 1;
        }
        drop(state);
        self.wake.notify_one();
        is_taken
    }

    /// What is next, if there is anything.
    pub(super) fn try_next(&self) -> Option<Notice> {
        let mut state = self.lock();
        let Some((pattern, letter)) = state.notices.pop_front() else {
            let lost = std::mem::take(&mut state.lost);
            return (lost > 0).then_some(Notice::Lagged(lost));
        };
        let bytes = bytes_of(&letter);
        state.bytes -= bytes;
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(Notice::Message { pattern, letter })
    }

    /// Waits for what is next.
    pub(super) async fn next(&self) -> Notice {
        loop {
            if let Some(notice) = self.try_next() {
                return notice;
            }
            self.wake.notified().await;
        }
    }

    /// Waits until there is something, or, if there is no room for it, until something is lost.
    pub(super) async fn told(&self, has_room: bool) {
        loop {
            let is_told = {
                let state = self.lock();
                state.lost > 0 || (has_room && !state.notices.is_empty())
            };
            if is_told {
                return;
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
