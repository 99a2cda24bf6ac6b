//! A document in memory, made of its rows: in bulk where all is well, and around what is not.
//!
//! Every call into automerge that sees bytes of others is guarded: a panic is an error of those bytes. A row
//! that cannot be read is skipped and named, and the document is what the others say. Rows are taken in order
//! of their dots where they must be told apart, so two replicas with equal rows skip the same.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{ActorId, Automerge, Change, ChangeHash, ReadDoc};
use tidelock_engine::causality::Dot;
use tidelock_engine::id::ReplicaId;

use super::chunk::{ChunkError, Size, measure};

/// Rows of a document, in order of their dots.
pub(super) type Chunks = Vec<(Dot, Vec<u8>)>;

/// A document in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The document, which holds changes whose dependencies are missing in a queue, invisibly.
    pub(super) doc: Automerge,
    /// The rows whose changes are in it, with the bytes of each.
    pub(super) rows: BTreeMap<Dot, usize>,
    /// The rows that cannot be read.
    pub(super) skipped: BTreeMap<Dot, ChunkError>,
    /// The changes that wait for others.
    pending: Vec<Change>,
    /// Whether what the pending changes build on was looked for in the log.
    pub(super) is_searched: bool,
    size: Size,
}

/// What a row says.
struct Parsed {
    documents: Vec<Automerge>,
    changes: Vec<Change>,
    size: Size,
    bytes: usize,
}

impl Loaded {
    /// A document without changes, in which changes of `replica` will be made.
    pub(super) fn empty(replica: ReplicaId) -> Self {
        Self {
            doc: Automerge::new().with_actor(new_actor(replica)),
            rows: BTreeMap::new(),
            skipped: BTreeMap::new(),
            pending: Vec::new(),
            is_searched: false,
            size: Size::default(),
        }
    }

    /// Loads a document from all of its rows.
    pub(super) fn load(replica: ReplicaId, chunks: &Chunks) -> Self {
        let mut skipped = BTreeMap::new();
        let mut parsed: BTreeMap<Dot, Parsed> = BTreeMap::new();
        for (dot, chunk) in chunks {
            match parse(chunk) {
                Ok(row) => drop(parsed.insert(*dot, row)),
                Err(error) => drop(skipped.insert(*dot, error)),
            }
        }
        let mut loaded = Self::empty(replica);
        if loaded.add_parsed(&parsed).is_err() {
            loaded = Self::around(replica, &parsed, &mut skipped);
        }
        loaded.skipped = skipped;
        loaded
    }

    /// Loads row by row, and skips those that fail. Only a document with bad rows is worth the copies.
    fn around(
        replica: ReplicaId,
        parsed: &BTreeMap<Dot, Parsed>,
        skipped: &mut BTreeMap<Dot, ChunkError>,
    ) -> Self {
        let mut loaded = Self::empty(replica);
        for row in parsed {
            let before = (loaded.doc.clone(), loaded.pending.clone(), loaded.size);
            if let Err(error) = loaded.add_rows(std::iter::once(row)) {
                (loaded.doc, loaded.pending, loaded.size) = before;
                skipped.insert(*row.0, error);
            }
        }
        loaded
    }

    /// Adds rows to those that are in it.
    ///
    /// # Errors
    /// One of them cannot be read or contradicts another; load the document from all its rows.
    pub(super) fn add(&mut self, chunks: &[(Dot, Vec<u8>)]) -> Result<(), ChunkError> {
        let mut parsed = BTreeMap::new();
        for (dot, chunk) in chunks {
            parsed.insert(*dot, parse(chunk)?);
        }
        self.is_searched &= parsed.is_empty();
        self.add_parsed(&parsed)
    }

    fn add_parsed(&mut self, parsed: &BTreeMap<Dot, Parsed>) -> Result<(), ChunkError> {
        self.add_rows(parsed.iter())
    }

    fn add_rows<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a Dot, &'a Parsed)> + Clone,
    ) -> Result<(), ChunkError> {
        for (_, row) in rows.clone() {
            self.size = self.size.plus(row.size)?;
        }
        guarded(|| {
            let mut changes: Vec<Change> = Vec::new();
            for (_, row) in rows.clone() {
                for document in &row.documents {
                    if self.doc.is_empty() {
                        self.doc = document.clone().with_actor(self.doc.get_actor().clone());
                    } else {
                        changes.extend(self.doc.get_changes_added(document));
                    }
                }
                changes.extend(row.changes.iter().cloned());
            }
            self.apply(changes)
        })?;
        self.rows.extend(rows.map(|(dot, row)| (*dot, row.bytes)));
        Ok(())
    }

    /// Applies changes and notes which of them wait for others.
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), ChunkError> {
        let refused = |error: automerge::AutomergeError| ChunkError::Refused(error.to_string());
        self.doc.apply_changes(changes.clone()).map_err(refused)?;
        self.pending.extend(changes);
        self.settle();
        Ok(())
    }

    /// Forgets the pending changes that wait no more: after each application, and after an edit, which may have
    /// merged what they waited for.
    pub(super) fn settle(&mut self) {
        if self.doc.get_missing_deps(&[]).is_empty() {
            self.pending.clear();
        } else {
            let doc = &self.doc;
            self.pending.retain(|change| doc.get_change_meta_by_hash(&change.hash()).is_none());
        }
    }

    /// The document as a reader sees it: nothing while it has no changes, or only a half of them.
    pub(super) fn visible(&self) -> Option<&Automerge> {
        (!self.doc.get_heads().is_empty() && !self.is_half()).then_some(&self.doc)
    }

    /// Whether changes wait for others.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether a change waits that builds on some of what is visible, and on something that is not there.
    pub(super) fn is_half(&self) -> bool {
        let is_applied = |hash: &ChangeHash| self.doc.get_change_meta_by_hash(hash).is_some();
        self.pending.iter().any(|change| change.deps().iter().any(is_applied))
    }

    /// Brings back what pending changes build on, as far as `find` knows it; answers whether there was any.
    ///
    /// # Errors
    /// automerge refuses it; the document must not be used any more.
    pub(super) fn restore(
        &mut self,
        mut find: impl FnMut(&ChangeHash) -> Option<Change>,
    ) -> Result<bool, ChunkError> {
        guarded(|| {
            let mut found: BTreeMap<ChangeHash, Change> = BTreeMap::new();
            let mut wanted = self.doc.get_missing_deps(&[]);
            while let Some(hash) = wanted.pop() {
                if found.contains_key(&hash) || self.doc.get_change_meta_by_hash(&hash).is_some() {
                    continue;
                }
                if let Some(change) = find(&hash) {
                    wanted.extend_from_slice(change.deps());
                    found.insert(hash, change);
                }
            }
            let has_found = !found.is_empty();
            self.apply(found.into_values().collect())?;
            Ok(has_found)
        })
    }

    /// The rows that one change may replace: the oldest of those that are in it.
    pub(super) fn replaceable(&self, count_max: usize) -> Vec<Dot> {
        let mut dots: Vec<Dot> = self.rows.keys().copied().collect();
        dots.sort_by_key(|dot| (dot.seq, dot.replica));
        dots.truncate(count_max);
        dots
    }

    /// Takes in that a change became a row and replaced others.
    pub(super) fn committed(&mut self, dot: Dot, bytes: usize, replaced: &[Dot]) {
        self.rows.retain(|dot, _| !replaced.contains(dot));
        self.rows.insert(dot, bytes);
    }

    /// Whether the rows that are in it, or are skipped, are still there.
    pub(super) fn is_within(&self, present: &BTreeSet<Dot>) -> bool {
        self.rows.keys().all(|dot| present.contains(dot))
    }

    /// Roughly the memory it takes.
    pub(super) fn held_bytes(&self) -> usize {
        let stats = self.doc.stats();
        let pending: usize = self.pending.iter().map(|change| change.raw_bytes().len()).sum();
        let ops = usize::try_from(stats.num_ops + stats.num_changes).unwrap_or(usize::MAX / 128);
        4_096 + ops.saturating_mul(64) + 2 * self.rows.values().sum::<usize>() + pending
    }
}

/// Whose changes ours are: a name is used for one document in one stay in memory, so no name ever has two
/// histories, whatever is deleted, restored or refused in between.
fn new_actor(replica: ReplicaId) -> ActorId {
    let random = getrandom::u64().unwrap_or_else(|_| u64::from_le_bytes([0x5d; 8]));
    ActorId::from([&replica.as_bytes()[..8], &random.to_be_bytes()[..]].concat())
}

/// Reads a chunk without a document to add it to.
fn parse(chunk: &[u8]) -> Result<Parsed, ChunkError> {
    let (pieces, size) = measure(chunk)?;
    guarded(|| {
        let mut parsed = Parsed { documents: Vec::new(), changes: Vec::new(), size, bytes: chunk.len() };
        for piece in pieces {
            let bytes = &chunk[piece.range];
            if piece.is_document {
                let document =
                    Automerge::load(bytes).map_err(|error| ChunkError::Refused(error.to_string()))?;
                parsed.documents.push(document);
            } else {
                let change = Change::from_bytes(bytes.to_vec());
                parsed.changes.push(change.map_err(|error| ChunkError::Refused(error.to_string()))?);
            }
        }
        Ok(parsed)
    })
}

/// Reads bytes that claim to be a saved document, by themselves.
///
/// # Errors
/// They cannot be read, or build on something that they do not hold.
pub(super) fn parse_saved(replica: ReplicaId, bytes: &[u8]) -> Result<Automerge, ChunkError> {
    let mut loaded = Loaded::empty(replica);
    let parsed = parse(bytes)?;
    let dot = Dot::new(replica, 1);
    loaded.add_rows(std::iter::once((&dot, &parsed)))?;
    if loaded.is_pending() {
        return Err(ChunkError::Malformed("changes that build on others which are not there"));
    }
    Ok(loaded.doc)
}

/// The changes of a chunk, by their hashes. What cannot be read is left out.
pub(super) fn changes_of(chunk: &[u8]) -> BTreeMap<ChangeHash, Change> {
    let Ok(parsed) = parse(chunk) else { return BTreeMap::new() };
    let of_documents = guarded(|| Ok(parsed.documents.iter().flat_map(|doc| doc.get_changes(&[])).collect()));
    let of_documents: Vec<Change> = of_documents.unwrap_or_default();
    of_documents.into_iter().chain(parsed.changes).map(|change| (change.hash(), change)).collect()
}

/// Calls into automerge; a panic there is an error here. What was changed must be thrown away after an error.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, ChunkError>) -> Result<T, ChunkError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(ChunkError::Panicked(panic_text(&*panic))))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
