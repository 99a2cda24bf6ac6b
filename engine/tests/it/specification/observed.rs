//! What a replica does read: from its rows, and through the queries that users have.

use std::collections::BTreeSet;

use tidelock_engine::crdt::{DotStore, VisibleKind};
use tidelock_engine::read::{Answer, KeyPage, Query};
use tidelock_engine::row::{Kind, Payload, RowId};

use super::{KEYS, KeyReads, Reads, SUBKEYS, Values};
use crate::world::by_hand::Station;
use crate::world::words::text;

pub(crate) fn key_name(key: usize) -> Vec<u8> {
    format!("k{key}").into_bytes()
}

pub(crate) fn subkey_name(subkey: usize) -> Vec<u8> {
    format!("s{subkey}").into_bytes()
}

fn number(bytes: &[u8]) -> usize {
    text(&bytes[1..]).parse().expect("a name of the world")
}

fn value(bytes: &[u8]) -> i64 {
    text(bytes).parse().expect("a value of the world")
}

/// The reads that follow from rows.
pub(crate) fn from_rows(rows: &DotStore) -> Reads {
    let mut reads = Reads::default();
    for (row, payload) in rows.rows() {
        let key = &mut reads[number(&row.key)];
        match payload {
            Payload::Value { stamp, value: bytes } if row.kind == Kind::Register => {
                key.register.insert((stamp.hlc, row.dot, value(bytes)));
            }
            Payload::Value { stamp, value: bytes } => {
                key.fields[number(&row.subkey)].insert((stamp.hlc, row.dot, value(bytes)));
            }
            Payload::Slot(slot) if slot.is_live() => {
                key.counted = Some(key.counted.unwrap_or(0) + slot.contribution());
            }
            Payload::Slot(_) | Payload::Retired { .. } | Payload::Deadline(_) | Payload::Outcome { .. } => {}
            Payload::Member => key.elements[number(&row.subkey)] = true,
            Payload::Chunk(chunk) => drop(key.changes.insert(value(chunk))),
        }
    }
    reads
}

/// Whether two slots of one replica are under one key.
pub(crate) fn has_two_slots(rows: &DotStore) -> bool {
    let slots: Vec<&RowId> = rows.rows().keys().filter(|row| row.kind == Kind::Counter).collect();
    let owners: BTreeSet<_> = slots.iter().map(|row| (&row.key, row.dot.replica)).collect();
    owners.len() < slots.len()
}

/// The number of slots that count nothing any more.
pub(crate) fn spent_slots(rows: &DotStore) -> usize {
    rows.rows().values().filter(|payload| !payload.is_live()).count()
}

/// Compares every query with what it must answer.
pub(crate) fn check_queries(station: &Station, expected: &Reads) -> Result<(), String> {
    let mut keys = Vec::new();
    for (key, reads) in expected.iter().enumerate() {
        check_key(station, &key_name(key), reads)?;
        if reads.visible().is_some() {
            keys.push(key_name(key));
        }
    }
    equal("size", &station.query(&Query::Size), &Answer::Count(keys.len() as u64))?;
    let page = Query::Keys(KeyPage { count: KEYS + 1, ..KeyPage::default() });
    equal("keys", &station.query(&page), &Answer::List(keys))
}

fn check_key(station: &Station, key: &[u8], reads: &KeyReads) -> Result<(), String> {
    let visible = reads.visible();
    let ask = |query: Query| station.query(&query);
    equal("kind", &ask(Query::Kind(key.to_vec())), &Answer::Kind(visible))?;
    let subkeys = || (0..SUBKEYS).map(|subkey| (subkey, subkey_name(subkey)));
    match visible {
        None | Some(VisibleKind::Register | VisibleKind::Counter) => {
            let text = reads.number().map(|number| number.to_string().into_bytes());
            equal("get", &ask(Query::Get(key.to_vec())), &Answer::Value(text))
        }
        Some(VisibleKind::Set) => {
            let members = subkeys().filter(|(subkey, _)| reads.elements[*subkey]);
            let members: Vec<Vec<u8>> = members.map(|(_, name)| name).collect();
            let count = Answer::Count(members.len() as u64);
            equal("cardinality", &ask(Query::Cardinality(key.to_vec())), &count)?;
            equal("members", &ask(Query::Members(key.to_vec())), &Answer::List(members))
        }
        Some(VisibleKind::Map) => {
            let winner = |values: &Values| values.last().map(|(_, _, value)| value.to_string().into_bytes());
            let fields = subkeys().filter_map(|(field, name)| Some((name, winner(&reads.fields[field])?)));
            let fields: Vec<_> = fields.collect();
            let count = Answer::Count(fields.len() as u64);
            equal("field count", &ask(Query::FieldCount(key.to_vec())), &count)?;
            equal("fields", &ask(Query::Fields(key.to_vec())), &Answer::Pairs(fields))
        }
        Some(VisibleKind::Sorted) => Err("no world makes a sorted set".to_owned()),
        Some(VisibleKind::Document) => match ask(Query::Chunks(key.to_vec())) {
            Answer::Chunks(chunks) => {
                let got: BTreeSet<i64> = chunks.iter().map(|(_, chunk)| value(chunk)).collect();
                let is_equal = got == reads.changes && got.len() == chunks.len();
                if is_equal { Ok(()) } else { Err(format!("changes: got {got:?}, want {:?}", reads.changes)) }
            }
            other => Err(format!("chunks: got {other:?}")),
        },
    }
}

fn equal(what: &str, got: &Answer, wanted: &Answer) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: got {got:?}, want {wanted:?}")) }
}
