//! Actions and what they gave as they are read from bytes: what stands in each other is as deep as it may be, and no
//! deeper, so that no bytes make us run out of stack.
//!
//! How deep is part of the types: each has, in place of itself, what may stand in it. They have the variants of what
//! they are made into, in the same order.

use serde::{Deserialize, Serialize};

use super::{Action, ActionError, ActionReply, Decided, Decision};
use crate::bounded::list;
use crate::bounds::{ACTIONS_MAX, STRUCTURE_BYTES_MAX};
use crate::condition::Condition;
use crate::read::{Answer, Query};
use crate::write::{Outcome, Write};

/// An action with [`DECISION_DEPTH_MAX`](super::DECISION_DEPTH_MAX) levels within it.
pub(super) type Outermost = ActionIn<ActionIn<ActionIn<Nothing>>>;

/// What such an action gave.
pub(super) type OutermostReply = ReplyIn<ReplyIn<ReplyIn<Nothing>>>;

/// What stands too deep: there is none.
#[derive(Deserialize)]
pub(super) enum Nothing {}

/// An action that is made of such things.
#[derive(Deserialize)]
#[serde(bound(deserialize = "Inner: Deserialize<'de>"))]
pub(super) enum ActionIn<Inner> {
    Write(Write),
    Query(Query),
    Decide(Box<DecisionIn<Inner>>),
    Whole(#[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")] Vec<Inner>),
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Inner: Deserialize<'de>"))]
pub(super) struct DecisionIn<Inner> {
    #[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")]
    reads: Vec<Query>,
    #[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "list::<ACTIONS_MAX, _, _>")]
    actions: Vec<Inner>,
    is_whole: bool,
}

/// What an action gave that is made of such things.
#[derive(Deserialize)]
#[serde(bound(deserialize = "Inner: Deserialize<'de>"))]
pub(super) enum ReplyIn<Inner> {
    Outcome(Outcome),
    Answer(Answer),
    Decided(DecidedIn<Inner>),
    Whole(#[serde(deserialize_with = "list::<STRUCTURE_BYTES_MAX, _, _>")] Vec<Inner>),
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Inner: Deserialize<'de>"))]
pub(super) struct DecidedIn<Inner> {
    #[serde(deserialize_with = "list::<STRUCTURE_BYTES_MAX, _, _>")]
    answers: Vec<Answer>,
    given: Option<Given<Inner>>,
}

/// What each of several actions gave.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "Reply: Deserialize<'de>"))]
pub(super) struct Given<Reply>(
    #[serde(deserialize_with = "list::<STRUCTURE_BYTES_MAX, _, _>")]
    pub(super)  Vec<Result<Reply, ActionError>>,
);

impl From<Nothing> for Action {
    fn from(nothing: Nothing) -> Self {
        match nothing {}
    }
}

impl From<Nothing> for ActionReply {
    fn from(nothing: Nothing) -> Self {
        match nothing {}
    }
}

impl<Inner: Into<Self>> From<ActionIn<Inner>> for Action {
    fn from(action: ActionIn<Inner>) -> Self {
        match action {
            ActionIn::Write(write) => Self::Write(write),
            ActionIn::Query(query) => Self::Query(query),
            ActionIn::Decide(decision) => {
                let DecisionIn { reads, conditions, actions, is_whole } = *decision;
                let actions = actions.into_iter().map(Into::into).collect();
                Self::Decide(Box::new(Decision { reads, conditions, actions, is_whole }))
            }
            ActionIn::Whole(actions) => Self::Whole(actions.into_iter().map(Into::into).collect()),
        }
    }
}

impl<Inner: Into<Self>> From<ReplyIn<Inner>> for ActionReply {
    fn from(reply: ReplyIn<Inner>) -> Self {
        match reply {
            ReplyIn::Outcome(outcome) => Self::Outcome(outcome),
            ReplyIn::Answer(answer) => Self::Answer(answer),
            ReplyIn::Decided(DecidedIn { answers, given }) => {
                let given =
                    given.map(|Given(given)| given.into_iter().map(|one| one.map(Into::into)).collect());
                Self::Decided(Decided { answers, given })
            }
            ReplyIn::Whole(replies) => Self::Whole(replies.into_iter().map(Into::into).collect()),
        }
    }
}
