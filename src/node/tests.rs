//! How a node ends: by a defect, by being dropped, and what its clients are told.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Query, QueryError};
use tidelock_engine::replica::Terms;
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request, RequestError};
use tidelock_engine::write::Write;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::ending::{self, Ending, LoopPanicked};
use super::mailbox::{Job, Mailbox};
use super::{Node, NodeConfig, RejoinError};
use crate::backup;
use crate::keyspace::WriteError;

/// Nothing here takes as long; a test that waits for it has failed.
const DEADLINE: Duration = Duration::from_secs(30);

async fn open(folder: &tempfile::TempDir) -> Node {
    let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path()) };
    Node::open(config).await.expect("a node opens")
}

fn request() -> Request {
    let write = Write::Set { key: b"k".to_vec(), value: b"v".to_vec() };
    let keyspace: KeyspaceName = "ks".parse().expect("a name");
    let (atomicity, durability) = (Atomicity::Each, Durability::Durable);
    Request { keyspace, actions: vec![Action::Write(write)], atomicity, durability }
}

/// Makes the event loop wait within its next turn: it says when it is there, and goes on when told to.
fn hold_up(node: &Node) -> (Receiver<()>, Sender<()>) {
    let (there, is_there) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    node.on_write(move |_| {
        // Later turns find the other ends gone and go on.
        let _ = there.send(());
        let _ = may_go.lock().expect("no holder panics").recv();
    });
    (is_there, go)
}

#[tokio::test]
async fn panicking_observer_is_dropped_and_all_else_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = open(&folder).await;
    let (seen, changes) = mpsc::channel();
    node.on_write(|_| panic!("observer of the user"));
    node.on_write(move |change| seen.send(change.key.clone()).expect("the test listens"));
    node.on_read(|_, _| panic!("observer of the user"));
    let keyspace = node.keyspace("ks").expect("a name");
    for key in ["a", "b"] {
        let write = timeout(DEADLINE, keyspace.register(key).set("1")).await;
        write.expect("in time").expect("it is committed");
        assert_eq!(keyspace.register(key).get().expect("it reads"), Some(b"1".to_vec()));
    }
    assert_eq!(changes.try_iter().collect::<Vec<_>>(), [b"a", b"b"]);
    timeout(DEADLINE, node.shutdown()).await.expect("it ends");
}

#[tokio::test]
async fn panic_of_the_loop_is_known_to_everybody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = open(&folder).await;
    let keyspace = node.keyspace("ks").expect("a name");
    keyspace.register("before").set("1").await.expect("it is written");
    let mut watch = keyspace.watch(crate::watch::WatchRange::Prefix(Vec::new()), None);
    let (is_there, go) = hold_up(&node);
    let (held, lost) = (node.clone(), node.clone());
    let held = tokio::spawn(async move { held.submit(vec![request()]).await });
    tokio::task::spawn_blocking(move || is_there.recv_timeout(DEADLINE).expect("a turn"))
        .await
        .expect("ends");
    // While the loop is held up these gather, and it takes them together.
    let lost = tokio::spawn(async move { lost.submit(vec![request(), request()]).await });
    while !node.inner.mailbox.has_jobs() {
        tokio::task::yield_now().await;
    }
    assert!(node.put(Job::Panic));
    drop(go);

    assert!(held.await.expect("it ends")[0].is_ok(), "its turn ended before");
    let lost = timeout(DEADLINE, lost).await.expect("it is answered").expect("it ends");
    assert!(matches!(&lost[..], [Err(RequestError::Commit(_)), Err(RequestError::Commit(_))]), "{lost:?}");
    assert_eq!(timeout(DEADLINE, node.ended()).await.expect("it is known"), Err(LoopPanicked));
    let later = keyspace.register("later").set("1").await;
    assert!(matches!(later, Err(WriteError::Request(RequestError::Closed))), "{later:?}");
    assert_eq!(keyspace.register("before").get().expect("it reads"), Some(b"1".to_vec()));
    let warnings = node.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("panic")), "{warnings:?}");
    while timeout(DEADLINE, watch.next()).await.expect("in time").is_some() {}
    timeout(DEADLINE, node.shutdown()).await.expect("it ends");
    open(&folder).await.shutdown().await;
}

#[test]
fn jobs_that_wait_when_the_loop_ends_were_certainly_not_done() {
    let mailbox = Arc::new(Mailbox::new());
    let (sender, mut replies) = oneshot::channel();
    assert!(mailbox.put(Job::Requests(vec![(request(), Terms::default())], sender)).is_ok());
    let (end, _) = watch::channel(None);
    drop(Ending { mailbox: Arc::clone(&mailbox), report: Arc::default(), end });
    let replies = replies.try_recv().expect("it is answered").replies;
    assert!(matches!(&replies[..], [Err(RequestError::Closed)]), "{replies:?}");
    assert!(mailbox.put(Job::Panic).is_err());
}

#[tokio::test]
async fn last_handle_that_is_dropped_lets_the_node_end_and_its_folder_be_opened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = open(&folder).await;
    node.keyspace("ks").expect("a name").register("k").set("v").await.expect("it is written");
    let end = node.inner.end.clone();
    drop(node);
    let ended = timeout(DEADLINE, ending::ended(end)).await;
    assert_eq!(ended.expect("the loop ends"), Ok(()));
    let node = open(&folder).await;
    let value = node.keyspace("ks").expect("a name").register("k").get();
    assert_eq!(value.expect("it reads"), Some(b"v".to_vec()));
    node.shutdown().await;
}

/// The worker of documents reads the store, so the end is not known before it has ended, too.
#[tokio::test]
async fn end_of_a_dropped_node_is_known_behind_an_edit_that_is_under_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = open(&folder).await;
    let keyspace = node.keyspace("ks").expect("a name");
    let (there, is_there) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let edit = tokio::spawn(async move {
        let page = keyspace.document("page");
        page.transact(move |_| {
            there.send(()).expect("the test waits");
            may_go.recv().expect_err("nothing is sent");
            Ok(())
        })
        .await
    });
    tokio::task::spawn_blocking(move || is_there.recv_timeout(DEADLINE).expect("an edit"))
        .await
        .expect("ends");
    edit.abort();
    assert!(edit.await.expect_err("it was given up").is_cancelled());
    let end = node.inner.end.clone();
    drop(node);
    let early = timeout(Duration::from_millis(100), ending::ended(end.clone())).await;
    assert!(early.is_err(), "the worker has the store still");
    drop(go);
    timeout(DEADLINE, ending::ended(end)).await.expect("the loop ends").expect("it did not panic");
    open(&folder).await.shutdown().await;
}

#[tokio::test]
async fn backup_by_the_library_is_restored_as_another_node_or_with_its_key() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let node = open(&folder).await;
    node.keyspace("ks").expect("a name").register("k").set("v").await.expect("it is written");
    let path = other.path().join("backup");
    let (sender, progress) = mpsc::channel();
    let report = move |at: backup::BackupProgress| sender.send(at).expect("the test listens");
    let made = node.backup(&path, report).await.expect("it is written");
    assert_eq!((made.replica, made.rows, made.frames, made.keyspaces), (node.replica(), 1, 1, 1));
    let last = progress.try_iter().last().expect("it said something");
    assert_eq!((last.rows, last.frames, last.frames_total), (1, 1, 1));
    let again = node.backup(&path, |_| {}).await;
    assert!(matches!(again, Err(backup::BackupFileError::Exists { .. })), "{again:?}");
    assert!(matches!(node.rejoin().await, Err(RejoinError::NotForked)));

    let key = folder.path().join("key");
    for (name, key) in [("new", None), ("same", Some(key.as_path()))] {
        let data = other.path().join(name);
        let (restored, peer) = backup::restore_folder(&path, &data, key, &mut |_| {}).expect("it is sound");
        assert_eq!((restored, peer == node.peer()), (made, key.is_some()));
        let copy =
            Node::open(NodeConfig { listen: Vec::new(), ..NodeConfig::at(&data) }).await.expect("it opens");
        assert_eq!(copy.peer(), peer);
        assert_ne!(copy.replica(), node.replica());
        let value = copy.keyspace("ks").expect("a name").register("k").get();
        assert_eq!(value.expect("it reads"), Some(b"v".to_vec()));
        copy.shutdown().await;
    }
    node.shutdown().await;
}

#[tokio::test]
async fn keyspace_is_strong_on_the_only_anchor_and_stays_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = NodeConfig { listen: Vec::new(), found: true, ..NodeConfig::at(folder.path()) };
    let node = Node::open(config.clone()).await.expect("a node opens");
    timeout(DEADLINE, node.make_strong("ks")).await.expect("in time").expect("it is strong");
    for _ in 0..3 {
        let mut replies = timeout(DEADLINE, node.submit(vec![request()])).await.expect("in time");
        replies.remove(0).expect("it is done").remove(0).expect("it is written");
    }
    timeout(DEADLINE, node.shutdown()).await.expect("it ends");
    drop(node);
    let node = Node::open(config).await.expect("it opens again");
    let keyspace = node.keyspace("ks").expect("a name");
    // What is read beside the loop would not have waited for the anchors.
    assert!(matches!(keyspace.register("k").get(), Err(QueryError::NeedsAnchors)));
    let read = Request { actions: vec![Action::Query(Query::Get(b"k".to_vec()))], ..request() };
    let mut replies = timeout(DEADLINE, node.submit(vec![read])).await.expect("in time");
    let read = replies.remove(0).expect("it is answered").remove(0).expect("it is read");
    assert!(matches!(read, ActionReply::Answer(Answer::Value(Some(value))) if value == b"v"));
    timeout(DEADLINE, node.make_strong("ks")).await.expect("in time").expect("it is");
    let mut replies = timeout(DEADLINE, node.submit(vec![request()])).await.expect("in time");
    replies.remove(0).expect("it is done").remove(0).expect("it is written");
    timeout(DEADLINE, node.shutdown()).await.expect("it ends");
}
