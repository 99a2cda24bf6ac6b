//! What rows and strong frames say of operations, for whoever waits for one.

use crate::command::OperationId;
use crate::frame::Frame;
use crate::op::Op;
use crate::ports::LogIndex;
use crate::request::{RequestError, encode_reply};

/// What an operation replied, as it was kept.
pub(super) fn reply(result: Option<Vec<u8>>) -> Vec<u8> {
    result.unwrap_or_else(|| encode_reply(&Err(RequestError::Untold)))
}

/// The entry that a strong frame was made of, if it says so.
pub(super) fn index_of(frame: &Frame) -> Option<LogIndex> {
    frame.ops().iter().rev().find_map(|op| match op {
        Op::Outcome { index, .. } => Some(LogIndex(*index)),
        _ => None,
    })
}

/// What a strong frame says of an operation of its epoch.
pub(super) fn in_frame(frame: &Frame, operation: &OperationId) -> Option<Vec<u8>> {
    frame.ops().iter().find_map(|op| match op {
        Op::Outcome { client, number, result, .. }
            if (*client, *number) == (operation.client, operation.number) =>
        {
            Some(reply(result.clone()))
        }
        _ => None,
    })
}
