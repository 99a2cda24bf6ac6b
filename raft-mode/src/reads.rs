//! Linearizable reads: a barrier says from which index on a read sees everything that was done before it was asked.
//!
//! Barriers are answered in rounds. One round is open at a time: it asks the leader, which asks a majority whether it
//! still leads (`ReadIndex`; no clock is trusted); barriers that come meanwhile wait for the next, which begins after
//! they came. Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.4.

use std::collections::BTreeSet;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{Either, select};
use openraft::ReadPolicy;
use openraft::error::{LinearizableReadError, RaftError};
use tidelock_engine::ports::{AnchorId, LogIndex, NotDone, Output, RequestId};
use tokio::time::{Instant, sleep_until};

use crate::counters::count;
use crate::inbound::WITHIN_MAX;
use crate::message::Body;
use crate::proposals::{RETRY, leader};
use crate::runtime::lock;
use crate::shared::Shared;

/// The barriers that are open at once, at most.
pub(crate) const BARRIERS_MAX: usize = 65_536;

/// How long one round may take until another is tried.
const ROUND: Duration = Duration::from_secs(1);

/// The barriers of the next round, and whether a round is open.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Batch,
    is_open: bool,
}

/// Barriers by the time at which they are given up.
type Batch = BTreeSet<(Instant, RequestId)>;

/// Asks for a barrier and answers by an output.
pub(crate) fn barrier(shared: &Arc<Shared>, id: RequestId, within: Duration) {
    count(&shared.counters.barriers);
    let refuse = |reason| shared.outbox.push(Output::Barrier { id, result: Err(reason) });
    if shared.is_stopped() {
        return refuse(NotDone::Stopped);
    }
    {
        let mut state = lock(&shared.reads.state);
        if state.next.len() >= BARRIERS_MAX {
            drop(state);
            return refuse(NotDone::Busy);
        }
        state.next.insert((Instant::now() + within.min(WITHIN_MAX), id));
        if mem::replace(&mut state.is_open, true) {
            return;
        }
    }
    let shared = Arc::clone(shared);
    shared.clone().tasks.spawn(async move { rounds(&shared).await });
}

/// One round after the other, until nobody waits.
async fn rounds(shared: &Arc<Shared>) {
    loop {
        let batch = {
            let mut state = lock(&shared.reads.state);
            if state.next.is_empty() {
                state.is_open = false;
                return;
            }
            mem::take(&mut state.next)
        };
        count(&shared.counters.read_rounds);
        let Some((batch, found)) = expiring(shared, batch, find(shared)).await else { continue };
        match found {
            Ok(index) => answer(shared, batch, index),
            Err(_) if shared.is_stopped() => finish(shared, batch, &Err(NotDone::Stopped)),
            Err(_) => {
                lock(&shared.reads.state).next.extend(batch);
                sleep_until(Instant::now() + RETRY).await;
            }
        }
    }
}

/// Answers a batch when its index is applied here: now, or in a task of its own, so that the next round need not wait.
fn answer(shared: &Arc<Shared>, batch: Batch, index: LogIndex) {
    let shared = Arc::clone(shared);
    shared.clone().tasks.spawn(async move {
        if let Some((batch, ())) = expiring(&shared, batch, shared.progress.wait(index)).await {
            finish(&shared, batch, &Ok(index));
        }
    });
}

fn finish(shared: &Shared, batch: Batch, result: &Result<LogIndex, NotDone>) {
    batch.into_iter().for_each(|(_, id)| shared.outbox.push(Output::Barrier { id, result: result.clone() }));
}

/// Waits for something on behalf of a batch. Those whose time is over meanwhile are answered and leave it; `None` when
/// none is left.
async fn expiring<T>(shared: &Shared, mut batch: Batch, work: impl Future<Output = T>) -> Option<(Batch, T)> {
    let mut work = pin!(work);
    loop {
        let (deadline, _) = *batch.first()?;
        match select(work, pin!(sleep_until(deadline))).await {
            Either::Left((done, _)) => return Some((batch, done)),
            Either::Right(((), unfinished)) => {
                work = unfinished;
                let still = batch.split_off(&(deadline + Duration::from_nanos(1), RequestId(0)));
                finish(shared, mem::replace(&mut batch, still), &Err(NotDone::NoLeader));
            }
        }
    }
}

/// The read index, by whoever leads.
async fn find(shared: &Shared) -> Result<LogIndex, NotDone> {
    let round = async {
        match leader(shared) {
            Some(leader) if leader == shared.me => lead(shared).await,
            Some(leader) => ask(shared, leader).await,
            None => Err(NotDone::NoLeader),
        }
    };
    tokio::time::timeout(ROUND, round).await.unwrap_or(Err(NotDone::NoLeader))
}

/// The read index, if this anchor leads and a majority confirms it now.
pub(crate) async fn lead(shared: &Shared) -> Result<LogIndex, NotDone> {
    let Some(raft) = shared.raft() else { return Err(NotDone::NotLeader { leader: None }) };
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Ok(LogIndex(read.index())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(NotDone::NotLeader { leader: forward.leader_id.map(AnchorId) })
        }
        Err(_) => Err(NotDone::NoLeader),
    }
}

/// The read index, by message.
async fn ask(shared: &Shared, leader: AnchorId) -> Result<LogIndex, NotDone> {
    let peer = shared.directory.peer(leader).ok_or(NotDone::NoLeader)?;
    let within_ms = u32::try_from(ROUND.as_millis()).unwrap_or(u32::MAX);
    match shared.ask(leader, peer, Body::ReadIndex { within_ms }, ROUND).await {
        Ok(Body::Index(index)) => index.map(LogIndex),
        Ok(_) | Err(_) => Err(NotDone::NoLeader),
    }
}
