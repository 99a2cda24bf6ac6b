//! What a leader appends, in rounds: what comes while one is under way is appended together when it is over.
//!
//! A round costs a message to each follower and a sync on each disk, however many entries it has, and anchors propose
//! whenever they like. So one round at a time holds the most entries; but a follower far away or a slow disk must not
//! hold up others for long, so nothing waits for more than [`GATHERED_MAX`].

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use openraft::error::ClientWriteError;
use tidelock_engine::ports::{AnchorId, LogIndex, NotDone};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::proposals::Tried;
use crate::runtime::lock;
use crate::shared::Shared;
use crate::types::Command;

/// How long an entry waits at most for the round before it.
const GATHERED_MAX: Duration = Duration::from_millis(10);

/// The rounds that are under way before what comes waits.
const ROUNDS_MAX: usize = 1;

/// The bytes of the commands of one round, unless one has more.
const ROUND_BYTES_MAX: usize = 4 << 20;

/// The rounds of one group.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// The commands for the next rounds, in their order.
    waiting: VecDeque<Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    command: Command,
    tried: oneshot::Sender<Tried>,
}

impl State {
    /// The commands of the next round, if there are any.
    fn begin(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let count = self.waiting.iter().take_while(|waiting| {
            let is_first = bytes == 0;
            bytes += waiting.command.0.len();
            is_first || bytes <= ROUND_BYTES_MAX
        });
        let count = count.count();
        let round: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.under_way += usize::from(!round.is_empty());
        round
    }
}

impl Rounds {
    /// Adds a command; answers its number and where it is told what became of it.
    fn add(&self, command: Command) -> (u64, oneshot::Receiver<Tried>) {
        let (tried, told) = oneshot::channel();
        let mut state = lock(&self.0);
        state.next += 1;
        let number = state.next;
        state.waiting.push_back(Waiting { number, command, tried });
        (number, told)
    }

    /// Takes a command back that is in no round yet; answers whether it was.
    fn take_back(&self, number: u64) -> bool {
        let mut state = lock(&self.0);
        let before = state.waiting.len();
        state.waiting.retain(|waiting| waiting.number != number);
        state.waiting.len() < before
    }

    /// The next round, unless it is to wait for one that is under way.
    fn next(&self) -> Vec<Waiting> {
        let mut state = lock(&self.0);
        if state.under_way < ROUNDS_MAX { state.begin() } else { Vec::new() }
    }

    /// The next round, if a command that has waited long enough still waits: it is in that one, unless more stands before
    /// it than a round holds.
    fn next_with(&self, number: u64) -> Vec<Waiting> {
        let mut state = lock(&self.0);
        let waits = state.waiting.iter().any(|waiting| waiting.number == number);
        if waits { state.begin() } else { Vec::new() }
    }

    fn end(&self) {
        lock(&self.0).under_way -= 1;
    }
}

/// Appends a command, if this anchor leads.
pub(crate) async fn append(shared: &Arc<Shared>, command: Command, deadline: Instant) -> Tried {
    let (number, mut told) = shared.rounds.add(command);
    begin(shared, shared.rounds.next());
    let patience = Instant::now() + GATHERED_MAX;
    if let Ok(tried) = timeout_at(patience.min(deadline), &mut told).await {
        return tried.unwrap_or(Tried::Unknown);
    }
    if deadline <= patience && shared.rounds.take_back(number) {
        return Tried::Not(NotDone::Busy);
    }
    begin(shared, shared.rounds.next_with(number));
    match timeout_at(deadline, told).await {
        Ok(tried) => tried.unwrap_or(Tried::Unknown),
        // In a log of another anchor it may be committed.
        Err(_) => Tried::Unknown,
    }
}

/// Appends the commands of a round, and those of the next when that is over.
fn begin(shared: &Arc<Shared>, mut round: Vec<Waiting>) {
    if round.is_empty() {
        return;
    }
    let this = Arc::clone(shared);
    shared.tasks.spawn(async move {
        while !round.is_empty() {
            run(&this, mem::take(&mut round)).await;
            this.rounds.end();
            round = this.rounds.next();
        }
    });
}

/// The line that matters is drawn here: openraft refuses before it appends (certainly not), or it loses sight of what it
/// appended (unknown): another leader's entry took its place in this log, or the group stopped.
async fn run(shared: &Shared, round: Vec<Waiting>) {
    let (commands, told): (Vec<Command>, Vec<_>) =
        round.into_iter().map(|waiting| (waiting.command, waiting.tried)).unzip();
    let Some(raft) = shared.raft() else {
        let is_over = Tried::Not(NotDone::NotLeader { leader: None });
        return told.into_iter().for_each(|told| drop(told.send(is_over.clone())));
    };
    // Whoever is told nothing takes it for unknown.
    let Ok(mut results) = raft.client_write_many(commands).await else { return };
    for told in told {
        let Some(Ok(result)) = results.next().await else { return };
        let tried = match result {
            Ok(response) => {
                Tried::Done { index: LogIndex(response.log_id.index), reply: response.response.0 }
            }
            // Also right after an election, until a majority has answered the new leader: see `ForwardReason`.
            Err(ClientWriteError::ForwardToLeader(forward)) => {
                Tried::Not(NotDone::NotLeader { leader: forward.leader_id.map(AnchorId) })
            }
            Err(_) => Tried::Unknown,
        };
        // Whoever waited may have given up.
        let _ = told.send(tried);
    }
}
