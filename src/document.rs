//! Documents: values of many parts that several people change at once, merged by automerge.
//!
//! A document is its changes. Every edit adds a row with the change it made, in automerge's own format, and
//! whoever holds the rows holds the document, whatever the order in which they came. The engine moves rows and
//! never looks into them; one worker per node calls automerge. When a document has many rows, the next edit
//! writes it whole, in place of them: an edit and a compaction in one, so that nothing is ever written that no
//! user asked for.
//!
//! # A DEL beside a change
//! A DEL removes the rows that it saw and leaves nothing behind. A change that it did not see stays, without
//! what it builds on: automerge keeps such a change waiting, so a reader sees no document, and never the half of
//! one. Then the replica that made the change writes the document, as it was when it made it, once more as one
//! row in place of its own. So a change brings the whole document back, and it does so everywhere. Cases:
//! (1) the author has the document in memory: it restores it as soon as it hears of the DEL;
//! (2) it was restarted, or has forgotten the document: it finds the removed rows in its log, which holds every
//!     frame that it ever applied; it reads the whole log for that;
//! (3) it crashed between hearing of the DEL and restoring: it restores when the document is next read or
//!     written there;
//! (4) somebody else edits the document first: that node looks into its own log, and restores it in the author's
//!     place, or begins an empty document beside it, and both become one when the author restores;
//! (5) the author never comes back: its change waits, and the status names the document.
//!
//! While a change waits its row is there, so EXISTS, TYPE and the keys of the keyspace count the document, though
//! reading it finds none. A DEL that has seen the change removes it.
//!
//! # What is bounded
//! A chunk and so a document written whole: 16 MiB. What its columns inflate to: 64 MiB. Its operations: 4 Mi.
//! A row of a peer that goes beyond, or cannot be read, is skipped, counted and named in the status.
//! automerge's sync protocol is not used: a hostile message can abort the process.

mod access;
mod cache;
mod chunk;
#[cfg(test)]
mod hostile;
mod inbox;
mod json;
mod loading;
mod path;
// Only for the fuzz targets.
#[doc(hidden)]
pub mod probe;
#[cfg(test)]
mod tests;
mod troubles;
mod worker;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use automerge::transaction::Transaction;
use automerge::{Automerge, AutomergeError, ChangeHash};
use thiserror::Error;
use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::read::QueryError;
use tokio::sync::oneshot;

pub(crate) use self::access::Access;
pub(crate) use self::cache::DocumentId;
pub use self::chunk::ChunkError;
use self::inbox::{Given, Inbox, Job, Work};
pub use self::json::JsonError;
use self::loading::{Chunks, Loaded, guarded, parse_saved};
pub(crate) use self::troubles::Troubles;
use self::worker::Worker;
use crate::keyspace::{Keyspace, WriteError};
use crate::watch::{Cursor, WatchRange};
use crate::watch_hub::Watch;

/// The rows from which on an edit writes its document whole.
pub const ROWS_MAX: usize = 64;

/// The changes that one history lists at most: the last ones.
pub const HISTORY_MAX: usize = 10_000;

/// Why a document was not read or not written. Nothing was changed, unless the text says otherwise.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// automerge refused the edit.
    #[error("the edit was refused: {0}")]
    Refused(String),
    /// The keyspace is strong, and documents are for eventual ones. Nothing was read or changed.
    #[error("documents cannot be read or changed in a strong keyspace yet")]
    Strong,
    /// The edit panicked, in its closure or in automerge.
    #[error("the edit panicked: {0}")]
    Panicked(String),
    /// The bytes are not a document that can be merged.
    #[error("not a document: {0}")]
    Invalid(#[from] ChunkError),
    /// The JSON or its path does not fit the document.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Written whole, the document would have this many bytes, or stand for too many operations.
    #[error("the document would have {0} bytes or too many operations; at most 16 MiB are allowed")]
    TooLarge(usize),
    /// The document was deleted and written by others again and again meanwhile.
    #[error("the document kept changing meanwhile; try again")]
    Outdated,
    /// Some of the document was deleted while it was changed elsewhere.
    #[error(
        "the document was deleted while it was changed; it can be edited when it is restored, or deleted"
    )]
    Incomplete,
    /// The key shows another kind, or the store could not be read.
    #[error(transparent)]
    Read(Arc<QueryError>),
    /// The write was refused, or its outcome is unknown; the text says which.
    #[error(transparent)]
    Write(Arc<WriteError>),
    /// The worker failed over it, which is a defect of ours or of automerge. An edit may have been written.
    #[error("the document cannot be worked on; an edit of it may have been written")]
    Interrupted,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// One change in the life of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The change; a document can be read as of it.
    pub hash: ChangeHash,
    /// What it built on.
    pub dependencies: Vec<ChangeHash>,
    /// Who made it, as automerge names it: the first 8 bytes are the replica's, for changes made by tidelock.
    pub actor: Vec<u8>,
    /// Its number among those of its actor, from 1.
    pub seq: u64,
    /// When it was made, in seconds since 1970, if its author says so; else 0.
    pub unix_s: i64,
    /// What its author says of it.
    pub message: Option<String>,
    /// Its operations.
    pub operations: usize,
}

/// A document that many change at once. What concurrent edits do to each other is automerge's rule.
///
/// ```no_run
/// # async fn example(notes: tidelock::Keyspace) -> Result<(), Box<dyn std::error::Error>> {
/// use tidelock::automerge::transaction::Transactable;
/// use tidelock::automerge::{ROOT, ReadDoc};
///
/// let page = notes.document("page");
/// page.transact(|edit| edit.put(ROOT, "title", "Hello")).await?;
/// let document = page.get().await?.expect("it was just written");
/// let (title, _) = document.get(ROOT, "title")?.expect("it was just written");
/// assert_eq!(title.to_str(), Some("Hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Document<'a> {
    keyspace: &'a Keyspace,
    key: Vec<u8>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(keyspace: &'a Keyspace, key: Vec<u8>) -> Self {
        Self { keyspace, key }
    }

    /// Edits the document, making it if need be. The closure sees the document as it is on this node; it is
    /// called again if that changed meanwhile in a way that the edit cannot stand beside, such as a DEL. What it
    /// does is one change: every peer sees all of it or nothing.
    ///
    /// # Errors
    /// [`DocumentError`]; if the closure fails nothing is done.
    pub async fn transact<T: Send + 'static>(
        &self,
        mut edit: impl FnMut(&mut Transaction<'_>) -> Result<T, AutomergeError> + Send + 'static,
    ) -> Result<T, DocumentError> {
        self.edit(move |document| {
            let done = document.transact(&mut edit);
            done.map(|success| success.result)
                .map_err(|failure| DocumentError::Refused(failure.error.to_string()))
        })
        .await
    }

    /// The document as it is on this node, to be read with automerge; `None` if there is none. It is a copy: what
    /// is done to it is seen by nobody.
    pub async fn get(&self) -> Result<Option<Automerge>, DocumentError> {
        self.read(|document| Ok(document.cloned())).await
    }

    /// Merges a document into this one that automerge has saved, here or in another language; answers what came
    /// of it.
    ///
    /// # Errors
    /// [`DocumentError::Invalid`]: the bytes cannot be read, are too large, or lack changes that they build on.
    pub async fn merged(&self, saved: impl Into<Vec<u8>>) -> Result<Automerge, DocumentError> {
        let (saved, replica) = (saved.into(), self.keyspace.node().replica());
        self.edit(move |document| {
            let mut other = parse_saved(replica, &saved)?;
            // What fails half way is not this document.
            let mut merged = document.clone();
            guarded(|| merged.merge(&mut other).map_err(|error| ChunkError::Refused(error.to_string())))?;
            document.clone_from(&merged);
            Ok(merged)
        })
        .await
    }

    /// The document in automerge's own format, which automerge in any language loads; `None` if there is none.
    pub async fn save(&self) -> Result<Option<Vec<u8>>, DocumentError> {
        self.read(|document| Ok(document.map(save))).await
    }

    /// Its last changes, a change behind all that it builds on; at most [`HISTORY_MAX`].
    pub async fn history(&self) -> Result<Vec<HistoryEntry>, DocumentError> {
        self.read(|document| Ok(document.map(history).unwrap_or_default())).await
    }

    /// Watches the document. It is told that it changed, not how: read it then. With a cursor, what happened
    /// behind it comes first.
    pub fn watch(&self, from: Option<Cursor>) -> Watch {
        self.keyspace.watch(WatchRange::Key(self.key.clone()), from)
    }

    /// Writes the document whole, in place of its rows. It is done anyway when they are many; a document that is
    /// read more often than written gains by doing it at once. It counts as an edit: beside a DEL it brings the
    /// document back.
    pub async fn compact(&self) -> Result<(), DocumentError> {
        self.submit(Work::Compact(self.keyspace.durability())).await.map(drop)
    }

    /// The part of the document that a path names (RFC 6901, JSON Pointer; empty for all of it) as JSON; `None`
    /// if there is none. Texts are strings; bytes are lists of numbers, times are milliseconds.
    pub async fn json(&self, path: &str) -> Result<Option<serde_json::Value>, DocumentError> {
        let path = path.parse::<path::Path>()?;
        self.read(move |document| Ok(document.map(|it| json::read(it, &path)).transpose()?.flatten())).await
    }

    /// Writes the part of the document that a path names, keeping what is equal already, so that concurrent edits
    /// of other parts stay. Strings become texts.
    ///
    /// # Errors
    /// [`DocumentError::Json`]: what the path goes through is not there, or the whole is not an object.
    pub async fn set_json(&self, path: &str, value: serde_json::Value) -> Result<(), DocumentError> {
        let path = path.parse::<path::Path>()?;
        self.edit(move |document| edit_json(document, |edit| json::set(edit, &path, &value))).await
    }

    /// Changes what a patch says, and nothing else (RFC 7396, JSON Merge Patch).
    ///
    /// # Errors
    /// [`DocumentError::Json`]: the patch is not an object.
    pub async fn patch_json(&self, patch: serde_json::Value) -> Result<(), DocumentError> {
        self.edit(move |document| edit_json(document, |edit| json::patch(edit, &patch))).await
    }

    /// The changes that no other change builds on, as automerge names them; none if there is no document.
    pub async fn heads(&self) -> Result<Vec<ChangeHash>, DocumentError> {
        self.read(|document| Ok(document.map(Automerge::get_heads).unwrap_or_default())).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Option<&Automerge>) -> Result<T, DocumentError> + Send + 'static,
    ) -> Result<T, DocumentError> {
        let read = move |document: Option<&Automerge>| Ok(Box::new(read(document)?) as Given);
        self.submit(Work::Read(Box::new(read))).await.map(open)
    }

    async fn edit<T: Send + 'static>(
        &self,
        mut edit: impl FnMut(&mut Automerge) -> Result<T, DocumentError> + Send + 'static,
    ) -> Result<T, DocumentError> {
        let edit = move |document: &mut Automerge| Ok(Box::new(edit(document)?) as Given);
        self.submit(Work::Edit(Box::new(edit), self.keyspace.durability())).await.map(open)
    }

    async fn submit(&self, work: Work) -> Result<Given, DocumentError> {
        let (answer, given) = oneshot::channel();
        let keyspace: &KeyspaceName = self.keyspace.name();
        let node = self.keyspace.node();
        if node.mode(keyspace).epoch.is_strong() {
            return Err(DocumentError::Strong);
        }
        let id = DocumentId { keyspace: node.id_of(keyspace), key: self.key.clone() };
        let inbox = &node.documents().inbox;
        inbox.send(Job { keyspace: keyspace.clone(), id, work, answer }).await;
        given.await.unwrap_or_else(|_| {
            Err(if inbox.is_closed() { DocumentError::Closed } else { DocumentError::Interrupted })
        })
    }
}

/// The worker's end of a node.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) troubles: Arc<Troubles>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Documents {
    /// Starts the worker.
    pub(crate) fn start(access: Access) -> io::Result<Self> {
        let inbox = Arc::new(Inbox::new());
        let troubles = Arc::<Troubles>::default();
        let worker = Worker::new(Arc::clone(&inbox), access, Arc::clone(&troubles));
        let builder = std::thread::Builder::new().name("tidelock-documents".to_owned());
        let thread = builder.spawn(move || worker.run())?;
        Ok(Self { inbox, troubles, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the worker once it has done what waits; the thread to wait for, the first time.
    pub(crate) fn close(&self) -> Option<JoinHandle<()>> {
        self.inbox.close();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A document in automerge's own format, without changes that wait for others.
fn save(document: &Automerge) -> Vec<u8> {
    document.save_with_options(automerge::SaveOptions { deflate: true, retain_orphans: false })
}

/// What the rows of a document show, in automerge's own format; `None` if they show nothing.
pub(crate) fn save_shown(replica: ReplicaId, chunks: &Chunks) -> Option<Vec<u8>> {
    let loaded = Loaded::load(replica, chunks);
    let document = loaded.visible()?;
    guarded(|| Ok(save(document))).ok()
}

fn history(document: &Automerge) -> Vec<HistoryEntry> {
    let changes = document.get_changes(&[]);
    let skipped = changes.len().saturating_sub(HISTORY_MAX);
    let entry = |change: &automerge::Change| HistoryEntry {
        hash: change.hash(),
        dependencies: change.deps().to_vec(),
        actor: change.actor_id().to_bytes().to_vec(),
        seq: change.seq(),
        unix_s: change.timestamp(),
        message: change.message().map(str::to_owned),
        operations: change.len(),
    };
    changes[skipped..].iter().map(entry).collect()
}

fn edit_json(
    document: &mut Automerge,
    edit: impl FnOnce(&mut Transaction<'_>) -> Result<(), JsonError>,
) -> Result<(), DocumentError> {
    let done = document.transact(edit);
    done.map(drop).map_err(|failure| failure.error.into())
}

/// What a job gave, of the type that its caller made it with.
fn open<T: 'static>(given: Given) -> T {
    *given.downcast().expect("a job gives what its caller asked for")
}
