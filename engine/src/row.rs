//! The unit of state: a row, named by key, kind, subkey and the dot of the operation that added it.
//!
//! A keyspace is its rows under its version vector. Removing a row leaves nothing behind: the dot is covered
//! by the vector and absent from the rows, and that is what "removed" means.
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), dot stores.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::OUTCOME_BYTES_MAX;
use crate::causality::{Dot, Stamp};
use crate::score::Score;

/// The data type that a row belongs to. The numbers are those of the file and the fingerprint.
///
/// They sort so that the first rows of a key tell what a write must observe: siblings, slots, then the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// One value; concurrent ones stay as siblings. No subkey.
    Register = 1,
    /// One slot per replica that counted. No subkey.
    Counter = 2,
    /// One row per element; the subkey is the element.
    Set = 3,
    /// One register per field; the subkey is the field.
    Map = 4,
    /// One row per change of a document; what it says is not the engine's business. No subkey.
    Document = 5,
    /// One row each time that a replica was retired, under [`RETIRED_KEY`]; the subkey is the replica's id. No
    /// user sees it, and nothing removes it.
    Retired = 6,
    /// A sorted set: one register per member, whose value is its score; the subkey is the member.
    Sorted = 7,
    /// What came of an operation on a strong keyspace, under [`OUTCOMES_KEY`]; the subkey is the client's id and the
    /// operation's number, 16 and 8 bytes, big endian. No user sees it.
    Outcome = 8,
    /// When the key expires: one row per EXPIRE that no other has observed, of which the latest counts. No subkey.
    /// First among the rows of its key, for it tells whether the others are to be seen.
    Deadline = 0,
}

/// The key under which retirements are. A user may have a key of that name, whose rows are of other kinds.
pub const RETIRED_KEY: &[u8] = b"";

/// The key under which outcomes are, last among its rows. A user may have a key of that name, whose rows are of other
/// kinds.
pub const OUTCOMES_KEY: &[u8] = b"";

impl Kind {
    /// All kinds, in the order of their rows.
    pub const ALL: [Self; 9] = [
        Self::Deadline,
        Self::Register,
        Self::Counter,
        Self::Set,
        Self::Map,
        Self::Document,
        Self::Retired,
        Self::Sorted,
        Self::Outcome,
    ];

    /// The kind that a stored number stands for.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Deadline),
            1 => Some(Self::Register),
            2 => Some(Self::Counter),
            3 => Some(Self::Set),
            4 => Some(Self::Map),
            5 => Some(Self::Document),
            6 => Some(Self::Retired),
            7 => Some(Self::Sorted),
            8 => Some(Self::Outcome),
            _ => None,
        }
    }

    /// Whether its rows have a subkey.
    pub const fn has_subkey(self) -> bool {
        self.has_members() || matches!(self, Self::Retired | Self::Outcome)
    }

    /// Whether it is a collection, whose elements, fields or members are counted.
    pub const fn has_members(self) -> bool {
        matches!(self, Self::Set | Self::Map | Self::Sorted)
    }

    /// Whether a removal of a key takes rows of this kind. Counter slots change as it lists them, and retirements and
    /// outcomes are not the user's.
    pub const fn is_removable(self) -> bool {
        !matches!(self, Self::Counter | Self::Retired | Self::Outcome)
    }
}

/// The name of a row within its keyspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The user's key.
    pub key: Vec<u8>,
    /// The data type.
    pub kind: Kind,
    /// The set element, map field or member of a sorted set; empty for the other kinds.
    pub subkey: Vec<u8>,
    /// The operation that added the row. For a counter slot, the one that opened it.
    pub dot: Dot,
}

/// A counter slot: what one replica counted under one key, and how much of it was reset.
///
/// It is live while `top > base_top` and contributes `sum - base_sum`. An observer has seen a prefix of an
/// owner's increments, and prefixes nest, so "the longest prefix that was reset" is one pair of numbers and
/// merging is taking the larger. A spent slot stays until its owner closes it, or was retired: whoever removed it
/// could not tell later increments of the owner from earlier ones. Even of a retired owner a live slot stays: had its
/// sum been moved elsewhere, a reset under way that names this slot would reset nothing.
///
/// Source: the baseline in place of a tombstone is ours; compare Almeida and Baquero, "Scalable Eventually
/// Consistent Counters" (2013), and Weidner and Almeida, "An Oblivious Observed-Reset Embeddable Replicated
/// Counter" (2022), which explain why a state-based reset needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The seq of the owner's last increment.
    pub top: u64,
    /// The sum of all increments up to `top`.
    pub sum: i128,
    /// The seq up to which increments were reset.
    pub base_top: u64,
    /// The sum of all increments up to `base_top`.
    pub base_sum: i128,
}

impl Slot {
    /// Whether increments remain that no reset observed.
    pub const fn is_live(&self) -> bool {
        self.top > self.base_top
    }

    /// What the slot adds to its counter.
    pub const fn contribution(&self) -> i128 {
        if self.is_live() { self.sum.saturating_sub(self.base_sum) } else { 0 }
    }

    /// Takes in that the owner's increments up to `top` sum up to `sum`.
    ///
    /// The pair is compared as a whole, so that even an owner that lies makes all replicas end equal.
    #[must_use]
    pub fn raised(self, top: u64, sum: i128) -> Self {
        let (top, sum) = (self.top, self.sum).max((top, sum));
        Self { top, sum, ..self }
    }

    /// Takes in that the increments up to `top`, which sum up to `sum`, were reset.
    #[must_use]
    pub fn reset(self, top: u64, sum: i128) -> Self {
        let (base_top, base_sum) = (self.base_top, self.base_sum).max((top, sum));
        Self { base_top, base_sum, ..self }
    }

    /// The slot that has seen what either has seen.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        self.raised(other.top, other.sum).reset(other.base_top, other.base_sum)
    }
}

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payload {
    /// A sibling of a register, of a map field, or of a score, whose value is [`Score::to_bytes`].
    Value {
        /// Ranks it among its concurrent siblings.
        stamp: Stamp,
        /// The user's bytes.
        value: Vec<u8>,
    },
    /// A counter slot.
    Slot(Slot),
    /// A set element: its row says it all.
    Member,
    /// Some of the changes that make a document. Order, merging and meaning are its reader's.
    Chunk(Vec<u8>),
    /// That a replica was retired.
    Retired {
        /// When, by the clock of who said so.
        stamp: Stamp,
        /// The replica's last operation that was known there. A later one shows that it lives.
        last: u64,
    },
    /// A deadline, in Unix milliseconds.
    Deadline(u64),
    /// What came of an operation on a strong keyspace.
    Outcome {
        /// When, by the keyspace's clock.
        stamp: Stamp,
        /// The place of its entry in the anchors' log.
        index: u64,
        /// What it gave, at most [`OUTCOME_BYTES_MAX`] bytes; none if that was longer.
        result: Option<Vec<u8>>,
    },
}

/// Why stored bytes are not a row's payload.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the bytes are not the payload of a {0:?} row")]
pub struct PayloadError(pub Kind);

/// What a counter slot counts for in a quota, in bytes: about what it takes.
const SLOT_BYTES: usize = 40;

impl Payload {
    /// What it counts for in a quota, in bytes: a value or chunk as long as it is, an element nothing beside its row.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Value { value, .. } => value.len(),
            Self::Chunk(chunk) => chunk.len(),
            Self::Slot(_) => SLOT_BYTES,
            Self::Member | Self::Retired { .. } | Self::Outcome { .. } => 0,
            Self::Deadline(_) => size_of::<u64>(),
        }
    }

    /// Appends the payload's bytes.
    ///
    /// | kind | bytes |
    /// |---|---|
    /// | register, map | epoch (varint), HLC (8 bytes, big endian), then the value to the end |
    /// | sorted | epoch (varint), HLC (8 bytes, big endian), score (8 bytes, as [`Score::to_bytes`]) |
    /// | counter | top (varint), sum (zigzag varint), base top (varint), base sum (zigzag varint) |
    /// | set | none |
    /// | document | the chunk |
    /// | retired | epoch (varint), HLC (8 bytes, big endian), last (varint) |
    /// | deadline | Unix milliseconds (varint) |
    /// | outcome | epoch (varint), HLC (8 bytes, big endian), index (varint), whether a result is kept (1), and if so the result to the end |
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value { stamp, value } => {
                append(out, stamp);
                out.extend_from_slice(value);
            }
            Self::Slot(slot) => append(out, slot),
            Self::Member => {}
            Self::Chunk(chunk) => out.extend_from_slice(chunk),
            Self::Retired { stamp, last } => append(out, &(stamp, last)),
            Self::Deadline(unix_ms) => append(out, unix_ms),
            Self::Outcome { stamp, index, result } => {
                append(out, &(stamp, index, result.is_some()));
                out.extend_from_slice(result.as_deref().unwrap_or_default());
            }
        }
    }

    /// Reads the payload of a `kind` row from all of `bytes`.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, PayloadError> {
        let payload = match kind {
            Kind::Register | Kind::Map => {
                let (stamp, value) = postcard::take_from_bytes(bytes).map_err(|_| PayloadError(kind))?;
                Self::Value { stamp, value: value.to_vec() }
            }
            Kind::Sorted => {
                let (stamp, value) = postcard::take_from_bytes(bytes).map_err(|_| PayloadError(kind))?;
                Score::from_bytes(value).map_err(|_| PayloadError(kind))?;
                Self::Value { stamp, value: value.to_vec() }
            }
            Kind::Counter => match postcard::take_from_bytes(bytes) {
                Ok((slot, [])) => Self::Slot(slot),
                _ => return Err(PayloadError(kind)),
            },
            Kind::Set if bytes.is_empty() => Self::Member,
            Kind::Set => return Err(PayloadError(kind)),
            Kind::Document => Self::Chunk(bytes.to_vec()),
            Kind::Retired => match postcard::take_from_bytes(bytes) {
                Ok(((stamp, last), [])) => Self::Retired { stamp, last },
                _ => return Err(PayloadError(kind)),
            },
            Kind::Deadline => match postcard::take_from_bytes(bytes) {
                Ok((unix_ms, [])) => Self::Deadline(unix_ms),
                _ => return Err(PayloadError(kind)),
            },
            Kind::Outcome => match postcard::take_from_bytes(bytes) {
                Ok(((stamp, index, true), result)) if result.len() <= OUTCOME_BYTES_MAX => {
                    Self::Outcome { stamp, index, result: Some(result.to_vec()) }
                }
                Ok(((stamp, index, false), [])) => Self::Outcome { stamp, index, result: None },
                _ => return Err(PayloadError(kind)),
            },
        };
        Ok(payload)
    }

    /// Whether the row makes its key exist: anything of the user's but a spent slot and a deadline.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Slot(slot) => slot.is_live(),
            Self::Value { .. } | Self::Member | Self::Chunk(_) => true,
            Self::Retired { .. } | Self::Deadline(_) | Self::Outcome { .. } => false,
        }
    }
}

fn append<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    *out = postcard::to_extend(value, std::mem::take(out)).expect("writing to memory cannot fail");
}

/// The order-free hash of a set of rows: the sum modulo 2^128 of each row's hash.
///
/// It covers everything that two replicas with equal vectors must agree on, spent slots and lost siblings
/// included, and nothing that is local to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Adds a row.
    pub fn insert(&mut self, row: &RowId, payload: &Payload) {
        self.0 = self.0.wrapping_add(row_hash(row, payload));
    }

    /// Takes a row out that was added.
    pub fn remove(&mut self, row: &RowId, payload: &Payload) {
        self.0 = self.0.wrapping_sub(row_hash(row, payload));
    }

    /// The fingerprint of both sets of rows together; they must be disjoint, or differences.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The hash as a number.
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// A fingerprint that was stored or received.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// Hash of kind, key, subkey, 16-byte replica, seq and payload; lengths make the fields unambiguous.
fn row_hash(row: &RowId, payload: &Payload) -> u128 {
    let mut bytes = Vec::with_capacity(row.key.len() + row.subkey.len() + 64);
    bytes.push(row.kind as u8);
    bytes.extend_from_slice(&length(&row.key).to_be_bytes());
    bytes.extend_from_slice(&row.key);
    bytes.extend_from_slice(&length(&row.subkey).to_be_bytes());
    bytes.extend_from_slice(&row.subkey);
    bytes.extend_from_slice(row.dot.replica.as_bytes());
    bytes.extend_from_slice(&row.dot.seq.to_be_bytes());
    payload.encode_into(&mut bytes);
    let hash = blake3::hash(&bytes);
    u128::from_be_bytes(*hash.as_bytes().first_chunk().expect("a blake3 hash has 32 bytes"))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and subkeys are bounded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Hlc;
    use crate::id::{Epoch, ReplicaId};

    fn row(kind: Kind, subkey: &[u8]) -> RowId {
        let dot = Dot::new(ReplicaId::from_bytes([9; 16]), 3);
        RowId { key: b"k".to_vec(), kind, subkey: subkey.to_vec(), dot }
    }

    #[test]
    fn kinds_are_stored_as_their_numbers() {
        assert_eq!(Kind::ALL.map(|kind| kind as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(Kind::ALL.is_sorted(), "the order of kinds is that of their rows");
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_number(9), None);
    }

    #[test]
    fn payloads_have_golden_bytes() {
        let value = Payload::Value {
            stamp: Stamp { epoch: Epoch(2), hlc: Hlc::from_bits(0x0102_0304_0506_0708) },
            value: b"v".to_vec(),
        };
        let slot = Payload::Slot(Slot { top: 300, sum: -2, base_top: 1, base_sum: 5 });
        let Payload::Value { stamp, .. } = value else { unreachable!("it is one") };
        let score = Payload::Value { stamp, value: Score::ZERO.to_bytes().to_vec() };
        let outcome = |result| Payload::Outcome { stamp, index: 300, result };
        let cases: [(Kind, Payload, &[u8]); 10] = [
            (Kind::Register, value.clone(), &[2, 1, 2, 3, 4, 5, 6, 7, 8, b'v']),
            (Kind::Map, value, &[2, 1, 2, 3, 4, 5, 6, 7, 8, b'v']),
            (Kind::Sorted, score, &[2, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            (Kind::Counter, slot, &[0xac, 0x02, 3, 1, 10]),
            (Kind::Set, Payload::Member, &[]),
            (Kind::Document, Payload::Chunk(b"c".to_vec()), b"c"),
            (Kind::Retired, Payload::Retired { stamp, last: 300 }, &[2, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02]),
            (Kind::Deadline, Payload::Deadline(300), &[0xac, 0x02]),
            (Kind::Outcome, outcome(Some(b"r".to_vec())), &[2, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02, 1, b'r']),
            (Kind::Outcome, outcome(None), &[2, 1, 2, 3, 4, 5, 6, 7, 8, 0xac, 0x02, 0]),
        ];
        for (kind, payload, golden) in cases {
            let mut bytes = Vec::new();
            payload.encode_into(&mut bytes);
            assert_eq!(bytes, golden, "{kind:?}");
            assert_eq!(Payload::decode(kind, golden), Ok(payload));
        }
    }

    #[test]
    fn bytes_beyond_a_payload_are_refused() {
        assert_eq!(Payload::decode(Kind::Set, b"x"), Err(PayloadError(Kind::Set)));
        assert_eq!(Payload::decode(Kind::Counter, &[1, 2, 0, 0, 0]), Err(PayloadError(Kind::Counter)));
        assert_eq!(Payload::decode(Kind::Register, &[0, 1]), Err(PayloadError(Kind::Register)));
        assert_eq!(Payload::decode(Kind::Deadline, &[1, 0]), Err(PayloadError(Kind::Deadline)));
        for score in [&[0xff_u8; 8][..], &[0x80; 9], &[0x80; 7], &[]] {
            let sorted = [&[0, 1, 2, 3, 4, 5, 6, 7, 8][..], score].concat();
            assert_eq!(Payload::decode(Kind::Sorted, &sorted), Err(PayloadError(Kind::Sorted)));
        }
        let retired = [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0];
        assert_eq!(Payload::decode(Kind::Retired, &retired), Err(PayloadError(Kind::Retired)));
        let outcome = |is_kept: u8, result: &[u8]| {
            Payload::decode(Kind::Outcome, &[&[1, 1, 2, 3, 4, 5, 6, 7, 8, 9, is_kept], result].concat())
        };
        assert!(outcome(1, &vec![0; OUTCOME_BYTES_MAX]).is_ok());
        for wrong in [outcome(1, &vec![0; OUTCOME_BYTES_MAX + 1]), outcome(0, &[0]), outcome(2, &[])] {
            assert_eq!(wrong, Err(PayloadError(Kind::Outcome)));
        }
    }

    #[test]
    fn fingerprint_has_a_golden_value_and_forgets_removed_rows() {
        let mut fingerprint = Fingerprint::default();
        fingerprint.insert(&row(Kind::Set, b"e"), &Payload::Member);
        let one = fingerprint;
        fingerprint.insert(&row(Kind::Set, b"f"), &Payload::Member);
        fingerprint.remove(&row(Kind::Set, b"f"), &Payload::Member);
        assert_eq!(fingerprint, one);
        assert_eq!(format!("{:032x}", one.to_bits()), "8483c9887f9509feb6770408dade6e67");
    }

    /// Without the lengths these two would be the same bytes.
    #[test]
    fn fingerprint_tells_where_a_key_ends() {
        let separator = 1_u32.to_be_bytes();
        let of = |key: &[u8], subkey: &[u8]| {
            let mut fingerprint = Fingerprint::default();
            fingerprint.insert(&RowId { key: key.to_vec(), ..row(Kind::Set, subkey) }, &Payload::Member);
            fingerprint
        };
        assert_ne!(of(b"a", &[&separator[..], b"b"].concat()), of(&[b"a", &separator[..]].concat(), b"b"));
    }

    #[test]
    fn fingerprint_is_stored_as_its_number_and_adds_up() {
        let mut parts = [Fingerprint::default(); 2];
        let mut whole = Fingerprint::default();
        for (part, subkey) in parts.iter_mut().zip([b"e", b"f"]) {
            part.insert(&row(Kind::Set, subkey), &Payload::Member);
            whole.insert(&row(Kind::Set, subkey), &Payload::Member);
        }
        assert_eq!(parts[0].plus(parts[1]), whole);
        assert_eq!(Fingerprint::from_bits(whole.to_bits()), whole);
    }

    #[test]
    fn slots_with_equal_totals_and_different_history_differ() {
        let mut a = Fingerprint::default();
        let mut b = Fingerprint::default();
        a.insert(&row(Kind::Counter, b""), &Payload::Slot(Slot { top: 2, sum: 5, base_top: 1, base_sum: 3 }));
        b.insert(&row(Kind::Counter, b""), &Payload::Slot(Slot { top: 2, sum: 2, base_top: 0, base_sum: 0 }));
        assert_ne!(a, b);
    }
}
