//! The work that is measured: keys of 16 bytes, values of 64, batches of 100.

use tidelock_engine::write::Write;

/// The length of a key, or of a set element, in bytes.
pub(crate) const KEY_BYTES: usize = 16;

/// The length of a value, in bytes.
pub(crate) const VALUE_BYTES: usize = 64;

/// The user's bytes of one SET.
pub(crate) const CONTENT_BYTES: usize = KEY_BYTES + VALUE_BYTES;

/// The writes of a turn: what a group commit gathers from some busy clients.
pub(crate) const BATCH: usize = 100;

/// The n-th key.
pub(crate) fn key(number: usize) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

/// The n-th set element.
pub(crate) fn element(number: usize) -> Vec<u8> {
    format!("member:{number:09}").into_bytes()
}

/// Sets the keys of a range, to values that follow from `salt`.
pub(crate) fn sets(keys: impl IntoIterator<Item = usize>, salt: usize) -> Vec<Write> {
    keys.into_iter()
        .map(|number| Write::Set { key: key(number), value: format!("{salt:032}{number:032}").into_bytes() })
        .collect()
}

/// Adds one element to the set.
pub(crate) fn add(number: usize) -> Write {
    Write::Add { key: b"set".to_vec(), elements: vec![element(number)] }
}
