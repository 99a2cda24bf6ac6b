//! What guests ask of strong keyspaces: handed on to an anchor that they are connected with, which does with it as for
//! its own clients and says what came of it.
//!
//! The guest names the operation, so that it can ask for the outcome of one whose reply was lost.

use std::collections::BTreeMap;

use super::requests::{Freshness, Terms, WITHIN_MS_MAX, Waiter, reply_to};
use crate::command::OperationId;
use crate::id::ClientId;
use crate::message::Message;
use crate::ports::SessionId;
use crate::replica::{Now, Replica, Step, View};
use crate::request::{Request, RequestError, RequestId, decode_reply};

/// The requests of one peer that are open at most.
const OPEN_OF_PEER_MAX: usize = 1_024;

/// What was handed on to anchors.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    last: u64,
    asked: BTreeMap<u64, Asked>,
}

/// What was handed on to an anchor.
#[derive(Clone, Debug)]
struct Asked {
    session: SessionId,
    waiter: RequestId,
    operation: Option<OperationId>,
    until_ms: u64,
}

impl Asked {
    /// The anchor did not answer.
    fn lost(&self) -> RequestError {
        match &self.operation {
            Some(operation) => RequestError::Unknown(operation.to_string()),
            None => RequestError::NoLeader("the anchor that was asked did not answer".to_owned()),
        }
    }
}

impl Replica {
    /// Hands something on to an anchor.
    pub(super) fn hand_on(
        &mut self,
        now: Now,
        waiter: Waiter,
        (request, terms): (Request, Terms),
        is_query: bool,
        step: &mut Step,
    ) -> Result<(), RequestError> {
        let Waiter::Client(waiter) = waiter else { return Err(self.not_yet(&request.keyspace)) };
        let anchors = self.links.iter().filter(|(_, link)| link.is_anchor && !link.is_congested);
        let open = |session: SessionId| {
            self.strong.requests.forwarded.asked.values().filter(|asked| asked.session == session).count()
        };
        let least = anchors.map(|(session, _)| (open(*session), *session)).min();
        let Some((_, session)) = least.filter(|(open, _)| *open < OPEN_OF_PEER_MAX) else {
            return Err(self.not_yet(&request.keyspace));
        };
        let id = self.id_of(&request.keyspace);
        let bytes = request.encode().map_err(|error| {
            let (keyspace, reason) = (request.keyspace.clone(), error.to_string());
            RequestError::TooLarge { keyspace, reason }
        })?;
        let operation = (!is_query).then(|| self.operation(now, id, terms.operation));
        let within_ms = terms.within_ms.min(WITHIN_MS_MAX);
        let until_ms = now.mono_ms.saturating_add(within_ms);
        let forwarded = &mut self.strong.requests.forwarded;
        forwarded.last += 1;
        let number = forwarded.last;
        forwarded.asked.insert(number, Asked { session, waiter, operation, until_ms });
        let operation = operation.map(|operation| (operation.client, operation.number));
        step.sends.push((session, Message::Ask { number, operation, within_ms, request: bytes }));
        Ok(())
    }

    /// A peer hands something on to this node.
    pub(crate) fn asked(
        &mut self,
        now: Now,
        session: SessionId,
        (number, bytes): (u64, &[u8]),
        (operation, within_ms): (Option<(ClientId, u64)>, u64),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                self.counters.count("refused_malformed_requests");
                return self.refuse(session, &error.to_string(), step);
            }
        };
        let waiter = Waiter::Peer(session, number);
        let of_peer = |waiter: &Waiter| matches!(waiter, Waiter::Peer(of, _) if *of == session);
        if self.strong.requests.waiters().filter(of_peer).count() >= OPEN_OF_PEER_MAX {
            self.counters.count("requests_of_peers_refused");
            let reason = "too many requests of this peer are open".to_owned();
            let error = RequestError::TryAgain { keyspace: request.keyspace, reason };
            return reply_to(waiter, Err(error), step);
        }
        self.counters.count("requests_of_peers");
        let terms = Terms { freshness: Freshness::Linearizable, operation, within_ms };
        self.take_request(now, waiter, (request, terms), view, step);
    }

    /// An anchor answers what was handed on to it.
    pub(crate) fn told(&mut self, session: SessionId, number: u64, bytes: &[u8], step: &mut Step) {
        let asked = self.strong.requests.forwarded.asked.get(&number);
        if asked.is_none_or(|asked| asked.session != session) {
            return; // it was given up
        }
        let Some(asked) = self.strong.requests.forwarded.asked.remove(&number) else { return };
        let reply = decode_reply(bytes).unwrap_or_else(|_| Err(asked.lost()));
        step.replies.push((asked.waiter, reply));
    }

    /// A session is over: what was handed on in it may be done, and what it handed on nobody waits for.
    pub(crate) fn forget_requests_of(&mut self, session: SessionId, step: &mut Step) {
        let asked = &mut self.strong.requests.forwarded.asked;
        for (_, asked) in asked.extract_if(.., |_, asked| asked.session == session) {
            step.replies.push((asked.waiter, Err(asked.lost())));
        }
    }

    /// What an anchor did not answer in time.
    pub(super) fn tick_forwarded(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let asked = &mut self.strong.requests.forwarded.asked;
        for (_, asked) in asked.extract_if(.., |_, asked| now_ms >= asked.until_ms) {
            step.replies.push((asked.waiter, Err(asked.lost())));
        }
    }
}
