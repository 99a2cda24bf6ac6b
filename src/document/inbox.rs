//! What waits for the worker: jobs of clients, and documents that lost rows.
//!
//! Jobs are bounded in number: beyond it clients wait their turn outside. Documents that lost rows are a set,
//! so one that loses many is looked at once; one that does not fit is looked at when it is next read.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use automerge::Automerge;
use tidelock_engine::draft::{Changes, RowChange};
use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::ports::Durability;
use tidelock_engine::row::{Kind, Payload, RowId};
use tokio::sync::{Semaphore, oneshot};

use super::DocumentError;
use super::cache::DocumentId;

/// The jobs that wait for the worker at most.
const JOBS_MAX: usize = 1_024;

/// The documents that wait to be looked at for lost rows at most.
const LOST_MAX: usize = 65_536;

/// The lost rows that wait with them at most, in bytes. What does not fit is looked for in the log.
const LOST_BYTES_MAX: usize = 64 << 20;

/// Rows that documents lost, for what a change that stays builds on: no log need hold them any more.
pub(super) type Lost = BTreeMap<DocumentId, Vec<Vec<u8>>>;

/// What a job gives its caller, who knows its type.
pub(super) type Given = Box<dyn Any + Send>;

/// Reads a document as of now.
pub(super) type Read = Box<dyn FnOnce(Option<&Automerge>) -> Result<Given, DocumentError> + Send>;

/// Edits a document, perhaps several times until one edit stands; a failed one is taken back.
pub(super) type Edit = Box<dyn FnMut(&mut Automerge) -> Result<Given, DocumentError> + Send>;

/// What to do with a document.
pub(super) enum Work {
    Read(Read),
    Edit(Edit, Durability),
    /// Write it as one row, whole.
    Compact(Durability),
}

/// One thing for the worker to do.
pub(super) struct Job {
    pub(super) keyspace: KeyspaceName,
    pub(super) id: DocumentId,
    pub(super) work: Work,
    pub(super) answer: oneshot::Sender<Result<Given, DocumentError>>,
}

/// What waits.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
    permits: Semaphore,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    lost: Lost,
    lost_bytes: usize,
    is_closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

/// What the worker takes at once.
pub(super) struct Taken {
    pub(super) jobs: Vec<Job>,
    pub(super) lost: Lost,
}

impl State {
    fn lose(&mut self, id: DocumentId, row: Option<&Payload>) {
        if self.lost.len() >= LOST_MAX && !self.lost.contains_key(&id) {
            return;
        }
        let rows = self.lost.entry(id).or_default();
        if let Some(Payload::Chunk(chunk)) = row
            && self.lost_bytes + chunk.len() <= LOST_BYTES_MAX
        {
            self.lost_bytes += chunk.len();
            rows.push(chunk.clone());
        }
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), permits: Semaphore::new(JOBS_MAX) }
    }

    /// Hands a job over, waiting while too many wait. A job that is refused is dropped, and so its answer.
    pub(super) async fn send(&self, job: Job) {
        // The permit comes back when the worker takes the job.
        let Ok(permit) = self.permits.acquire().await else { return };
        permit.forget();
        let mut state = self.lock();
        if !state.is_closed {
            state.jobs.push_back(job);
            self.wake.notify_one();
        }
    }

    /// Notes the documents that lost rows to operations of others. Called by the event loop after each turn.
    pub(crate) fn note_losses(&self, changes: &Changes, replica: ReplicaId) {
        let is_lost = |row: &RowId, change: &RowChange| {
            row.kind == Kind::Document && change.after.is_none() && change.author != replica
        };
        let mut lost = changes.rows.iter().filter(|((_, row), change)| is_lost(row, change)).peekable();
        if lost.peek().is_none() {
            return;
        }
        let mut state = self.lock();
        for ((keyspace, row), change) in lost {
            let id = DocumentId { keyspace: *keyspace, key: row.key.clone() };
            state.lose(id, change.before.as_ref());
        }
        self.wake.notify_one();
    }

    /// Waits until there is something and takes it; `None` once it is closed and empty.
    pub(super) fn take(&self, jobs_max: usize) -> Option<Taken> {
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() || (!state.lost.is_empty() && !state.is_closed) {
                let count = state.jobs.len().min(jobs_max);
                let jobs: Vec<Job> = state.jobs.drain(..count).collect();
                state.lost_bytes = 0;
                let lost = std::mem::take(&mut state.lost);
                self.permits.add_permits(count);
                return Some(Taken { jobs, lost });
            }
            if state.is_closed {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether it takes no more jobs.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Refuses new jobs. The worker ends once it has done what waits.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.permits.close();
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
