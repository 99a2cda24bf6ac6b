//! Watching a strong keyspace by revision, from node to node, while leaders come and go: three anchors and a guest in one
//! process, over libp2p on loopback.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidelock::keyspace::StrongError;
use tidelock::keyspace::strong::{Strong, StrongChange, StrongOperation};
use tidelock::watch::WatchRange;
use tidelock::{Node, NodeConfig};
use tidelock_engine::ports::Role;

/// The operations that are written.
const WRITTEN: usize = 400;

/// The operations that a watcher takes from one node before it goes to the next.
const STAY: usize = 7;

/// The value behind all others.
const END: &str = "end";

/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_mins(2);

/// The nodes that run, by place; clients take another one when theirs is gone.
#[derive(Clone)]
struct Nodes {
    folder: PathBuf,
    running: Arc<Mutex<Vec<Option<Node>>>>,
}

impl Nodes {
    async fn open(&self, place: usize, peers: Vec<String>) -> Node {
        let config = NodeConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            peers,
            found: place == 0,
            // The last one is a guest.
            anchors_target: if place == 3 { 0 } else { 3 },
            ..NodeConfig::at(self.folder.join(place.to_string()))
        };
        let node = Node::open(config).await.expect("a node opens");
        self.running.lock().expect("no client panics with it")[place] = Some(node.clone());
        node
    }

    /// Three anchors that vote and a guest, all of which know that the keyspace is strong.
    async fn start(folder: &Path) -> Self {
        let nodes = Self { folder: folder.to_owned(), running: Arc::new(Mutex::new(vec![None; 4])) };
        let first = nodes.open(0, Vec::new()).await;
        for place in 1..4 {
            nodes.open(place, first.listen_addresses()).await;
        }
        until("three vote", || first.group().membership.voters.iter().any(|voters| voters.len() == 3)).await;
        first.make_strong("orders").await.expect("it is strong");
        let knows = |place| nodes.strong(place).watch(WatchRange::Prefix(Vec::new())).is_ok();
        until("all know that it is strong", || (0..4).all(knows)).await;
        nodes
    }

    fn node(&self, place: usize) -> Option<Node> {
        self.running.lock().expect("no client panics with it")[place % 4].clone()
    }

    fn strong(&self, place: usize) -> Strong {
        self.node(place).expect("it runs").keyspace("orders").expect("a name").strong()
    }

    /// Takes the leader away, and answers its place.
    async fn end_leader(&self) -> usize {
        let leads = |place: &usize| self.node(*place).is_some_and(|node| node.group().role == Role::Leader);
        until("somebody leads", || (0..3).any(|place| leads(&place))).await;
        let place = (0..3).find(leads).expect("it was seen just now");
        let node = self.running.lock().expect("no client panics with it")[place].take();
        node.expect("it runs").shutdown().await;
        place
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes numbers in order on whichever node runs, each again while it was certainly not done, and answers those that were
/// acknowledged. Behind all of them comes the end.
async fn write_all(nodes: Nodes) -> Vec<String> {
    let (mut acknowledged, mut place) = (Vec::new(), 0);
    for value in (0..WRITTEN).map(|number| number.to_string()).chain([END.to_owned()]) {
        loop {
            place += 1;
            let Some(node) = nodes.node(place) else { continue };
            match node.keyspace("orders").expect("a name").strong().put("n", &value).await {
                Ok(()) => {
                    acknowledged.push(value);
                    break;
                }
                // It may have been done, and is not done again; but an end there must be.
                Err(StrongError::Unknown { .. }) if value != END => break,
                Err(StrongError::Unknown { .. } | StrongError::NotDone(_)) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    acknowledged
}

/// Watches from node to node, and takes along nothing but the last revision that it was told of.
async fn roam(nodes: Nodes, first: usize) -> (Vec<StrongOperation>, usize) {
    let (mut told, mut hops): (Vec<StrongOperation>, usize) = (Vec::new(), 0);
    for place in first.. {
        let Some(node) = nodes.node(place) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let Ok(watch) =
            node.keyspace("orders").expect("a name").strong().watch(WatchRange::Prefix(Vec::new()))
        else {
            continue;
        };
        drop(node);
        hops += 1;
        let mut watch = watch.after(told.last().map_or(0, |operation| operation.revision));
        for _ in 0..STAY {
            // A node that is shut down, or behind, is left for another one.
            let next = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
            let Ok(Some(operation)) = next else { break };
            told.push(operation.expect("it is held"));
            if values(&told[told.len() - 1..]) == [END] {
                return (told, hops);
            }
        }
    }
    unreachable!("places do not end")
}

/// The values that operations wrote.
fn values(operations: &[StrongOperation]) -> Vec<String> {
    let value = |change: &StrongChange| match change {
        StrongChange::Written { value, .. } => String::from_utf8(value.clone()).expect("a number"),
        other => panic!("nobody asked for {other:?}"),
    };
    operations.iter().flat_map(|operation| &operation.changes).map(value).collect()
}

/// The leader goes away twice and comes back, while a client writes numbers and two watchers go from node to node. Both are
/// told all that was acknowledged, once, in order, at the same revisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_roam_are_told_each_operation_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nodes = Nodes::start(folder.path()).await;
    let roaming = [0, 3].map(|first| tokio::spawn(roam(nodes.clone(), first)));
    let writing = tokio::spawn(write_all(nodes.clone()));
    let mut live = nodes.strong(3).watch(WatchRange::Key(b"n".to_vec())).expect("it is strong").after(0);
    for _ in 0..2 {
        // Some are written before, some while nobody leads, some behind it.
        for _ in 0..WRITTEN / 4 {
            let next = tokio::time::timeout(DEADLINE, live.next()).await.expect("in time");
            next.expect("the guest runs").expect("it is held");
        }
        let place = nodes.end_leader().await;
        let next = tokio::time::timeout(DEADLINE, live.next()).await.expect("in time");
        next.expect("the guest runs").expect("it is held");
        let peers = nodes.node(3).expect("the guest runs").listen_addresses();
        nodes.open(place, peers).await;
    }
    let acknowledged = tokio::time::timeout(DEADLINE, writing).await.expect("in time").expect("it writes");
    let mut seen = Vec::new();
    for roaming in roaming {
        let (told, hops) = tokio::time::timeout(DEADLINE, roaming).await.expect("in time").expect("it ends");
        assert!(hops >= 10, "it went to {hops} nodes only");
        seen.push(told);
    }
    assert_eq!(seen[0], seen[1]);
    let told = values(&seen[0]);
    let numbers: BTreeSet<&String> = told.iter().collect();
    assert_eq!(numbers.len(), told.len(), "one was told twice: {told:?}");
    let is_acknowledged = |value: &&String| acknowledged.contains(value);
    assert_eq!(told.iter().filter(is_acknowledged).cloned().collect::<Vec<_>>(), acknowledged);
    assert!(acknowledged.len() > WRITTEN * 9 / 10, "only {} were acknowledged", acknowledged.len());
    for place in 0..4 {
        nodes.node(place).expect("it runs").shutdown().await;
    }
}
