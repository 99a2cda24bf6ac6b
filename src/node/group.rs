//! What happens to the group of anchors, for whoever wants to know: who leads, what this node is in it, how far it is
//! committed, and who is in it.

use std::collections::VecDeque;

use tidelock_engine::ports::{AnchorId, LogIndex, Membership, Role, Status, Term};
use tokio::sync::watch;

use crate::node::Node;

/// Something that happened to the group of anchors. Of several changes between two looks the last is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// This anchor leads from now on, or nobody, as far as is known here.
    Leader {
        /// Who leads.
        leader: Option<AnchorId>,
        /// In which term.
        term: Term,
    },
    /// This node is something else in the group.
    Role(Role),
    /// The log is committed up to here.
    Committed(LogIndex),
    /// The group has these members.
    Members(Membership),
}

/// The events of the group of anchors, from what it is now on. On a node that is no anchor there are none.
#[derive(Debug)]
pub struct GroupEvents {
    statuses: watch::Receiver<Status>,
    last: Status,
    ready: VecDeque<GroupEvent>,
}

impl Node {
    /// What happens to the group of anchors, as far as this node takes part in it, beginning with what it is now.
    pub fn group_events(&self) -> GroupEvents {
        let mut statuses = self.inner.group.clone();
        statuses.mark_changed();
        GroupEvents { statuses, last: Status::default(), ready: VecDeque::new() }
    }

    /// How the group of anchors stands, as far as this node takes part in it.
    pub fn group(&self) -> Status {
        self.inner.group.borrow().clone()
    }
}

impl GroupEvents {
    /// The next event; none once the node is shut down. Nothing is lost if this future is dropped.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        while self.ready.is_empty() {
            self.statuses.changed().await.ok()?;
            let status = self.statuses.borrow_and_update().clone();
            self.ready.extend(between(&self.last, &status));
            self.last = status;
        }
        self.ready.pop_front()
    }
}

/// What happened between two statuses.
fn between(before: &Status, now: &Status) -> Vec<GroupEvent> {
    let mut events = Vec::new();
    if before.membership != now.membership {
        events.push(GroupEvent::Members(now.membership.clone()));
    }
    if (before.leader, before.term) != (now.leader, now.term) {
        events.push(GroupEvent::Leader { leader: now.leader, term: now.term });
    }
    if before.role != now.role {
        events.push(GroupEvent::Role(now.role));
    }
    if let Some(committed) = now.committed.filter(|committed| before.committed != Some(*committed)) {
        events.push(GroupEvent::Committed(committed));
    }
    events
}
