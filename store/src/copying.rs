//! A copy of a redb file with what it holds and nothing else, which then takes its place.
//!
//! redb reuses the pages that it frees and hardly ever gives them back. Its own compaction needs a file that
//! nobody reads, for as long as it takes; so the entries are copied to a new file beside, in order and piece by
//! piece, while the old one is read and written. What is written meanwhile to the part that is copied already is
//! noted, and done to the copy, too. In the end one rename puts the copy in the place of the file: a crash leaves
//! the one or the other, both whole, and a copy that was begun only is removed at the next opening.
//!
//! Nothing damaged is copied: each entry has its checksum, and a copy must come to as many entries as redb
//! counts in the file. A copy that did not become smaller is given up.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use redb::{Durability, ReadableTableMetadata};
use tidelock_engine::ports::ReadError;

use crate::database::{Entries, File, Opening, put, reading};
use crate::disk::FileIdentity;
use crate::open::OpenError;
use crate::schema::{ENTRIES, META, META_FILE, META_LIVE, ROWS_FILE, unseal};

/// What is copied at a time, in bytes; whoever writes to the file waits while so much is read.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// After so many bytes the copy is synced, so that little is left to be synced while writers wait.
const SYNC_BYTES: usize = 64 << 20;

/// A copy of so many bytes at most is compacted by redb, too, which a file of this length shows most: redb makes one of
/// a megabyte, doubles it, and cuts off what is free at its end only. More would keep writers waiting.
const COMPACT_BYTES_MAX: u64 = 4 << 20;

/// What may be noted between two pieces, in bytes. A copy that comes behind further is given up.
const NOTED_BYTES_MAX: usize = 64 << 20;

/// Sealed entries in order.
type Piece = Vec<(Vec<u8>, Vec<u8>)>;

/// What whoever writes to a file tells a copy of it that is being made; there is none most of the time.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    following: Option<Following>,
}

#[derive(Debug, Default)]
struct Following {
    /// The last key that is copied.
    last: Option<Vec<u8>>,
    /// What was written up to there since; `None` for what was removed.
    noted: Noted,
    noted_bytes: usize,
    copied: u64,
    piece_bytes: usize,
}

type Noted = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Follower {
    /// Tells of an entry that was written, or removed. It is committed already.
    pub(crate) fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(following) = &mut self.following else { return };
        // What is not copied yet will be copied as it is then.
        if following.last.as_deref().is_none_or(|last| key > last) {
            return;
        }
        following.noted_bytes += key.len() + value.map_or(0, <[u8]>::len);
        following.noted.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        if following.noted_bytes > NOTED_BYTES_MAX {
            self.lose();
        }
    }

    /// Whether anything needs to be noted.
    pub(crate) fn is_following(&self) -> bool {
        self.following.is_some()
    }

    /// The entries that are copied.
    pub(crate) fn copied(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| following.copied)
    }

    /// Begins a copy in pieces of about so many bytes.
    pub(crate) fn begin(&mut self, piece_bytes: usize) {
        self.following = Some(Following { piece_bytes, ..Following::default() });
    }

    /// Ends it: the copy is finished, was given up, or can no longer be made.
    pub(crate) fn lose(&mut self) {
        self.following = None;
    }

    /// What is to be done to the copy next; `None` if it was lost. The caller keeps writers out.
    pub(crate) fn next(&mut self, file: &File) -> Result<Option<Next>, ReadError> {
        let Some(following) = &mut self.following else { return Ok(None) };
        let piece = read(file, following.last.as_deref(), following.piece_bytes)?;
        if let Some((last, _)) = piece.last() {
            following.last = Some(last.clone());
        }
        following.copied += piece.len() as u64;
        following.noted_bytes = 0;
        Ok(Some(Next { noted: std::mem::take(&mut following.noted), piece }))
    }
}

/// What is done to a copy in one transaction.
#[derive(Debug)]
pub(crate) struct Next {
    noted: Noted,
    piece: Piece,
}

impl Next {
    /// Whether all of the file was copied at this moment.
    pub(crate) fn is_last(&self) -> bool {
        self.piece.is_empty()
    }
}

/// The copy.
#[derive(Debug)]
pub(crate) struct Copy {
    file: File,
    /// The bytes of all keys and values.
    live_bytes: u64,
    unsynced_bytes: usize,
}

impl Copy {
    /// Begins an empty one. Its errors reach nobody but its maker: `opening` has a write guard of its own.
    pub(crate) fn begin(opening: &Opening<'_>) -> Result<Self, OpenError> {
        let file = opening.begin_new()?;
        Ok(Self { file, live_bytes: 0, unsynced_bytes: 0 })
    }

    /// Adds what comes next.
    pub(crate) fn add(&mut self, next: &Next) -> io::Result<()> {
        let of_piece: usize = next.piece.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.unsynced_bytes += of_piece;
        let is_synced = self.unsynced_bytes >= SYNC_BYTES || next.is_last();
        if is_synced {
            self.unsynced_bytes = 0;
        }
        let durability = if is_synced { Durability::Immediate } else { Durability::None };
        self.write(durability, next)
    }

    /// Adds all that is left. The caller keeps writers out.
    pub(crate) fn complete<E: From<OpenError>>(
        &mut self,
        next: &mut dyn FnMut() -> Result<Next, E>,
    ) -> Result<(), E> {
        loop {
            let next = next()?;
            self.add(&next).map_err(|source| OpenError::Io { file: self.file.name(), source })?;
            if next.is_last() {
                return Ok(());
            }
        }
    }

    /// Puts the copy, which is complete, in the place of `file`, if it is shorter than so many bytes; answers whether
    /// it is. The caller keeps writers out.
    ///
    /// # Errors
    /// [`ReplaceError`] says whether the file has its place still.
    pub(crate) fn replace(
        mut self,
        opening: &Opening<'_>,
        file: &File,
        below_bytes: u64,
    ) -> Result<bool, ReplaceError> {
        if count(&self.file.entries()?)? != count(&file.entries()?)? {
            return Err(OpenError::damaged(opening.name, "it counts more entries than it holds").into());
        }
        let mut meta = meta_of_copy(opening, file)?;
        if opening.name == ROWS_FILE {
            meta.retain(|(key, _)| key != META_LIVE);
            meta.push((META_LIVE.to_owned(), self.live_bytes.to_be_bytes().to_vec()));
        }
        let write = |transaction: &redb::WriteTransaction| {
            let mut table = transaction.open_table(META)?;
            for (key, value) in &meta {
                table.insert(&key[..], &value[..])?;
            }
            Ok(())
        };
        let io = |source| opening.io(source);
        self.file.write(Durability::Immediate, write).map_err(io)?;
        if self.file.size().map_err(io)? <= COMPACT_BYTES_MAX {
            self.file.compact()?;
        }
        // Closing it cuts off what is free at its end.
        drop(self.file);
        let new_name = opening.new_name();
        let copy_bytes = opening.disk.open(&new_name).and_then(|copy| copy.size()).map_err(io)?;
        if copy_bytes >= below_bytes {
            return Ok(false);
        }
        let renamed = opening.disk.rename(&new_name, opening.name).map_err(|source| {
            match opening.disk.exists(&new_name) {
                Ok(true) => ReplaceError::Unchanged(opening.io(source)),
                // The copy has the name, and may lose it in a power cut.
                _ => ReplaceError::Unknown(source),
            }
        });
        renamed.map(|()| true)
    }

    fn write(&mut self, durability: Durability, next: &Next) -> io::Result<()> {
        let mut grown = 0;
        self.file.write(durability, |transaction| {
            let mut entries = transaction.open_table(ENTRIES)?;
            for (key, value) in &next.noted {
                grown += put(&mut entries, key, value.as_deref())?;
            }
            for (key, value) in &next.piece {
                grown += put(&mut entries, key, Some(value))?;
            }
            Ok(())
        })?;
        self.live_bytes = self.live_bytes.saturating_add_signed(grown);
        Ok(())
    }
}

/// Why a copy did not take the place of its file.
#[derive(Debug)]
pub(crate) enum ReplaceError {
    /// The file is as it was.
    Unchanged(OpenError),
    /// The copy was renamed, and the disk did not say that this is durable.
    Unknown(io::Error),
}

impl From<ReadError> for ReplaceError {
    fn from(error: ReadError) -> Self {
        Self::Unchanged(error.into())
    }
}

impl From<OpenError> for ReplaceError {
    fn from(error: OpenError) -> Self {
        Self::Unchanged(error)
    }
}

/// The number of entries, as redb counts them.
pub(crate) fn count(entries: &Entries) -> Result<u64, ReadError> {
    reading("the store", || Ok::<_, redb::Error>(entries.len()?))
}

/// The `meta` of a file, as its copy must have it: a store that was made in that file was made in the copy, and one
/// that was copied by others stays a copy. A file that was removed is the own one of whoever has it open.
fn meta_of_copy(opening: &Opening<'_>, file: &File) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
    let identity = |name: &str| opening.disk.identity(name).map_err(|source| opening.io(source));
    let mut meta = file.all_meta()?;
    if let Some((_, recorded)) = meta.iter_mut().find(|(key, _)| key == META_FILE) {
        let copy = identity(&opening.new_name())?;
        let is_there = opening.disk.exists(opening.name).map_err(|source| opening.io(source))?;
        let is_own = !is_there
            || FileIdentity::from_bytes(recorded)
                .zip(identity(opening.name)?)
                .is_some_and(|(recorded, file)| recorded.is_same_file(&file));
        if let Some(copy) = copy.filter(|_| is_own) {
            *recorded = copy.to_bytes();
        }
    }
    Ok(meta)
}

/// The entries behind `last`, up to about so many bytes.
fn read(file: &File, last: Option<&[u8]>, bytes_max: usize) -> Result<Piece, ReadError> {
    let entries = file.entries()?;
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    let piece = reading(file.name(), || {
        let (mut piece, mut bytes) = (Piece::new(), 0);
        for item in entries.range::<&[u8]>((from, Bound::Unbounded))? {
            let (key, value) = item?;
            bytes += key.value().len() + value.value().len();
            piece.push((key.value().to_vec(), value.value().to_vec()));
            if bytes >= bytes_max {
                break;
            }
        }
        Ok::<_, redb::Error>(piece)
    })?;
    if piece.iter().all(|(key, value)| unseal(key, value).is_some()) {
        return Ok(piece);
    }
    Err(ReadError::Damaged { file: file.name(), what: "the checksum of an entry is wrong".to_owned() })
}
