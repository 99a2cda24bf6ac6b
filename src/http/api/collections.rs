//! Counters, sets and maps. What one request changes, every peer sees as a whole.

use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::write::Outcome;

use super::blob::{Blob, blobs};
use super::input::JsonInput;
use super::place::Place;
use crate::http::problem::Problem;
use crate::keyspace::{self, Batch};

/// The elements, fields or members that one request changes at most.
const CHANGES_MAX: usize = 16_384;

/// How far a counter is counted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    add: i64,
}

/// What becomes of a set; first it is removed from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetChange {
    #[serde(default)]
    remove: Vec<Blob>,
    #[serde(default)]
    add: Vec<Blob>,
}

/// What becomes of a map; first it is removed from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MapChange {
    #[serde(default)]
    remove: Vec<Blob>,
    #[serde(default)]
    put: Vec<FieldValue>,
}

/// A field and its value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldValue {
    field: Blob,
    value: Blob,
}

pub(super) async fn count(place: Place) -> Result<Response, Problem> {
    let [] = place.parameters([])?;
    let Answer::Value(text) = place.ask(Query::Get(place.key.clone())).await? else {
        unreachable!("a value was asked for")
    };
    let value = keyspace::counted(text);
    let value = i64::try_from(value).map_err(|_| {
        Problem::new("overflow", format!("the number is {value}, which has more than 64 bits"))
    })?;
    place.answer(&json!({ "value": value }))
}

pub(super) async fn add(place: Place, JsonInput(Add { add }): JsonInput<Add>) -> Result<Response, Problem> {
    let value = place.writable()?.counter(&place.key).add(add).await?;
    place.answer(&json!({ "value": value }))
}

pub(super) async fn members(place: Place) -> Result<Response, Problem> {
    let [contains] = place.parameters(["contains"])?;
    let key = place.key.clone();
    let query =
        contains.map_or_else(|| Query::Members(key.clone()), |element| Query::Contains(key.clone(), element));
    match place.ask(query).await? {
        Answer::Bool(is_in) => place.answer(&json!({ "contains": is_in })),
        Answer::List(elements) => place.answer(&json!({ "elements": blobs(elements) })),
        other => unreachable!("elements were asked for, not {other:?}"),
    }
}

pub(super) async fn change_set(
    place: Place,
    JsonInput(change): JsonInput<SetChange>,
) -> Result<Response, Problem> {
    let SetChange { remove, add } = change;
    let removed = remove.len();
    let batch = remove.iter().fold(Batch::new(), |batch, element| batch.remove(&place.key, &element.0));
    let batch = add.iter().fold(batch, |batch, element| batch.add(&place.key, &element.0));
    answer_changes(&place, batch, (removed, add.len())).await
}

pub(super) async fn fields(place: Place) -> Result<Response, Problem> {
    let [field] = place.parameters(["field"])?;
    let key = place.key.clone();
    let query = field.map_or_else(|| Query::Fields(key.clone()), |field| Query::Field(key.clone(), field));
    match place.ask(query).await? {
        Answer::Value(value) => {
            let value = value.ok_or_else(|| Problem::new("not_found", "there is no such field"))?;
            place.answer(&json!({ "value": Blob(value) }))
        }
        Answer::Pairs(pairs) => {
            let pair = |(field, value)| json!({ "field": Blob(field), "value": Blob(value) });
            place.answer(&json!({ "fields": pairs.into_iter().map(pair).collect::<Vec<_>>() }))
        }
        other => unreachable!("fields were asked for, not {other:?}"),
    }
}

pub(super) async fn change_map(
    place: Place,
    JsonInput(change): JsonInput<MapChange>,
) -> Result<Response, Problem> {
    let MapChange { remove, put } = change;
    let removed = remove.len();
    let batch = remove.iter().fold(Batch::new(), |batch, field| batch.unset(&place.key, &field.0));
    let batch = put
        .iter()
        .fold(batch, |batch, FieldValue { field, value }| batch.put(&place.key, &field.0, &value.0));
    answer_changes(&place, batch, (removed, put.len())).await
}

/// Answers how many of so many removals, and of so many additions behind them, changed something.
pub(super) async fn answer_changes(
    place: &Place,
    batch: Batch,
    (removals, additions): (usize, usize),
) -> Result<Response, Problem> {
    let keyspace = place.writable()?;
    if removals + additions > CHANGES_MAX {
        return Err(Problem::bad_request(format!(
            "one request changes {CHANGES_MAX} elements, fields or members at most"
        )));
    }
    let outcomes = keyspace.batch(batch).await?;
    let changed = |outcomes: &[Outcome]| -> u64 {
        let count = |outcome: &Outcome| match outcome {
            Outcome::Changed(count) | Outcome::Scored { added: count, .. } => *count,
            _ => 0,
        };
        outcomes.iter().map(count).sum()
    };
    let (removed, added) = outcomes.split_at(removals);
    place.answer(&json!({ "removed": changed(removed), "added": changed(added) }))
}
