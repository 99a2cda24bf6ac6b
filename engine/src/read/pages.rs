//! Elements of a set, fields of a map and members of a sorted set, page by page: a page costs what is on it, however many there are.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Answer, Pair, QueryError, Reader, sorted};
use crate::bounds::REQUEST_ANSWER_BYTES_MAX;
use crate::crdt::{Sibling, VisibleKind};
use crate::ports::{After, ReadError, RowRange, Within};
use crate::row::{Kind, Payload};

/// The elements or fields that one page answers at most.
pub const PAGE_SUBKEYS_MAX: usize = 10_000;

/// A page ends with the element, or with the field and value, that makes it so long, in bytes.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// A kind whose keys hold many things, each with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Collection {
    /// A set of elements.
    Set,
    /// A map of fields.
    Map,
    /// A sorted set of members.
    Sorted,
}

impl Collection {
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Set => Kind::Set,
            Self::Map => Kind::Map,
            Self::Sorted => Kind::Sorted,
        }
    }

    pub(super) const fn visible(self) -> VisibleKind {
        match self {
            Self::Set => VisibleKind::Set,
            Self::Map => VisibleKind::Map,
            Self::Sorted => VisibleKind::Sorted,
        }
    }
}

/// Which elements, fields or members a page lists.
///
/// There are more behind it only if it has as many as `count`, or [`PAGE_BYTES_MAX`] bytes or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubkeyPage {
    /// The key.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// What it must hold, unless it is missing.
    pub collection: Collection,
    /// The last element, field or member of the page before.
    #[serde(with = "serde_bytes")]
    pub after: Option<Vec<u8>>,
    /// How many at most; never more than [`PAGE_SUBKEYS_MAX`].
    pub count: usize,
}

impl Reader<'_> {
    pub(super) fn page(&self, page: &SubkeyPage) -> Result<Answer, QueryError> {
        let SubkeyPage { key, collection, after, count } = page;
        let view = self.expect(key, collection.visible())?;
        let kind = collection.kind();
        let after = after.clone().map(|subkey| After::Group(key.clone(), kind, subkey));
        // Of a key that has expired the rows may be there, and are not to be seen.
        let count = if view.visible().is_none() { 0 } else { (*count).min(PAGE_SUBKEYS_MAX) };
        let pairs = self.pairs(key, *collection, after, count, PAGE_BYTES_MAX)?;
        Ok(match collection {
            Collection::Set => Answer::List(pairs.into_iter().map(|(element, _)| element).collect()),
            Collection::Map => Answer::Pairs(pairs),
            Collection::Sorted => Answer::Scored(
                pairs.into_iter().map(|(member, value)| (member, sorted::read(&value))).collect(),
            ),
        })
    }

    /// Consecutive elements, with empty values, fields with their values, or members with the bytes of their scores: `count_max` at most, and none behind the
    /// one that makes them `bytes_max` long.
    pub(super) fn pairs(
        &self,
        key: &[u8],
        collection: Collection,
        after: Option<After>,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Pair>, ReadError> {
        let mut found: Vec<(Vec<u8>, Option<Sibling>)> = Vec::new();
        let mut bytes = 0;
        let range = RowRange { within: Within::Kind(key.to_vec(), collection.kind()), after };
        self.rows.scan(self.keyspace, &range, &mut |row, payload| {
            let sibling = match payload {
                Payload::Value { stamp, value } => Some(Sibling { dot: row.dot, stamp, value }),
                _ => None,
            };
            let rank = |sibling: &Option<Sibling>| sibling.as_ref().map(Sibling::rank);
            match found.last_mut() {
                Some((subkey, best)) if *subkey == row.subkey => {
                    if rank(&sibling) > rank(best) {
                        *best = sibling;
                    }
                }
                last => {
                    bytes += last.map_or(0, |(subkey, best)| {
                        subkey.len() + best.as_ref().map_or(0, |sibling| sibling.value.len())
                    });
                    if found.len() == count_max || bytes >= bytes_max {
                        return ControlFlow::Break(());
                    }
                    found.push((row.subkey, sibling));
                }
            }
            ControlFlow::Continue(())
        })?;
        let pair =
            |(subkey, best): (_, Option<Sibling>)| (subkey, best.map_or_else(Vec::new, |best| best.value));
        Ok(found.into_iter().map(pair).collect())
    }

    /// Shows all elements or fields in their order, without values, until told to stop.
    pub(super) fn each_subkey(
        &self,
        key: &[u8],
        collection: Collection,
        mut show: impl FnMut(Vec<u8>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut last: Option<Vec<u8>> = None;
        let range = RowRange::all(Within::Kind(key.to_vec(), collection.kind()));
        self.rows.scan(self.keyspace, &range, &mut |row, _| {
            if last.as_ref() == Some(&row.subkey) {
                return ControlFlow::Continue(());
            }
            last = Some(row.subkey.clone());
            show(row.subkey)
        })
    }

    /// Whether a key that shows this collection has an element or field.
    pub(super) fn has(&self, key: &[u8], collection: Collection, subkey: &[u8]) -> Result<bool, ReadError> {
        let mut is_there = false;
        let range = RowRange::all(Within::Group(key.to_vec(), collection.kind(), subkey.to_vec()));
        self.rows.scan(self.keyspace, &range, &mut |_, _| {
            is_there = true;
            ControlFlow::Break(())
        })?;
        Ok(is_there)
    }
}

/// An answer in the making, that is refused when it gets too long.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) list: Vec<Vec<u8>>,
    bytes: usize,
}

impl Gathered {
    pub(super) fn push(&mut self, bytes: Vec<u8>) -> Result<(), QueryError> {
        self.bytes += bytes.len();
        if self.bytes > REQUEST_ANSWER_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        self.list.push(bytes);
        Ok(())
    }
}
