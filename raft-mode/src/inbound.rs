//! What other anchors ask of this one: checked against who they proved to be, then carried out in a task of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::raft::{TransferLeaderError, TransferLeaderRequest};
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::AnchorId;

use crate::counters::Refused;
use crate::counters::count;
use crate::message::{Body, Forwarded, Frame, Transferred};
use crate::proposals::Tried;
use crate::rounds;
use crate::runtime::lock;
use crate::shared::Shared;
use crate::types::{LogId, Types, Vote};
use crate::wire::{self, DecodeError};
use crate::{reads, snapshot};

/// The requests of one anchor that are open at once, at most. Its proposals are most of them.
pub(crate) const REQUESTS_MAX: usize = 4096;

/// How long a request that names its own time may take, at most.
pub(crate) const WITHIN_MAX: Duration = Duration::from_mins(1);

/// The newest requests of one life of an anchor that are remembered, so that none is carried out twice.
const REMEMBERED_MAX: usize = 2 * REQUESTS_MAX;

/// The newest lives of an anchor of which requests are remembered.
const LIVES_MAX: usize = 4;

/// How many requests of each anchor are open, and which were taken.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    open: Mutex<BTreeMap<AnchorId, usize>>,
    taken: Mutex<BTreeMap<AnchorId, VecDeque<Taken>>>,
}

/// The requests of one life of an anchor that were taken.
#[derive(Debug)]
struct Taken {
    life: u64,
    numbers: BTreeSet<u64>,
    /// Below this a number counts as taken.
    floor: u64,
}

impl Inbound {
    /// Whether a request comes for the first time. A proposal that came twice could be refused once and appended once,
    /// and be told to be certainly not done.
    fn is_first(&self, from: AnchorId, life: u64, number: u64) -> bool {
        let mut taken = lock(&self.taken);
        let lives = taken.entry(from).or_default();
        let at = lives.iter().position(|it| it.life == life).unwrap_or_else(|| {
            if lives.len() >= LIVES_MAX {
                lives.pop_front();
            }
            lives.push_back(Taken { life, numbers: BTreeSet::new(), floor: 0 });
            lives.len() - 1
        });
        let life = &mut lives[at];
        let is_first = number >= life.floor && life.numbers.insert(number);
        if life.numbers.len() > REMEMBERED_MAX {
            life.floor = life.numbers.pop_first().map_or(life.floor, |gone| gone.saturating_add(1));
        }
        is_first
    }
}

/// One open request; it is closed when this is dropped, however its task ends.
struct Slot {
    shared: Arc<Shared>,
    from: AnchorId,
}

impl Slot {
    fn take(shared: &Arc<Shared>, from: AnchorId) -> Option<Self> {
        let mut open = lock(&shared.inbound.open);
        let number = open.entry(from).or_default();
        if *number >= REQUESTS_MAX {
            return None;
        }
        *number += 1;
        Some(Self { shared: Arc::clone(shared), from })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.shared.inbound.open);
        let number = open.get_mut(&self.from).map_or(0, |number| {
            *number -= 1;
            *number
        });
        if number == 0 {
            open.remove(&self.from);
        }
    }
}

/// Takes a message from a peer, or refuses it and counts why.
pub(crate) fn received(shared: &Arc<Shared>, from: PeerId, bytes: &[u8]) {
    if let Err(reason) = check(shared, from, bytes).and_then(|frame| accept(shared, from, frame)) {
        shared.counters.refuse(reason);
        tracing::debug!(group = %shared.group, %from, reason = reason.word(), "a message was refused");
    }
}

/// The frame, if its sender may say that.
fn check(shared: &Shared, from: PeerId, bytes: &[u8]) -> Result<Frame, Refused> {
    let frame = Frame::decode(bytes).map_err(|error| match error {
        DecodeError::OutOfBounds => Refused::OutOfBounds,
        _ => Refused::Malformed,
    })?;
    if frame.group != shared.group.0 || frame.to != shared.me.0 {
        return Err(Refused::NotForUs);
    }
    if !shared.directory.is(AnchorId(frame.from), from) {
        return Err(Refused::NotMember);
    }
    // Nobody asks for a vote, or leads, in another's name. A leader that leads is one that a majority confirmed.
    let must_lead = matches!(frame.body, Body::Append(_) | Body::Chunk(_) | Body::Transfer { .. });
    let is_own =
        frame.body.claims().is_none_or(|vote| vote.anchor == frame.from && vote.is_committed == must_lead);
    if is_own { Ok(frame) } else { Err(Refused::OtherVote) }
}

fn accept(shared: &Arc<Shared>, from: PeerId, frame: Frame) -> Result<(), Refused> {
    if frame.body.is_answer() {
        return if shared.requests.answer(frame) { Ok(()) } else { Err(Refused::Late) };
    }
    if !shared.inbound.is_first(AnchorId(frame.from), frame.life, frame.request) {
        return Err(Refused::Again);
    }
    let slot = Slot::take(shared, AnchorId(frame.from)).ok_or(Refused::Busy)?;
    shared.tasks.spawn(async move {
        let shared = &slot.shared;
        let (asked_by, life, request) = (frame.from, frame.life, frame.request);
        let Some(body) = serve(shared, frame).await else { return };
        let class = body.class();
        let answer = Frame { group: shared.group.0, from: shared.me.0, to: asked_by, life, request, body };
        if !shared.outbox.send(from, class, answer.encode()) {
            count(&shared.counters.sends_dropped);
        }
    });
    Ok(())
}

/// Carries a request out. There is no answer to what cannot be carried out: the other side's time runs out.
async fn serve(shared: &Arc<Shared>, frame: Frame) -> Option<Body> {
    let raft = shared.raft()?;
    match frame.body {
        Body::Append(append) => Some(Body::Appended(raft.append_entries(append.into()).await.ok()?.into())),
        Body::Vote(request) => Some(voted(&raft.vote(request.into()).await.ok()?)),
        Body::PreVote(request) => Some(voted(&raft.pre_vote(request.into()).await.ok()?)),
        Body::Transfer { vote, to, last } => {
            let request = TransferLeaderRequest::<Types>::new(Vote::from(vote), to, last.map(LogId::from));
            Some(Body::Transferred(transferred(&raft.handle_transfer_leader(request).await.ok()?)))
        }
        Body::ReadIndex { within_ms } => {
            let within = Duration::from_millis(within_ms.into()).min(WITHIN_MAX);
            let index = tokio::time::timeout(within, reads::lead(shared)).await.ok()?;
            Some(Body::Index(index.map(|index| index.0)))
        }
        Body::Forward { within_ms, command } => {
            let within = Duration::from_millis(within_ms.into()).min(WITHIN_MAX);
            let tried = rounds::append(shared, command, tokio::time::Instant::now() + within).await;
            Some(Body::Forwarded(match tried {
                Tried::Done { index, reply } => Forwarded::Done { index: index.0, reply },
                Tried::Not(reason) => Forwarded::Not(reason),
                Tried::Unknown => Forwarded::Unknown,
            }))
        }
        Body::Chunk(chunk) => snapshot::receive(shared, chunk).await,
        _ => None,
    }
}

fn voted(response: &openraft::raft::VoteResponse<Types>) -> Body {
    Body::Voted {
        vote: response.vote.into(),
        is_granted: response.vote_granted,
        last: response.last_log_id.map(wire::LogId::from),
    }
}

fn transferred(response: &openraft::raft::TransferLeaderResponse<Types>) -> Transferred {
    match response {
        Ok(()) => Transferred::Taken,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Transferred::VoteChanged { expected: (*expected).into(), actual: (*actual).into() }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            let (expected, actual) = (expected.map(wire::LogId::from), actual.map(wire::LogId::from));
            Transferred::NotFlushed { expected, actual }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_carried_out_once() {
        let (inbound, anchor) = (Inbound::default(), AnchorId(1));
        assert!(inbound.is_first(anchor, 7, 0) && inbound.is_first(anchor, 7, 1));
        assert!(!inbound.is_first(anchor, 7, 0), "again");
        assert!(inbound.is_first(anchor, 8, 0), "of another life");
        assert!(inbound.is_first(AnchorId(2), 7, 0), "of another anchor");
        let many = REMEMBERED_MAX as u64;
        assert!((2..many + 10).all(|number| inbound.is_first(anchor, 7, number)));
        assert!(!inbound.is_first(anchor, 7, 3), "forgotten, and so not first");
        assert!((9..9 + LIVES_MAX as u64).all(|life| inbound.is_first(anchor, life, 0)));
        assert_eq!(lock(&inbound.taken)[&anchor].len(), LIVES_MAX);
    }
}
