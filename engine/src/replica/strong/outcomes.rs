//! What rows and strong frames say of operations, for whoever waits for one.

use std::ops::ControlFlow;

use crate::causality::Hlc;
use crate::command::OperationId;
use crate::frame::Frame;
use crate::id::KeyspaceId;
use crate::op::Op;
use crate::ports::{LogIndex, ReadError, RowRange, Rows, Within};
use crate::request::{RequestError, encode_reply};
use crate::row::{Kind, OUTCOMES_KEY, Payload};

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

/// The entry and the time of the last strong frame, as the rows tell it: each frame leaves an outcome. Reads all outcomes
/// that are kept.
pub(super) fn last(rows: &dyn Rows, id: KeyspaceId) -> Result<Option<(LogIndex, Hlc)>, ReadError> {
    let mut found: Option<(LogIndex, Hlc)> = None;
    let within = Within::Kind(OUTCOMES_KEY.to_vec(), Kind::Outcome);
    rows.scan(id, &RowRange::all(within), &mut |_, payload| {
        if let Payload::Outcome { index, stamp, .. } = payload {
            let (last, hlc) = found.unwrap_or_default();
            found = Some((last.max(LogIndex(index)), hlc.max(stamp.hlc)));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
