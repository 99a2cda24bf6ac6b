//! What clients hand to the event loop, and how the loop is woken.
//!
//! The loop's thread sleeps parked; whoever has something for it puts it here and unparks it. The number of
//! jobs that wait is bounded: beyond it clients wait their turn outside.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::ports::Target;
use tidelock_engine::replica::{AnchorOrder, AnchorReply, Order, OrderReply, Terms};
use tidelock_engine::request::{Request, RequestError};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::node::asking::{Question, Replied};
use crate::node::rejoining::RejoinError;
use crate::watch_hub::WatchRequest;

/// The jobs that wait for the loop at most.
const JOBS_MAX: usize = 4_096;

/// One thing for the loop to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Execute requests in order, each on its terms, and answer them together.
    Requests(Vec<(Request, Terms)>, oneshot::Sender<Replied>),
    /// The same for the worker of documents, which hands in one such job at a time.
    Changes(Vec<(Request, Terms)>, oneshot::Sender<Replied>),
    /// Tell what the replica knows.
    Question(Question),
    /// Count the peers that have confirmed our writes, until nobody listens.
    Confirm(KeyspaceName, watch::Sender<usize>),
    /// Watch a range.
    Watch(WatchRequest),
    /// Keep connected with a peer.
    Connect(Target),
    /// Go on as another replica, and say which, or why not. Only one that has two histories needs to, unless it is
    /// forced.
    Rejoin(bool, oneshot::Sender<Result<ReplicaId, RejoinError>>),
    /// Do what the operator orders of a keyspace, and say how that ended.
    Order(KeyspaceName, Order, oneshot::Sender<OrderReply>),
    /// Do what the operator orders of the group of anchors, and say how that ended.
    Govern(AnchorOrder, oneshot::Sender<AnchorReply>),
    /// Take in that the node listens on other addresses.
    Listening(Vec<String>),
    /// End as a defect of ours would.
    #[cfg(test)]
    Panic,
}

/// The jobs that wait.
#[derive(Debug)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    permits: Semaphore,
    thread: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), permits: Semaphore::new(JOBS_MAX), thread: OnceLock::new() }
    }

    /// Names the thread that is to be woken. Before that, wake-ups are remembered by the jobs themselves.
    pub(super) fn serve_by(&self, thread: Thread) {
        self.thread.set(thread).expect("one loop serves a mailbox");
    }

    /// Wakes the loop.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Hands a job over, waiting while too many wait; gives it back when the loop has ended.
    pub(super) async fn send(&self, job: Job) -> Result<(), Job> {
        // The permit comes back when the loop takes the job.
        match self.permits.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(job),
        }
        self.put(job)
    }

    /// Hands a job over without waiting: the node's own, which are few.
    pub(super) fn put(&self, job: Job) -> Result<(), Job> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        let is_first = state.jobs.len() == 1;
        drop(state);
        if is_first {
            self.wake();
        }
        Ok(())
    }

    /// Takes what waits, up to a number.
    pub(super) fn take(&self, count_max: usize) -> Vec<Job> {
        let mut state = self.lock();
        let count = state.jobs.len().min(count_max);
        let jobs: Vec<Job> = state.jobs.drain(..count).collect();
        drop(state);
        let waited = jobs.iter().filter(|job| matches!(job, Job::Requests(..))).count();
        self.permits.add_permits(waited);
        jobs
    }

    /// Refuses new jobs. The loop ends once it has done what waits.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.permits.close();
        self.wake();
    }

    /// Refuses new jobs and those that wait, which nobody will do: the loop has ended.
    pub(super) fn abandon(&self) {
        self.close();
        let jobs = std::mem::take(&mut self.lock().jobs);
        for job in jobs {
            if let Job::Requests(requests, sender) | Job::Changes(requests, sender) = job {
                // A client that went away does not want its answer. The other jobs end by being dropped.
                let _ = sender.send(Replied::all(requests.len(), || Err(RequestError::Closed)));
            }
        }
    }

    /// The jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Whether the loop may end: no new jobs come, and none wait.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.is_closed && state.jobs.is_empty()
    }

    #[cfg(test)]
    pub(super) fn has_jobs(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
