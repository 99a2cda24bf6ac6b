//! Proposals: appended here if this anchor leads, else sent to whoever does, and tried again for as long as it is
//! certain that nothing was appended.
//!
//! What is appended here and lost sight of is unknown: `rounds` draws that line. A forwarded proposal is certainly not
//! done if the leader says so or if it was never sent; otherwise no answer is an unknown one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelock_engine::ports::{AnchorId, COMMAND_BYTES_MAX, LogIndex, NotDone, Outcome, Output, RequestId};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::counters::count;
use crate::inbound::WITHIN_MAX;
use crate::message::{Body, Forwarded};
use crate::network::NoAnswer;
use crate::rounds;
use crate::shared::Shared;
use crate::types::Command;

/// The proposals of this anchor that are open at once, at most.
pub(crate) const PROPOSALS_MAX: usize = 4096;

/// The bytes of the proposals of this anchor that are open at once, at most.
pub(crate) const PROPOSALS_BYTES_MAX: usize = 64 << 20;

/// How long to wait before asking again who leads.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    number: AtomicUsize,
    bytes: AtomicUsize,
}

/// What became of trying once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Done { index: LogIndex, reply: Vec<u8> },
    Not(NotDone),
    Unknown,
}

/// One open proposal; it is closed when this is dropped, however its task ends.
struct Slot {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Slot {
    fn take(shared: &Arc<Shared>, bytes: usize) -> Result<Self, NotDone> {
        if bytes > COMMAND_BYTES_MAX {
            return Err(NotDone::TooLarge { bytes });
        }
        if shared.is_stopped() {
            return Err(NotDone::Stopped);
        }
        let slot = Self { shared: Arc::clone(shared), bytes };
        let number = shared.proposals.number.fetch_add(1, Ordering::Relaxed);
        let before = shared.proposals.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_free = number < PROPOSALS_MAX && before + bytes <= PROPOSALS_BYTES_MAX;
        if is_free { Ok(slot) } else { Err(NotDone::Busy) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.proposals.number.fetch_sub(1, Ordering::Relaxed);
        self.shared.proposals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Proposes a command and answers by an output.
pub(crate) fn propose(shared: &Arc<Shared>, id: RequestId, command: Vec<u8>, within: Duration) {
    let slot = match Slot::take(shared, command.len()) {
        Ok(slot) => slot,
        Err(reason) => return shared.outbox.push(Output::Proposed { id, outcome: Outcome::Not(reason) }),
    };
    let deadline = Instant::now() + within.min(WITHIN_MAX);
    let command = Command(command.into());
    shared.tasks.spawn(async move {
        let outcome = drive(&slot.shared, command, deadline).await;
        slot.shared.outbox.push(Output::Proposed { id, outcome });
    });
}

/// Tries until it is done, unknown, or too late.
async fn drive(shared: &Arc<Shared>, command: Command, deadline: Instant) -> Outcome {
    let mut reason = NotDone::NoLeader;
    loop {
        let tried = match leader(shared) {
            Some(leader) if leader == shared.me => rounds::append(shared, command.clone(), deadline).await,
            Some(leader) => forward(shared, leader, command.clone(), deadline).await,
            None => Tried::Not(NotDone::NoLeader),
        };
        match tried {
            Tried::Done { index, reply } => return when_applied(shared, index, reply, deadline).await,
            Tried::Unknown => return Outcome::Unknown,
            Tried::Not(NotDone::NoLeader | NotDone::NotLeader { .. }) => (),
            Tried::Not(other) => reason = other,
        }
        if shared.is_stopped() {
            return Outcome::Not(NotDone::Stopped);
        }
        if Instant::now() + RETRY >= deadline {
            sleep_until(deadline).await;
            return Outcome::Not(reason);
        }
        sleep_until(Instant::now() + RETRY).await;
    }
}

/// It is done in the group. It is acknowledged here once it is applied here, so that a read here sees it.
async fn when_applied(shared: &Shared, index: LogIndex, reply: Vec<u8>, deadline: Instant) -> Outcome {
    match timeout_at(deadline, shared.progress.wait(index)).await {
        Ok(()) => Outcome::Done { index, reply },
        Err(_) => Outcome::Unknown,
    }
}

/// Who leads, as far as is known here.
pub(crate) fn leader(shared: &Shared) -> Option<AnchorId> {
    use openraft::async_runtime::watch::WatchReceiver as _;
    let metrics = shared.raft()?.server_metrics();
    let leader = metrics.borrow_watched().current_leader;
    leader.map(AnchorId)
}

/// Has the leader append a command. The leader does not send it on: it answers that it leads no more.
async fn forward(shared: &Shared, leader: AnchorId, command: Command, deadline: Instant) -> Tried {
    let Some(peer) = shared.directory.peer(leader) else { return Tried::Not(NotDone::NoLeader) };
    count(&shared.counters.forwarded);
    let within = deadline.saturating_duration_since(Instant::now());
    let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    match shared.ask(leader, peer, Body::Forward { within_ms, command }, within).await {
        Ok(Body::Forwarded(Forwarded::Done { index, reply })) => {
            Tried::Done { index: LogIndex(index), reply }
        }
        Ok(Body::Forwarded(Forwarded::Not(reason))) => Tried::Not(reason),
        Err(NoAnswer::NotSent) => Tried::Not(NotDone::Busy),
        Err(NoAnswer::NotConnected) => Tried::Not(NotDone::NoLeader),
        Ok(_) | Err(_) => Tried::Unknown,
    }
}
