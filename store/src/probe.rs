//! The entries of both files as readers take them apart, for the fuzz targets: bytes in, bytes out, no file.
//!
//! Hidden from the documentation and no part of what this crate promises. Each function reads an entry with the
//! functions that the store reads with, and answers the key and value that the store would write for what it
//! read, so that whoever calls it sees whether the two agree.

use tidelock_engine::causality::Dot;
use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::ports::{LogEntry, LogPosition, LogRecord, MODE_BYTES_MAX};
use tidelock_engine::row::{Payload, RowId};
use tidelock_engine::staged::{Piece, Staged};

use crate::blocks::{
    cards_value, floors_value, heads_block_of, heads_value, read_cards, read_floors, read_heads,
};
use crate::key;
use crate::log::{decode_record, header};
use crate::raft::{self, Place};
use crate::schema::{
    self, EXPIRY_KEY, MODE_PREFIX, cards_key, floors_key, index_key, keyspace_key, log_tag, mode_key,
    read_floors_key, read_mode_key, read_settings, read_settings_key, read_state, read_u64, record_key,
    record_value, rows_tag, settings_key, settings_value, state_value, unseal,
};

/// Key and value without its checksum.
type Entry = (Vec<u8>, Vec<u8>);

/// A value with its checksum.
pub fn seal(key: &[u8], value: Vec<u8>) -> Vec<u8> {
    schema::seal(key, value)
}

/// An entry of `rows.redb`.
pub fn rows_entry(key: &[u8], sealed: &[u8]) -> Option<Entry> {
    let value = unseal(key, sealed)?;
    match *key.first()? {
        rows_tag::POSITION => Some((key::position(), read_u64(value)?.to_be_bytes().to_vec())),
        rows_tag::STATE => {
            let state = read_state(value)?;
            Some((key::state(key::read_state_keyspace(key)?), state_value(state)))
        }
        rows_tag::HEAD => {
            let (keyspace, heads) = read_heads(key, value)?;
            let block = heads_block_of(heads.first()?.0);
            Some((key::heads_of(keyspace, block), heads_value(&heads)))
        }
        rows_tag::MEMBERS => {
            let (keyspace, user_key, kind) = key::read_members(key)?;
            Some((key::members(keyspace, &user_key, kind), read_u64(value)?.to_be_bytes().to_vec()))
        }
        rows_tag::DEADLINE => {
            let (keyspace, due, author, seq) = key::read_deadline(key)?;
            value.is_empty().then(|| (key::deadline(keyspace, &due, author, seq), Vec::new()))
        }
        rows_tag::ORDER => {
            let (keyspace, user_key, milestone) = key::read_order(key)?;
            let count = key::read_order_value(milestone.height, value)?;
            Some((key::order(keyspace, &user_key, &milestone), key::order_value(milestone.height, count)))
        }
        rows_tag::ROW => {
            let row = key::read_row(key)?;
            let payload = Payload::decode(row.kind, value).ok()?;
            // Which replica a number stands for is not known here, and is not written either.
            let dot = Dot::new(ReplicaId::from_bytes([0; 16]), row.seq);
            let id = RowId { key: row.key, kind: row.kind, subkey: row.subkey, dot };
            let mut value = Vec::new();
            payload.encode_into(&mut value);
            Some((key::row(row.keyspace, &id, row.author), value))
        }
        _ => None,
    }
    .filter(|(again, _)| key[0] != rows_tag::POSITION || again == key)
}

/// An entry of `log.redb`.
pub fn log_entry(key: &[u8], sealed: &[u8]) -> Option<Entry> {
    let (tag, rest) = key.split_first()?;
    match *tag {
        log_tag::CLOCK if rest.is_empty() => {
            Some((vec![log_tag::CLOCK], read_u64(unseal(key, sealed)?)?.to_be_bytes().to_vec()))
        }
        log_tag::CLOCK if key == EXPIRY_KEY => {
            Some((EXPIRY_KEY.to_vec(), read_u64(unseal(key, sealed)?)?.to_be_bytes().to_vec()))
        }
        log_tag::CLOCK if key.starts_with(&MODE_PREFIX) => {
            let (name, mode) = (read_mode_key(key)?, unseal(key, sealed)?);
            (mode.len() <= MODE_BYTES_MAX).then(|| (mode_key(&name), mode.to_vec()))
        }
        log_tag::RAFT => {
            let (place, value) = (raft::read_key(key)?, unseal(key, sealed)?);
            let key = match place {
                Place::Row(row) => raft::row_key(row),
                Place::Entry(index) => raft::entry_key(index),
            };
            raft::is_value(place, value).then(|| (key, value.to_vec()))
        }
        log_tag::CARD => {
            let block = u32::from_be_bytes(rest.try_into().ok()?);
            Some((cards_key(block), cards_value(&read_cards(unseal(key, sealed)?)?)))
        }
        log_tag::KEYSPACE if read_settings_key(key).is_some() => {
            let remembered = read_settings(unseal(key, sealed)?)?;
            Some((settings_key(read_settings_key(key)?), settings_value(&remembered)))
        }
        log_tag::KEYSPACE => {
            let keyspace = u32::from_be_bytes(rest.try_into().ok()?);
            let name: KeyspaceName =
                String::from_utf8(unseal(key, sealed)?.to_vec()).ok()?.try_into().ok()?;
            Some((keyspace_key(keyspace), name.as_str().as_bytes().to_vec()))
        }
        log_tag::INDEX => {
            let (keyspace, rest) = rest.split_first_chunk()?;
            let (author, last) = rest.split_first_chunk()?;
            let position = LogPosition(read_u64(unseal(key, sealed)?)?);
            let (keyspace, author) = (u32::from_be_bytes(*keyspace), u32::from_be_bytes(*author));
            Some((index_key(keyspace, author, read_u64(last)?), position.0.to_be_bytes().to_vec()))
        }
        log_tag::FLOOR => {
            let (keyspace, block) = read_floors_key(key)?;
            let floors = read_floors(unseal(key, sealed)?)?;
            Some((floors_key(keyspace, block), floors_value(&floors)))
        }
        log_tag::RECORD => {
            let LogRecord { position, clock, total_bytes, entry } = decode_record(key, sealed).ok()?;
            let is_one = match &entry {
                LogEntry::Frame(bytes) => {
                    let header = header(bytes).ok()?;
                    // As a reader looks for an operation in it.
                    (header.first..=header.last()).contains(&header.first)
                }
                // As a replay applies it.
                LogEntry::Install(bytes) => Install::decode(bytes).is_ok(),
                LogEntry::Staged(bytes) => match Staged::decode(bytes).ok()?.piece {
                    Piece::Rows(rows) => rows.read().is_ok(),
                    Piece::Frames(_) | Piece::End(_) => true,
                },
                LogEntry::Dropped => true,
            };
            is_one.then(|| (record_key(position.0), record_value(clock, total_bytes, &entry)))
        }
        _ => None,
    }
}
