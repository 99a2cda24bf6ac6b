//! Connections between real nodes: one per peer, kept alive, found again, ended.

use std::time::Duration;

use crate::world::{BOTH, Node, Via, config, hostile, key, pair, until};
use tidelock_engine::ports::{SendError, Target, Transport, TransportEvent};
use tidelock_transport::TargetState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_make_one_session() {
    for (via, round) in BOTH.into_iter().flat_map(|via| (0..20).map(move |round| (via, round))) {
        let (mut a, mut b) =
            (Node::start(config(round, via)).await, Node::start(config(100 - round, via)).await);
        let (target_a, target_b) = (b.target(), a.target());
        a.transport.connect(target_a);
        b.transport.connect(target_b);
        let ((_, session_a), (_, session_b)) = (a.up().await, b.up().await);
        a.send(session_a, vec![1]).expect("it is up");
        b.send(session_b, vec![2]).expect("it is up");
        assert_eq!((b.message(session_b).await, a.message(session_a).await), (vec![1], vec![2]));
        // Both targets settle on the one connection; nobody dials again and nothing flaps.
        let (seen_a, seen_b) = (a.transport.clone(), b.transport.clone());
        until("both targets are connected", || {
            [&seen_a, &seen_b].into_iter().all(|node| node.targets()[0].state == TargetState::Connected)
        })
        .await;
        assert_eq!((a.transport.peers().len(), b.transport.peers().len()), (1, 1));
        assert!(a.try_event().is_none() && b.try_event().is_none(), "{via:?} {round}: it flaps");
        assert!(a.transport.refusals().is_empty() && b.transport.refusals().is_empty());
    }
}

/// The whole runtime of a peer disappears, as with SIGKILL. It comes back on the same port and is found
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_peer_is_noticed_and_found_again() {
    // Both orders of peer id, since the lower one is the arbiter.
    for (via, survivor, victim) in [(Via::Tcp, 1, 2), (Via::Tcp, 2, 1), (Via::Quic, 1, 2), (Via::Quic, 2, 1)]
    {
        let impatient = |n| {
            let mut config = config(n, via);
            config.ping_interval = Duration::from_millis(100);
            config.ping_timeout = Duration::from_secs(2);
            config
        };
        let mut a = Node::start(impatient(survivor)).await;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let b = runtime.spawn(Node::start(impatient(victim))).await.expect("it starts");
        a.connect(&b);
        let (_, session) = a.up().await;
        let transport = a.transport.clone();
        until("the round trip is known", || transport.peers()[0].rtt.is_some()).await;
        let address = b.address();
        runtime.shutdown_background();
        drop(b);
        a.down(session).await;
        assert_eq!(a.send(session, vec![1]), Err(SendError::NotUp));
        let mut again = impatient(victim);
        again.listen = vec![address];
        let mut b = Node::start_again(again).await;
        let ((_, session_a), (_, session_b)) = (a.up().await, b.up().await);
        a.send(session_a, vec![1]).expect("it is up");
        assert_eq!(b.message(session_b).await, [1]);
    }
}

/// A peer froze: its old process holds the connection and answers nothing. Then it comes back as a new
/// process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_peer_replaces_its_frozen_connection_in_order() {
    for (via, survivor, restarted) in BOTH.into_iter().flat_map(|via| [(via, 1, 2), (via, 2, 1)]) {
        let quick = |n| {
            let mut config = config(n, via);
            config.dial_timeout = Duration::from_secs(1);
            config.replace_after = Duration::from_secs(1);
            config
        };
        let mut a = Node::start(quick(survivor)).await;
        hostile::dial_and_write(restarted, &a.address(), vec![0, 0, 0, 1, 7]);
        let (peer, old) = a.up().await;
        assert_eq!(a.message(old).await, [7]);
        let mut b = Node::start(quick(restarted)).await;
        assert_eq!(peer, b.peer);
        b.connect(&a);
        let (_, session_b) = b.up().await;
        assert!(a.down(old).await.contains("newer connection"));
        let (_, session_a) = a.up().await;
        b.send(session_b, vec![1]).expect("it is up");
        assert_eq!(a.message(session_a).await, [1]);
        assert_eq!(a.transport.peers().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_ends_everything_at_once_and_online_comes_back() {
    for via in BOTH {
        let (mut a, session_a, mut b, session_b) = pair(config(1, via), config(2, via)).await;
        a.transport.set_online(false);
        assert_eq!(a.send(session_a, vec![1]), Err(SendError::NotUp));
        assert!(a.down(session_a).await.contains("offline"));
        b.down(session_b).await;
        // Neither direction gets through: a dials nobody, and refuses b, which tries and is told nothing.
        b.connect(&a);
        let seen = b.transport.clone();
        until("b has tried in vain", || seen.targets()[0].failures > 2).await;
        assert_eq!(a.transport.targets()[0].state, TargetState::Offline);
        assert!(a.transport.peers().is_empty() && a.try_event().is_none() && b.try_event().is_none());
        a.transport.set_online(true);
        let ((_, session_a), (_, session_b)) = (a.up().await, b.up().await);
        // There and back in one moment is still a hang-up, not a connection that is neither here nor there.
        a.transport.set_online(false);
        a.transport.set_online(true);
        a.down(session_a).await;
        b.down(session_b).await;
        assert_eq!((a.up().await.0, b.up().await.0), (b.peer, a.peer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_ends_the_connection_and_the_dialling() {
    let (mut a, session_a, mut b, session_b) = pair(config(1, Via::Tcp), config(2, Via::Tcp)).await;
    let (one, two) = (b.target(), Target { peer: None, addresses: vec![b.address()] });
    a.transport.connect(two.clone());
    let seen = a.transport.clone();
    until("both targets found the same peer", || {
        let targets = seen.targets();
        targets.len() == 2 && targets.iter().all(|target| target.state == TargetState::Connected)
    })
    .await;
    a.transport.disconnect(&one);
    a.send(session_a, vec![1]).expect("the other target still wants it");
    assert_eq!(b.message(session_b).await, [1]);
    a.transport.disconnect(&two);
    a.down(session_a).await;
    b.down(session_b).await;
    assert!(a.transport.targets().is_empty());
    until("the connection is gone", || seen.peers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_alone_finds_the_peer_and_status_tells_about_it() {
    for via in BOTH {
        let (mut a, mut b) = (Node::start(config(1, via)).await, Node::start(config(2, via)).await);
        assert!(!b.address().contains("/0"), "{} has its real port", b.address());
        a.transport.connect(Target { peer: None, addresses: vec![b.address()] });
        let TransportEvent::Up { peer, address, is_dialer, .. } = a.event().await else { panic!("not up") };
        assert_eq!((peer, address.as_str(), is_dialer), (b.peer, b.address().as_str(), true));
        assert_eq!(b.up().await.0, a.peer);
        assert_eq!(a.transport.targets()[0].peer, Some(b.peer));
        let (seen, wanted) = (b.transport.clone(), a.address());
        until("identify and ping have told", || {
            let peer = seen.peers().remove(0);
            peer.rtt.is_some() && peer.listen_addresses.contains(&wanted)
        })
        .await;
        let status = b.transport.peers().remove(0);
        assert!(status.agent.is_some_and(|agent| agent.starts_with("tidelock/")) && !status.is_dialer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_peer_at_an_address_is_an_error_that_is_shown() {
    for via in BOTH {
        let (mut a, mut b) = (Node::start(config(1, via)).await, Node::start(config(2, via)).await);
        let address = format!("{}/p2p/{}", b.address(), key(3).peer());
        let wrong = Target { peer: None, addresses: vec![address] };
        a.transport.connect(wrong.clone());
        let seen = a.transport.clone();
        until("the dial has failed", || seen.targets()[0].failures > 0).await;
        assert!(a.target_error().contains(&b.peer.to_string()), "{}", a.target_error());
        assert!(a.try_event().is_none() && b.try_event().is_none() && a.transport.peers().is_empty());
        a.transport.disconnect(&wrong);
        let right = Target { peer: None, addresses: vec![format!("{}/p2p/{}", b.address(), b.peer)] };
        a.transport.connect(right);
        assert_eq!((a.up().await.0, b.up().await.0), (b.peer, a.peer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dial_that_fails_shows_why() {
    let mut a = Node::start(config(1, Via::Tcp)).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port is free")
        .local_addr()
        .expect("it is bound");
    let address = format!("/ip4/127.0.0.1/tcp/{}", nobody.port());
    a.transport.connect(Target { peer: Some(key(2).peer()), addresses: vec![address.clone()] });
    let seen = a.transport.clone();
    until("the dial has failed twice", || seen.targets()[0].failures > 1).await;
    let error = a.target_error();
    assert!(error.contains(&address) && error.contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_the_transport() {
    let (a, _, mut b, session_b) = pair(config(1, Via::Tcp), config(2, Via::Tcp)).await;
    drop(a);
    b.down(session_b).await;
}
