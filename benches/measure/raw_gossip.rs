//! gossipsub by itself, as libp2p has it: nodes in a full mesh that count what they hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, Message, MessageAuthenticity, MessageId, ValidationMode,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};

/// Far beyond what anything takes here.
const DEADLINE: Duration = Duration::from_mins(2);

/// Who vouches for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// gossipsub signs and checks, which is its default.
    Signed,
    /// Nobody; the hash of a message is its name.
    Unsigned,
}

/// A message to publish, and where to say whether it was taken.
type Order = (Vec<u8>, oneshot::Sender<bool>);

struct Node {
    orders: mpsc::UnboundedSender<Order>,
    heard: Arc<AtomicUsize>,
}

/// Nodes that are all connected, each of which knows that all others listen.
pub(crate) struct RawMesh {
    nodes: Vec<Node>,
}

fn swarm(signing: Signing) -> Swarm<Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("noise works")
        .with_behaviour(|key| {
            let mut config = ConfigBuilder::default();
            let author = if signing == Signing::Signed {
                MessageAuthenticity::Signed(key.clone())
            } else {
                config.validation_mode(ValidationMode::Anonymous).message_id_fn(|message: &Message| {
                    MessageId::new(blake3::hash(&message.data).as_bytes())
                });
                MessageAuthenticity::Anonymous
            };
            Behaviour::new(author, config.build().expect("defaults")).expect("they go together")
        })
        .expect("it cannot fail")
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build()
}

impl RawMesh {
    pub(crate) async fn start(count: usize, signing: Signing) -> Self {
        let topic = IdentTopic::new("bench");
        let (mut nodes, mut addresses): (Vec<Node>, Vec<Multiaddr>) = (Vec::new(), Vec::new());
        let subscribed = Arc::new(AtomicUsize::new(0));
        for _ in 0..count {
            let mut swarm = swarm(signing);
            swarm.behaviour_mut().subscribe(&topic).expect("any topic");
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("loopback");
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            addresses.iter().for_each(|other| swarm.dial(other.clone()).expect("it can be dialled"));
            addresses.push(address);
            let (orders, receiver) = mpsc::unbounded_channel();
            let heard = Arc::new(AtomicUsize::new(0));
            let counted = (Arc::clone(&heard), Arc::clone(&subscribed));
            tokio::spawn(turn(swarm, topic.clone(), receiver, counted));
            nodes.push(Node { orders, heard });
        }
        let until = Instant::now() + DEADLINE;
        while subscribed.load(Ordering::Relaxed) < count * (count - 1) {
            assert!(Instant::now() < until, "not in time: all subscribe");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The first heartbeat makes the mesh.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Self { nodes }
    }

    async fn publish(&self, node: usize, number: usize) -> bool {
        let mut message = vec![7; super::BYTES];
        message[..8].copy_from_slice(&number.to_be_bytes());
        message[8] = u8::try_from(node).expect("few nodes");
        let (sender, taken) = oneshot::channel();
        self.nodes[node].orders.send((message, sender)).expect("it runs");
        taken.await.expect("it runs")
    }

    fn heard(&self) -> usize {
        self.nodes.iter().map(|node| node.heard.load(Ordering::Relaxed)).sum()
    }

    /// The first node publishes; so many at most are on their way. Returns when all others have heard all.
    pub(crate) async fn publish_all(&self, messages: usize, outstanding: usize) {
        let until = Instant::now() + DEADLINE;
        let slowest = || self.nodes[1..].iter().map(|node| node.heard.load(Ordering::Relaxed)).min();
        for number in 0..messages {
            while slowest().unwrap_or_default() + outstanding <= number {
                assert!(Instant::now() < until, "not in time: {number} of {messages}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(self.publish(0, number).await, "there is room");
        }
        while slowest().unwrap_or_default() < messages {
            assert!(Instant::now() < until, "not in time: the last");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// All nodes publish one message each in every round, whatever becomes of it; answers how many were taken.
    pub(crate) async fn publish_evenly(&self, rounds: usize, every: Duration) -> usize {
        let (mut taken, mut ticks) = (0, tokio::time::interval(every));
        let mut answers = Vec::new();
        for number in 0..rounds {
            ticks.tick().await;
            for (place, node) in self.nodes.iter().enumerate() {
                let mut message = vec![7; super::BYTES];
                message[..8].copy_from_slice(&number.to_be_bytes());
                message[8] = u8::try_from(place).expect("few nodes");
                let (sender, answer) = oneshot::channel();
                node.orders.send((message, sender)).expect("it runs");
                answers.push(answer);
            }
        }
        for answer in answers {
            taken += usize::from(answer.await.expect("it runs"));
        }
        taken
    }

    /// What all have heard together, once nothing comes any more.
    pub(crate) async fn settled(&self) -> usize {
        let mut heard = self.heard();
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = self.heard();
            if now == heard {
                return now;
            }
            heard = now;
        }
    }
}

async fn turn(
    mut swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    mut orders: mpsc::UnboundedReceiver<Order>,
    (heard, subscribed): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(Event::Message { .. }) => drop(heard.fetch_add(1, Ordering::Relaxed)),
                SwarmEvent::Behaviour(Event::Subscribed { .. }) => drop(subscribed.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            },
            order = orders.recv() => {
                let Some((message, taken)) = order else { return };
                let is_taken = swarm.behaviour_mut().publish(topic.hash(), message).is_ok();
                // Whoever asked may have gone.
                let _ = taken.send(is_taken);
            }
        }
    }
}
