//! The peer daemon: a node with its Redis port, until a signal ends it.

use std::io::{self, Write};

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::NodeConfig;
use crate::node::{LoopPanicked, Node, OpenError};
use crate::redis::{RedisServer, RedisStartError};

/// Why the daemon did not serve, or ended badly.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The node did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The Redis port was not opened.
    #[error(transparent)]
    Redis(#[from] RedisStartError),
    /// Signals cannot be received, or the ready line cannot be printed.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
    /// The node stopped writing by a defect of ours; whoever supervises the daemon starts it again.
    #[error(transparent)]
    Ended(#[from] LoopPanicked),
}

/// Runs a node until SIGINT or SIGTERM, also while it is still opening, with its Redis port unless `is_redis` is off.
///
/// When it serves it prints one line on stdout, and nothing else ever:
/// `ready peer=<PeerId> listen=<addr,addr> redis=<addr>`.
///
/// # Errors
/// [`DaemonError`]. After a signal it ends cleanly.
pub async fn run(config: NodeConfig, is_redis: bool) -> Result<(), DaemonError> {
    let mut signals = Signals::new()?;
    let redis_config = config.redis.clone();
    // A store that replays a long log is left as a crash would leave it, and opens as before.
    let node = tokio::select! {
        node = Node::open(config) => node?,
        () = signals.next() => {
            tracing::info!("ended before the node was open");
            return Ok(());
        }
    };
    let redis = if is_redis {
        match RedisServer::start(redis_config, node.clone()).await {
            Ok(redis) => Some(redis),
            Err(error) => {
                node.shutdown().await;
                return Err(error.into());
            }
        }
    } else {
        None
    };
    announce(&node, redis.as_ref())?;
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = node.ended() => ended,
    };
    tracing::info!("shutting down");
    if let Some(redis) = redis {
        redis.shutdown().await;
    }
    node.shutdown().await;
    Ok(ended?)
}

/// The signals that end the daemon.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn announce(node: &Node, redis: Option<&RedisServer>) -> io::Result<()> {
    let listen = node.listen_addresses();
    let listen = if listen.is_empty() { "off".to_owned() } else { listen.join(",") };
    let redis = redis.map_or_else(|| "off".to_owned(), |redis| redis.address().to_string());
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready peer={} listen={listen} redis={redis}", node.peer())?;
    stdout.flush()
}
