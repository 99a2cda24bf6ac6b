//! Registers: the bytes themselves, as request and as answer.

use axum::http::StatusCode;
use axum::response::Response;
use tidelock_engine::read::{Answer, Query};

use super::input::Input;
use super::place::Place;
use crate::http::held::held;
use crate::http::problem::Problem;

pub(super) async fn get(place: Place) -> Result<Response, Problem> {
    let [] = place.parameters([])?;
    let Answer::Value(value) = place.ask(Query::Get(place.key.clone())).await? else {
        unreachable!("a value was asked for")
    };
    let value = value.ok_or_else(|| Problem::new("not_found", "the key holds nothing"))?;
    held(&place.shared, "application/octet-stream", value)
}

pub(super) async fn put(place: Place, input: Input) -> Result<StatusCode, Problem> {
    let keyspace = place.writable()?;
    keyspace.register(&place.key).set(&input.bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}
