//! The words that stories are told in: short forms of writes.

use tidelock_engine::causality::Dot;
use tidelock_engine::id::ReplicaId;
use tidelock_engine::write::Write;

/// `SET key value`.
pub fn set(key: &str, value: &str) -> Write {
    Write::Set { key: key.into(), value: value.into() }
}

/// `INCRBY key by`.
pub fn increment(key: &str, by: i64) -> Write {
    Write::Increment { key: key.into(), by }
}

/// `SADD key element`.
pub fn add(key: &str, element: &str) -> Write {
    Write::Add { key: key.into(), elements: vec![element.into()] }
}

/// `SREM key element`.
pub fn remove(key: &str, element: &str) -> Write {
    Write::Remove { key: key.into(), elements: vec![element.into()] }
}

/// `HSET key field value`.
pub fn put(key: &str, field: &str, value: &str) -> Write {
    Write::Put { key: key.into(), fields: vec![(field.into(), value.into())] }
}

/// `HDEL key field`.
pub fn unset(key: &str, field: &str) -> Write {
    Write::Unset { key: key.into(), fields: vec![field.into()] }
}

/// A change of a document, in place of the rows of these dots.
pub fn change(key: &str, chunk: &str, replaced: Vec<Dot>) -> Write {
    Write::Change { key: key.into(), chunk: chunk.into(), base: replaced.clone(), replaced }
}

/// `DEL key`.
pub fn delete(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

/// `FLUSHDB`.
pub fn clear() -> Write {
    Write::Clear
}

/// `TIDE.RETIRE replica`, in one keyspace.
pub fn retire(replica: ReplicaId) -> Write {
    Write::Retire { replica }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
