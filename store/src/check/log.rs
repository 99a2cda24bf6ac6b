//! Checking `log.redb`: every frame is signed by its author, holds its author's next operation, and is where the
//! index says; and applying all of them gives rows to compare with. That an author has two histories is no
//! damage: then its frames need not follow each other.

use std::collections::BTreeMap;

use tidelock_engine::causality::{Hlc, VersionVector};
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    Batch, Durability, KeyspaceState, LogEntry, LogPosition, LogRecord, ReadError, Store,
};

use tidelock_engine::staged::Staged;

use super::{Check, Progress};
use crate::database::Entries;
use crate::identity;
use crate::log::{LogFile, indexed};
use crate::names::Names;
use crate::replay::{self, Record};
use crate::schema::LOG_FILE;

/// The frames that are read at a time.
const FRAMES_PER_CHUNK: u64 = 64;

/// The bytes of them, unless one has more.
const BYTES_PER_CHUNK: usize = 4 << 20;

/// A log that is being read, and the rows that its frames give.
pub(super) struct LogCheck<'a> {
    log: &'a LogFile,
    entries: Entries,
    names: Names,
    /// The first record that is held.
    first: LogPosition,
    end: LogPosition,
    at: LogPosition,
    clock: Hlc,
    total_bytes: u64,
    frames: u64,
    floors: BTreeMap<KeyspaceId, VersionVector>,
    /// Per author the seq of the last operation so far.
    heads: BTreeMap<(KeyspaceId, ReplicaId), u64>,
    applied: MemStore,
    /// Whether every frame so far could be applied.
    is_whole: bool,
}

impl<'a> LogCheck<'a> {
    pub(super) fn new(log: &'a LogFile) -> Result<Self, ReadError> {
        let (cluster, card) = log.identity()?;
        let names = log.names(cluster, card)?;
        let first = log.first()?;
        let mut applied = MemStore::new(cluster, card);
        let keyspaces: Vec<KeyspaceName> = names.held().map(|(_, _, name)| name.clone()).collect();
        applied
            .commit(&Batch { keyspaces, ..Batch::default() }, Durability::Buffered)
            .expect("a store in memory takes everything");
        Ok(Self {
            log,
            entries: log.entries()?,
            first,
            end: log.end()?.0.position,
            floors: log.floors(&names)?,
            names,
            at: LogPosition(first.0 - 1),
            clock: Hlc::default(),
            total_bytes: 0,
            frames: 0,
            heads: BTreeMap::new(),
            applied,
            // What came before the first record is in the rows alone.
            is_whole: first == LogPosition(1),
        })
    }

    pub(super) fn end(&self) -> LogPosition {
        self.end
    }

    /// The number of records that are held.
    pub(super) fn held(&self) -> u64 {
        (self.end.0 + 1).saturating_sub(self.first.0)
    }

    /// The replica that the store is, and the one that it was before: rows may still be of that.
    pub(super) fn replicas(&self) -> Result<Vec<ReplicaId>, ReadError> {
        let (_, card) = self.log.identity()?;
        Ok(std::iter::once(card.replica()).chain(identity::former(self.log)?).collect())
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The rows and states after the frames so far; `None` if not all of them could be applied.
    pub(super) fn applied(&self) -> Option<(&MemStore, BTreeMap<KeyspaceName, KeyspaceState>)> {
        self.is_whole.then(|| (&self.applied, self.applied.recovered().keyspaces))
    }

    /// Checks and applies the frames up to a position.
    pub(super) fn frames(&mut self, until: LogPosition, check: &mut Check<'_>) {
        while self.at < until {
            let last = until.0.min(self.at.0 + FRAMES_PER_CHUNK);
            self.at = match self.log.records(self.at.0 + 1..=last, BYTES_PER_CHUNK) {
                Ok(records) => {
                    self.records(&records, check);
                    records.last().map_or(LogPosition(last), |record| record.position)
                }
                Err(error) => {
                    check.damage(LOG_FILE, &error);
                    self.is_whole = false;
                    LogPosition(last)
                }
            };
            (check.progress)(Progress::Frames { done: self.at.0, total: self.end.0 });
        }
    }

    fn records(&mut self, records: &[LogRecord], check: &mut Check<'_>) {
        let mut decoded = Vec::new();
        for LogRecord { position, clock, total_bytes, entry } in records {
            let place = position.0;
            check
                .expect(*clock >= self.clock, LOG_FILE, || format!("the clock steps back at record {place}"));
            let expected = self.total_bytes + entry.bytes().len() as u64;
            // What a dropped one held is counted all the same.
            let is_counted = *position != self.first && *entry != LogEntry::Dropped;
            check.expect(*total_bytes == expected || !is_counted, LOG_FILE, || {
                format!("record {place} counts {total_bytes} bytes, and there are {expected}")
            });
            (self.clock, self.total_bytes) = (*clock, *total_bytes);
            if let LogEntry::Staged(bytes) = entry {
                if let Err(error) = Staged::decode(bytes) {
                    check.find(LOG_FILE, format!("record {place}: {error}"));
                }
                continue;
            }
            match self.record(*position, entry, check) {
                Some(record) if self.names.is_dropping(record.keyspace()) => {}
                Some(record) => decoded.push(record),
                None if *entry == LogEntry::Dropped => {}
                None => self.is_whole = false,
            }
        }
        if !self.is_whole {
            return;
        }
        let seq = |keyspace, author| self.applied.seq(keyspace, author);
        let changes = replay::apply(&self.applied, seq, &decoded).expect("a store in memory can be read");
        let mut batch = Batch { changes, ..Batch::default() };
        for record in decoded {
            match record {
                Record::Frame(frame) => batch.frames.push(frame),
                Record::Install(install) => batch.installs.push((batch.frames.len(), install)),
            }
        }
        self.applied.commit(&batch, Durability::Buffered).expect("a store in memory takes everything");
    }

    /// Checks one record; `None` if it cannot be applied.
    fn record(&mut self, position: LogPosition, entry: &LogEntry, check: &mut Check<'_>) -> Option<Record> {
        let place = position.0;
        match entry {
            LogEntry::Frame(bytes) => match Frame::decode(bytes) {
                Ok(frame) => self.frame(position, &frame, check).then_some(Record::Frame(frame)),
                Err(error) => {
                    check.find(LOG_FILE, format!("frame {place}: {error}"));
                    None
                }
            },
            LogEntry::Install(bytes) => match Install::decode(bytes) {
                Ok(install) => {
                    for (author, head) in install.heads.iter().flatten() {
                        self.heads.insert((install.keyspace, *author), head.seq);
                    }
                    Some(Record::Install(install))
                }
                Err(error) => {
                    check.find(LOG_FILE, format!("record {place}: {error}"));
                    None
                }
            },
            LogEntry::Staged(_) | LogEntry::Dropped => None,
        }
    }

    /// Checks one frame; whether it can be applied.
    fn frame(&mut self, position: LogPosition, frame: &Frame, check: &mut Check<'_>) -> bool {
        let place = position.0;
        let header = frame.header();
        if self.names.is_dropping(header.keyspace) {
            // Some of its frames may be gone already.
            return true;
        }
        let numbers = self.names.keyspace(header.keyspace).zip(self.names.author(header.author));
        let (Some((keyspace, author)), Some(card)) = (numbers, self.names.card(header.author)) else {
            check.find(LOG_FILE, format!("frame {place} is of an unknown author or keyspace"));
            return false;
        };
        check
            .expect(frame.verify(&card).is_ok(), LOG_FILE, || format!("frame {place} has a wrong signature"));
        self.frames += 1;
        let floor = self.floors.get(&header.keyspace).map_or(0, |floor| floor.get(header.author));
        let applied = self.heads.insert((header.keyspace, header.author), header.last()).unwrap_or(0);
        // Where frames are gone nobody knows where they ended.
        let follows = (header.first..=header.last()).contains(&(applied + 1)) || header.first <= floor + 1;
        check.expect(follows, LOG_FILE, || {
            format!("frame {place} lacks its author's operation {}", applied + 1)
        });
        match indexed(&self.entries, (keyspace, author, header.last())) {
            Ok(indexed) => check.expect(indexed == Some(position), LOG_FILE, || {
                format!("the index does not lead to frame {place}")
            }),
            Err(error) => check.damage(LOG_FILE, &error),
        }
        follows
    }

    /// Every frame was looked up, so the index is right if it has as many entries.
    pub(super) fn index(&self, check: &mut Check<'_>) {
        match self.log.index_len(&self.names) {
            Ok(count) => check.expect(count == self.frames, LOG_FILE, || {
                format!("the index has {count} entries for {} frames", self.frames)
            }),
            Err(error) => check.damage(LOG_FILE, &error),
        }
    }
}
