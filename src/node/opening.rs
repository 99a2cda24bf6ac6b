//! How a node comes up: key, store, network, event loop, in this order.
//!
//! Opening a store can take long, so it has a thread of its own, and whoever waits for it may give up.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use thiserror::Error;
use tidelock_engine::courier::{Courier, OpenGroup};
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{ClusterId, PeerId};
use tidelock_engine::ports::{AnchorId, Consensus, GroupId, Status, Store};
use tidelock_engine::replica::{Limits, Replica, ReplicaConfig, Replicate, Terms};
use tidelock_engine::request::{Request, RequestError, RequestReply};
use tidelock_engine::turn::Driver;
use tidelock_raft_mode::{Group, Opening, Settings};
use tidelock_store::{FileDisk, OpenOptions, RedbStore};
use tidelock_transport::{Libp2pTransport, SecretKey};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::config::{ConfigError, NodeConfig};
use crate::document::{Access, Documents};
use crate::identity::{self, IdentityError};
use crate::node::asking::Replied;
use crate::node::ending::{self, Ending};
use crate::node::event_loop::{EventLoop, Pending};
use crate::node::group_times::GroupTimes;
use crate::node::mailbox::{Job, Mailbox};
use crate::node::metrics::LoopMetrics;
use crate::node::modes::Modes;
use crate::node::{Inner, Node, Parts};
use crate::pubsub::PubSub;
use crate::watch_hub::{Observers, Replays, WatchHub};

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

/// Opens a node that nothing was handed to yet.
pub(super) async fn open(config: NodeConfig) -> Result<Node, OpenError> {
    config.validate()?;
    let cluster = ClusterId::named(&config.cluster);
    let (key, store) = open_aside(config.clone(), cluster).await?;
    let materializer = store.spawn_materializer().map_err(OpenError::Thread)?;
    let mailbox = Arc::new(Mailbox::new());
    let network = start_network(&config, &key, cluster, Arc::clone(&mailbox)).await?;
    let pubsub = PubSub::new(network.local_peer(), network.gossip());
    // It ends with the transport.
    tokio::spawn(pubsub.clone().hear());
    let (replicate, recovered) = (replicated(&config), store.recovered());
    let replica_config = replica_config(&config, &key, cluster, replicate.clone());
    let observers = Arc::new(Observers::default());
    let is_full = Arc::new(AtomicBool::new(false));
    let (end_sender, end) = watch::channel(None);
    let report = Arc::default();
    let ending = Ending { mailbox: Arc::clone(&mailbox), report: Arc::clone(&report), end: end_sender };
    let started = Instant::now();
    let reader = store.reader();
    let replays = Arc::new(Replays::new(reader.clone(), Handle::current()));
    let (peer, replica) = (key.peer(), recovered.card.replica());
    let documents = Arc::new(start_documents(peer, &replays, &mailbox)?);
    let open_group = group_opener(&store, Arc::clone(&mailbox));
    let driver = Driver::new(Replica::new(replica_config, &recovered), store, network.clone());
    let modes = Arc::new(Modes::of(driver.replica()));
    let (group_sender, group) = watch::channel(Status::default());
    let hub = WatchHub::new(reader, Arc::clone(&observers), pubsub.clone());
    let commits = hub.commits();
    let event_loop = EventLoop {
        courier: Courier::new(open_group, driver.replica().anchor()),
        driver,
        key,
        network: network.clone(),
        mailbox: Arc::clone(&mailbox),
        hub,
        documents: Arc::clone(&documents),
        report: Arc::clone(&report),
        modes: Arc::clone(&modes),
        group: group_sender,
        is_full: Arc::clone(&is_full),
        started,
        pending: Pending::default(),
        metrics: LoopMetrics::new(),
        times: GroupTimes::new(),
        discovered: BTreeSet::new(),
        _ending: ending,
    };
    let event_loop = spawn(event_loop, &mailbox)?;
    let inner = Inner {
        cluster,
        replica: Mutex::new(replica),
        replicate,
        replays,
        network,
        pubsub,
        mailbox,
        documents,
        report,
        modes,
        commits,
        group,
        is_full,
        observers,
        read_observers: Observers::default(),
        end,
        started,
        parts: Mutex::new(Some(Parts { event_loop, materializer })),
        config,
    };
    Ok(Node { inner: Arc::new(inner) })
}

/// The keyspaces that the config names, or all.
fn replicated(config: &NodeConfig) -> Replicate {
    if config.keyspaces.is_empty() {
        Replicate::All
    } else {
        Replicate::Only(config.keyspaces.iter().cloned().collect())
    }
}

fn start_documents(
    peer: PeerId,
    replays: &Arc<Replays>,
    mailbox: &Arc<Mailbox>,
) -> Result<Documents, OpenError> {
    let mailbox = Arc::clone(mailbox);
    let submit = Box::new(move |requests| submit_and_wait(&mailbox, requests));
    let access = Access { peer, replays: Arc::clone(replays), submit };
    Documents::start(access).map_err(OpenError::Thread)
}

/// How the group of anchors is opened on a store. Its tasks run where the node was opened.
fn group_opener(store: &RedbStore, mailbox: Arc<Mailbox>) -> OpenGroup {
    let (log, runtime) = (Arc::new(store.raft_log()), Handle::current());
    Box::new(move |me: AnchorId| {
        let mailbox = Arc::clone(&mailbox);
        let opening = Opening {
            group: GroupId(0),
            me,
            log: log.clone(),
            settings: Settings::default(),
            // Without dice two lives may have the same name, which only costs an answer that is taken for another.
            seed: getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id())),
            runtime: runtime.clone(),
            wake: Box::new(move || mailbox.wake()),
        };
        let group = Group::open(opening).expect("the default settings are valid");
        Box::new(group) as Box<dyn Consensus + Send>
    })
}

fn replica_config(
    config: &NodeConfig,
    key: &SigningKey,
    cluster: ClusterId,
    replicate: Replicate,
) -> ReplicaConfig {
    let limits = Limits {
        quotas: config.quota.clone(),
        keyspaces_max: config.keyspaces_max,
        staged_bytes: Limits::STAGED_BYTES,
    };
    let retention = config.retention.for_engine();
    let (conditional, anchors_target) = (config.conditional, config.anchors_target);
    ReplicaConfig { key: key.clone(), cluster, replicate, retention, limits, conditional, anchors_target }
}

/// Hands in the changes of documents on the worker's own thread.
fn submit_and_wait(mailbox: &Mailbox, requests: Vec<Request>) -> Vec<RequestReply> {
    let count = requests.len();
    let (sender, receiver) = oneshot::channel();
    let requests = requests.into_iter().map(|request| (request, Terms::default())).collect();
    if mailbox.put(Job::Changes(requests, sender)).is_err() {
        return (0..count).map(|_| Err(RequestError::Closed)).collect();
    }
    receiver.blocking_recv().unwrap_or_else(|_| Replied::all(count, ending::unknown)).replies
}

/// Opens key and store on a thread of its own. When nobody waits for it any more, the thread closes what it
/// has opened, and a process that ends meanwhile is as harmless as a crash.
async fn open_aside(config: NodeConfig, cluster: ClusterId) -> Result<(SigningKey, RedbStore), OpenError> {
    let (sender, receiver) = oneshot::channel();
    let builder = thread::Builder::new().name("tidelock-open".to_owned());
    let thread = builder.spawn(move || {
        // It comes back, and is closed by being dropped, when the opening was given up.
        let _ = sender.send(open_store(&config, cluster));
    });
    let thread = thread.map_err(OpenError::Thread)?;
    match receiver.await {
        Ok(opened) => opened,
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread answers unless it panics"),
        },
    }
}

fn open_store(config: &NodeConfig, cluster: ClusterId) -> Result<(SigningKey, RedbStore), OpenError> {
    let key = identity::load_or_make(&config.data)?;
    let card = key.card(identity::random_bytes()?);
    let options = OpenOptions { cache_bytes: config.cache_bytes, ..OpenOptions::new(cluster, card) };
    let store = RedbStore::open(&FileDisk::at(&config.data), &options)
        .map_err(|source| OpenError::Store { data: config.data.clone(), source })?;
    Ok((key, store))
}

async fn start_network(
    config: &NodeConfig,
    key: &SigningKey,
    cluster: ClusterId,
    mailbox: Arc<Mailbox>,
) -> Result<Libp2pTransport, OpenError> {
    let transport_config = tidelock_transport::Config {
        listen: config.listen.clone(),
        allow: config.allowed()?,
        mdns: config.mdns,
        // Peers of other clusters may be connected for a moment; they subscribe to another topic.
        gossip: Some(format!("tidelock/pubsub/1/{cluster}")),
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
