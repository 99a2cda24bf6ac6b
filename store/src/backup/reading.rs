//! Reading a backup: its blocks in order, each believed only once its checksum was right.

use std::io::{self, Read};

use thiserror::Error;
use tidelock_engine::id::{ClusterId, ReplicaId};

use super::format::{
    BACKUP_FORMAT, BLOCK_BYTES_MAX, BlockKind, CHECKSUM_BYTES, Chain, End, Head, MAGIC, take_entry,
};

/// Why a backup cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupReadError {
    /// The file is something else.
    #[error("this is no backup of tidelock")]
    NoBackup,
    /// It was made by a version that we do not know.
    #[error(
        "the backup has format {found}, this tidelock knows {BACKUP_FORMAT}; use the tidelock that made it"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// It is shorter than it was.
    #[error("the backup was cut off: it ends after {bytes} bytes, before its last block")]
    CutOff {
        /// How long it is.
        bytes: u64,
    },
    /// It is not as it was made.
    #[error("the backup is damaged at byte {at}: {what}; use another one")]
    Damaged {
        /// Where the block begins that is not as it was.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read the backup: {0}")]
    Io(io::Error),
}

/// A block whose checksum was right.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    payload: Vec<u8>,
    at: u64,
}

impl Block {
    /// Visits the entries of the block.
    pub(crate) fn entries<E: From<BackupReadError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = &self.payload[..];
        while !rest.is_empty() {
            let damaged = BackupReadError::Damaged { at: self.at, what: "its entries do not decode" };
            let (key, value) = take_entry(&mut rest).ok_or(damaged)?;
            visit(key, value)?;
        }
        Ok(())
    }
}

/// The blocks of a backup in order, the head apart.
#[derive(Debug)]
pub(crate) struct Blocks<R> {
    input: R,
    chain: Chain,
    head: Head,
    end: Option<End>,
    last: BlockKind,
    /// The bytes that were read.
    bytes: u64,
}

impl<R: Read> Blocks<R> {
    /// Reads up to behind the head.
    pub(crate) fn open(input: R) -> Result<Self, BackupReadError> {
        // Of the head, only the kind of what follows is looked at before the real one is read.
        let nobody = tidelock_engine::id::AuthorCard { public_key: [0; 32], nonce: [0; 16] };
        let head = Head { cluster: ClusterId::named(""), card: nobody, position: 0, unix_ms: 0 };
        let mut blocks =
            Self { input, chain: Chain::new(), head, end: None, last: BlockKind::Head, bytes: 0 };
        let magic = blocks.take::<16>().map_err(|error| match error {
            BackupReadError::CutOff { .. } => BackupReadError::NoBackup,
            error => error,
        })?;
        if magic != *MAGIC {
            return Err(BackupReadError::NoBackup);
        }
        let found = u32::from_be_bytes(blocks.take()?);
        if found != BACKUP_FORMAT {
            return Err(BackupReadError::Version { found });
        }
        let block = blocks.block()?;
        let damaged = BackupReadError::Damaged { at: block.at, what: "it does not begin with a head" };
        let head = Some(&block.payload).filter(|_| block.kind == BlockKind::Head);
        blocks.head = head.and_then(|payload| Head::decode(payload)).ok_or(damaged)?;
        Ok(blocks)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last block, once all others were read.
    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// The next block of entries; `None` behind the last one, when all checksums were right.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, BackupReadError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let block = self.block()?;
        if block.kind < self.last || block.kind == BlockKind::Head {
            return Err(BackupReadError::Damaged { at: block.at, what: "a block is out of order" });
        }
        self.last = block.kind;
        if block.kind != BlockKind::End {
            return Ok(Some(block));
        }
        let end = End::decode(&block.payload);
        let wrong = BackupReadError::Damaged { at: block.at, what: "its last block does not decode" };
        self.end = Some(end.ok_or(wrong)?);
        let behind = self.bytes;
        match self.take::<1>() {
            Err(BackupReadError::CutOff { .. }) => Ok(None),
            Ok(_) => Err(BackupReadError::Damaged { at: behind, what: "something follows its last block" }),
            Err(error) => Err(error),
        }
    }

    fn block(&mut self) -> Result<Block, BackupReadError> {
        let at = self.bytes;
        let damaged = |what| BackupReadError::Damaged { at, what };
        let [number] = self.take()?;
        let length = u32::from_be_bytes(self.take()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= BLOCK_BYTES_MAX);
        let mut payload = Vec::new();
        let length = length.ok_or(damaged("a block is too long"))?;
        // What is not there is not reserved either.
        let read =
            (&mut self.input).take(length as u64).read_to_end(&mut payload).map_err(BackupReadError::Io)?;
        self.bytes += read as u64;
        if read < length {
            return Err(BackupReadError::CutOff { bytes: self.bytes });
        }
        let checksum: [u8; CHECKSUM_BYTES] = self.take()?;
        if self.chain.next(number, &payload) != checksum {
            return Err(damaged("a checksum is wrong"));
        }
        let kind = BlockKind::from_number(number).ok_or(damaged("a block of an unknown kind"))?;
        Ok(Block { kind, payload, at })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BackupReadError> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => return Err(BackupReadError::CutOff { bytes: self.bytes + filled as u64 }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BackupReadError::Io(error)),
            }
        }
        self.bytes += N as u64;
        Ok(bytes)
    }
}

/// What a backup says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The cluster.
    pub cluster: ClusterId,
    /// The replica that it was made of.
    pub replica: ReplicaId,
    /// When it was begun, in Unix milliseconds, by the clock of whoever made it.
    pub unix_ms: u64,
    /// The position of its last frame in the log that it was made of.
    pub position: u64,
    /// The rows in it.
    pub rows: u64,
    /// The frames in it.
    pub frames: u64,
    /// The keyspaces in it.
    pub keyspaces: u64,
    /// Its length.
    pub bytes: u64,
}

impl BackupSummary {
    pub(crate) fn new(head: &Head, end: &End, bytes: u64) -> Self {
        let End { position, rows, frames, keyspaces } = *end;
        let replica = head.card.replica();
        let (cluster, unix_ms) = (head.cluster, head.unix_ms);
        Self { cluster, replica, unix_ms, position, rows, frames, keyspaces, bytes }
    }
}

/// Reads a backup to its end and compares every checksum; says now and then how many bytes were read.
///
/// # Errors
/// [`BackupReadError`]: it cannot be restored.
pub fn inspect(input: impl Read, progress: &mut dyn FnMut(u64)) -> Result<BackupSummary, BackupReadError> {
    let mut blocks = Blocks::open(input)?;
    let (mut rows, mut frames) = (0, 0);
    while let Some(block) = blocks.next()? {
        block.entries::<BackupReadError>(|key, _| {
            let is_frame = block.kind == BlockKind::Log && key[0] == crate::schema::log_tag::RECORD;
            rows += u64::from(block.kind == BlockKind::Rows);
            frames += u64::from(is_frame);
            Ok(())
        })?;
        progress(blocks.bytes());
    }
    let end = blocks.end().expect("the last block was read");
    if (end.rows, end.frames) != (rows, frames) {
        return Err(BackupReadError::Damaged { at: blocks.bytes(), what: "it does not hold what it counts" });
    }
    Ok(BackupSummary::new(blocks.head(), &end, blocks.bytes()))
}
