//! Changes of the group itself: who is in it, who votes, who leads.
//!
//! A change that would leave the group without a majority is refused before it is begun: an even number of voters,
//! which survives no more failures than one fewer; a voter that is not caught up; voters of which no majority answers
//! now; a change while another is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition, RaftMetrics};
use tidelock_engine::ports::{AnchorId, Change, Member, NotDone, Output, RequestId};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::inbound::WITHIN_MAX;
use crate::proposals::RETRY;
use crate::shared::Shared;
use crate::types::{LogId, Raft, Seat, Types};
use crate::wire::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, MEMBERS_MAX, NUMBER_MAX};

/// How many entries a learner may be behind when it is made a voter.
pub(crate) const PROMOTION_LAG_MAX: u64 = 1000;

/// What became of a change; `None` is unknown.
type Result = Option<std::result::Result<(), NotDone>>;

/// Begins a change and answers by an output.
pub(crate) fn administer(shared: &Arc<Shared>, id: RequestId, change: Change, within: Duration) {
    let deadline = Instant::now() + within.min(WITHIN_MAX);
    let shared = Arc::clone(shared);
    shared.clone().tasks.spawn(async move {
        let result = drive(&shared, change, deadline).await;
        shared.outbox.push(Output::Administered { id, result });
    });
}

/// Tries until the leader may change something: right after its election it may not for a moment.
async fn drive(shared: &Shared, change: Change, deadline: Instant) -> Result {
    loop {
        let result = match shared.raft() {
            Some(raft) => timeout_at(deadline, begin(shared, raft, &change)).await.unwrap_or(None),
            None if shared.is_stopped() => Some(Err(NotDone::Stopped)),
            None => Some(Err(NotDone::NotLeader { leader: None })),
        };
        let is_ours = |leader: &Option<AnchorId>| leader.is_none_or(|leader| leader == shared.me);
        let is_early = matches!(&result, Some(Err(NotDone::NotLeader { leader })) if is_ours(leader));
        if !is_early || Instant::now() + RETRY >= deadline {
            return result;
        }
        sleep_until(Instant::now() + RETRY).await;
    }
}

async fn begin(shared: &Shared, raft: &Raft, change: &Change) -> Result {
    let metrics = raft.metrics().borrow_watched().clone();
    match change {
        Change::Found(members) => found(shared, raft, members).await,
        Change::Snapshot => Some(raft.trigger().snapshot().await.map_err(|_| NotDone::Stopped)),
        Change::Transfer(to) => {
            if let Err(reason) = check_transfer(shared, &metrics, *to) {
                return Some(Err(reason));
            }
            hand_over(shared, raft, *to).await
        }
        Change::AddLearner(anchor, member) => {
            if let Err(reason) = check_member(&metrics, *anchor, member) {
                return Some(Err(reason));
            }
            let seat = BTreeMap::from([(anchor.0, Seat::from(member.clone()))]);
            change_members(raft, &metrics, ChangeMembers::AddNodes(seat)).await
        }
        Change::SetVoters(voters) => {
            if let Err(reason) = check_voters(shared, &metrics, voters) {
                return Some(Err(reason));
            }
            let voters = voters.iter().map(|anchor| anchor.0).collect();
            change_members(raft, &metrics, ChangeMembers::ReplaceAllVoters(voters)).await
        }
        Change::RemoveLearner(anchor) => {
            let membership = metrics.membership_config.membership();
            if membership.voter_ids().any(|voter| voter == anchor.0) {
                return Some(refuse(format!("{anchor} votes; choose other voters first")));
            }
            change_members(raft, &metrics, ChangeMembers::RemoveNodes(BTreeSet::from([anchor.0]))).await
        }
    }
}

fn refuse<T>(reason: impl Into<String>) -> std::result::Result<T, NotDone> {
    Err(NotDone::Refused { reason: reason.into() })
}

async fn found(shared: &Shared, raft: &Raft, members: &BTreeMap<AnchorId, Member>) -> Result {
    if !members.contains_key(&shared.me) || members.len() > MEMBERS_MAX {
        return Some(refuse("the founder is one of the voters, of which there are at most 64"));
    }
    if let Some((anchor, _)) = members.iter().find(|(anchor, member)| !is_bounded(**anchor, member)) {
        return Some(refuse(format!("{anchor} or its addresses are out of bounds")));
    }
    let seats: BTreeMap<u64, Seat> =
        members.iter().map(|(anchor, member)| (anchor.0, member.clone().into())).collect();
    match raft.initialize(seats).await {
        Ok(()) => Some(Ok(())),
        Err(RaftError::APIError(error)) => Some(refuse(error.to_string())),
        Err(RaftError::Fatal(_)) => Some(Err(NotDone::Stopped)),
    }
}

/// Asks another one to lead until somebody else does. It takes over only when it has the whole log, which may be on its
/// way; meanwhile openraft appends nothing.
async fn hand_over(shared: &Shared, raft: &Raft, to: AnchorId) -> Result {
    let metrics = raft.server_metrics();
    let mut leads = true;
    loop {
        if leads && raft.trigger().transfer_leader(to.0).await.is_err() {
            return Some(Err(NotDone::Stopped));
        }
        sleep_until(Instant::now() + shared.settings.heartbeat).await;
        let leader = metrics.borrow_watched().current_leader.map(AnchorId);
        match leader {
            Some(leader) if leader == to => return Some(Ok(())),
            Some(leader) if leader != shared.me => return Some(refuse(format!("{leader} leads now"))),
            _ => leads = leader.is_some(),
        }
    }
}

/// Changes the membership if it is still the one that the change was checked against.
async fn change_members(
    raft: &Raft,
    metrics: &RaftMetrics<Types>,
    change: ChangeMembers<u64, Seat>,
) -> Result {
    let seen: Option<LogId> = *metrics.membership_config.log_id();
    let condition = Precondition::LastMembershipLogId { last_membership_log_id: seen };
    match raft.change_membership_if(change, false, [condition]).await {
        Ok(_) => Some(Ok(())),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Some(Err(NotDone::NotLeader { leader: forward.leader_id.map(AnchorId) }))
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
            Some(refuse(error.to_string()))
        }
        Err(RaftError::APIError(ClientWriteError::PreconditionFailed(_))) => {
            Some(refuse("the membership has just been changed otherwise"))
        }
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_)) => None,
    }
}

fn check_leads(shared: &Shared, metrics: &RaftMetrics<Types>) -> std::result::Result<(), NotDone> {
    let leader = metrics.current_leader.map(AnchorId);
    if leader == Some(shared.me) { Ok(()) } else { Err(NotDone::NotLeader { leader }) }
}

fn check_transfer(
    shared: &Shared,
    metrics: &RaftMetrics<Types>,
    to: AnchorId,
) -> std::result::Result<(), NotDone> {
    check_leads(shared, metrics)?;
    let mut voters = metrics.membership_config.membership().voter_ids();
    match voters.any(|voter| voter == to.0) {
        true if !answers(shared, metrics, to) => refuse(format!("{to} does not answer")),
        true => Ok(()),
        false => refuse(format!("{to} does not vote")),
    }
}

/// Whether its number and its addresses can be stored and read again.
fn is_bounded(anchor: AnchorId, member: &Member) -> bool {
    let addresses = &member.addresses;
    let are_short = addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX);
    anchor.0 < NUMBER_MAX && addresses.len() <= ADDRESSES_MAX && are_short
}

fn check_member(
    metrics: &RaftMetrics<Types>,
    anchor: AnchorId,
    member: &Member,
) -> std::result::Result<(), NotDone> {
    let membership = metrics.membership_config.membership();
    if !is_bounded(anchor, member) || membership.nodes().count() >= MEMBERS_MAX {
        return refuse(format!(
            "{anchor} or its addresses are out of bounds, or there are {MEMBERS_MAX} members"
        ));
    }
    match membership.get_node(&anchor.0) {
        Some(seat) if seat.public_key != *member.peer.public_key() => {
            refuse(format!("{anchor} is another peer; an anchor's id is never used again"))
        }
        _ => Ok(()),
    }
}

/// Whether an anchor has answered within two elections.
fn answers(shared: &Shared, metrics: &RaftMetrics<Types>, anchor: AnchorId) -> bool {
    use openraft::Instant as _;
    let last = metrics.heartbeat.as_ref().and_then(|all| all.get(&anchor.0).copied().flatten());
    anchor == shared.me || last.is_some_and(|at| at.into_inner().elapsed() < shared.settings.election_max * 2)
}

fn check_voters(
    shared: &Shared,
    metrics: &RaftMetrics<Types>,
    voters: &BTreeSet<AnchorId>,
) -> std::result::Result<(), NotDone> {
    check_leads(shared, metrics)?;
    let membership = metrics.membership_config.membership();
    if voters.len().is_multiple_of(2) {
        let number = voters.len();
        return refuse(format!(
            "{number} voters survive no more failures than one fewer; choose an odd number"
        ));
    }
    if membership.get_joint_config().len() > 1 {
        return refuse("a change of the voters is under way");
    }
    let votes_now = |anchor: &AnchorId| membership.voter_ids().any(|voter| voter == anchor.0);
    let matched = |anchor: &AnchorId| {
        let all = metrics.replication.as_ref();
        all.and_then(|all| all.get(&anchor.0).copied().flatten()).map(|id| id.index)
    };
    let last = metrics.last_log_index.unwrap_or(0);
    for anchor in voters.iter().filter(|anchor| !votes_now(anchor)) {
        if membership.get_node(&anchor.0).is_none() {
            return refuse(format!("{anchor} is no member; add it as a learner first"));
        }
        if matched(anchor).is_none_or(|index| index + PROMOTION_LAG_MAX < last) {
            return refuse(format!("{anchor} is not caught up: it has {:?} of {last}", matched(anchor)));
        }
    }
    let alive = voters.iter().filter(|anchor| answers(shared, metrics, **anchor)).count();
    if alive * 2 <= voters.len() {
        return refuse(format!("only {alive} of these {} answer; there would be no majority", voters.len()));
    }
    Ok(())
}
