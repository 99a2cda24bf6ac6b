//! Storing what sets combine to: their intersection, union or difference.
//!
//! It is read here and written as a removal and an addition, so what others add at the same time to the set that is
//! written survives, and what they change in those that are read does not show in it. No more of the sets is in memory
//! than what they combine to.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{Author, Outcome, WriteError};
use crate::bounds::{BoundError, ELEMENTS_MAX, FRAME_OPS_BYTES_MAX, check_elements, check_key};
use crate::ports::{RowRange, Rows, Within};
use crate::read::{Answer, Combination, Query};
use crate::row::Kind;

/// Elements that are to be written: no more than a frame holds.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    elements: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Gathered {
    /// Takes one more; stops when they are too many.
    pub(super) fn take(&mut self, element: Vec<u8>) -> ControlFlow<()> {
        let length = element.len();
        if self.elements.insert(element) {
            self.bytes += length;
        }
        let is_full = self.bytes > FRAME_OPS_BYTES_MAX || self.elements.len() > ELEMENTS_MAX;
        if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub(super) fn into_elements(self) -> Result<Vec<Vec<u8>>, BoundError> {
        check_elements(self.elements.len())?;
        if self.bytes > FRAME_OPS_BYTES_MAX {
            return Err(BoundError::Batch { bytes: self.bytes, ops: 1 });
        }
        Ok(self.elements.into_iter().collect())
    }
}

impl Author<'_, '_> {
    /// Answers the number of elements. A key is removed if there are none.
    pub(super) fn combine(
        &mut self,
        into: &[u8],
        how: Combination,
        keys: &[Vec<u8>],
    ) -> Result<Outcome, WriteError> {
        check_key(into)?;
        let query = Query::Combined(how, keys.to_vec());
        let Answer::List(elements) = self.ask(&query)? else { unreachable!("elements were asked for") };
        check_elements(elements.len())?;
        let bytes = elements.iter().map(Vec::len).sum();
        if bytes > FRAME_OPS_BYTES_MAX {
            return Err(BoundError::Batch { bytes, ops: 1 }.into());
        }
        self.delete(into)?;
        if !elements.is_empty() {
            self.add(into, &elements)?;
        }
        Ok(Outcome::Changed(elements.len() as u64))
    }

    /// Shows each element of a set, in byte order. Of one that has expired too: whoever calls has looked.
    pub(super) fn visit_elements(
        &self,
        key: &[u8],
        visit: &mut dyn FnMut(Vec<u8>) -> ControlFlow<()>,
    ) -> Result<(), WriteError> {
        if self.view(key)?.elements == 0 {
            return Ok(());
        }
        let mut last = None;
        let range = RowRange::all(Within::Kind(key.to_vec(), Kind::Set));
        self.draft.scan(self.frame.header().keyspace, &range, &mut |row, _| {
            if last.as_ref() == Some(&row.subkey) {
                return ControlFlow::Continue(());
            }
            last = Some(row.subkey.clone());
            visit(row.subkey)
        })?;
        Ok(())
    }
}
