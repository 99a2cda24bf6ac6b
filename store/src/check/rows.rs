//! Checking `rows.redb`: every entry has its checksum and decodes, and every derived figure is counted again
//! and compared with what is stored and with what the log gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tidelock_engine::causality::{Dot, Heads};
use tidelock_engine::ports::{Due, LogPosition, ReadError, Rows};
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};

use super::log::LogCheck;
use super::{Check, Progress};
use crate::blocks::read_heads;
use crate::key::{self, InternedRow};
use crate::rows::{RowsFile, damaged};
use crate::schema::{META_REPLICA, ROWS_FILE, SpaceState, read_state, read_u64, rows_tag, unseal};

/// The entries that are read at a time.
const ENTRIES_PER_CHUNK: usize = 1024;

/// What is stored about a keyspace, and what its rows come to.
#[derive(Default)]
struct Tally {
    stored: (Fingerprint, u64),
    stored_bytes: u64,
    counted_bytes: u64,
    heads: Heads,
    counted: (Fingerprint, u64),
}

/// The rows of a file that is being read in order.
pub(super) struct RowsCheck<'a, 'b> {
    log: &'a LogCheck<'b>,
    tallies: BTreeMap<u32, Tally>,
    members: BTreeMap<(u32, Vec<u8>, Kind), u64>,
    counted_members: BTreeMap<(u32, Vec<u8>, Kind), u64>,
    /// The row before: its keyspace and key, and whether that key was counted.
    key_before: Option<(u32, Vec<u8>, bool)>,
    group_before: Option<(u32, Vec<u8>, Kind, Vec<u8>)>,
    /// The keys of the entries that find deadlines, which come behind the rows.
    deadlines: BTreeSet<Vec<u8>>,
    deadlines_without_row: bool,
}

impl<'a, 'b> RowsCheck<'a, 'b> {
    /// Where the rows stand, if they are of this log.
    pub(super) fn position(rows: &RowsFile, log: &LogCheck<'_>) -> Result<LogPosition, ReadError> {
        let of = rows.file.meta(META_REPLICA)?;
        if !log.replicas()?.iter().any(|replica| of.as_deref() == Some(replica.as_bytes())) {
            return Err(damaged("it belongs to another store"));
        }
        let end = log.end();
        let position = rows.position()?;
        if position > end { Err(damaged("it is ahead of the log")) } else { Ok(position) }
    }

    /// `log` has been read up to where the rows stand.
    pub(super) fn new(log: &'a LogCheck<'b>) -> Self {
        let numbers = (0..).zip(log.names().keyspaces()).map(|(number, _)| (number, Tally::default()));
        Self {
            log,
            tallies: numbers.collect(),
            members: BTreeMap::new(),
            counted_members: BTreeMap::new(),
            key_before: None,
            group_before: None,
            deadlines: BTreeSet::new(),
            deadlines_without_row: false,
        }
    }

    pub(super) fn run(mut self, rows: &RowsFile, check: &mut Check<'_>) {
        if let Err(error) = self.read(rows, check) {
            check.damage(ROWS_FILE, &error);
            return;
        }
        self.compare(check);
    }

    fn read(&mut self, rows: &RowsFile, check: &mut Check<'_>) -> Result<(), ReadError> {
        let table = rows.table()?;
        let mut from = Bound::Included(Vec::new());
        loop {
            let (entries, has_more) =
                table.range(from.as_ref().map(Vec::as_slice), &[0xff], ENTRIES_PER_CHUNK)?;
            for (key, sealed) in &entries {
                let is_read = unseal(key, sealed).and_then(|value| self.entry(key, value));
                check
                    .expect(is_read.is_some(), ROWS_FILE, || format!("the entry {key:02x?} does not decode"));
                match key.first() {
                    Some(&rows_tag::ROW) => check.report.rows += 1,
                    Some(&rows_tag::HEAD) => check.report.vector_bytes += (key.len() + sealed.len()) as u64,
                    _ => {}
                }
            }
            (check.progress)(Progress::Rows { done: check.report.rows });
            match entries.into_iter().last() {
                Some((last, _)) if has_more => from = Bound::Excluded(last),
                _ => return Ok(()),
            }
        }
    }

    /// Takes in one entry; `None` if it makes no sense.
    fn entry(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match *key.first()? {
            rows_tag::POSITION => read_u64(value).map(|_| ()),
            rows_tag::STATE => {
                let keyspace = key::read_state_keyspace(key)?;
                let SpaceState { fingerprint, keys, bytes, .. } = read_state(value)?;
                let tally = self.tallies.get_mut(&keyspace)?;
                (tally.stored, tally.stored_bytes) = ((fingerprint, keys), bytes);
                Some(())
            }
            rows_tag::HEAD => {
                let (keyspace, heads) = read_heads(key, value)?;
                let tally = self.tallies.get_mut(&keyspace)?;
                for (author, head) in heads {
                    tally.heads.advance(self.log.names().replica(author)?, head);
                }
                Some(())
            }
            rows_tag::MEMBERS => {
                self.members.insert(key::read_members(key)?, read_u64(value)?);
                Some(())
            }
            rows_tag::ROW => self.row(key::read_row(key)?, value),
            rows_tag::DEADLINE => {
                let (keyspace, due, author, seq) = key::read_deadline(key)?;
                let is_there = self.deadlines.remove(&key::deadline(keyspace, &due, author, seq));
                let is_held = self.log.names().is_held(keyspace);
                self.deadlines_without_row |= is_held && !is_there;
                value.is_empty().then_some(())
            }
            _ => None,
        }
    }

    /// Rows come in order, so a key or group begins where it differs from the one before.
    fn row(&mut self, row: InternedRow, value: &[u8]) -> Option<()> {
        let InternedRow { keyspace, key, kind, subkey, author, seq } = row;
        let payload = Payload::decode(kind, value).ok()?;
        let dot = Dot::new(self.log.names().replica(author)?, seq);
        let tally = self.tallies.get_mut(&keyspace)?;
        let was_counted = match &self.key_before {
            Some((of, before, was_counted)) if *of == keyspace && *before == key => *was_counted,
            _ => false,
        };
        if payload.is_live() && !was_counted {
            tally.counted.1 += 1;
        }
        self.key_before = Some((keyspace, key.clone(), was_counted || payload.is_live()));
        tally.counted_bytes += (key.len() + subkey.len() + payload.bytes()) as u64;
        let group = (keyspace, key.clone(), kind, subkey.clone());
        if kind.has_members() && self.group_before.as_ref() != Some(&group) {
            *self.counted_members.entry((keyspace, key.clone(), kind)).or_default() += 1;
        }
        self.group_before = Some(group);
        if let Payload::Deadline(unix_ms) = payload {
            let due = Due { unix_ms, key: key.clone() };
            self.deadlines.insert(key::deadline(keyspace, &due, author, seq));
        }
        tally.counted.0.insert(&RowId { key, kind, subkey, dot }, &payload);
        Some(())
    }

    fn compare(self, check: &mut Check<'_>) {
        let is_held = |(keyspace, ..): &&(u32, Vec<u8>, Kind)| self.log.names().is_held(*keyspace);
        let stored = self.members.iter().filter(|(of, _)| is_held(of));
        let counted = self.counted_members.iter().filter(|(of, _)| is_held(of));
        check.expect(stored.eq(counted), ROWS_FILE, || {
            "the number of members of some set or map is wrong".to_owned()
        });
        let are_found = self.deadlines.is_empty() && !self.deadlines_without_row;
        check.expect(are_found, ROWS_FILE, || "the order of deadlines is not that of the rows".to_owned());
        let applied = self.log.applied();
        for (number, keyspace, name) in self.log.names().held() {
            let Some(tally) = self.tallies.get(&number) else { continue };
            let Tally { stored, heads, counted, stored_bytes, counted_bytes } = tally;
            check.expect(stored_bytes == counted_bytes, ROWS_FILE, || {
                format!("{name} takes {counted_bytes} bytes, but counts {stored_bytes}")
            });
            check.expect(stored.0 == counted.0, ROWS_FILE, || {
                format!("the fingerprint of {name} is not that of its rows")
            });
            check.expect(stored.1 == counted.1, ROWS_FILE, || {
                format!("{name} has {} keys, but counts {}", counted.1, stored.1)
            });
            let Some((store, states)) = &applied else { continue };
            let state = states.get(name).cloned().unwrap_or_default();
            check.expect(state.heads == *heads, ROWS_FILE, || {
                format!("the heads of {name} are not the log's")
            });
            check.expect(state.fingerprint == counted.0, ROWS_FILE, || {
                format!("the rows of {name} are not what its frames give")
            });
            let keys = store.keys(keyspace).expect("a store in memory can be read");
            check.expect(keys == counted.1, ROWS_FILE, || {
                format!("{name} has {} keys, its frames give {keys}", counted.1)
            });
        }
    }
}
