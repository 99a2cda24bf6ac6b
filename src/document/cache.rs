//! The documents that stay in memory after their use: those used last, up to a number of bytes.

use std::collections::BTreeMap;

use tidelock_engine::id::KeyspaceId;

use super::loading::Loaded;

/// What all documents in memory may take together, in bytes, roughly. One that is larger is there alone.
pub(super) const CACHE_BYTES_MAX: usize = 128 << 20;

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DocumentId {
    /// The keyspace.
    pub(crate) keyspace: KeyspaceId,
    /// The key.
    pub(crate) key: Vec<u8>,
}

/// Documents in memory, of which the one that was not used for longest goes first.
#[derive(Debug)]
pub(super) struct Cache {
    documents: BTreeMap<DocumentId, Cached>,
    by_use: BTreeMap<u64, DocumentId>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Cached {
    loaded: Loaded,
    bytes: usize,
    use_number: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { documents: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    /// Takes a document out, to be used and put back.
    pub(super) fn take(&mut self, id: &DocumentId) -> Option<Loaded> {
        let cached = self.documents.remove(id)?;
        self.by_use.remove(&cached.use_number);
        self.bytes -= cached.bytes;
        Some(cached.loaded)
    }

    /// Puts a document in, as the one that was used last.
    pub(super) fn put(&mut self, id: DocumentId, loaded: Loaded) {
        self.take(&id);
        let (bytes, use_number) = (loaded.held_bytes() + id.key.len(), self.uses);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(use_number, id.clone());
        self.documents.insert(id, Cached { loaded, bytes, use_number });
        while self.bytes > self.bytes_max && self.documents.len() > 1 {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.take(&oldest);
        }
    }

    #[cfg(test)]
    fn held(&self) -> (usize, usize) {
        (self.documents.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use tidelock_engine::id::{ClusterId, ReplicaId};

    use super::*;

    fn id(key: &str) -> DocumentId {
        let keyspace = KeyspaceId::of(ClusterId::named("test"), &"notes".parse().expect("a name"));
        DocumentId { keyspace, key: key.into() }
    }

    fn loaded() -> Loaded {
        Loaded::empty(ReplicaId::from_bytes([1; 16]))
    }

    #[test]
    fn document_that_was_not_used_for_longest_goes_first() {
        let one = loaded().held_bytes() + 1;
        let mut cache = Cache::new(2 * one);
        cache.put(id("a"), loaded());
        cache.put(id("b"), loaded());
        let a = cache.take(&id("a")).expect("there is room for two");
        cache.put(id("a"), a);
        cache.put(id("c"), loaded());
        assert_eq!(cache.held(), (2, 2 * one));
        assert!(cache.take(&id("b")).is_none());
        assert!(cache.take(&id("a")).is_some() && cache.take(&id("c")).is_some());
        assert_eq!(cache.held(), (0, 0));
    }

    #[test]
    fn one_document_stays_however_large_it_is() {
        let mut cache = Cache::new(1);
        cache.put(id("a"), loaded());
        cache.put(id("b"), loaded());
        assert_eq!(cache.held().0, 1);
        assert!(cache.take(&id("b")).is_some());
    }
}
