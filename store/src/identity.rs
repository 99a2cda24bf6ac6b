//! Whose operations a store writes, and when it must write as somebody else.
//!
//! A dot is never used twice. A copy of a store holds all that the original had written, and does not know what
//! the original wrote since; so a store that was copied, restored or proven to have two histories takes a new
//! replica before its next operation. What it wrote before stays as it is, under the old name: frames, rows,
//! version vectors. The old replica is an author like any other then, whose later frames come from peers.
//!
//! The same holds for what the store has of a Raft group: another replica is another anchor, if it is any. So votes,
//! log and membership are forgotten in the commit of the change.
//!
//! The change is one commit of the log. `rows.redb` follows: it says which replica's log it belongs to, and a crash
//! in between is made good at the next opening, because the log names the former one.

use std::sync::Arc;

use redb::Durability;
use tidelock_engine::id::{AuthorCard, KeyspaceId, ReplicaId};
use tidelock_engine::ports::{CommitError, Fork, ReadError};

use crate::blocks::block_of;
use crate::database::Opening;
use crate::disk::FileIdentity;
use crate::log::{Entry, LogFile, cards_entry, damaged};
use crate::names::Names;
use crate::open::OpenError;
use crate::raft;
use crate::rows::RowsFile;
use crate::schema::{
    ENTRIES, LOG_FILE, META, META_CARD, META_FILE, META_FORK, META_FORMER, META_REPLICA, card_value,
    read_u64, seal,
};
use crate::store::Shared;

/// From one replica to another.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    former: ReplicaId,
    card: &'a AuthorCard,
    /// The cards of its block of authors, as an entry.
    cards: Entry,
}

impl<'a> Change<'a> {
    /// The change from `former` to the replica that `card` proves, which is added to the names; `None` if it is
    /// among them already, and so must not be taken.
    pub(crate) fn new(names: &mut Names, former: ReplicaId, card: &'a AuthorCard) -> Option<Self> {
        let block = block_of(names.add_author(*card)?);
        Some(Self { former, card, cards: cards_entry(block, names.block(block)) })
    }

    /// Writes it, and which file the log is now.
    pub(crate) fn write(&self, log: &LogFile, file: Option<FileIdentity>) -> std::io::Result<()> {
        log.file.write(Durability::Immediate, |transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_CARD, &card_value(self.card)[..])?;
            meta.insert(META_FORMER, &self.former.as_bytes()[..])?;
            // Whatever was found out concerns the former one.
            meta.remove(META_FORK)?;
            if let Some(file) = file {
                meta.insert(META_FILE, &file.to_bytes()[..])?;
            }
            let mut entries = transaction.open_table(ENTRIES)?;
            let (key, value) = &self.cards;
            let value = seal(key, value.clone());
            entries.insert(&key[..], &value[..])?;
            // The original votes on, and who votes twice in a term lets two anchors lead.
            raft::forget(&mut entries)
        })
    }
}

/// Finds out whether the log is in the file that it was made in. If it is not, this store is a copy, and becomes
/// the replica that `fresh` proves.
///
/// # Errors
/// [`OpenError::UsedCard`]: `fresh` names a replica that has written already.
pub(crate) fn settle(
    opening: &Opening<'_>,
    log: &LogFile,
    names: &mut Names,
    (own, fresh): (AuthorCard, &AuthorCard),
) -> Result<AuthorCard, OpenError> {
    let Some(actual) = opening.disk.identity(LOG_FILE).map_err(|source| opening.io(source))? else {
        return Ok(own);
    };
    let recorded = log.file.meta(META_FILE)?;
    let Some(recorded) = recorded.as_deref().map(FileIdentity::from_bytes) else {
        let write = |transaction: &redb::WriteTransaction| {
            transaction.open_table(META)?.insert(META_FILE, &actual.to_bytes()[..])?;
            Ok(())
        };
        log.file.write(Durability::Immediate, write).map_err(|source| opening.io(source))?;
        return Ok(own);
    };
    let recorded =
        recorded.ok_or_else(|| OpenError::damaged(LOG_FILE, "it does not say which file it is"))?;
    if recorded.is_same_file(&actual) {
        return Ok(own);
    }
    let change = Change::new(names, own.replica(), fresh).ok_or(OpenError::UsedCard)?;
    change.write(log, Some(actual)).map_err(|source| opening.io(source))?;
    tracing::warn!(
        former = %own.replica(), replica = %fresh.replica(),
        "this store is a copy, so it writes as another replica from now on"
    );
    Ok(*fresh)
}

/// The replica that the store was before the one it is, if there was one.
pub(crate) fn former(log: &LogFile) -> Result<Option<ReplicaId>, ReadError> {
    let former = log.file.meta(META_FORMER)?;
    Ok(former.and_then(|bytes| Some(ReplicaId::from_bytes(bytes.try_into().ok()?))))
}

/// Where `replica`, which the store is, was found to have two histories.
pub(crate) fn fork(log: &LogFile, replica: ReplicaId) -> Result<Option<Fork>, ReadError> {
    let Some(bytes) = log.file.meta(META_FORK)? else { return Ok(None) };
    let fork = bytes.split_first_chunk().and_then(|(keyspace, seq)| {
        Some(Fork { replica, keyspace: KeyspaceId::from_bytes(*keyspace), seq: read_u64(seq)? })
    });
    fork.map(Some).ok_or_else(|| damaged("where its replica forked"))
}

/// Whether the rows are of this log: of the replica that it is, or of the former one. Then the change of the
/// replica is made good.
pub(crate) fn adopt_rows(
    rows: &RowsFile,
    replica: ReplicaId,
    former: Option<ReplicaId>,
) -> Result<bool, std::io::Error> {
    let Ok(Some(of)) = rows.file.meta(META_REPLICA) else { return Ok(false) };
    if of == replica.as_bytes() {
        return Ok(true);
    }
    if former.is_none_or(|former| of != former.as_bytes()) {
        return Ok(false);
    }
    name_rows(rows, replica)?;
    Ok(true)
}

impl Shared {
    /// Makes the store another replica's while it is open.
    pub(crate) fn rejoin(&self, card: &AuthorCard) -> Result<(), CommitError> {
        // The rows become durable with their new name, and must not be ahead of the log.
        self.sync()?;
        let _rounds = self.rounds();
        let mut writer = self.writer();
        // It writes entries that a copy of the log would not hear of.
        writer.copy.lose();
        self.log.write_out(Durability::Immediate, &mut writer.copy)?;
        let (mut names, former) = {
            let published = self.published();
            (Names::clone(&published.names), published.card.replica())
        };
        let change = Change::new(&mut names, former, card).expect("the new replica never wrote anything");
        let written = change.write(&self.log, None).and_then(|()| name_rows(&self.rows, card.replica()));
        if let Err(source) = written {
            self.guard.freeze(LOG_FILE, source);
        }
        self.guard.check_written()?;
        let mut published = self.published_mut();
        (published.names, published.card, published.fork) = (Arc::new(names), *card, None);
        (published.anchor, published.raft) = (None, published.raft.forgotten());
        Ok(())
    }

    /// Remembers that the store's replica has two histories.
    pub(crate) fn keep_fork(&self, fork: &Fork) -> Result<(), CommitError> {
        let _writer = self.writer();
        self.log.file.commit(&self.guard, Durability::Immediate, |transaction| {
            let value = [fork.keyspace.as_bytes(), &fork.seq.to_be_bytes()[..]].concat();
            transaction.open_table(META)?.insert(META_FORK, &value[..])?;
            Ok(())
        })?;
        self.published_mut().fork = Some(*fork);
        Ok(())
    }
}

/// Says that the rows are of the log of `replica`. All of the log that they follow from must be durable.
pub(crate) fn name_rows(rows: &RowsFile, replica: ReplicaId) -> std::io::Result<()> {
    rows.file.write(Durability::Immediate, |transaction| {
        transaction.open_table(META)?.insert(META_REPLICA, &replica.as_bytes()[..])?;
        Ok(())
    })
}
