//! What a command reads between other things that it does, of a keyspace of either mode.

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::{Freshness, Label, Terms};
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Request};

use super::backend::Backend;
use super::errors;
use super::reply::Reply;

/// An answer for each query, in order.
pub(super) type Answers = Vec<Result<Answer, ActionError>>;

/// Where something is read, and what it must see if the keyspace is strong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) keyspace: &'a KeyspaceName,
    pub(super) freshness: Freshness,
}

impl Asking<'_> {
    /// Answers all queries, of one moment: beside the event loop, or, if the keyspace is strong, by way of its anchors.
    /// The label tells what was seen if that was less than all that was acknowledged.
    pub(super) async fn ask<B: Backend>(
        self,
        backend: &B,
        queries: Vec<Query>,
    ) -> Result<(Answers, Option<Label>), Reply> {
        let Self { keyspace, freshness } = self;
        if !backend.mode(keyspace).epoch.is_strong() {
            let answers = backend.read(keyspace, &queries, usize::MAX);
            let answers = answers.map_err(|error| errors::request(&error))?.into_iter();
            return Ok((answers.map(|answer| answer.map_err(ActionError::Query)).collect(), None));
        }
        let request = Request {
            keyspace: keyspace.clone(),
            actions: queries.into_iter().map(Action::Query).collect(),
            atomicity: Atomicity::Each,
            durability: Durability::default(),
        };
        let terms = Terms { freshness, ..Terms::default() };
        let (reply, label) = backend.submit_on(vec![(request, terms)]).await.into_only();
        let given = reply.map_err(|error| errors::request(&error))?.into_iter();
        let answer = |given| match given {
            Ok(ActionReply::Answer(answer)) => Ok(answer),
            Ok(other) => unreachable!("a query does not answer {other:?}"),
            Err(error) => Err(error),
        };
        Ok((given.map(answer).collect(), label))
    }
}
