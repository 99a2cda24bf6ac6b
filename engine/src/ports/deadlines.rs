//! The deadlines of keys in order of time, of rows that do not keep them so.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::id::KeyspaceId;
use crate::ports::{ReadError, RowRange, Rows, Within};
use crate::row::Payload;

/// Visits deadlines as [`Rows::deadlines`] does, by reading all rows of a keyspace.
///
/// # Errors
/// [`ReadError`].
pub fn scan_deadlines<R: Rows + ?Sized>(
    rows: &R,
    keyspace: KeyspaceId,
    (after, until_ms): (Option<&Due>, u64),
    visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut due = BTreeSet::new();
    rows.scan(keyspace, &RowRange::all(Within::Keyspace), &mut |row, payload| {
        if let Payload::Deadline(unix_ms) = payload {
            due.insert(Due { unix_ms, key: row.key });
        }
        ControlFlow::Continue(())
    })?;
    let behind = |due: &Due| due.unix_ms <= until_ms && after.is_none_or(|after| due > after);
    // That it was told to stop is all that there is to know of the end.
    let _ = due.into_iter().filter(behind).try_for_each(visit);
    Ok(())
}

/// That a key has a deadline, in order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When, in Unix milliseconds.
    pub unix_ms: u64,
    /// Which key.
    pub key: Vec<u8>,
}
