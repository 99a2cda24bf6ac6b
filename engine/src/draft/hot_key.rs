//! What is below a draft under the key that was asked about last.
//!
//! Many writes of one turn are often of one collection, and each asks the same of its key. The rows below do not change
//! while there is a draft over them, so the answers stay true.

use std::cell::RefCell;

use crate::id::KeyspaceId;
use crate::ports::{ReadError, Rows};
use crate::row::Kind;

/// The answers that are known of one key.
#[derive(Debug, Default)]
pub(super) struct HotKey {
    known: RefCell<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    keyspace: KeyspaceId,
    key: Vec<u8>,
    has_document: Option<bool>,
    members: [Option<u64>; Kind::ALL.len()],
}

impl HotKey {
    /// As [`Rows::members`] of the rows below.
    pub(super) fn members(
        &self,
        below: &dyn Rows,
        keyspace: KeyspaceId,
        key: &[u8],
        kind: Kind,
    ) -> Result<u64, ReadError> {
        self.answer(
            keyspace,
            key,
            |known| &mut known.members[usize::from(kind as u8)],
            || below.members(keyspace, key, kind),
        )
    }

    /// Whether the key has changes of a document, if it is not known already.
    pub(super) fn has_document(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        read: impl FnOnce() -> Result<bool, ReadError>,
    ) -> Result<bool, ReadError> {
        self.answer(keyspace, key, |known| &mut known.has_document, read)
    }

    fn answer<T: Copy>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        place: impl FnOnce(&mut Known) -> &mut Option<T>,
        read: impl FnOnce() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut slot = self.known.borrow_mut();
        let known = match &mut *slot {
            Some(known) if known.keyspace == keyspace && known.key == key => known,
            other => {
                let members = [None; Kind::ALL.len()];
                other.insert(Known { keyspace, key: key.to_vec(), has_document: None, members })
            }
        };
        let place = place(known);
        if let Some(answer) = *place {
            return Ok(answer);
        }
        Ok(*place.insert(read()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_kept_for_one_key_and_never_given_for_another() {
        let (one, other) = (KeyspaceId::from_bytes([1; 16]), KeyspaceId::from_bytes([2; 16]));
        let hot = HotKey::default();
        let ask =
            |keyspace, key: &[u8], now| hot.has_document(keyspace, key, || Ok(now)).expect("no read fails");
        assert!(ask(one, b"k", true));
        assert!(ask(one, b"k", false), "it was answered before");
        assert!(!ask(other, b"k", false));
        assert!(!ask(other, b"l", false));
        assert!(ask(other, b"k", true), "only the last key is kept");
    }
}
