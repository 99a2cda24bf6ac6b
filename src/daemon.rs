//! The peer daemon: a node with its Redis port and its HTTP port, until a signal ends it.

use std::io::{self, Write};
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::NodeConfig;
use crate::http::{HttpServer, HttpStartError, Prometheus};
use crate::node::{LoopPanicked, Node, OpenError};
use crate::redis::{RedisServer, RedisStartError};

/// The files that a node has open beside those of its clients, with room: its own, its peers', its listeners.
const FILES_BESIDE_CLIENTS: usize = 512;

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
    /// The HTTP port was not opened.
    #[error(transparent)]
    Http(#[from] HttpStartError),
    /// Signals cannot be received, or the ready line cannot be printed.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
    /// The node stopped writing by a defect of ours; whoever supervises the daemon starts it again.
    #[error(transparent)]
    Ended(#[from] LoopPanicked),
}

/// Which ports a daemon opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The Redis port.
    pub is_redis: bool,
    /// The HTTP port.
    pub is_http: bool,
}

/// Runs a node until SIGINT or SIGTERM, also while it is still opening, with those of its ports that are wanted.
///
/// When it serves it prints one line on stdout, and nothing else ever:
/// `ready peer=<PeerId> listen=<addr,addr> redis=<addr> http=<addr>`.
///
/// # Errors
/// [`DaemonError`]. After a signal it ends cleanly.
pub async fn run(config: NodeConfig, ports: Ports) -> Result<(), DaemonError> {
    let mut signals = Signals::new()?;
    let clients_max = config.redis.clients_max.saturating_add(config.http.connections_max);
    raise_open_files(clients_max.saturating_add(FILES_BESIDE_CLIENTS));
    let redis_config = config.redis.clone();
    // It opens before the node, to say that the node is opening.
    let http = if ports.is_http {
        Some(HttpServer::start(config.http.clone(), Some(Prometheus::install())).await?)
    } else {
        None
    };
    // A store that replays a long log is left as a crash would leave it, and opens as before.
    let node = tokio::select! {
        node = Node::open(config) => node?,
        () = signals.next() => {
            tracing::info!("ended before the node was open");
            return Ok(());
        }
    };
    let redis = if ports.is_redis {
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
    if let Some(http) = &http {
        http.serve(node.clone(), redis.as_ref().map(RedisServer::observer));
    }
    announce(&node, redis.as_ref(), http.as_ref())?;
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = node.ended() => ended,
    };
    tracing::info!("shutting down");
    if let Some(http) = http {
        http.shutdown().await;
    }
    if let Some(redis) = redis {
        redis.shutdown().await;
    }
    node.shutdown().await;
    Ok(ended?)
}

/// Lets the process have as many files open as it is allowed to: each client is one, and shells begin with 1,024. Who
/// wants more clients than that finds out here, and not when they come.
fn raise_open_files(wanted: usize) {
    let allowed = getrlimit(Resource::Nofile);
    // Where that is refused it stays as it is, which is told below.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, ..allowed });
    if let Some(files) = getrlimit(Resource::Nofile).current
        && files < wanted as u64
    {
        tracing::warn!(files, wanted, "fewer files may be open than there may be clients; raise `ulimit -n`");
    }
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

fn announce(node: &Node, redis: Option<&RedisServer>, http: Option<&HttpServer>) -> io::Result<()> {
    let listen = node.listen_addresses();
    let listen = if listen.is_empty() { "off".to_owned() } else { listen.join(",") };
    let or_off = |address: Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |at| at.to_string());
    let redis = or_off(redis.map(RedisServer::address));
    let http = or_off(http.map(HttpServer::address));
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready peer={} listen={listen} redis={redis} http={http}", node.peer())?;
    stdout.flush()
}
