//! Who is an anchor: founding the group, and who joins it and leaves it.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Ask;
use crate::ports::{AnchorId, Change, Member, NotDone, RequestId as GroupRequestId};
use crate::replica::{Now, Replica, Step};
use crate::request::RequestId;

/// How long a change of the group may take, in milliseconds.
const CHANGED_WITHIN_MS: u64 = 30_000;

/// What the operator orders of the group of anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorOrder {
    /// Make the group, with this node as its first anchor. One that is an anchor already stays what it is.
    Found,
}

/// Why an order of the group was not carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnchorError {
    /// There are anchors already.
    #[error("the cluster has anchors already, such as {0}; a second group of them would be another cluster")]
    Founded(crate::id::PeerId),
    /// The group did not take the change.
    #[error(transparent)]
    Not(#[from] NotDone),
    /// Nobody knows whether the change was made.
    #[error("nobody knows whether the change was made; the list of anchors will show it")]
    Unknown,
    /// The store did not take it.
    #[error("{0}")]
    Commit(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// How an order of the group ended.
pub type AnchorReply = Result<(), AnchorError>;

/// What is open of what was ordered.
#[derive(Debug, Default)]
pub(super) struct Anchoring {
    changing: BTreeMap<GroupRequestId, RequestId>,
}

impl Replica {
    /// The operator orders something of the group.
    pub(crate) fn govern(&mut self, now: Now, request: RequestId, order: &AnchorOrder, step: &mut Step) {
        let reply = match order {
            AnchorOrder::Found => self.found(now, request, step),
        };
        if let Some(reply) = reply {
            step.governed.push((request, reply));
        }
    }

    fn found(&mut self, now: Now, request: RequestId, step: &mut Step) -> Option<AnchorReply> {
        if self.strong.anchor.is_some() && !self.strong.status.membership.voters.is_empty() {
            return Some(Ok(()));
        }
        if let Some(link) = self.links.values().find(|link| link.is_anchor) {
            return Some(Err(AnchorError::Founded(link.peer)));
        }
        let anchor = if let Some(anchor) = self.strong.anchor {
            anchor
        } else {
            let anchor = self.draw_anchor(now);
            self.seat(anchor, step);
            anchor
        };
        let member = Member { peer: self.peer, addresses: Vec::new() };
        self.change_group(request, Change::Found(BTreeMap::from([(anchor, member)])), step);
        None
    }

    /// This node is that anchor from now on.
    pub(super) fn seat(&mut self, anchor: AnchorId, step: &mut Step) {
        self.enter_group(anchor, step);
        step.asks.push(Ask::Open(anchor));
    }

    /// A number that no anchor has had: among so many nobody draws the same twice.
    fn draw_anchor(&self, now: Now) -> AnchorId {
        let mut hasher = blake3::Hasher::new_derive_key("tidelock 2026-11-21 number of an anchor");
        hasher.update(&self.config.key.to_seed());
        hasher.update(self.id.as_bytes());
        hasher.update(&now.unix_ms.to_be_bytes());
        hasher.update(&now.entropy.to_be_bytes());
        let drawn = *hasher.finalize().as_bytes().first_chunk().expect("a blake3 hash has 32 bytes");
        AnchorId(u64::from_be_bytes(drawn) >> (64 - AnchorId::BITS))
    }

    fn change_group(&mut self, request: RequestId, change: Change, step: &mut Step) {
        let id = self.strong.requests.next_id();
        self.strong.anchoring.changing.insert(id, request);
        step.asks.push(Ask::Administer { id, change, within_ms: CHANGED_WITHIN_MS });
    }

    /// What became of a change of the group.
    pub(super) fn administered(
        &mut self,
        id: GroupRequestId,
        result: Option<Result<(), NotDone>>,
        step: &mut Step,
    ) {
        let Some(request) = self.strong.anchoring.changing.remove(&id) else { return };
        let reply = match result {
            Some(result) => result.map_err(AnchorError::from),
            None => Err(AnchorError::Unknown),
        };
        step.governed.push((request, reply));
    }
}
