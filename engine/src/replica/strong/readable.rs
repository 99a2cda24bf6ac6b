//! Replies that say something of a command, and those that only say that this node could not read.
//!
//! What one anchor could not read another one can, so it is no reply: the anchor that could not stops.

use crate::ports::ReadError;
use crate::read::QueryError;
use crate::request::{ActionError, ActionReply, Decided, RequestError, RequestReply};
use crate::write::WriteError;

/// The reply; or why the rows could not be read, if that is why something was not done.
///
/// # Errors
/// [`ReadError`]: the reply says nothing of the command.
pub(super) fn readable_reply(reply: RequestReply) -> Result<RequestReply, ReadError> {
    let given = match reply {
        Ok(given) => given,
        Err(RequestError::Action { index, source }) => {
            return Ok(Err(RequestError::Action { index, source: readable(source)? }));
        }
        Err(error) => return Ok(Err(error)),
    };
    given.into_iter().map(of_action).collect::<Result<_, _>>().map(Ok)
}

fn of_action(given: Result<ActionReply, ActionError>) -> Result<Result<ActionReply, ActionError>, ReadError> {
    Ok(match given {
        Ok(ActionReply::Decided(Decided { answers, given: Some(given) })) => {
            let given = given.into_iter().map(of_action).collect::<Result<_, _>>()?;
            Ok(ActionReply::Decided(Decided { answers, given: Some(given) }))
        }
        Ok(ActionReply::Whole(replies)) => {
            let replies = replies.into_iter().map(|reply| Ok(of_action(Ok(reply))?.expect("it was done")));
            Ok(ActionReply::Whole(replies.collect::<Result<_, ReadError>>()?))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err(readable(error)?),
    })
}

fn readable(error: ActionError) -> Result<ActionError, ReadError> {
    match error {
        ActionError::Write(WriteError::Read(error)) | ActionError::Query(QueryError::Read(error)) => {
            Err(error)
        }
        error => Ok(error),
    }
}
