//! The HTTP port: what clients ask for, behind what hyper has parsed.

use tidelock::http::probe;

use crate::Verdict;
use crate::memory::Bound;

/// A list of JSON is bytes that are 32 in memory, and a string of two digits is one; each is there twice at most.
pub const BOUND: Bound = Bound { base: 16 << 10, per_byte: 256, max: 1 << 30 };

/// A request: target, host, origin and body, each on a line but the last.
pub fn request(data: &[u8]) -> Verdict {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (target, host, origin, body) = (part(), part(), part(), part());
    let understood = BOUND.hold(data.len(), || {
        let query = target.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
        let has_parameters = std::str::from_utf8(query).is_ok_and(probe::has_parameters);
        let is_body = body.is_empty() || probe::is_body(body);
        probe::is_admitted(target, host, origin) && has_parameters && is_body
    });
    if understood { Verdict::Decoded } else { Verdict::Refused }
}
