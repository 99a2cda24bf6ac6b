//! The body of a request, whole and bounded: by its length, by the room of all bodies, and by time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::http::problem::Problem;
use crate::http::state::Shared;

/// A body as it came. It holds its room until it is dropped.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Shared>> for Input {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let bytes_max = shared.config.body_bytes_max;
        let too_large = || Problem::new("body_too_large", format!("a body has {bytes_max} bytes at most"));
        // One that does not say how long it is may become as long as may be.
        let bytes = length(request.headers()).unwrap_or(bytes_max);
        if bytes > bytes_max {
            return Err(too_large());
        }
        let permit = shared.buffer(bytes)?;
        let patience = Duration::from_secs(shared.config.timeout_s);
        let read = timeout(patience, to_bytes(request.into_body(), bytes)).await;
        let read = read.map_err(|_| {
            let seconds = patience.as_secs();
            Problem::new("body_too_slow", format!("the body took longer than {seconds} s"))
        })?;
        Ok(Self { bytes: read.map_err(|_| too_large())?, _permit: permit })
    }
}

/// A body in JSON.
#[derive(Debug)]
pub(super) struct JsonInput<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for JsonInput<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        // A form of a web page can send text, but nothing that calls itself JSON.
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new("unsupported_media_type", "send application/json"));
        }
        let input = Input::from_request(request, shared).await?;
        let parsed = serde_json::from_slice(&input.bytes);
        parsed.map(Self).map_err(|error| Problem::bad_request(error.to_string()))
    }
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
