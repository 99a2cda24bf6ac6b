//! What a watcher missed: the log from its cursor on, as changes with the values of now.
//!
//! The log says which keys were touched and by whom, not what they held. So several changes of one key in one
//! piece of the log are one, the old value is unknown, and a removal by prefix is told as a loss: the watcher
//! reads again what it cares for.

use std::collections::{BTreeMap, VecDeque};

use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::op::{Op, RowRef};
use tidelock_engine::ports::{Log, LogPosition, ReadError};
use tidelock_engine::row::Kind;
use tidelock_store::Reader;

use super::visible;
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};

/// The frames of one piece of the log.
const FRAMES: usize = 256;

/// A replay under way.
#[derive(Debug)]
pub(super) struct Replay {
    keyspace: (KeyspaceName, KeyspaceId),
    range: WatchRange,
    next: LogPosition,
    reader: Reader,
    ready: VecDeque<WatchEvent>,
}

/// What one piece of the log touched: key, kind and subkey, with the last author.
type Touched = BTreeMap<(Vec<u8>, Kind, Vec<u8>), ReplicaId>;

impl Replay {
    pub(super) fn new(
        keyspace: (KeyspaceName, KeyspaceId),
        range: WatchRange,
        from: Cursor,
        reader: Reader,
    ) -> Self {
        Self { keyspace, range, next: LogPosition(from.0 + 1), reader, ready: VecDeque::new() }
    }

    /// The next event; `None` when the end of the log was reached.
    pub(super) fn next(&mut self) -> Option<WatchEvent> {
        while self.ready.is_empty() {
            match self.read_piece() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    tracing::error!(%error, "cannot replay the log for a watcher");
                    return Some(WatchEvent::Lagged(Cursor(self.next.0)));
                }
            }
        }
        self.ready.pop_front()
    }

    /// Reads a piece of the log; answers whether there was one.
    fn read_piece(&mut self) -> Result<bool, ReadError> {
        let logged = self.reader.frames_from(self.next, FRAMES)?;
        let Some(last) = logged.last().map(|frame| frame.position) else { return Ok(false) };
        let mut touched = Touched::new();
        let mut is_cleared = false;
        for frame in &logged {
            // The log's own frames decode; `tidelock check` would say if one did not.
            let Ok(frame) = Frame::decode(&frame.bytes) else { continue };
            if frame.header().keyspace == self.keyspace.1 {
                for op in frame.ops() {
                    is_cleared |= touch(op, frame.header().author, &mut touched);
                }
            }
        }
        self.next = LogPosition(last.0 + 1);
        let cursor = Cursor(last.0);
        for ((key, kind, subkey), author) in touched {
            if !self.range.contains(&key) {
                continue;
            }
            let group = (self.keyspace.1, key, kind, subkey);
            let new = visible::read(&self.reader, &group)?;
            let (_, key, kind, subkey) = group;
            let keyspace = self.keyspace.0.clone();
            let change =
                Change { cursor, keyspace, key, kind, subkey, old: None, new, author, is_replayed: true };
            self.ready.push_back(WatchEvent::Changed(change));
        }
        if is_cleared {
            self.ready.push_back(WatchEvent::Lagged(cursor));
        }
        Ok(true)
    }
}

/// Notes what an operation touched; answers whether it removed by prefix, which names no rows.
fn touch(op: &Op, author: ReplicaId, touched: &mut Touched) -> bool {
    let mut note = |key: &[u8], kind: Kind, subkey: &[u8]| {
        let kind = if kind == Kind::Counter { Kind::Register } else { kind };
        touched.insert((key.to_vec(), kind, subkey.to_vec()), author);
    };
    match op {
        Op::Set { key, .. } | Op::Increment { key, .. } => note(key, Kind::Register, &[]),
        Op::Add { key, elements } => elements.iter().for_each(|it| note(key, Kind::Set, &it.element)),
        Op::Put { key, fields } => fields.iter().for_each(|it| note(key, Kind::Map, &it.field)),
        Op::Delete { key, rows, slots } => {
            rows.iter().for_each(|RowRef { kind, subkey, .. }| note(key, *kind, subkey));
            if !slots.is_empty() {
                note(key, Kind::Counter, &[]);
            }
        }
        Op::Clear { slots, .. } => {
            slots.iter().for_each(|slot| note(&slot.key, Kind::Counter, &[]));
            return true;
        }
    }
    false
}
