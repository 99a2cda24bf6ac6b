//! What a replica does read: from its rows, and through the queries that users have.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{ReadError, RowRange, Rows, Within};
use tidelock_engine::read::{Answer, KeyPage, Query, answer};
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};

use crate::specification::{KeyReads, Reads, Values};

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
    for (row, payload) in rows.iter().filter(|(_, payload)| payload.is_live()) {
        let key = reads.entry(row.key.clone()).or_default();
        match payload {
            Payload::Value { stamp, value } if row.kind == Kind::Register => {
                key.register.insert((stamp.hlc, row.dot, value.clone()));
            }
            Payload::Value { stamp, value } => {
                let field = key.fields.entry(row.subkey.clone()).or_default();
                field.insert((stamp.hlc, row.dot, value.clone()));
            }
            Payload::Slot(slot) => key.counted = Some(key.counted.unwrap_or(0) + slot.contribution()),
            Payload::Member => drop(key.elements.insert(row.subkey.clone())),
            Payload::Chunk(chunk) => drop(key.changes.insert(row.dot, chunk.clone())),
            Payload::Retired { .. } | Payload::Deadline(_) => {}
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

/// Compares every query with what it must answer.
///
/// # Errors
/// The first that differs.
pub fn check_queries(store: &dyn Rows, keyspace: KeyspaceId, expected: &Reads) -> Result<(), String> {
    let ask = |query: &Query| answer(store, keyspace, query).map_err(|error| format!("{query:?}: {error}"));
    for (key, reads) in expected {
        check_key(&ask, key, reads)?;
    }
    let keys: Vec<Vec<u8>> = expected.keys().cloned().collect();
    equal(&ask, &Query::Size, &Answer::Count(keys.len() as u64))?;
    for (number, key) in keys.iter().enumerate() {
        let after = number.checked_sub(1).map(|before| keys[before].clone());
        let page = Query::Keys(KeyPage { after, count: 1, ..KeyPage::default() });
        equal(&ask, &page, &Answer::List(vec![key.clone()]))?;
    }
    let page = Query::Keys(KeyPage { count: keys.len() + 1, ..KeyPage::default() });
    equal(&ask, &page, &Answer::List(keys))
}

fn check_key(
    ask: &dyn Fn(&Query) -> Result<Answer, String>,
    key: &[u8],
    reads: &KeyReads,
) -> Result<(), String> {
    let visible = reads.visible();
    equal(ask, &Query::Kind(key.to_vec()), &Answer::Kind(visible))?;
    match visible {
        None | Some(VisibleKind::Register | VisibleKind::Counter) => {
            equal(ask, &Query::Get(key.to_vec()), &Answer::Value(reads.shown()))
        }
        Some(VisibleKind::Set) => {
            let members: Vec<Vec<u8>> = reads.elements.iter().cloned().collect();
            for element in members.iter().take(3) {
                equal(ask, &Query::Contains(key.to_vec(), element.clone()), &Answer::Bool(true))?;
            }
            equal(ask, &Query::Cardinality(key.to_vec()), &Answer::Count(members.len() as u64))?;
            equal(ask, &Query::Members(key.to_vec()), &Answer::List(members))
        }
        Some(VisibleKind::Map) => {
            let winner = |values: &Values| values.last().expect("a field has values").2.clone();
            let fields: Vec<_> =
                reads.fields.iter().map(|(field, values)| (field.clone(), winner(values))).collect();
            for (field, value) in fields.iter().take(3) {
                let query = Query::Field(key.to_vec(), field.clone());
                equal(ask, &query, &Answer::Value(Some(value.clone())))?;
            }
            equal(ask, &Query::FieldCount(key.to_vec()), &Answer::Count(fields.len() as u64))?;
            equal(ask, &Query::Fields(key.to_vec()), &Answer::Pairs(fields))
        }
        Some(VisibleKind::Sorted) => Err("no workload makes a sorted set".to_owned()),
        Some(VisibleKind::Document) => {
            let chunks = reads.changes.iter().map(|(dot, chunk)| (*dot, chunk.clone())).collect();
            equal(ask, &Query::Chunks(key.to_vec()), &Answer::Chunks(chunks))
        }
    }
}

fn equal(
    ask: &dyn Fn(&Query) -> Result<Answer, String>,
    query: &Query,
    wanted: &Answer,
) -> Result<(), String> {
    let got = ask(query)?;
    if got == *wanted { Ok(()) } else { Err(format!("{query:?}: got {got:?}, want {wanted:?}")) }
}
