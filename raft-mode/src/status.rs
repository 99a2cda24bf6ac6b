//! What openraft says of itself, as the engine's [`Status`].

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tidelock_engine::ports::{AnchorId, LogIndex, Role, Status, Term};

use crate::shared::Shared;
use crate::types::{self, Raft, Types};

/// Tells the driver of every change, and the directory of every membership, until the group ends.
pub(crate) async fn watch(shared: Arc<Shared>, raft: Raft) {
    let mut metrics = raft.metrics();
    let mut told = Status::default();
    loop {
        let (status, failure) = {
            let metrics = metrics.borrow_and_update();
            (status(&metrics), metrics.running_state.as_ref().err().map(ToString::to_string))
        };
        shared.directory.own(status.membership_index, &status.membership.members);
        // Indexes change with every entry; whoever wants them finds them at the next poll.
        let is_urgent = (status.term, status.leader, status.role) != (told.term, told.leader, told.role)
            || status.membership != told.membership;
        told = status.clone();
        shared.outbox.status(status, is_urgent);
        if let Some(reason) = failure {
            return shared.stop(&reason);
        }
        if metrics.changed().await.is_err() {
            return shared.stop("openraft ended");
        }
    }
}

fn status(metrics: &RaftMetrics<Types>) -> Status {
    let membership = types::membership(metrics.membership_config.membership());
    Status {
        term: Term(metrics.current_term),
        leader: metrics.current_leader.map(AnchorId),
        role: match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        },
        membership,
        membership_index: types::index(metrics.membership_config.log_id().as_ref()),
        last: metrics.last_log_index.map(LogIndex),
        committed: types::index(metrics.local_committed.as_ref()),
        applied: types::index(metrics.last_applied.as_ref()),
        snapshot: types::index(metrics.snapshot.as_ref()),
        purged: types::index(metrics.purged.as_ref()),
        quorum_ack_age: metrics.last_quorum_acked.map(|at| at.into_inner().elapsed()),
    }
}
