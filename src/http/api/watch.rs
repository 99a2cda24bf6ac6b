//! Changes as they happen, as server-sent events.
//!
//! The id of an event is the cursor behind it: a browser that connects again sends it as `Last-Event-ID`, and loses
//! nothing. A client that does not read is told that it lags once it does, and is hung up on if it never does.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::json;
use tidelock_engine::read::Query;
use tidelock_engine::row::Kind;
use tokio::sync::watch::Receiver;

use super::blob::Blob;
use super::place::{Place, number};
use crate::http::problem::Problem;
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};
use crate::watch_hub::Watch;

/// How often a comment is sent while nothing happens, by which it shows that a client is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

pub(super) async fn watch(place: Place, headers: HeaderMap) -> Result<Response, Problem> {
    let [key, prefix, after] = place.parameters(["key", "prefix", "after"])?;
    let range = match (key, prefix) {
        (Some(key), None) => WatchRange::Key(key),
        (None, prefix) => WatchRange::Prefix(prefix.unwrap_or_default()),
        (Some(_), Some(_)) => return Err(Problem::bad_request("a key or a prefix is watched, not both")),
    };
    let seen = headers.get("last-event-id").map(axum::http::HeaderValue::as_bytes);
    let cursor = number("after", seen.or(after.as_deref()))?.map(Cursor);
    // Whether it may be watched at all.
    place.ask(Query::Kind(Vec::new())).await?;
    let watch = place.keyspace.watch(range, cursor);
    let events = stream::unfold((watch, place.shared.stopped.clone()), next);
    let alive = KeepAlive::new().interval(ALIVE_EVERY);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

type Watching = (Watch, Receiver<()>);

/// Ends with the server.
async fn next((mut watch, mut stopped): Watching) -> Option<(Result<Event, Infallible>, Watching)> {
    let event = tokio::select! {
        event = watch.next() => event?,
        _ = stopped.changed() => return None,
    };
    let event = match &event {
        WatchEvent::Changed(change) => told(change),
        WatchEvent::Lagged(Cursor(cursor)) => Event::default()
            .event("lagged")
            .id(cursor.to_string())
            .data(json!({ "cursor": cursor }).to_string()),
    };
    Some((Ok(event), (watch, stopped)))
}

fn told(change: &Change) -> Event {
    let Cursor(cursor) = change.cursor;
    let blob = |bytes: &Option<Vec<u8>>| bytes.clone().map(Blob);
    let kind = match change.kind {
        Kind::Register => "register",
        Kind::Set => "set",
        Kind::Map => "map",
        Kind::Document => "document",
        Kind::Sorted => "sorted",
        _ => "other",
    };
    let data = json!({
        "cursor": cursor,
        "key": Blob(change.key.clone()),
        "kind": kind,
        "subkey": Blob(change.subkey.clone()),
        "old": blob(&change.old),
        "new": blob(&change.new),
        "author": change.author.to_string(),
        "replayed": change.is_replayed,
    });
    Event::default().event("change").id(cursor.to_string()).data(data.to_string())
}
