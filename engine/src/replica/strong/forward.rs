//! What this node cannot do in a strong keyspace itself: handed on to an anchor that it is connected with, which does
//! with it as for its own clients and says what came of it.
//!
//! Guests hand on all, and anchors what belongs to a keyspace that they follow; what was handed on is handed on once
//! more at most. Where an anchor says that nothing was proposed another one is asked, or the same one a moment later, as
//! long as whoever asked has time. The node that hands on names the operations, so that the outcome of one whose reply
//! was lost can be asked for. It is not asked for a second time by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::answering::{Waiter, is_worth_another_try, of_action};
use super::requests::{Freshness, Terms, WITHIN_MS_MAX};
use crate::command::OperationId;
use crate::id::{ClientId, PeerId};
use crate::message::Message;
use crate::ports::SessionId;
use crate::replica::{Now, Replica, Step, View};
use crate::request::{
    Action, ActionError, ActionReply, Atomicity, Request, RequestError, RequestReply, decode_reply,
};

/// The requests of one peer that are open at most.
const OPEN_OF_PEER_MAX: usize = 1_024;

/// How many actions that do not belong together are handed on at once.
const ACTIONS_AT_ONCE: usize = 256;

/// About as many bytes of them.
const BYTES_AT_ONCE: usize = 4 << 20;

/// How long it waits when all anchors have refused, in milliseconds: doubled each time, up to [`AGAIN_MS_MAX`].
const AGAIN_MS: u64 = 50;

/// How long it waits then at most, in milliseconds.
const AGAIN_MS_MAX: u64 = 1_000;

/// An anchor answers in time by its own clock, and is given so much longer by ours, in milliseconds: who does not answer
/// leaves a write unknown.
const GRACE_MS: u64 = 250;

/// What was handed on to anchors, by the number of the last message that did.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    last: u64,
    asked: BTreeMap<u64, Asked>,
}

/// A request that is handed on, piece by piece.
#[derive(Debug)]
struct Asked {
    waiter: Waiter,
    until_ms: u64,
    /// The piece that is handed on now.
    piece: Piece,
    /// Those behind it.
    rest: VecDeque<Piece>,
    /// What the pieces before it gave.
    given: Vec<Result<ActionReply, ActionError>>,
    state: State,
    /// The anchors that have refused it since it waited last, and how often it has waited.
    refused: BTreeSet<SessionId>,
    waits: u32,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// The first of as many operations as there are actions, if it writes.
    operation: Option<OperationId>,
    actions: usize,
}

#[derive(Debug)]
enum State {
    /// An anchor was asked in this session.
    Asked(SessionId),
    /// It is to be handed on at this moment, for this reason.
    Waiting(u64, RequestError),
}

impl Forwarded {
    fn open(&self, session: SessionId) -> usize {
        let is_of = |asked: &&Asked| matches!(asked.state, State::Asked(of) if of == session);
        self.asked.values().filter(is_of).count()
    }

    /// All sessions are over: the next tick answers whoever waits for one.
    pub(super) fn abandon(&mut self) {
        let asked = self.asked.values_mut().filter(|asked| matches!(asked.state, State::Asked(_)));
        asked.for_each(|asked| (asked.state, asked.until_ms) = (State::Waiting(0, asked.lost()), 0));
    }
}

impl Asked {
    /// The anchor did not answer.
    fn lost(&self) -> RequestError {
        match &self.piece.operation {
            Some(operation) => RequestError::Unknown(operation.to_string()),
            None => RequestError::NoLeader("the anchor that was asked did not answer".to_owned()),
        }
    }

    /// What is said of the whole when the piece ended with an error: of those before it what they gave, and those behind
    /// it were not begun.
    fn failed(mut self, error: RequestError) -> RequestReply {
        let is_whole = self.given.is_empty() && (self.rest.is_empty() || is_worth_another_try(&error));
        if is_whole {
            return Err(error);
        }
        let first = match (&error, &self.piece.operation) {
            (RequestError::Unknown(_), Some(operation)) => Some(*operation),
            _ => None,
        };
        let (text, is_leaderless) = (error.to_string(), matches!(error, RequestError::NoLeader(_)));
        self.given.push(Err(of_action(error)));
        for place in 1..self.piece.actions as u64 {
            self.given.push(Err(match first {
                Some(first) => {
                    let number = first.number.saturating_add(place);
                    ActionError::Unknown(OperationId { number, ..first }.to_string())
                }
                None if is_leaderless => ActionError::NoLeader(text.clone()),
                None => ActionError::TryAgain(text.clone()),
            }));
        }
        let behind = self.rest.iter().map(|piece| piece.actions).sum();
        let reason =
            || ActionError::TryAgain("an action before it was not done; nor was this one".to_owned());
        self.given.extend(std::iter::repeat_with(|| Err(reason())).take(behind));
        Ok(self.given)
    }
}

impl Replica {
    /// Hands something on to an anchor.
    pub(super) fn hand_on(
        &mut self,
        now: Now,
        waiter: Waiter,
        (request, terms): (Request, Terms),
        step: &mut Step,
    ) {
        let may_hand_on = match waiter {
            Waiter::Client(_) => true,
            Waiter::Peer { is_last, .. } => !is_last && self.strong.anchor.is_some(),
            Waiter::Part(..) => false,
        };
        let from = match waiter {
            Waiter::Peer { session, .. } => BTreeSet::from([session]),
            Waiter::Client(_) | Waiter::Part(..) => BTreeSet::new(),
        };
        let until_ms = now.mono_ms.saturating_add(terms.within_ms.min(WITHIN_MS_MAX));
        let Some(session) = self.whom_to_ask(&from).filter(|_| may_hand_on) else {
            return self.tell(waiter, Err(self.not_yet(&request.keyspace)), step);
        };
        let mut pieces = match self.in_pieces(now, request, &terms) {
            Ok(pieces) => pieces,
            Err(error) => return self.tell(waiter, Err(error), step),
        };
        self.counters.count("requests_handed_on");
        let Some(piece) = pieces.pop_front() else { return };
        let (given, refused, state) = (Vec::new(), from, State::Asked(session));
        let asked = Asked { waiter, until_ms, piece, rest: pieces, given, state, refused, waits: 0 };
        self.send_to(session, asked, step);
    }

    /// A request as it is handed on. Actions that do not belong together are cut into pieces, each of which is handed on
    /// when the one before it is done.
    fn in_pieces(
        &mut self,
        now: Now,
        request: Request,
        terms: &Terms,
    ) -> Result<VecDeque<Piece>, RequestError> {
        let id = self.id_of(&request.keyspace);
        let Request { keyspace, actions, atomicity, durability } = request;
        let (mut pieces, mut named) = (VecDeque::new(), terms.operation);
        for actions in cut(actions, atomicity) {
            let count = actions.len();
            let is_query = actions.iter().all(Action::is_query);
            let request = Request { keyspace: keyspace.clone(), actions, atomicity, durability };
            let bytes = request.encode().map_err(|error| RequestError::TooLarge {
                keyspace: keyspace.clone(),
                reason: error.to_string(),
            })?;
            let operation = (!is_query).then(|| self.operation(now, id, named, count));
            named = named.map(|(client, first)| (client, first.saturating_add(count as u64)));
            pieces.push_back(Piece { bytes, operation, actions: count });
        }
        Ok(pieces)
    }

    /// An anchor that is connected and has not refused: the one that leads, if that is known, or who has least to do.
    fn whom_to_ask(&self, refused: &BTreeSet<SessionId>) -> Option<SessionId> {
        let status = &self.strong.status;
        let leader: Option<PeerId> =
            status.leader.and_then(|leader| status.membership.members.get(&leader)).map(|member| member.peer);
        let anchors = self.links.iter().filter(|(session, link)| {
            link.is_anchor && link.card.is_some() && !link.is_congested && !refused.contains(session)
        });
        let weighed = anchors.map(|(session, link)| {
            let open = self.strong.requests.forwarded.open(*session);
            (Some(link.peer) != leader, open, *session)
        });
        weighed.filter(|(_, open, _)| *open < OPEN_OF_PEER_MAX).min().map(|(.., session)| session)
    }

    fn send_to(&mut self, session: SessionId, mut asked: Asked, step: &mut Step) {
        asked.state = State::Asked(session);
        let within_ms = asked.until_ms.saturating_sub(self.mono_ms);
        let operation = asked.piece.operation.map(|operation| (operation.client, operation.number));
        let (request, is_last) = (asked.piece.bytes.clone(), self.strong.anchor.is_some());
        let forwarded = &mut self.strong.requests.forwarded;
        forwarded.last += 1;
        let number = forwarded.last;
        forwarded.asked.insert(number, asked);
        step.sends.push((session, Message::Ask { number, operation, within_ms, is_last, request }));
    }

    /// A peer hands something on to this node.
    pub(crate) fn asked(
        &mut self,
        now: Now,
        (session, is_last): (SessionId, bool),
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
        let waiter = Waiter::Peer { session, number, is_last };
        if self.strong.requests.open.has(session, number) {
            self.counters.count("refused_malformed_requests");
            return self.refuse(session, "two requests of one number", step);
        }
        if self.strong.requests.open.of(session) >= OPEN_OF_PEER_MAX {
            self.counters.count("requests_of_peers_refused");
            let reason = "too many requests of this peer are open".to_owned();
            let error = RequestError::TryAgain { keyspace: request.keyspace, reason };
            return self.tell(waiter, Err(error), step);
        }
        self.counters.count("requests_of_peers");
        let terms = Terms { freshness: Freshness::Linearizable, operation, within_ms };
        self.take_request(now, waiter, (request, terms), view, step);
    }

    /// An anchor answers what was handed on to it.
    pub(crate) fn told(&mut self, session: SessionId, number: u64, bytes: &[u8], step: &mut Step) {
        let asked = self.strong.requests.forwarded.asked.get(&number);
        if !asked.is_some_and(|asked| matches!(asked.state, State::Asked(of) if of == session)) {
            return; // it was given up
        }
        let Some(mut asked) = self.strong.requests.forwarded.asked.remove(&number) else { return };
        match decode_reply(bytes).unwrap_or_else(|_| Err(asked.lost())) {
            Err(error) if is_worth_another_try(&error) => self.try_another(session, asked, error, step),
            Ok(given) if !asked.rest.is_empty() => {
                asked.given.extend(given);
                self.close_names(&asked.piece);
                let Some(piece) = asked.rest.pop_front() else { return };
                asked.piece = piece;
                self.send_to(session, asked, step);
            }
            Ok(given) => {
                asked.given.extend(given);
                self.close_names(&asked.piece);
                self.tell(asked.waiter, Ok(asked.given), step);
            }
            Err(error) => self.fail(asked, error, step),
        }
    }

    /// An anchor has proposed nothing.
    fn try_another(&mut self, session: SessionId, mut asked: Asked, error: RequestError, step: &mut Step) {
        // Whoever hands on to us asks others itself.
        if !matches!(asked.waiter, Waiter::Client(_)) || self.mono_ms >= asked.until_ms {
            return self.fail(asked, error, step);
        }
        self.counters.count("requests_handed_on_again");
        asked.refused.insert(session);
        if let Some(other) = self.whom_to_ask(&asked.refused) {
            return self.send_to(other, asked, step);
        }
        let wait_ms = (AGAIN_MS << asked.waits.min(8)).min(AGAIN_MS_MAX);
        asked.waits += 1;
        asked.refused.clear();
        self.wait(asked, (wait_ms, error));
    }

    fn fail(&mut self, asked: Asked, error: RequestError, step: &mut Step) {
        self.close_names(&asked.piece);
        asked.rest.iter().for_each(|piece| self.close_names(piece));
        let waiter = asked.waiter;
        self.tell(waiter, asked.failed(error), step);
    }

    fn close_names(&mut self, piece: &Piece) {
        if let Some(operation) = &piece.operation {
            self.strong.requests.names.close(operation, piece.actions as u64);
        }
    }

    /// A session is over: what was handed on in it may be done, if it writes, and what it handed on nobody waits for.
    pub(crate) fn forget_requests_of(&mut self, session: SessionId, step: &mut Step) {
        let is_of = |_: &u64, asked: &mut Asked| matches!(asked.state, State::Asked(of) if of == session);
        let lost: Vec<Asked> =
            self.strong.requests.forwarded.asked.extract_if(.., is_of).map(|(_, asked)| asked).collect();
        for asked in lost {
            let error = asked.lost();
            if is_worth_another_try(&error) {
                self.try_another(session, asked, error, step);
            } else {
                self.fail(asked, error, step);
            }
        }
    }

    /// What an anchor did not answer in time, and what is to be handed on again.
    pub(super) fn tick_forwarded(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let is_due = |_: &u64, asked: &mut Asked| match asked.state {
            State::Asked(_) => now_ms >= asked.until_ms.saturating_add(GRACE_MS),
            State::Waiting(at, _) => now_ms >= asked.until_ms.min(at),
        };
        let due: Vec<Asked> =
            self.strong.requests.forwarded.asked.extract_if(.., is_due).map(|(_, asked)| asked).collect();
        for mut asked in due {
            let lost = asked.lost();
            let is_over = now_ms >= asked.until_ms;
            match std::mem::replace(&mut asked.state, State::Waiting(now_ms + AGAIN_MS_MAX, lost)) {
                State::Asked(_) => {
                    let lost = asked.lost();
                    self.fail(asked, lost, step);
                }
                State::Waiting(_, reason) if is_over => self.fail(asked, reason, step),
                State::Waiting(_, reason) => {
                    if let Some(session) = self.whom_to_ask(&asked.refused) {
                        self.send_to(session, asked, step);
                    } else {
                        self.wait(asked, (AGAIN_MS, reason));
                    }
                }
            }
        }
    }

    /// Hands it on again in so many milliseconds.
    fn wait(&mut self, mut asked: Asked, (wait_ms, reason): (u64, RequestError)) {
        asked.state = State::Waiting(self.mono_ms + wait_ms, reason);
        let forwarded = &mut self.strong.requests.forwarded;
        forwarded.last += 1;
        forwarded.asked.insert(forwarded.last, asked);
    }
}

/// Actions in pieces of bounded size, if they do not belong together.
fn cut(actions: Vec<Action>, atomicity: Atomicity) -> Vec<Vec<Action>> {
    if atomicity != Atomicity::Each || actions.len() <= 1 {
        return vec![actions];
    }
    let mut pieces: Vec<Vec<Action>> = Vec::new();
    let mut bytes = 0;
    for action in actions {
        let length = postcard::to_stdvec(&action).map_or(usize::MAX, |bytes| bytes.len());
        match pieces.last_mut() {
            Some(piece) if piece.len() < ACTIONS_AT_ONCE && length <= BYTES_AT_ONCE - bytes => {
                piece.push(action);
                bytes += length;
            }
            _ => {
                pieces.push(vec![action]);
                bytes = length.min(BYTES_AT_ONCE);
            }
        }
    }
    pieces
}
