//! The swarm: which protocols run on a connection, in which order they are asked, over which transports.
//!
//! The order of the fields is the order in which the behaviours may deny a peer: the gate first, then the
//! limits, then the links. Those after them never deny. Nothing here decides anything by itself.

use std::io;
use std::sync::Arc;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, Swarm};
use libp2p::{SwarmBuilder, identify, mdns, noise, ping, quic, tcp, yamux};

use crate::admission::Gate;
use crate::arbiter::Arbiter;
use crate::config::Config;
use crate::gossip::Gossip;
use crate::handle::StartError;
use crate::handler::HandlerConfig;
use crate::lane::Lanes;
use crate::links::Links;
use crate::shared::Shared;

/// The protocol family that identify names.
const PROTOCOL_VERSION: &str = "/tidelock/1";

/// A connection without streams ends after this, in seconds. Our lanes keep theirs alive, and one that never
/// has a lane ends by the up timeout, so this only catches what neither does.
const IDLE_TIMEOUT_SECS: u64 = 300;

/// How many connections to one peer may stand: the kept one, its twin from a simultaneous dial, and those of
/// a peer that restarts while its old ones are still being closed.
const CONNECTIONS_PER_PEER_MAX: u32 = 4;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    gate: Gate,
    limits: connection_limits::Behaviour,
    pub(crate) links: Links,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) gossip: Toggle<Gossip>,
}

impl Behaviour {
    fn new(config: &Config, key: &Keypair, shared: &Shared) -> Result<Self, StartError> {
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(config.connections_pending_max))
            .with_max_established_incoming(Some(config.connections_incoming_max))
            .with_max_established(Some(config.connections_max))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
        let handler = HandlerConfig {
            lanes: Lanes::new(&config.lanes),
            up_timeout: config.up_timeout,
            stall_timeout: config.stall_timeout,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
        };
        let arbiter = Arbiter::new(shared.local, config.replace_after);
        let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
            .with_agent_version(concat!("tidelock/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let ping = ping::Config::new().with_interval(config.ping_interval).with_timeout(config.ping_timeout);
        let discover = || mdns::tokio::Behaviour::new(mdns::Config::default(), key.public().to_peer_id());
        Ok(Self {
            gate: Gate::new(Arc::clone(&shared.admission)),
            limits: connection_limits::Behaviour::new(limits),
            links: Links::new(handler, arbiter, Arc::clone(&shared.links), Arc::clone(&shared.inbox)),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            mdns: config.mdns.then(discover).transpose().map_err(StartError::Discovery)?.into(),
            gossip: shared.post.clone().map(Gossip::new).into(),
        })
    }
}

fn configure(config: swarm::Config) -> swarm::Config {
    config.with_idle_connection_timeout(std::time::Duration::from_secs(IDLE_TIMEOUT_SECS)).with_smart_dial()
}

/// QUIC notices a silent peer by itself. It is given as long as a ping, with the interval before it.
fn configure_quic(mut quic: quic::Config, config: &Config) -> quic::Config {
    let idle = config.ping_interval + config.ping_timeout;
    quic.max_idle_timeout = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
    quic.keep_alive_interval = idle / 3;
    quic
}

/// Whether the system's resolver can be used. A machine that was never online may have none.
fn check_resolver() -> io::Result<()> {
    libp2p::dns::tokio::Transport::system(tcp::tokio::Transport::default()).map(drop)
}

/// Builds the swarm. Must be called within a tokio runtime.
pub(crate) fn build(config: &Config, shared: &Shared) -> Result<Swarm<Behaviour>, StartError> {
    let key = config.key.keypair();
    let behaviour = Behaviour::new(config, &key, shared)?;
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| StartError::Security(error.to_string()))?
        .with_quic_config(|quic| configure_quic(quic, config));
    let swarm = match check_resolver() {
        Ok(()) => builder
            .with_dns()
            .map_err(StartError::Resolver)?
            .with_behaviour(|_| behaviour)
            .unwrap_or_else(|never| match never {})
            .with_swarm_config(configure)
            .with_connection_timeout(config.dial_timeout)
            .build(),
        Err(error) => {
            tracing::warn!(%error, "no DNS resolver: addresses with names cannot be dialled");
            builder
                .with_behaviour(|_| behaviour)
                .unwrap_or_else(|never| match never {})
                .with_swarm_config(configure)
                .with_connection_timeout(config.dial_timeout)
                .build()
        }
    };
    Ok(swarm)
}
