//! What came of operations on strong keyspaces: kept for so long that nothing takes effect twice.
//!
//! Of a client the outcomes of its highest number and of the [`OUTCOMES_PER_CLIENT`] - 1 numbers below are kept. What is
//! lower fell out, whether it was ever done or not, and is never done again: that follows from the highest row alone,
//! which stays as long as any of the client's does. By age a client goes as a whole, when its last outcome is old.

use std::ops::ControlFlow;

use super::Author;
use crate::apply::outcome_subkey;
use crate::bounds::{FRAME_OPS_BYTES_MAX, OUTCOME_BYTES_MAX, OUTCOMES_PER_CLIENT};
use crate::causality::{Dot, Hlc};
use crate::id::{ClientId, KeyspaceId};
use crate::op::{Op, OutcomeRef};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
use crate::row::{Kind, OUTCOMES_KEY, Payload, RowId};

/// How far below a new outcome one of the same client is looked for, first and then.
const NEAR: [u64; 2] = [8, OUTCOMES_PER_CLIENT];

/// What is known of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It was not executed, and may be.
    Not,
    /// It was, at this place in the log, and gave this; none if that was too long to be kept.
    Done {
        /// The place in the log.
        index: u64,
        /// What it gave.
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
    let range = RowRange { within: of_client(client), after: Some(After::From(key, kind, subkey)) };
    rows.scan(keyspace, &range, &mut |_, _| {
        found = Executed::FellOut;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// All outcomes of a client. A scan that went on to the next client would go through what that one has let go of since
/// rows were last written.
fn of_client(client: ClientId) -> Within {
    Within::SubkeyPrefix(OUTCOMES_KEY.to_vec(), Kind::Outcome, client.0.to_vec())
}

impl Author<'_, '_> {
    /// Keeps what an operation gave, which was [`Executed::Not`] yet, and lets go what that is too much beside.
    ///
    /// # Errors
    /// [`ReadError`]. The draft and the frame may hold a part of it: take them back.
    pub fn keep_outcome(
        &mut self,
        (client, number): (ClientId, u64),
        index: u64,
        result: &[u8],
    ) -> Result<(), ReadError> {
        let mut forgotten = Vec::new();
        if let Some(until) = number.checked_sub(OUTCOMES_PER_CLIENT) {
            let from = self.lowest_kept(client, number)?;
            self.each_of_client(client, from, |number, dot| {
                let is_too_much = number <= until;
                if is_too_much {
                    forgotten.push((number, dot));
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        let forgotten = self.outcome_references(&forgotten);
        let result = (result.len() <= OUTCOME_BYTES_MAX).then(|| result.to_vec());
        self.push(Op::Outcome { client, number, index, result, forgotten })
    }

    /// A number below which there is no outcome of a client, which most often is just below the one that goes next: what
    /// is kept of a number near the new one tells it without going through all that was let go of before.
    fn lowest_kept(&self, client: ClientId, number: u64) -> Result<u64, ReadError> {
        for near in NEAR {
            let mut found = None;
            self.each_of_client(client, number.saturating_sub(near), |kept, _| {
                found = (kept < number).then_some(kept);
                ControlFlow::Break(())
            })?;
            if let Some(kept) = found {
                return Ok((kept + 1).saturating_sub(OUTCOMES_PER_CLIENT));
            }
        }
        Ok(0)
    }

    fn each_of_client(
        &self,
        client: ClientId,
        from: u64,
        mut visit: impl FnMut(u64, Dot) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let after = After::From(OUTCOMES_KEY.to_vec(), Kind::Outcome, outcome_subkey(client, from));
        let range = RowRange { within: of_client(client), after: Some(after) };
        let keyspace = self.frame.header().keyspace;
        self.draft.scan(keyspace, &range, &mut |row, _| match named(&row) {
            Some((_, number)) => visit(number, row.dot),
            None => ControlFlow::Continue(()),
        })
    }

    /// Lets go of all clients whose outcomes are all of this moment or before it, or of as many as fill half a frame:
    /// the others go the next time.
    ///
    /// # Errors
    /// [`ReadError`]. The draft and the frame may hold a part of it: take them back.
    pub fn forget_outcomes(&mut self, until: Hlc) -> Result<(), ReadError> {
        let mut after = None;
        while self.frame.size().0 < FRAME_OPS_BYTES_MAX / 2 {
            let mut client = None;
            let mut forgotten = Vec::new();
            let mut is_old = true;
            self.each_outcome(after.take(), |row, payload| {
                let Some((of, number)) = named(row) else { return ControlFlow::Continue(()) };
                if *client.get_or_insert(of) != of {
                    return ControlFlow::Break(());
                }
                forgotten.push((number, row.dot));
                is_old = matches!(payload, Payload::Outcome { stamp, .. } if stamp.hlc <= until);
                if is_old { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            let Some(client) = client else { break };
            after =
                Some(After::Group(OUTCOMES_KEY.to_vec(), Kind::Outcome, outcome_subkey(client, u64::MAX)));
            if is_old {
                let forgotten = self.outcome_references(&forgotten);
                self.push(Op::Forget { client, forgotten })?;
            }
        }
        Ok(())
    }

    fn each_outcome(
        &self,
        after: Option<After>,
        mut visit: impl FnMut(&RowId, &Payload) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let within = Within::Kind(OUTCOMES_KEY.to_vec(), Kind::Outcome);
        let keyspace = self.frame.header().keyspace;
        self.draft.scan(keyspace, &RowRange { within, after }, &mut |row, payload| visit(&row, &payload))
    }

    fn outcome_references(&mut self, outcomes: &[(u64, Dot)]) -> Vec<OutcomeRef> {
        let reference =
            |(number, dot): &(u64, Dot)| OutcomeRef { number: *number, dot: self.frame.reference(*dot) };
        outcomes.iter().map(reference).collect()
    }
}

/// Whose outcome a row is, and of which operation.
fn named(row: &RowId) -> Option<(ClientId, u64)> {
    let (client, number) = row.subkey.split_first_chunk()?;
    Some((ClientId(*client), u64::from_be_bytes(number.try_into().ok()?)))
}
