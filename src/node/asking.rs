//! Requests on terms, and what is asked of strong keyspaces beside them: labels, revisions, outcomes and the outbox.

use tidelock_engine::command::OperationId;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::{Durability, ReadError};
use tidelock_engine::read::{Answer, Executed, Query};
use tidelock_engine::replica::{Freshness, Label, Terms};
use tidelock_engine::request::{
    Action, ActionReply, Atomicity, Request, RequestError, RequestReply, decode_reply,
};
use tokio::sync::oneshot;

use crate::named;
use crate::node::mailbox::Job;
use crate::node::modes::KeyspaceMode;
use crate::node::{Node, ending};

/// What requests that were handed over together gave.
#[derive(Debug, Default)]
pub struct Replied {
    /// A reply for each, in their order.
    pub replies: Vec<RequestReply>,
    /// What the last of them saw that was answered by less than all that was acknowledged.
    pub label: Option<Label>,
}

impl Replied {
    /// All of them came to the same.
    pub(super) fn all(count: usize, reply: impl FnMut() -> RequestReply) -> Self {
        Self { replies: std::iter::repeat_with(reply).take(count).collect(), label: None }
    }

    /// The only reply, and its label.
    pub(crate) fn into_only(mut self) -> (RequestReply, Option<Label>) {
        (self.replies.pop().unwrap_or(Err(RequestError::Closed)), self.label)
    }
}

/// What is known of an operation.
#[derive(Debug)]
pub enum OperationOutcome {
    /// It was executed, once, and this is what it gave.
    Done(RequestReply),
    /// It is of an epoch in which nothing of the kind is executed, or it was made certain that it never is. This is final.
    Never,
    /// Its client has gone on so far that its outcome is not kept: it was executed, or not, and it never will be from now
    /// on. This is final.
    Forgotten,
    /// It was not executed before this was asked, and may be yet; or its client has done nothing for so long that all its
    /// outcomes were let go.
    Unknown,
}

/// Answered by the loop, which alone knows the replica.
#[derive(Debug)]
pub(super) enum Question {
    /// The operations that were written in an epoch that is over and that no epoch has taken in: their frames, in this
    /// node's commit order, of about so many bytes.
    Outbox(KeyspaceName, usize, oneshot::Sender<Result<Outbox, ReadError>>),
}

/// What was written in an epoch of a keyspace that is over, and that no epoch has taken in.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// How many operations that are.
    pub operations: u64,
    /// The frames of the first of them.
    pub frames: Vec<Frame>,
}

impl Node {
    /// Executes requests in order and as one turn if possible, each on terms of its own; answers them together.
    ///
    /// A strong keyspace takes the requests that were handed over together in any order, unless one of them waited for
    /// the reply to another.
    pub async fn submit_on(&self, requests: Vec<(Request, Terms)>) -> Replied {
        let marks = named::marks(&requests);
        let mut replied = self.hand_over(requests).await;
        named::judge(&marks, &mut replied.replies);
        replied
    }

    async fn hand_over(&self, requests: Vec<(Request, Terms)>) -> Replied {
        let count = requests.len();
        let (sender, receiver) = oneshot::channel();
        if self.inner.mailbox.send(Job::Requests(requests, sender)).await.is_err() {
            return Replied::all(count, || Err(RequestError::Closed));
        }
        // The loop answers what it never took, too. Without an answer it was lost in the middle.
        receiver.await.unwrap_or_else(|_| Replied::all(count, ending::unknown))
    }

    /// The mode of a keyspace.
    pub fn mode(&self, keyspace: &KeyspaceName) -> KeyspaceMode {
        self.inner.modes.get(keyspace)
    }

    /// The keyspaces that are strong, as far as this node has heard.
    pub(crate) fn strong_keyspaces(&self) -> Vec<KeyspaceName> {
        self.inner.modes.strong()
    }

    /// Whether this node is an anchor that has applied what is committed in a strong keyspace, and nothing else.
    pub(crate) fn is_exact(&self, keyspace: &KeyspaceName) -> bool {
        self.mode(keyspace).is_exact
    }

    /// What a stale read of a strong keyspace would see here now; none if it is eventual.
    ///
    /// # Errors
    /// [`RequestError`]: the keyspace cannot be read here.
    pub async fn label(&self, keyspace: &KeyspaceName) -> Result<Option<Label>, RequestError> {
        let (atomicity, durability) = (Atomicity::Each, Durability::Durable);
        let request = Request { keyspace: keyspace.clone(), actions: Vec::new(), atomicity, durability };
        let terms = Terms { freshness: Freshness::Stale, ..Terms::default() };
        let (reply, label) = self.submit_on(vec![(request, terms)]).await.into_only();
        reply.map(|_| label)
    }

    /// What became of an operation on a strong keyspace: a linearizable read, so what was executed before it is asked
    /// for is known.
    ///
    /// # Errors
    /// [`RequestError`]: the anchors did not say in time what was executed.
    pub async fn outcome(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        let OperationId { epoch, client, number } = operation;
        if !epoch.is_strong() {
            return Ok(OperationOutcome::Never);
        }
        if self.mode(keyspace).epoch < epoch {
            return Ok(OperationOutcome::Unknown);
        }
        let (atomicity, durability) = (Atomicity::Each, Durability::Durable);
        let actions = vec![Action::Query(Query::Outcome(client, number))];
        let request = Request { keyspace: keyspace.clone(), actions, atomicity, durability };
        let (reply, _) = self.submit_on(vec![(request, Terms::default())]).await.into_only();
        let executed = match reply?.pop() {
            Some(Ok(ActionReply::Answer(Answer::Executed(executed)))) => executed,
            Some(Err(source)) => return Err(RequestError::Action { index: 0, source }),
            other => unreachable!("an outcome was asked for, and not {other:?}"),
        };
        Ok(match executed {
            Executed::Not => OperationOutcome::Unknown,
            Executed::FellOut => OperationOutcome::Forgotten,
            Executed::Done { result, .. } => told(kept_reply(result.as_deref())),
        })
    }

    /// The same, and where the operation was not executed it is made certain that it never will be: what does nothing is
    /// executed under its name. What is answered is final, but for an operation of an epoch that is not here yet.
    ///
    /// # Errors
    /// [`RequestError`]: the anchors did not do it in time, and the operation may be executed yet.
    pub async fn settle(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        let OperationId { epoch, client, number } = operation;
        if !epoch.is_strong() || self.mode(keyspace).epoch != epoch {
            return self.outcome(keyspace, operation).await;
        }
        let (atomicity, durability) = (Atomicity::AllOrNothing, Durability::Durable);
        let actions = vec![named::nothing()];
        let request = Request { keyspace: keyspace.clone(), actions, atomicity, durability };
        let terms = Terms { operation: Some((client, number)), ..Terms::default() };
        let (reply, _) = self.hand_over(vec![(request, terms)]).await.into_only();
        match reply {
            // So it ended when it was executed.
            Ok(_) | Err(RequestError::Action { .. } | RequestError::Untold) => Ok(told(reply)),
            Err(RequestError::Forgotten(_)) => Ok(OperationOutcome::Forgotten),
            Err(error) => Err(error),
        }
    }

    /// What was written here in an epoch of a keyspace that is over, and that no epoch has taken in: the frames of the
    /// first operations, of about so many bytes.
    ///
    /// # Errors
    /// The store could not be read, or the node was shut down.
    pub async fn outbox(&self, keyspace: &KeyspaceName, bytes_max: usize) -> Result<Outbox, ReadError> {
        let (sender, receiver) = oneshot::channel();
        self.put(Job::Question(Question::Outbox(keyspace.clone(), bytes_max, sender)));
        receiver.await.unwrap_or_else(|_| Err(Self::closed()))
    }
}

/// What was executed under the name of an operation: it, or what does nothing in its place.
fn told(reply: RequestReply) -> OperationOutcome {
    named::told(reply).map_or(OperationOutcome::Never, OperationOutcome::Done)
}

/// What an operation replied, as it was kept: nothing, if it was too long.
fn kept_reply(result: Option<&[u8]>) -> RequestReply {
    result.and_then(|result| decode_reply(result).ok()).unwrap_or(Err(RequestError::Untold))
}
