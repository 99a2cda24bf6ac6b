//! What came of operations on strong keyspaces: kept for so long that nothing takes effect twice.
//!
//! Of a client the outcomes of its highest number and of the [`OUTCOMES_PER_CLIENT`] - 1 numbers below are kept, and of
//! fewer than [`OUTCOMES_AT_ONCE`] below these. What is lower fell out, whether it was ever done or not, and is never
//! done again: that follows from the highest row alone, which stays as long as any of the client's does. By age a client
//! goes as a whole, when its last outcome is old.

use std::ops::ControlFlow;

use super::Author;
use crate::apply::outcome_subkey;
use crate::bounds::{FRAME_OPS_BYTES_MAX, OUTCOME_BYTES_MAX, OUTCOMES_AT_ONCE, OUTCOMES_PER_CLIENT};
use crate::causality::{Dot, Hlc};
use crate::id::ClientId;
use crate::op::{Op, OutcomeRef};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
pub use crate::read::{Executed, executed};
use crate::read::{each_of_client, named, of_client};
use crate::row::{Kind, OUTCOMES_KEY, Payload, RowId};

/// How far below a new outcome one of the same client is looked for, one after the other.
const NEAR: [u64; 3] = [1, 16, OUTCOMES_PER_CLIENT];

/// Once a number of a client is kept, nothing is that is below this.
fn floor(number: u64) -> u64 {
    let lowest = number.checked_sub(OUTCOMES_PER_CLIENT).map_or(0, |below| below + 1);
    lowest - lowest % OUTCOMES_AT_ONCE
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
        let (from, until) = (self.lowest_kept(client, number)?, floor(number));
        let mut forgotten = Vec::new();
        if from < until {
            let keyspace = self.frame.header().keyspace;
            each_of_client(&*self.draft, keyspace, (client, from), |number, dot, _| {
                let is_too_much = number < until;
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

    /// A number below which there is no outcome of a client: what is kept of a number near the new one tells it, without
    /// going through all that was let go of before.
    fn lowest_kept(&self, client: ClientId, number: u64) -> Result<u64, ReadError> {
        if floor(number) == 0 {
            return Ok(0);
        }
        let keyspace = self.frame.header().keyspace;
        // The operations of one entry follow each other most often.
        let before = self.draft.first_changed(keyspace, &of_client(client, number - 1));
        if let Some((_, kept)) = before.as_ref().and_then(named).filter(|(_, kept)| *kept < number) {
            return Ok(floor(kept));
        }
        for near in NEAR {
            let mut found = None;
            each_of_client(&*self.draft, keyspace, (client, number.saturating_sub(near)), |kept, _, _| {
                found = (kept < number).then_some(kept);
                ControlFlow::Break(())
            })?;
            if let Some(kept) = found {
                return Ok(floor(kept));
            }
        }
        Ok(0)
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
