//! A running node: its store, its peers, and the handles by which a program uses it.
//!
//! Reads go to the store beside the event loop; writes go through the loop, which commits them together. A
//! node is cheap to clone, and all clones are the same node.

mod anchors;
mod asking;
mod backend;
mod choosing;
mod connecting;
mod ending;
mod event_loop;
mod forks;
mod group;
mod group_times;
mod mailbox;
mod metrics;
mod modes;
mod opening;
mod readiness;
mod rejoining;
mod replicas;
mod reports;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName, KeyspaceNameError, PeerId, ReplicaId};
use tidelock_engine::ports::{LogPosition, ReadError, Rows, Status, Target};
use tidelock_engine::read::{Answer, Query, QueryError, answer};
use tidelock_engine::replica::{Replicate, Report, Terms};
use tidelock_engine::request::{Request, RequestError, RequestReply};
use tidelock_store::{Materializer, Reader};
use tidelock_transport::Libp2pTransport;
use tokio::sync::watch;

pub use self::asking::{OperationOutcome, Outbox, Replied};
pub use self::choosing::KeyspaceError;
pub use self::connecting::ConnectError;
use self::ending::End;
pub use self::ending::LoopPanicked;
pub use self::group::{GroupEvent, GroupEvents};
use self::mailbox::{Job, Mailbox};
pub use self::modes::KeyspaceMode;
pub(crate) use self::modes::Modes;
pub use self::opening::OpenError;
pub use self::rejoining::RejoinError;
pub use self::replicas::RetireError;
use crate::config::NodeConfig;
use crate::document::Documents;
use crate::keyspace::Keyspace;
use crate::pubsub::{PubSub, PublishError, Space, Subscription};
use crate::watch::{Change, Cursor, WatchRange};
use crate::watch_hub::{ChangeObserver, Observers, Replays, Tail, Watch};

/// A closure that is told of every read through the node: keyspace and key.
type ReadObserver = dyn Fn(&KeyspaceName, &[u8]) + Send + Sync;

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
    replica: Mutex<ReplicaId>,
    replicate: Replicate,
    replays: Arc<Replays>,
    network: Libp2pTransport,
    pubsub: PubSub,
    mailbox: Arc<Mailbox>,
    documents: Arc<Documents>,
    report: Arc<Mutex<Arc<Report>>>,
    modes: Arc<Modes>,
    /// How far the log is.
    commits: watch::Receiver<LogPosition>,
    /// How the group of anchors stands.
    group: watch::Receiver<Status>,
    /// Whether nothing but a full disk keeps the store from taking writes.
    is_full: Arc<AtomicBool>,
    observers: Arc<Observers<ChangeObserver>>,
    read_observers: Observers<ReadObserver>,
    end: watch::Receiver<End>,
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
        self.replays.let_go();
        self.documents.inbox.close();
        self.mailbox.close();
    }
}

impl Node {
    /// Opens the store of a data directory, making it if need be, and starts to sync. Must be called within a
    /// tokio runtime, which the node then uses. When the future is dropped, what it began ends by itself.
    ///
    /// # Errors
    /// [`OpenError`] says what is in the way.
    pub async fn open(config: NodeConfig) -> Result<Self, OpenError> {
        let node = opening::open(config).await?;
        node.put(Job::Listening(node.inner.network.listen_addresses()));
        if node.inner.config.found {
            node.found();
        }
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
        *self.inner.replica.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Stays connected with the peer at a multiaddress, from now on and after every loss. [`Node::connected`] waits for it.
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
    ///
    /// [`RequestError::Closed`] says that a request was certainly not executed; `Commit` that
    /// nobody knows.
    pub async fn submit(&self, requests: Vec<Request>) -> Vec<RequestReply> {
        let requests = requests.into_iter().map(|request| (request, Terms::default()));
        self.submit_on(requests.collect()).await.replies
    }

    /// Answers a query from what is committed now, without waiting for any writer. A strong keyspace is asked by
    /// [`Node::submit_on`], for there whoever reads waits.
    ///
    /// # Errors
    /// [`QueryError`]: the key shows another kind, the keyspace is strong, or the store could not be read.
    pub fn query(&self, keyspace: &KeyspaceName, query: &Query) -> Result<Answer, QueryError> {
        let id = self.id_of(keyspace);
        self.may_use_id(keyspace, id).map_err(|_| QueryError::NotReplicated)?;
        if self.inner.modes.is_strong(keyspace) {
            return Err(QueryError::NeedsAnchors);
        }
        let snapshot = self.reader()?.snapshot();
        if snapshot.is_partial(id) {
            return Err(QueryError::Loading);
        }
        self.query_at(&snapshot, (keyspace, id), query)
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
        let (watch, request) = Watch::new((keyspace, self.inner.cluster), range, from, &self.inner.replays);
        self.put(Job::Watch(request));
        watch
    }

    /// The log, for whoever follows a keyspace in it.
    pub(crate) fn tail(&self, keyspace: &KeyspaceName) -> Result<(KeyspaceId, Tail), RequestError> {
        let id = self.id_of(keyspace);
        self.may_use_id(keyspace, id)?;
        Ok((id, Tail::new(Arc::clone(&self.inner.replays), self.inner.commits.clone())))
    }

    /// The modes of keyspaces, for whoever outlives what he knows of one.
    pub(crate) fn modes(&self) -> Arc<Modes> {
        Arc::clone(&self.inner.modes)
    }

    /// Publishes a message on a channel, to whoever listens here and on the peers that are connected; answers how
    /// many listen here. Best effort: it is kept nowhere, and a peer that cannot be reached at once never gets it.
    ///
    /// # Errors
    /// [`PublishError`]: nobody gets it.
    pub fn publish(
        &self,
        channel: impl AsRef<[u8]>,
        message: impl AsRef<[u8]>,
    ) -> Result<usize, PublishError> {
        self.inner.pubsub.publish(Space::Plain, channel.as_ref(), message.as_ref())
    }

    /// A subscriber, which listens to nothing yet.
    ///
    /// ```no_run
    /// # async fn example(node: tidelock::Node) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut news = node.subscription();
    /// news.subscribe("news");
    /// node.publish("news", "hello")?;
    /// println!("{:?}", news.next().await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscription(&self) -> Subscription {
        self.inner.pubsub.subscription()
    }

    /// Tells a closure of every visible change, local or from a peer, in the thread that makes it: it must be
    /// quick, and must not wait for this node. One that panics is logged and never called again.
    pub fn on_write(&self, observer: impl Fn(&Change) + Send + Sync + 'static) {
        self.inner.observers.add(Arc::new(observer));
    }

    /// Tells a closure of every read of a key through this node, in the thread that reads. One that panics is
    /// logged and never called again.
    pub fn on_read(&self, observer: impl Fn(&KeyspaceName, &[u8]) + Send + Sync + 'static) {
        self.inner.read_observers.add(Arc::new(observer));
    }

    /// Returns when the node's event loop has ended: after a shutdown, or by a defect of ours.
    ///
    /// # Errors
    /// [`LoopPanicked`]: the node reads but writes no more, until it is shut down and opened again.
    pub async fn ended(&self) -> Result<(), LoopPanicked> {
        ending::ended(self.inner.end.clone()).await
    }

    /// Ends the node: what clients have handed over is done, peers are told, the store is flushed. Later calls
    /// on any clone answer that the node is shut down, and the data directory can be opened again.
    pub async fn shutdown(&self) {
        if let Some(worker) = self.inner.documents.close() {
            // It waits for commits of the loop, so it ends first. A panic of it was logged by itself.
            let _ = tokio::task::spawn_blocking(move || worker.join()).await;
        }
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
            self.inner.replays.close().await;
            self.inner.network.shutdown().await;
        }
    }

    pub(crate) fn reader(&self) -> Result<Reader, ReadError> {
        self.inner.replays.reader().ok_or_else(Self::closed)
    }

    fn closed() -> ReadError {
        let source = io::Error::new(io::ErrorKind::NotConnected, "the node was shut down");
        ReadError::Io { file: "the store", source }
    }

    fn query_at(
        &self,
        rows: &dyn Rows,
        (keyspace, id): (&KeyspaceName, KeyspaceId),
        query: &Query,
    ) -> Result<Answer, QueryError> {
        self.observe_read(keyspace, query);
        answer(rows, id, query)
    }

    fn observe_read(&self, keyspace: &KeyspaceName, query: &Query) {
        if let Some(key) = query.key() {
            self.inner.read_observers.tell(|observe| observe(keyspace, key));
        }
    }

    pub(crate) fn pubsub(&self) -> &PubSub {
        &self.inner.pubsub
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.inner.documents
    }

    pub(crate) fn id_of(&self, keyspace: &KeyspaceName) -> KeyspaceId {
        KeyspaceId::of(self.inner.cluster, keyspace)
    }

    fn put(&self, job: Job) -> bool {
        self.inner.mailbox.put(job).is_ok()
    }
}
