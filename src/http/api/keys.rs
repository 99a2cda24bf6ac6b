//! Keyspaces and their keys, whatever they hold.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tidelock_engine::read::{Answer, KeyPage, Query};

use super::blob::{Blob, blobs};
use super::place::{self, Place};
use crate::http::health::describe_keyspace;
use crate::http::held::held;
use crate::http::problem::Problem;
use crate::http::state::Shared;

pub(super) async fn keyspaces(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let keyspaces: Vec<_> = shared.node()?.keyspaces().iter().map(describe_keyspace).collect();
    held(&shared, "application/json", json!({ "keyspaces": keyspaces }).to_string())
}

/// A page of keys, and the one to go on behind if there may be more.
pub(super) async fn list(place: Place) -> Result<Response, Problem> {
    let [prefix, after, limit] = place.parameters(["prefix", "after", "limit"])?;
    let limit = place::limit(limit.as_deref())?;
    let page = KeyPage { prefix: prefix.unwrap_or_default(), after, count: limit };
    let Answer::List(keys) = place.ask(Query::Keys(page)).await? else { unreachable!("keys were asked for") };
    let next = (keys.len() == limit).then(|| keys.last().cloned().map(Blob));
    place.answer(&json!({ "keys": blobs(keys), "next": next.flatten() }))
}

pub(super) async fn describe(place: Place) -> Result<Response, Problem> {
    let [] = place.parameters([])?;
    let Answer::Entry(entry) = place.ask(Query::Entry(place.key.clone())).await? else {
        unreachable!("an entry was asked for")
    };
    let kind = entry.visible.ok_or_else(|| Problem::new("not_found", "there is no such key"))?;
    let conflicts = entry.conflicts().count();
    place.answer(&json!({ "key": Blob(place.key.clone()), "kind": kind.to_string(), "conflicts": conflicts }))
}

pub(super) async fn delete(place: Place) -> Result<Response, Problem> {
    let is_removed = place.writable()?.delete(&place.key).await?;
    place.answer(&json!({ "removed": is_removed }))
}
