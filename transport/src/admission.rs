//! Who gets in: the allow-list and the airplane mode, and the gate that asks them before any protocol does.
//!
//! The gate is the first behaviour of the swarm, so a peer that it denies is seen by no other: there is no
//! handler and no stream for it. The handshake below has proven the peer's key by then. Changes of the list
//! hold for the next connection at once; the swarm's task closes those that are no longer allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use thiserror::Error;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Address;

use crate::identity::from_libp2p;
use crate::status::Refusal;

/// How many peers the list of refusals names.
const REFUSALS_MAX: usize = 256;

/// What is said of a peer that ends a connection before it opened a stream.
pub(crate) const MAY_NOT_ALLOW_US: &str =
    "closed by the peer before a stream opened; it may not allow our key";

/// Why a connection is not admitted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Denied {
    #[error("peer {0} is not on our list of allowed peers")]
    NotAllowed(PeerId),
    #[error("the peer's key is not an ed25519 key")]
    NotEd25519,
    #[error("we are offline")]
    Offline,
    #[error("we are shutting down")]
    Stopping,
    #[error("another connection to the peer is being kept")]
    Duplicate,
    #[error("the events of {0} connections wait to be taken")]
    Overloaded(usize),
}

/// The rules, shared by the handle, the gate and the swarm's task.
pub(crate) struct Admission {
    state: Mutex<State>,
}

struct State {
    allow: Option<BTreeSet<PeerId>>,
    is_online: bool,
    is_stopping: bool,
    refusals: BTreeMap<PeerId, Refusal>,
}

impl Admission {
    pub(crate) fn new(allow: Option<BTreeSet<PeerId>>) -> Self {
        let state = State { allow, is_online: true, is_stopping: false, refusals: BTreeMap::new() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_allow(&self, allow: Option<BTreeSet<PeerId>>) {
        self.lock().allow = allow;
    }

    pub(crate) fn set_online(&self, is_online: bool) {
        self.lock().is_online = is_online;
    }

    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
    }

    pub(crate) fn is_online(&self) -> bool {
        self.lock().is_online
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Whether any connection may be made.
    pub(crate) fn check_any(&self) -> Result<(), Denied> {
        let state = self.lock();
        match (state.is_stopping, state.is_online) {
            (true, _) => Err(Denied::Stopping),
            (_, false) => Err(Denied::Offline),
            _ => Ok(()),
        }
    }

    /// Whether a connection to `peer` may be made or kept.
    pub(crate) fn check(&self, peer: PeerId) -> Result<(), Denied> {
        self.check_any()?;
        match &self.lock().allow {
            Some(allow) if !allow.contains(&peer) => Err(Denied::NotAllowed(peer)),
            _ => Ok(()),
        }
    }

    /// Counts a refusal under the peer's name: ours of it, or its of us.
    pub(crate) fn note_refusal(&self, peer: PeerId, by_us: bool, address: Address, reason: String) {
        let refusals = &mut self.lock().refusals;
        if refusals.len() >= REFUSALS_MAX && !refusals.contains_key(&peer) {
            // The list stays bounded; whoever knocks most often stays on it.
            let quietest = refusals.values().min_by_key(|refusal| refusal.by_us + refusal.by_peer);
            if let Some(quietest) = quietest.map(|refusal| refusal.peer) {
                refusals.remove(&quietest);
            }
        }
        let new = Refusal { peer, by_us: 0, by_peer: 0, address: Address::new(), reason: String::new() };
        let refusal = refusals.entry(peer).or_insert(new);
        refusal.by_us += u64::from(by_us);
        refusal.by_peer += u64::from(!by_us);
        refusal.address = address;
        refusal.reason = reason;
    }

    /// Whether the peer has refused us since it last let us in.
    pub(crate) fn is_refused_by(&self, peer: PeerId) -> bool {
        self.lock().refusals.get(&peer).is_some_and(|refusal| refusal.by_peer > 0)
    }

    /// The peer let us in: what looked like its refusals was not, or is over. A dial that crosses the peer's
    /// own is closed by it as the twin of that one, which cannot be told from a refusal until the other is
    /// up.
    pub(crate) fn note_admitted(&self, peer: PeerId) {
        let refusals = &mut self.lock().refusals;
        let Some(refusal) = refusals.get_mut(&peer) else { return };
        refusal.by_peer = 0;
        if refusal.by_us == 0 {
            refusals.remove(&peer);
        }
    }

    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.lock().refusals.values().cloned().collect()
    }
}

/// The behaviour that asks; it must be the first field of the swarm's behaviour.
pub(crate) struct Gate {
    admission: Arc<Admission>,
}

impl Gate {
    pub(crate) fn new(admission: Arc<Admission>) -> Self {
        Self { admission }
    }

    fn admit(
        &self,
        peer: &libp2p::PeerId,
        address: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let Some(known) = from_libp2p(peer) else {
            tracing::warn!(%peer, %address, "refused: {}", Denied::NotEd25519);
            return Err(ConnectionDenied::new(Denied::NotEd25519));
        };
        if let Err(denied) = self.admission.check(known) {
            tracing::warn!(%peer, %address, "refused: {denied}");
            self.admission.note_refusal(known, true, address.to_string(), denied.to_string());
            return Err(ConnectionDenied::new(denied));
        }
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admission.check_any().map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        address: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer, address)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<libp2p::PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let checked = match peer.as_ref().map(from_libp2p) {
            None => self.admission.check_any(),
            Some(None) => Err(Denied::NotEd25519),
            Some(Some(peer)) => self.admission.check(peer),
        };
        checked.map(|()| Vec::new()).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer, address)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u16) -> PeerId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PeerId::from_public_key(key)
    }

    #[test]
    fn list_and_airplane_mode_hold_at_once() {
        let admission = Admission::new(Some(BTreeSet::from([peer(1)])));
        assert_eq!(admission.check(peer(1)), Ok(()));
        assert_eq!(admission.check(peer(2)), Err(Denied::NotAllowed(peer(2))));
        admission.set_allow(None);
        assert_eq!(admission.check(peer(2)), Ok(()));
        admission.set_online(false);
        assert_eq!(admission.check(peer(1)), Err(Denied::Offline));
        admission.set_online(true);
        admission.stop();
        assert_eq!(admission.check_any(), Err(Denied::Stopping));
    }

    #[test]
    fn refusals_are_bounded_and_keep_who_knocks_most() {
        let admission = Admission::new(None);
        for _ in 0..3 {
            admission.note_refusal(peer(0), true, Address::new(), "no".to_owned());
        }
        for n in 1..=2 * u16::try_from(REFUSALS_MAX).expect("small") {
            admission.note_refusal(peer(n), false, Address::new(), "no".to_owned());
        }
        let refusals = admission.refusals();
        assert_eq!(refusals.len(), REFUSALS_MAX);
        assert!(refusals.iter().any(|refusal| refusal.peer == peer(0) && refusal.by_us == 3));
    }
}
