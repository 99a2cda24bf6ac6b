//! Removing elements of a set that nobody chose: which ones follows from a seed and the rows.

use std::ops::ControlFlow;

use super::{Author, Outcome, WriteError};
use crate::bounds::{BoundError, FRAME_OPS_BYTES_MAX, check_elements, check_key};
use crate::dice::Dice;
use crate::read::{Answer, Query};
use crate::row::Kind;

impl Author<'_, '_> {
    /// Each choice of so many elements is as likely as any other: one pass takes each with the chance that fills what
    /// is left to be taken out of those that are left. Source: Knuth, "The Art of Computer Programming", volume 2,
    /// 3.4.2, algorithm S.
    pub(super) fn pop(&mut self, key: &[u8], count: u64, seed: u64) -> Result<Outcome, WriteError> {
        check_key(key)?;
        let Answer::Count(mut left) = self.ask(&Query::Cardinality(key.to_vec()))? else {
            unreachable!("the elements were counted")
        };
        let mut wanted = count.min(left);
        check_elements(usize::try_from(wanted).unwrap_or(usize::MAX))?;
        if wanted == 0 {
            return Ok(Outcome::Elements(Vec::new()));
        }
        let mut dice = Dice(seed);
        let (mut elements, mut bytes): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
        self.visit_elements(key, &mut |element| {
            if dice.below(left) < wanted {
                wanted -= 1;
                bytes += element.len();
                elements.push(element);
            }
            left = left.saturating_sub(1);
            let is_enough = wanted == 0 || bytes > FRAME_OPS_BYTES_MAX;
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if bytes > FRAME_OPS_BYTES_MAX {
            return Err(BoundError::Batch { bytes, ops: 1 }.into());
        }
        self.remove(key, Kind::Set, &elements)?;
        Ok(Outcome::Elements(elements))
    }
}
