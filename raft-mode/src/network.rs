//! openraft's way to the other anchors: every call is a request with a number, sent as an output and answered by a
//! message that carries the number again, or by time.
//!
//! What is on its way to one peer is bounded: openraft has at most one append, one heartbeat, one vote and one piece
//! of a snapshot open with each, and proposals that are forwarded are bounded by [`FORWARDS_BYTES_MAX`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::AnchorId;
use tokio::sync::oneshot;

use crate::counters::count;
use crate::message::{Append, Body, Frame, Transferred};
use crate::runtime::lock;
use crate::shared::Shared;
use crate::snapshot;
use crate::types::{self, LogId, Seat, Snapshot, SnapshotBytes, Types, Vote};
use crate::wire;

/// The bytes of forwarded proposals that are open with one leader, at most.
pub(crate) const FORWARDS_BYTES_MAX: usize = 32 << 20;

/// Why a request has no answer. It may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It was never sent: too much is being sent.
    #[error("not sent")]
    NotSent,
    /// It was never sent: there is no connection.
    #[error("not connected")]
    NotConnected,
    /// Nothing came in time.
    #[error("no answer in time")]
    Late,
    /// The connection is gone.
    #[error("disconnected")]
    Disconnected,
    /// It is not an answer to that request.
    #[error("a wrong answer")]
    Wrong,
}

/// The requests that wait for their answers.
#[derive(Debug)]
pub(crate) struct Requests {
    /// This life of the process, for answers that come from before it.
    life: u64,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    to: AnchorId,
    forwarded_bytes: usize,
    answer: oneshot::Sender<Result<Body, NoAnswer>>,
}

impl Requests {
    pub(crate) fn new(life: u64) -> Self {
        Self { life, next: AtomicU64::new(0), open: Mutex::default() }
    }

    /// Hands an answer to whoever waits for it. False if nobody does.
    pub(crate) fn answer(&self, frame: Frame) -> bool {
        let mut open = lock(&self.open);
        let is_open = open.get(&frame.request).is_some_and(|it| it.to == AnchorId(frame.from));
        match (is_open && frame.life == self.life, frame.request) {
            (true, request) => open.remove(&request).is_some_and(|it| it.answer.send(Ok(frame.body)).is_ok()),
            (false, _) => false,
        }
    }

    /// Gives up what is open with some anchors.
    pub(crate) fn forget(&self, anchors: &std::collections::BTreeSet<AnchorId>) {
        lock(&self.open).retain(|_, open| !anchors.contains(&open.to));
    }

    /// Gives up a request that was not sent, if the message is one.
    pub(crate) fn untold(&self, message: &[u8]) {
        let Ok(frame) = Frame::decode(message) else { return };
        if frame.life == self.life
            && !frame.body.is_answer()
            && let Some(open) = lock(&self.open).remove(&frame.request)
        {
            // Whoever asked may have gone.
            let _ = open.answer.send(Err(NoAnswer::NotConnected));
        }
    }

    /// Gives up everything.
    pub(crate) fn forget_all(&self) {
        lock(&self.open).clear();
    }

    fn forwarded_bytes(&self, to: AnchorId) -> usize {
        lock(&self.open).values().filter(|open| open.to == to).map(|open| open.forwarded_bytes).sum()
    }
}

/// Takes a request from the open ones when whoever waits for it stops waiting, for whatever reason.
struct Waiting<'a> {
    requests: &'a Requests,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.requests.open).remove(&self.number);
    }
}

impl Shared {
    /// Sends a request to an anchor and waits for its answer, at most for a time.
    pub(crate) async fn ask(
        &self,
        to: AnchorId,
        peer: PeerId,
        body: Body,
        within: Duration,
    ) -> Result<Body, NoAnswer> {
        let forwarded_bytes = match &body {
            Body::Forward { command, .. } => command.0.len(),
            _ => 0,
        };
        if forwarded_bytes > 0 && self.requests.forwarded_bytes(to) + forwarded_bytes > FORWARDS_BYTES_MAX {
            return Err(NoAnswer::NotSent);
        }
        let number = self.requests.next.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        lock(&self.requests.open).insert(number, Open { to, forwarded_bytes, answer });
        let _waiting = Waiting { requests: &self.requests, number };
        let class = body.class();
        let frame = Frame {
            group: self.group.0,
            from: self.me.0,
            to: to.0,
            life: self.requests.life,
            request: number,
            body,
        };
        if !self.outbox.send(peer, class, frame.encode()) {
            count(&self.counters.sends_dropped);
            return Err(NoAnswer::NotSent);
        }
        match tokio::time::timeout(within, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NoAnswer::Disconnected),
            Err(_) => Err(NoAnswer::Late),
        }
    }
}

/// Makes openraft's way to each anchor.
pub(crate) struct Network {
    pub(crate) shared: Arc<Shared>,
}

/// openraft's way to one anchor.
pub(crate) struct Link {
    shared: Arc<Shared>,
    anchor: AnchorId,
    peer: PeerId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, seat: &Seat) -> Link {
        let peer = PeerId::from_public_key(seat.public_key);
        Link { shared: Arc::clone(&self.shared), anchor: AnchorId(target), peer }
    }
}

/// What openraft is told when there is no answer. It waits for a while before it tries an unreachable one again.
fn failed(error: NoAnswer) -> RPCError<Types> {
    match error {
        NoAnswer::NotSent | NoAnswer::NotConnected | NoAnswer::Disconnected => {
            RPCError::Unreachable(Unreachable::new(&error))
        }
        NoAnswer::Late | NoAnswer::Wrong => RPCError::Network(NetworkError::new(&error)),
    }
}

impl Link {
    async fn ask(&self, body: Body, within: Duration) -> Result<Body, RPCError<Types>> {
        self.shared.ask(self.anchor, self.peer, body, within).await.map_err(failed)
    }

    async fn ask_for_vote(
        &self,
        body: Body,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(body, option.soft_ttl()).await? {
            Body::Voted { vote, is_granted, last } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(LogId::from), is_granted))
            }
            _ => Err(failed(NoAnswer::Wrong)),
        }
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // The time that openraft gives, one heartbeat, is right for a heartbeat. Entries wait for a disk.
        let is_heartbeat = request.entries.is_empty();
        let within = if is_heartbeat { option.soft_ttl() } else { self.shared.settings.append_timeout };
        match self.ask(Body::Append(Append::from(request)), within).await? {
            Body::Appended(appended) => Ok(appended.into()),
            _ => Err(failed(NoAnswer::Wrong)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Body::Vote(request.into()), &option).await
    }

    // An anchor that cannot be reached does not grant: else one that is cut off would grant itself every term.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_for_vote(Body::PreVote(request.into()), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = snapshot::send(&self.shared, self.anchor, self.peer, vote, &snapshot);
        let (send, cancel) = (std::pin::pin!(send), std::pin::pin!(cancel));
        match futures::future::select(cancel, send).await {
            futures::future::Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            futures::future::Either::Right((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            futures::future::Either::Right((Err(error), _)) => Err(failed(error).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let vote = wire::Vote::from(*request.from_leader());
        let last = request.last_log_id().copied().map(wire::LogId::from);
        match self.ask(Body::Transfer { vote, to: *request.to_node_id(), last }, option.soft_ttl()).await? {
            Body::Transferred(Transferred::Taken) => Ok(Ok(())),
            Body::Transferred(Transferred::VoteChanged { expected, actual }) => {
                Ok(Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() }))
            }
            Body::Transferred(Transferred::NotFlushed { expected, actual }) => {
                let (expected, actual) = (expected.map(types::LogId::from), actual.map(types::LogId::from));
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            _ => Err(failed(NoAnswer::Wrong)),
        }
    }
}
