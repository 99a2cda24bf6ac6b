//! gossipsub, shown one connection per peer: the one that is up.
//!
//! It is made anonymous, with the hash of an envelope for its name: gossipsub's own signatures are checked for each
//! copy of a message, ours once. Nothing that gossipsub would dial or close is done.
//!
//! What a connection brings is bounded here before gossipsub keeps any of it, and one that brings what nobody honest
//! passes on is no longer listened to.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::gossipsub::{
    self, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAcceptance, MessageAuthenticity,
    MessageId, PublishError, RawMessage, TopicHash, ValidationMode, Version, WhitelistSubscriptionFilter,
};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use super::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use super::handler::{Begin, Handler, Inner, PROTOCOL, Said, Tell};
use super::pace::Pace;
use super::post::{Drop, Post};
use super::station::Incoming;

/// What gossipsub writes around an envelope, in bytes: names of fields, lengths, and the topic.
const WRAPPING_BYTES_MAX: usize = 256;

/// What gossipsub has read of the next message when it looks how long one is, in bytes, and twice that: it takes all that
/// it has read for one message, and resets the stream if that is too long. Customs hold the bound of an envelope.
const READ_AHEAD_BYTES: usize = 16 << 10;

/// The envelopes that wait for one peer; each is at most as long as an envelope can be. A peer for which more wait
/// loses them.
const QUEUE_MAX: usize = 256;

/// How long an envelope may wait for a peer.
const QUEUED_FOR_MAX: Duration = Duration::from_secs(5);

/// How long the name of an envelope is remembered. Copies come within the few seconds that gossipsub keeps them.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// The bytes of envelopes that one connection may bring a second, and at once.
const LINK_BYTES_PER_SECOND: u32 = 16 << 20;

/// The envelopes that nobody honest passes on after which a connection is no longer listened to.
const STRIKES_MAX: u32 = 16;

/// The bytes of an envelope's name.
const ID_BYTES: usize = 20;

type Gossipsub = gossipsub::Behaviour<Customs, WhitelistSubscriptionFilter>;

/// The one connection of a peer that gossipsub knows.
#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    is_dialer: bool,
}

/// gossipsub with its connections.
pub(crate) struct Gossip {
    inner: Gossipsub,
    topic: IdentTopic,
    links: BTreeMap<PeerId, Link>,
    customs: Customs,
    post: Arc<Post>,
    events: VecDeque<ToSwarm<Incoming, Tell>>,
}

impl Gossip {
    pub(crate) fn new(post: Arc<Post>) -> Self {
        let topic = IdentTopic::new(post.topic.clone());
        let config = ConfigBuilder::default()
            .protocol_id(PROTOCOL, Version::V1_1)
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message: &Message| {
                MessageId::new(&blake3::hash(&message.data).as_bytes()[..ID_BYTES])
            })
            .validate_messages()
            .max_transmit_size(ENVELOPE_BYTES_MAX + WRAPPING_BYTES_MAX + READ_AHEAD_BYTES + post.topic.len())
            .max_publish_messages(8)
            .history_length(3)
            .history_gossip(2)
            .heartbeat_initial_delay(Duration::from_secs(1))
            .duplicate_cache_time(REMEMBERED_FOR)
            .connection_handler_queue_len(QUEUE_MAX)
            .publish_queue_duration(QUEUED_FOR_MAX)
            .forward_queue_duration(QUEUED_FOR_MAX)
            .build()
            .expect("the settings go together");
        let customs = Customs::new(topic.hash(), Arc::clone(&post));
        let mut inner = Gossipsub::new_with_subscription_filter_and_transform(
            MessageAuthenticity::Anonymous,
            config,
            WhitelistSubscriptionFilter(HashSet::from([topic.hash()])),
            customs.clone(),
        )
        .expect("anonymous messages go with anonymous validation");
        inner.subscribe(&topic).expect("the filter lets the topic through");
        Self { inner, topic, links: BTreeMap::new(), customs, post, events: VecDeque::new() }
    }

    pub(super) fn publish(&mut self, envelope: Vec<u8>) -> Result<(), PublishError> {
        self.inner.publish(self.topic.hash(), envelope).map(|_| ())
    }

    /// Passes an envelope on, or does not; and remembers who brings what nobody honest does.
    pub(super) fn judged(&mut self, incoming: &Incoming, acceptance: MessageAcceptance) {
        let Incoming { from, id, .. } = incoming;
        let is_rejected = matches!(acceptance, MessageAcceptance::Reject);
        self.inner.report_message_validation_result(id, from, acceptance);
        if is_rejected {
            self.customs.strike(*from);
        }
        self.shut_out(*from);
    }

    /// The connection is up on this side, and gossipsub may know of it. Another of the peer is over.
    pub(crate) fn begin(&mut self, peer: PeerId, connection: ConnectionId, is_dialer: bool) {
        self.end(peer);
        let link = Link { connection, is_dialer };
        let Some(inner) = self.handler(peer, &link) else { return };
        self.links.insert(peer, link);
        self.customs.enter(peer);
        self.announce(peer, connection);
        self.tell(peer, connection, Tell::Begin(Box::new(Begin(inner))));
    }

    /// gossipsub forgets a peer.
    fn end(&mut self, peer: PeerId) {
        let Some(Link { connection, .. }) = self.links.remove(&peer) else { return };
        self.customs.leave(peer);
        self.close(peer, connection, 0);
        self.tell(peer, connection, Tell::End);
    }

    /// Takes another handler for the same connection. Both share a queue, so nothing that waits is lost.
    fn replace(&mut self, peer: PeerId) {
        let Some(link) = self.links.remove(&peer) else { return };
        let connection = link.connection;
        if let Some(inner) = self.handler(peer, &link) {
            self.close(peer, connection, 1);
            self.tell(peer, connection, Tell::Begin(Box::new(Begin(inner))));
        }
        self.links.insert(peer, link);
    }

    /// Ends gossip with a peer that brought too much of what nobody honest does. The connection stays.
    fn shut_out(&mut self, peer: PeerId) {
        if self.customs.strikes(peer) >= STRIKES_MAX && self.links.contains_key(&peer) {
            tracing::warn!(%peer, "passes on forged or malformed messages, and is no longer listened to");
            self.end(peer);
        }
    }

    fn handler(&mut self, peer: PeerId, link: &Link) -> Option<Inner> {
        let (connection, nowhere) = (link.connection, Multiaddr::empty());
        let made = if link.is_dialer {
            let (role, port) = (Endpoint::Dialer, PortUse::New);
            self.inner.handle_established_outbound_connection(connection, peer, &nowhere, role, port)
        } else {
            self.inner.handle_established_inbound_connection(connection, peer, &nowhere, &nowhere)
        };
        made.ok()
    }

    /// Lets gossipsub say again what it subscribes to.
    fn announce(&mut self, peer_id: PeerId, connection_id: ConnectionId) {
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint: &nowhere(),
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    fn close(&mut self, peer_id: PeerId, connection_id: ConnectionId, remaining_established: usize) {
        self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id,
            endpoint: &nowhere(),
            cause: None,
            remaining_established,
        }));
    }

    fn tell(&mut self, peer_id: PeerId, connection: ConnectionId, event: Tell) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event,
        });
    }
}

/// gossipsub looks at addresses only to keep scores, which it does not here.
fn nowhere() -> ConnectedPoint {
    ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: Multiaddr::empty() }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            let is_known = |link: &Link| link.connection == closed.connection_id;
            if self.links.get(&closed.peer_id).is_some_and(is_known) {
                self.end(closed.peer_id);
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        said: THandlerOutEvent<Self>,
    ) {
        if self.links.get(&peer).is_none_or(|link| link.connection != connection) {
            return;
        }
        match said {
            Said::Inner(event) => {
                self.customs.inspect(Some(peer));
                self.inner.on_connection_handler_event(peer, connection, *event);
                self.customs.inspect(None);
                self.shut_out(peer);
            }
            Said::Reopened => self.announce(peer, connection),
            Said::Worn => self.replace(peer),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Incoming, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::GenerateEvent(gossipsub::Event::Message {
                    propagation_source,
                    message_id,
                    message,
                })) => {
                    let incoming = Incoming { from: propagation_source, id: message_id, bytes: message.data };
                    return Poll::Ready(ToSwarm::GenerateEvent(incoming));
                }
                Poll::Ready(ToSwarm::GenerateEvent(gossipsub::Event::SlowPeer {
                    failed_messages, ..
                })) => {
                    self.post.note_dropped(Drop::PeerSlow, failed_messages.non_priority as u64);
                }
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, event, .. }) => {
                    if let Some(connection) = self.links.get(&peer_id).map(|link| link.connection) {
                        self.tell(peer_id, connection, Tell::Inner(event));
                    }
                }
                // It dials nobody: whom to call is decided elsewhere.
                Poll::Ready(_) => {}
            }
        }
    }
}

/// What looks at each envelope, also at copies, before gossipsub keeps it. gossipsub does not say who brought one,
/// so its behaviour, which knows, says whose are being looked at.
#[derive(Clone)]
struct Customs(Arc<Mutex<Inspection>>);

struct Inspection {
    topic: TopicHash,
    post: Arc<Post>,
    current: Option<PeerId>,
    links: BTreeMap<PeerId, Watched>,
}

struct Watched {
    bytes: Pace,
    strikes: u32,
}

impl Customs {
    fn new(topic: TopicHash, post: Arc<Post>) -> Self {
        let inspection = Inspection { topic, post, current: None, links: BTreeMap::new() };
        Self(Arc::new(Mutex::new(inspection)))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Inspection) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, peer: PeerId) {
        let bytes = Pace::new(LINK_BYTES_PER_SECOND, Duration::from_secs(1), Instant::now());
        self.with(|inspection| inspection.links.insert(peer, Watched { bytes, strikes: 0 }));
    }

    fn leave(&self, peer: PeerId) {
        self.with(|inspection| inspection.links.remove(&peer));
    }

    fn inspect(&self, peer: Option<PeerId>) {
        self.with(|inspection| inspection.current = peer);
    }

    fn strike(&self, peer: PeerId) {
        self.with(|inspection| {
            if let Some(watched) = inspection.links.get_mut(&peer) {
                watched.strikes += 1;
            }
        });
    }

    fn strikes(&self, peer: PeerId) -> u32 {
        self.with(|inspection| inspection.links.get(&peer).map_or(0, |watched| watched.strikes))
    }
}

impl Inspection {
    fn look(&mut self, raw: &RawMessage) -> Result<(), Drop> {
        let Some(watched) = self.current.and_then(|peer| self.links.get_mut(&peer)) else { return Ok(()) };
        if watched.strikes >= STRIKES_MAX {
            return Err(Drop::Malformed);
        }
        if raw.topic != self.topic || Envelope::decode(&raw.data).is_none() {
            watched.strikes += 1;
            return Err(Drop::Malformed);
        }
        let is_within = watched.bytes.try_spend(Instant::now(), raw.data.len());
        if is_within { Ok(()) } else { Err(Drop::LinkPace) }
    }
}

impl DataTransform for Customs {
    fn inbound_transform(&self, raw: RawMessage) -> Result<Message, io::Error> {
        let refused = self.with(|inspection| {
            inspection.look(&raw).inspect_err(|reason| inspection.post.note_dropped(*reason, 1))
        });
        refused.map_err(|_| io::ErrorKind::InvalidData)?;
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}
