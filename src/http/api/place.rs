//! What the address of a request names: keyspace, key, parameters.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tidelock_engine::read::{Answer, PAGE_KEYS_MAX, Query};

use super::naming;
use crate::http::held::held;
use crate::http::problem::Problem;
use crate::http::state::Shared;
use crate::keyspace::Keyspace;
use crate::named::Name;

/// The place in the path of the keyspace, and of the key: `/v1/keyspaces/{keyspace}/sets/{key}`.
const KEYSPACE_AT: usize = 3;
const KEY_AT: usize = 5;

/// The keys or members that one answer lists if nothing is said.
const LIMIT_DEFAULT: usize = 1_000;

/// What a request is about.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) keyspace: Keyspace,
    /// Empty where the path has no key.
    pub(super) key: Vec<u8>,
    query: String,
    /// What the operation is called that is written, if the client says so.
    operation: Option<Name>,
}

impl FromRequestParts<Arc<Shared>> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let segment = |at| {
            let segment = parts.uri.path().split('/').nth(at).unwrap_or_default();
            percent_decode_str(segment).collect::<Vec<u8>>()
        };
        let name = String::from_utf8(segment(KEYSPACE_AT))
            .map_err(|_| Problem::bad_request("the name of a keyspace is UTF-8"))?;
        let keyspace = shared.node()?.keyspace(&name);
        let keyspace = keyspace.map_err(|error| Problem::bad_request(error.to_string()))?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let operation = naming::name(&parts.headers)?;
        Ok(Self { shared: Arc::clone(shared), keyspace, key: segment(KEY_AT), query, operation })
    }
}

impl Place {
    /// The values of these parameters. Another one, or one that is there twice, is a mistake.
    pub(super) fn parameters<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<Vec<u8>>; N], Problem> {
        parameters(&self.query, names)
    }

    /// What a query of the keyspace answers: of a strong one after its anchors were asked.
    pub(super) async fn ask(&self, query: Query) -> Result<Answer, Problem> {
        Ok(self.keyspace.ask(query).await?)
    }

    /// The keyspace as a writer wants it, for one write: `durability` is `durable`, which is the default, or `buffered`.
    pub(super) fn writable(&self) -> Result<Keyspace, Problem> {
        let [durability] = self.parameters(["durability"])?;
        let keyspace = self.operation.map_or_else(|| self.keyspace.clone(), |name| self.keyspace.named(name));
        match durability.as_deref() {
            None | Some(b"durable") => Ok(keyspace),
            Some(b"buffered") => Ok(keyspace.buffered()),
            Some(_) => Err(Problem::bad_request("durability is durable or buffered")),
        }
    }

    /// An answer in JSON.
    pub(super) fn answer(&self, body: &impl Serialize) -> Result<Response, Problem> {
        let text = serde_json::to_vec(body).map_err(|error| Problem::new("failed", error.to_string()))?;
        held(&self.shared, "application/json", text)
    }
}

pub(super) fn parameters<const N: usize>(
    query: &str,
    names: [&str; N],
) -> Result<[Option<Vec<u8>>; N], Problem> {
    let mut values = [const { None }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let known = names.iter().position(|known| *known == name);
        let slot = known.and_then(|at| values[at].is_none().then_some(at));
        let Some(at) = slot else {
            let names = names.join(", ");
            return Err(Problem::bad_request(format!("the parameters are, once each: {names}")));
        };
        // As forms are encoded.
        values[at] = Some(percent_decode_str(&value.replace('+', " ")).collect());
    }
    Ok(values)
}

/// A parameter that is a number.
pub(super) fn number<N: FromStr>(name: &str, value: Option<&[u8]>) -> Result<Option<N>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Problem::bad_request(format!("{name} is a number")))
}

/// How many one answer lists: the parameter `limit`.
pub(super) fn limit(value: Option<&[u8]>) -> Result<usize, Problem> {
    let limit = number("limit", value)?.unwrap_or(LIMIT_DEFAULT);
    let is_allowed = (1..=PAGE_KEYS_MAX).contains(&limit);
    is_allowed
        .then_some(limit)
        .ok_or_else(|| Problem::bad_request(format!("limit is from 1 to {PAGE_KEYS_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_bytes_and_only_known_ones() {
        let of = |query: &str| parameters(query, ["a", "b"]).map_err(|problem| problem.code);
        assert_eq!(of(""), Ok([None, None]));
        assert_eq!(of("b=%ff+x&a="), Ok([Some(vec![]), Some(b"\xff x".to_vec())]));
        assert_eq!(of("a"), Ok([Some(vec![]), None]));
        for wrong in ["c=1", "a=1&a=2", "a=1&c", "A=1"] {
            assert_eq!(of(wrong), Err("bad_request"), "{wrong}");
        }
    }
}
