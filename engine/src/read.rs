//! Reads: what a user sees in the rows of one moment.
//!
//! The same functions serve a client's read beside the event loop, a read within a batch, and the typed
//! handles of the library.

mod combine;
mod entry;
mod outcome;
mod pages;
mod random;
mod sorted;

pub use combine::Combination;
pub use entry::{ENTRY_ROWS_MAX, Entry, EntryRow};
pub use outcome::{Executed, executed};
pub(crate) use outcome::{each_of_client, named, of_client};
pub use pages::{Collection, PAGE_BYTES_MAX, PAGE_SUBKEYS_MAX, SubkeyPage};
pub use random::{REPEATED_MAX, RandomPick};
pub use sorted::{Ranked, Scored, SortedPage, SortedRange, score_of};

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::{self, list};
use crate::bounds::{REQUEST_ANSWER_BYTES_MAX, STRUCTURE_BYTES_MAX};
use crate::causality::Dot;
use crate::crdt::{KeyView, Sibling, VisibleKind};
use crate::id::{ClientId, KeyspaceId};
use crate::ports::{After, ReadError, RowRange, Rows, Within};
use crate::row::{Fingerprint, Kind, Payload};
use crate::score::{SCORE_BYTES, Score};

/// The keys that one page of a scan answers at most.
pub const PAGE_KEYS_MAX: usize = 10_000;

/// A question about one key, or the next page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The value of a register or counter.
    Get(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Which kind a key shows.
    Kind(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The elements of a set.
    Members(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Whether an element is in a set.
    Contains(#[serde(with = "serde_bytes")] Vec<u8>, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The number of elements of a set.
    Cardinality(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The value of a field of a map.
    Field(#[serde(with = "serde_bytes")] Vec<u8>, #[serde(with = "serde_bytes")] Vec<u8>),
    /// The fields of a map and their values.
    Fields(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The number of fields of a map.
    FieldCount(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The scores of members of a sorted set.
    Scores(#[serde(with = "serde_bytes")] Vec<u8>, #[serde(with = "bounded::byte_strings")] Vec<Vec<u8>>),
    /// The place of a member of a sorted set.
    Rank {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The member.
        #[serde(with = "serde_bytes")]
        member: Vec<u8>,
        /// Whether the highest score has the first place.
        is_reverse: bool,
    },
    /// The number of members of a sorted set that are in a range.
    SortedCount(#[serde(with = "serde_bytes")] Vec<u8>, SortedRange),
    /// Members of a sorted set with their scores, in order.
    Sorted(SortedPage),
    /// The next elements of a set, fields of a map with their values, or members of a sorted set with their scores.
    Page(SubkeyPage),
    /// Some elements of a set, fields of a map with their values, or members of a sorted set with their scores.
    Random(RandomPick),
    /// What several sets make together.
    Combined(Combination, #[serde(with = "bounded::byte_strings")] Vec<Vec<u8>>),
    /// The number of elements that several sets have in common, up to a limit, which is not 0.
    CommonCount(#[serde(with = "bounded::byte_strings")] Vec<Vec<u8>>, u64),
    /// Keys that exist, in byte order.
    Keys(KeyPage),
    /// Some key that exists; the choice follows from the seed.
    RandomKey(u64),
    /// The number of keys that exist.
    Size,
    /// The changes that make a document.
    Chunks(#[serde(with = "serde_bytes")] Vec<u8>),
    /// All that concurrent writes left under a key.
    Entry(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Until when a key lives.
    Deadline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What is another when the key was changed.
    Revision(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What became of an operation, by the name of its client and its number.
    Outcome(ClientId, u64),
    /// Nothing but this number: what an operation says of itself, so that its outcome tells of which one it is.
    Mark(u64),
}

impl Query {
    /// The key that is asked about, if it is just one.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Get(key)
            | Self::Kind(key)
            | Self::Members(key)
            | Self::Contains(key, _)
            | Self::Cardinality(key)
            | Self::Field(key, _)
            | Self::Fields(key)
            | Self::FieldCount(key)
            | Self::Chunks(key)
            | Self::Entry(key)
            | Self::Deadline(key)
            | Self::Revision(key)
            | Self::Scores(key, _)
            | Self::Rank { key, .. }
            | Self::SortedCount(key, _)
            | Self::Sorted(SortedPage { key, .. })
            | Self::Page(SubkeyPage { key, .. })
            | Self::Random(RandomPick { key, .. }) => Some(key),
            Self::Combined(..)
            | Self::CommonCount(..)
            | Self::Keys(_)
            | Self::RandomKey(_)
            | Self::Size
            | Self::Outcome(..)
            | Self::Mark(_) => None,
        }
    }
}

/// Which keys a page lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// What every key begins with.
    #[serde(with = "serde_bytes")]
    pub prefix: Vec<u8>,
    /// The last key of the page before.
    #[serde(with = "serde_bytes")]
    pub after: Option<Vec<u8>>,
    /// How many at most; never more than [`PAGE_KEYS_MAX`].
    pub count: usize,
}

/// A field and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The rows that a key may have to have a revision. All of them are read to tell it.
pub const REVISION_ROWS_MAX: usize = 10_000;

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A value, if there is one.
    Value(#[serde(with = "serde_bytes")] Option<Vec<u8>>),
    /// A kind, if the key exists.
    Kind(Option<VisibleKind>),
    /// Yes or no.
    Bool(bool),
    /// A number of things.
    Count(u64),
    /// Elements or keys, in byte order.
    List(#[serde(with = "bounded::byte_strings")] Vec<Vec<u8>>),
    /// Fields and values, in byte order of the fields.
    Pairs(#[serde(with = "bounded::byte_pairs")] Vec<Pair>),
    /// Members and scores, in the order that was asked for; of a page, in byte order of the members.
    Scored(#[serde(with = "bounded::bytes_with")] Vec<Scored>),
    /// The scores of members, in the order in which they were named; none for one that is missing.
    Scores(#[serde(deserialize_with = "list::<STRUCTURE_BYTES_MAX, _, _>")] Vec<Option<Score>>),
    /// The place of a member, if it is there.
    Rank(Option<Ranked>),
    /// The rows of a document, in order of their dots.
    Chunks(#[serde(with = "bounded::with_bytes")] Vec<(Dot, Vec<u8>)>),
    /// All rows of a key.
    Entry(Entry),
    /// If the key exists, when it expires if ever, in Unix milliseconds.
    Deadline(Option<Option<u64>>),
    /// The fingerprint of what is seen of a key.
    Revision(Fingerprint),
    /// What the rows know of an operation.
    Executed(Executed),
    /// The number of the [`Query::Mark`].
    Mark(u64),
}

impl Answer {
    /// The bytes of the keys, elements and values in it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Value(value) => value.as_ref().map_or(0, Vec::len),
            Self::Kind(_)
            | Self::Bool(_)
            | Self::Count(_)
            | Self::Rank(_)
            | Self::Deadline(_)
            | Self::Revision(_)
            | Self::Mark(_)
            | Self::Executed(Executed::Not | Executed::FellOut) => 0,
            Self::Executed(Executed::Done { result, .. }) => result.as_ref().map_or(0, Vec::len),
            Self::Scores(scores) => scores.len() * SCORE_BYTES,
            Self::Scored(scored) => scored.iter().map(|(member, _)| member.len() + SCORE_BYTES).sum(),
            Self::List(list) => list.iter().map(Vec::len).sum(),
            Self::Pairs(pairs) => pairs.iter().map(|(field, value)| field.len() + value.len()).sum(),
            Self::Chunks(chunks) => chunks.iter().map(|(_, chunk)| chunk.len()).sum(),
            Self::Entry(entry) => {
                let bytes = |row: &EntryRow| row.subkey.len() + row.value.as_ref().map_or(0, Vec::len);
                entry.rows.iter().map(bytes).sum()
            }
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum QueryError {
    /// The key shows another kind; nothing was read.
    #[error("the key holds another kind than this is for: {found}")]
    WrongKind {
        /// What it shows.
        found: VisibleKind,
    },
    /// The keyspace is not among those that this node replicates.
    #[error("the keyspace is not replicated on this node")]
    NotReplicated,
    /// State of the keyspace is being taken over from a peer, and is not complete.
    #[error("the keyspace is being fetched from a peer")]
    Loading,
    /// The key has too many rows to tell whether it was changed.
    #[error("the key has more than {REVISION_ROWS_MAX} rows, too many to tell whether it was changed")]
    NoRevision,
    /// What was asked for is too long to answer.
    #[error("the answer is longer than {REQUEST_ANSWER_BYTES_MAX} bytes; ask for less at once")]
    TooLong,
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The keyspace is strong, and this way of asking does not wait for its anchors.
    #[error(
        "the keyspace is strong, so what is read has to wait for its anchors; ask through its strong handle"
    )]
    NeedsAnchors,
}

/// Answers a query.
///
/// # Errors
/// [`QueryError`]: the key shows another kind, or the store could not be read.
pub fn answer(rows: &dyn Rows, keyspace: KeyspaceId, query: &Query) -> Result<Answer, QueryError> {
    let reader = Reader { rows, keyspace };
    Ok(match query {
        Query::Get(key) => Answer::Value(reader.get(key)?),
        Query::Kind(key) => Answer::Kind(KeyView::read(rows, keyspace, key)?.visible()),
        Query::Members(key) => Answer::List(reader.members(key)?),
        Query::Contains(key, element) => Answer::Bool(reader.contains(key, element)?),
        Query::Cardinality(key) => Answer::Count(reader.expect(key, VisibleKind::Set)?.elements),
        Query::Field(key, field) => Answer::Value(reader.field(key, field)?),
        Query::Fields(key) => Answer::Pairs(reader.fields(key)?),
        Query::FieldCount(key) => Answer::Count(reader.expect(key, VisibleKind::Map)?.fields),
        Query::Scores(key, members) => Answer::Scores(reader.scores(key, members)?),
        Query::Rank { key, member, is_reverse } => Answer::Rank(reader.rank(key, member, *is_reverse)?),
        Query::SortedCount(key, range) => Answer::Count(reader.sorted_count(key, range)?),
        Query::Sorted(page) => reader.sorted(page)?,
        Query::Page(page) => reader.page(page)?,
        Query::Random(pick) => reader.pick(pick)?,
        Query::Combined(combination, keys) => Answer::List(reader.combined(*combination, keys)?),
        Query::CommonCount(keys, limit) => Answer::Count(reader.common_count(keys, *limit)?),
        Query::Keys(page) => Answer::List(reader.keys(page)?),
        Query::RandomKey(seed) => Answer::Value(reader.random_key(*seed)?),
        Query::Size => Answer::Count(rows.keys(keyspace)?),
        Query::Chunks(key) => Answer::Chunks(reader.chunks(key)?),
        Query::Entry(key) => Answer::Entry(reader.entry(key)?),
        Query::Deadline(key) => {
            let view = KeyView::read(rows, keyspace, key)?;
            Answer::Deadline(view.visible().map(|_| view.deadline_ms))
        }
        Query::Revision(key) => {
            Answer::Revision(revision(rows, keyspace, key)?.ok_or(QueryError::NoRevision)?)
        }
        Query::Outcome(client, number) => Answer::Executed(executed(rows, keyspace, (*client, *number))?),
        Query::Mark(mark) => Answer::Mark(*mark),
    })
}

/// The siblings of one register, field or score, the one that is read first.
pub fn siblings(
    rows: &dyn Rows,
    keyspace: KeyspaceId,
    (key, kind, subkey): (&[u8], Kind, &[u8]),
) -> Result<Vec<Sibling>, ReadError> {
    let within = Within::Group(key.to_vec(), kind, subkey.to_vec());
    let mut found = Vec::new();
    rows.scan(keyspace, &RowRange::all(within), &mut |row, payload| {
        if let Payload::Value { stamp, value } = payload {
            found.push(Sibling { dot: row.dot, stamp, value });
        }
        ControlFlow::Continue(())
    })?;
    found.sort_by_key(|sibling| std::cmp::Reverse(sibling.rank()));
    Ok(found)
}

/// What tells whether a key was changed: the fingerprint of its rows, but for the spent slots of a counter, which come
/// and go without anybody seeing it. All keys that are not there have the same; one of more than [`REVISION_ROWS_MAX`]
/// rows has none.
pub(crate) fn revision(
    rows: &dyn Rows,
    keyspace: KeyspaceId,
    key: &[u8],
) -> Result<Option<Fingerprint>, ReadError> {
    let mut sum = Fingerprint::default();
    let (mut count, mut exists, mut deadline_ms) = (0, false, None);
    rows.scan(keyspace, &RowRange::all(Within::Key(key.to_vec())), &mut |row, payload| {
        if let Payload::Deadline(unix_ms) = payload {
            deadline_ms = deadline_ms.max(Some(unix_ms));
            sum.insert(&row, &payload);
        } else if payload.is_live() {
            exists = true;
            sum.insert(&row, &payload);
        }
        count += 1;
        if count > REVISION_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let is_expired = deadline_ms.is_some_and(|unix_ms| unix_ms <= rows.expiry_of(keyspace).unix_ms());
    if count > REVISION_ROWS_MAX {
        return Ok(None);
    }
    Ok(Some(if exists && !is_expired { sum } else { Fingerprint::default() }))
}

struct Reader<'a> {
    rows: &'a dyn Rows,
    keyspace: KeyspaceId,
}

impl Reader<'_> {
    /// The key's first rows, unless it shows something other than the collection that was asked for.
    fn expect(&self, key: &[u8], wanted: VisibleKind) -> Result<KeyView, QueryError> {
        let view = KeyView::read(self.rows, self.keyspace, key)?;
        match view.visible() {
            Some(found) if found != wanted => Err(QueryError::WrongKind { found }),
            _ => Ok(view),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, QueryError> {
        let view = KeyView::read(self.rows, self.keyspace, key)?;
        match view.visible() {
            None | Some(VisibleKind::Register | VisibleKind::Counter) => Ok(view.text()),
            Some(found) => Err(QueryError::WrongKind { found }),
        }
    }

    fn members(&self, key: &[u8]) -> Result<Vec<Vec<u8>>, QueryError> {
        if self.expect(key, VisibleKind::Set)?.elements == 0 {
            return Ok(Vec::new());
        }
        let mut elements = Vec::new();
        self.each_subkey(key, Collection::Set, |element| {
            elements.push(element);
            ControlFlow::Continue(())
        })?;
        Ok(elements)
    }

    fn contains(&self, key: &[u8], element: &[u8]) -> Result<bool, QueryError> {
        Ok(self.expect(key, VisibleKind::Set)?.elements > 0 && self.has(key, Collection::Set, element)?)
    }

    fn field(&self, key: &[u8], field: &[u8]) -> Result<Option<Vec<u8>>, QueryError> {
        if self.expect(key, VisibleKind::Map)?.fields == 0 {
            return Ok(None);
        }
        let winner = siblings(self.rows, self.keyspace, (key, Kind::Map, field))?.into_iter().next();
        Ok(winner.map(|sibling| sibling.value))
    }

    fn fields(&self, key: &[u8]) -> Result<Vec<Pair>, QueryError> {
        if self.expect(key, VisibleKind::Map)?.fields == 0 {
            return Ok(Vec::new());
        }
        Ok(self.pairs(key, Collection::Map, None, usize::MAX, usize::MAX)?)
    }

    fn chunks(&self, key: &[u8]) -> Result<Vec<(Dot, Vec<u8>)>, QueryError> {
        if !self.expect(key, VisibleKind::Document)?.is_document {
            return Ok(Vec::new());
        }
        let mut chunks = Vec::new();
        let range = RowRange::all(Within::Kind(key.to_vec(), Kind::Document));
        self.rows.scan(self.keyspace, &range, &mut |row, payload| {
            if let Payload::Chunk(chunk) = payload {
                chunks.push((row.dot, chunk));
            }
            ControlFlow::Continue(())
        })?;
        chunks.sort_unstable_by_key(|(dot, _)| *dot);
        Ok(chunks)
    }

    fn keys(&self, page: &KeyPage) -> Result<Vec<Vec<u8>>, QueryError> {
        let after = page.after.clone().map(After::Key);
        Ok(self.keys_from(&page.prefix, after, page.count.min(PAGE_KEYS_MAX))?)
    }

    /// Skips from key to key, so that a page costs its keys and not their rows.
    fn keys_from(
        &self,
        prefix: &[u8],
        mut after: Option<After>,
        count_max: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let expiry = self.rows.expiry_of(self.keyspace);
        while keys.len() < count_max {
            let within = Within::KeyPrefix(prefix.to_vec());
            let range = RowRange { within, after: after.take() };
            let mut at = KeyInScan::default();
            self.rows.scan(self.keyspace, &range, &mut |row, payload| {
                if row.kind == Kind::Outcome {
                    // Nothing of the user's is behind it under this key.
                    after = Some(After::Key(row.key));
                    return ControlFlow::Break(());
                }
                if at.key != row.key {
                    at = KeyInScan { key: row.key, ..KeyInScan::default() };
                }
                if let Payload::Deadline(unix_ms) = payload {
                    at.is_expired = unix_ms <= expiry.unix_ms() && (at.is_expired || at.rows == 0);
                } else if payload.is_live() && !at.is_expired && !at.is_listed {
                    if keys.len() == count_max {
                        return ControlFlow::Break(());
                    }
                    keys.push(at.key.clone());
                    (at.is_listed, at.rows) = (true, 0);
                }
                at.rows += 1;
                // A key with many rows ends the scan, and the next one starts behind it.
                if at.rows > SKIP_AFTER_ROWS && (at.is_listed || at.is_expired) {
                    after = Some(After::Key(std::mem::take(&mut at.key)));
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            if after.is_none() {
                break;
            }
        }
        Ok(keys)
    }
}

/// The key whose rows a scan of keys reads.
#[derive(Default)]
struct KeyInScan {
    key: Vec<u8>,
    /// Whether all its deadlines are past, which come first.
    is_expired: bool,
    is_listed: bool,
    /// The rows that were read, since it was listed if it was.
    rows: usize,
}

/// The rows of one key that a scan of keys reads before it skips to the next key.
const SKIP_AFTER_ROWS: usize = 16;
