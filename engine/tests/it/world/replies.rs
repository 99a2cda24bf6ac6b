//! What strong keyspaces are asked and answer, in short forms.

use tidelock_engine::id::ClientId;
use tidelock_engine::read::{Answer, Executed, Query};
use tidelock_engine::replica::{Freshness, Terms};
use tidelock_engine::request::{Action, ActionReply, Decided, RequestError, RequestReply};
use tidelock_engine::write::{Outcome, Write};

use super::words::text;

pub(crate) fn write(write: Write) -> Vec<Action> {
    vec![Action::Write(write)]
}

pub(crate) fn get(key: &str) -> Vec<Action> {
    vec![Action::Query(Query::Get(key.into()))]
}

pub(crate) fn stale() -> Terms {
    Terms { freshness: Freshness::Stale, ..Terms::default() }
}

/// The value that a read gave.
pub(crate) fn value(reply: RequestReply) -> Option<String> {
    match reply.expect("it is answered").pop().expect("one query").expect("it has an answer") {
        ActionReply::Answer(Answer::Value(value)) => value.map(|value| text(&value)),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn outcome(reply: RequestReply) -> Outcome {
    match reply.expect("it is done").pop().expect("one write").expect("it is done") {
        ActionReply::Outcome(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn decided(reply: RequestReply) -> bool {
    match reply.expect("it is decided").pop().expect("one decision").expect("it is decided") {
        ActionReply::Decided(Decided { given, .. }) => given.is_some(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn error(reply: Option<RequestReply>) -> RequestError {
    reply.expect("it is answered").expect_err("it is refused")
}

/// What became of an operation, as it is asked for.
pub(crate) fn became(client: u8, number: u64) -> Vec<Action> {
    vec![Action::Query(Query::Outcome(ClientId([client; 16]), number))]
}

/// What became of an operation.
pub(crate) fn executed(reply: RequestReply) -> Executed {
    match reply.expect("it is answered").pop() {
        Some(Ok(ActionReply::Answer(Answer::Executed(executed)))) => executed,
        other => panic!("{other:?}"),
    }
}
