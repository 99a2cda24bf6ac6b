//! What one commit adds to `log.redb`, as entries: names and settings, records with their index, floors.

use std::sync::Arc;

use redb::Durability;
use tidelock_engine::causality::Hlc;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{AuthorCard, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::ports::{CommitError, LogEnd, LogEntry, LogPosition};
use tidelock_engine::staged::Staged;

use super::LogFile;
use crate::backend::WriteGuard;
use crate::blocks::cards_value;
use crate::copying::Follower;
use crate::database::put;
use crate::names::{AddedNames, Remembered};
use crate::schema::{
    ENTRIES, EXPIRY_KEY, cards_key, index_key, keyspace_key, log_tag, record_key, record_value, seal,
    settings_key, settings_value,
};

/// A key and its value, without the checksum.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// What one commit adds to the log.
#[derive(Debug)]
pub(crate) struct LogWrite<'a> {
    pub(crate) names: AddedNames<'a>,
    /// What is remembered of keyspaces from now on.
    pub(crate) settings: Vec<(u32, Remembered)>,
    /// In their order.
    pub(crate) records: Vec<NewRecord<'a>>,
    /// The blocks in which floors rise, as they are then.
    pub(crate) floors: Vec<Entry>,
    /// Where the log ends already.
    pub(crate) end: LogEnd,
    /// The highest clock so far.
    pub(crate) clock: Hlc,
    /// What has expired from now on, if that changes.
    pub(crate) expiry: Option<Hlc>,
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
    /// Appends records, names and floors; answers where the log ends then.
    pub(crate) fn append(
        &self,
        guard: &WriteGuard,
        durability: Durability,
        write: &LogWrite<'_>,
        copy: &mut Follower,
    ) -> Result<LogEnd, CommitError> {
        let (entries, end) = write.entries();
        self.change(guard, durability, &sealed(entries), copy)?;
        Ok(end)
    }

    /// Writes and removes entries, here and in a copy that is being made.
    pub(crate) fn change(
        &self,
        guard: &WriteGuard,
        durability: Durability,
        entries: &[(Vec<u8>, Option<Vec<u8>>)],
        copy: &mut Follower,
    ) -> Result<(), CommitError> {
        self.file.commit(guard, durability, |transaction| {
            let mut table = transaction.open_table(ENTRIES)?;
            for (key, value) in entries {
                put(&mut table, key, value.as_deref())?;
            }
            Ok(())
        })?;
        entries.iter().for_each(|(key, value)| copy.note(key, value.as_deref()));
        Ok(())
    }
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
        if self.records.is_empty() {
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
