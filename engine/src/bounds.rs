//! The bounds of what a client, a peer or a disk may hand us, each with its unit.
//!
//! They are part of the formats: a node with larger bounds would make frames that others refuse.

use thiserror::Error;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// The longest set element or map field, in bytes. It is part of a row's key, hence bounded like one.
pub const SUBKEY_BYTES_MAX: usize = 64 << 10;

/// The longest value of a register or map field, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// The operations of one frame, in encoded bytes, unless it holds a single operation with a larger value.
pub const FRAME_OPS_BYTES_MAX: usize = 1 << 20;

/// The longest encoded operation, in bytes: a value, a key, and what the operation observed.
pub const OP_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + (64 << 10);

/// The operations of one frame, by number.
pub const FRAME_OPS_MAX: usize = 1 << 16;

/// The observed rows that one operation lists; beyond it removes by prefix and version vector.
pub const OBSERVED_LISTED_MAX: usize = 64;

/// What was too long. Nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
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
