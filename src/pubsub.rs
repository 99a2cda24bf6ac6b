//! Messages between the clients of all peers: channels, patterns, and who listens to what.
//!
//! Publishing is best effort, as in Redis: a message goes to whoever listens at that moment, here and on the peers
//! that are connected, and is kept nowhere. Channels are of the cluster, not of a keyspace. Each subscriber is told
//! each message once for each way in which it subscribed, those of one publisher in their order; one that does not
//! read loses messages and is told how many.

mod events;
mod hub;
mod letter;
mod queue;
#[cfg(test)]
mod tests;
mod tracking;

use std::sync::Arc;

use thiserror::Error;
use tidelock_engine::id::PeerId;
use tidelock_transport::{GOSSIP_BYTES_MAX, GossipFigures, GossipHandle};

use self::events::Wanted;
pub(crate) use self::events::{Keys, Letters};
pub use self::hub::HubFigures;
pub(crate) use self::hub::{Hub, Subscriber};
pub use self::letter::Letter;
pub(crate) use self::letter::Space;
pub use self::queue::Notice;
pub(crate) use self::tracking::{Inbox, Invalidation, Tracker, Tracking};

/// The bytes of channel and message together at most.
pub const PUBLISHED_BYTES_MAX: usize = GOSSIP_BYTES_MAX - Letter::OVERHEAD_BYTES;

/// What may wait for a subscriber of the library, in bytes.
const SUBSCRIPTION_BYTES_MAX: usize = 8 << 20;

/// Why a message was not published. Nobody gets it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// Channel and message are longer than any may be.
    #[error("channel and message have {bytes} bytes; {PUBLISHED_BYTES_MAX} are allowed")]
    TooLarge {
        /// How long they are, in bytes.
        bytes: usize,
    },
}

/// The channels of a node, and its voice to the peers. Clones share them.
#[derive(Clone, Debug)]
pub struct PubSub {
    hub: Arc<Hub>,
    peer: PeerId,
    network: Option<GossipHandle>,
    wanted: Arc<Wanted>,
    tracking: Arc<Tracking>,
}

impl PubSub {
    /// The channels of a node that publishes as `peer`, to others if there is a network.
    pub(crate) fn new(peer: PeerId, network: Option<GossipHandle>) -> Self {
        Self { hub: Arc::default(), peer, network, wanted: Arc::default(), tracking: Arc::default() }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Who keeps copies of keys.
    pub(crate) fn tracking(&self) -> &Arc<Tracking> {
        &self.tracking
    }

    /// Chooses the keyspace notifications.
    pub(crate) fn notify_of(&self, letters: Letters) {
        self.wanted.set(letters);
    }

    /// The letters of the keyspace notifications that are told.
    pub(crate) fn notified_of(&self) -> String {
        self.wanted.text()
    }

    /// Tells local subscribers and all peers; answers how many local subscribers were told.
    pub(crate) fn publish(
        &self,
        space: Space,
        channel: &[u8],
        payload: &[u8],
    ) -> Result<usize, PublishError> {
        let bytes = channel.len() + payload.len();
        if bytes > PUBLISHED_BYTES_MAX {
            return Err(PublishError::TooLarge { bytes });
        }
        let letter =
            Letter { space, channel: channel.to_vec(), payload: payload.to_vec(), author: self.peer };
        if let Some(network) = &self.network {
            // What the network cannot take is counted there: to its peers it is as if they had been away.
            let _ = network.publish(letter.encode());
        }
        Ok(self.hub.tell(letter))
    }

    /// Tells local subscribers what peers publish, until the transport ends.
    pub(crate) async fn hear(self) {
        let Some(network) = &self.network else { return };
        while let Some(heard) = network.heard().await {
            for heard in heard {
                match Letter::decode(heard.author, &heard.message) {
                    Some(letter) => drop(self.hub.tell(letter)),
                    None => self.hub.note_malformed(),
                }
            }
        }
    }

    /// A subscription of the library.
    pub(crate) fn subscription(&self) -> Subscription {
        Subscription(Hub::subscriber(&self.hub, SUBSCRIPTION_BYTES_MAX))
    }

    /// What was published and heard through the network.
    pub(crate) fn network_figures(&self) -> GossipFigures {
        self.network.as_ref().map(GossipHandle::figures).unwrap_or_default()
    }
}

/// A subscriber. When it is dropped it has unsubscribed.
#[derive(Debug)]
pub struct Subscription(Subscriber);

impl Subscription {
    /// Also listens to a channel.
    pub fn subscribe(&mut self, channel: impl AsRef<[u8]>) {
        self.0.subscribe(Space::Plain, channel.as_ref());
    }

    /// Also listens to all channels that match a pattern, as Redis has them: `*`, `?`, `[a-z]`. A message that comes
    /// by two ways is told twice.
    pub fn subscribe_pattern(&mut self, pattern: impl AsRef<[u8]>) {
        self.0.subscribe(Space::Pattern, pattern.as_ref());
    }

    /// Listens to a channel no more. What waits of it is still told.
    pub fn unsubscribe(&mut self, channel: impl AsRef<[u8]>) {
        self.0.unsubscribe(Space::Plain, channel.as_ref());
    }

    /// Listens to a pattern no more. What waits of it is still told.
    pub fn unsubscribe_pattern(&mut self, pattern: impl AsRef<[u8]>) {
        self.0.unsubscribe(Space::Pattern, pattern.as_ref());
    }

    /// The next message, or how many were lost because this was not called often enough: 8 MiB wait at most. It waits
    /// for as long as it takes. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Notice {
        self.0.next().await
    }
}
