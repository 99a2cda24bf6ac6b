//! Who may ask: what every request must pass before anything is done for it.
//!
//! (1) The name it asks for must be ours. A web page whose own name points to this machine is refused by that. (2) If a
//! browser sent it, the page must be of the same origin; there is no way to allow others. (3) With a token in the config
//! the request must bring it, unless it only asks whether the node lives and is ready.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::config::HttpConfig;
use super::problem::{Code, Problem};
use super::state::Shared;

/// What may be asked without a token: an orchestrator's probes have none.
const OPEN_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// Passes on the requests that may be answered, and counts the problems of all.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let admitted = check(&shared.config, request.uri(), request.headers());
    let response = match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(Code(code)) = response.extensions().get() {
        shared.figures.count_problem(code);
    }
    response
}

pub(super) fn check(config: &HttpConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = host(config, uri, headers)?;
    check_origin(&host, headers)?;
    check_token(config, uri, headers)
}

/// The host and port that the client asks for, if they may be meant.
fn host(config: &HttpConfig, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let mut named = headers.get_all(header::HOST).iter();
    let (Some(named), None) = (named.next(), named.next()) else {
        return Err(Problem::bad_request("a request has one Host"));
    };
    let refused = || Problem::new("host_not_allowed", "this node is not called that; see http.allowed_hosts");
    let named: Authority = named.to_str().ok().and_then(|named| named.parse().ok()).ok_or_else(refused)?;
    if uri.authority().is_some_and(|authority| *authority != named) {
        return Err(refused());
    }
    // An address cannot be pointed elsewhere, as a name can. Nothing but a port stands beside it.
    let name = named.host();
    let port = named.as_str().strip_prefix(name);
    if !port.is_some_and(|port| port.is_empty() || port[1..].parse::<u16>().is_ok()) {
        return Err(refused());
    }
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let is_ours = is_address
        || name.eq_ignore_ascii_case("localhost")
        || config.allowed_hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    if is_ours { Ok(named) } else { Err(refused()) }
}

fn check_origin(host: &Authority, headers: &HeaderMap) -> Result<(), Problem> {
    let refused = || Problem::new("origin_not_allowed", "pages of other origins may not use this node");
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
        if origin.as_ref() != Some(host) {
            return Err(refused());
        }
    }
    // What a page embeds comes without an origin, but says that another site wants it.
    let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
    match site {
        Some(b"cross-site" | b"same-site") => Err(refused()),
        _ => Ok(()),
    }
}

fn check_token(config: &HttpConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &config.token else { return Ok(()) };
    if OPEN_PATHS.contains(&uri.path()) {
        return Ok(());
    }
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let is_known = match (given.next(), given.next()) {
        (Some(given), None) => bearer(given.as_bytes()).is_some_and(|given| token.is(given)),
        _ => false,
    };
    if is_known {
        Ok(())
    } else {
        Err(Problem::new("unauthorized", "send the token as Authorization: Bearer"))
    }
}

/// What stands behind `Bearer`, whose case does not matter.
fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;
    use crate::http::config::Token;

    const SECRET: &str = "sixteen-letters!";

    fn config() -> HttpConfig {
        HttpConfig { allowed_hosts: vec!["node.example.org".to_owned()], ..HttpConfig::default() }
    }

    fn code(config: &HttpConfig, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let uri: Uri = uri.parse().expect("an address");
        let header = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("a header");
            (name, value.parse().expect("a value"))
        };
        // Repeated headers must both be there.
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(header) {
            map.append(name, value);
        }
        check(config, &uri, &map).map_or_else(|problem| problem.code, |()| "ok")
    }

    #[test]
    fn only_names_of_this_node_are_answered() {
        let cases = [
            ("127.0.0.1:8380", "ok"),
            ("[::1]:8380", "ok"),
            ("192.0.2.7", "ok"),
            ("localhost", "ok"),
            ("LOCALHOST:1", "ok"),
            ("node.example.org:8380", "ok"),
            ("evil.example.org", "host_not_allowed"),
            ("localhost.evil.example.org", "host_not_allowed"),
            ("127.0.0.1.evil.example.org", "host_not_allowed"),
            ("user@evil.example.org", "host_not_allowed"),
            ("", "host_not_allowed"),
            ("evil@localhost", "host_not_allowed"),
            ("localhost:evil", "host_not_allowed"),
            ("localhost:", "host_not_allowed"),
        ];
        for (host, expected) in cases {
            assert_eq!(code(&config(), "/livez", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(code(&config(), "/livez", &[]), "bad_request", "none");
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(code(&config(), "/livez", &two), "bad_request", "two");
        let other = code(&config(), "http://evil.example.org/livez", &[("host", "localhost")]);
        assert_eq!(other, "host_not_allowed", "the address goes before the header");
    }

    #[test]
    fn only_pages_of_the_same_origin_may_ask() {
        let cases = [
            ("origin", "http://localhost:8380", "ok"),
            ("origin", "https://localhost:8380", "ok"),
            ("origin", "http://localhost:8381", "origin_not_allowed"),
            ("origin", "http://localhost", "origin_not_allowed"),
            ("origin", "http://evil.example.org", "origin_not_allowed"),
            ("origin", "null", "origin_not_allowed"),
            ("origin", "", "origin_not_allowed"),
            ("sec-fetch-site", "cross-site", "origin_not_allowed"),
            ("sec-fetch-site", "same-site", "origin_not_allowed"),
            ("sec-fetch-site", "same-origin", "ok"),
            ("sec-fetch-site", "none", "ok"),
        ];
        for (name, value, expected) in cases {
            let headers = [("host", "localhost:8380"), (name, value)];
            assert_eq!(code(&config(), "/v1/keyspaces", &headers), expected, "{name}: {value}");
        }
    }

    #[test]
    fn token_is_asked_for_where_there_is_one() {
        let with = HttpConfig { token: Some(Token::new(SECRET)), ..config() };
        let right = format!("Bearer {SECRET}");
        let wrong = format!("Bearer {SECRET}!");
        let basic = format!("Basic {SECRET}");
        let host = ("host", "localhost");
        for path in ["/metrics", "/healthz", "/v1/keyspaces", "/livez/", "/nowhere"] {
            assert_eq!(code(&with, path, &[host]), "unauthorized", "{path}");
            assert_eq!(code(&with, path, &[host, ("authorization", &right)]), "ok", "{path}");
            for given in [&wrong, &basic, "Bearer", "Bearer ", ""] {
                assert_eq!(code(&with, path, &[host, ("authorization", given)]), "unauthorized", "{given}");
            }
            let twice = [host, ("authorization", &right), ("authorization", &wrong)];
            assert_eq!(code(&with, path, &twice), "unauthorized", "two");
            assert_eq!(code(&config(), path, &[host]), "ok", "{path} without a token in the config");
        }
        for path in OPEN_PATHS {
            assert_eq!(code(&with, path, &[host]), "ok", "{path}");
        }
    }
}
