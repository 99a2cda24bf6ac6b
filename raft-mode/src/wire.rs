//! Bytes: what is stored of a group, and the parts that its messages share.
//!
//! openraft's own types are not encoded as they are: their layout is openraft's to change, the bytes on disks and
//! between versions are ours. Everything stored or sent begins with a version byte; the rest is postcard. Decoding
//! bounds everything, so that no number near the end of its range, no list and no order of entries that openraft
//! would take for a defect of its own reaches it.
//!
//! | bytes | what |
//! |---|---|
//! | entry | version, term, index, payload |
//! | vote | version, term, anchor, whether a majority confirmed it |
//! | purged | version, term, index |
//! | applied | version, term and index of the last entry, term and index of the membership, membership |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use tidelock_engine::ports::{AnchorId, COMMAND_BYTES_MAX};

use crate::types::{self, Command, Payload, Seat};

/// The version of everything here. Another one is refused.
pub(crate) const VERSION: u8 = 1;

/// Terms, indexes and anchor ids stay below this, far below where adding one to them overflows.
pub(crate) const NUMBER_MAX: u64 = 1 << AnchorId::BITS;

/// The members of a group, at most.
pub(crate) const MEMBERS_MAX: usize = 64;

/// The addresses of one member, at most.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// The length of one address, in bytes, at most.
pub(crate) const ADDRESS_BYTES_MAX: usize = 512;

/// Why bytes are refused. Nothing of them was used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    /// There are none.
    #[error("no bytes")]
    Empty,
    /// They were written by a version that this one does not know.
    #[error("version {0} is not known here, {VERSION} is; a newer tidelock wrote this")]
    Version(u8),
    /// They are cut off, too long, or not what they are said to be.
    #[error("malformed")]
    Malformed,
    /// A number, a list or a text is out of bounds.
    #[error("out of bounds")]
    OutOfBounds,
}

/// Something that can be decoded but must not be used before it is checked.
pub(crate) trait Bounded {
    /// Whether everything in it is within its bounds.
    fn is_bounded(&self) -> bool;
}

/// The version byte and postcard.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION])
        .expect("a vector takes all bytes, and no type here fails to serialize")
}

/// The value that [`encode`] was given, if the bytes are one whole and within its bounds.
pub(crate) fn decode<T: DeserializeOwned + Bounded>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (value, rest) = postcard::take_from_bytes::<T>(rest).map_err(|_| DecodeError::Malformed)?;
    match rest.is_empty() {
        true if value.is_bounded() => Ok(value),
        true => Err(DecodeError::OutOfBounds),
        false => Err(DecodeError::Malformed),
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Command, E> {
                if bytes.len() > COMMAND_BYTES_MAX {
                    return Err(E::custom("too long"));
                }
                Ok(Command(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes).map_err(D::Error::custom)
    }
}

/// Term and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl Bounded for LogId {
    fn is_bounded(&self) -> bool {
        self.term < NUMBER_MAX && self.index < NUMBER_MAX
    }
}

impl<T: Bounded> Bounded for Option<T> {
    fn is_bounded(&self) -> bool {
        self.as_ref().is_none_or(Bounded::is_bounded)
    }
}

impl From<types::LogId> for LogId {
    fn from(id: types::LogId) -> Self {
        Self { term: *id.leader_id, index: id.index }
    }
}

impl From<LogId> for types::LogId {
    fn from(id: LogId) -> Self {
        types::log_id(id.term, id.index)
    }
}

/// Whom an anchor voted for, or follows once a majority did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) anchor: u64,
    pub(crate) is_committed: bool,
}

impl Bounded for Vote {
    fn is_bounded(&self) -> bool {
        self.term < NUMBER_MAX && self.anchor < NUMBER_MAX
    }
}

impl From<types::Vote> for Vote {
    fn from(vote: types::Vote) -> Self {
        Self { term: vote.leader_id.term, anchor: vote.leader_id.voted_for, is_committed: vote.committed }
    }
}

impl From<Vote> for types::Vote {
    fn from(vote: Vote) -> Self {
        if vote.is_committed {
            types::Vote::new_committed(vote.term, vote.anchor)
        } else {
            types::Vote::new(vote.term, vote.anchor)
        }
    }
}

/// Who votes, and who is a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) voters: Vec<BTreeSet<u64>>,
    pub(crate) members: BTreeMap<u64, ([u8; 32], Vec<String>)>,
}

impl Bounded for Membership {
    fn is_bounded(&self) -> bool {
        self.voters.len() <= 2
            && self.members.len() <= MEMBERS_MAX
            && self
                .voters
                .iter()
                .all(|voters| !voters.is_empty() && voters.iter().all(|id| self.members.contains_key(id)))
            && self.members.iter().all(|(id, (_, addresses))| {
                *id < NUMBER_MAX
                    && addresses.len() <= ADDRESSES_MAX
                    && addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
            })
    }
}

impl From<&openraft::Membership<u64, Seat>> for Membership {
    fn from(membership: &openraft::Membership<u64, Seat>) -> Self {
        let seat = |seat: &Seat| (seat.public_key, seat.addresses.clone());
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, node)| (*id, seat(node))).collect(),
        }
    }
}

impl From<Membership> for openraft::Membership<u64, Seat> {
    fn from(membership: Membership) -> Self {
        let seat = |(public_key, addresses)| Seat { public_key, addresses };
        let members: BTreeMap<u64, Seat> =
            membership.members.into_iter().map(|(id, member)| (id, seat(member))).collect();
        Self::new(membership.voters, members)
            .expect("is_bounded has found voters in every set, and all are members")
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EntryPayload {
    Blank,
    Command(Command),
    Membership(Membership),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: LogId,
    pub(crate) payload: EntryPayload,
}

impl Entry {
    /// About how many bytes it takes, encoded.
    pub(crate) fn bytes(entry: &types::Entry) -> usize {
        match &entry.payload {
            Payload::Blank => 32,
            Payload::Normal(command) => 32 + command.0.len(),
            Payload::Membership(membership) => 32 + membership.nodes().count() * 256,
        }
    }
}

impl Bounded for Entry {
    fn is_bounded(&self) -> bool {
        self.id.is_bounded()
            && match &self.payload {
                EntryPayload::Blank => true,
                EntryPayload::Command(command) => command.0.len() <= COMMAND_BYTES_MAX,
                EntryPayload::Membership(membership) => membership.is_bounded(),
            }
    }
}

impl From<&types::Entry> for Entry {
    fn from(entry: &types::Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Blank => EntryPayload::Blank,
            Payload::Normal(command) => EntryPayload::Command(command.clone()),
            Payload::Membership(membership) => EntryPayload::Membership(membership.into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl From<Entry> for types::Entry {
    fn from(entry: Entry) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Command(command) => Payload::Normal(command),
            EntryPayload::Membership(membership) => Payload::Membership(membership.into()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

/// Up to where the state has applied the log, and who was a member there. A snapshot says the same of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) last: Option<LogId>,
    pub(crate) membership_id: Option<LogId>,
    pub(crate) membership: Membership,
}

impl Bounded for Applied {
    fn is_bounded(&self) -> bool {
        self.last.is_bounded() && self.membership_id.is_bounded() && self.membership.is_bounded()
    }
}

impl Applied {
    /// The record of a state at `last` under a membership.
    pub(crate) fn new(last: Option<types::LogId>, stored: &types::StoredMembership) -> Self {
        Self {
            last: last.map(LogId::from),
            membership_id: stored.log_id().map(LogId::from),
            membership: stored.membership().into(),
        }
    }

    /// The two things that openraft asks for.
    pub(crate) fn into_parts(self) -> (Option<types::LogId>, types::StoredMembership) {
        let membership_id = self.membership_id.map(types::LogId::from);
        let stored = types::StoredMembership::new(membership_id, self.membership.into());
        (self.last.map(types::LogId::from), stored)
    }
}
