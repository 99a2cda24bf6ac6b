//! Going on after the disk was full, without being closed.
//!
//! While there is no room, nothing is written and what redb believes to have written is void. Once there is room,
//! both files are opened anew, as after a crash: that gives the last commit that was durable, and, as after a crash,
//! it may give the one that was refused for want of room, if that is whole on disk all the same. If it gives
//! less, the store takes no writes until it is opened by its owner.
//!
//! What was committed behind the last durable commit is lost with that. It is given up only if all of it is made again
//! from Raft's log, which a majority of the anchors has on disk; readers see it again once it is.

use std::sync::Arc;

use tidelock_engine::ports::Recovered;

use crate::mark::Reached;
use crate::open::{self, OpenError};
use crate::schema::{LOG_FILE, ROOM_FILE};
use crate::store::{RedbStore, Shared, Writer};

/// The room that there must be, in bytes: the next commits take some.
const ROOM_BYTES: usize = 8 << 20;

/// What is written of it at a time, in bytes.
const ROOM_PIECE_BYTES: usize = 1 << 20;

impl RedbStore {
    /// Whether writes are refused only because the disk was full, so that [`RedbStore::heal`] may help.
    pub fn is_full(&self) -> bool {
        self.shared().guard.is_full()
    }

    /// Takes writes again if the disk has room again; answers what the store holds then: what it held before, without
    /// what is made again from Raft's log if that was not on disk, and perhaps the commit that was refused. Reads wait
    /// meanwhile. `None` when there is no room, the disk was never full, or something else was acknowledged that is not
    /// on disk.
    ///
    /// # Errors
    /// The files cannot be opened. If the store [is full](RedbStore::is_full) after that, it may be tried again.
    pub fn heal(&mut self) -> Result<Option<Recovered>, OpenError> {
        let shared = Arc::clone(self.shared());
        // What was acknowledged without being on disk would be lost: a restart is for the operator to decide.
        if !shared.guard.is_full() || shared.writer().owes_sync || !shared.has_room() {
            return Ok(None);
        }
        shared.open_again(self.options())?;
        let recovered = shared.recovered();
        self.set_recovered(recovered.clone());
        Ok(Some(recovered))
    }
}

impl Shared {
    /// Whether some megabytes can be written.
    fn has_room(&self) -> bool {
        let fill = || {
            let file = self.disk.open(ROOM_FILE)?;
            let zeros = vec![0; ROOM_PIECE_BYTES];
            (0..ROOM_BYTES / ROOM_PIECE_BYTES)
                .try_for_each(|piece| file.write_at((piece * ROOM_PIECE_BYTES) as u64, &zeros))?;
            // Some file systems find out no earlier.
            file.sync_data()
        };
        let filled: std::io::Result<()> = fill();
        let removed = self.disk.remove(ROOM_FILE);
        filled.and(removed).is_ok()
    }

    fn open_again(&self, options: &open::OpenOptions) -> Result<(), OpenError> {
        let mut rounds = self.rounds();
        let mut writer = self.writer();
        let mut published = self.published_mut();
        rounds.copy.lose();
        writer.copy.lose();
        self.log.lose_buffered();
        self.log.file.let_go();
        self.rows.file.let_go();
        self.guard.open_again();
        let opened = open::open_guarded(&*self.disk, options, &self.lock, &self.guard);
        let opened = opened.inspect_err(|_| self.guard.is_still_full())?;
        let opened = Arc::into_inner(opened).expect("nobody else has it yet");
        let (before, log) = (published.reached(), &opened.log);
        *published = opened.published.into_inner().expect("no holder of this lock panics");
        self.log.file.put(&log.file);
        self.rows.file.put(&opened.rows.file);
        *self.retention() = opened.retention.into_inner().expect("no holder of this lock panics");
        let (Reached { position: end, .. }, now) = (before, published.reached());
        let synced = std::mem::replace(&mut *writer, Writer::behind(now)).synced;
        if now.position < synced.position || now.raft_commits < synced.raft_commits {
            let source = std::io::Error::other("it ends before where it was durable when the disk was full");
            self.guard.freeze(LOG_FILE, source);
            return Err(OpenError::damaged(LOG_FILE, "the store has lost something since the disk was full"));
        }
        if now.position > end {
            // As after a crash in the midst of a commit: all of its pages had found room, and only others had not.
            tracing::warn!(from = end.0, to = now.position.0, "a commit that was refused is there");
        }
        if now.raft_commits < before.raft_commits {
            tracing::info!(
                from = end.0,
                to = now.position.0,
                "what was not on disk is made again from Raft's log"
            );
        }
        self.thread_wakes.notify_all();
        Ok(())
    }
}
