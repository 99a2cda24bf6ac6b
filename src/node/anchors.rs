//! What the operator orders of the group of anchors.

use tidelock_engine::replica::{AnchorError, AnchorOrder, Order};
use tokio::sync::oneshot;

use crate::node::mailbox::Job;
use crate::node::{KeyspaceError, Node};

impl Node {
    /// Makes the group of anchors, or finds that this node is one of them. What comes of it is in the log.
    pub(super) fn found(&self) {
        let (sender, receiver) = oneshot::channel();
        self.put(Job::Govern(AnchorOrder::Found, sender));
        tokio::spawn(async move {
            if let Ok(Err(error)) = receiver.await {
                tracing::error!(%error, "cannot make the group of anchors");
            }
        });
    }

    /// Orders something of the group of anchors, and waits for what comes of it.
    ///
    /// # Errors
    /// [`AnchorError`] says why it was not done.
    pub async fn govern(&self, order: AnchorOrder) -> Result<(), AnchorError> {
        let (sender, receiver) = oneshot::channel();
        if !self.put(Job::Govern(order, sender)) {
            return Err(AnchorError::Closed);
        }
        receiver.await.unwrap_or(Err(AnchorError::Closed))
    }

    /// Makes a keyspace strong, which must hold nothing: from then on it is linearizable, and writes need a majority of
    /// the anchors.
    ///
    /// # Errors
    /// [`KeyspaceError`] says what is in the way.
    pub async fn make_strong(&self, keyspace: &str) -> Result<(), KeyspaceError> {
        Ok(self.order(keyspace.parse()?, Order::MakeStrong).await?)
    }
}
