//! Listens for HTTP clients and serves each connection in a task of its own.
//!
//! The port opens before the node, so that whoever asks learns that the node is opening; [`HttpServer::serve`] hands
//! the node over once it is there.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};

use super::config::{HttpConfig, HttpConfigError};
use super::patient::Patient;
use super::prometheus::Prometheus;
use super::routes;
use super::state::{Served, Shared};
use crate::node::Node;
use crate::redis::RedisObserver;

/// How long clients may take to get their answers when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long no client is accepted after accepting failed, as it does when the process has no more files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often what was recorded is put into buckets.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The lines in the head of a request at most.
const HEADERS_MAX: usize = 64;

/// Why the HTTP port was not opened. Nothing runs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpStartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] HttpConfigError),
    /// The address cannot be listened on: mostly another process does.
    #[error("cannot listen for HTTP clients on {address}: {source}; `--http` says where, or `off`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// The HTTP port of a node. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl HttpServer {
    /// Opens the port. Until [`HttpServer::serve`] it answers that the node is opening. Without a recorder `/metrics` tells
    /// only what is gathered when it is asked for.
    ///
    /// # Errors
    /// [`HttpStartError`].
    pub async fn start(config: HttpConfig, prometheus: Option<Prometheus>) -> Result<Self, HttpStartError> {
        config.validate()?;
        let address = config.address;
        let cannot_listen = |source| HttpStartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (stop, stopped) = watch::channel(());
        let shared = Arc::new(Shared::new(config, prometheus, stopped.clone()));
        let router = routes::router(&shared);
        let acceptor = Acceptor { shared: Arc::clone(&shared), router, stopped };
        let accepting = tokio::spawn(accept(listener, acceptor));
        Ok(Self { address, shared, stop, accepting })
    }

    /// Serves a node from now on, and tells of its Redis port; one only, for ever.
    pub fn serve(&self, node: Node, redis: Option<RedisObserver>) {
        self.shared.serve(Served { node, redis });
    }

    /// The address that is listened on, with the port that was taken if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, lets those that are being executed be answered, and closes all connections. It takes
    /// some seconds at most.
    pub async fn shutdown(self) {
        let Self { stop, accepting, .. } = self;
        drop(stop);
        if let Err(error) = accepting.await {
            tracing::error!(%error, "the HTTP port ended by itself");
        }
    }
}

struct Acceptor {
    shared: Arc<Shared>,
    router: Router,
    stopped: watch::Receiver<()>,
}

async fn accept(listener: TcpListener, acceptor: Acceptor) {
    let mut clients = JoinSet::new();
    let mut stopped = acceptor.stopped.clone();
    let mut settle = interval(SETTLE_EVERY);
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = settle.tick() => acceptor.settle(),
            Some(ended) = clients.join_next() => acceptor.ended(&ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => acceptor.accepted(stream, from, &mut clients),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP client");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
        }
    }
    drop(listener);
    let all_ended = async { while clients.join_next().await.is_some() {} };
    if timeout(GRACE, all_ended).await.is_err() {
        tracing::warn!(clients = clients.len(), "closed HTTP clients before they had their answers");
        clients.shutdown().await;
    }
}

impl Acceptor {
    fn accepted(&self, stream: TcpStream, from: SocketAddr, clients: &mut JoinSet<()>) {
        let figures = &self.shared.figures;
        if clients.len() >= self.shared.config.connections_max {
            figures.turned_away();
            tracing::debug!(%from, clients = clients.len(), "refused an HTTP client, for there are as many as may be");
            refuse(stream);
            return;
        }
        figures.accepted();
        clients.spawn(connection(
            stream,
            self.router.clone(),
            Arc::clone(&self.shared),
            self.stopped.clone(),
        ));
    }

    fn settle(&self) {
        if let Some(prometheus) = &self.shared.prometheus {
            prometheus.settle();
        }
    }

    /// A panic is our bug; it ends one client and not the node.
    fn ended(&self, ended: &Result<(), tokio::task::JoinError>) {
        self.shared.figures.ended();
        if let Err(error) = ended {
            tracing::error!(%error, "an HTTP client's connection failed");
        }
    }
}

/// Serves one connection until it ends, or the server stops and what it asked for is answered.
async fn connection(
    stream: TcpStream,
    router: Router,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    let patience = Duration::from_secs(shared.config.timeout_s);
    // Answers are written as a whole, so waiting for more only makes them late.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient::new(stream, patience));
    let mut builder = http1::Builder::new();
    // Who says all that it will say, and closes its half, is answered all the same.
    builder.half_close(true);
    builder.timer(TokioTimer::new()).header_read_timeout(patience);
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let mut served = pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = stopped.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        if error.is_parse() || error.is_timeout() {
            shared.figures.count_malformed();
        }
        tracing::debug!(%error, "an HTTP client's connection ended early");
    }
}

/// Says why, if the socket takes it at once.
fn refuse(stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let said = stream.into_std().and_then(|mut stream| stream.write_all(ANSWER));
    if let Err(error) = said {
        tracing::debug!(%error, "the refused client was gone");
    }
}
