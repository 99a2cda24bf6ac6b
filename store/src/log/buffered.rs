//! What is committed and not yet in the file: entries that the next durable commit takes along.
//!
//! A commit that need not be durable is gone after a crash whether redb has it or not, and each of redb's costs its
//! pages. So its entries stay here until a commit is durable, somebody reads the file, or there are many of them; one
//! that is written again meanwhile is written once.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use redb::{Durability, WriteTransaction};
use tidelock_engine::ports::{CommitError, ReadError};

use super::LogFile;
use super::write::become_strong;
use crate::copying::Follower;
use crate::database::{Entries, put};
use crate::raft::{self, RaftBounds, RaftChange};
use crate::schema::{ENTRIES, LOG_FILE};

/// What may stay in memory, in bytes of keys and values.
const BYTES_MAX: usize = 1 << 20;

/// What is to be written to the log in one transaction.
#[derive(Debug, Default)]
pub(super) struct Buffered {
    /// Sealed; `None` for what is removed.
    entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// The bounds of Raft's log behind it, if anything of the group changes.
    raft: Option<RaftBounds>,
    /// Whether something of Raft or of a mode is written for the first time.
    becomes_strong: bool,
}

impl Buffered {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.raft.is_none() && !self.becomes_strong
    }

    pub(super) fn is_large(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Adds entries behind those that are there.
    pub(super) fn add(&mut self, entries: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        for (key, value) in entries {
            self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.entries.insert(key, value);
        }
    }

    /// Adds what changes of the Raft group.
    pub(super) fn add_raft(&mut self, change: RaftChange) {
        self.raft = Some(change.bounds());
        self.add(change.into_entries());
    }

    pub(super) fn become_strong(&mut self) {
        self.becomes_strong = true;
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if self.becomes_strong {
            become_strong(transaction)?;
        }
        if self.entries.is_empty() && self.raft.is_none() {
            return Ok(());
        }
        let mut table = transaction.open_table(ENTRIES)?;
        let mut grown = 0;
        for (key, value) in &self.entries {
            let by = put(&mut table, key, value.as_deref())?;
            grown += if raft::is_key(key) { by } else { 0 };
        }
        if let Some(bounds) = self.raft {
            let (key, value) = bounds.write(&mut table, grown)?;
            self.entries.insert(key, Some(value));
        }
        Ok(())
    }

    /// Tells a copy of the log that is being made of what was written.
    pub(super) fn note(&self, copy: &mut Follower) {
        self.entries.iter().for_each(|(key, value)| copy.note(key, value.as_deref()));
    }
}

impl LogFile {
    /// Commits what `add` adds. What need not be durable is buffered.
    pub(super) fn commit(
        &self,
        durability: Durability,
        copy: &mut Follower,
        add: impl FnOnce(&mut Buffered),
    ) -> Result<(), CommitError> {
        self.guard.check()?;
        let mut buffered = self.buffered();
        add(&mut buffered);
        // A copy that is being made hears of what is written to the file.
        let stays = matches!(durability, Durability::None) && !buffered.is_large() && !copy.is_following();
        if stays { Ok(()) } else { self.write(&mut buffered, durability, copy) }
    }

    /// Writes what is buffered to the file; if it is to be durable, everything before it is then, too.
    pub(crate) fn write_out(&self, durability: Durability, copy: &mut Follower) -> Result<(), CommitError> {
        self.write(&mut self.buffered(), durability, copy)
    }

    fn write(
        &self,
        buffered: &mut Buffered,
        durability: Durability,
        copy: &mut Follower,
    ) -> Result<(), CommitError> {
        self.file.commit(&self.guard, durability, |transaction| buffered.write(transaction))?;
        std::mem::take(buffered).note(copy);
        Ok(())
    }

    /// The entries of all that was committed.
    pub(crate) fn entries(&self) -> Result<Entries, ReadError> {
        let mut buffered = self.buffered();
        if !buffered.is_empty() {
            // Whether the disk takes it is for the next commit to find out: it is read all the same.
            let written = self.file.write(Durability::None, |transaction| buffered.write(transaction));
            written.map_err(|source| ReadError::Io { file: LOG_FILE, source })?;
            *buffered = Buffered::default();
        }
        self.file.entries()
    }

    /// Forgets what is buffered: the file is opened anew.
    pub(crate) fn lose_buffered(&self) {
        *self.buffered() = Buffered::default();
    }

    fn buffered(&self) -> MutexGuard<'_, Buffered> {
        self.buffered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogFile {
    /// Closing the file makes durable what is in it, and the rows, which are closed behind it, must not be ahead.
    fn drop(&mut self) {
        let buffered = self.buffered.get_mut().unwrap_or_else(PoisonError::into_inner);
        if buffered.is_empty() {
            return;
        }
        if let Err(source) = self.file.write(Durability::None, |transaction| buffered.write(transaction)) {
            self.guard.freeze(LOG_FILE, source);
        }
    }
}
