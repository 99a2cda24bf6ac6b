//! The words that stories are told in: short forms of writes.

use tidelock_engine::causality::Dot;
use tidelock_engine::score::Score;
use tidelock_engine::write::{ScoreRule, Write};

pub(crate) fn set(key: &str, value: &str) -> Write {
    Write::Set { key: key.into(), value: value.into() }
}

pub(crate) fn increment(key: &str, by: i64) -> Write {
    Write::Increment { key: key.into(), by }
}

pub(crate) fn add(key: &str, element: &str) -> Write {
    Write::Add { key: key.into(), elements: vec![element.into()] }
}

pub(crate) fn remove(key: &str, element: &str) -> Write {
    Write::Remove { key: key.into(), elements: vec![element.into()] }
}

pub(crate) fn put(key: &str, field: &str, value: &str) -> Write {
    Write::Put { key: key.into(), fields: vec![(field.into(), value.into())] }
}

pub(crate) fn unset(key: &str, field: &str) -> Write {
    Write::Unset { key: key.into(), fields: vec![field.into()] }
}

pub(crate) fn score(key: &str, member: &str, score: f64) -> Write {
    let score = Score::new(score).expect("a number");
    Write::Score { key: key.into(), members: vec![(member.into(), score)], rule: ScoreRule::default() }
}

pub(crate) fn unscore(key: &str, member: &str) -> Write {
    Write::Unscore { key: key.into(), members: vec![member.into()] }
}

pub(crate) fn delete(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

pub(crate) fn expire(key: &str, deadline_ms: u64) -> Write {
    Write::Expire { key: key.into(), deadline_ms, only: None }
}

pub(crate) fn change(key: impl Into<Vec<u8>>, chunk: impl Into<Vec<u8>>, replaced: Vec<Dot>) -> Write {
    Write::Change { key: key.into(), chunk: chunk.into(), base: replaced.clone(), replaced }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
