//! What the worker has of its node: the rows, the log, and a way to hand in writes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use automerge::{Change, ChangeHash};
use tidelock_engine::causality::Dot;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::op::Op;
use tidelock_engine::ports::{Log, LogPosition, LogRecord, ReadError};
use tidelock_engine::read::{Answer, Query, QueryError, answer};
use tidelock_engine::request::{Request, RequestReply};
use tidelock_store::Reader;

use super::cache::DocumentId;
use super::loading::{Chunks, changes_of};
use crate::watch_hub::Replays;

/// Hands requests to the event loop and waits for the replies, on the worker's own thread.
pub(crate) type Submit = dyn Fn(Vec<Request>) -> Vec<RequestReply> + Send;

/// The frames that a search of the log reads at once. Few, because one may be large.
const SEARCH_FRAMES: usize = 8;

/// The changes that a search of the log keeps at most, in bytes.
const SEARCH_BYTES_MAX: usize = 128 << 20;

/// A node, as the worker uses it.
pub(crate) struct Access {
    /// The node.
    pub(crate) peer: PeerId,
    /// The store, until the node is shut down.
    pub(crate) replays: Arc<Replays>,
    /// The event loop.
    pub(crate) submit: Box<Submit>,
}

impl Access {
    /// The rows of a document now, in order of their dots.
    pub(super) fn chunks(&self, id: &DocumentId) -> Result<Chunks, QueryError> {
        let snapshot = self.reader()?.snapshot();
        if snapshot.is_partial(id.keyspace) {
            return Err(QueryError::Loading);
        }
        match answer(&snapshot, id.keyspace, &Query::Chunks(id.key.clone()))? {
            Answer::Chunks(chunks) => Ok(chunks),
            other => unreachable!("the query does not answer {other:?}"),
        }
    }

    /// The dots of a document's rows now.
    pub(super) fn dots(&self, id: &DocumentId) -> Result<Vec<Dot>, QueryError> {
        Ok(self.chunks(id)?.into_iter().map(|(dot, _)| dot).collect())
    }

    /// Whose operations the node mints now: it may have become another replica since the start.
    pub(super) fn replica(&self) -> Result<ReplicaId, QueryError> {
        Ok(self.reader()?.replica())
    }

    /// Whether a replica is this node's, or was.
    pub(super) fn is_ours(&self, replica: ReplicaId) -> Result<bool, QueryError> {
        let card = self.reader()?.card(replica)?;
        Ok(card.is_some_and(|card| PeerId::from_public_key(card.public_key) == self.peer))
    }

    /// The name of a keyspace that is held here.
    pub(super) fn name_of(&self, keyspace: KeyspaceId) -> Option<KeyspaceName> {
        let keyspaces = self.reader().ok()?.keyspaces();
        keyspaces.into_iter().find_map(|(id, name)| (id == keyspace).then_some(name))
    }

    /// All changes of a document that the log still holds, removed ones included. It reads the whole log.
    pub(super) fn changes_in_log(&self, id: &DocumentId) -> Result<BTreeMap<ChangeHash, Change>, QueryError> {
        let reader = self.reader()?;
        let (mut next, until) = (reader.first(), reader.position());
        let mut changes = BTreeMap::new();
        let mut found_bytes = 0;
        while next <= until {
            let records = reader.records_from(next, SEARCH_FRAMES)?;
            let Some(last) = records.last() else { break };
            next = LogPosition(last.position.0 + 1);
            for bytes in records.iter().filter_map(LogRecord::frame) {
                let Ok(frame) = Frame::decode(bytes) else { continue };
                if frame.header().keyspace != id.keyspace {
                    continue;
                }
                for op in frame.ops() {
                    if let Op::Change { key, chunk, .. } = op
                        && *key == id.key
                        && found_bytes < SEARCH_BYTES_MAX
                    {
                        found_bytes += chunk.len();
                        changes.append(&mut changes_of(chunk));
                    }
                }
            }
        }
        Ok(changes)
    }

    fn reader(&self) -> Result<Reader, ReadError> {
        self.replays.reader().ok_or_else(|| ReadError::Io {
            file: "the store",
            source: io::Error::new(io::ErrorKind::NotConnected, "the node was shut down"),
        })
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("peer", &self.peer).finish_non_exhaustive()
    }
}
