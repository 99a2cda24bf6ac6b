//! Clients that write and read all the time, and remember everything that they were told.

use std::collections::BTreeMap;

use tidelock_engine::ports::{LogIndex, NotDone, Outcome, RequestId};
use tokio::time::Instant;

use crate::history::{Asked, Event};
use crate::machine::{Action, Answer, Operation, OperationId};
use crate::network::Random;

/// What a client waits for.
#[derive(Debug)]
struct Waiting {
    operation: Option<Operation>,
    cell: u8,
    node: u64,
    called: u64,
    /// Whether an earlier try may have been done.
    may_be_done: bool,
}

/// What became of a request, for the world.
#[derive(Debug)]
pub(crate) enum Told {
    /// A read may be served at its anchor.
    Read,
    /// Nothing more.
    Over,
}

/// The clients of a world and their history.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    waiting: BTreeMap<RequestId, (u64, Waiting)>,
    /// When each client asks next, if it is not waiting.
    next_at: BTreeMap<u64, Instant>,
    retries: BTreeMap<u64, (Operation, u64)>,
    next_request: u64,
    next_number: u64,
    moment: u64,
    is_stopped: bool,
    /// What happened.
    pub(crate) events: Vec<Event>,
    /// Operations that were acknowledged.
    pub(crate) done: BTreeMap<OperationId, Answer>,
    /// Operations that were certainly not done.
    pub(crate) not_done: Vec<OperationId>,
    /// Operations whose outcome nobody told.
    pub(crate) unknown: u64,
    /// Reads that were served.
    pub(crate) reads: u64,
    /// Operations that were tried again under their id.
    pub(crate) retried: u64,
    /// Whether an unknown outcome is asked for by proposing the operation again.
    pub(crate) retries_unknown: bool,
}

impl Clients {
    /// Begins with some clients.
    pub(crate) fn start(&mut self, clients: u64, now: Instant) {
        self.next_at = (0..clients).map(|client| (client, now)).collect();
    }

    /// Lets nobody ask any more. Those who wait go on waiting.
    pub(crate) fn stop(&mut self) {
        self.next_at.clear();
        self.is_stopped = true;
    }

    /// Whether nobody waits.
    pub(crate) fn are_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When somebody asks next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at.values().min().copied()
    }

    fn ask_again(&mut self, client: u64, at: Instant) {
        if !self.is_stopped {
            self.next_at.insert(client, at);
        }
    }

    fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Lets a client ask later.
    pub(crate) fn wait(&mut self, client: u64, at: Instant) {
        self.ask_again(client, at);
    }

    /// The cell that a request is about.
    pub(crate) fn cell(&self, id: RequestId) -> Option<u8> {
        self.waiting.get(&id).map(|(_, waiting)| waiting.cell)
    }

    /// The client that asks now, if one does.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let (client, _) = self.next_at.iter().find(|(_, at)| **at <= now)?;
        let client = *client;
        self.next_at.remove(&client);
        Some(client)
    }

    /// What a client asks for: an operation to propose, or a barrier.
    pub(crate) fn ask(
        &mut self,
        client: u64,
        node: u64,
        random: &mut Random,
    ) -> (RequestId, Option<Operation>) {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let called = self.moment();
        if let Some((operation, called)) = self.retries.remove(&client) {
            self.retried += 1;
            let waiting =
                Waiting { operation: Some(operation), cell: operation.cell, node, called, may_be_done: true };
            self.waiting.insert(id, (client, waiting));
            return (id, Some(operation));
        }
        let cell = u8::try_from(random.below(3)).expect("it is small");
        self.next_number += 1;
        let small = |random: &mut Random| i64::try_from(random.below(5)).expect("it is small");
        let action = match random.below(6) {
            0 | 1 => None,
            2 => Some(Action::Put(small(random))),
            3 | 4 => Some(Action::Add(1 + small(random))),
            _ => Some(Action::Swap(small(random), small(random))),
        };
        let operation = action.map(|action| Operation { id: (client, self.next_number), cell, action });
        let waiting = Waiting { operation, cell, node, called, may_be_done: false };
        self.waiting.insert(id, (client, waiting));
        (id, operation)
    }

    fn finish(&mut self, waiting: &Waiting, asked: Asked, is_known: bool) {
        let returned = if is_known { self.moment() } else { u64::MAX };
        self.events.push(Event { called: waiting.called, returned, cell: waiting.cell, asked });
    }

    /// An operation has an outcome.
    pub(crate) fn proposed(&mut self, id: RequestId, outcome: &Outcome, again_at: Instant) {
        let Some((client, waiting)) = self.waiting.remove(&id) else { return };
        let operation = waiting.operation.expect("it was proposed");
        self.ask_again(client, again_at);
        match outcome {
            Outcome::Done { reply, .. } => {
                let answer: Answer = postcard::from_bytes(reply).expect("it is ours");
                self.done.insert(operation.id, answer);
                self.finish(&waiting, Asked::Change(operation.action, Some(answer)), true);
            }
            Outcome::Not(_) if !waiting.may_be_done => self.not_done.push(operation.id),
            Outcome::Not(_) | Outcome::Unknown if self.retries_unknown => {
                self.retries.insert(client, (operation, waiting.called));
            }
            Outcome::Not(_) | Outcome::Unknown => self.lose(&waiting, operation),
        }
    }

    fn lose(&mut self, waiting: &Waiting, operation: Operation) {
        self.unknown += 1;
        self.finish(waiting, Asked::Change(operation.action, None), false);
    }

    /// A read may be served, or not.
    pub(crate) fn barrier(
        &mut self,
        id: RequestId,
        result: &Result<LogIndex, NotDone>,
        again_at: Instant,
    ) -> Told {
        match (self.waiting.get(&id), result) {
            (Some(_), Ok(_)) => Told::Read,
            (Some((client, _)), Err(_)) => {
                let client = *client;
                self.waiting.remove(&id);
                self.ask_again(client, again_at);
                Told::Over
            }
            (None, _) => Told::Over,
        }
    }

    /// A read was served.
    pub(crate) fn read(&mut self, id: RequestId, value: i64, again_at: Instant) {
        let Some((client, waiting)) = self.waiting.remove(&id) else { return };
        self.reads += 1;
        self.ask_again(client, again_at);
        self.finish(&waiting, Asked::Read(value), true);
    }

    /// An anchor is gone, and with it what it was asked.
    pub(crate) fn crashed(&mut self, node: u64, again_at: Instant) {
        let gone: Vec<RequestId> =
            self.waiting.iter().filter(|(_, (_, it))| it.node == node).map(|(id, _)| *id).collect();
        for id in gone {
            if self.waiting.get(&id).is_some_and(|(_, waiting)| waiting.operation.is_some()) {
                self.proposed(id, &Outcome::Unknown, again_at);
            } else if let Some((client, _)) = self.waiting.remove(&id) {
                self.ask_again(client, again_at);
            }
        }
    }

    /// Gives up what is still to be tried again: nobody knows what became of it.
    pub(crate) fn give_up(&mut self) {
        let open: Vec<(Operation, u64)> = std::mem::take(&mut self.retries).into_values().collect();
        for (operation, called) in open {
            let waiting = Waiting {
                operation: Some(operation),
                cell: operation.cell,
                node: 0,
                called,
                may_be_done: true,
            };
            self.lose(&waiting, operation);
        }
    }
}
