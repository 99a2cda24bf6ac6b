//! The one order of effects: decode, step, commit, send, reply.
//!
//! A turn takes many inputs and makes one commit, which is the group commit. Nothing leaves the node before it
//! is durable here, and nothing is answered before it is as durable as was asked. The daemon's event loop and
//! the simulator only feed this file.

use crate::draft::{Changes, Draft};
use crate::id::{AuthorCard, KeyspaceName};
use crate::message::Message;
use crate::ports::{
    Batch, CommitError, Durability, Fork, LogPosition, Recovered, SendError, SessionId, Settings, Store,
    Target, Transport,
};
use crate::replica::{
    AnchorError, AnchorReply, Ask, Basis, Input, Label, Now, OrderError, OrderReply, Replica, Step, View,
};
use crate::request::{RequestError, RequestId, RequestReply};

/// What waits for the disk before it may leave the node.
#[derive(Debug, Default)]
struct Outgoing {
    sends: Vec<(SessionId, Message)>,
    closes: Vec<(SessionId, String)>,
    connects: Vec<Target>,
    disconnects: Vec<Target>,
}

/// Drives one replica with its store and transport.
#[derive(Debug)]
pub struct Driver<S, T> {
    replica: Replica,
    store: S,
    transport: T,
    /// Messages that wait for a buffered commit to become durable.
    held: Outgoing,
    is_durable: bool,
    /// What the store remembers of our replica's second history.
    fork: Option<Fork>,
}

/// What a turn leaves for whoever drives it.
#[derive(Debug, Default)]
pub struct TurnOutcome {
    /// Answers, to be passed on now.
    pub replies: Vec<(RequestId, RequestReply)>,
    /// How many peers have confirmed so far.
    pub confirmations: Vec<(RequestId, usize)>,
    /// How orders ended.
    pub orders: Vec<(RequestId, OrderReply)>,
    /// How orders of the group of anchors ended.
    pub governed: Vec<(RequestId, AnchorReply)>,
    /// What the group of anchors is to be told or asked for, now.
    pub asks: Vec<Ask>,
    /// What reads saw that were not linearizable.
    pub labels: Vec<(RequestId, Label)>,
    /// What is remembered of keyspaces from now on. Of one that was left nothing is to be read any more.
    pub settings: Vec<(KeyspaceName, Settings)>,
    /// The keyspaces whose modes are others now, or are kept with something else in them.
    pub modes: Vec<KeyspaceName>,
    /// What was committed, for watchers; empty when nothing was.
    pub changes: Changes,
    /// The log position after the turn, when something was committed.
    pub position: Option<LogPosition>,
}

/// The answers of a turn, now that it was committed, or why it was not.
fn answers(
    replies: Vec<(RequestId, RequestReply, Basis)>,
    error: Option<&CommitError>,
) -> Vec<(RequestId, RequestReply)> {
    let answer = |(id, reply, basis)| {
        let reply = match (error, basis) {
            (None, _) | (_, Basis::Told) => reply,
            (Some(_), Basis::Executed(operation)) => Err(RequestError::Unknown(operation.to_string())),
            (Some(error @ (CommitError::Full { .. } | CommitError::Poisoned { .. })), Basis::Commit) => {
                Err(RequestError::ReadOnly(error.to_string()))
            }
            (Some(error), Basis::Commit) => Err(RequestError::Commit(error.to_string())),
            (Some(error), Basis::Rows(keyspace)) => {
                Err(RequestError::TryAgain { keyspace, reason: error.to_string() })
            }
        };
        (id, reply)
    };
    replies.into_iter().map(answer).collect()
}

impl TurnOutcome {
    /// Nothing of the turn was committed, so nothing in it is so. Answers what the group is not asked for.
    fn refuse(&mut self, error: &CommitError) -> Vec<Ask> {
        let reason = error.to_string();
        for (_, reply) in &mut self.orders {
            *reply = Err(OrderError::Commit(reason.clone()));
        }
        for (_, reply) in &mut self.governed {
            *reply = Err(AnchorError::Commit(reason.clone()));
        }
        let asks = std::mem::take(&mut self.asks);
        self.asks = asks.iter().filter_map(|ask| ask.uncommitted(&reason)).collect();
        asks
    }
}

impl<S: Store, T: Transport> Driver<S, T> {
    /// A driver at rest.
    pub fn new(replica: Replica, store: S, transport: T) -> Self {
        let fork = replica.fork();
        Self { replica, store, transport, held: Outgoing::default(), is_durable: true, fork }
    }

    /// The replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for what its owner does beside the turns.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The transport.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Whether something was committed that is not on disk yet: [`Driver::sync`] is due.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Ends the driver; what is not durable stays so.
    pub fn into_parts(self) -> (S, T) {
        (self.store, self.transport)
    }

    /// Takes all inputs as one turn.
    pub fn turn(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) -> TurnOutcome {
        let mut step = Step::default();
        let mut draft = Draft::over(&self.store);
        {
            let mut view = View { draft: &mut draft, log: &self.store };
            step.absorb(self.replica.begin(now, &mut view));
            for input in inputs {
                step.absorb(self.replica.step(now, input, &mut view));
            }
            step.absorb(self.replica.finish(&mut view));
        }
        let changes = draft.into_changes();
        let outcome = self.commit(step, changes);
        self.keep_fork();
        outcome
    }

    /// That our replica has two histories must not be forgotten by a restart.
    fn keep_fork(&mut self) {
        let found = self.replica.fork().filter(|_| self.fork.is_none());
        let Some(fork) = found else { return };
        match self.store.keep_fork(&fork) {
            Ok(()) => self.fork = Some(fork),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Makes all that was committed durable, and sends what waited for it.
    ///
    /// # Errors
    /// As the store's commit; the replica takes no more writes.
    pub fn sync(&mut self) -> Result<(), CommitError> {
        if self.is_durable {
            return Ok(());
        }
        if let Err(error) = self.store.sync() {
            self.fail(&error.to_string());
            return Err(error);
        }
        self.is_durable = true;
        self.flush();
        Ok(())
    }

    /// Goes on as the replica that `card` proves, which never wrote anything: the way out for one that was proven
    /// to have two histories. What it wrote before stays, under its old name.
    ///
    /// # Errors
    /// As the store's; the replica takes no more writes.
    pub fn rejoin(&mut self, now: Now, card: AuthorCard) -> Result<(), CommitError> {
        self.sync()?;
        if let Err(error) = self.store.rejoin(&card) {
            self.fail(&error.to_string());
            return Err(error);
        }
        self.fork = None;
        self.held.closes.extend(self.replica.rejoin(now, card).closes);
        self.flush();
        Ok(())
    }

    /// Goes on after a commit failed and the store got over it: `recovered` is what it holds now.
    pub fn go_on(&mut self, recovered: &Recovered) {
        // Peers may still be there if nothing was written since.
        self.fail("the store was opened again");
        self.replica.go_on(recovered);
        self.fork = recovered.fork;
    }

    fn commit(&mut self, step: Step, changes: Changes) -> TurnOutcome {
        let Step { keyspaces, settings, cards, frames, installs, staged, expiry, durability, .. } = step;
        let Step { modes, anchor, raft, raft_applied, .. } = step;
        let Step { sends, closes, connects, disconnects, truncate, .. } = step;
        let mut outcome = TurnOutcome {
            confirmations: step.confirmations,
            orders: step.orders,
            governed: step.governed,
            asks: step.asks,
            labels: step.labels,
            ..TurnOutcome::default()
        };
        let replies = step.replies;
        let clock = self.replica.clock().last();
        let batch = Batch {
            keyspaces,
            settings,
            modes,
            cards,
            frames,
            installs,
            staged,
            changes,
            clock,
            expiry,
            raft,
            raft_applied,
            anchor,
        };
        if batch.is_empty() {
            // A head may be another all the same, if its author has two histories.
            self.replica.committed(&batch.changes);
        } else {
            // Frames of peers alone are durable at once, so that a confirmation means the disk.
            let durability = batch.durability(durability.unwrap_or(Durability::Durable));
            match self.store.commit(&batch, durability) {
                Ok(position) => {
                    self.is_durable = durability == Durability::Durable;
                    self.replica.committed(&batch.changes);
                    outcome.position = Some(position);
                    outcome.changes = batch.changes;
                    outcome.settings = batch.settings;
                    outcome.modes = batch.modes.into_iter().map(|(name, _)| name).collect();
                }
                Err(error) => {
                    let reason = error.to_string();
                    tracing::error!(reason, "a commit failed");
                    let asks = outcome.refuse(&error);
                    self.fail(&reason);
                    let not_asked = self.replica.not_asked(asks, &reason);
                    outcome.replies = answers(replies, Some(&error));
                    outcome.replies.extend(answers(not_asked.replies, None));
                    outcome.orders.extend(not_asked.orders);
                    outcome.governed.extend(not_asked.governed);
                    return outcome;
                }
            }
        }
        outcome.replies = answers(replies, None);
        if let Some(until) = truncate {
            self.store.truncate(until);
        }
        let (now, later) = sends.into_iter().partition(|(_, message)| message.waits_for_no_disk());
        self.held.sends.extend::<Vec<_>>(later);
        self.held.closes.extend(closes);
        self.held.connects.extend(connects);
        self.held.disconnects.extend(disconnects);
        self.send(now);
        if self.is_durable {
            self.flush();
        }
        outcome
    }

    fn fail(&mut self, reason: &str) {
        self.held = Outgoing { closes: self.replica.commit_failed(reason).closes, ..Outgoing::default() };
        self.is_durable = true;
        self.flush();
    }

    fn flush(&mut self) {
        let Outgoing { sends, closes, connects, disconnects } = std::mem::take(&mut self.held);
        self.send(sends);
        for (session, reason) in closes {
            self.transport.close(session, &reason);
        }
        for target in &disconnects {
            self.transport.disconnect(target);
        }
        for target in connects {
            self.transport.connect(target);
        }
    }

    fn send(&mut self, sends: Vec<(SessionId, Message)>) {
        for (session, message) in sends {
            match self.transport.send(session, message.encode()) {
                // A session that is over says so by itself.
                Ok(()) | Err(SendError::NotUp) => {}
                Err(SendError::Full) => self.replica.congested(session),
                Err(SendError::TooLarge) => {
                    unreachable!("a message holds one frame of bounded size, or many up to a smaller bound")
                }
            }
        }
    }
}
