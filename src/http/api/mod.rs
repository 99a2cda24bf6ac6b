//! `/v1`: the keyspaces of the node, by the same handles that a Rust program uses.
//!
//! Keys stand in the path, percent-encoded, and are bytes. A register is sent and answered as the bytes that it is;
//! all else is JSON, in which bytes are a string if they are UTF-8 and `{"hex": ".."}` otherwise, as in an export.
//! `openapi.json` describes it, and a test holds the routes, the codes and real answers against it.

mod batch;
mod blob;
mod collections;
mod input;
mod keys;
mod naming;
mod place;
// Only for the fuzz targets: a request needs a node and a socket, understanding it neither.
pub mod probe;
mod registers;
mod sorted_sets;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::{get, post};

use super::state::Shared;

const OPENAPI: &str = include_str!("openapi.json");

/// The routes of the API.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI)))
        .route("/v1/keyspaces", get(keys::keyspaces))
        .route("/v1/keyspaces/{keyspace}/keys", get(keys::list))
        .route("/v1/keyspaces/{keyspace}/keys/{key}", get(keys::describe).delete(keys::delete))
        .route("/v1/keyspaces/{keyspace}/registers/{key}", get(registers::get).put(registers::put))
        .route("/v1/keyspaces/{keyspace}/counters/{key}", get(collections::count).post(collections::add))
        .route("/v1/keyspaces/{keyspace}/sets/{key}", get(collections::members).post(collections::change_set))
        .route("/v1/keyspaces/{keyspace}/maps/{key}", get(collections::fields).post(collections::change_map))
        .route(
            "/v1/keyspaces/{keyspace}/sorted-sets/{key}",
            get(sorted_sets::members).post(sorted_sets::change),
        )
        .route("/v1/keyspaces/{keyspace}/batch", post(batch::execute))
        .route("/v1/keyspaces/{keyspace}/watch", get(watch::watch))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// What is documented beside that, `tests/real/http_api.rs` asks for.
    #[test]
    fn documented_paths_are_those_that_there_are() {
        let document: serde_json::Value = serde_json::from_str(super::OPENAPI).expect("it is JSON");
        let documented: BTreeSet<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        let routes = include_str!("mod.rs").split(".route(").skip(1).map(|rest| rest.split('"').nth(1));
        let routes: BTreeSet<&str> = routes.flatten().filter(|path| path.starts_with("/v1/")).collect();
        assert_eq!(documented, routes);
        assert!(routes.len() >= 10, "{routes:?}");
    }
}
