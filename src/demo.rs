//! The product in a minute: peers that are written on both sides of a cut, heal, and agree.
//!
//! It runs real nodes with real libp2p on loopback and real files in a temporary folder, shows what each peer
//! holds before and after, and checks every claim it makes. It succeeds only if everything held.

mod story;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use thiserror::Error;

use self::story::{EXPECTED_AFTER, SUBJECTS};
use crate::cli::table::Table;
use crate::config::NodeConfig;
use crate::keyspace::{Keyspace, WriteError};
use crate::node::{Node, OpenError};

/// The fewest peers with which there are two sides to cut.
pub const PEERS_MIN: usize = 2;

/// The most peers that one process is asked to run.
pub const PEERS_MAX: usize = 16;

/// How long peers may take to agree before the demo fails.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// The keyspace that the demo writes.
const KEYSPACE: &str = "demo";

/// Why the demo did not succeed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The number of peers is out of range.
    #[error("--peers must be from {PEERS_MIN} to {PEERS_MAX}")]
    Peers,
    /// No temporary folder can be made.
    #[error("cannot make a temporary folder: {0}")]
    Folder(std::io::Error),
    /// A peer did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A write was not acknowledged.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A value could not be read.
    #[error(transparent)]
    Read(#[from] tidelock_engine::read::QueryError),
    /// The peers did not agree in time.
    #[error("the peers did not agree within {AGREE_WITHIN:?} {0}")]
    Disagreement(&'static str),
    /// A claim did not hold.
    #[error("{what}: expected {expected}, found {found}")]
    Claim {
        /// Of what.
        what: String,
        /// What should have been.
        expected: String,
        /// What was.
        found: String,
    },
}

/// Runs the demo and prints it as it goes, with colour for a terminal.
///
/// # Errors
/// [`DemoError`]: the demo did not show what it claims.
pub async fn run(
    peers: usize,
    is_coloured: bool,
    print: &mut (dyn FnMut(&str) + Send),
) -> Result<(), DemoError> {
    if !(PEERS_MIN..=PEERS_MAX).contains(&peers) {
        return Err(DemoError::Peers);
    }
    let folder = tempfile::tempdir().map_err(DemoError::Folder)?;
    let mut demo = Demo { folder, peers: Vec::new(), is_coloured };
    print(&format!("{peers} peers in this process: libp2p on loopback, redb in a temporary folder.\n"));
    for number in 0..peers {
        demo.start(number).await?;
    }
    let last = peers - 1;

    story::write_on_all(&demo).await?;
    let took = demo.agree("after each was written").await?;
    print(&format!("\n1. Every peer was written, and they agree after {}.\n{}", millis(took), demo.table()?));

    demo.peers[last].node.set_online(false);
    story::write_on_both_sides(&demo).await?;
    demo.side_agrees(last).await?;
    let cut_off = &demo.peers[last].name;
    print(&format!(
        "\n2. {cut_off} is cut off, and both sides write: the counter, the set (one removes what the other adds \
         again), the register, the map.\n{}",
        demo.table()?
    ));

    demo.peers[last].node.set_online(true);
    let took = demo.agree("after the cut was healed").await?;
    print(&format!(
        "\n3. The cut is healed. All fingerprints are equal after {}.\n{}",
        millis(took),
        demo.table()?
    ));
    demo.check_values()?;
    print(&format!("   {}\n", story::conflicts(&demo)?));

    demo.restart(0).await?;
    let took = demo.agree("after a restart").await?;
    demo.check_values()?;
    let name = &demo.peers[0].name;
    print(&format!("\n4. {name} was restarted from its disk and holds the same, {} later.\n", millis(took)));
    demo.stop().await;
    print("\nEverything held: nothing was lost, nothing came back, all peers are equal.\n");
    Ok(())
}

struct Demo {
    folder: tempfile::TempDir,
    peers: Vec<Peer>,
    is_coloured: bool,
}

struct Peer {
    name: String,
    node: Node,
    keyspace: Keyspace,
}

impl Demo {
    async fn start(&mut self, number: usize) -> Result<(), DemoError> {
        let name = format!("peer-{}", char::from(b'a' + u8::try_from(number).unwrap_or(0)));
        let peer = self.open(name).await?;
        self.peers.push(peer);
        Ok(())
    }

    /// Every peer is told of the first one only, and finds the others through it.
    async fn open(&self, name: String) -> Result<Peer, DemoError> {
        let first = self.peers.first().filter(|first| first.name != name);
        let config = NodeConfig {
            name: Some(name.clone()),
            cluster: "demo".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            peers: first.map(|first| first.node.listen_addresses()).unwrap_or_default(),
            ..NodeConfig::at(self.folder.path().join(&name))
        };
        let node = Node::open(config).await?;
        let keyspace = node.keyspace(KEYSPACE).expect("it is a keyspace name");
        Ok(Peer { name, node, keyspace })
    }

    async fn restart(&mut self, index: usize) -> Result<(), DemoError> {
        let name = self.peers[index].name.clone();
        self.peers[index].node.shutdown().await;
        self.peers[index] = self.open(name).await?;
        // Its port is a new one: whoever is still there tells it of the others, and the other way round.
        let addresses = self.peers[index].node.listen_addresses();
        let others = self.peers.iter().enumerate().filter(|(other, _)| *other != index);
        others.for_each(|(_, peer)| addresses.iter().for_each(|address| peer.node.connect(address)));
        Ok(())
    }

    async fn stop(&self) {
        for peer in &self.peers {
            peer.node.shutdown().await;
        }
    }

    /// Waits until all fingerprints are equal; answers how long it took.
    async fn agree(&self, when: &'static str) -> Result<Duration, DemoError> {
        Self::agreed(&self.peers, when).await
    }

    /// Waits until the peers before the one that is cut off agree among themselves.
    async fn side_agrees(&self, cut_off: usize) -> Result<(), DemoError> {
        Self::agreed(&self.peers[..cut_off], "while one was cut off").await.map(drop)
    }

    async fn agreed(peers: &[Peer], when: &'static str) -> Result<Duration, DemoError> {
        let started = Instant::now();
        loop {
            let mut fingerprints: Vec<String> =
                peers.iter().map(|peer| peer.keyspace.fingerprint()).collect();
            fingerprints.dedup();
            if fingerprints.len() == 1 {
                return Ok(started.elapsed());
            }
            if started.elapsed() > AGREE_WITHIN {
                return Err(DemoError::Disagreement(when));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What each peer holds: a row per subject, a column per peer.
    fn table(&self) -> Result<String, DemoError> {
        let mut header = vec![String::new()];
        header.extend(self.peers.iter().map(|peer| peer.name.clone()));
        let mut table = Table::new(header).with_header_style(self.is_coloured.then_some("1"));
        for subject in SUBJECTS {
            let mut row = vec![subject.to_string()];
            for peer in &self.peers {
                row.push(story::value(&peer.keyspace, subject)?);
            }
            table.row(row);
        }
        let mut row = vec!["fingerprint".to_owned()];
        row.extend(self.peers.iter().map(|peer| short(&peer.keyspace.fingerprint())));
        table.row(row);
        let mut indented = String::new();
        for line in table.to_string().lines() {
            let _ = writeln!(indented, "   {line}");
        }
        Ok(indented)
    }

    fn check_values(&self) -> Result<(), DemoError> {
        for peer in &self.peers {
            for (subject, expected) in EXPECTED_AFTER {
                let (found, expected) = (story::value(&peer.keyspace, subject)?, expected(self.peers.len()));
                if found != expected {
                    let what = format!("{subject} at {}", peer.name);
                    return Err(DemoError::Claim { what, expected, found });
                }
            }
        }
        Ok(())
    }
}

/// The end of a fingerprint, enough to compare by eye.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect()
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_refuses_one_peer_and_too_many() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for peers in [0, PEERS_MIN - 1, PEERS_MAX + 1] {
            let result = runtime.block_on(run(peers, false, &mut |_| {}));
            assert!(matches!(result, Err(DemoError::Peers)), "{peers}");
        }
    }
}
