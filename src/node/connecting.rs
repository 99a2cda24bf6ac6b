//! Connecting to a peer at an address, and finding out what became of it.

use std::time::{Duration, Instant};

use thiserror::Error;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Target;
use tidelock_transport::{AddressError, TargetState, TargetStatus};

use super::Node;
use super::mailbox::Job;

/// The peers that a node keeps dialling at most.
const WANTED_MAX: usize = 256;

/// How often somebody who waits for a connection looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A report is at most so old.
const REPORTED_AFTER: Duration = Duration::from_millis(200);

/// Why a node is not connected with a peer. Unless the address cannot be used, it goes on trying.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no address that can be dialled. Nothing was changed.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Too many peers are wanted. Nothing was changed.
    #[error("{WANTED_MAX} peers are wanted already, which is the most there can be")]
    TooMany,
    /// The node is in airplane mode.
    #[error("not connected, for the node is offline; it goes on when it is online")]
    Offline,
    /// The first attempt failed.
    #[error("not connected: {0}; the node goes on trying")]
    Failed(String),
    /// Nothing was decided in time.
    #[error("not connected within {} s; the node goes on trying", .0.as_secs())]
    Late(Duration),
}

impl Node {
    /// Stays connected with the peer at a multiaddress, as [`Node::connect`] does, and waits for it: until the peer has
    /// greeted and is found to be of the same cluster, until a first attempt failed, or for so long.
    ///
    /// # Errors
    /// [`ConnectError`] says why it is not connected yet.
    pub async fn connected(&self, address: &str, within: Duration) -> Result<PeerId, ConnectError> {
        let refused = self.report().refusals.clone();
        let mut target = self.want(address)?;
        let (failures, started) = (target.failures, Instant::now());
        let mut was_seen = false;
        while started.elapsed() < within {
            let now = self.wanted(&target.target);
            // A peer that was turned away for what it said is left alone for a while, and so is not wanted.
            let is_gone = was_seen && now.is_none();
            was_seen |= now.is_some();
            target = now.unwrap_or(target);
            if let Some(peer) = target.peer.filter(|peer| self.has_greeted(*peer)) {
                return Ok(peer);
            }
            if target.state == TargetState::Offline {
                return Err(ConnectError::Offline);
            }
            if is_gone || target.failures > failures || target.state == TargetState::Unusable {
                tokio::time::sleep(REPORTED_AFTER).await;
                return Err(ConnectError::Failed(self.why_not(target, &refused)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(ConnectError::Late(within))
    }

    /// Begins to connect; answers how the target was doing before.
    pub(super) fn want(&self, address: &str) -> Result<TargetStatus, ConnectError> {
        tidelock_transport::check_address(address)?;
        let target = Target { peer: None, addresses: vec![address.to_owned()] };
        let known = self.wanted(&target);
        if known.is_none() && self.inner.network.targets().len() >= WANTED_MAX {
            return Err(ConnectError::TooMany);
        }
        self.put(Job::Connect(target.clone()));
        let unknown =
            TargetStatus { target, peer: None, state: TargetState::Dialing, failures: 0, last_error: None };
        Ok(known.unwrap_or(unknown))
    }

    fn wanted(&self, target: &Target) -> Option<TargetStatus> {
        self.inner.network.targets().into_iter().find(|status| status.target == *target)
    }

    /// Whether a peer is connected, has greeted, and was not turned away for what it said.
    fn has_greeted(&self, peer: PeerId) -> bool {
        self.report().links.iter().any(|link| link.peer == peer)
    }

    /// What a peer that was reached was refused for tells more than how its connection ended.
    fn why_not(&self, target: TargetStatus, refused: &[(PeerId, String)]) -> String {
        let report = self.report();
        let is_its = |(peer, reason): &&(PeerId, String)| match target.peer {
            Some(wanted) => wanted == *peer,
            None => !refused.contains(&(*peer, reason.clone())),
        };
        let refusal = report.refusals.iter().find(is_its).map(|(_, reason)| reason.clone());
        refusal.or(target.last_error).unwrap_or_else(|| "the peer was turned away".to_owned())
    }
}
