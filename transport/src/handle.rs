//! The handle: how the rest of the program starts, feeds, asks and ends the transport.
//!
//! All methods but [`Libp2pTransport::start`] and [`Libp2pTransport::shutdown`] return at once and can be
//! called from any thread. The engine's thread takes events with [`Libp2pTransport::poll_events`] and sends
//! through the [`Transport`] port; neither goes through the swarm's task.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    Address, MessageClass, SendError, SessionId, Target, Transport, TransportEvent,
};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::config::{Config, ConfigError};
use crate::dialer::Dialer;
use crate::gossip::{GossipError, GossipFigures, Heard, Post};
use crate::inbox::Inbox;
use crate::lane::Lane;
use crate::shared::Shared;
use crate::status::{PeerStatus, Refusal, TalkFigures, TargetStatus};
use crate::swarm_task::SwarmTask;

/// How long [`Libp2pTransport::shutdown`] waits at most; the task itself ends within two seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the transport did not start. Nothing is left running.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be bound; choose another or free it.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address, as it was configured.
        address: Address,
        /// What the system says.
        reason: String,
    },
    /// The handshake could not be set up from the key.
    #[error("cannot set up the handshake: {0}")]
    Security(String),
    /// The system's DNS resolver cannot be used.
    #[error("cannot use the system's DNS resolver: {0}")]
    Resolver(#[source] io::Error),
    /// Multicast DNS cannot be started; turn it off with `mdns = false`.
    #[error("cannot start multicast DNS: {0}")]
    Discovery(#[source] io::Error),
    /// The system gives no random numbers.
    #[error("cannot draw random numbers: {0}")]
    Random(String),
}

/// A running transport. Clones share it; when the last one is dropped, the transport stops by itself.
#[derive(Clone)]
pub struct Libp2pTransport {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.admission.stop();
        self.shared.changed.notify_one();
    }
}

impl fmt::Debug for Libp2pTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Libp2pTransport").field("local_peer", &self.local_peer()).finish_non_exhaustive()
    }
}

impl Libp2pTransport {
    /// Starts the transport; must be called within a tokio runtime. Returns when all addresses are bound.
    ///
    /// `wake` is called whenever events begin to wait, from any thread. It must return at once and must not call
    /// the transport; typically it unparks the thread that then calls [`Libp2pTransport::poll_events`].
    pub async fn start(config: Config, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Self, StartError> {
        config.validate()?;
        let seed = getrandom::u64().map_err(|error| StartError::Random(error.to_string()))?;
        let dialer = Dialer::new(config.backoff_min, config.backoff_max, seed);
        let admission = Admission::new(config.allow.clone());
        let post = config.gossip.clone().map(Post::new);
        let shared =
            Arc::new(Shared::new(config.key.peer(), Inbox::new(wake), admission, dialer, post.clone()));
        // Another than the dialler's: it tells a start of this node from its earlier ones.
        let session = getrandom::u64().map_err(|error| StartError::Random(error.to_string()))?;
        let mut task = SwarmTask::new(&config, Arc::clone(&shared), session)?;
        task.bind(&config.listen).await?;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            Box::pin(task.run()).await;
            if let Some(post) = post {
                post.close();
            }
            // Nobody listens when the last handle was dropped.
            let _ = stop.send(true);
        });
        Ok(Self { inner: Arc::new(Inner { shared, stopped }) })
    }

    /// Who we are.
    pub fn local_peer(&self) -> PeerId {
        self.shared().local
    }

    /// Where we listen, with the real ports; one configured address may have become several.
    pub fn listen_addresses(&self) -> Vec<Address> {
        self.shared().listening()
    }

    /// Takes about `events_max` events, at least one of what waits, and with it makes room for peers to send
    /// on. Never waits. When something is left, `wake` is called again.
    ///
    /// Peers take turns, and of one peer the most urgent lane comes first. Per session the order is that of
    /// [`TransportEvent`]; per peer and lane a session's `Down` comes before the `Up` of the next.
    pub fn poll_events(&self, events_max: usize) -> Vec<(Lane, TransportEvent)> {
        self.shared().inbox.take(events_max.max(1))
    }

    /// Replaces the list of admitted peers; `None` admits everybody. Connections to others end.
    ///
    /// The rule that a list is needed beyond loopback is [`Config::validate`]'s; here the caller decides.
    pub fn set_allow(&self, allow: Option<BTreeSet<PeerId>>) {
        self.shared().admission.set_allow(allow);
        self.shared().changed.notify_one();
    }

    /// Airplane mode. Offline: all sessions are over when this returns, nothing is dialled, and nobody gets
    /// in. Online: targets are dialled again at once. Calling it again with the same value changes nothing
    /// but that.
    pub fn set_online(&self, is_online: bool) {
        let shared = self.shared();
        shared.admission.set_online(is_online);
        shared.dialer().set_online(is_online, Instant::now());
        if !is_online {
            shared.links.all().iter().for_each(|link| link.end("we went offline"));
        }
        shared.changed.notify_one();
    }

    /// Whether airplane mode is off.
    pub fn is_online(&self) -> bool {
        self.shared().admission.is_online()
    }

    /// The connected peers, by id.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut links = self.shared().links.all();
        links.retain(|link| link.is_up());
        links.sort_by_key(|link| (link.info.peer, link.info.connection));
        let status = |link: Arc<crate::link::Link>| {
            let (info, tally) = (link.info.clone(), link.tally());
            PeerStatus {
                peer: info.peer,
                address: info.address,
                is_dialer: info.is_dialer,
                agent: tally.agent,
                listen_addresses: tally.listen_addresses,
                rtt: tally.rtt,
                connected_for: info.since.elapsed(),
                queued_bytes_out: tally.queued_bytes_out,
                queued_bytes_in: tally.queued_bytes_in,
                bytes_sent: tally.bytes_sent,
                bytes_received: tally.bytes_received,
                frames_sent: tally.frames_sent,
                frames_received: tally.frames_received,
                sends_refused_full: tally.sends_refused_full,
            }
        };
        links.into_iter().map(status).collect()
    }

    /// The best-effort messages of the peers, if there are any: [`Config::gossip`].
    pub fn gossip(&self) -> Option<GossipHandle> {
        self.shared().post.clone().map(GossipHandle)
    }

    /// What was told and heard in all talks since the start, and what of it was lost.
    pub fn talk(&self) -> TalkFigures {
        self.shared().inbox.totals.figures()
    }

    /// What was given to [`Transport::connect`], and how it is doing.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.shared().dialer().status(Instant::now())
    }

    /// Who was refused by us, or refused us; the 256 that tried most often.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.shared().admission.refusals()
    }

    /// The peers that multicast DNS sees now, with their addresses; empty when it is off.
    pub fn discovered(&self) -> Vec<(PeerId, Vec<Address>)> {
        self.shared().discovered()
    }

    /// Ends all sessions, sends what is queued, closes all connections; at most three seconds. Events that
    /// were received can still be taken. May be called more than once.
    pub async fn shutdown(&self) {
        self.shared().admission.stop();
        self.shared().changed.notify_one();
        let mut stopped = self.inner.stopped.clone();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, stopped.wait_for(|is_stopped| *is_stopped)).await.is_err() {
            tracing::warn!("transport did not stop within {SHUTDOWN_TIMEOUT:?}");
        }
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

/// Publishes messages to all peers and hears theirs, best effort. Clones share it; it does not keep the transport
/// running.
#[derive(Clone, Debug)]
pub struct GossipHandle(Arc<Post>);

impl GossipHandle {
    /// Hands over a message for all peers; it is sent within milliseconds, once, to those that are connected then.
    /// Returns at once.
    ///
    /// # Errors
    /// [`GossipError`]: it goes to nobody.
    pub fn publish(&self, message: Vec<u8>) -> Result<(), GossipError> {
        self.0.publish(message)
    }

    /// Waits for messages of peers, and takes all that have come; `None` once the transport has stopped. Those of
    /// one author come in the order in which it published them, each at most once while it runs. One task at a time
    /// may wait.
    pub async fn heard(&self) -> Option<Vec<Heard>> {
        self.0.heard().await
    }

    /// What was sent, heard and dropped since the start.
    pub fn figures(&self) -> GossipFigures {
        self.0.figures()
    }
}

/// The port of the engine. A session names its peer and its lane, so it serves all lanes alike.
impl Transport for Libp2pTransport {
    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        self.shared().inbox.send(session, message)
    }

    /// Ends the whole connection, with all its lanes: a stream alone would be opened again at once. What was
    /// received before is still delivered, then `Down` with this reason.
    fn close(&mut self, session: SessionId, reason: &str) {
        if let Some((link, _)) = self.shared().inbox.find(session) {
            tracing::info!(peer = %link.info.peer, reason, "closing");
            link.close(reason);
        }
    }

    fn connect(&mut self, target: Target) {
        self.shared().dialer().want(target, Instant::now());
        self.shared().changed.notify_one();
    }

    /// Also closes a connection to the target that we dialled, when no other target wants its peer.
    fn disconnect(&mut self, target: &Target) {
        let Some(peer) = self.shared().dialer().unwant(target) else { return };
        for link in self.shared().links.of(peer).iter().filter(|link| link.info.is_dialer) {
            link.close("no longer wanted");
        }
    }

    fn tell(&mut self, to: PeerId, class: MessageClass, message: Vec<u8>) -> Result<(), Vec<u8>> {
        self.shared().inbox.tell(to, class, message)
    }

    fn talk_with(&mut self, peers: BTreeSet<PeerId>) {
        self.shared().links.talk_with(peers);
    }
}
