//! The handle of a strong keyspace on a node that is the only anchor of its cluster.

use std::time::Duration;

use tidelock_engine::ports::Role;

use super::lease::Leased;
use super::{Expected, Strong, StrongError};
use crate::keyspace::Batch;
use crate::node::{GroupEvent, Node, OperationOutcome};
use crate::watch::{WatchEvent, WatchRange};
use crate::{NodeConfig, document};

async fn founder(folder: &tempfile::TempDir) -> Node {
    let config = NodeConfig { listen: Vec::new(), found: true, ..NodeConfig::at(folder.path()) };
    let node = Node::open(config).await.expect("a node opens");
    node.make_strong("orders").await.expect("it is strong");
    node
}

fn strong(node: &Node) -> Strong {
    node.keyspace("orders").expect("a name").strong()
}

#[tokio::test]
async fn values_are_written_read_and_removed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    assert_eq!(orders.get("k").await.expect("it reads"), None);
    orders.put("k", "v").await.expect("it is written");
    assert_eq!(orders.get("k").await.expect("it reads").as_deref(), Some(&b"v"[..]));
    assert!(orders.delete("k").await.expect("it is removed"));
    assert!(!orders.delete("k").await.expect("it is asked for"));
    // What is not strong is not taken for it.
    let notes = node.keyspace("notes").expect("a name").strong();
    assert!(matches!(notes.put("k", "v").await, Err(StrongError::NotStrong(_))));
    assert!(matches!(notes.get("k").await, Err(StrongError::NotStrong(_))));
    assert!(matches!(notes.revision().await, Err(StrongError::NotStrong(_))));
    let document = node.keyspace("orders").expect("a name");
    let read = document.document("d").save().await;
    assert!(matches!(read, Err(document::DocumentError::Strong)), "{read:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn conditions_decide_and_updates_lose_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    assert!(orders.compare_and_set("k", Expected::Missing, "1").await.expect("it is decided"));
    assert!(!orders.compare_and_set("k", Expected::Missing, "2").await.expect("it is decided"));
    assert!(orders.compare_and_set("k", Expected::Value(b"1"), "3").await.expect("it is decided"));
    let (value, revision) = orders.read("k").await.expect("it reads");
    assert_eq!(value.as_deref(), Some(&b"3"[..]));
    orders.put("k", "3").await.expect("it is written");
    let unchanged = Expected::Unchanged(revision);
    assert!(!orders.compare_and_set("k", unchanged, "4").await.expect("it is decided"));

    let batch = || Batch::new().set("a", "1").increment("n", 2);
    let given = orders.batch_if([("k", Expected::Value(b"x"))], batch()).await.expect("it is decided");
    assert!(given.is_none());
    let given = orders.batch_if([("k", Expected::Value(b"3"))], batch()).await.expect("it is decided");
    assert_eq!(given.map(|given| given.len()), Some(2));
    assert_eq!(orders.batch(batch()).await.expect("it is done").len(), 2);
    assert_eq!(orders.get("n").await.expect("it reads").as_deref(), Some(&b"4"[..]));

    let counting: Vec<_> = (0..4)
        .map(|_| {
            let orders = orders.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let counted = orders.update("count", |count| {
                        let count =
                            count.map_or(0, |text| String::from_utf8_lossy(text).parse().unwrap_or(0));
                        Some((count + 1_u32).to_string().into_bytes())
                    });
                    counted.await.expect("it is counted");
                }
            })
        })
        .collect();
    for one in counting {
        one.await.expect("it ends");
    }
    assert_eq!(orders.get("count").await.expect("it reads").as_deref(), Some(&b"40"[..]));
    assert_eq!(orders.update("count", |_| None).await.expect("it is removed"), None);
    assert_eq!(orders.get("count").await.expect("it reads"), None);
    // A value is no set, and nobody is told that it was done.
    node.keyspace("orders").expect("a name").set("s").add("x").await.expect("it is added");
    assert!(matches!(orders.get("s").await, Err(StrongError::Refused(_))));
    node.shutdown().await;
}

#[tokio::test]
async fn leases_are_held_by_one_and_end_by_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let ttl = Duration::from_mins(10);
    let Leased::Got(lease) = orders.lease("lock", ttl).await.expect("it is decided") else {
        panic!("nobody holds it")
    };
    assert!(matches!(orders.lease("lock", ttl).await.expect("it is decided"), Leased::Taken));
    assert!(lease.keep_alive().await.expect("it is decided"));
    let done = orders.batch_if([lease.held()], Batch::new().set("k", "mine")).await;
    assert!(done.expect("it is decided").is_some());
    let gone = lease.clone();
    assert!(lease.release().await.expect("it is decided"));
    assert!(!gone.keep_alive().await.expect("it is decided"), "it was given back");
    let done = orders.batch_if([gone.held()], Batch::new().set("k", "late")).await;
    assert!(done.expect("it is decided").is_none());

    let Leased::Got(short) = orders.lease("lock", Duration::from_millis(1)).await.expect("it is decided")
    else {
        panic!("nobody holds it")
    };
    let taken = async {
        while let Leased::Taken = orders.lease("lock", ttl).await.expect("it is decided") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.expect("it ends by itself");
    assert!(!short.keep_alive().await.expect("it is decided"));
    node.shutdown().await;
}

#[tokio::test]
async fn relaxed_reads_are_labelled_and_events_tell_of_the_group() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let before = orders.revision().await.expect("it is known");
    let mut watch = orders.watch(WatchRange::Key(b"k".to_vec()), None);
    orders.put("k", "v").await.expect("it is written");
    let revision = orders.revision().await.expect("it is known");
    assert!(revision > before);
    for relaxed in [orders.stale(), orders.at_least(revision)] {
        let read = relaxed.get("k").await.expect("it reads");
        assert_eq!((read.value.as_deref(), read.label.tentative), (Some(&b"v"[..]), 0));
        assert!(read.label.revision >= revision, "{:?}", read.label);
    }
    // What was never written is not waited for without end.
    let late = strong(&node).within(Duration::from_millis(300));
    assert!(matches!(late.at_least(u64::MAX).get("k").await, Err(StrongError::NotDone(_))));
    let Some(WatchEvent::Changed(change)) = watch.next().await else { panic!("it was changed") };
    assert_eq!((change.key, change.new.as_deref()), (b"k".to_vec(), Some(&b"v"[..])));

    let mut events = orders.events();
    let (mut leader, mut role, mut committed, mut members) = (None, None, None, 0);
    while leader.is_none() || role.is_none() || committed.is_none() {
        match events.next().await.expect("the node runs") {
            GroupEvent::Leader { leader: found, .. } => leader = found,
            GroupEvent::Role(found) => role = Some(found),
            GroupEvent::Committed(index) => committed = Some(index),
            GroupEvent::Members(membership) => members = membership.members.len(),
        }
    }
    assert_eq!((role, members), (Some(Role::Leader), 1));
    let unknown = "1-00000000000000000000000000000000-1".parse().expect("a name");
    let outcome = orders.outcome(unknown).await.expect("it is looked for");
    assert!(matches!(outcome, OperationOutcome::Unknown), "{outcome:?}");
    let eventual = "0-00000000000000000000000000000000-1".parse().expect("a name");
    let outcome = orders.outcome(eventual).await.expect("it is looked for");
    assert!(matches!(outcome, OperationOutcome::Never), "{outcome:?}");
    let group = node.anchors().expect("it is known");
    assert_eq!((group.has_quorum, group.quorum_ack_ms), (true, Some(0)), "it is the majority by itself");
    let export = node.export_all(orders.name()).await.expect("it begins");
    let lines: Vec<String> =
        export.map(|line| String::from_utf8(line.expect("it reads")).expect("JSON")).collect();
    assert!(lines[1].contains("\"key\":\"k\""), "{lines:?}");
    node.shutdown().await;
    while events.next().await.is_some() {}
}
