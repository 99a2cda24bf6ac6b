//! What one commit adds to `log.redb`, as entries: names and settings, records with their index, floors, and what
//! Raft writes.

use std::sync::Arc;

use redb::{Durability, WriteTransaction};
use tidelock_engine::causality::Hlc;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{AuthorCard, KeyspaceName, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::ports::{CommitError, LogEnd, LogEntry, LogPosition};
use tidelock_engine::staged::Staged;

use super::LogFile;
use crate::blocks::cards_value;
use crate::copying::Follower;
use crate::names::{AddedNames, Remembered};
use crate::raft::RaftChange;
use crate::schema::{
    EXPIRY_KEY, LOG_FORMAT_STRONG, META, META_FORMAT, cards_key, index_key, keyspace_key, log_tag, mode_key,
    record_key, record_value, seal, settings_key, settings_value,
};

/// A key and its value, without the checksum.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// What one commit adds to the log.
#[derive(Debug)]
pub(crate) struct LogWrite<'a> {
    pub(crate) names: AddedNames<'a>,
    /// What is remembered of keyspaces from now on.
    pub(crate) settings: Vec<(u32, Remembered)>,
    /// What is remembered of modes from now on.
    pub(crate) modes: &'a [(KeyspaceName, Vec<u8>)],
    /// In their order.
    pub(crate) records: Vec<NewRecord<'a>>,
    /// The blocks in which floors rise, as they are then.
    pub(crate) floors: Vec<Entry>,
    /// Where the log ends already.
    pub(crate) end: LogEnd,
    /// The highest clock so far.
    pub(crate) clock: Hlc,
    /// Whether it is higher than that of the commit before.
    pub(crate) is_later: bool,
    /// What has expired from now on, if that changes.
    pub(crate) expiry: Option<Hlc>,
    /// What changes of the Raft group.
    pub(crate) raft: Option<RaftChange>,
    /// Whether something of Raft or of a mode is written for the first time.
    pub(crate) becomes_strong: bool,
}

/// A record that is added.
#[derive(Debug)]
pub(crate) enum NewRecord<'a> {
    /// A frame, with the numbers of its keyspace and author.
    Frame(u32, u32, &'a Frame),
    /// State that was taken over.
    Install(&'a Install),
    /// State that waits.
    Staged(&'a Staged),
}

impl LogFile {
    /// Appends all of it; answers where the log ends then.
    pub(crate) fn append(
        &self,
        durability: Durability,
        write: LogWrite<'_>,
        copy: &mut Follower,
    ) -> Result<LogEnd, CommitError> {
        let (entries, end) = write.entries();
        self.commit(durability, copy, |buffered| {
            buffered.add(sealed(entries));
            if let Some(raft) = write.raft {
                buffered.add_raft(raft);
            }
            if write.becomes_strong {
                buffered.become_strong();
            }
        })?;
        Ok(end)
    }

    /// Writes and removes entries, here and in a copy that is being made.
    pub(crate) fn change(
        &self,
        durability: Durability,
        entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        copy: &mut Follower,
    ) -> Result<(), CommitError> {
        self.commit(durability, copy, |buffered| buffered.add(entries))
    }
}

/// Gives the log the version of one in which there is something of Raft or of modes.
pub(crate) fn become_strong(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(META_FORMAT, &LOG_FORMAT_STRONG.to_be_bytes()[..])?;
    Ok(())
}

impl LogWrite<'_> {
    fn entries(&self) -> (Vec<Entry>, LogEnd) {
        let mut entries = Vec::with_capacity(self.records.len() * 2 + 1);
        entries.extend(self.names.blocks.iter().map(|(block, authors)| cards_entry(*block, authors)));
        for (number, name) in &self.names.keyspaces {
            entries.push((keyspace_key(*number), name.as_str().as_bytes().to_vec()));
        }
        for (number, remembered) in &self.settings {
            entries.push((settings_key(*number), settings_value(remembered)));
        }
        for (name, mode) in self.modes {
            entries.push((mode_key(name), mode.clone()));
        }
        // A record says what the clock was.
        if self.records.is_empty() && self.is_later {
            entries.push((vec![log_tag::CLOCK], self.clock.to_bits().to_be_bytes().to_vec()));
        }
        if let Some(expiry) = self.expiry {
            entries.push((EXPIRY_KEY.to_vec(), expiry.to_bits().to_be_bytes().to_vec()));
        }
        let mut end = self.end;
        for record in &self.records {
            end.position = LogPosition(end.position.0 + 1);
            let entry = match record {
                NewRecord::Frame(keyspace, author, frame) => {
                    let key = index_key(*keyspace, *author, frame.header().last());
                    entries.push((key, end.position.0.to_be_bytes().to_vec()));
                    LogEntry::Frame(Arc::clone(frame.bytes()))
                }
                NewRecord::Install(install) => LogEntry::Install(install.encode().into()),
                NewRecord::Staged(staged) => LogEntry::Staged(staged.encode().into()),
            };
            end.total_bytes += entry.bytes().len() as u64;
            entries.push((record_key(end.position.0), record_value(self.clock, end.total_bytes, &entry)));
        }
        entries.extend(self.floors.iter().cloned());
        (entries, end)
    }
}

pub(crate) fn cards_entry(block: u32, authors: &[(ReplicaId, AuthorCard)]) -> Entry {
    (cards_key(block), cards_value(authors.iter().map(|(_, card)| card)))
}

/// Entries to be written, with their checksums.
pub(crate) fn sealed(entries: impl IntoIterator<Item = Entry>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let sealed = entries.into_iter().map(|(key, value)| {
        let value = seal(&key, value);
        (key, Some(value))
    });
    sealed.collect()
}
