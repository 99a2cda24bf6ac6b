//! What became of an operation on a strong keyspace, as the rows of one moment tell it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::apply::outcome_subkey;
use crate::bounds::OUTCOMES_PER_CLIENT;
use crate::id::{ClientId, KeyspaceId};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
use crate::row::{Kind, OUTCOMES_KEY, Payload};

/// What is known of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Executed {
    /// It was not executed, and may be.
    Not,
    /// It was, at this place in the log, and gave this; none if that was too long to be kept.
    Done {
        /// The place in the log.
        index: u64,
        /// What it gave.
        #[serde(with = "serde_bytes")]
        result: Option<Vec<u8>>,
    },
    /// Its client has gone on so far that nobody knows. It must not be executed.
    FellOut,
}

/// What the rows know of an operation.
///
/// # Errors
/// [`ReadError`].
pub fn executed(
    rows: &dyn Rows,
    keyspace: KeyspaceId,
    (client, number): (ClientId, u64),
) -> Result<Executed, ReadError> {
    let group = |number| (OUTCOMES_KEY.to_vec(), Kind::Outcome, outcome_subkey(client, number));
    let (key, kind, subkey) = group(number);
    let mut found = Executed::Not;
    rows.scan(keyspace, &RowRange::all(Within::Group(key, kind, subkey)), &mut |_, payload| {
        if let Payload::Outcome { index, result, .. } = payload {
            found = Executed::Done { index, result };
        }
        ControlFlow::Break(())
    })?;
    let Some(beyond) = number.checked_add(OUTCOMES_PER_CLIENT).filter(|_| found == Executed::Not) else {
        return Ok(found);
    };
    let (key, kind, subkey) = group(beyond);
    let within = Within::Kind(OUTCOMES_KEY.to_vec(), Kind::Outcome);
    let range = RowRange { within, after: Some(After::From(key, kind, subkey)) };
    rows.scan(keyspace, &range, &mut |row, _| {
        if row.subkey.starts_with(&client.0) {
            found = Executed::FellOut;
        }
        ControlFlow::Break(())
    })?;
    Ok(found)
}
