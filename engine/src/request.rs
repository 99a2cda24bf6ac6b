//! What a client asks of a replica in one go, and what it is answered.

mod bytes;
mod nested;

pub use bytes::{
    REPLY_BYTES_MAX, RequestTooLong, decode_replies, decode_reply, encode_replies, encode_reply,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::list;
use crate::bounds::{ACTIONS_MAX, REQUEST_ANSWER_BYTES_MAX};
use crate::condition::Condition;
use crate::id::KeyspaceName;
use crate::ports::Durability;
use crate::read::{Answer, Query, QueryError};
use crate::write::{Outcome, Write, WriteError};

/// Names a request within a process, so that its reply finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One step of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "nested::Outermost")]
pub enum Action {
    /// Changes something.
    Write(Write),
    /// Reads what the actions before have left.
    Query(Query),
    /// Does something only if something holds.
    Decide(Box<Decision>),
    /// Does several things, and if one of them fails nothing.
    Whole(Vec<Action>),
}

impl Action {
    /// Whether it only reads.
    pub fn is_query(&self) -> bool {
        match self {
            Self::Query(_) => true,
            Self::Write(_) | Self::Decide(_) | Self::Whole(_) => false,
        }
    }

    /// Whether it may do more than remove.
    pub(crate) fn may_grow(&self) -> bool {
        match self {
            Self::Query(_) => false,
            Self::Write(write) => !write.is_removal(),
            Self::Decide(decision) => decision.actions.iter().any(Self::may_grow),
            Self::Whole(actions) => actions.iter().any(Self::may_grow),
        }
    }
}

/// Reads, conditions, and what is done if all of these hold, at one moment.
///
/// It is plain data, and what it gives follows from it and the rows alone. In an eventual keyspace it is refused, unless
/// the operator said that the view of this replica is good enough: [`Conditional`](crate::ports::Conditional).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What is answered in any case, as it is before the actions. If one has no answer, nothing is done.
    pub reads: Vec<Query>,
    /// What must hold. If it cannot be told of one, nothing is done.
    pub conditions: Vec<Condition>,
    /// What is done then.
    pub actions: Vec<Action>,
    /// Whether one action that fails lets none be done. Otherwise it leaves the others alone.
    pub is_whole: bool,
}

/// How deep decisions, and what is done as a whole, may stand in each other: a command within a transaction that is one
/// itself.
pub const DECISION_DEPTH_MAX: usize = 2;

/// What came of a decision.
#[derive(Debug, Serialize)]
pub struct Decided {
    /// What its reads answer, in order.
    pub answers: Vec<Answer>,
    /// What its actions gave, in order; `None` if a condition did not hold, so that nothing was done.
    pub given: Option<Vec<Result<ActionReply, ActionError>>>,
}

/// How the actions of a request belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Atomicity {
    /// Each by itself: a failed one leaves the others alone. Others may see them half done.
    #[default]
    Each,
    /// Nobody sees them half done; a failed one leaves the others alone, as in a Redis transaction.
    Together,
    /// Nobody sees them half done, and if one fails nothing is done.
    AllOrNothing,
}

/// Actions on one keyspace, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where.
    pub keyspace: KeyspaceName,
    /// What to do.
    #[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")]
    pub actions: Vec<Action>,
    /// How they belong together.
    pub atomicity: Atomicity,
    /// When to reply. Reads are answered after the writes before them are as durable as this asks.
    pub durability: Durability,
}

impl Request {
    /// Whether it only reads.
    pub fn is_query(&self) -> bool {
        self.actions.iter().all(Action::is_query)
    }
}

/// What one action gave.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "nested::OutermostReply")]
pub enum ActionReply {
    /// What a write did.
    Outcome(Outcome),
    /// What a query answers.
    Answer(Answer),
    /// What came of a decision.
    Decided(Decided),
    /// What each part of a whole gave, in order.
    Whole(Vec<ActionReply>),
}

/// Why one action was not done. It changed nothing.
#[derive(Debug, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ActionError {
    /// A write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A decision, in a keyspace where it would hold on this replica only.
    #[error("keyspace {0} is eventual, and only a strong one can decide for all replicas at once")]
    NeedsStrong(KeyspaceName),
    /// A decision within a decision within a decision.
    #[error("decisions stand in each other more than {DECISION_DEPTH_MAX} deep")]
    TooDeep,
    /// The answers before this one were too long to answer more with them.
    #[error(
        "the answers of one request are longer than {REQUEST_ANSWER_BYTES_MAX} bytes; ask for less at once"
    )]
    TooMuch,
    /// Of several actions on a strong keyspace, this one may have been done, once, or may be yet.
    #[error("nobody here knows yet whether operation {0} was executed; ask for its outcome")]
    Unknown(String),
    /// Of several actions on a strong keyspace, this one was certainly not done, for this reason; retryable.
    #[error("{0}")]
    TryAgain(String),
    /// It was done, and what it gave is too long to be told to another node, or to be kept.
    #[error("it was done, but what it gave is too long to be told; ask for less at once")]
    Untold,
    /// Of several actions on a strong keyspace, this one was certainly not done, because nobody leads the anchors, as far
    /// as is known; retryable.
    #[error("{0}")]
    NoLeader(String),
    /// Of several actions on a strong keyspace, this one is an operation whose outcome is not kept any more. It did nothing
    /// now, and never will.
    #[error("what became of operation {0} is forgotten: its client has gone on since; it did nothing now")]
    Forgotten(String),
}

/// Why a request has no replies. But for [`RequestError::Commit`], [`RequestError::Unknown`], [`RequestError::Untold`] and
/// [`RequestError::Forgotten`], nothing of it was done.
#[derive(Debug, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RequestError {
    /// The keyspace is not among those that this node replicates.
    #[error("keyspace {0} is not replicated on this node")]
    NotReplicated(KeyspaceName),
    /// The node holds as many keyspaces as it can.
    #[error("this node holds {0} keyspaces, which is the most it can")]
    TooManyKeyspaces(usize),
    /// An action of an all-or-nothing request failed.
    #[error("action {index}: {source}; nothing of the batch was done")]
    Action {
        /// Which one, from 0.
        index: usize,
        /// Why.
        source: ActionError,
    },
    /// State of the keyspace is being taken over from a peer, and is not complete. Certainly not executed.
    #[error("keyspace {0} is being fetched from a peer")]
    Loading(KeyspaceName),
    /// The node is about to leave the keyspace, and waits for a peer that has all of it. Certainly not executed.
    #[error("keyspace {0} is about to be left by this node")]
    Leaving(KeyspaceName),
    /// The node takes no writes since an earlier one failed; reads go on. Certainly not executed.
    #[error("{0}")]
    ReadOnly(String),
    /// The keyspace is about to become strong. Certainly not executed; retryable.
    #[error("keyspace {0} is about to change its mode; try again in a moment")]
    SwitchInProgress(KeyspaceName),
    /// The epoch for which it was meant is over. Certainly not executed.
    #[error("keyspace {0} has changed its mode since; nothing was done")]
    EpochClosed(KeyspaceName),
    /// The anchors of a strong keyspace have no leader that a majority follows, as far as is known here. Certainly not
    /// executed; retryable.
    #[error("{0}")]
    NoLeader(String),
    /// A strong keyspace cannot answer now. Certainly not executed; retryable.
    #[error("keyspace {keyspace} cannot answer now: {reason}; nothing was done, try again in a moment")]
    TryAgain {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Why.
        reason: String,
    },
    /// It is more than the log of the anchors takes at once. Certainly not executed.
    #[error(
        "keyspace {keyspace} is strong, and its log does not take this at once: {reason}; nothing was done"
    )]
    TooLarge {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Why.
        reason: String,
    },
    /// It may have been executed, once, or may be yet. The outcome of the operation tells.
    #[error("nobody here knows yet whether operation {0} was executed; ask for its outcome")]
    Unknown(String),
    /// The store did not take the writes, or nobody knows whether it did: they may be there after a restart.
    #[error("{0}")]
    Commit(String),
    /// All of it was done, and what it gave is too long to be told to another node, or to be kept.
    #[error("the request was done, but what it gave is too long to be told; ask for less at once")]
    Untold,
    /// The node is shutting down, or its event loop ended.
    #[error("the node is shutting down")]
    Closed,
    /// Its client has executed so many operations since, or gave them so much higher numbers, that the outcome of this one
    /// is not kept: it was executed before, or not. It did nothing now, and never will.
    #[error("what became of operation {0} is forgotten: its client has gone on since; it did nothing now")]
    Forgotten(String),
    /// It was made certain that the operation of this name is never executed.
    #[error("it was made certain that the operation of this client and number is never executed")]
    Never,
    /// The name was given to another operation, which was executed. This one did nothing, and never will.
    #[error("this client and number name another operation, which was executed; this one was not")]
    OtherOperation,
}

/// What each action of a request gave, in order.
pub type RequestReply = Result<Vec<Result<ActionReply, ActionError>>, RequestError>;
