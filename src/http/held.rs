//! Answers that hold room in memory until their client has taken them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use super::state::Shared;

/// An answer of this type, if there is room for it.
pub(super) fn held(
    shared: &Shared,
    content_type: &'static str,
    bytes: impl Into<Vec<u8>>,
) -> Result<Response, Problem> {
    let bytes = bytes.into();
    if bytes.len() > shared.config.buffers_bytes_max {
        let detail =
            "the answer is longer than all answers together may be; read it in parts, or by the Redis port";
        return Err(Problem::new("answer_too_long", detail));
    }
    let permit = shared.buffer(bytes.len())?;
    let mut response = Response::new(Body::from(Bytes::from_owner(Held { bytes, _permit: permit })));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// Bytes with the room that they take.
struct Held {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
