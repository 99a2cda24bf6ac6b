//! The behaviour that keeps one connection per peer, and the table of links that the handle reads.
//!
//! It asks the [`Arbiter`] which connection stays, makes a link and a handler for those that do, and ends
//! links when their connection goes. It carries no data; see [`crate::link`].
//!
//! `ConnectionEstablished` is not "up": a dialler sees it even when the other side denied the connection. Up is
//! the first open lane, which a denying side cannot have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use tidelock_engine::id::PeerId;

use crate::admission::Denied;
use crate::arbiter::{Arbiter, Verdict};
use crate::handler::{Handler, HandlerConfig, Report};
use crate::identity::{from_libp2p, to_libp2p};
use crate::inbox::Inbox;
use crate::link::{Link, LinkInfo, Phase};

/// How many links may have news that the engine has not taken. Beyond it the engine is stuck, and new
/// connections would only pile up more.
const LINKS_WAITING_MAX: usize = 1024;

/// All connections, for the behaviour that keeps them and for the handle that looks at them.
///
/// Its lock is held while links are told with whom we talk, so that none misses it; no link ever asks for it.
#[derive(Default)]
pub(crate) struct LinkTable(Mutex<Table>);

#[derive(Default)]
struct Table {
    links: BTreeMap<ConnectionId, Arc<Link>>,
    /// With whom we talk. Every link was told.
    talking: BTreeSet<PeerId>,
}

impl LinkTable {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, link: Arc<Link>) {
        let mut table = self.lock();
        link.set_talks(table.talking.contains(&link.info.peer));
        table.links.insert(link.info.connection, link);
    }

    fn remove(&self, connection: ConnectionId) -> Option<Arc<Link>> {
        self.lock().links.remove(&connection)
    }

    pub(crate) fn talk_with(&self, peers: BTreeSet<PeerId>) {
        let mut table = self.lock();
        table.talking = peers;
        for link in table.links.values() {
            link.set_talks(table.talking.contains(&link.info.peer));
        }
    }

    pub(crate) fn get(&self, connection: ConnectionId) -> Option<Arc<Link>> {
        self.lock().links.get(&connection).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.lock().links.values().cloned().collect()
    }

    pub(crate) fn of(&self, peer: PeerId) -> Vec<Arc<Link>> {
        self.all().into_iter().filter(|link| link.info.peer == peer).collect()
    }
}

/// What became of a connection.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The first lane opened.
    Up { peer: PeerId, connection: ConnectionId, is_dialer: bool },
    /// The connection is over.
    Down(LinkDown),
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct LinkDown {
    pub(crate) info: LinkInfo,
    /// Whether it ever was up.
    pub(crate) was_up: bool,
    /// Whether this side ended it.
    pub(crate) by_us: bool,
    /// Whether another connection to the peer stands.
    pub(crate) has_sibling: bool,
    pub(crate) reason: String,
}

pub(crate) struct Links {
    config: HandlerConfig,
    arbiter: Arbiter<ConnectionId>,
    table: Arc<LinkTable>,
    inbox: Arc<Inbox>,
    /// Connections with an open lane, or that had one.
    up: BTreeMap<ConnectionId, PeerId>,
    events: VecDeque<ToSwarm<LinkEvent, Infallible>>,
}

impl Links {
    pub(crate) fn new(
        config: HandlerConfig,
        arbiter: Arbiter<ConnectionId>,
        table: Arc<LinkTable>,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self { config, arbiter, table, inbox, up: BTreeMap::new(), events: VecDeque::new() }
    }

    /// Ends a connection at once.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId, reason: &str) {
        self.retire(connection, reason, true);
    }

    fn admit(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        is_dialer: bool,
    ) -> Result<Handler, ConnectionDenied> {
        let peer = from_libp2p(&peer).ok_or_else(|| ConnectionDenied::new(Denied::NotEd25519))?;
        let waiting = self.inbox.waiting();
        if waiting >= LINKS_WAITING_MAX {
            return Err(ConnectionDenied::new(Denied::Overloaded(waiting)));
        }
        self.release_ending(peer);
        let now = Instant::now();
        match self.arbiter.established(peer, connection, is_dialer, now) {
            Verdict::Deny => {
                tracing::debug!(%peer, %address, is_dialer, "{}", Denied::Duplicate);
                return Err(ConnectionDenied::new(Denied::Duplicate));
            }
            Verdict::Replace(old) => self.retire(old, "replaced by a newer connection", true),
            Verdict::Admit => {}
        }
        let info = LinkInfo { connection, peer, address: without_peer(address), is_dialer, since: now };
        let link = Link::new(info, self.config.lanes, &self.inbox);
        self.table.insert(Arc::clone(&link));
        Ok(Handler::new(self.config, link))
    }

    /// A connection that is ending, or gone, must not keep its peer from coming back.
    fn release_ending(&mut self, peer: PeerId) {
        let Some(old) = self.arbiter.chosen(peer) else { return };
        let is_open = self.table.get(old).is_some_and(|link| link.phase() == Phase::Open);
        if !is_open {
            self.arbiter.closed(peer, old);
        }
    }

    /// Forgets a connection and ends its sessions. Called once by whoever knows first; later calls do
    /// nothing.
    fn retire(&mut self, connection: ConnectionId, reason: &str, by_us: bool) {
        let Some(link) = self.table.remove(connection) else { return };
        link.end(reason);
        let peer = link.info.peer;
        self.arbiter.closed(peer, connection);
        let was_up = self.up.remove(&connection).is_some();
        let has_sibling = !self.table.of(peer).is_empty();
        let down =
            LinkDown { info: link.info.clone(), was_up, by_us, has_sibling, reason: reason.to_owned() };
        self.events.push_back(ToSwarm::GenerateEvent(LinkEvent::Down(down)));
        if by_us {
            let connection = CloseConnection::One(connection);
            self.events.push_back(ToSwarm::CloseConnection { peer_id: to_libp2p(peer), connection });
        }
    }

    fn lane_opened(&mut self, connection: ConnectionId) {
        let Some(link) = self.table.get(connection) else { return };
        let LinkInfo { peer, is_dialer, .. } = link.info;
        if let Some(old) = self.arbiter.lane_opened(peer, connection, Instant::now()) {
            self.retire(old, "replaced by a newer connection", true);
        }
        self.up.insert(connection, peer);
        self.events.push_back(ToSwarm::GenerateEvent(LinkEvent::Up { peer, connection, is_dialer }));
    }
}

/// The address of a dialled connection ends with `/p2p/`; all our addresses are without it.
fn without_peer(address: &Multiaddr) -> String {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(libp2p::multiaddr::Protocol::P2p(_))) {
        address.pop();
    }
    address.to_string()
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(connection, peer, address, false)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(connection, peer, address, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                let reason =
                    closed.cause.map_or_else(|| "closed by the peer".to_owned(), ToString::to_string);
                self.retire(closed.connection_id, &reason, false);
            }
            // If a behaviour after this one denies a connection that was admitted here, there is no
            // `ConnectionClosed`, only these. Without them the arbiter would refuse the peer for ever.
            FromSwarm::DialFailure(failure) => self.retire(failure.connection_id, "denied", true),
            FromSwarm::ListenFailure(failure) => self.retire(failure.connection_id, "denied", true),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        match report {
            Report::LaneOpened => self.lane_opened(connection),
            Report::Failed(reason) => self.retire(connection, &reason, true),
            Report::Finished => {
                let reason = self.table.get(connection).map(|link| link.close_reason());
                self.retire(connection, &reason.unwrap_or_default(), true);
            }
        }
    }

    /// Few events come from here, so this behaviour cannot starve the swarm, which polls behaviours first.
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LinkEvent, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
