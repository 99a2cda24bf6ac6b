//! What became of an operation on a strong keyspace, as the rows of one moment tell it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::apply::outcome_subkey;
use crate::bounds::OUTCOMES_PER_CLIENT;
use crate::causality::Dot;
use crate::id::{ClientId, KeyspaceId};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
use crate::row::{Kind, OUTCOMES_KEY, Payload, RowId};

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
    let (mut found, mut is_below_others) = (Executed::Not, false);
    each_of_client(rows, keyspace, (client, number), |of, _, payload| {
        match payload {
            Payload::Outcome { index, result, .. } if of == number => {
                found = Executed::Done { index, result };
            }
            _ => is_below_others = true,
        }
        ControlFlow::Break(())
    })?;
    if let Some(beyond) = number.checked_add(OUTCOMES_PER_CLIENT).filter(|_| is_below_others) {
        each_of_client(rows, keyspace, (client, beyond), |_, _, _| {
            found = Executed::FellOut;
            ControlFlow::Break(())
        })?;
    }
    Ok(found)
}

/// Visits the outcomes of a client from a number on. A scan that went on to the next client would go through all that
/// that one has let go of since rows were last written.
pub(crate) fn each_of_client(
    rows: &dyn Rows,
    keyspace: KeyspaceId,
    (client, from): (ClientId, u64),
    mut visit: impl FnMut(u64, Dot, Payload) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    rows.scan(keyspace, &of_client(client, from), &mut |row, payload| match named(&row) {
        Some((_, number)) => visit(number, row.dot, payload),
        None => ControlFlow::Continue(()),
    })
}

/// The outcomes of a client from a number on.
pub(crate) fn of_client(client: ClientId, from: u64) -> RowRange {
    let within = Within::SubkeyPrefix(OUTCOMES_KEY.to_vec(), Kind::Outcome, client.0.to_vec());
    let after = After::From(OUTCOMES_KEY.to_vec(), Kind::Outcome, outcome_subkey(client, from));
    RowRange { within, after: Some(after) }
}

/// Whose outcome a row is, and of which operation.
pub(crate) fn named(row: &RowId) -> Option<(ClientId, u64)> {
    let (client, number) = row.subkey.split_first_chunk()?;
    Some((ClientId(*client), u64::from_be_bytes(number.try_into().ok()?)))
}
