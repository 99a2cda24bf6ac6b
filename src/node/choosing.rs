//! Joining and leaving keyspaces while the node runs.

use thiserror::Error;
use tidelock_engine::id::{KeyspaceName, KeyspaceNameError};
use tidelock_engine::ports::Conditional;
use tidelock_engine::replica::{Order, OrderError};
use tokio::sync::oneshot;

use crate::node::mailbox::Job;
use crate::node::{Node, RejoinError};

/// Why a keyspace was not joined or left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyspaceError {
    /// The text is not a keyspace name. Nothing was changed.
    #[error(transparent)]
    Name(#[from] KeyspaceNameError),
    /// The node says what is in the way, and what was changed.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// It can be joined as another replica only, and the node could not become one.
    #[error(transparent)]
    Rejoin(#[from] RejoinError),
}

impl Node {
    /// Replicates a keyspace from now on, whatever the node was opened with, and also when it is opened again. What
    /// is in it comes from the peers; a node that has written there before it left answers that it is loading until
    /// all of it has come.
    ///
    /// If the keyspace was left by force, the node becomes another replica, as with [`Node::rejoin`].
    ///
    /// # Errors
    /// [`KeyspaceError`]; one that was just left may still be being dropped, which takes a moment.
    pub async fn join(&self, keyspace: &str) -> Result<(), KeyspaceError> {
        let name: KeyspaceName = keyspace.parse()?;
        match self.order(name.clone(), Order::Join).await {
            Err(OrderError::NeedsReplica(_)) => {
                self.change_replica(true).await?;
                Ok(self.order(name, Order::Join).await?)
            }
            result => Ok(result?),
        }
    }

    /// Replicates a keyspace no more, and drops what is here of it. It is not taken in again, whoever names it, until
    /// it is joined. The node waits for a connected peer that has all of it, for ten seconds at most, and takes no
    /// writes there meanwhile.
    ///
    /// # Errors
    /// [`OrderError::Unconfirmed`]: there is no such peer, and nothing was changed.
    pub async fn leave(&self, keyspace: &str) -> Result<(), KeyspaceError> {
        Ok(self.order(keyspace.parse()?, Order::Leave { is_forced: false }).await?)
    }

    /// Leaves a keyspace at once, whether a peer has it or not. What nobody else has is lost.
    ///
    /// # Errors
    /// [`KeyspaceError`] says what is in the way.
    pub async fn leave_by_force(&self, keyspace: &str) -> Result<(), KeyspaceError> {
        Ok(self.order(keyspace.parse()?, Order::Leave { is_forced: true }).await?)
    }

    /// Limits what a keyspace may hold on this node, in bytes, from now on and also when it is opened again; `None` is
    /// for what the config says, [`u64::MAX`] for no limit. Writes beyond are refused; what comes from peers is not.
    ///
    /// # Errors
    /// [`KeyspaceError`] says what is in the way.
    pub async fn set_quota(&self, keyspace: &str, bytes: Option<u64>) -> Result<(), KeyspaceError> {
        Ok(self.order(keyspace.parse()?, Order::Quota(bytes)).await?)
    }

    /// Says what is done on this node with what decides in an eventual keyspace, from now on and also when it is opened
    /// again; `None` is for what the config says.
    ///
    /// # Errors
    /// [`KeyspaceError`] says what is in the way.
    pub async fn set_conditional(
        &self,
        keyspace: &str,
        conditional: Option<Conditional>,
    ) -> Result<(), KeyspaceError> {
        Ok(self.order(keyspace.parse()?, Order::Conditional(conditional)).await?)
    }

    pub(super) async fn order(&self, keyspace: KeyspaceName, order: Order) -> Result<(), OrderError> {
        let (sender, receiver) = oneshot::channel();
        if !self.put(Job::Order(keyspace, order, sender)) {
            return Err(OrderError::Closed);
        }
        receiver.await.unwrap_or(Err(OrderError::Closed))
    }
}
