//! The one task that drives the swarm: it binds, dials what is due, and reacts to what happens.
//!
//! No message passes through it; see [`crate::link`]. It works towards the state in [`Shared`] and looks at
//! it again whenever the handle rings. It ends when the handle says so, or when the last handle is gone.

use std::error::Error;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, ListenError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, connection_limits, identify, mdns, ping};
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Address;

use crate::address;
use crate::admission::{Denied, MAY_NOT_ALLOW_US};
use crate::behaviour::{self, Behaviour, BehaviourEvent};
use crate::config::Config;
use crate::dialer::Dial;
use crate::gossip::Station;
use crate::handle::StartError;
use crate::identity::{from_libp2p, to_libp2p};
use crate::link::Phase;
use crate::links::{LinkDown, LinkEvent};
use crate::shared::Shared;

/// How long binding a listener may take.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an orderly end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the task sleeps when no dial is due; it is woken by whatever happens.
const IDLE_PAUSE: Duration = Duration::from_hours(1);

/// How many listen addresses of a peer are kept.
const LISTEN_ADDRESSES_MAX: usize = 16;

/// How many characters of what a peer calls itself are kept.
const AGENT_CHARS_MAX: usize = 64;

pub(crate) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    station: Option<Station>,
}

type Event = SwarmEvent<BehaviourEvent>;

impl SwarmTask {
    /// `session` tells this start of the node from its earlier ones.
    pub(crate) fn new(config: &Config, shared: Arc<Shared>, session: u64) -> Result<Self, StartError> {
        let station = |post| Station::new(post, config.key.keypair(), shared.local, session);
        let station = shared.post.clone().map(station);
        Ok(Self { swarm: behaviour::build(config, &shared)?, shared, station })
    }

    /// Returns when every address is bound, or with the first that cannot be.
    pub(crate) async fn bind(&mut self, listen: &[Address]) -> Result<(), StartError> {
        let mut unbound = Vec::new();
        for text in listen {
            let refused = |reason: String| StartError::Listen { address: text.clone(), reason };
            let parsed = address::parse(text).map_err(|error| refused(error.to_string()))?;
            check_free(&parsed.address).map_err(|error| refused(error.to_string()))?;
            let listener =
                self.swarm.listen_on(parsed.address).map_err(|error| refused(root_cause(&error)))?;
            unbound.push((listener, text.clone()));
        }
        let deadline = tokio::time::sleep(BIND_TIMEOUT);
        tokio::pin!(deadline);
        while !unbound.is_empty() {
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    note_bound(&event, &mut unbound)?;
                    self.on_event(event);
                }
                () = &mut deadline => {
                    let (_, address) = unbound.swap_remove(0);
                    return Err(StartError::Listen { address, reason: format!("not bound within {BIND_TIMEOUT:?}") });
                }
            }
        }
        Ok(())
    }

    /// Runs until the transport is stopped.
    pub(crate) async fn run(mut self) {
        while !self.shared.admission.is_stopping() {
            self.dial_due();
            self.gossip_due();
            let gossip_due = self.station.as_ref().and_then(Station::next_due);
            let next_due = [self.shared.dialer().next_due(), gossip_due].into_iter().flatten().min();
            let pause = next_due.map_or(IDLE_PAUSE, |due| due.saturating_duration_since(Instant::now()));
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                () = self.shared.changed.notified() => self.on_change(),
                () = published(&self.shared) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.stop().await;
    }

    /// Lets every connection send what is queued, within a bounded time.
    async fn stop(mut self) {
        self.shared.links.all().iter().for_each(|link| link.close("the node shuts down"));
        let deadline = tokio::time::sleep(STOP_TIMEOUT);
        tokio::pin!(deadline);
        while self.swarm.network_info().connection_counters().num_established() > 0 {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                () = &mut deadline => {
                    tracing::warn!("peers did not take our goodbye within {STOP_TIMEOUT:?}");
                    break;
                }
            }
        }
        for link in self.shared.links.all() {
            link.end("the node shut down");
        }
        tracing::info!(peer = %self.shared.local, "transport stopped");
    }

    /// The handle has changed what is wanted: connections that are no longer allowed end, and so do those
    /// that it has ended already, even if the peer is allowed again by now.
    fn on_change(&mut self) {
        if self.shared.admission.is_stopping() {
            return;
        }
        for link in self.shared.links.all() {
            let denied = self.shared.admission.check(link.info.peer).err();
            if denied.is_some() || link.phase() == Phase::Over {
                let reason = denied.unwrap_or(Denied::Offline).to_string();
                tracing::info!(peer = %link.info.peer, "hanging up: {reason}");
                self.links().hang_up(link.info.connection, &reason);
            }
        }
    }

    fn gossip_due(&mut self) {
        if let (Some(station), Some(gossip)) = (&mut self.station, self.swarm.behaviour_mut().gossip.as_mut())
        {
            station.work(Instant::now(), gossip);
        }
    }

    fn links(&mut self) -> &mut crate::links::Links {
        &mut self.swarm.behaviour_mut().links
    }

    fn dial_due(&mut self) {
        let dials = self.shared.dialer().due(Instant::now());
        for dial in dials {
            for options in dial_options(&dial) {
                let connection = options.connection_id();
                tracing::debug!(target = ?dial.target, "dialling");
                match self.swarm.dial(options) {
                    Ok(()) => self.shared.dialer().started(&dial.target, connection),
                    Err(error) => {
                        self.shared.dialer().failed_to_start(&dial.target, &describe(&error), Instant::now());
                    }
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: ConnectedPoint::Dialer { .. },
                ..
            } => self.on_answered(connection_id, &peer_id),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id.as_ref().and_then(from_libp2p), &error);
            }
            SwarmEvent::IncomingConnectionError { peer_id, send_back_addr, error, .. } => {
                self.on_incoming_failed(peer_id.as_ref().and_then(from_libp2p), &send_back_addr, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.shared.note_listening(address.to_string(), true);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                tracing::info!(%address, "no longer listening");
                self.shared.note_listening(address.to_string(), false);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "listener closed");
                for address in &addresses {
                    self.shared.note_listening(address.to_string(), false);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Links(LinkEvent::Up { peer, connection, is_dialer }) => {
                tracing::info!(%peer, "peer is up");
                if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
                    gossip.begin(to_libp2p(peer), connection, is_dialer);
                }
                self.shared.admission.note_admitted(peer);
                self.shared.dialer().peer_up(peer, Instant::now());
            }
            BehaviourEvent::Links(LinkEvent::Down(down)) => self.on_down(down),
            BehaviourEvent::Identify(identify::Event::Received { connection_id, info, .. }) => {
                let agent =
                    info.agent_version.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect();
                let addresses =
                    info.listen_addrs.iter().take(LISTEN_ADDRESSES_MAX).map(Multiaddr::to_string).collect();
                if let Some(link) = self.shared.links.get(connection_id) {
                    link.note_identity(agent, addresses);
                }
            }
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Gossip(incoming) => {
                let may_enter = |peer| self.shared.admission.check(peer).is_ok();
                if let (Some(station), Some(gossip)) =
                    (&mut self.station, self.swarm.behaviour_mut().gossip.as_mut())
                {
                    station.take(Instant::now(), &incoming, may_enter, gossip);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    if let Some(peer) = from_libp2p(&peer) {
                        self.shared.note_discovered(peer, address.to_string());
                    }
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Expired(lost)) => {
                for (peer, address) in lost {
                    if let Some(peer) = from_libp2p(&peer) {
                        self.shared.forget_discovered(peer, &address.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    fn on_down(&mut self, down: LinkDown) {
        let (peer, now) = (down.info.peer, Instant::now());
        if down.was_up {
            tracing::info!(%peer, reason = down.reason, "peer is down");
            self.shared.dialer().peer_down(peer, &down.reason, now);
            return;
        }
        let is_refusal = down.info.is_dialer && !down.by_us && !down.has_sibling;
        let reason = if is_refusal { MAY_NOT_ALLOW_US.to_owned() } else { down.reason };
        if is_refusal {
            // The first time it may be the twin of a connection that comes up in a moment; see
            // `note_admitted`.
            if self.shared.admission.is_refused_by(peer) {
                tracing::warn!(%peer, address = down.info.address, "{reason}");
            }
            self.shared.admission.note_refusal(peer, false, down.info.address, reason.clone());
        }
        self.shared.dialer().failed(down.info.connection, Some(peer), &reason, now);
    }

    fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                if let Some(link) = self.shared.links.get(event.connection) {
                    link.note_rtt(rtt);
                }
            }
            Err(ping::Failure::Unsupported) => {
                tracing::debug!(peer = %event.peer, "peer does not answer pings");
            }
            // libp2p only reports it; the connection would stay.
            Err(failure) => {
                self.links().hang_up(event.connection, &format!("no answer to a ping: {failure}"));
            }
        }
    }

    fn on_answered(&mut self, connection: ConnectionId, peer: &libp2p::PeerId) {
        let Some(peer) = from_libp2p(peer) else { return };
        if !self.shared.dialer().answered(connection, peer) {
            self.links().hang_up(connection, "no longer wanted");
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        let (reason, now) = (describe(error), Instant::now());
        tracing::debug!(?peer, reason, "dial failed");
        match error {
            DialError::WrongPeerId { .. } => {
                self.shared.dialer().answered_by_another(connection, &reason, now);
            }
            _ => self.shared.dialer().failed(connection, peer, &reason, now),
        }
    }

    fn on_incoming_failed(&mut self, peer: Option<PeerId>, address: &Multiaddr, error: &ListenError) {
        let ListenError::Denied { cause } = error else {
            tracing::debug!(%address, %error, "incoming connection failed");
            return;
        };
        let Some(exceeded) = cause.downcast_ref::<connection_limits::Exceeded>() else { return };
        tracing::warn!(?peer, %address, "refused: {exceeded}");
        if let Some(peer) = peer {
            self.shared.admission.note_refusal(peer, true, address.to_string(), exceeded.to_string());
        }
    }
}

/// Returns when there is something to send to all peers.
async fn published(shared: &Shared) {
    match &shared.post {
        Some(post) => post.published.notified().await,
        None => std::future::pending().await,
    }
}

/// libp2p shares a TCP port with any other listener of the same user, and the system then deals out the
/// connections between them. Binding it once without sharing tells whether somebody has it.
fn check_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::from(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::from(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Takes off the list what was bound.
fn note_bound(event: &Event, unbound: &mut Vec<(ListenerId, Address)>) -> Result<(), StartError> {
    match event {
        SwarmEvent::NewListenAddr { listener_id, .. } => unbound.retain(|(id, _)| id != listener_id),
        SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
            if let Some(index) = unbound.iter().position(|(id, _)| id == listener_id) {
                let (_, address) = unbound.swap_remove(index);
                let reason = reason.as_ref().map_or_else(ToString::to_string, |()| "closed".to_owned());
                return Err(StartError::Listen { address, reason });
            }
        }
        _ => {}
    }
    Ok(())
}

/// A fresh port for each dial: with the listener's port, two peers that dial each other at the same moment
/// meet in one TCP connection that both think they opened, and both fail.
fn dial_options(dial: &Dial) -> Vec<DialOpts> {
    if let Some(peer) = dial.peer {
        let options = DialOpts::peer_id(to_libp2p(peer)).addresses(dial.addresses.clone());
        vec![options.allocate_new_port().build()]
    } else {
        let options = |address: &Multiaddr| DialOpts::unknown_peer_id().address(address.clone());
        dial.addresses.iter().map(|address| options(address).allocate_new_port().build()).collect()
    }
}

fn describe(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            format!("another peer answered at {address}: {obtained}")
        }
        DialError::LocalPeerId { address } => format!("{address} is our own address"),
        DialError::NoAddresses => "there is no address that is not our own".to_owned(),
        DialError::DialPeerConditionFalse(_) => "another connection to the peer is being made".to_owned(),
        DialError::Denied { cause } => root_cause(cause),
        DialError::Transport(errors) => {
            let errors = errors.iter().map(|(address, error)| format!("{address}: {}", root_cause(error)));
            errors.collect::<Vec<_>>().join("; ")
        }
        DialError::Aborted => error.to_string(),
    }
}

/// The innermost error: libp2p wraps what the system said in layers that say nothing.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
