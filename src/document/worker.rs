//! The one thread that calls automerge: it loads documents from their rows, edits them, and hands in what
//! became of them.
//!
//! It takes what waits, does all edits of one document together, hands the changes of all documents in at
//! once, and waits for the commit; meanwhile the next jobs gather. A panic in a client's closure costs that edit,
//! one in automerge the jobs of that document, one of ours the jobs at hand; the worker goes on.
//!
//! Invariant: a document in the cache holds committed rows only, but while its edits are being committed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{Automerge, ReadDoc, SaveOptions};
use tidelock_engine::bounds::CHUNK_BYTES_MAX;
use tidelock_engine::causality::Dot;
use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::ports::Durability;
use tidelock_engine::read::QueryError;
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Request, RequestError, RequestReply,
};
use tidelock_engine::write::{Outcome, Write, WriteError as EngineError};
use tokio::sync::oneshot;

use super::access::Access;
use super::cache::{CACHE_BYTES_MAX, Cache, DocumentId};
use super::inbox::{Edit, Given, Inbox, Job, Read, Taken, Work};
use super::loading::{Loaded, changes_of, guarded, panic_text};
use super::troubles::Troubles;
use super::{DocumentError, ROWS_MAX};
use crate::keyspace::WriteError;

/// The jobs that are done together at most.
const JOBS_AT_ONCE: usize = 256;

/// The bytes of changes from which on a document is written whole, if that is shorter.
const WHOLE_FROM_BYTES: usize = 256 << 10;

/// How often an edit is begun anew because rows it built on went away meanwhile.
const TRIES_MAX: usize = 8;

type Answer = oneshot::Sender<Result<Given, DocumentError>>;

/// An edit that is to be done, and who waits for it.
type Asked = (Edit, Answer);

/// An edit that was done in memory, and what it gave.
type Done = (Edit, Answer, Given);

/// The worker's state.
pub(super) struct Worker {
    pub(super) inbox: Arc<Inbox>,
    pub(super) access: Access,
    pub(super) troubles: Arc<Troubles>,
    cache: Cache,
}

/// All that is to be done with one document.
#[derive(Default)]
struct Group {
    keyspace: Option<KeyspaceName>,
    reads: Vec<(Read, Answer)>,
    edits: Vec<Asked>,
    durability: Option<Durability>,
    /// Those who wait for the document to be written whole, and whether anybody does.
    compactions: Vec<Answer>,
    is_whole: bool,
    /// Rows that it lost since it was last looked at.
    lost: Vec<Vec<u8>>,
}

/// What is to be committed of one document.
struct Draft {
    loaded: Loaded,
    given: Vec<Done>,
    compactions: Vec<Answer>,
    chunk_bytes: usize,
    replaced: Vec<Dot>,
    request: Request,
    lost: Vec<Vec<u8>>,
}

impl Worker {
    pub(super) fn new(inbox: Arc<Inbox>, access: Access, troubles: Arc<Troubles>) -> Self {
        Self { inbox, access, troubles, cache: Cache::new(CACHE_BYTES_MAX) }
    }

    /// Runs until the inbox is closed and everything in it was done.
    pub(super) fn run(mut self) {
        while let Some(taken) = self.inbox.take(JOBS_AT_ONCE) {
            let done = catch_unwind(AssertUnwindSafe(|| self.work(taken)));
            if let Err(panic) = done {
                self.note_panic(&*panic);
                self.cache = Cache::new(CACHE_BYTES_MAX);
            }
        }
    }

    /// The callers see that their answers are gone.
    fn note_panic(&self, panic: &(dyn std::any::Any + Send)) {
        tracing::error!(panic = panic_text(panic), "the worker of documents panicked and goes on");
        self.troubles.count("documents_worker_panics");
    }

    fn work(&mut self, taken: Taken) {
        let mut groups: BTreeMap<DocumentId, Group> = BTreeMap::new();
        for (id, lost) in taken.lost {
            groups.entry(id).or_default().lost = lost;
        }
        for Job { keyspace, id, work, answer } in taken.jobs {
            let group = groups.entry(id).or_default();
            group.keyspace = Some(keyspace);
            match work {
                // A client that reads behind its own edit has waited for it.
                Work::Read(read) => group.reads.push((read, answer)),
                Work::Edit(edit, durability) => {
                    group.edits.push((edit, answer));
                    group.durability = group.durability.max(Some(durability));
                }
                Work::Compact(durability) => {
                    group.compactions.push(answer);
                    group.is_whole = true;
                    group.durability = group.durability.max(Some(durability));
                }
            }
        }
        for _ in 0..TRIES_MAX {
            groups = self.round(groups);
            if groups.is_empty() {
                return;
            }
        }
        for group in groups.into_values() {
            group.fail(&DocumentError::Outdated);
        }
    }

    /// Does what is to be done once; answers what has to be done again.
    fn round(&mut self, groups: BTreeMap<DocumentId, Group>) -> BTreeMap<DocumentId, Group> {
        let mut drafts: Vec<(DocumentId, Draft)> = Vec::new();
        for (id, group) in groups {
            match catch_unwind(AssertUnwindSafe(|| self.prepare(&id, group))) {
                Ok(Some(draft)) => drafts.push((id, draft)),
                Ok(None) => {}
                Err(panic) => {
                    self.note_panic(&*panic);
                    self.cache.take(&id);
                }
            }
        }
        let mut again = BTreeMap::new();
        if drafts.is_empty() {
            return again;
        }
        let requests = drafts.iter().map(|(_, draft)| draft.request.clone()).collect();
        let replies = (self.access.submit)(requests);
        for ((id, draft), reply) in drafts.into_iter().zip(replies) {
            if let Some(group) = self.finish(&id, draft, reply) {
                again.insert(id, group);
            }
        }
        again
    }

    /// Reads, and edits in memory. What is to be committed comes back; all else is answered and over.
    fn prepare(&mut self, id: &DocumentId, mut group: Group) -> Option<Draft> {
        let is_asked = group.is_asked();
        if !is_asked && !self.may_restore(id) {
            return None;
        }
        let (mut loaded, mut is_whole) = match self.load(id, !group.edits.is_empty(), &group.lost) {
            Ok(found) => found,
            Err(error) => {
                group.fail(&error);
                return None;
            }
        };
        is_whole |= group.is_whole;
        for (read, answer) in group.reads.drain(..) {
            let given = guarded_call(|| read(loaded.visible()));
            // A client that went away does not want its answer.
            let _ = answer.send(given);
        }
        if !group.edits.is_empty() && loaded.is_half() {
            group.fail(&DocumentError::Incomplete);
            self.cache.put(id.clone(), loaded);
            return None;
        }
        let before = loaded.doc.get_heads();
        let given = match edit_all(&mut loaded, std::mem::take(&mut group.edits)) {
            Ok(given) => given,
            Err(edits) => {
                // A panic has spoilt what is in memory; the other edits are done anew.
                group.edits = edits;
                return self.prepare(id, group);
            }
        };
        loaded.settle();
        let has_changed = loaded.doc.get_heads() != before;
        let must_write = has_changed || (is_whole && !loaded.rows.is_empty());
        if !must_write {
            answer_all(given, group.compactions, Ok(()));
            self.cache.put(id.clone(), loaded);
            return None;
        }
        let name = group.keyspace.or_else(|| self.access.name_of(id.keyspace))?;
        let (chunk, replaced) = match chunk_of(&loaded, &before, is_whole) {
            Ok(made) => made,
            Err(error) => {
                answer_all(given, group.compactions, Err(&error));
                return None;
            }
        };
        let base = loaded.rows.keys().copied().collect();
        let chunk_bytes = chunk.len();
        let write = Write::Change { key: id.key.clone(), chunk, base, replaced: replaced.clone() };
        let request = Request {
            keyspace: name,
            actions: vec![Action::Write(write)],
            atomicity: Atomicity::Each,
            durability: group.durability.unwrap_or_default(),
        };
        let (compactions, lost) = (group.compactions, group.lost);
        Some(Draft { loaded, given, compactions, chunk_bytes, replaced, request, lost })
    }

    /// The document as its rows say now, and whether something was restored that has to be written.
    fn load(
        &mut self,
        id: &DocumentId,
        is_edited: bool,
        lost: &[Vec<u8>],
    ) -> Result<(Loaded, bool), DocumentError> {
        let chunks = self.access.chunks(id)?;
        let present: BTreeSet<Dot> = chunks.iter().map(|(dot, _)| *dot).collect();
        let mut cached = self.cache.take(id);
        if let Some(mut loaded) = cached.take_if(|cached| cached.is_within(&present)) {
            let is_known = |dot: &Dot| loaded.rows.contains_key(dot) || loaded.skipped.contains_key(dot);
            let new: Vec<_> = chunks.iter().filter(|(dot, _)| !is_known(dot)).cloned().collect();
            // Which of two rows that contradict each other counts is told with all rows at hand.
            if new.is_empty() || (loaded.skipped.is_empty() && loaded.add(&new).is_ok()) {
                return self.restored(id, loaded, (None, lost), is_edited);
            }
        }
        let loaded = Loaded::load(self.access.replica()?, &chunks);
        for error in loaded.skipped.values() {
            tracing::warn!(%error, "a change of a document cannot be read");
            self.troubles.count("documents_changes_skipped");
        }
        self.troubles.name_skipped(id, &loaded.skipped);
        self.restored(id, loaded, (cached, lost), is_edited)
    }

    /// Completes changes of which a DEL has removed what they build on: from the document as it was in memory, from
    /// the rows that the DEL removed, or from the log. It is done for a document that holds changes of our own, and for one that is edited.
    fn restored(
        &mut self,
        id: &DocumentId,
        mut loaded: Loaded,
        (before, lost): (Option<Loaded>, &[Vec<u8>]),
        is_edited: bool,
    ) -> Result<(Loaded, bool), DocumentError> {
        let mut has_restored = false;
        if loaded.is_pending() && (is_edited || self.is_ours(loaded.rows.keys())?) {
            if let Some(before) = before {
                has_restored |= loaded.restore(|hash| before.doc.get_change_by_hash(hash))?;
            }
            if loaded.is_pending() && !lost.is_empty() {
                let mut lost: BTreeMap<_, _> = lost.iter().flat_map(|chunk| changes_of(chunk)).collect();
                has_restored |= loaded.restore(|hash| lost.remove(hash))?;
            }
            if loaded.is_pending() && !loaded.is_searched {
                let mut log = self.access.changes_in_log(id)?;
                has_restored |= loaded.restore(|hash| log.remove(hash))?;
                loaded.is_searched = true;
            }
            if has_restored {
                self.troubles.count("documents_restored");
            }
        }
        self.troubles.name_incomplete(id, loaded.is_pending());
        Ok((loaded, has_restored))
    }

    /// Whether a document that lost rows holds some of our own, so that restoring it may be up to us.
    fn may_restore(&self, id: &DocumentId) -> bool {
        match self.access.dots(id).and_then(|dots| self.is_ours(dots.iter())) {
            Ok(is_ours) => is_ours,
            Err(error) => {
                tracing::warn!(%error, "cannot look at a document that lost changes");
                false
            }
        }
    }

    /// Whether any of these rows is of this node, whichever replica it was then.
    fn is_ours<'a>(&self, dots: impl Iterator<Item = &'a Dot>) -> Result<bool, QueryError> {
        let authors: BTreeSet<ReplicaId> = dots.map(|dot| dot.replica).collect();
        for author in authors {
            if self.access.is_ours(author)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Answers edits after their commit; gives back what must be done again.
    fn finish(&mut self, id: &DocumentId, draft: Draft, reply: RequestReply) -> Option<Group> {
        let Draft { mut loaded, given, compactions, chunk_bytes, replaced, request, lost } = draft;
        let error = match reply.map(|mut replies| replies.pop()) {
            Ok(Some(Ok(ActionReply::Outcome(Outcome::At(dot))))) => {
                loaded.committed(dot, chunk_bytes, &replaced);
                self.cache.put(id.clone(), loaded);
                answer_all(given, compactions, Ok(()));
                return None;
            }
            Ok(Some(Err(ActionError::Write(EngineError::Outdated)))) => {
                self.troubles.count("documents_edits_repeated");
                return Some(Group {
                    keyspace: Some(request.keyspace),
                    edits: given.into_iter().map(|(edit, answer, _)| (edit, answer)).collect(),
                    durability: Some(request.durability),
                    is_whole: !compactions.is_empty(),
                    compactions,
                    lost,
                    ..Group::default()
                });
            }
            Ok(Some(Err(error))) => DocumentError::from(WriteError::Refused(error)),
            Ok(other) => unreachable!("a change is not answered {other:?}"),
            Err(error) => DocumentError::from(WriteError::Request(error)),
        };
        answer_all(given, compactions, Err(&error));
        None
    }
}

impl Group {
    fn is_asked(&self) -> bool {
        self.is_whole || !self.reads.is_empty() || !self.edits.is_empty()
    }

    fn fail(self, error: &DocumentError) {
        let answers = self.reads.into_iter().map(|(_, answer)| answer);
        let answers = answers.chain(self.edits.into_iter().map(|(_, answer)| answer));
        answers.chain(self.compactions).for_each(|answer| drop(answer.send(Err(error.clone()))));
    }
}

/// Answers edits and compactions that were committed, or failed, together.
fn answer_all(edits: Vec<Done>, compactions: Vec<Answer>, committed: Result<(), &DocumentError>) {
    let result = |given: Given| committed.map(|()| given).map_err(Clone::clone);
    // A client that went away does not want its answer.
    edits.into_iter().for_each(|(_, answer, given)| drop(answer.send(result(given))));
    compactions.into_iter().for_each(|answer| drop(answer.send(result(Box::new(())))));
}

/// Does edits one by one. One that fails is answered and leaves nothing.
///
/// # Errors
/// An edit panicked and was answered; the document must be thrown away, and these are the others.
fn edit_all(loaded: &mut Loaded, edits: Vec<Asked>) -> Result<Vec<Done>, Vec<Asked>> {
    let mut done: Vec<Done> = Vec::new();
    let mut edits = edits.into_iter();
    while let Some((mut edit, answer)) = edits.next() {
        match guarded_call(|| edit(&mut loaded.doc)) {
            Ok(given) => done.push((edit, answer, given)),
            Err(error @ DocumentError::Panicked(_)) => {
                let _ = answer.send(Err(error));
                let again = done.into_iter().map(|(edit, answer, _)| (edit, answer));
                return Err(again.chain(edits).collect());
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }
    Ok(done)
}

/// What to write of a document that was edited since `before`, and the rows that it replaces: its new changes,
/// or all of it when there are many rows, or when that is shorter.
fn chunk_of(
    loaded: &Loaded,
    before: &[automerge::ChangeHash],
    is_whole: bool,
) -> Result<(Vec<u8>, Vec<Dot>), DocumentError> {
    let changes = guarded(|| Ok(loaded.doc.save_after(before)))?;
    let is_whole = is_whole || loaded.rows.len() >= ROWS_MAX || changes.len() > WHOLE_FROM_BYTES;
    if !is_whole {
        return Ok((changes, Vec::new()));
    }
    let whole = guarded(|| Ok(save_all(&loaded.doc)))?;
    if whole.len() > CHUNK_BYTES_MAX {
        return Err(DocumentError::TooLarge(whole.len()));
    }
    super::chunk::measure(&whole).map_err(|_| DocumentError::TooLarge(whole.len()))?;
    Ok((whole, loaded.replaceable(tidelock_engine::bounds::OBSERVED_LISTED_MAX)))
}

/// A document with the changes that wait for others, so that it may stand for rows that hold them.
fn save_all(doc: &Automerge) -> Vec<u8> {
    doc.save_with_options(SaveOptions { deflate: true, retain_orphans: true })
}

fn guarded_call(call: impl FnOnce() -> Result<Given, DocumentError>) -> Result<Given, DocumentError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| Err(DocumentError::Panicked(panic_text(&*panic))))
}

/// An error of the store is not the document's.
impl From<QueryError> for DocumentError {
    fn from(error: QueryError) -> Self {
        Self::Read(Arc::new(error))
    }
}

impl From<WriteError> for DocumentError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Request(RequestError::Closed) => Self::Closed,
            error => Self::Write(Arc::new(error)),
        }
    }
}
