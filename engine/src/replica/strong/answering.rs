//! Who waits for what strong keyspaces answer, and how they are answered.
//!
//! Actions of one request that do not belong together are operations of their own, which may end differently. Whoever
//! asked is answered once the last of them has: with one reply for each, or with one reason if nothing was done.

use std::collections::BTreeMap;

use crate::id::KeyspaceName;
use crate::message::Message;
use crate::ports::{NotDone, SessionId};
use crate::replica::{Basis, Replica, Step};
use crate::request::{
    ActionError, ActionReply, RequestError, RequestId, RequestReply, decode_reply, encode_reply,
};

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A client of this node.
    Client(RequestId),
    /// A peer, which gave it this number.
    Peer {
        /// In which session it asked.
        session: SessionId,
        /// Its number of it.
        number: u64,
        /// Whether it was handed on before, and is not again.
        is_last: bool,
    },
    /// A request of several operations, of which this is one, by its place.
    Part(u64, usize),
}

/// Requests of several operations.
#[derive(Debug, Default)]
pub(super) struct Parted {
    last: u64,
    open: BTreeMap<u64, Parts>,
}

/// A request of several operations.
#[derive(Debug)]
struct Parts {
    waiter: Waiter,
    replies: Vec<Option<RequestReply>>,
    missing: usize,
}

impl Parted {
    /// Those who wait for a request of so many operations wait for each of them.
    pub(super) fn part(&mut self, waiter: Waiter, count: usize) -> impl Iterator<Item = Waiter> + use<> {
        self.last += 1;
        let number = self.last;
        let replies = std::iter::repeat_with(|| None).take(count).collect();
        self.open.insert(number, Parts { waiter, replies, missing: count });
        (0..count).map(move |place| Waiter::Part(number, place))
    }

    /// Takes in the reply to one operation; with the last one, answers who is told what.
    fn replied(&mut self, number: u64, place: usize, reply: RequestReply) -> Option<(Waiter, RequestReply)> {
        let parts = self.open.get_mut(&number)?;
        parts.missing -= usize::from(parts.replies.get_mut(place)?.replace(reply).is_none());
        if parts.missing > 0 {
            return None;
        }
        let Parts { waiter, replies, .. } = self.open.remove(&number)?;
        Some((waiter, joined(replies.into_iter().flatten().collect())))
    }
}

impl Replica {
    pub(super) fn reply_to(&mut self, waiter: Waiter, reply: RequestReply, basis: Basis, step: &mut Step) {
        self.strong.requests.open.end(waiter);
        match waiter {
            Waiter::Client(id) => step.replies.push((id, reply, basis)),
            Waiter::Peer { session, number, .. } => {
                step.sends.push((session, Message::Told { number, reply: encode_reply(&reply) }));
            }
            Waiter::Part(number, place) => {
                let whole = self.strong.requests.parted.replied(number, place, reply);
                if let Some((waiter, reply)) = whole {
                    self.reply_to(waiter, reply, basis, step);
                }
            }
        }
    }

    /// Says what stays so whatever becomes of the turn.
    pub(super) fn tell(&mut self, waiter: Waiter, reply: RequestReply, step: &mut Step) {
        self.reply_to(waiter, reply, Basis::Told, step);
    }
}

/// The reply to several operations. If nothing was done of any, it is one reason.
fn joined(mut replies: Vec<RequestReply>) -> RequestReply {
    if replies.iter().all(|reply| reply.as_ref().is_err_and(is_not_done)) && !replies.is_empty() {
        return replies.swap_remove(0);
    }
    Ok(replies.into_iter().map(one).collect())
}

fn one(reply: RequestReply) -> Result<ActionReply, ActionError> {
    match reply {
        Ok(mut given) => given.pop().unwrap_or(Err(ActionError::Untold)),
        Err(error) => Err(of_action(error)),
    }
}

/// What is said of one action of several.
pub(super) fn of_action(error: RequestError) -> ActionError {
    match error {
        RequestError::Action { source, .. } => source,
        RequestError::Unknown(operation) => ActionError::Unknown(operation),
        RequestError::Forgotten(operation) => ActionError::Forgotten(operation),
        RequestError::Untold => ActionError::Untold,
        RequestError::NoLeader(reason) => ActionError::NoLeader(reason),
        error => ActionError::TryAgain(error.to_string()),
    }
}

/// Whether it is certain that nothing was done, for a reason that has nothing to do with what was asked for.
fn is_not_done(error: &RequestError) -> bool {
    !matches!(
        error,
        RequestError::Action { .. }
            | RequestError::Unknown(_)
            | RequestError::Untold
            | RequestError::Forgotten(_)
    )
}

/// Whether it may go better at another anchor, or later: nothing was proposed.
pub(super) fn is_worth_another_try(error: &RequestError) -> bool {
    matches!(error, RequestError::TryAgain { .. } | RequestError::NoLeader(_))
}

/// What an operation replied, as bytes.
pub(super) fn reply_of(result: &[u8]) -> RequestReply {
    decode_reply(result).unwrap_or(Err(RequestError::Untold))
}

pub(super) fn not_done(keyspace: KeyspaceName, reason: &NotDone) -> RequestError {
    match reason {
        NotDone::NoLeader | NotDone::NotLeader { .. } => RequestError::NoLeader(reason.to_string()),
        _ => RequestError::TryAgain { keyspace, reason: reason.to_string() },
    }
}
