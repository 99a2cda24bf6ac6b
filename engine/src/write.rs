//! Writes: what a user asks for, made into operations that list what this replica observed.
//!
//! A write is evaluated against the rows of the moment and then applied like any frame. It either becomes
//! operations as a whole or changes nothing.

mod author;
mod combine;
mod copy;
mod deadlines;
mod decimal;
mod edit;
mod outcomes;
mod pop;
mod scores;

pub use author::Author;
pub use decimal::Decimal;
pub use outcomes::{Executed, executed};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::{self, list};
use crate::bounds::{BoundError, ELEMENTS_MAX, OBSERVED_LISTED_MAX};
use crate::causality::Dot;
use crate::crdt::VisibleKind;
use crate::id::{KeyspaceName, ReplicaId};
use crate::ports::ReadError;
use crate::read::{Combination, Scored, SortedPage, SortedRange};
use crate::score::Score;

/// A write of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Makes a key a register with this value, whatever it held, which lives for ever.
    Set {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Its value from now on.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// As `Set`, and says until when the key lives.
    SetFor {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Its value from now on.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
        /// Until when.
        ttl: Ttl,
    },
    /// Says until when a key lives that is there: the number of keys changed is 0 or 1. A moment that is past removes
    /// it.
    Expire {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// When it expires, in Unix milliseconds.
        deadline_ms: u64,
        /// In which case alone, if not in any.
        only: Option<ExpireIf>,
    },
    /// Lets a key live for ever again.
    Persist {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    },
    /// Counts under a key that holds nothing, an integer or a counter.
    Increment {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// What to add.
        by: i64,
    },
    /// Adds elements to a set, making it if need be.
    Add {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The elements; repeated ones count once.
        #[serde(with = "bounded::byte_strings")]
        elements: Vec<Vec<u8>>,
    },
    /// Removes elements from a set.
    Remove {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The elements.
        #[serde(with = "bounded::byte_strings")]
        elements: Vec<Vec<u8>>,
    },
    /// Writes fields of a map, making it if need be.
    Put {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Fields and values; of a repeated field the last counts.
        #[serde(with = "bounded::byte_pairs")]
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Removes fields of a map.
    Unset {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The fields.
        #[serde(with = "bounded::byte_strings")]
        fields: Vec<Vec<u8>>,
    },
    /// Scores members of a sorted set, making it if need be.
    Score {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Members and scores, one after the other: of a repeated member what was said before counts.
        #[serde(with = "bounded::bytes_with")]
        members: Vec<Scored>,
        /// Which of them are scored.
        rule: ScoreRule,
    },
    /// Adds to the score of a member of a sorted set, which is read and written whole: of concurrent additions one is
    /// read.
    AddToScore {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The member; one that is missing has the score 0.
        #[serde(with = "serde_bytes")]
        member: Vec<u8>,
        /// What to add.
        by: Score,
        /// Whether the sum is written.
        rule: ScoreRule,
    },
    /// Removes members of a sorted set.
    Unscore {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The members.
        #[serde(with = "bounded::byte_strings")]
        members: Vec<Vec<u8>>,
    },
    /// Removes a range of members of a sorted set, of no more than [`ELEMENTS_MAX`].
    UnscoreRange {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Which ones.
        range: SortedRange,
    },
    /// Removes the members of the lowest or highest scores.
    PopScored {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// How many, at most.
        count: u64,
        /// Whether those of the highest.
        is_highest: bool,
    },
    /// Changes the value of a register, which is read and written whole: of concurrent edits one is read, and the
    /// others are conflicts.
    Edit {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// How its value changes.
        edit: Edit,
    },
    /// Adds to the number in a field of a map, which is read and written whole: of concurrent additions one is read.
    AddToField {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The field.
        #[serde(with = "serde_bytes")]
        field: Vec<u8>,
        /// What to add.
        by: Addend,
    },
    /// Removes elements of a set that nobody chose.
    Pop {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// How many, at most.
        count: u64,
        /// Which ones: taken at random by whoever asks, so that what is removed follows from it and the rows.
        seed: u64,
    },
    /// Makes a key what another one shows, whatever it held. What the other one holds beside that is not copied.
    Copy {
        /// The key that is read.
        #[serde(with = "serde_bytes")]
        from: Vec<u8>,
        /// The key that is written.
        #[serde(with = "serde_bytes")]
        to: Vec<u8>,
        /// Whether the one that is read is removed.
        is_move: bool,
    },
    /// Makes a key the set that others combine to, whatever it held.
    Combine {
        /// The key that is written; it may be one of those that are read.
        #[serde(with = "serde_bytes")]
        into: Vec<u8>,
        /// How.
        how: Combination,
        /// The sets, of which there is one at least; a key that is missing is an empty one.
        #[serde(with = "bounded::byte_strings")]
        keys: Vec<Vec<u8>>,
    },
    /// Makes a key the sorted set of what a range of one shows, whatever it held.
    StoreRange {
        /// The key that is written; it may be the one that is read.
        #[serde(with = "serde_bytes")]
        into: Vec<u8>,
        /// The key that is read, and which of its members.
        page: SortedPage,
    },
    /// Adds changes to a document, making it if need be.
    Change {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// The changes.
        #[serde(with = "serde_bytes")]
        chunk: Vec<u8>,
        /// The rows that the changes build on. If one of them is gone, so is what they build on.
        #[serde(deserialize_with = "list::<ELEMENTS_MAX, _, _>")]
        base: Vec<Dot>,
        /// Those of them whose changes are all in the chunk too, which replaces them: at most 64.
        #[serde(deserialize_with = "list::<OBSERVED_LISTED_MAX, _, _>")]
        replaced: Vec<Dot>,
    },
    /// Removes a key, whatever it holds.
    Delete {
        /// The key.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    },
    /// Removes every key.
    Clear,
    /// Says that a replica will never write again.
    Retire {
        /// The replica. It must have written here.
        replica: ReplicaId,
    },
}

/// Which members of a sorted set are scored. Without anything, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRule {
    /// Only those that are missing, or only those that are there.
    pub only: Option<MemberIf>,
    /// Only those whose score it makes greater, or less; and those that are missing.
    pub toward: Option<Toward>,
}

/// In which case a member is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberIf {
    /// It is missing.
    Missing,
    /// It is there.
    There,
}

/// Where a score may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Toward {
    /// Up.
    Greater,
    /// Down.
    Less,
}

/// Until when a key lives that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ttl {
    /// For ever.
    None,
    /// As long as it would have before.
    Keep,
    /// Until this moment, in Unix milliseconds.
    Until(u64),
}

/// In which case a deadline is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireIf {
    /// The key has none.
    HasNone,
    /// It has one.
    HasOne,
    /// It is later than the one that the key has.
    Later,
    /// It is before the one that the key has, or there is none.
    Sooner,
    /// The key has one, and it is before that.
    HasLater,
}

/// How the value of a register changes. A key that is missing has an empty value, of the number 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// More bytes behind it.
    Append(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Bytes from an offset on, in place of those that were there; zeros up to there, if it was shorter. No bytes
    /// change nothing.
    Splice {
        /// The offset, in bytes.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// One bit; zeros up to there, if the value was shorter.
    Bit {
        /// Which: 0 is the highest bit of the first byte.
        offset: u64,
        /// What it is from now on.
        is_set: bool,
    },
    /// The number that it is, and this.
    Add(Decimal),
}

/// What is added to the number in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addend {
    /// To an integer.
    Integer(i64),
    /// To a number with a fraction.
    Decimal(Decimal),
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The number of keys, elements, fields or members that came into being or ceased to be, or of replicas retired.
    Changed(u64),
    /// The number under the key or in the field after an increment.
    Number(i64),
    /// The length of the value after an edit, in bytes.
    Length(u64),
    /// Whether a bit was set before.
    Bit(bool),
    /// The number with a fraction after an addition, as it was written.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The elements that were removed, in byte order.
    Elements(#[serde(with = "bounded::byte_strings")] Vec<Vec<u8>>),
    /// The numbers of members that came into being, and of those that were there and got another score.
    Scored {
        /// The new ones.
        added: u64,
        /// The others.
        changed: u64,
    },
    /// The score after an addition, unless the rule forbade it.
    Score(Option<Score>),
    /// The members that were removed and their scores, the outermost first.
    ScoredMembers(#[serde(with = "bounded::bytes_with")] Vec<Scored>),
    /// The row that a change of a document became.
    At(Dot),
}

/// Why a write was not done. Nothing was changed.
#[derive(Debug, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WriteError {
    /// The key shows another kind.
    #[error("the key holds another kind than this is for: {found}")]
    WrongKind {
        /// What it shows.
        found: VisibleKind,
    },
    /// The register under the key is not an integer.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The number would leave the range of 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// What the field holds is not an integer.
    #[error("hash value is not an integer")]
    FieldNotAnInteger,
    /// The register under the key is not a number.
    #[error("value is not a valid float")]
    NotANumber,
    /// What the field holds is not a number.
    #[error("hash value is not a float")]
    FieldNotANumber,
    /// The sum would be no number.
    #[error("increment would produce NaN or Infinity")]
    Infinite,
    /// The sum of the scores would be no number.
    #[error("resulting score is not a number (NaN)")]
    NotAScore,
    /// Rows that a change of a document builds on were removed or replaced meanwhile; build it again.
    #[error("the document was changed meanwhile in a way that this change does not build on")]
    Outdated,
    /// The replica that is to be retired wrote nothing here.
    #[error("replica {0} has written nothing in this keyspace")]
    NotAnAuthor(ReplicaId),
    /// No element, field or member was named.
    #[error("no element, field or member was given")]
    Empty,
    /// The keyspace would hold more than it may; removing is always possible.
    #[error(
        "keyspace {keyspace} is at its quota of {quota_bytes} bytes; remove something, or raise the quota"
    )]
    OverQuota {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// What it may hold on this node.
        quota_bytes: u64,
    },
    /// Something is too long.
    #[error(transparent)]
    Bound(#[from] BoundError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Write {
    /// The key that is written, if it is one.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Set { key, .. }
            | Self::SetFor { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key }
            | Self::Increment { key, .. }
            | Self::Add { key, .. }
            | Self::Remove { key, .. }
            | Self::Put { key, .. }
            | Self::Unset { key, .. }
            | Self::Change { key, .. }
            | Self::Edit { key, .. }
            | Self::AddToField { key, .. }
            | Self::Pop { key, .. }
            | Self::Score { key, .. }
            | Self::AddToScore { key, .. }
            | Self::Unscore { key, .. }
            | Self::UnscoreRange { key, .. }
            | Self::PopScored { key, .. }
            | Self::Copy { to: key, .. }
            | Self::Combine { into: key, .. }
            | Self::StoreRange { into: key, .. }
            | Self::Delete { key } => Some(key),
            Self::Clear | Self::Retire { .. } => None,
        }
    }

    /// Whether it only takes away.
    pub(crate) fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::Delete { .. }
                | Self::Remove { .. }
                | Self::Unset { .. }
                | Self::Pop { .. }
                | Self::Unscore { .. }
                | Self::UnscoreRange { .. }
                | Self::PopScored { .. }
                | Self::Clear
                | Self::Expire { .. }
        )
    }
}
