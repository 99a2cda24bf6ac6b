//! How a node goes on that was proven to be a copy, or an older state, of what it was, or whose replica was retired.
//!
//! Its replica takes no writes then, for it cannot know which names were given. Its operator lets it become another
//! replica; nothing that it has is lost, and what the old one wrote elsewhere comes from the peers.

use std::sync::PoisonError;

use thiserror::Error;
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::ports::{Store, Transport};
use tidelock_engine::replica::Now;
use tidelock_engine::turn::Driver;
use tokio::sync::oneshot;

use crate::identity::{self, IdentityError};
use crate::node::Node;
use crate::node::mailbox::Job;

/// Why a node did not rejoin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RejoinError {
    /// There is no need to. Nothing was changed.
    #[error(
        "this replica has one history and was not retired, so there is nothing to rejoin from; nothing was changed"
    )]
    NotForked,
    /// There is no name for the new replica. Nothing was changed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store did not take the change, or nobody knows whether it did: that shows after a restart.
    #[error("{0}")]
    Commit(String),
    /// The node is shutting down. Nothing was changed.
    #[error("the node is shutting down")]
    Closed,
}

impl Node {
    /// Goes on as another replica, after peers have shown operations of this one that it does not have, or that it was
    /// retired; answers which it is now. A node that needs this says so in its status, and refuses writes until then.
    ///
    /// # Errors
    /// [`RejoinError`] says what was changed.
    pub async fn rejoin(&self) -> Result<ReplicaId, RejoinError> {
        self.change_replica(false).await
    }

    /// The same, also of a replica that has one history if that `is_forced`.
    pub(super) async fn change_replica(&self, is_forced: bool) -> Result<ReplicaId, RejoinError> {
        let (sender, receiver) = oneshot::channel();
        if !self.put(Job::Rejoin(is_forced, sender)) {
            return Err(RejoinError::Closed);
        }
        let replica = receiver.await.map_err(|_| RejoinError::Closed)??;
        *self.inner.replica.lock().unwrap_or_else(PoisonError::into_inner) = replica;
        Ok(replica)
    }
}

/// What the event loop does.
pub(super) fn rejoin<S: Store, T: Transport>(
    driver: &mut Driver<S, T>,
    key: &SigningKey,
    now: Now,
    is_forced: bool,
) -> Result<ReplicaId, RejoinError> {
    if !driver.replica().must_rejoin() && !is_forced {
        return Err(RejoinError::NotForked);
    }
    let card = key.card(identity::random_bytes()?);
    driver.rejoin(now, card).map_err(|error| RejoinError::Commit(error.to_string()))?;
    Ok(card.replica())
}
