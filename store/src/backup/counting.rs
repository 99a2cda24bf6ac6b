//! What rows come to: fingerprint, keys that exist, members of sets and maps. Rows are taken in order, and of the
//! members no more is kept than what is not finished.
//!
//! [`check`](crate::check()) counts for itself, so that it finds what is wrong here.

use std::collections::BTreeMap;

use tidelock_engine::causality::Dot;
use tidelock_engine::ports::Due;
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};

use crate::key::{self, InternedRow};
use crate::names::Names;
use crate::schema::seal;

/// Rows in order, and what they come to.
#[derive(Default)]
pub(super) struct Counting {
    pub(super) rows: u64,
    /// Fingerprint and keys of each keyspace.
    pub(super) sums: BTreeMap<u32, (Fingerprint, u64)>,
    /// The key of the row before, and whether it was counted.
    key: Option<(u32, Vec<u8>, bool)>,
    group: Option<(u32, Vec<u8>, Kind, Vec<u8>)>,
    /// The sets and maps whose rows were all read, with the last one, which may have more.
    members: BTreeMap<(u32, Vec<u8>, Kind), u64>,
    /// The keys of the entries that find deadlines.
    deadlines: Vec<Vec<u8>>,
}

impl Counting {
    /// Takes in a row; `None` if it makes no sense.
    pub(super) fn take(&mut self, names: &Names, key: &[u8], value: &[u8]) -> Option<()> {
        let InternedRow { keyspace, key, kind, subkey, author, seq } = key::read_row(key)?;
        let payload = Payload::decode(kind, value).ok()?;
        let dot = Dot::new(names.replica(author)?, seq);
        if let Payload::Deadline(unix_ms) = payload {
            let due = Due { unix_ms, key: key.clone() };
            self.deadlines.push(key::deadline(keyspace, &due, author, seq));
        }
        names.keyspaces().get(keyspace as usize)?;
        let sum = self.sums.entry(keyspace).or_default();
        let was_counted = match &self.key {
            Some((of, before, was_counted)) if *of == keyspace && *before == key => *was_counted,
            _ => false,
        };
        sum.1 += u64::from(payload.is_live() && !was_counted);
        self.key = Some((keyspace, key.clone(), was_counted || payload.is_live()));
        let group = (keyspace, key.clone(), kind, subkey.clone());
        if kind.has_members() && self.group.as_ref() != Some(&group) {
            *self.members.entry((keyspace, key.clone(), kind)).or_default() += 1;
        }
        self.group = Some(group);
        sum.0.insert(&RowId { key, kind, subkey, dot }, &payload);
        self.rows += 1;
        Some(())
    }

    /// The entries that follow from rows and will not change any more.
    pub(super) fn finished(&mut self, is_end: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
        let last = if is_end { None } else { self.members.pop_last() };
        let members = std::mem::replace(&mut self.members, last.into_iter().collect());
        let entry = |((keyspace, user_key, kind), count): ((u32, Vec<u8>, Kind), u64)| {
            let key = key::members(keyspace, &user_key, kind);
            let value = seal(&key, count.to_be_bytes().to_vec());
            (key, value)
        };
        let deadlines = std::mem::take(&mut self.deadlines).into_iter().map(|key| {
            let value = seal(&key, Vec::new());
            (key, value)
        });
        members.into_iter().map(entry).chain(deadlines).collect()
    }
}
