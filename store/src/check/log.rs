//! Checking `log.redb`: every frame is signed by its author, holds its author's next operation, and is where the
//! index says; and applying all of them gives rows to compare with. That an author has two histories is no
//! damage: then its frames need not follow each other.

use std::collections::BTreeMap;

use tidelock_engine::causality::Hlc;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{Batch, Durability, KeyspaceState, LogPosition, ReadError, Store};

use super::{Check, Progress};
use crate::database::Entries;
use crate::identity;
use crate::log::{LogFile, LogRecord, indexed};
use crate::names::Names;
use crate::replay;
use crate::schema::LOG_FILE;

/// The frames that are read at a time.
const FRAMES_PER_CHUNK: u64 = 64;

/// A log that is being read, and the rows that its frames give.
pub(super) struct LogCheck<'a> {
    log: &'a LogFile,
    entries: Entries,
    names: Names,
    end: LogPosition,
    at: LogPosition,
    clock: Hlc,
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
        let mut applied = MemStore::new(cluster, card);
        let keyspaces: Vec<KeyspaceName> = names.keyspaces().iter().map(|(_, name)| name.clone()).collect();
        applied
            .commit(&Batch { keyspaces, ..Batch::default() }, Durability::Buffered)
            .expect("a store in memory takes everything");
        Ok(Self {
            log,
            entries: log.file.entries()?,
            end: log.end()?.0,
            names,
            at: LogPosition(0),
            clock: Hlc::default(),
            heads: BTreeMap::new(),
            applied,
            is_whole: true,
        })
    }

    pub(super) fn end(&self) -> LogPosition {
        self.end
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
            match self.log.records(self.at.0 + 1..=last) {
                Ok(records) => self.records(&records, check),
                Err(error) => {
                    check.damage(LOG_FILE, &error);
                    self.is_whole = false;
                }
            }
            self.at = LogPosition(last);
            (check.progress)(Progress::Frames { done: last, total: self.end.0 });
        }
    }

    fn records(&mut self, records: &[LogRecord], check: &mut Check<'_>) {
        let mut frames = Vec::new();
        for LogRecord { frame, clock } in records {
            let place = frame.position.0;
            check.expect(*clock >= self.clock, LOG_FILE, || format!("the clock steps back at frame {place}"));
            self.clock = *clock;
            match Frame::decode(&frame.bytes) {
                Ok(decoded) if self.frame(frame.position, &decoded, check) => frames.push(decoded),
                Ok(_) => self.is_whole = false,
                Err(error) => {
                    check.find(LOG_FILE, format!("frame {place}: {error}"));
                    self.is_whole = false;
                }
            }
        }
        if !self.is_whole {
            return;
        }
        let seq = |keyspace, author| self.applied.seq(keyspace, author);
        let changes = replay::apply(&self.applied, seq, &frames).expect("a store in memory can be read");
        let batch = Batch { frames, changes, ..Batch::default() };
        self.applied.commit(&batch, Durability::Buffered).expect("a store in memory takes everything");
    }

    /// Checks one frame; whether it can be applied.
    fn frame(&mut self, position: LogPosition, frame: &Frame, check: &mut Check<'_>) -> bool {
        let place = position.0;
        let header = frame.header();
        let numbers = self.names.keyspace(header.keyspace).zip(self.names.author(header.author));
        let (Some((keyspace, author)), Some(card)) = (numbers, self.names.card(header.author)) else {
            check.find(LOG_FILE, format!("frame {place} is of an unknown author or keyspace"));
            return false;
        };
        check
            .expect(frame.verify(&card).is_ok(), LOG_FILE, || format!("frame {place} has a wrong signature"));
        let applied = self.heads.insert((header.keyspace, header.author), header.last()).unwrap_or(0);
        let follows = (header.first..=header.last()).contains(&(applied + 1));
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
        match self.log.index_len() {
            Ok(count) => check.expect(count == self.end.0, LOG_FILE, || {
                format!("the index has {count} entries for {} frames", self.end.0)
            }),
            Err(error) => check.damage(LOG_FILE, &error),
        }
    }
}
