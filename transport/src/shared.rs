//! What the handle and the swarm's task share: the wanted state, which the task works towards.
//!
//! The handle changes state and rings [`Shared::changed`]; there is no queue of commands that could grow or
//! be full. Each part has a lock of its own, held for short moments and never two at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Address;
use tokio::sync::Notify;

use crate::admission::Admission;
use crate::dialer::Dialer;
use crate::gossip::Post;
use crate::inbox::Inbox;
use crate::links::LinkTable;

/// How many peers that multicast DNS found are kept.
const DISCOVERED_MAX: usize = 256;

/// How many addresses are kept of one of them.
const DISCOVERED_ADDRESSES_MAX: usize = 16;

pub(crate) struct Shared {
    pub(crate) local: PeerId,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) links: Arc<LinkTable>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) changed: Notify,
    /// The queues of gossip, if there is any.
    pub(crate) post: Option<Arc<Post>>,
    dialer: Mutex<Dialer>,
    listening: Mutex<BTreeSet<Address>>,
    discovered: Mutex<BTreeMap<PeerId, BTreeSet<Address>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        local: PeerId,
        inbox: Arc<Inbox>,
        admission: Admission,
        dialer: Dialer,
        post: Option<Arc<Post>>,
    ) -> Self {
        Self {
            local,
            inbox,
            links: Arc::default(),
            admission: Arc::new(admission),
            changed: Notify::new(),
            post,
            dialer: Mutex::new(dialer),
            listening: Mutex::default(),
            discovered: Mutex::default(),
        }
    }

    pub(crate) fn dialer(&self) -> MutexGuard<'_, Dialer> {
        lock(&self.dialer)
    }

    pub(crate) fn note_listening(&self, address: Address, is_listening: bool) {
        let mut listening = lock(&self.listening);
        if is_listening {
            listening.insert(address);
        } else {
            listening.remove(&address);
        }
    }

    pub(crate) fn listening(&self) -> Vec<Address> {
        lock(&self.listening).iter().cloned().collect()
    }

    pub(crate) fn note_discovered(&self, peer: PeerId, address: Address) {
        let mut discovered = lock(&self.discovered);
        if discovered.len() >= DISCOVERED_MAX && !discovered.contains_key(&peer) {
            return;
        }
        let addresses = discovered.entry(peer).or_default();
        if addresses.len() < DISCOVERED_ADDRESSES_MAX {
            addresses.insert(address);
        }
    }

    pub(crate) fn forget_discovered(&self, peer: PeerId, address: &Address) {
        let mut discovered = lock(&self.discovered);
        let Some(addresses) = discovered.get_mut(&peer) else { return };
        addresses.remove(address);
        if addresses.is_empty() {
            discovered.remove(&peer);
        }
    }

    pub(crate) fn discovered(&self) -> Vec<(PeerId, Vec<Address>)> {
        let discovered = lock(&self.discovered);
        discovered.iter().map(|(peer, addresses)| (*peer, addresses.iter().cloned().collect())).collect()
    }
}
