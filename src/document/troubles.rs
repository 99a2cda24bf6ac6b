//! What went wrong with documents, for the node's status: counted, and the last of each named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidelock_engine::causality::Dot;

use super::cache::DocumentId;
use super::chunk::ChunkError;

/// The documents that are named at once.
const NAMED_MAX: usize = 16;

/// The bytes of a key that are shown.
const SHOWN_BYTES_MAX: usize = 64;

/// Since the start of the node.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counters: BTreeMap<&'static str, u64>,
    /// The last rows that were skipped, by document.
    skipped: BTreeMap<DocumentId, (Dot, String)>,
    /// Documents of which changes wait that nobody here can complete.
    incomplete: BTreeSet<DocumentId>,
}

impl Troubles {
    pub(super) fn count(&self, counter: &'static str) {
        *self.lock().counters.entry(counter).or_default() += 1;
    }

    /// Names the rows that a document is read without; none clears it.
    pub(super) fn name_skipped(&self, id: &DocumentId, skipped: &BTreeMap<Dot, ChunkError>) {
        let mut state = self.lock();
        match skipped.last_key_value() {
            None => drop(state.skipped.remove(id)),
            Some((dot, error)) => {
                if state.skipped.len() < NAMED_MAX || state.skipped.contains_key(id) {
                    state.skipped.insert(id.clone(), (*dot, error.to_string()));
                }
            }
        }
    }

    /// Names a document of which changes wait for others, or clears it.
    pub(super) fn name_incomplete(&self, id: &DocumentId, is_incomplete: bool) {
        let mut state = self.lock();
        if !is_incomplete {
            state.incomplete.remove(id);
        } else if state.incomplete.len() < NAMED_MAX {
            state.incomplete.insert(id.clone());
        }
    }

    /// Counters for the status, by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        self.lock().counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// Sentences for the status.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let state = self.lock();
        let skipped = state.skipped.iter().map(|(id, (dot, error))| {
            let key = shown(&id.key);
            format!("document {key}: a change of {} ({}) cannot be read: {error}", dot.replica, dot.seq)
        });
        let incomplete = state.incomplete.iter().map(|id| {
            let key = shown(&id.key);
            format!(
                "document {key}: it was deleted while it was changed; the author of the change restores it"
            )
        });
        skipped.chain(incomplete).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(SHOWN_BYTES_MAX)]).into_owned()
}
