//! Who gets in: the allow-list, its live changes, the limits, and what a start refuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::world::{BOTH, Node, Via, config, key, pair, until};
use tidelock_engine::ports::Transport;
use tidelock_transport::{Config, Libp2pTransport, StartError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_is_refused_before_any_protocol_and_both_sides_know_why() {
    for via in BOTH {
        let mut closed = config(1, via);
        closed.allow = Some(BTreeSet::from([key(2).peer()]));
        let (mut a, mut stranger) = (Node::start(closed).await, Node::start(config(3, via)).await);
        stranger.connect(&a);
        let (at_a, at_stranger) = (a.transport.clone(), stranger.transport.clone());
        until("the stranger was refused twice", || {
            let refusals = at_a.refusals();
            refusals.first().is_some_and(|refusal| refusal.by_us > 1)
        })
        .await;
        until("the stranger has noticed", || !at_stranger.refusals().is_empty()).await;
        let (ours, theirs) = (a.transport.refusals().remove(0), stranger.transport.refusals().remove(0));
        assert_eq!((ours.peer, theirs.peer), (stranger.peer, a.peer));
        assert!(ours.reason.contains("list of allowed peers"), "{}", ours.reason);
        assert!(theirs.by_peer > 0 && theirs.reason.contains("may not allow our key"), "{}", theirs.reason);
        assert!(stranger.target_error().contains("may not allow our key"), "{}", stranger.target_error());
        assert!(a.try_event().is_none() && stranger.try_event().is_none());
        assert!(a.transport.peers().is_empty() && stranger.transport.peers().is_empty());

        // The list is changed live, in both directions.
        a.transport.set_allow(Some(BTreeSet::from([stranger.peer])));
        let ((_, session_a), (_, session_stranger)) = (a.up().await, stranger.up().await);
        a.transport.set_allow(Some(BTreeSet::new()));
        assert!(a.down(session_a).await.contains("list of allowed peers"));
        stranger.down(session_stranger).await;
        a.transport.set_allow(None);
        assert_eq!(a.up().await.0, stranger.peer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_is_not_on_the_list_is_not_dialled_either() {
    for via in BOTH {
        let mut closed = config(1, via);
        closed.allow = Some(BTreeSet::from([key(2).peer()]));
        let (mut a, mut stranger) = (Node::start(closed).await, Node::start(config(3, via)).await);
        // By name it is not even dialled; by address alone it is found out in the handshake.
        for peer in [Some(stranger.peer), None] {
            let target = tidelock_engine::ports::Target { peer, addresses: vec![stranger.address()] };
            a.transport.connect(target.clone());
            let seen = a.transport.clone();
            until("the dial was refused", || seen.targets()[0].failures > 0).await;
            assert!(a.target_error().contains("list of allowed peers"), "{}", a.target_error());
            a.transport.disconnect(&target);
        }
        assert!(a.try_event().is_none() && stranger.try_event().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incoming_connections_are_limited_and_room_is_used_again() {
    for via in BOTH {
        let mut narrow = config(1, via);
        narrow.connections_incoming_max = 2;
        let mut a = Node::start(narrow).await;
        let mut inside = Vec::new();
        for n in [2, 3] {
            let mut node = Node::start(config(n, via)).await;
            node.connect(&a);
            node.up().await;
            let (peer, session) = a.up().await;
            assert_eq!(peer, node.peer);
            inside.push((node, session));
        }
        let mut late = Node::start(config(4, via)).await;
        late.connect(&a);
        let seen = a.transport.clone();
        until("the third was refused", || seen.refusals().iter().any(|refusal| refusal.by_us > 0)).await;
        let refusal = a.transport.refusals().remove(0);
        assert!(refusal.peer == late.peer && refusal.reason.contains("limit"), "{refusal:?}");
        assert!(late.try_event().is_none());
        let (leaving, session) = inside.pop().expect("two are inside");
        leaving.transport.shutdown().await;
        a.down(session).await;
        assert_eq!((a.up().await.0, late.up().await.0), (late.peer, a.peer));
    }
}

async fn start_error(config: Config) -> String {
    match Libp2pTransport::start(config, Arc::new(|| {})).await {
        Err(error) => error.to_string(),
        Ok(transport) => panic!("it started: {transport:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_to_the_world_without_a_list_is_refused() {
    for address in
        ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip4/192.0.2.1/tcp/4001", "/dns4/localhost/tcp/0"]
    {
        let mut open = config(1, Via::Tcp);
        open.listen = vec![address.to_owned()];
        let error = start_error(open).await;
        assert!(error.contains("--allow PEERID") && error.contains(address), "{error}");
    }
    let mut listed = config(1, Via::Tcp);
    listed.listen = vec!["/ip4/0.0.0.0/tcp/0".to_owned()];
    listed.allow = Some(BTreeSet::from([key(2).peer()]));
    let node = Node::start(listed).await;
    assert!(!node.transport.listen_addresses().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_that_is_taken_is_named_with_the_cause() {
    for via in BOTH {
        let (a, _, _b, _) = pair(config(1, via), config(2, via)).await;
        let mut same = config(3, via);
        same.listen = vec![a.address()];
        let error = start_error(same).await;
        assert!(error.contains(&a.address()) && error.contains("in use"), "{error}");
    }
    let mut unknown = config(1, Via::Tcp);
    unknown.listen = vec!["/ip4/127.0.0.1/sctp/1".to_owned()];
    assert!(start_error(unknown).await.contains("/ip4/127.0.0.1/sctp/1"));
}

/// Whether anything is found depends on the machine's network; that it runs and stops does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_can_be_turned_on() {
    let mut looking = config(1, Via::Tcp);
    looking.mdns = true;
    let mut a = Node::start(looking).await;
    assert!(a.transport.discovered().iter().all(|(peer, _)| *peer != a.peer));
    a.transport.shutdown().await;
    assert!(a.try_event().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_config_starts_nothing() {
    let mut bad = config(1, Via::Tcp);
    bad.lanes.clear();
    let error = Libp2pTransport::start(bad, Arc::new(|| {})).await.expect_err("it has no lane");
    assert!(matches!(error, StartError::Config(_)), "{error}");
}
