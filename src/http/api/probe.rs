//! How far a request is understood without a node, for the fuzz targets.
//!
//! Hidden from the documentation and no part of what this crate promises. It goes the way of a request: who may ask,
//! what the address names, what the body says.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use serde_json::Value;

use super::batch::Writes;
use super::blob::Blob;
use super::collections::{Add, MapChange, SetChange};
use super::place::parameters;
use super::sorted_sets::SortedChange;
use crate::http::HttpConfig;
use crate::http::guard;

/// Whether a request for `target` from a client that says these words would be passed on.
pub fn is_admitted(target: &[u8], host: &[u8], origin: &[u8]) -> bool {
    let Ok(uri) = Uri::try_from(target) else { return false };
    let mut headers = HeaderMap::new();
    for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
        let Ok(value) = HeaderValue::from_bytes(value) else { return false };
        if !value.is_empty() {
            headers.append(name, value);
        }
    }
    let is_admitted = guard::check(&HttpConfig::default(), &uri, &headers).is_ok();
    // A name that is neither ours nor an address is never let in, whatever stands around it.
    assert!(!is_admitted || !host.windows(4).any(|window| window == b"evil"), "{}", host.escape_ascii());
    is_admitted
}

/// Whether the part of an address behind its `?` is made of parameters that there are.
pub fn has_parameters(query: &str) -> bool {
    let names = [
        "key",
        "prefix",
        "after",
        "limit",
        "contains",
        "field",
        "durability",
        "member",
        "start",
        "stop",
        "min",
        "max",
        "reverse",
        "offset",
    ];
    parameters(query, names)
        .is_ok_and(|values| values.iter().flatten().all(|value| value.len() <= query.len()))
}

/// Whether a body is one that some path takes.
pub fn is_body(bytes: &[u8]) -> bool {
    if let Ok(blob) = serde_json::from_slice::<Blob>(bytes) {
        let again: Value = serde_json::to_value(&blob).expect("bytes are JSON");
        assert_eq!(serde_json::from_value::<Blob>(again).expect("its own JSON"), blob);
        return true;
    }
    serde_json::from_slice::<Writes>(bytes).is_ok()
        || serde_json::from_slice::<SetChange>(bytes).is_ok()
        || serde_json::from_slice::<MapChange>(bytes).is_ok()
        || serde_json::from_slice::<SortedChange>(bytes).is_ok()
        || serde_json::from_slice::<Add>(bytes).is_ok()
}
