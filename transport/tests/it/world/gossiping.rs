//! What gossip tests play with: nodes of one topic, and a member that speaks gossipsub but not our manners.

use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode, Version};
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use tidelock_transport::{Config, GossipHandle};

use super::hostile::Opener;
use super::{DEADLINE, Node, Via, config, until};

pub const TOPIC: &str = "tests";

/// A config with gossip.
pub fn gossiping(n: u8, via: Via) -> Config {
    Config { gossip: Some(TOPIC.to_owned()), ..config(n, via) }
}

pub fn gossip(node: &Node) -> GossipHandle {
    node.transport.gossip().expect("it is configured")
}

pub fn dropped(node: &Node, reason: &str) -> u64 {
    let figures = gossip(node).figures();
    figures.dropped.into_iter().find(|(name, _)| *name == reason).expect("a reason").1
}

/// The next messages, as many as are asked for at least.
pub async fn hear(node: &Node, count: usize) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let heard = tokio::time::timeout(DEADLINE, gossip(node).heard()).await;
        let heard = heard.unwrap_or_else(|_| panic!("{} of {count} messages in time", messages.len()));
        messages.extend(heard.expect("the transport runs").into_iter().map(|heard| heard.message));
    }
    messages
}

/// Publishes until every other node has heard something, so that whatever follows reaches all of them; takes what
/// they heard.
pub async fn introduce(from: &Node, to: &[&Node]) {
    for node in to {
        let before = gossip(node).figures().messages_heard;
        until("a message arrives", || {
            gossip(from).publish(b"hello".to_vec()).expect("there is room");
            gossip(node).figures().messages_heard > before
        })
        .await;
    }
    // A last word, behind which nothing of the introduction comes.
    gossip(from).publish(b"last".to_vec()).expect("there is room");
    for node in to {
        while hear(node, 1).await.last().is_none_or(|message| message != b"last") {}
    }
}

/// A member that publishes any bytes by gossipsub, signed by nobody.
#[derive(NetworkBehaviour)]
pub struct Rude {
    gossip: gossipsub::Behaviour,
    opener: Opener,
}

pub struct RudeMember {
    swarm: Swarm<Rude>,
    topic: IdentTopic,
}

impl RudeMember {
    /// Dials, and opens the sync lane so that it is up.
    pub async fn dial(seed: u8, address: &str, topic: &str) -> Self {
        let keypair = Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
        let config = gossipsub::ConfigBuilder::default()
            .protocol_id("/tidelock/gossip/1", Version::V1_1)
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message: &gossipsub::Message| {
                gossipsub::MessageId::new(blake3::hash(&message.data).as_bytes())
            })
            .max_transmit_size(1 << 20)
            .connection_handler_queue_len(100_000)
            .publish_queue_duration(Duration::from_mins(10))
            .build()
            .expect("the settings go together");
        let gossip =
            gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).expect("it can be anonymous");
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("noise works")
            .with_quic()
            .with_behaviour(|_| Rude { gossip, opener: Opener::new(Vec::new()) })
            .expect("it cannot fail")
            .build();
        let topic = IdentTopic::new(topic);
        swarm.behaviour_mut().gossip.subscribe(&topic).expect("any topic");
        swarm.dial(address.parse::<Multiaddr>().expect("an address")).expect("it can be dialled");
        let mut member = Self { swarm, topic };
        member
            .turn_until("the other subscribes", |event| {
                matches!(event, SwarmEvent::Behaviour(RudeEvent::Gossip(gossipsub::Event::Subscribed { .. })))
            })
            .await;
        member
    }

    async fn turn_until(&mut self, what: &str, mut is_it: impl FnMut(&SwarmEvent<RudeEvent>) -> bool) {
        let turning = async { while !is_it(&self.swarm.next().await.expect("it never ends")) {} };
        tokio::time::timeout(DEADLINE, turning).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// Publishes; what does not fit into its own queue is lost.
    pub fn publish(&mut self, bytes: Vec<u8>) {
        let _ = self.swarm.behaviour_mut().gossip.publish(self.topic.hash(), bytes);
    }

    /// Lets the network turn until something is so.
    pub async fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let turning = async {
            while !is_so() {
                let _ = tokio::time::timeout(Duration::from_millis(2), self.swarm.next()).await;
            }
        };
        tokio::time::timeout(DEADLINE, turning).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

/// An envelope of one message, as `transport/src/gossip/envelope.rs` describes it, signed by whoever has the seed.
pub fn sealed(seed: u8, number: u64, message: &[u8]) -> Vec<u8> {
    let keypair = Keypair::ed25519_from_bytes([seed; 32]).expect("a seed");
    let public = keypair.public().try_into_ed25519().expect("it is ed25519");
    let mut bytes = [&[1][..], &public.to_bytes(), &7_u64.to_be_bytes(), &number.to_be_bytes()].concat();
    bytes.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
    bytes.extend_from_slice(message);
    let length = (TOPIC.len() as u64).to_be_bytes();
    let signed = [b"tidelock gossip envelope 1\0", &length[..], TOPIC.as_bytes(), &bytes].concat();
    bytes.extend(keypair.sign(&signed).expect("ed25519 signs anything"));
    bytes
}
