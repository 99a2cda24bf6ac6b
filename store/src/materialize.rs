//! Writing committed rows to `rows.redb`, behind the readers' backs.
//!
//! The active overlay is frozen and a new one takes its place; the frozen one is written in order, in one
//! transaction, together with the log position that it ends at; then overlay and rows are swapped at once.
//! Mostly the transaction is not synced: a crash goes back to the last one that was, and the log is replayed.
//!
//! Invariant: rows on disk never stand behind the end of the log on disk.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redb::Durability;
use tidelock_engine::ports::{CommitError, LogPosition, ReadError};

use crate::open::MaterializeOptions;
use crate::overlay::Overlay;
use crate::store::{Rounds, Shared};
use crate::view::Generation;

/// Whether the background thread runs, and is to stop.
#[derive(Debug, Default)]
pub(crate) struct ThreadState {
    runs: bool,
    stops: bool,
}

/// How often the background looks whether the files are there still.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many times it looks until it also looks whether compacting a file pays: once in a minute.
const LOOKS_PER_COMPACTION: u32 = 12;

/// The threads that write rows and compact files in the background; dropping this stops them after what they are
/// writing.
#[derive(Debug)]
pub struct Materializer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Materializer {
    pub(crate) fn spawn(shared: Arc<Shared>) -> io::Result<Self> {
        *shared.thread() = ThreadState { runs: true, stops: false };
        let mut this = Self { shared, threads: Vec::new() };
        for (name, run) in
            [("tidelock-rows", Shared::run as fn(&Shared)), ("tidelock-compact", Shared::run_compact)]
        {
            let of_thread = Arc::clone(&this.shared);
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || run(&of_thread));
            match spawned {
                Ok(thread) => this.threads.push(thread),
                Err(error) => {
                    // What has begun ends as this is dropped.
                    this.shared.thread().runs = !this.threads.is_empty();
                    return Err(error);
                }
            }
        }
        Ok(this)
    }
}

impl Drop for Materializer {
    fn drop(&mut self) {
        self.shared.thread().stops = true;
        self.shared.thread_wakes.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended with a panic");
            }
        }
    }
}

impl Shared {
    /// Writes what is committed to `rows.redb`.
    pub(crate) fn materialize(&self, synced: bool) -> Result<(), CommitError> {
        let mut rounds = self.rounds();
        self.guard.check()?;
        // Of a keyspace that is left from now on, what is committed already is dropped in the next round.
        let left = self.left_to_drop();
        let frozen = self.freeze();
        let synced = synced || self.waits_for_rows() || !left.is_empty();
        if frozen.0.count() == 0 && !synced {
            return self.truncate();
        }
        rounds.count += 1;
        let synced = synced || rounds.count.is_multiple_of(self.options.synced_every.max(1));
        if synced {
            self.sync()?;
        }
        let durability = if synced { Durability::Immediate } else { Durability::None };
        let written = (&*frozen.0, frozen.1);
        let had_entries = self.rows.write(&self.guard, durability, written, &left, &mut rounds.copy)?;
        if let Err(error) = self.thaw() {
            self.guard.freeze(crate::schema::ROWS_FILE, io::Error::other(error));
            return self.guard.check_written();
        }
        if synced {
            self.retention().rows_synced = frozen.1;
        }
        self.truncate()?;
        self.drop_records(&left, had_entries)
    }

    /// The times that rows were written since the store was opened.
    pub(crate) fn materializations(&self) -> u64 {
        self.rounds().count
    }

    pub(crate) fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the active overlay; answers the frozen one and the position of its last commit.
    ///
    /// If an overlay is frozen already, writing it failed half way and the store is poisoned, or it was empty.
    fn freeze(&self) -> (Arc<Overlay>, LogPosition) {
        let _writer = self.writer();
        let mut published = self.published_mut();
        let active = Arc::clone(&published.generation.active);
        let generation = Generation {
            active: Arc::new(Overlay::default()),
            frozen: Some(Arc::clone(&active)),
            rows: Arc::clone(&published.generation.rows),
        };
        published.generation = Arc::new(generation);
        (active, published.position)
    }

    /// Drops the frozen overlay in favour of the rows that hold it now.
    pub(crate) fn thaw(&self) -> Result<(), ReadError> {
        let rows = Arc::new(self.rows.table()?);
        {
            let mut published = self.published_mut();
            let active = Arc::clone(&published.generation.active);
            published.generation = Arc::new(Generation { active, frozen: None, rows });
        }
        self.thread_wakes.notify_all();
        Ok(())
    }

    /// Returns when the active overlay may take another commit, of any size.
    pub(crate) fn wait_for_room(&self) -> Result<(), CommitError> {
        loop {
            let active = Arc::clone(&self.published().generation.active);
            if !self.is_over(self.options.wait_at.max(2), &active) {
                return Ok(());
            }
            self.guard.check()?;
            let thread = self.thread();
            if thread.runs {
                self.thread_wakes.notify_all();
                // A wake-up that was missed costs one idle time, not the commit.
                let waited = self.thread_wakes.wait_timeout(thread, self.options.idle);
                drop(waited.expect("no holder of this lock panics"));
            } else {
                drop(thread);
                self.materialize(false)?;
            }
        }
    }

    /// Whether an overlay holds `times` as much as one should.
    pub(crate) fn is_over(&self, times: usize, overlay: &Overlay) -> bool {
        let MaterializeOptions { entries, bytes, .. } = self.options;
        overlay.count() >= entries.saturating_mul(times) || overlay.bytes() >= bytes.saturating_mul(times)
    }

    fn thread(&self) -> MutexGuard<'_, ThreadState> {
        self.thread.lock().expect("no holder of this lock panics")
    }

    /// The background thread. It ends when it is told to, or when the store takes no more writes.
    fn run(&self) {
        loop {
            let thread = self.thread();
            let has_work =
                || self.is_over(1, &self.published().generation.active) || !self.left_to_drop().is_empty();
            let waited = self
                .thread_wakes
                .wait_timeout_while(thread, self.options.idle, |thread| !thread.stops && !has_work());
            let (thread, _) = waited.expect("no holder of this lock panics");
            if thread.stops {
                break;
            }
            drop(thread);
            match self.materialize(false) {
                Ok(()) => {}
                // There may be room again some day.
                Err(CommitError::Full { .. }) => {
                    let waited = self.thread_wakes.wait_timeout(self.thread(), self.options.idle);
                    drop(waited.expect("no holder of this lock panics"));
                }
                Err(error) => {
                    tracing::error!(%error, "rows are no longer written; the node takes no more writes");
                    break;
                }
            }
        }
        self.thread().runs = false;
        self.thread_wakes.notify_all();
    }

    /// Whether the store is being closed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.thread().stops
    }

    /// The background thread that looks after the files now and then.
    fn run_compact(&self) {
        let mut after = [0; 2];
        for look in 1_u32.. {
            let (thread, timeout) = self
                .thread_wakes
                .wait_timeout_while(self.thread(), LOOK_EVERY, |thread| !thread.stops)
                .expect("no holder of this lock panics");
            if !timeout.timed_out() || thread.stops {
                break;
            }
            drop(thread);
            if let Err(error) = self.put_back_removed() {
                tracing::error!(%error, "a file that was removed is not there again");
            }
            // Somebody may be at it already, or the disk be full: then it is for another time.
            if look.is_multiple_of(LOOKS_PER_COMPACTION)
                && let Err(error) = self.compact_if_worth(&mut after)
            {
                tracing::warn!(%error, "a file is not compacted");
            }
        }
    }
}
