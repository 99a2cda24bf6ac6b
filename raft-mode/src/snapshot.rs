//! Snapshots on their way from one anchor to another: in pieces, one at a time, with the hash of the whole in each.
//!
//! The receiver says from where on it has nothing, so a transfer that broke off goes on where it was, also under the
//! next leader if that one's snapshot is the same. A whole whose hash is not the announced one is thrown away. It keeps
//! one unfinished snapshot, of at most [`SNAPSHOT_BYTES_MAX`](crate::message::SNAPSHOT_BYTES_MAX) bytes.

use std::sync::Mutex;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::AnchorId;

use crate::counters::Refused;
use crate::message::{Body, CHUNK_BYTES_MAX, Chunk};
use crate::network::NoAnswer;
use crate::runtime::lock;
use crate::shared::Shared;
use crate::types::{Snapshot, SnapshotMeta, Vote};
use crate::wire::{self, Applied};

/// How often a piece is sent again before the transfer is given up, for openraft to begin again.
const TRIES_MAX: u32 = 5;

/// Sends a snapshot and waits until it is installed. The vote is the receiver's.
pub(crate) async fn send(
    shared: &Shared,
    to: AnchorId,
    peer: PeerId,
    vote: Vote,
    snapshot: &Snapshot,
) -> Result<Vote, NoAnswer> {
    let bytes = &snapshot.snapshot;
    let covers = Applied::new(snapshot.meta.last_log_id, &snapshot.meta.last_membership);
    let hash = *blake3::hash(bytes).as_bytes();
    let piece = |offset: usize, length: usize| {
        Body::Chunk(Chunk {
            vote: wire::Vote::from(vote),
            covers: covers.clone(),
            hash,
            total: bytes.len() as u64,
            offset: offset as u64,
            bytes: bytes[offset..(offset + length).min(bytes.len())].to_vec(),
        })
    };
    let mut next = piece(0, 0);
    let (mut have, mut failures, mut last_error) = (None, 0, NoAnswer::Wrong);
    loop {
        match shared.ask(to, peer, next.clone(), shared.settings.chunk_timeout).await {
            Ok(Body::Want { offset }) => {
                let offset = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                next = piece(offset, CHUNK_BYTES_MAX);
                failures = if have < Some(offset) { 0 } else { failures + 1 };
                have = Some(offset);
            }
            Ok(Body::Installed { vote }) => return Ok(vote.into()),
            Ok(_) => return Err(NoAnswer::Wrong),
            Err(error) => {
                failures += 1;
                last_error = error;
                // What arrived is not known: ask.
                next = piece(0, 0);
            }
        }
        if failures >= TRIES_MAX {
            return Err(last_error);
        }
    }
}

/// The snapshot that is being received.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    partial: Mutex<Option<Partial>>,
}

#[derive(Debug)]
struct Partial {
    covers: Applied,
    hash: [u8; 32],
    total: u64,
    bytes: Vec<u8>,
}

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More is needed, from here on.
    Want(u64),
    /// It is whole and its hash is right.
    Whole(Applied, Vec<u8>),
    /// It is whole and its hash is wrong; nothing of it is kept.
    WrongHash,
}

impl Receiving {
    /// Takes a piece. A piece of another snapshot than the last one's begins that one anew.
    pub(crate) fn take(&self, chunk: Chunk) -> Taken {
        let mut slot = lock(&self.partial);
        let is_same =
            |it: &Partial| (it.hash, it.total, &it.covers) == (chunk.hash, chunk.total, &chunk.covers);
        let mut partial = match slot.take() {
            Some(partial) if is_same(&partial) => partial,
            _ => Partial { covers: chunk.covers, hash: chunk.hash, total: chunk.total, bytes: Vec::new() },
        };
        if chunk.offset == partial.bytes.len() as u64 {
            partial.bytes.extend_from_slice(&chunk.bytes);
        }
        let have = partial.bytes.len() as u64;
        if have < partial.total {
            *slot = Some(partial);
            return Taken::Want(have);
        }
        if *blake3::hash(&partial.bytes).as_bytes() == partial.hash {
            Taken::Whole(partial.covers, partial.bytes)
        } else {
            Taken::WrongHash
        }
    }
}

/// Takes a piece, installs what is whole, and says what to answer.
pub(crate) async fn receive(shared: &Shared, chunk: Chunk) -> Option<Body> {
    let vote = Vote::from(chunk.vote);
    match shared.receiving.take(chunk) {
        Taken::Want(offset) => Some(Body::Want { offset }),
        Taken::WrongHash => {
            shared.counters.refuse(Refused::WrongHash);
            Some(Body::Want { offset: 0 })
        }
        Taken::Whole(covers, bytes) => {
            let (last_log_id, last_membership) = covers.into_parts();
            let meta = SnapshotMeta { last_log_id, last_membership };
            let snapshot = Snapshot { meta, snapshot: bytes.into() };
            let installed = shared.raft()?.install_full_snapshot(vote, snapshot).await;
            installed.ok().map(|response| Body::Installed { vote: response.vote.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(whole: &[u8], offset: usize, length: usize) -> Chunk {
        Chunk {
            vote: wire::Vote { term: 1, anchor: 1, is_committed: true },
            covers: Applied::default(),
            hash: *blake3::hash(whole).as_bytes(),
            total: whole.len() as u64,
            offset: offset as u64,
            bytes: whole[offset..offset + length].to_vec(),
        }
    }

    #[test]
    fn a_transfer_goes_on_where_it_was() {
        let receiving = Receiving::default();
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 0)), Taken::Want(0));
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 3)), Taken::Want(3));
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 0)), Taken::Want(3), "asked again after a break");
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 3)), Taken::Want(3), "sent twice");
        let whole = receiving.take(chunk(b"snapshot", 3, 5));
        assert_eq!(whole, Taken::Whole(Applied::default(), b"snapshot".to_vec()));
    }

    #[test]
    fn an_empty_snapshot_is_whole_at_once() {
        assert_eq!(Receiving::default().take(chunk(b"", 0, 0)), Taken::Whole(Applied::default(), Vec::new()));
    }

    #[test]
    fn another_snapshot_begins_anew_and_a_wrong_hash_leaves_nothing() {
        let receiving = Receiving::default();
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 3)), Taken::Want(3));
        assert_eq!(receiving.take(chunk(b"another", 0, 2)), Taken::Want(2));
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 0)), Taken::Want(0));
        let mut wrong = chunk(b"snapshot", 0, 8);
        wrong.bytes[7] ^= 1;
        assert_eq!(receiving.take(wrong), Taken::WrongHash);
        assert_eq!(receiving.take(chunk(b"snapshot", 0, 0)), Taken::Want(0));
    }
}
