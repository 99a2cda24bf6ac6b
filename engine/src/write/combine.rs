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
        let mut sizes = Vec::with_capacity(keys.len());
        for key in keys {
            check_key(key)?;
            let Answer::Count(size) = self.ask(&Query::Cardinality(key.clone()))? else {
                unreachable!("the elements were counted")
            };
            sizes.push(size);
        }
        let elements = self.combined(how, keys, &sizes)?;
        self.delete(into)?;
        if !elements.is_empty() {
            self.add(into, &elements)?;
        }
        Ok(Outcome::Changed(elements.len() as u64))
    }

    fn combined(
        &self,
        how: Combination,
        keys: &[Vec<u8>],
        sizes: &[u64],
    ) -> Result<Vec<Vec<u8>>, WriteError> {
        let mut gathered = Gathered::default();
        if how == Combination::Union {
            for (key, _) in keys.iter().zip(sizes).filter(|(_, size)| **size > 0) {
                self.visit_elements(key, &mut |element| gathered.take(element))?;
            }
            return Ok(gathered.into_elements()?);
        }
        // The smallest set bounds an intersection, and what it costs.
        let smallest = (0..keys.len()).min_by_key(|index| sizes[*index]).unwrap_or(0);
        let walked = if how == Combination::Intersection { smallest } else { 0 };
        let wanted = how == Combination::Intersection;
        let Some(first) = keys.get(walked) else { return Err(WriteError::Empty) };
        if sizes[walked] == 0 {
            return Ok(Vec::new());
        }
        let mut failed = None;
        self.visit_elements(first, &mut |element| {
            for other in keys.iter().enumerate().filter(|(index, _)| *index != walked).map(|(_, key)| key) {
                match self.ask(&Query::Contains(other.clone(), element.clone())) {
                    Ok(Answer::Bool(is_in)) if is_in == wanted => {}
                    Ok(_) => return ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            gathered.take(element)
        })?;
        failed.map_or_else(|| Ok(gathered.into_elements()?), Err)
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
