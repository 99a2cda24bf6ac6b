//! What a watcher is promised: nothing lost behind its cursor, nothing twice, bounded memory, and no hurry.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::ports::LogPosition;
use tidelock_engine::row::Kind;
use tidelock_store::{MemDisk, OpenOptions, RedbStore};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{ALL_QUEUES_BYTES_MAX, Observers, Replays, Turn, Watch, WatchHub, queue};
use crate::config::NodeConfig;
use crate::keyspace::{Batch, Keyspace};
use crate::node::Node;
use crate::pubsub::PubSub;
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// Nothing here takes as long; a test that waits for it has failed.
const DEADLINE: Duration = Duration::from_secs(30);

async fn open(folder: &tempfile::TempDir) -> (Node, Keyspace) {
    let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path()) };
    let node = Node::open(config).await.expect("a node opens");
    let keyspace = node.keyspace("ks").expect("a name");
    (node, keyspace)
}

fn all() -> WatchRange {
    WatchRange::Prefix(Vec::new())
}

async fn next(watch: &mut Watch) -> WatchEvent {
    timeout(DEADLINE, watch.next()).await.expect("in time").expect("the node runs")
}

/// The keys and cursors of the next changes up to the one of `last`; nothing else may come between.
async fn until(watch: &mut Watch, last: &str) -> Vec<(String, Cursor)> {
    let mut seen = Vec::new();
    loop {
        match next(watch).await {
            WatchEvent::Changed(change) => {
                seen.push((String::from_utf8(change.key).expect("we wrote text"), change.cursor));
                if seen.last().is_some_and(|(key, _)| key == last) {
                    return seen;
                }
            }
            WatchEvent::Lagged(cursor) => panic!("lagged at {cursor:?} behind {} changes", seen.len()),
        }
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("k{number:06}")).collect()
}

async fn write_at_once(keyspace: &Keyspace, keys: &[String]) {
    let batch = keys.iter().fold(Batch::new(), |batch, key| batch.set(key, "v"));
    keyspace.batch(batch).await.expect("it is written");
}

#[tokio::test]
async fn every_cursor_resumes_without_a_loss_live_and_replayed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    let mut live = keyspace.watch(all(), None);
    let keys = keys(12);
    for together in keys.chunks(4) {
        write_at_once(&keyspace, together).await;
    }
    let last = keys.last().expect("there are some");
    let live = until(&mut live, last).await;
    let replayed = until(&mut keyspace.watch(all(), Some(Cursor(0))), last).await;
    for seen in [live, replayed] {
        assert_eq!(seen.iter().map(|(key, _)| key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
        assert!(seen.is_sorted_by_key(|(_, cursor)| *cursor), "{seen:?}");
        for (index, (_, cursor)) in seen[..seen.len() - 1].iter().enumerate() {
            let rest = until(&mut keyspace.watch(all(), Some(*cursor)), last).await;
            let missing = keys[index + 1..].iter().filter(|key| !rest.iter().any(|(told, _)| told == *key));
            assert_eq!(missing.count(), 0, "resumed from {cursor:?}, which came with {index}: {rest:?}");
        }
        let cursor = seen.last().map(|(_, cursor)| *cursor);
        let mut done = keyspace.watch(all(), cursor);
        write_at_once(&keyspace, &["z".to_owned()]).await;
        assert_eq!(until(&mut done, "z").await.len(), 1, "the last cursor is behind everything");
        keyspace.delete("z").await.expect("it is removed");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn replay_makes_good_what_its_queue_could_not_hold() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    write_at_once(&keyspace, &["a".to_owned()]).await;
    let mut watch = keyspace.watch(all(), Some(Cursor(0)));
    let keys = keys(3_000);
    for together in keys.chunks(500) {
        write_at_once(&keyspace, together).await;
    }
    let mut seen = until(&mut watch, &keys[2_999]).await;
    write_at_once(&keyspace, &["z".to_owned()]).await;
    seen.extend(until(&mut watch, "z").await);
    let expected = ["a".to_owned()].into_iter().chain(keys).chain(["z".to_owned()]);
    assert!(seen.iter().map(|(key, _)| key.clone()).eq(expected), "a gap or a repetition");
    assert!(seen.is_sorted_by_key(|(_, cursor)| *cursor));
    node.shutdown().await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_wait_for_an_event_is_given_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    let keys = keys(400);
    for key in &keys {
        write_at_once(&keyspace.clone().buffered(), std::slice::from_ref(key)).await;
    }
    let mut watch = keyspace.watch(all(), Some(Cursor(0)));
    let (mut seen, mut given_up) = (Vec::new(), 0);
    while seen.len() < keys.len() {
        tokio::select! {
            biased;
            event = watch.next() => match event.expect("the node runs") {
                WatchEvent::Changed(change) => seen.push(String::from_utf8(change.key).expect("text")),
                WatchEvent::Lagged(cursor) => panic!("lagged at {cursor:?}"),
            },
            () = tokio::task::yield_now() => given_up += 1,
        }
    }
    assert_eq!(seen, keys);
    assert!(given_up > 0);
    node.shutdown().await;
}

#[tokio::test]
async fn replay_leaves_the_thread_to_others_while_it_reads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    for key in keys(1_000) {
        write_at_once(&keyspace.clone().buffered(), &[key]).await;
    }
    let (turns, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let other = tokio::spawn({
        let (turns, stop) = (Arc::clone(&turns), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut watch = keyspace.watch(WatchRange::Key(b"k000999".to_vec()), Some(Cursor(0)));
    // The queue is live before the replay begins, and that wait is not what is measured.
    watch.queue.live_from().await.expect("the node runs");
    let before = turns.load(Ordering::Relaxed);
    until(&mut watch, "k000999").await;
    let during = turns.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    other.await.expect("it ends");
    assert!(during >= 1_000 / 64, "the other task ran {during} times during the replay");
    node.shutdown().await;
}

#[tokio::test]
async fn damaged_log_is_told_once_and_the_watch_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    let needle = "the value that will be damaged on the disk, and is in no other frame";
    for number in 0..300 {
        let value = if number == 137 { needle.to_owned() } else { format!("{number}") };
        keyspace.clone().buffered().register(format!("k{number}")).set(value).await.expect("it is written");
    }
    node.shutdown().await;
    let log = folder.path().join("log.redb");
    let mut bytes = fs::read(&log).expect("it is ours");
    let starts = bytes.windows(needle.len()).enumerate().filter(|(_, text)| *text == needle.as_bytes());
    let starts: Vec<usize> = starts.map(|(start, _)| start).collect();
    assert!(!starts.is_empty());
    starts.into_iter().for_each(|start| bytes[start] ^= 1);
    fs::write(&log, bytes).expect("it is ours");

    let (node, keyspace) = open(&folder).await;
    let mut watch = keyspace.watch(all(), Some(Cursor(0)));
    loop {
        match next(&mut watch).await {
            WatchEvent::Changed(change) => assert!(change.cursor < Cursor(138)),
            WatchEvent::Lagged(cursor) => {
                assert_eq!(cursor, Cursor(300));
                break;
            }
        }
    }
    write_at_once(&keyspace, &["live".to_owned()]).await;
    assert_eq!(until(&mut watch, "live").await, [("live".to_owned(), Cursor(301))]);
    node.shutdown().await;
}

#[tokio::test]
async fn cursor_that_is_not_of_this_log_is_told_and_the_watch_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    write_at_once(&keyspace, &["a".to_owned()]).await;
    for cursor in [Cursor(1_000), Cursor(u64::MAX)] {
        let mut watch = keyspace.watch(all(), Some(cursor));
        assert!(matches!(next(&mut watch).await, WatchEvent::Lagged(_)));
        keyspace.delete("b").await.expect("it is removed");
        write_at_once(&keyspace, &["b".to_owned()]).await;
        until(&mut watch, "b").await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn watch_keeps_no_store_open_behind_a_shutdown() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (node, keyspace) = open(&folder).await;
    for key in keys(500) {
        write_at_once(&keyspace.clone().buffered(), &[key]).await;
    }
    let mut watch = keyspace.watch(all(), Some(Cursor(0)));
    next(&mut watch).await;
    node.shutdown().await;
    let (again, _) = open(&folder).await;
    while timeout(DEADLINE, watch.next()).await.expect("in time").is_some() {}
    again.shutdown().await;
}

/// A hub over an empty store, and what its watches need.
struct Stage {
    hub: WatchHub,
    replays: Arc<Replays>,
    cluster: ClusterId,
    keyspace: KeyspaceName,
    _store: RedbStore,
}

impl Stage {
    fn new() -> Self {
        let cluster = ClusterId::named("test");
        let options = OpenOptions::new(cluster, SigningKey::from_seed([1; 32]).card([2; 16]));
        let store = RedbStore::open(&MemDisk::new(), &options).expect("a new store");
        let hub = WatchHub::new(
            store.reader(),
            Arc::new(Observers::default()),
            PubSub::new(PeerId::from_public_key([1; 32]), None),
        );
        let replays = Arc::new(Replays::new(store.reader(), Handle::current()));
        Self { hub, replays, cluster, keyspace: "ks".parse().expect("a name"), _store: store }
    }

    fn watch(&mut self, key: &str) -> Watch {
        let range = WatchRange::Key(key.into());
        let (watch, request) = Watch::new((&self.keyspace, self.cluster), range, None, &self.replays);
        self.hub.add(request);
        watch
    }

    /// Tells the watchers of a change of some bytes under each key, in one turn.
    fn tell(&mut self, keys: &[String], bytes: usize) {
        let before = Cursor(self.hub.position.0);
        self.hub.position = LogPosition(before.0 + 1);
        let id = KeyspaceId::of(self.cluster, &self.keyspace);
        let change = |key: &String| Change {
            cursor: before,
            keyspace: self.keyspace.clone(),
            key: key.clone().into_bytes(),
            kind: Kind::Register,
            subkey: Vec::new(),
            old: None,
            new: Some(vec![0; bytes]),
            author: ReplicaId::from_bytes([0; 16]),
            is_replayed: false,
        };
        let changes = keys.iter().map(|key| (id, change(key))).collect();
        let turn = Turn { changes, before, after: Cursor(before.0 + 1) };
        self.hub.tell_all(&turn);
    }
}

/// What waits for a watch, up to where it would wait for more.
async fn queued(watch: &mut Watch) -> (usize, usize) {
    let (mut changes, mut lagged) = (0, 0);
    while let Ok(event) = timeout(Duration::ZERO, watch.next()).await {
        match event.expect("the hub is there") {
            WatchEvent::Changed(_) => changes += 1,
            WatchEvent::Lagged(_) => lagged += 1,
        }
    }
    (changes, lagged)
}

#[tokio::test]
async fn slow_watcher_holds_few_bytes_and_lags_once() {
    let mut stage = Stage::new();
    let mut watch = stage.watch("k");
    let key = ["k".to_owned()];
    (0..20).for_each(|_| stage.tell(&key, 1 << 20));
    assert_eq!(queued(&mut watch).await, (7, 1), "eight mebibytes, and one loss for all");
    stage.tell(&key, 32 << 20);
    stage.tell(&key, 1);
    assert_eq!(queued(&mut watch).await, (1, 1), "one change may be as large as it is");
    (0..5_000).for_each(|_| stage.tell(&key, 1));
    assert_eq!(queued(&mut watch).await, (1_024, 1));
    stage.tell(&key, 1);
    assert_eq!(queued(&mut watch).await, (1, 0), "it goes on");
}

#[tokio::test]
async fn watchers_that_do_not_read_are_bounded_together_and_cost_no_other_its_changes() {
    let mut stage = Stage::new();
    let keys = keys(20);
    let mut slow: Vec<Watch> = keys.iter().map(|key| stage.watch(key)).collect();
    let mut quick = stage.watch("quick");
    let told = [keys, vec!["quick".to_owned()]].concat();
    for _ in 0..7 {
        stage.tell(&told, 1 << 20);
        assert_eq!(queued(&mut quick).await, (1, 0), "who reads loses nothing");
        let held: usize = stage.hub.watchers.iter().map(|watcher| watcher.queue.bytes()).sum();
        assert!(held <= ALL_QUEUES_BYTES_MAX, "{held}");
    }
    let mut lagged = 0;
    for watch in &mut slow {
        lagged += queued(watch).await.1;
    }
    assert!(lagged >= 12, "{lagged} of 20 lost what the bound did not hold");
}

#[tokio::test]
async fn watchers_that_went_away_are_forgotten_while_nothing_is_written() {
    let mut stage = Stage::new();
    let kept = stage.watch("k");
    (0..100).for_each(|_| drop(stage.watch("k")));
    assert_eq!(stage.hub.watchers.len(), 101);
    stage.hub.tick();
    assert_eq!(stage.hub.watchers.len(), 1);
    drop(kept);
}

#[test]
fn size_of_a_change_counts_its_texts() {
    let change = Change {
        cursor: Cursor(1),
        keyspace: "ks".parse().expect("a name"),
        key: vec![0; 10],
        kind: Kind::Map,
        subkey: vec![0; 20],
        old: Some(vec![0; 1_000]),
        new: Some(vec![0; 2_000]),
        author: ReplicaId::from_bytes([0; 16]),
        is_replayed: false,
    };
    assert!(queue::bytes(&change) >= 3_030);
}
