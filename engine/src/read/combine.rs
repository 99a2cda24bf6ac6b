//! Intersection, union and difference of sets, from the rows of one moment.
//!
//! An intersection goes through the smallest set, a difference through the first, and looks each element up in the
//! others; neither holds more than a page and what it answers.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::pages::{Collection, Gathered, PAGE_BYTES_MAX, PAGE_SUBKEYS_MAX};
use super::{QueryError, Reader};
use crate::bounds::REQUEST_ANSWER_BYTES_MAX;
use crate::crdt::VisibleKind;
use crate::ports::After;
use crate::row::Kind;

/// What is made of several sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Combination {
    /// What is in all of them.
    Intersection,
    /// What is in any of them.
    Union,
    /// What is in the first and in none of the others.
    Difference,
}

impl Reader<'_> {
    /// The elements, in byte order.
    pub(super) fn combined(
        &self,
        combination: Combination,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, QueryError> {
        let mut gathered = Gathered::default();
        match combination {
            Combination::Union => return self.union(keys),
            Combination::Intersection => {
                self.each_common(keys, |element| gathered.push(element).map(|()| ControlFlow::Continue(())))?;
            }
            Combination::Difference => {
                let sized = self.cardinalities(keys)?;
                let Some(((1.., first), others)) = sized.split_first() else { return Ok(Vec::new()) };
                self.each_element(first, |element| {
                    if !self.is_in_any(others, &element)? {
                        gathered.push(element)?;
                    }
                    Ok(ControlFlow::Continue(()))
                })?;
            }
        }
        Ok(gathered.list)
    }

    /// The number of elements that are in all sets, up to a limit.
    pub(super) fn common_count(&self, keys: &[Vec<u8>], limit: u64) -> Result<u64, QueryError> {
        let mut count = 0;
        self.each_common(keys, |_| {
            count += 1;
            Ok(if count >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(count)
    }

    fn union(&self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, QueryError> {
        let sized = self.cardinalities(keys)?;
        let (mut union, mut bytes) = (BTreeSet::new(), 0);
        for (_, key) in sized.into_iter().filter(|(size, _)| *size > 0) {
            self.each_element(key, |element| {
                let length = element.len();
                bytes += if union.insert(element) { length } else { 0 };
                if bytes > REQUEST_ANSWER_BYTES_MAX {
                    return Err(QueryError::TooLong);
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(union.into_iter().collect())
    }

    fn each_common(
        &self,
        keys: &[Vec<u8>],
        mut show: impl FnMut(Vec<u8>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        let mut sized = self.cardinalities(keys)?;
        sized.sort_unstable();
        sized.dedup();
        let Some(((1.., smallest), others)) = sized.split_first() else { return Ok(()) };
        self.each_element(smallest, |element| {
            for (_, other) in others {
                if !self.has(other, Collection::Set, &element)? {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            show(element)
        })
    }

    /// How many elements each key has; of one that has expired the rows may be there all the same. All are looked at before anything is answered: each must be a set, or missing.
    fn cardinalities<'k>(&self, keys: &'k [Vec<u8>]) -> Result<Vec<(u64, &'k [u8])>, QueryError> {
        keys.iter().map(|key| Ok((self.expect(key, VisibleKind::Set)?.elements, key.as_slice()))).collect()
    }

    fn is_in_any(&self, sized: &[(u64, &[u8])], element: &[u8]) -> Result<bool, QueryError> {
        for (_, key) in sized.iter().filter(|(size, _)| *size > 0) {
            if self.has(key, Collection::Set, element)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Shows each element of a set, with no scan open meanwhile.
    fn each_element(
        &self,
        key: &[u8],
        mut show: impl FnMut(Vec<u8>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let behind = after.take().map(|element| After::Group(key.to_vec(), Kind::Set, element));
            let page = self.pairs(key, Collection::Set, behind, PAGE_SUBKEYS_MAX, PAGE_BYTES_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (element, _) in page {
                if show(element)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}
