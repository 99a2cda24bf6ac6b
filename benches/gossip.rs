//! Whether operations should ride on gossipsub: CPU per delivery, and what is lost when more is sent than fits.
//!
//! Real sockets on loopback, all nodes in this process, messages of 256 bytes. One node sends to all others: over the
//! lanes that operations ride on; over gossipsub by itself, signed as it comes and unsigned; and over the envelopes that
//! carry published messages, one message in each and as many as fit. Then eight nodes publish 2,000 messages a second
//! together.
//!
//! A delivery is one message at one node. The lanes have no forwarding here, so their price is that of one edge; on the
//! tree that operations take each node has one such edge. docs/decisions/gossip.md draws the conclusion.

#[path = "measure/raw_gossip.rs"]
mod raw_gossip;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raw_gossip::{RawMesh, Signing};
use rustix::time::{ClockId, clock_gettime};
use tidelock_engine::ports::{SendError, SessionId, Target, Transport, TransportEvent};
use tidelock_transport::{Config, Libp2pTransport, SecretKey};

/// The bytes of a message.
const BYTES: usize = 256;

/// After this without a delivery nothing comes any more.
const QUIET: Duration = Duration::from_secs(5);

/// Far beyond what any part takes.
const DEADLINE: Duration = Duration::from_mins(2);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        println!("CPU per delivery of {BYTES} bytes, microseconds, all nodes together");
        println!("{:<58} {:>8} {:>8}", "", "3 nodes", "8 nodes");
        row("the lanes of operations", [lanes(3, 20_000).await, lanes(8, 5_000).await]);
        for (what, signing) in [
            ("gossipsub, signed by itself", Signing::Signed),
            ("gossipsub, unsigned, named by its hash", Signing::Unsigned),
        ] {
            row(what, [raw(3, 500, signing).await, raw(8, 150, signing).await]);
        }
        row("published messages, one in an envelope", [alone(3).await, alone(8).await]);
        row("published messages, as many as fit", [together(3).await, together(8).await]);
        overload().await;
    });
}

/// The CPU time that this process has used.
fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("CPU time is not negative")
}

/// What one of so many took, in microseconds.
fn micros_each(total: Duration, count: usize) -> f64 {
    total.as_secs_f64() * 1e6 / number(count)
}

/// A count to calculate with.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("counts are small here"))
}

fn row(what: &str, figures: [f64; 2]) {
    println!("{what:<58} {:>8.1} {:>8.1}", figures[0], figures[1]);
}

/// Our transport, in a full mesh, with what each node was given of the lanes.
struct Mesh {
    nodes: Vec<Libp2pTransport>,
}

impl Mesh {
    async fn start(count: usize) -> Self {
        let mut nodes: Vec<Libp2pTransport> = Vec::new();
        for number in 1..=count {
            let seed = u8::try_from(number).expect("few nodes");
            let mut config = Config::new(SecretKey::from_seed([seed; 32]));
            config.listen.push("/ip4/127.0.0.1/tcp/0".to_owned());
            config.gossip = Some("bench".to_owned());
            let mut node = Libp2pTransport::start(config, Arc::new(|| {})).await.expect("loopback");
            for other in &nodes {
                node.connect(Target { peer: Some(other.local_peer()), addresses: other.listen_addresses() });
            }
            nodes.push(node);
        }
        let mesh = Self { nodes };
        mesh.wait("all are connected", |node| node.peers().len() == count - 1).await;
        mesh
    }

    async fn wait(&self, what: &str, mut is_so: impl FnMut(&Libp2pTransport) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !self.nodes.iter().all(&mut is_so) {
            assert!(Instant::now() < until, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What was dropped, by reason, of all nodes together.
    fn dropped(&self) -> BTreeMap<&'static str, u64> {
        let mut dropped = BTreeMap::new();
        for (reason, count) in
            self.nodes.iter().flat_map(|node| node.gossip().expect("it is configured").figures().dropped)
        {
            *dropped.entry(reason).or_default() += count;
        }
        dropped.retain(|_, count| *count > 0);
        dropped
    }

    /// Publishes until all others have heard the first, and nothing of that is on its way.
    async fn introduce(&self) {
        let until = Instant::now() + DEADLINE;
        while self.nodes[1..].iter().any(|node| heard(node) == 0) {
            assert!(Instant::now() < until, "not in time: a first message");
            publish(&self.nodes[0]);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn heard(node: &Libp2pTransport) -> u64 {
    node.gossip().expect("it is configured").figures().messages_heard
}

fn publish(node: &Libp2pTransport) -> bool {
    node.gossip().expect("it is configured").publish(vec![7; BYTES]).is_ok()
}

/// One node sends over the lanes to all others, as fast as they take it.
async fn lanes(count: usize, messages: usize) -> f64 {
    let mesh = Mesh::start(count).await;
    let mut author = mesh.nodes[0].clone();
    let sessions: Vec<SessionId> = author
        .poll_events(1_000)
        .into_iter()
        .filter_map(|(_, event)| match event {
            TransportEvent::Up { session, .. } => Some(session),
            _ => None,
        })
        .collect();
    assert_eq!(sessions.len(), count - 1, "a lane to each");
    let start = process_cpu();
    let (mut sent, mut received) = (vec![0; sessions.len()], 0);
    let until = Instant::now() + DEADLINE;
    while received < messages * sessions.len() {
        assert!(Instant::now() < until, "not in time: {received} deliveries");
        for (session, sent) in sessions.iter().zip(&mut sent) {
            while *sent < messages {
                match author.send(*session, vec![7; BYTES]) {
                    Ok(()) => *sent += 1,
                    Err(SendError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        author.poll_events(1_000);
        for node in &mesh.nodes[1..] {
            let events = node.poll_events(usize::MAX);
            received +=
                events.iter().filter(|(_, event)| matches!(event, TransportEvent::Message { .. })).count();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    micros_each(process_cpu().saturating_sub(start), received)
}

/// One node publishes over gossipsub alone, with 64 messages on their way.
async fn raw(count: usize, messages: usize, signing: Signing) -> f64 {
    let mesh = RawMesh::start(count, signing).await;
    let start = process_cpu();
    mesh.publish_all(messages, 64).await;
    micros_each(process_cpu().saturating_sub(start), messages * (count - 1))
}

/// One node publishes with pauses, so that each message has an envelope.
async fn alone(count: usize) -> f64 {
    const MESSAGES: usize = 150;
    let mesh = Mesh::start(count).await;
    mesh.introduce().await;
    let before: Vec<u64> = mesh.nodes.iter().map(heard).collect();
    let start = process_cpu();
    for _ in 0..MESSAGES {
        assert!(publish(&mesh.nodes[0]));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    delivered(&mesh, &before, MESSAGES, start).await
}

/// One node publishes as fast as it may.
async fn together(count: usize) -> f64 {
    const MESSAGES: usize = 10_000;
    let mesh = Mesh::start(count).await;
    mesh.introduce().await;
    let before: Vec<u64> = mesh.nodes.iter().map(heard).collect();
    let start = process_cpu();
    let mut published = 0;
    while published < MESSAGES {
        if publish(&mesh.nodes[0]) {
            published += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    delivered(&mesh, &before, MESSAGES, start).await
}

/// Waits until every other node has heard all, or nothing comes any more; what each delivery took.
async fn delivered(mesh: &Mesh, before: &[u64], messages: usize, start: Duration) -> f64 {
    let all = messages * (mesh.nodes.len() - 1);
    let (mut arrived, mut last) = (0, Instant::now());
    let mut used = Duration::ZERO;
    while arrived < all && last.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let heard: u64 =
            mesh.nodes[1..].iter().zip(&before[1..]).map(|(node, before)| heard(node) - before).sum();
        let heard = usize::try_from(heard).expect("it is small");
        if heard > arrived {
            (arrived, last, used) = (heard, Instant::now(), process_cpu().saturating_sub(start));
        }
    }
    if arrived < all {
        println!("  {} of {all} deliveries were lost: {:?}", all - arrived, mesh.dropped());
    }
    micros_each(used, arrived)
}

/// Eight nodes publish 2,000 messages a second together, for three seconds: what the rest of them gets.
async fn overload() {
    const NODES: usize = 8;
    const ROUNDS: usize = 750;
    println!("\n{NODES} nodes publish {} messages a second together, for 3 s", NODES * 250);
    let mesh = RawMesh::start(NODES, Signing::Signed).await;
    let taken = mesh.publish_evenly(ROUNDS, Duration::from_millis(4)).await;
    let arrived = mesh.settled().await;
    let share = |arrived: usize, taken: usize| 100.0 * number(arrived) / number(taken * (NODES - 1)).max(1.0);
    println!(
        "{:<58} {:>7.1} % of what publish() took arrived; it refused {}",
        "gossipsub, signed by itself",
        share(arrived, taken),
        NODES * ROUNDS - taken
    );
    let mesh = Mesh::start(NODES).await;
    mesh.introduce().await;
    let before: u64 = mesh.nodes.iter().map(heard).sum();
    let (mut taken, mut ticks) = (0, tokio::time::interval(Duration::from_millis(4)));
    for _ in 0..ROUNDS {
        ticks.tick().await;
        taken += mesh.nodes.iter().filter(|node| publish(node)).count();
    }
    let mut arrived = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = mesh.nodes.iter().map(heard).sum::<u64>() - before;
        if now == arrived {
            break;
        }
        arrived = now;
    }
    let arrived = usize::try_from(arrived).expect("it is small");
    println!(
        "{:<58} {:>7.1} % of what publish() took arrived; it refused {}",
        "published messages",
        share(arrived, taken),
        NODES * ROUNDS - taken
    );
    println!(
        "The lanes of operations are not measured here: a full queue is told to the sender, which waits."
    );
}
