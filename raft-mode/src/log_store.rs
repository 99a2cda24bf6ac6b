//! The log as openraft writes and reads it, on top of a [`RaftLog`] that it never writes itself.
//!
//! A write becomes an output in the order in which it came, and openraft is told when the driver reports it durable:
//! the callback of an append, the return of a vote. Until then the entries are served from a tail in memory, since
//! openraft may read what it wrote at once. The tail also keeps the newest durable entries, up to
//! [`TAIL_BYTES_MAX`], which are those that followers and the state are about to read.
//!
//! Invariant: purged < tail <= last, without gaps, and everything between `purged` and the tail is in the store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};

use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, entry::RaftEntry};
use tidelock_engine::ports::{LogIndex, RaftWrite};
use tokio::sync::oneshot;

use crate::outbox::Writer;
use crate::runtime::lock;
use crate::shared::Shared;
use crate::types::{Entry, LogId, Types, Vote};
use crate::wire::{self, DecodeError};

/// The bytes of durable entries kept in memory. What is not durable yet is kept beyond it.
pub(crate) const TAIL_BYTES_MAX: usize = 8 << 20;

/// The bytes of entries read at once for one follower or for one step of applying, unless one entry has more.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one group. Clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The first index that the log has, or would have: behind what was purged.
    first: u64,
    tail: BTreeMap<u64, Held>,
    tail_bytes: usize,
    /// The newest write that was asked for, and the newest of which all before it are durable.
    asked: u64,
    durable: u64,
}

struct Held {
    entry: Entry,
    bytes: usize,
    /// The write that makes it durable.
    write: u64,
}

impl State {
    fn hold(&mut self, entry: Entry, write: u64) {
        let bytes = wire::Entry::bytes(&entry);
        self.tail_bytes += bytes;
        if self.last == self.purged {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        if let Some(old) = self.tail.insert(entry.log_id.index, Held { entry, bytes, write }) {
            self.tail_bytes -= old.bytes;
        }
    }

    /// Lets go of the oldest durable entries beyond the bound.
    fn trim(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.tail.first_entry() else { break };
            if oldest.get().write > self.durable {
                break;
            }
            self.tail_bytes -= oldest.remove().bytes;
        }
    }

    fn drop_held(&mut self, indexes: impl RangeBounds<u64>) {
        let gone: Vec<u64> = self.tail.range(indexes).map(|(index, _)| *index).collect();
        for index in gone {
            self.tail_bytes -= self.tail.remove(&index).map_or(0, |held| held.bytes);
        }
    }
}

/// The entry of stored bytes; it must be the one that belongs there.
pub(crate) fn decode_entry(bytes: &[u8], index: u64) -> io::Result<Entry> {
    let stored: wire::Entry = wire::decode(bytes).map_err(io::Error::other)?;
    if stored.id.index != index {
        return Err(io::Error::other(format!("entry {} stored as {index}", stored.id.index)));
    }
    Ok(stored.into())
}

fn decode_stored<T: serde::de::DeserializeOwned + wire::Bounded>(
    bytes: Option<Vec<u8>>,
) -> Result<Option<T>, DecodeError> {
    bytes.map(|bytes| wire::decode(&bytes)).transpose()
}

impl LogStore {
    /// Reads where the stored log stands.
    ///
    /// # Errors
    /// What is stored cannot be read, or was written by a newer version.
    pub(crate) fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let stored = shared.log.state().map_err(io::Error::other)?;
        let vote: Option<wire::Vote> = decode_stored(stored.vote).map_err(io::Error::other)?;
        let purged: Option<wire::LogId> = decode_stored(stored.purged).map_err(io::Error::other)?;
        let mut state = State {
            vote: vote.map(Vote::from),
            purged: purged.map(LogId::from),
            last: purged.map(LogId::from),
            first: purged.map_or(0, |id| id.index + 1),
            ..State::default()
        };
        let behind_purged = |last: &LogIndex| purged.is_none_or(|purged| last.0 > purged.index);
        if let Some(last) = stored.last.filter(behind_purged) {
            let bytes =
                shared.log.entries(last, LogIndex(last.0 + 1), READ_BYTES_MAX).map_err(io::Error::other)?;
            let bytes =
                bytes.first().ok_or_else(|| io::Error::other("the last entry of the log is not there"))?;
            state.last = Some(decode_entry(bytes, last.0)?.log_id);
        }
        Ok(Self { shared, state: Arc::new(Mutex::new(state)) })
    }

    /// Entries of a range that may begin in the store and end in the tail: all, or as many as fit into `bytes_max`.
    fn read(&self, mut from: u64, until: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let in_store_until = {
                let state = lock(&self.state);
                let first = state.first;
                let until = until.min(state.last.map_or(0, |id| id.index + 1));
                if from < first && !entries.is_empty() {
                    return Ok(entries);
                }
                from = from.max(first);
                for (index, held) in state.tail.range(from..until.max(from)) {
                    if *index != from || (bytes + held.bytes > bytes_max && !entries.is_empty()) {
                        break;
                    }
                    bytes += held.bytes;
                    entries.push(held.entry.clone());
                    from += 1;
                }
                let in_tail = state.tail.first_key_value().map_or(until, |(index, _)| *index);
                if from >= until || from >= in_tail {
                    return Ok(entries);
                }
                in_tail.min(until)
            };
            let room = bytes_max.saturating_sub(bytes);
            let stored =
                self.shared.log.entries(LogIndex(from), LogIndex(in_store_until), room.min(TAIL_BYTES_MAX));
            let stored = stored.map_err(io::Error::other)?;
            let is_purged = || lock(&self.state).purged.is_some_and(|id| id.index >= from);
            if stored.is_empty() && is_purged() {
                continue;
            }
            if stored.is_empty() {
                return Err(io::Error::other(format!("entry {from} is not in the log")));
            }
            for stored in stored {
                if bytes + stored.len() > bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                bytes += stored.len();
                entries.push(decode_entry(&stored, from)?);
                from += 1;
            }
            if bytes >= bytes_max {
                return Ok(entries);
            }
        }
    }

    fn ask(&self, writes: Vec<RaftWrite>, waiting: Writer) -> io::Result<()> {
        self.shared.outbox.write(writes, waiting)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let until = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(until) => *until,
        Bound::Unbounded => u64::MAX,
    };
    (from, until)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, until) = bounds(&range);
        self.read(from, until, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, until) = bounds(&range);
        let log = self.clone();
        let pieces = futures::stream::try_unfold(from, move |from| {
            let piece = if from < until { log.read(from, until, READ_BYTES_MAX) } else { Ok(Vec::new()) };
            let next = piece.map(|entries| {
                let next = entries.last().map(|entry| entry.log_id.index + 1);
                next.map(|next| (futures::stream::iter(entries.into_iter().map(Ok)), next))
            });
            std::future::ready(next)
        });
        Box::pin(futures::TryStreamExt::try_flatten(pieces))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(lock(&self.state).vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = lock(&self.state);
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        let bytes = wire::encode(&wire::Vote::from(*vote));
        self.ask(vec![RaftWrite::Vote(bytes)], Writer::Vote(sender))?;
        receiver.await.map_err(|_| io::Error::other("the group stopped"))??;
        lock(&self.state).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut writes = Vec::new();
        let write = {
            let mut state = lock(&self.state);
            state.asked += 1;
            let write = state.asked;
            for entry in entries {
                let bytes = wire::encode(&wire::Entry::from(&entry));
                writes.push(RaftWrite::Append { index: LogIndex(entry.index()), bytes });
                state.hold(entry, write);
            }
            write
        };
        let state = Arc::clone(&self.state);
        let durable = move || {
            let mut state = lock(&state);
            state.durable = write;
            state.trim();
        };
        self.ask(writes, Writer::Log { flushed: callback, durable: Box::new(durable) })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        {
            let mut state = lock(&self.state);
            state.drop_held(from..);
            state.last = state.last.min(last);
        }
        self.ask(vec![RaftWrite::Truncate { from: LogIndex(from) }], Writer::Nobody)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        {
            let mut state = lock(&self.state);
            state.drop_held(..=id.index);
            state.purged = Some(id);
            state.first = id.index + 1;
            state.last = state.last.max(Some(id));
        }
        let record = wire::encode(&wire::LogId::from(id));
        self.ask(vec![RaftWrite::Purge { until: LogIndex(id.index), record }], Writer::Nobody)
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
