//! openraft's own tests of a log and a state machine, on any log that can be written, with the smallest driver there
//! is. For the tests of stores, and no part of what this crate promises.

use std::fmt;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tidelock_engine::ports::{AnchorId, GroupId, Output, RaftLog, RaftWrite};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::group::Opening;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::types::Types;

/// A log that is written in the same thread.
pub trait WritableLog: RaftLog {
    /// Makes these durable, and how far the log is applied if that is there.
    fn write(&self, writes: Vec<RaftWrite>, applied: Option<Vec<u8>>);

    /// The same log, for reading.
    fn reader(self: Arc<Self>) -> Arc<dyn RaftLog>;
}

/// Runs all of them, each on a log of its own.
///
/// # Panics
/// One fails.
pub fn run<L: WritableLog + 'static>(make: impl Fn() -> Arc<L> + Send + Sync) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime without threads needs nothing that could be missing");
    runtime.block_on(Suite::test_all(Builder(make))).expect("a failure of the log fails the test");
}

pub(crate) struct Builder<F>(pub(crate) F);

/// Ends the driver with the store.
pub(crate) struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.tasks.end();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

/// Carries out every output at once, durably.
fn carry_out(shared: &Shared, log: &impl WritableLog, snapshot: &mut Vec<u8>) {
    for output in shared.outbox.poll() {
        match output {
            Output::Write { token, writes } => {
                log.write(writes, None);
                if let Err(reason) = shared.outbox.written(token, Ok(())) {
                    shared.stop(&reason);
                }
            }
            Output::Apply { token, entries, record } => {
                log.write(Vec::new(), Some(record));
                shared.outbox.applied(token, Ok(vec![Vec::new(); entries.len()]));
            }
            Output::BuildSnapshot { token, .. } => shared.outbox.snapshot_built(token, Ok(snapshot.clone())),
            Output::InstallSnapshot { token, bytes, record } => {
                *snapshot = bytes;
                log.write(Vec::new(), Some(record));
                shared.outbox.installed(token, Ok(()));
            }
            _ => (),
        }
    }
}

impl<L, F> StoreBuilder<Types, LogStore, Machine, Guard> for Builder<F>
where
    L: WritableLog + 'static,
    F: Fn() -> Arc<L> + Send + Sync,
{
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<Types>> {
        let log = (self.0)();
        let woken = Arc::new(Notify::new());
        let waking = Arc::clone(&woken);
        let shared = Shared::new(Opening {
            group: GroupId(0),
            me: AnchorId(0),
            log: Arc::clone(&log).reader(),
            settings: Settings::local(),
            seed: 1,
            runtime: Handle::current(),
            wake: Box::new(move || waking.notify_one()),
        });
        let driven = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            let mut snapshot = b"state".to_vec();
            loop {
                woken.notified().await;
                carry_out(&driven, &*log, &mut snapshot);
            }
        });
        let store = LogStore::open(Arc::clone(&shared)).expect("a new log can be read");
        let machine = Machine::open(Arc::clone(&shared)).expect("a new log can be read");
        Ok((Guard(shared), store, machine))
    }
}
