//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use super::problem::Problem;
use super::state::Shared;
use super::{api, guard, health, prometheus};

/// All paths of the port, behind the guard.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(prometheus::answer))
        .merge(api::router())
        .fallback(async || Problem::new("not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new("method_not_allowed", "this path takes other methods")
        })
        .layer(from_fn_with_state(Arc::clone(shared), guard::admit))
        .with_state(Arc::clone(shared))
}
