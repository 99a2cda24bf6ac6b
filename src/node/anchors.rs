//! What the operator orders of the group of anchors.

use tidelock_engine::replica::{AnchorError, AnchorOrder, GroupReport, Order, OtherGroup};
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

    /// The group of anchors, at most a tenth of a second old; none as long as nothing is known of one.
    pub fn anchors(&self) -> Option<GroupReport> {
        self.report().group.clone()
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

/// What an operator should look at.
pub(super) fn describe(group: &GroupReport) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(reason) = &group.stopped {
        warnings.push(format!("this anchor takes no part in its group until it is started again: {reason}"));
    }
    if let Some(OtherGroup { peer, group, known }) = &group.other {
        let known = known.map_or("none".to_owned(), |known| known.to_string());
        warnings.push(format!(
            "peer {peer} tells of the group of anchors {group} what is not so: the one that is known here is {known}"
        ));
    }
    let of_thin =
        |name| format!("keyspace {name}: fewer than a majority of the anchors are known to have all of it");
    warnings.extend(group.thin.iter().map(of_thin));
    if group.seat.is_some() && !group.has_quorum && group.stopped.is_none() {
        warnings.push("no majority of the anchors answers this one".to_owned());
    }
    warnings
}
