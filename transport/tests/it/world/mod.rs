//! Real nodes on loopback for the tests: each runs the whole transport, and the test plays its engine.
//!
//! Every wait is for a condition and has a deadline that names what was waited for.
#![allow(unreachable_pub, missing_docs, reason = "it is shared by all files of tests")]

pub mod gossiping;
pub mod hostile;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{SendError, SessionId, Target, Transport, TransportEvent};
use tidelock_transport::{Config, Lane, Libp2pTransport, SecretKey, StartError};
use tokio::sync::Notify;

/// Far beyond what anything takes here; only a hang gets there.
pub const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Tcp,
    Quic,
}

pub const BOTH: [Via; 2] = [Via::Tcp, Via::Quic];

impl Via {
    pub fn any_port(self) -> String {
        match self {
            Self::Tcp => "/ip4/127.0.0.1/tcp/0".to_owned(),
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1".to_owned(),
        }
    }
}

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// A config that listens on a free port and redials quickly.
pub fn config(n: u8, via: Via) -> Config {
    let mut config = Config::new(key(n));
    config.listen = vec![via.any_port()];
    config.backoff_min = Duration::from_millis(10);
    config.backoff_max = Duration::from_millis(200);
    config
}

pub struct Node {
    pub transport: Libp2pTransport,
    pub peer: PeerId,
    news: Arc<Notify>,
    events: VecDeque<(Lane, TransportEvent)>,
}

impl Node {
    pub async fn start(config: Config) -> Self {
        Self::try_start(config).await.expect("loopback can be bound")
    }

    pub async fn try_start(config: Config) -> Result<Self, StartError> {
        let news = Arc::new(Notify::new());
        let bell = Arc::clone(&news);
        let transport = Libp2pTransport::start(config, Arc::new(move || bell.notify_one())).await?;
        let peer = transport.local_peer();
        Ok(Self { transport, peer, news, events: VecDeque::new() })
    }

    /// Starts on the port of a process that was killed a moment ago, as soon as the system has freed it.
    pub async fn start_again(config: Config) -> Self {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match Self::try_start(config.clone()).await {
                Ok(node) => return node,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn address(&self) -> String {
        self.transport.listen_addresses().first().cloned().expect("the node listens")
    }

    pub fn target(&self) -> Target {
        Target { peer: Some(self.peer), addresses: vec![self.address()] }
    }

    pub fn connect(&mut self, other: &Self) {
        self.transport.connect(other.target());
    }

    pub fn send(&mut self, session: SessionId, bytes: Vec<u8>) -> Result<(), SendError> {
        self.transport.send(session, bytes)
    }

    /// What has happened already.
    pub fn try_event(&mut self) -> Option<(Lane, TransportEvent)> {
        if self.events.is_empty() {
            self.events = self.transport.poll_events(256).into();
        }
        self.events.pop_front()
    }

    /// Takes what has happened and keeps it, as an engine does that is busy with something else.
    pub fn keep_events(&mut self) {
        self.events.extend(self.transport.poll_events(256));
    }

    /// The next event of any lane.
    pub async fn lane_event(&mut self) -> (Lane, TransportEvent) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(event) = self.try_event() {
                return event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::timeout(left, self.news.notified()).await.expect("an event before the deadline");
        }
    }

    pub async fn event(&mut self) -> TransportEvent {
        self.lane_event().await.1
    }

    /// The next event must be `Up`.
    pub async fn up(&mut self) -> (PeerId, SessionId) {
        match self.event().await {
            TransportEvent::Up { peer, session, .. } => (peer, session),
            other => panic!("instead of Up: {other:?}"),
        }
    }

    /// The next event must be this session's `Down`.
    pub async fn down(&mut self, of: SessionId) -> String {
        match self.event().await {
            TransportEvent::Down { session, reason } if session == of => reason,
            other => panic!("instead of Down: {other:?}"),
        }
    }

    /// The next event must be a message of this session.
    pub async fn message(&mut self, of: SessionId) -> Vec<u8> {
        match self.event().await {
            TransportEvent::Message { session, bytes } if session == of => bytes,
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// Sends, taking events until there is room. Events that are not `Drained` are kept.
    pub async fn send_patiently(&mut self, session: SessionId, bytes: Vec<u8>) {
        let mut kept = VecDeque::new();
        loop {
            match self.send(session, bytes.clone()) {
                Ok(()) => break,
                Err(SendError::Full) => {}
                Err(error) => panic!("{error}"),
            }
            loop {
                match self.lane_event().await {
                    (_, TransportEvent::Drained { session: drained }) if drained == session => break,
                    other => kept.push_back(other),
                }
            }
        }
        kept.append(&mut self.events);
        self.events = kept;
    }

    /// The error that is shown for the only target.
    pub fn target_error(&self) -> String {
        let targets = self.transport.targets();
        assert_eq!(targets.len(), 1);
        targets[0].last_error.clone().unwrap_or_default()
    }
}

/// Waits until something that no event tells of is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not before the deadline: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two connected nodes; the first one dialled.
pub async fn pair(a: Config, b: Config) -> (Node, SessionId, Node, SessionId) {
    let (mut a, mut b) = (Node::start(a).await, Node::start(b).await);
    a.connect(&b);
    let ((peer_of_a, session_a), (peer_of_b, session_b)) = (a.up().await, b.up().await);
    assert_eq!((peer_of_a, peer_of_b), (b.peer, a.peer));
    (a, session_a, b, session_b)
}
