//! The handle of a strong keyspace on a node that is the only anchor of its cluster.

use std::time::Duration;

use tidelock_engine::command::OperationId;
use tidelock_engine::id::{ClientId, Epoch};
use tidelock_engine::ports::Role;
use tidelock_engine::request::{ActionError, RequestError};
use tidelock_engine::row::Kind;
use tidelock_engine::score::Score;
use tidelock_engine::write::{Outcome, Write};

use super::lease::Leased;
use super::{Expected, Strong, StrongChange, StrongError, StrongOperation, StrongWatch, StrongWatchError};
use crate::config::RetentionConfig;
use crate::keyspace::{Batch, WriteError};
use crate::node::{GroupEvent, Node, OperationOutcome};
use crate::watch::WatchRange;
use crate::{NodeConfig, document};

fn config(folder: &tempfile::TempDir) -> NodeConfig {
    NodeConfig { listen: Vec::new(), found: true, ..NodeConfig::at(folder.path()) }
}

async fn founder(folder: &tempfile::TempDir) -> Node {
    founder_with(config(folder)).await
}

async fn founder_with(config: NodeConfig) -> Node {
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
async fn named_operation_is_done_once_and_answers_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let count = |number| orders.named("till-3", number).batch(Batch::new().increment("n", 5));
    for (number, sum) in [(1, 5), (1, 5), (2, 10), (1, 5), (2, 10)] {
        assert_eq!(count(number).await.expect("it is done"), [Outcome::Number(sum)]);
    }
    let missing = || orders.named("till-3", 3).compare_and_set("k", Expected::Missing, "v");
    assert!(missing().await.expect("it is decided"));
    assert!(missing().await.expect("it is decided"), "it was missing when it was decided");
    orders.named("till-3", 4).put("k", "w").await.expect("it is written");
    let other = orders.named("till-3", 4).put("k", "x").await;
    assert!(matches!(other, Err(StrongError::OtherOperation)), "{other:?}");
    assert!(orders.named("till-3", 5).delete("k").await.expect("it is removed"));
    assert!(orders.named("till-3", 5).delete("k").await.expect("it was removed"));
    // What of a client is far below its highest number is refused, and never done.
    count(5_000).await.expect("it is done");
    for number in [1, 6] {
        let refused = count(number).await;
        assert!(matches!(refused, Err(StrongError::Forgotten { operation: Some(_) })), "{refused:?}");
    }
    assert_eq!(orders.get("n").await.expect("it reads").as_deref(), Some(&b"15"[..]));
    // Nothing would be remembered in an eventual one.
    let notes = node.keyspace("notes").expect("a name");
    let refused = notes.named((ClientId::named(b"till-3"), 1)).register("k").set("v").await;
    let WriteError::Request(RequestError::Action { source, .. }) = refused.expect_err("it is refused") else {
        panic!("it is refused for another reason")
    };
    assert!(matches!(source, ActionError::NeedsStrong(_)), "{source}");
    node.shutdown().await;
}

#[tokio::test]
async fn outcome_that_is_settled_is_final() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let id = |number| OperationId { epoch: Epoch(1), client: ClientId::named(b"till-3"), number };
    let put = |number| orders.named("till-3", number).put("k", number.to_string());
    put(1).await.expect("it is written");
    for number in [1, 1, 2] {
        let known = orders.outcome(id(number)).await.expect("it is looked for");
        match (number, known) {
            (1, OperationOutcome::Done(reply)) => assert_eq!(reply.expect("it was done").len(), 1),
            (2, OperationOutcome::Unknown) => {}
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
    let done = orders.settle(id(1)).await.expect("it is known");
    assert!(matches!(done, OperationOutcome::Done(Ok(_))), "{done:?}");
    for _ in 0..2 {
        let never = orders.settle(id(2)).await.expect("it is made certain");
        assert!(matches!(never, OperationOutcome::Never), "{never:?}");
    }
    let never = orders.outcome(id(2)).await.expect("it is looked for");
    assert!(matches!(never, OperationOutcome::Never), "{never:?}");
    assert!(matches!(put(2).await, Err(StrongError::Never)));
    put(5_000).await.expect("it is written");
    let forgotten = orders.settle(id(3)).await.expect("it is known");
    assert!(matches!(forgotten, OperationOutcome::Forgotten), "{forgotten:?}");
    assert_eq!(orders.get("k").await.expect("it reads").as_deref(), Some(&b"5000"[..]));
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
    let mut watch = orders.watch(WatchRange::Key(b"k".to_vec())).expect("it is strong");
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
    let told = watch.next().await.expect("the node runs").expect("it is held");
    assert_eq!(told, StrongOperation { revision, changes: vec![written("k", "v")] });

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

fn written(key: &str, value: &str) -> StrongChange {
    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    StrongChange::Written { key, kind: Kind::Register, subkey: Vec::new(), value }
}

fn all() -> WatchRange {
    WatchRange::Prefix(Vec::new())
}

/// What comes next, within half a minute.
async fn told(watch: &mut StrongWatch) -> Result<StrongOperation, StrongWatchError> {
    let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
    next.expect("it is told in time").expect("the node runs")
}

#[tokio::test]
async fn every_operation_is_told_once_with_the_values_of_then() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let mut live = orders.watch(all()).expect("it is strong");
    let keys = ["k", "other", "k", "k"];
    for (number, key) in keys.into_iter().enumerate() {
        orders.put(key, number.to_string()).await.expect("it is written");
    }
    assert!(orders.delete("k").await.expect("it is removed"));
    // A condition that does not hold is no change, and a batch is one operation.
    assert!(!orders.compare_and_set("k", Expected::Value(b"x"), "y").await.expect("it is decided"));
    orders.batch(Batch::new().set("a", "1").set("b", "2").set("a", "3")).await.expect("it is done");
    let end = orders.revision().await.expect("it is known");

    let removed = StrongChange::Removed { key: b"k".to_vec(), kind: Kind::Register, subkey: Vec::new() };
    let expected = vec![
        vec![written("k", "0")],
        vec![written("other", "1")],
        vec![written("k", "2")],
        vec![written("k", "3")],
        vec![removed],
        vec![written("b", "2"), written("a", "3")],
    ];
    let mut seen = Vec::new();
    while live.revision() < end {
        seen.push(told(&mut live).await.expect("it is held"));
    }
    assert_eq!(seen.iter().map(|it| it.changes.clone()).collect::<Vec<_>>(), expected);
    assert!(seen.is_sorted_by(|one, next| one.revision < next.revision), "{seen:?}");

    // Behind any of them come all later ones, and none twice.
    for (place, one) in seen.iter().enumerate() {
        let mut again = orders.watch(all()).expect("it is strong").after(one.revision);
        for later in &seen[place + 1..] {
            assert_eq!(&told(&mut again).await.expect("it is held"), later);
        }
        assert_eq!(again.revision(), if place + 1 == seen.len() { one.revision } else { end });
    }
    let mut of_key = orders.watch(WatchRange::Key(b"other".to_vec())).expect("it is strong").after(0);
    assert_eq!(told(&mut of_key).await.expect("it is held"), seen[1]);
    // What is not watched is passed over, and need not be read again.
    while of_key.revision() < end {
        let waiting = tokio::time::timeout(Duration::from_millis(20), of_key.next()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    // What no node has heard of yet is waited for.
    let mut ahead = orders.watch(all()).expect("it is strong").after(end + 1);
    orders.put("early", "1").await.expect("it is written");
    orders.put("late", "2").await.expect("it is written");
    let mut next = told(&mut ahead).await.expect("it is held");
    while next.changes == [written("early", "1")] {
        next = told(&mut ahead).await.expect("it is held");
    }
    assert_eq!(next.changes, [written("late", "2")]);
    assert!(next.revision > end + 1);

    let notes = node.keyspace("notes").expect("a name").strong();
    assert!(matches!(notes.watch(all()), Err(StrongError::NotStrong(_))));
    node.shutdown().await;
    assert!(live.next().await.is_none());
}

#[tokio::test]
async fn what_the_log_holds_no_more_is_said_and_the_watch_goes_on_behind_a_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let retention = RetentionConfig { age_s: 0, peers_s: 0, bytes: 0 };
    let node = founder_with(NodeConfig { retention, ..config(&folder) }).await;
    let orders = strong(&node);
    let mut watch = orders.watch(all()).expect("it is strong");
    let before = watch.revision();
    orders.put("k", "0").await.expect("it is written");
    // The last frame stays, for it says where the log ends.
    orders.put("k", "1").await.expect("it is written");
    let first = async {
        loop {
            let mut slow = orders.watch(all()).expect("it is strong").after(before);
            match told(&mut slow).await {
                Ok(operation) => assert_eq!(operation.changes, [written("k", "0")]),
                Err(StrongWatchError::Compacted { after, first }) => return (after, first),
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (after, first) = tokio::time::timeout(Duration::from_mins(1), first).await.expect("it is let go of");
    assert_eq!(after, before);
    assert!(first > before);
    assert!(matches!(told(&mut watch).await, Err(StrongWatchError::Compacted { .. })), "it says so again");
    assert_eq!(watch.revision(), before);
    let mut behind = orders.watch(all()).expect("it is strong").after(first);
    assert_eq!(told(&mut behind).await.expect("it is held").changes, [written("k", "1")]);
    let read = orders.stale().get("k").await.expect("it reads");
    let mut watch = watch.after(read.label.revision);
    orders.put("k", "2").await.expect("it is written");
    assert_eq!(told(&mut watch).await.expect("it is held").changes, [written("k", "2")]);
    node.shutdown().await;
}

/// A guest that leaves the keyspace says so to whoever watches it there; what it had was told before.
#[tokio::test]
async fn watch_on_a_node_that_leaves_says_so() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let listen = || vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    let anchor = founder_with(NodeConfig { listen: listen(), ..config(&folders[0]) }).await;
    let peers = anchor.listen_addresses();
    let guest =
        NodeConfig { listen: listen(), peers, found: false, anchors_target: 0, ..config(&folders[1]) };
    let guest = Node::open(guest).await.expect("a node opens");
    let orders = strong(&guest);
    let heard = async {
        while orders.watch(all()).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it hears of it");
    let mut watch = orders.watch(all()).expect("it is strong");
    strong(&anchor).put("k", "v").await.expect("it is written");
    assert_eq!(told(&mut watch).await.expect("it is held").changes, [written("k", "v")]);
    guest.leave_by_force("orders").await.expect("it is left");
    for _ in 0..2 {
        let left = told(&mut watch).await;
        assert!(matches!(&left, Err(StrongWatchError::Left(name)) if name.as_str() == "orders"), "{left:?}");
    }
    guest.shutdown().await;
    anchor.shutdown().await;
}

#[tokio::test]
async fn watch_of_an_epoch_that_is_over_tells_all_of_it_and_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let mut watch = orders.watch(all()).expect("it is strong");
    orders.put("k", "v").await.expect("it is written");
    node.modes().end(orders.name());
    assert_eq!(told(&mut watch).await.expect("it is held").changes, [written("k", "v")]);
    let ended = told(&mut watch).await;
    assert!(matches!(&ended, Err(StrongWatchError::Ended(name)) if name.as_str() == "orders"), "{ended:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn elements_fields_and_whole_keys_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let node = founder(&folder).await;
    let orders = strong(&node);
    let mut watch = orders.watch(all()).expect("it is strong");
    let key = |key: &str| key.as_bytes().to_vec();
    let written = |of: &str, kind, subkey: &str, value: &str| StrongChange::Written {
        key: key(of),
        kind,
        subkey: key(subkey),
        value: key(value),
    };
    let batch = Batch::new()
        .add("s", "x")
        .put("m", "f", "v")
        .score("z", "a", Score::new(2.0).expect("a number"))
        .increment("n", 5);
    orders.batch(batch).await.expect("it is done");
    let expected = [
        written("s", Kind::Set, "x", "x"),
        written("m", Kind::Map, "f", "v"),
        written("z", Kind::Sorted, "a", "2"),
        written("n", Kind::Register, "", "5"),
    ];
    assert_eq!(told(&mut watch).await.expect("it is held").changes, expected);
    // What is added and removed by one operation was never there for anybody.
    let batch = Batch::new().add("s", "y").remove("s", "y").unset("m", "f").unscore("z", "a");
    orders.batch(batch).await.expect("it is done");
    let removed =
        |of: &str, kind, subkey: &str| StrongChange::Removed { key: key(of), kind, subkey: key(subkey) };
    let expected =
        [removed("s", Kind::Set, "y"), removed("m", Kind::Map, "f"), removed("z", Kind::Sorted, "a")];
    assert_eq!(told(&mut watch).await.expect("it is held").changes, expected);

    let many = (0..300).fold(Batch::new(), |batch, number: u32| batch.add("s", number.to_string()));
    orders.batch(many).await.expect("it is done");
    assert_eq!(told(&mut watch).await.expect("it is held").changes.len(), 300);
    assert!(orders.delete("s").await.expect("it is removed"));
    let expected = [StrongChange::KeyRemoved { key: key("s") }];
    assert_eq!(told(&mut watch).await.expect("it is held").changes, expected);
    let mut of_key = orders.watch(WatchRange::Key(key("k"))).expect("it is strong");
    orders.decide(Vec::new(), vec![Write::Clear]).await.expect("it is done");
    assert_eq!(told(&mut of_key).await.expect("it is held").changes, [StrongChange::AllRemoved]);
    node.shutdown().await;
}
