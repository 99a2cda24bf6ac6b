//! Raft's log on the real store, as consensus uses it.

use std::sync::{Arc, Mutex, PoisonError};

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::ClusterId;
use tidelock_engine::ports::{
    Batch, Durability, LogIndex, RaftLog, RaftLogState, RaftWrite, ReadError, Store as _,
};
use tidelock_raft_mode::suite::{self, WritableLog};
use tidelock_store::{MemDisk, OpenOptions, RedbStore, StoredRaftLog};

/// A store on a disk of its own, and the log in it.
struct OnDisk {
    store: Mutex<RedbStore>,
    log: StoredRaftLog,
}

impl OnDisk {
    fn new() -> Self {
        let card = SigningKey::from_seed([1; 32]).card([1; 16]);
        let options = OpenOptions { cache_bytes: 2 << 20, ..OpenOptions::new(ClusterId::named("c"), card) };
        let store = RedbStore::open(&MemDisk::new(), &options).expect("an empty disk");
        let log = store.raft_log();
        Self { store: Mutex::new(store), log }
    }
}

impl RaftLog for OnDisk {
    fn state(&self) -> Result<RaftLogState, ReadError> {
        self.log.state()
    }

    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        self.log.entries(from, until, bytes_max)
    }
}

impl WritableLog for OnDisk {
    fn write(&self, raft: Vec<RaftWrite>, raft_applied: Option<Vec<u8>>) {
        let batch = Batch { raft, raft_applied, ..Batch::default() };
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.commit(&batch, Durability::Durable).expect("nothing fails");
    }

    fn reader(self: Arc<Self>) -> Arc<dyn RaftLog> {
        self
    }
}

/// Consensus brings tests of what it stands on: what it wrote is there, cut and purged where it said, and its vote is
/// the last one.
#[test]
fn openrafts_own_tests_pass_on_the_real_store() {
    suite::run(|| Arc::new(OnDisk::new()));
}
