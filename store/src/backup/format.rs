//! The bytes of a backup. This is the one place that says so. All numbers are big endian.
//!
//! The text `tidelock backup` and a line end (16 bytes), the version (u32), then blocks: kind (1 byte), length of
//! the payload (u32), payload, checksum (32). The checksum is blake3 of the checksum before it (for the first block:
//! of the 20 bytes before it), kind, length and payload, so that the last one is a checksum of all that was there,
//! and in this order.
//!
//! | block | how many | payload |
//! |---|---|---|
//! | 1, head | one, first | cluster (32), public key (32), nonce (16), position before the first row (u64), Unix ms (u64) |
//! | 2, before | any | entries of `rows.redb`: the heads at that position |
//! | 3, rows | any | entries of `rows.redb`: rows, each as it was at some position since |
//! | 4, log | any | entries of `log.redb`: frames in order, then all others but the index |
//! | 5, after | any | entries of `rows.redb`: states and heads at the position of the last frame |
//! | 6, end | one, last | position of the last frame (u64), numbers of rows, frames and keyspaces (u64 each) |
//!
//! An entry is the length of its key (u32), the key, the length of its value (u32), and the value with its own
//! checksum, as `schema` says.

use std::sync::Arc;

use tidelock_engine::id::{AuthorCard, ClusterId};

use crate::schema::{card_value, read_card, read_cluster, read_u64};

/// The version that this code reads and writes.
pub(crate) const BACKUP_FORMAT: u32 = 2;

/// What a backup begins with.
pub(crate) const MAGIC: &[u8; 16] = b"tidelock backup\n";

/// What a block holds about, in bytes; one larger entry has a block of its own.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

/// No block is longer, in bytes: an entry holds one value of 16 MiB at most, or a frame of that.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 << 20;

pub(crate) const CHECKSUM_BYTES: usize = 32;

/// Key and value, sealed as they are stored.
pub(crate) type Entry = (Vec<u8>, Arc<[u8]>);

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum BlockKind {
    Head = 1,
    Before = 2,
    Rows = 3,
    Log = 4,
    After = 5,
    End = 6,
}

impl BlockKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Head, Self::Before, Self::Rows, Self::Log, Self::After, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The checksum of all that came before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain([u8; CHECKSUM_BYTES]);

impl Chain {
    pub(crate) fn new() -> Self {
        Self(*blake3::hash(&preamble()).as_bytes())
    }

    /// The checksum of the next block, which is the one before the next from then on.
    pub(crate) fn next(&mut self, kind: u8, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&[kind]);
        hasher.update(&length(payload).to_be_bytes());
        hasher.update(payload);
        self.0 = *hasher.finalize().as_bytes();
        self.0
    }

    /// A whole block.
    pub(crate) fn block(&mut self, kind: BlockKind, payload: &[u8]) -> Vec<u8> {
        let checksum = self.next(kind as u8, payload);
        [&[kind as u8][..], &length(payload).to_be_bytes(), payload, &checksum].concat()
    }
}

/// What stands before the first block.
pub(crate) fn preamble() -> Vec<u8> {
    [&MAGIC[..], &BACKUP_FORMAT.to_be_bytes()].concat()
}

/// The first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) cluster: ClusterId,
    pub(crate) card: AuthorCard,
    pub(crate) position: u64,
    pub(crate) unix_ms: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = [self.position.to_be_bytes(), self.unix_ms.to_be_bytes()].concat();
        [self.cluster.as_bytes(), &card_value(&self.card)[..], &numbers].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (cluster, rest) = bytes.split_at_checked(32)?;
        let (card, rest) = rest.split_at_checked(48)?;
        let (position, unix_ms) = rest.split_at_checked(8)?;
        Some(Self {
            cluster: read_cluster(cluster)?,
            card: read_card(card)?,
            position: read_u64(position)?,
            unix_ms: read_u64(unix_ms)?,
        })
    }
}

/// The last block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) position: u64,
    pub(crate) rows: u64,
    pub(crate) frames: u64,
    pub(crate) keyspaces: u64,
}

impl End {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = [self.position, self.rows, self.frames, self.keyspaces];
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let numbers: Option<Vec<u64>> = bytes.chunks(8).map(read_u64).collect();
        let [position, rows, frames, keyspaces] = numbers?[..] else { return None };
        Some(Self { position, rows, frames, keyspaces })
    }
}

pub(crate) fn push_entry(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for bytes in [key, value] {
        payload.extend_from_slice(&length(bytes).to_be_bytes());
        payload.extend_from_slice(bytes);
    }
}

/// Takes an entry off the front of a payload.
pub(crate) fn take_entry<'a>(payload: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut take = || {
        let (length, rest) = payload.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        *payload = rest;
        Some(bytes)
    };
    let (key, value) = (take()?, take()?);
    (!key.is_empty()).then_some((key, value))
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a block is far smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_golden_bytes() {
        let mut chain = Chain::new();
        let first = chain.block(BlockKind::Rows, b"ab");
        assert_eq!(first[..7], [3, 0, 0, 0, 2, b'a', b'b']);
        let before = blake3::hash(b"tidelock backup\n\x00\x00\x00\x02");
        let bytes = [&before.as_bytes()[..], &first[..7]].concat();
        assert_eq!(first[7..], *blake3::hash(&bytes).as_bytes());
        let second = chain.block(BlockKind::Rows, b"ab");
        assert_ne!(first, second, "the place counts");
    }

    #[test]
    fn head_end_and_entries_have_golden_bytes() {
        let card = AuthorCard { public_key: [1; 32], nonce: [2; 16] };
        let head = Head { cluster: ClusterId::named("c"), card, position: 3, unix_ms: 4 };
        let numbers = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4];
        let bytes = [head.cluster.as_bytes(), &[1; 32][..], &[2; 16], &numbers].concat();
        assert_eq!((head.encode(), Head::decode(&bytes)), (bytes.clone(), Some(head)));
        assert_eq!(Head::decode(&bytes[1..]), None);
        let end = End { position: 1, rows: 2, frames: 3, keyspaces: 4 };
        assert_eq!(End::decode(&end.encode()), Some(end));
        assert_eq!(End::decode(&end.encode()[..24]), None);
        let mut payload = Vec::new();
        push_entry(&mut payload, b"k", b"vw");
        assert_eq!(payload, *b"\x00\x00\x00\x01k\x00\x00\x00\x02vw");
        let mut rest = &payload[..];
        assert_eq!(take_entry(&mut rest), Some((&b"k"[..], &b"vw"[..])));
        assert_eq!(take_entry(&mut rest), None);
        assert_eq!(take_entry(&mut &payload[..payload.len() - 1]), None);
    }
}
