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

/// Opens the sync lane at `address`, writes `bytes`, and then holds the stream without ever reading.
pub fn dial_and_write(seed: u8, address: &str, bytes: Vec<u8>) {
    let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise works")
        .with_quic()
        .with_behaviour(|_| Opener(bytes))
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

pub struct Opener(Vec<u8>);

impl Opener {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[derive(Default)]
pub struct OpenerHandler {
    bytes: Vec<u8>,
    is_open: bool,
}

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
        Ok(OpenerHandler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(OpenerHandler { bytes: self.0.clone(), is_open: false })
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
        if std::mem::replace(&mut self.is_open, true) {
            return Poll::Pending;
        }
        let upgrade = ReadyUpgrade::new(StreamProtocol::new("/tidelock/sync/1"));
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: SubstreamProtocol::new(upgrade, ()),
        })
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, DeniedUpgrade, ReadyUpgrade<StreamProtocol>>,
    ) {
        if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) = event {
            tokio::spawn(write_and_hold(protocol, std::mem::take(&mut self.bytes)));
        }
    }
}
