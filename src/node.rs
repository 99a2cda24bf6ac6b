//! A running node: its store, its peers, and the handles by which a program uses it.
//!
//! Reads go to the store beside the event loop; writes go through the loop, which commits them together. A
//! node is cheap to clone, and all clones are the same node.

mod backend;
mod event_loop;
mod mailbox;
mod reports;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName, KeyspaceNameError, PeerId, ReplicaId};
use tidelock_engine::ports::{ReadError, Rows, Store, Target};
use tidelock_engine::read::{Answer, Query, QueryError, answer};
use tidelock_engine::replica::{Replica, ReplicaConfig, Replicate, Report};
use tidelock_engine::request::{Request, RequestError, RequestReply};
use tidelock_engine::turn::Driver;
use tidelock_store::{FileDisk, Materializer, OpenOptions, Reader, RedbStore};
use tidelock_transport::{Libp2pTransport, SecretKey};
use tokio::sync::{oneshot, watch};

use self::event_loop::EventLoop;
use self::mailbox::{Job, Mailbox};
use crate::config::{ConfigError, NodeConfig};
use crate::identity::{self, IdentityError};
use crate::keyspace::Keyspace;
use crate::watch::{Change, Cursor, WatchRange};
use crate::watch_hub::{Observers, Watch, WatchHub};

/// A closure that is told of every read through the node: keyspace and key.
type ReadObserver = Box<dyn Fn(&KeyspaceName, &[u8]) + Send + Sync>;

/// A running node.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let node = tidelock::Node::open(tidelock::NodeConfig::at("./data")).await?;
/// let notes = node.keyspace("notes")?;
/// notes.register("title").set("hello").await?;
/// assert_eq!(notes.register("title").get()?.as_deref(), Some(&b"hello"[..]));
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: NodeConfig,
    cluster: ClusterId,
    replica: ReplicaId,
    replicate: Replicate,
    /// Gone after a shutdown, so that the store can be opened again.
    reader: RwLock<Option<Reader>>,
    network: Libp2pTransport,
    mailbox: Arc<Mailbox>,
    report: Arc<Mutex<Arc<Report>>>,
    observers: Arc<Observers>,
    read_observers: RwLock<Vec<ReadObserver>>,
    started: Instant,
    parts: Mutex<Option<Parts>>,
}

/// What a shutdown ends, in this order.
struct Parts {
    event_loop: JoinHandle<()>,
    materializer: Materializer,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// Why a node did not start. Nothing is left running.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be opened.
    #[error("{data}: {source}")]
    Store {
        /// The directory.
        data: PathBuf,
        /// The cause.
        source: tidelock_store::OpenError,
    },
    /// The transport cannot be started.
    #[error(transparent)]
    Transport(#[from] tidelock_transport::StartError),
    /// The system gives no threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Node {
    /// Opens the store of a data directory, making it if need be, and starts to sync. Must be called within a
    /// tokio runtime, which the node's network then uses.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way.
    pub async fn open(config: NodeConfig) -> Result<Self, OpenError> {
        config.validate()?;
        let key = identity::load_or_make(&config.data)?;
        let cluster = ClusterId::named(&config.cluster);
        let store = open_store(&config, &key, cluster)?;
        let materializer = store.spawn_materializer().map_err(OpenError::Thread)?;
        let mailbox = Arc::new(Mailbox::new());
        let network = start_network(&config, &key, Arc::clone(&mailbox)).await?;
        let replicate = if config.keyspaces.is_empty() {
            Replicate::All
        } else {
            Replicate::Only(config.keyspaces.iter().cloned().collect())
        };
        let replica_config = ReplicaConfig { key, cluster, replicate: replicate.clone() };
        let recovered = store.recovered();
        let observers = Arc::new(Observers::default());
        let report = Arc::default();
        let started = Instant::now();
        let reader = store.reader();
        let event_loop = EventLoop {
            driver: Driver::new(Replica::new(replica_config, &recovered), store, network.clone()),
            network: network.clone(),
            mailbox: Arc::clone(&mailbox),
            hub: WatchHub::new(cluster, reader.clone(), Arc::clone(&observers)),
            report: Arc::clone(&report),
            started,
            pending: event_loop::Pending::default(),
            discovered: BTreeSet::new(),
        };
        let event_loop = spawn(event_loop, &mailbox)?;
        let inner = Inner {
            cluster,
            replica: recovered.card.replica(),
            replicate,
            reader: RwLock::new(Some(reader)),
            network,
            mailbox,
            report,
            observers,
            read_observers: RwLock::default(),
            started,
            parts: Mutex::new(Some(Parts { event_loop, materializer })),
            config,
        };
        let node = Self { inner: Arc::new(inner) };
        node.put(Job::Listening(node.inner.network.listen_addresses()));
        for address in node.inner.config.peers.clone() {
            node.connect(&address);
        }
        Ok(node)
    }

    /// Who this node is to its peers.
    pub fn peer(&self) -> PeerId {
        self.inner.network.local_peer()
    }

    /// Whose operations this node mints.
    pub fn replica(&self) -> ReplicaId {
        self.inner.replica
    }

    /// Where peers can connect, with the real ports.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.inner.network.listen_addresses()
    }

    /// The settings that the node was opened with.
    pub fn config(&self) -> &NodeConfig {
        &self.inner.config
    }

    /// A handle to a keyspace. It comes into being with the first write on any peer.
    ///
    /// # Errors
    /// The text is not a keyspace name.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, KeyspaceNameError> {
        Ok(Keyspace::new(self.clone(), name.parse()?))
    }

    /// Stays connected with the peer at a multiaddress, from now on and after every loss.
    pub fn connect(&self, address: &str) {
        let target = Target { peer: None, addresses: vec![address.to_owned()] };
        self.put(Job::Connect(target));
    }

    /// Airplane mode: offline, the node hangs up on everybody and refuses them; reads and writes go on.
    pub fn set_online(&self, is_online: bool) {
        self.inner.network.set_online(is_online);
    }

    /// Whether airplane mode is off.
    pub fn is_online(&self) -> bool {
        self.inner.network.is_online()
    }

    /// Executes requests in order and as one turn if possible; answers each once it is as durable as it asks.
    pub async fn submit(&self, requests: Vec<Request>) -> Vec<RequestReply> {
        let count = requests.len();
        let (sender, receiver) = oneshot::channel();
        if self.inner.mailbox.send(Job::Requests(requests, sender)).await.is_ok()
            && let Ok(replies) = receiver.await
        {
            return replies;
        }
        (0..count).map(|_| Err(RequestError::Closed)).collect()
    }

    /// Answers a query from what is committed now, without waiting for any writer.
    ///
    /// # Errors
    /// [`QueryError`]: the key shows another kind, or the store could not be read.
    pub fn query(&self, keyspace: &KeyspaceName, query: &Query) -> Result<Answer, QueryError> {
        self.query_at(&self.reader()?.snapshot(), keyspace, query)
    }

    /// Waits until `peers` peers have on disk all that this node wrote in a keyspace before, or until the time
    /// is over; answers how many have. Without a timeout it waits for as long as it takes.
    pub async fn wait_for_peers(
        &self,
        keyspace: &KeyspaceName,
        peers: usize,
        timeout: Option<Duration>,
    ) -> usize {
        let (sender, mut receiver) = watch::channel(0);
        if self.put(Job::Confirm(keyspace.clone(), sender)) {
            let enough = receiver.wait_for(|confirmed| *confirmed >= peers);
            match timeout {
                Some(timeout) => drop(tokio::time::timeout(timeout, enough).await),
                None => drop(enough.await),
            }
        }
        *receiver.borrow()
    }

    /// Watches a key or prefix of a keyspace. With a cursor, what happened behind it comes first.
    pub fn watch(&self, keyspace: &KeyspaceName, range: WatchRange, from: Option<Cursor>) -> Watch {
        let id = self.id_of(keyspace);
        let (watch, request) = Watch::new((keyspace.clone(), id), range, from, self.reader().ok());
        self.put(Job::Watch(request));
        watch
    }

    /// Tells a closure of every visible change, local or from a peer, in the thread that makes it: it must be
    /// quick, and must not wait for this node.
    pub fn on_write(&self, observer: impl Fn(&Change) + Send + Sync + 'static) {
        self.inner.observers.add(Box::new(observer));
    }

    /// Tells a closure of every read of a key through this node, in the thread that reads.
    pub fn on_read(&self, observer: impl Fn(&KeyspaceName, &[u8]) + Send + Sync + 'static) {
        let mut observers = self.inner.read_observers.write().unwrap_or_else(PoisonError::into_inner);
        observers.push(Box::new(observer));
    }

    /// Ends the node: what clients have handed over is done, peers are told, the store is flushed. Later calls
    /// on any clone answer that the node is shut down, and the data directory can be opened again.
    pub async fn shutdown(&self) {
        self.inner.mailbox.close();
        let parts = self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Parts { event_loop, materializer }) = parts {
            let ended = tokio::task::spawn_blocking(move || {
                let ended = event_loop.join();
                drop(materializer);
                ended
            });
            if !matches!(ended.await, Ok(Ok(()))) {
                tracing::error!("the event loop ended with a panic");
            }
            self.inner.reader.write().unwrap_or_else(PoisonError::into_inner).take();
            self.inner.network.shutdown().await;
        }
    }

    fn reader(&self) -> Result<Reader, ReadError> {
        let reader = self.inner.reader.read().unwrap_or_else(PoisonError::into_inner);
        reader.clone().ok_or_else(|| ReadError::Io {
            file: "the store",
            source: io::Error::new(io::ErrorKind::NotConnected, "the node was shut down"),
        })
    }

    fn query_at(
        &self,
        rows: &dyn Rows,
        keyspace: &KeyspaceName,
        query: &Query,
    ) -> Result<Answer, QueryError> {
        self.observe_read(keyspace, query);
        answer(rows, self.id_of(keyspace), query)
    }

    fn observe_read(&self, keyspace: &KeyspaceName, query: &Query) {
        let observers = self.inner.read_observers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = query.key() {
            observers.iter().for_each(|observer| observer(keyspace, key));
        }
    }

    fn id_of(&self, keyspace: &KeyspaceName) -> KeyspaceId {
        KeyspaceId::of(self.inner.cluster, keyspace)
    }

    fn put(&self, job: Job) -> bool {
        self.inner.mailbox.put(job).is_ok()
    }
}

fn open_store(
    config: &NodeConfig,
    key: &tidelock_engine::frame::SigningKey,
    cluster: ClusterId,
) -> Result<RedbStore, OpenError> {
    let card = key.card(identity::random_bytes()?);
    let options = OpenOptions { cache_bytes: config.cache_bytes, ..OpenOptions::new(cluster, card) };
    let disk = FileDisk::at(&config.data);
    RedbStore::open(&disk, &options).map_err(|source| OpenError::Store { data: config.data.clone(), source })
}

async fn start_network(
    config: &NodeConfig,
    key: &tidelock_engine::frame::SigningKey,
    mailbox: Arc<Mailbox>,
) -> Result<Libp2pTransport, OpenError> {
    let transport_config = tidelock_transport::Config {
        listen: config.listen.clone(),
        allow: config.allowed()?,
        mdns: config.mdns,
        ..tidelock_transport::Config::new(SecretKey::from_seed(key.to_seed()))
    };
    Ok(Libp2pTransport::start(transport_config, Arc::new(move || mailbox.wake())).await?)
}

fn spawn(event_loop: EventLoop, mailbox: &Mailbox) -> Result<JoinHandle<()>, OpenError> {
    let builder = thread::Builder::new().name("tidelock-turns".to_owned());
    let handle = builder.spawn(move || event_loop.run()).map_err(OpenError::Thread)?;
    mailbox.serve_by(handle.thread().clone());
    Ok(handle)
}
