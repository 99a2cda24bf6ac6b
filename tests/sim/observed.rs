//! What a replica does read: from its rows, and through the queries that users have.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{ReadError, RowRange, Rows, Within};
use tidelock_engine::read::answer;
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};

use crate::answers::{self, Shown};
use crate::specification::Reads;

/// All rows of a keyspace, in the order in which the store shows them.
pub type RowList = Vec<(RowId, Payload)>;

/// Reads all rows of a keyspace.
///
/// # Errors
/// As the store's.
pub fn all_rows(store: &dyn Rows, keyspace: KeyspaceId) -> Result<RowList, ReadError> {
    let mut rows = Vec::new();
    store.scan(keyspace, &RowRange::all(Within::Keyspace), &mut |row, payload| {
        rows.push((row, payload));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// The fingerprint of rows.
pub fn fingerprint(rows: &RowList) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    rows.iter().for_each(|(row, payload)| fingerprint.insert(row, payload));
    fingerprint
}

/// The reads that follow from rows.
pub fn from_rows(rows: &RowList) -> Reads {
    let mut reads = Reads::new();
    let is_read = |payload: &Payload| payload.is_live() || matches!(payload, Payload::Deadline(_));
    for (row, payload) in rows.iter().filter(|(_, payload)| is_read(payload)) {
        let key = reads.entry(row.key.clone()).or_default();
        match payload {
            Payload::Value { stamp, value } if row.kind == Kind::Register => {
                key.register.insert((stamp.hlc, row.dot, value.clone()));
            }
            Payload::Value { stamp, value } if row.kind == Kind::Sorted => {
                let member = key.scores.entry(row.subkey.clone()).or_default();
                member.insert((stamp.hlc, row.dot, value.clone()));
            }
            Payload::Value { stamp, value } => {
                let field = key.fields.entry(row.subkey.clone()).or_default();
                field.insert((stamp.hlc, row.dot, value.clone()));
            }
            Payload::Slot(slot) => key.counted = Some(key.counted.unwrap_or(0) + slot.contribution()),
            Payload::Member => drop(key.elements.insert(row.subkey.clone())),
            Payload::Chunk(chunk) => drop(key.changes.insert(row.dot, chunk.clone())),
            Payload::Deadline(unix_ms) => drop(key.deadlines.insert((*unix_ms, row.dot))),
            Payload::Retired { .. } | Payload::Outcome { .. } => {}
        }
    }
    reads
}

/// Whether two slots of one replica are under one key.
pub fn has_two_slots(rows: &RowList) -> bool {
    let slots: Vec<&RowId> =
        rows.iter().map(|(row, _)| row).filter(|row| row.kind == Kind::Counter).collect();
    let owners: BTreeSet<_> = slots.iter().map(|row| (&row.key, row.dot.replica)).collect();
    owners.len() < slots.len()
}

/// The slots that count nothing any more.
pub fn spent_slots(rows: &RowList) -> impl Iterator<Item = &RowId> {
    let is_spent = |payload: &Payload| matches!(payload, Payload::Slot(slot) if !slot.is_live());
    rows.iter().filter(move |(_, payload)| is_spent(payload)).map(|(row, _)| row)
}

/// The replicas that were retired.
pub fn retired(rows: &RowList) -> BTreeSet<ReplicaId> {
    let of_kind = rows.iter().filter(|(row, _)| row.kind == Kind::Retired);
    of_kind.filter_map(|(row, _)| row.subkey.clone().try_into().ok().map(ReplicaId::from_bytes)).collect()
}

/// Compares what queries answer with what is shown.
///
/// # Errors
/// The first that differs.
pub fn check_queries(store: &dyn Rows, keyspace: KeyspaceId, shown: &Shown) -> Result<(), String> {
    shown
        .queries()
        .iter()
        .try_for_each(|query| answers::check(shown, query, answer(store, keyspace, query).as_ref()))
}
