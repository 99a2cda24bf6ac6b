//! The bounds of what a client, a peer or a disk may hand us, each with its unit.
//!
//! They are part of the formats: a node with larger bounds would make frames that others refuse.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest set element or map field, in bytes. It is part of a row's key, hence bounded like one.
pub const SUBKEY_BYTES_MAX: usize = 64 << 10;

/// The longest value of a register or map field, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// The longest chunk of a document's changes, in bytes: as a value's, so that it fits a frame. A document that was
/// written whole is one chunk, so this bounds documents too.
pub const CHUNK_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The operations of one frame, in encoded bytes, unless they are at most [`LARGE_FRAME_OPS_MAX`].
pub const FRAME_OPS_BYTES_MAX: usize = 1 << 20;

/// The operations of a frame that may be larger: a write of a large value, the removal of what it replaces, its
/// deadline, and its outcome.
pub const LARGE_FRAME_OPS_MAX: usize = 4;

/// The operations of such a frame, in encoded bytes: a value, its key, and what was observed.
pub const OP_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + (512 << 10);

/// The operations of one frame, by number.
pub const FRAME_OPS_MAX: usize = 1 << 16;

/// The observed rows that one operation lists; beyond it removes by prefix and version vector.
pub const OBSERVED_LISTED_MAX: usize = 64;

/// The bytes of elements and fields that a removal of a key lists; beyond it removes by version vector too.
pub const OBSERVED_BYTES_MAX: usize = 64 << 10;

/// The elements, fields or rows that one operation names.
pub const ELEMENTS_MAX: usize = 1 << 16;

/// The counter slots that one operation changes. On the wire a slot is two bytes and in memory up to eighty, so
/// this, and not the length of a frame, bounds what a frame holds once it is decoded.
pub const SLOTS_MAX: usize = 1 << 18;

/// The replicas that one frame names, and so those that can write in a keyspace.
pub const REPLICAS_MAX: usize = 1 << 16;

/// The longest result that is kept of an operation on a strong keyspace, in bytes. Of one that is longer it is kept that
/// it was done.
pub const OUTCOME_BYTES_MAX: usize = 64 << 10;

/// The outcomes that are kept of one client: those of its highest number and of the numbers just below.
pub const OUTCOMES_PER_CLIENT: u64 = 1_024;

/// Outcomes of one client are let go of by so many numbers at once, so that most operations let go of none.
pub const OUTCOMES_AT_ONCE: u64 = 64;

/// The commands of one entry of the anchors' log.
pub const COMMANDS_MAX: usize = 1_024;

/// The actions of one request, and those that one decision or whole holds.
pub const ACTIONS_MAX: usize = 1 << 16;

/// The bytes of one entry, request or reply that are not of keys, values and texts: lengths, numbers, and which variant
/// it is. Whatever takes more memory than it has bytes is made of these, so this bounds what they hold once decoded.
pub const STRUCTURE_BYTES_MAX: usize = 1 << 20;

/// What the queries of one request may answer together, in bytes. They are all answered before the first
/// answer leaves, so this is memory.
pub const REQUEST_ANSWER_BYTES_MAX: usize = 32 << 20;

/// What the queries of one turn may answer together, in bytes.
pub const TURN_ANSWER_BYTES_MAX: usize = 256 << 20;

/// What was too long. Nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BoundError {
    /// A key is longer than [`KEY_BYTES_MAX`].
    #[error("key of {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    Key(usize),
    /// A set element or map field is longer than [`SUBKEY_BYTES_MAX`].
    #[error("element or field of {0} bytes; at most {SUBKEY_BYTES_MAX} are allowed")]
    Subkey(usize),
    /// A value is longer than [`VALUE_BYTES_MAX`].
    #[error("value of {0} bytes; at most {VALUE_BYTES_MAX} are allowed")]
    Value(usize),
    /// A chunk of a document is longer than [`CHUNK_BYTES_MAX`].
    #[error("document change of {0} bytes; at most {CHUNK_BYTES_MAX} are allowed")]
    Chunk(usize),
    /// A change of a document replaces more rows than [`OBSERVED_LISTED_MAX`].
    #[error("document change that replaces {0} rows; at most {OBSERVED_LISTED_MAX} are allowed")]
    Replaced(usize),
    /// A write names more elements or fields than [`ELEMENTS_MAX`], or changes more slots than [`SLOTS_MAX`].
    #[error(
        "write of {0} elements, fields or counters; at most {ELEMENTS_MAX} elements or fields are allowed"
    )]
    Elements(usize),
    /// A batch does not fit into one frame.
    #[error("batch of {bytes} bytes in {ops} operations; at most {FRAME_OPS_BYTES_MAX} in {FRAME_OPS_MAX}")]
    Batch {
        /// Its encoded size.
        bytes: usize,
        /// Its operations.
        ops: usize,
    },
}

/// Checks a key's length.
pub fn check_key(key: &[u8]) -> Result<(), BoundError> {
    if key.len() > KEY_BYTES_MAX { Err(BoundError::Key(key.len())) } else { Ok(()) }
}

/// Checks the length of a set element or map field.
pub fn check_subkey(subkey: &[u8]) -> Result<(), BoundError> {
    if subkey.len() > SUBKEY_BYTES_MAX { Err(BoundError::Subkey(subkey.len())) } else { Ok(()) }
}

/// Checks a value's length.
pub fn check_value(value: &[u8]) -> Result<(), BoundError> {
    if value.len() > VALUE_BYTES_MAX { Err(BoundError::Value(value.len())) } else { Ok(()) }
}

/// Checks the length of a chunk of a document.
pub fn check_chunk(chunk: &[u8]) -> Result<(), BoundError> {
    if chunk.len() > CHUNK_BYTES_MAX { Err(BoundError::Chunk(chunk.len())) } else { Ok(()) }
}

/// Checks the number of elements, fields or rows of one write.
pub fn check_elements(count: usize) -> Result<(), BoundError> {
    if count > ELEMENTS_MAX { Err(BoundError::Elements(count)) } else { Ok(()) }
}
