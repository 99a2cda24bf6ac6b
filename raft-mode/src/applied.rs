//! How far the state has applied the log, and who waits for it to get somewhere.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidelock_engine::ports::LogIndex;
use tokio::sync::oneshot;

use crate::runtime::lock;

/// How far the state of a group has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    applied: Option<LogIndex>,
    /// By index and then by the order in which they came.
    waiting: BTreeMap<(LogIndex, u64), oneshot::Sender<()>>,
    next: u64,
}

impl Progress {
    /// Says how far it is, and wakes those who waited for that. It never goes back.
    pub(crate) fn reach(&self, index: LogIndex) {
        let reached = {
            let mut state = lock(&self.state);
            state.applied = state.applied.max(Some(index));
            let still = state.waiting.split_off(&(LogIndex(index.0.saturating_add(1)), 0));
            std::mem::replace(&mut state.waiting, still)
        };
        for sender in reached.into_values() {
            // Whoever gave up is not there any more.
            sender.send(()).ok();
        }
    }

    /// Waits until an index is applied. Those who give up are forgotten when it is.
    pub(crate) async fn wait(&self, index: LogIndex) {
        let receiver = {
            let mut state = lock(&self.state);
            if state.applied >= Some(index) {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.insert((index, number), sender);
            receiver
        };
        // The sender is dropped only with everything else.
        receiver.await.ok();
    }
}
