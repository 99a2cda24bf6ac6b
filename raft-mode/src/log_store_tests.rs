//! The log as openraft uses it: its own tests, and what they do not ask.

use std::sync::Arc;
use std::time::Duration;

use openraft::testing::log::StoreBuilder as _;
use openraft::type_config::TypeConfigExt as _;
use tidelock_engine::ports::{AnchorId, GroupId, Token};
use tokio::runtime::Handle;

use super::LogStore;
use crate::group::Opening;
use crate::mem_log::MemRaftLog;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::suite::{self, Builder};
use crate::types::Types;

#[test]
fn openrafts_own_tests_pass() {
    suite::run(|| Arc::new(MemRaftLog::new()));
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable_and_nothing_after_a_failure() {
    use openraft::storage::{IOFlushed, RaftLogStorage};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it works");
    runtime.block_on(async {
        let log = Arc::new(MemRaftLog::new());
        let shared = Shared::new(Opening {
            group: GroupId(0),
            me: AnchorId(0),
            log: log as _,
            settings: Settings::local(),
            seed: 1,
            runtime: Handle::current(),
            wake: Box::new(|| ()),
        });
        let mut store = LogStore::open(Arc::clone(&shared)).expect("it works");
        let (sender, mut receiver) = Types::oneshot();
        store.append([entry(0)], IOFlushed::signal(sender)).await.expect("it works");
        let mut voting = store.clone();
        let vote = crate::types::Vote::new(1, 0);
        let mut vote = std::pin::pin!(voting.save_vote(&vote));
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut vote).await.is_err());
        assert!(receiver.try_recv().is_err(), "acknowledged before the driver said so");
        assert_eq!(shared.outbox.poll().len(), 2);
        shared.outbox.written(Token(1), Ok(())).expect("it works");
        assert!(receiver.try_recv().expect("it works").is_ok());
        let failure = tidelock_engine::ports::DriverError("no space".to_owned());
        shared.outbox.written(Token(2), Err(failure)).expect_err("it fails");
        assert!(vote.await.is_err());
        assert!(
            store.append([entry(1)], IOFlushed::noop()).await.is_err(),
            "after a failure nothing is taken"
        );
    });
}

#[test]
fn entries_come_from_the_store_and_the_tail_without_a_gap() {
    use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it works");
    runtime.block_on(async {
        let (_guard, mut store, _) = Builder(|| Arc::new(MemRaftLog::new())).build().await.expect("it works");
        // Each is an eighth of the tail, so the first ones leave it.
        let large = super::TAIL_BYTES_MAX / 8;
        for index in 0..32 {
            let (sender, receiver) = Types::oneshot();
            let mut entry = entry(index);
            entry.payload = crate::types::Payload::Normal(crate::types::Command(vec![1; large].into()));
            store.append([entry], IOFlushed::signal(sender)).await.expect("it works");
            receiver.await.expect("it works").expect("it works");
        }
        assert!(super::lock(&store.state).tail.len() < 10);
        let all = store.try_get_log_entries(0..32).await.expect("it works");
        assert_eq!(
            all.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(),
            (0..32).collect::<Vec<_>>()
        );
        for from in 0..32 {
            let some = store.limited_get_log_entries(from, 32).await.expect("it works");
            assert_eq!(some.first().map(|entry| entry.log_id.index), Some(from));
            assert_eq!(some.len(), 1, "an entry as large as what is read at once comes alone");
        }
    });
}

fn entry(index: u64) -> crate::types::Entry {
    crate::types::Entry { log_id: crate::types::log_id(1, index), payload: crate::types::Payload::Blank }
}
