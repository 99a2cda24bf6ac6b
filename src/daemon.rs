//! The peer daemon: a node with its Redis port, until a signal ends it.

use std::io::{self, Write};

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::NodeConfig;
use crate::node::{Node, OpenError};
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
}

/// Runs a node until SIGINT or SIGTERM, with its Redis port unless `is_redis` is off.
///
/// When it serves it prints one line on stdout, and nothing else ever:
/// `ready peer=<PeerId> listen=<addr,addr> redis=<addr>`.
///
/// # Errors
/// [`DaemonError`]. After a signal it ends cleanly.
pub async fn run(config: NodeConfig, is_redis: bool) -> Result<(), DaemonError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let redis_config = config.redis.clone();
    let node = Node::open(config).await?;
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
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("shutting down");
    if let Some(redis) = redis {
        redis.shutdown().await;
    }
    node.shutdown().await;
    Ok(())
}

fn announce(node: &Node, redis: Option<&RedisServer>) -> io::Result<()> {
    let listen = node.listen_addresses();
    let listen = if listen.is_empty() { "off".to_owned() } else { listen.join(",") };
    let redis = redis.map_or_else(|| "off".to_owned(), |redis| redis.address().to_string());
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready peer={} listen={listen} redis={redis}", node.peer())?;
    stdout.flush()
}
