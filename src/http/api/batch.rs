//! Several writes at once: every peer sees all of them or none, and if one is refused, none is done.

use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tidelock_engine::write::Outcome;

use super::blob::Blob;
use super::input::JsonInput;
use super::place::Place;
use super::sorted_sets::JsonScore;
use crate::http::problem::Problem;
use crate::keyspace::Batch;

/// The writes of one batch at most.
const WRITES_MAX: usize = 16_384;

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writes {
    writes: Vec<Write>,
}

/// One write.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Write {
    Set { key: Blob, value: Blob },
    Increment { key: Blob, by: i64 },
    Add { key: Blob, element: Blob },
    Remove { key: Blob, element: Blob },
    Put { key: Blob, field: Blob, value: Blob },
    Unset { key: Blob, field: Blob },
    Score { key: Blob, member: Blob, score: JsonScore },
    Unscore { key: Blob, member: Blob },
    Delete { key: Blob },
}

impl Write {
    fn push_to(self, batch: Batch) -> Batch {
        match self {
            Self::Set { key, value } => batch.set(key.0, value.0),
            Self::Increment { key, by } => batch.increment(key.0, by),
            Self::Add { key, element } => batch.add(key.0, element.0),
            Self::Remove { key, element } => batch.remove(key.0, element.0),
            Self::Put { key, field, value } => batch.put(key.0, field.0, value.0),
            Self::Unset { key, field } => batch.unset(key.0, field.0),
            Self::Score { key, member, score } => batch.score(key.0, member.0, score.0),
            Self::Unscore { key, member } => batch.unscore(key.0, member.0),
            Self::Delete { key } => batch.delete(key.0),
        }
    }
}

pub(super) async fn execute(
    place: Place,
    JsonInput(Writes { writes }): JsonInput<Writes>,
) -> Result<Response, Problem> {
    let keyspace = place.writable()?;
    if writes.len() > WRITES_MAX {
        return Err(Problem::bad_request(format!("a batch has {WRITES_MAX} writes at most")));
    }
    let batch = writes.into_iter().fold(Batch::new(), |batch, write| write.push_to(batch));
    let outcomes = keyspace.batch(batch).await?;
    place.answer(&json!({ "outcomes": outcomes.iter().map(describe).collect::<Vec<_>>() }))
}

/// How many keys, elements, fields or members came into being or ceased to be, or what a counter counts now.
fn describe(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Changed(count) | Outcome::Scored { added: count, .. } => json!({ "changed": count }),
        Outcome::Number(number) => json!({ "value": number }),
        // A batch has no write that gives anything else.
        _ => json!({}),
    }
}
