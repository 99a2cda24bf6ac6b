//! Changes as they happen, as server-sent events.
//!
//! The id of an event is the cursor behind it: a browser that connects again sends it as `Last-Event-ID`, and loses
//! nothing. A client that does not read is told that it lags once it does, and is hung up on if it never does.
//!
//! A strong keyspace can be watched by revision: then the id is the revision, which other nodes understand too.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tidelock_engine::read::Query;
use tidelock_engine::row::Kind;
use tokio::sync::watch::Receiver;

use super::blob::Blob;
use super::place::{Place, number};
use crate::http::problem::Problem;
use crate::keyspace::StrongError;
use crate::keyspace::strong::{StrongChange, StrongOperation, StrongWatch, StrongWatchError};
use crate::watch::{Change, Cursor, WatchEvent, WatchRange};
use crate::watch_hub::Watch;

/// How often a comment is sent while nothing happens, by which it shows that a client is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

pub(super) async fn watch(place: Place, headers: HeaderMap) -> Result<Response, Problem> {
    let [key, prefix, after, revision] = place.parameters(["key", "prefix", "after", "after_revision"])?;
    let range = match (key, prefix) {
        (Some(key), None) => WatchRange::Key(key),
        (None, prefix) => WatchRange::Prefix(prefix.unwrap_or_default()),
        (Some(_), Some(_)) => return Err(Problem::bad_request("a key or a prefix is watched, not both")),
    };
    let seen = headers.get("last-event-id").map(axum::http::HeaderValue::as_bytes);
    if let Some(revision) = revision.as_deref() {
        let revision = number("after_revision", Some(seen.unwrap_or(revision)))?.unwrap_or_default();
        return by_revision(&place, range, revision);
    }
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

fn by_revision(place: &Place, range: WatchRange, revision: u64) -> Result<Response, Problem> {
    let watch = place.keyspace.strong().watch(range).map_err(|error| match error {
        StrongError::NotStrong(_) => Problem::bad_request(error.to_string()),
        _ => Problem::new("not_replicated", error.to_string()),
    })?;
    let watching = (Some(watch.after(revision)), place.shared.stopped.clone());
    let events = stream::unfold(watching, next_operation);
    let alive = KeepAlive::new().interval(ALIVE_EVERY);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// None once it was said why there is no more.
type Following = (Option<StrongWatch>, Receiver<()>);

/// Ends with the server, and where it cannot go on.
async fn next_operation((watch, mut stopped): Following) -> Option<(Result<Event, Infallible>, Following)> {
    let mut watch = watch?;
    let next = tokio::select! {
        next = watch.next() => next?,
        _ = stopped.changed() => return None,
    };
    let (event, revision, data) = match next {
        Ok(StrongOperation { revision, changes }) => {
            let changes: Vec<_> = changes.into_iter().map(shown).collect();
            ("operation", revision, json!({ "revision": revision, "changes": changes }))
        }
        Err(StrongWatchError::Compacted { after, first }) => {
            watch.go_on_after(first);
            ("compacted", first, json!({ "after": after, "revision": first }))
        }
        Err(error) => {
            tracing::warn!(%error, "a watch of a strong keyspace ends");
            let data = json!({ "reason": error.to_string() });
            return Some((Ok(Event::default().event("ended").data(data.to_string())), (None, stopped)));
        }
    };
    let event = Event::default().event(event).id(revision.to_string()).data(data.to_string());
    Some((Ok(event), (Some(watch), stopped)))
}

fn shown(change: StrongChange) -> Value {
    match change {
        StrongChange::Written { key, kind, subkey, value } => json!({
            "change": "written",
            "key": Blob(key),
            "kind": word(kind),
            "subkey": Blob(subkey),
            "value": Blob(value),
        }),
        StrongChange::Removed { key, kind, subkey } => json!({
            "change": "removed", "key": Blob(key), "kind": word(kind), "subkey": Blob(subkey),
        }),
        StrongChange::KeyRemoved { key } => json!({ "change": "key_removed", "key": Blob(key) }),
        StrongChange::AllRemoved => json!({ "change": "all_removed" }),
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Register => "register",
        Kind::Set => "set",
        Kind::Map => "map",
        Kind::Document => "document",
        Kind::Sorted => "sorted",
        _ => "other",
    }
}

fn told(change: &Change) -> Event {
    let Cursor(cursor) = change.cursor;
    let blob = |bytes: &Option<Vec<u8>>| bytes.clone().map(Blob);
    let data = json!({
        "cursor": cursor,
        "key": Blob(change.key.clone()),
        "kind": word(change.kind),
        "subkey": Blob(change.subkey.clone()),
        "old": blob(&change.old),
        "new": blob(&change.new),
        "author": change.author.to_string(),
        "replayed": change.is_replayed,
    });
    Event::default().event("change").id(cursor.to_string()).data(data.to_string())
}
