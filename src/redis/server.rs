//! Listens for clients and serves each in a task of its own.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::backend::Backend;
use super::client;
use super::clients::{Client, Ends, Entered};
use super::config::{RedisConfig, RedisConfigError};
use super::metrics::RedisObserver;
use super::session::Session;
use super::state::Shared;

/// How long clients may take to get the replies to what they have sent, when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long no client is accepted after accepting failed, as it does when the process has no more files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The connections that may wait to be accepted, as far as the system lets as many: those that come at once when a node is
/// back. With too few, the system drops the others, and each tries again a second later.
const WAITING_MAX: u32 = 4_096;

/// Why the Redis port was not opened. Nothing runs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedisStartError {
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] RedisConfigError),
    /// The address cannot be listened on: mostly another process does.
    #[error("cannot listen for Redis clients on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// The Redis port of a node. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    observer: RedisObserver,
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl RedisServer {
    /// Opens the port and serves clients from `backend`.
    ///
    /// # Errors
    /// [`RedisStartError`].
    #[expect(clippy::unused_async, reason = "it needs the runtime that its caller has then")]
    pub async fn start<B: Backend>(config: RedisConfig, backend: B) -> Result<Self, RedisStartError> {
        config.validate()?;
        let address = config.address;
        let cannot_listen = |source| RedisStartError::Listen { address, source };
        let listener = listen(address).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        if !address.ip().is_loopback() && config.password.is_none() {
            tracing::warn!(%address, "the Redis port has no password and is open beyond this machine");
        }
        let (stop, stopped) = watch::channel(());
        let shared = Arc::new(Shared::new(config, address.port()));
        let observer = RedisObserver(Arc::clone(&shared));
        let accepting = tokio::spawn(accept(listener, Acceptor { backend, shared, stopped }));
        Ok(Self { address, observer, stop, accepting })
    }

    /// The address that is listened on, with the port that was taken if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tells the figures of this port.
    pub fn observer(&self) -> RedisObserver {
        self.observer.clone()
    }

    /// Takes no more clients and commands, lets those that are being executed be answered, and closes all
    /// connections. It takes some seconds at most.
    pub async fn shutdown(self) {
        let Self { stop, accepting, .. } = self;
        drop(stop);
        if let Err(error) = accepting.await {
            tracing::error!(%error, "the Redis port ended by itself");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that is started again gets its port although connections of the former one linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

struct Acceptor<B> {
    backend: B,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
}

async fn accept<B: Backend>(listener: TcpListener, mut acceptor: Acceptor<B>) {
    let mut clients = JoinSet::new();
    let mut stopped = acceptor.stopped.clone();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(ended) = clients.join_next() => Acceptor::<B>::ended(&ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => acceptor.accepted(stream, from, &mut clients),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = clients.join_next().await {
            Acceptor::<B>::ended(&ended);
        }
    };
    if timeout(GRACE, all_ended).await.is_err() {
        tracing::warn!(clients = clients.len(), "closed clients before they had their last replies");
        clients.shutdown().await;
    }
}

impl<B: Backend> Acceptor<B> {
    fn accepted(&mut self, stream: TcpStream, from: SocketAddr, clients: &mut JoinSet<()>) {
        let shared = &self.shared;
        if clients.len() >= shared.config.clients_max {
            shared.clients_refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%from, clients = clients.len(), "refused a client, for there are as many as may be");
            refuse(stream);
            return;
        }
        let Ok(local) = stream.local_addr() else {
            tracing::debug!(%from, "the client was gone before it was accepted");
            return;
        };
        let id = shared.clients_accepted.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(client = id, %from, "accepted a client");
        let ends = Ends { address: from, local, descriptor: stream.as_raw_fd() };
        let entered = Entered::new(Client::new(id, ends), shared);
        let session = Session::new(Arc::clone(&entered.client), self.backend.clone(), shared.clone());
        let stopped = self.stopped.clone();
        clients.spawn(client::serve(stream, session, entered, stopped));
    }

    /// A panic is our bug; it ends one client and not the node.
    fn ended(ended: &Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            tracing::error!(%error, "a client's connection failed");
        }
    }
}

/// Says why, if the socket takes it at once.
fn refuse(stream: TcpStream) {
    let said =
        stream.into_std().and_then(|mut stream| stream.write_all(b"-ERR max number of clients reached\r\n"));
    if let Err(error) = said {
        tracing::debug!(%error, "the refused client was gone");
    }
}
