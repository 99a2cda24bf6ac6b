//! Whether the node lives, is ready, and how it is.
//!
//! `/livez` says that the process serves; restarting is the remedy if it does not. `/readyz` says whether reads and writes
//! of all keyspaces would be done, with words for why not. `/healthz` says that and all else that an operator looks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::held::held;
use super::state::Shared;
use crate::node::Node;
use crate::status::{KeyspaceStatus, NotReady, PeerState, Status};

/// The keyspaces and peers that are listed at most.
const LISTED_MAX: usize = 1_024;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// The words alone: anybody may ask, and sentences name keyspaces.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let reasons: Vec<&str> = match shared.node() {
        Ok(node) => node.not_ready().iter().map(NotReady::word).collect(),
        Err(problem) => vec![problem.code],
    };
    answer(reasons.is_empty(), json!({ "ready": reasons.is_empty(), "reasons": reasons }))
}

pub(super) async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.node() {
        Ok(node) => {
            let reasons = node.not_ready();
            let body = describe(node, &reasons).to_string();
            held(&shared, "application/json", body).map_or_else(IntoResponse::into_response, |held| {
                (status(reasons.is_empty()), held).into_response()
            })
        }
        Err(problem) => {
            let reason = json!({ "code": problem.code, "detail": problem.detail });
            answer(false, json!({ "ready": false, "reasons": [reason] }))
        }
    }
}

fn answer(is_ready: bool, body: Value) -> Response {
    (status(is_ready), Json(body)).into_response()
}

fn status(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn describe(node: &Node, reasons: &[NotReady]) -> Value {
    let status = node.status();
    let Status { name, version, peer, replica, cluster, listen, .. } = &status;
    let reason = |reason: &NotReady| json!({ "code": reason.word(), "detail": reason.to_string() });
    let keyspaces = node.keyspaces();
    let (parked_frames, parked_bytes) = node.parked();
    json!({
        "ready": reasons.is_empty(),
        "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
        "warnings": status.warnings,
        "name": name,
        "version": version,
        "peer": peer.to_string(),
        "replica": replica.to_string(),
        "cluster": cluster,
        "listen": listen,
        "online": status.is_online,
        "uptime_s": status.uptime.as_secs(),
        "store": store(node, &status),
        "log": {
            "bytes": status.log.bytes,
            "first": status.log.first,
            "age_s": status.log.age.as_secs(),
            "kept": status.log.kept_word(),
            "kept_for": status.log.kept_for().map(|peer| peer.to_string()),
        },
        "disk": { "left_bytes": node.disk_left() },
        "parked": { "frames": parked_frames, "bytes": parked_bytes },
        "diverged": keyspaces.iter().any(|keyspace| keyspace.is_diverged),
        "peers_connected": status.peers_connected,
        "peers": node.peers().iter().take(LISTED_MAX).map(describe_peer).collect::<Vec<_>>(),
        "keyspaces": keyspaces.iter().take(LISTED_MAX).map(describe_keyspace).collect::<Vec<_>>(),
    })
}

fn store(node: &Node, status: &Status) -> Value {
    let figures = node.reader().ok().and_then(|reader| reader.stats().ok()).unwrap_or_default();
    json!({
        "keyspaces": status.keyspaces,
        "keys": status.keys,
        "frames": status.frames,
        "log_file_bytes": figures.log_bytes,
        "rows_file_bytes": figures.rows_bytes,
        "overlay_entries": figures.overlay_entries,
        "overlay_bytes": figures.overlay_bytes,
    })
}

fn describe_peer(peer: &PeerState) -> Value {
    json!({
        "peer": peer.peer.map(|peer| peer.to_string()),
        "address": peer.address,
        "state": peer.state,
        "round_trip_s": peer.round_trip.map(|time| time.as_secs_f64()),
        "connected_s": peer.connected_for.map(|time| time.as_secs()),
        "queued_bytes": peer.queued_bytes,
        "slow": peer.is_slow,
        "keyspaces": peer.keyspaces,
        "keyspaces_behind": peer.keyspaces_behind(),
    })
}

pub(super) fn describe_keyspace(keyspace: &KeyspaceStatus) -> Value {
    json!({
        "name": keyspace.name.as_str(),
        "mode": keyspace.mode.mode.word(),
        "epoch": keyspace.mode.mode.epoch.0,
        "keys": keyspace.keys,
        "bytes": keyspace.bytes,
        "quota_bytes": keyspace.quota_bytes,
        "authors": keyspace.authors,
        "fingerprint": keyspace.fingerprint,
        "peers": keyspace.peers,
        "alone_s": keyspace.alone.map(|time| time.as_secs()),
        "loading": keyspace.is_loading,
        "diverged": keyspace.is_diverged,
        "revision": keyspace.mode.revision,
        "outbox": keyspace.mode.outbox,
        "standing": keyspace.mode.standing,
    })
}
