//! A peer that speaks libp2p but not our manners: it opens a lane's stream and writes whatever it likes.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::{AsyncWriteExt, StreamExt};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use tidelock_transport::Lane;

/// Opens the sync lane at `address`, writes `bytes`, and then holds the stream without ever reading.
pub fn dial_and_write(seed: u8, address: &str, bytes: Vec<u8>) {
    dial(seed, address, Opener::new(bytes));
}

/// Dials, opens streams, writes to each, and then holds them without ever reading.
pub fn dial(seed: u8, address: &str, opener: Opener) {
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise works")
        .with_quic()
        .with_behaviour(|_| opener)
        .expect("it cannot fail")
        .build();
    let address: Multiaddr = address.parse().expect("an address");
    swarm.dial(address).expect("it can be dialled");
    tokio::spawn(async move {
        loop {
            swarm.next().await;
        }
    });
}

/// What is opened on each connection that was dialled.
#[derive(Clone)]
pub struct Opener {
    pub lane: Lane,
    pub streams: usize,
    pub bytes: Vec<u8>,
}

impl Opener {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { lane: Lane::Sync, streams: 1, bytes }
    }
}

pub struct OpenerHandler(Opener);

impl NetworkBehaviour for Opener {
    type ConnectionHandler = OpenerHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(OpenerHandler(Opener { streams: 0, ..self.clone() }))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(OpenerHandler(self.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

async fn write_and_hold(mut stream: Stream, bytes: Vec<u8>) {
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    std::future::pending::<()>().await;
}

impl ConnectionHandler for OpenerHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, (), Infallible>> {
        let Some(left) = self.0.streams.checked_sub(1) else { return Poll::Pending };
        self.0.streams = left;
        let upgrade = ReadyUpgrade::new(StreamProtocol::new(self.0.lane.protocol()));
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: SubstreamProtocol::new(upgrade, ()),
        })
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, DeniedUpgrade, ReadyUpgrade<StreamProtocol>>,
    ) {
        if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) = event {
            tokio::spawn(write_and_hold(protocol, self.0.bytes.clone()));
        }
    }
}
