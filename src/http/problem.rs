//! Errors as clients see them: `application/problem+json` (RFC 9457) with a `code` for programs.
//!
//! The codes say what the first words of the Redis port's errors say; each has one status.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidelock_engine::read::QueryError;
use tidelock_engine::request::{ActionError, RequestError};
use tidelock_engine::write::WriteError as Refused;

use crate::keyspace::WriteError;

/// Every code with its status, for the documents that list them.
pub(super) const CODES: [(&str, StatusCode); 34] = [
    ("answer_too_long", StatusCode::UNPROCESSABLE_ENTITY),
    ("bad_request", StatusCode::BAD_REQUEST),
    ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ("body_too_slow", StatusCode::REQUEST_TIMEOUT),
    ("busy", StatusCode::SERVICE_UNAVAILABLE),
    ("closed", StatusCode::SERVICE_UNAVAILABLE),
    ("failed", StatusCode::INTERNAL_SERVER_ERROR),
    ("forgotten", StatusCode::GONE),
    ("host_not_allowed", StatusCode::MISDIRECTED_REQUEST),
    ("leaving", StatusCode::SERVICE_UNAVAILABLE),
    ("loading", StatusCode::SERVICE_UNAVAILABLE),
    ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
    ("needs_strong", StatusCode::CONFLICT),
    ("never", StatusCode::GONE),
    ("no_leader", StatusCode::SERVICE_UNAVAILABLE),
    ("not_an_integer", StatusCode::CONFLICT),
    ("not_found", StatusCode::NOT_FOUND),
    ("not_replicated", StatusCode::NOT_FOUND),
    ("opening", StatusCode::SERVICE_UNAVAILABLE),
    ("origin_not_allowed", StatusCode::FORBIDDEN),
    ("other_operation", StatusCode::UNPROCESSABLE_ENTITY),
    ("outcome_unknown", StatusCode::GATEWAY_TIMEOUT),
    ("over_quota", StatusCode::INSUFFICIENT_STORAGE),
    ("overflow", StatusCode::CONFLICT),
    ("read_only", StatusCode::SERVICE_UNAVAILABLE),
    ("switching", StatusCode::SERVICE_UNAVAILABLE),
    ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ("too_many_keyspaces", StatusCode::INSUFFICIENT_STORAGE),
    ("try_again", StatusCode::SERVICE_UNAVAILABLE),
    ("unauthorized", StatusCode::UNAUTHORIZED),
    ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
    ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    // It was done, and asking again would do it again.
    ("untold", StatusCode::GATEWAY_TIMEOUT),
    ("wrong_kind", StatusCode::CONFLICT),
];

/// When it is worth trying again, in seconds: what passes by itself passes about as fast.
const RETRY_AFTER_S: &str = "1";

/// The codes of what passes by itself.
const PASSING: [&str; 5] = ["leaving", "loading", "no_leader", "switching", "try_again"];

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: &'static str,
    pub(super) detail: String,
    /// The operation on a strong keyspace of which it is not known whether it was executed.
    pub(super) operation: Option<String>,
}

impl Problem {
    /// A problem whose code is one of [`CODES`].
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), operation: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad_request", detail)
    }

    pub(super) fn status(&self) -> StatusCode {
        let found = CODES.iter().find(|(code, _)| *code == self.code);
        found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut body = json!({
            "title": status.canonical_reason(), "status": status.as_u16(), "code": self.code, "detail": self.detail,
        });
        if let Some(operation) = self.operation {
            body["operation"] = operation.into();
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if PASSING.contains(&self.code) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        // Whoever counts problems by reason finds it here and need not read the body.
        response.extensions_mut().insert(Code(self.code));
        response
    }
}

/// The code of a response that is a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            QueryError::WrongKind { .. } => "wrong_kind",
            QueryError::NotReplicated => "not_replicated",
            QueryError::Loading => "loading",
            QueryError::TooLong => "answer_too_long",
            // It has become strong since the handler looked.
            QueryError::NeedsAnchors => "switching",
            _ => "failed",
        };
        Self::new(code, error.to_string())
    }
}

impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Self {
        let code = match &error {
            ActionError::Unknown(operation) => {
                let operation = Some(operation.clone());
                return Self { operation, ..Self::new("outcome_unknown", error.to_string()) };
            }
            ActionError::TryAgain(_) => "try_again",
            ActionError::NoLeader(_) => "no_leader",
            ActionError::Forgotten(operation) => {
                let operation = Some(operation.clone());
                return Self { operation, ..Self::new("forgotten", error.to_string()) };
            }
            ActionError::NeedsStrong(_) => "needs_strong",
            ActionError::Untold => "untold",
            ActionError::Write(Refused::WrongKind { .. })
            | ActionError::Query(QueryError::WrongKind { .. }) => "wrong_kind",
            ActionError::Write(Refused::NotAnInteger) => "not_an_integer",
            ActionError::Write(Refused::Overflow) => "overflow",
            ActionError::Write(Refused::OverQuota { .. }) => "over_quota",
            ActionError::Write(Refused::Bound(_) | Refused::Empty) => "bad_request",
            ActionError::TooMuch | ActionError::Query(QueryError::TooLong) => "answer_too_long",
            ActionError::Query(QueryError::NotReplicated) => "not_replicated",
            ActionError::Query(QueryError::Loading) => "loading",
            ActionError::Query(QueryError::NeedsAnchors) => "switching",
            _ => "failed",
        };
        Self::new(code, error.to_string())
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        let code = match error {
            RequestError::Action { source, .. } => return Self { detail, ..Self::from(source) },
            RequestError::NotReplicated(_) => "not_replicated",
            RequestError::TooManyKeyspaces(_) => "too_many_keyspaces",
            RequestError::Loading(_) => "loading",
            RequestError::Leaving(_) => "leaving",
            RequestError::ReadOnly(_) => "read_only",
            RequestError::Commit(_) => "unknown",
            RequestError::Untold => "untold",
            RequestError::Never => "never",
            RequestError::OtherOperation => "other_operation",
            RequestError::Closed => "closed",
            RequestError::SwitchInProgress(_) => "switching",
            RequestError::EpochClosed(_) | RequestError::TryAgain { .. } => "try_again",
            RequestError::NoLeader(_) => "no_leader",
            RequestError::TooLarge { .. } => "too_large",
            RequestError::Unknown(operation) => {
                return Self { operation: Some(operation), ..Self::new("outcome_unknown", detail) };
            }
            RequestError::Forgotten(operation) => {
                return Self { operation: Some(operation), ..Self::new("forgotten", detail) };
            }
            _ => "failed",
        };
        Self::new(code, detail)
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(error) => error.into(),
            WriteError::Request(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_strong_keyspaces_say_what_became_of_a_request() {
        let name: tidelock_engine::id::KeyspaceName = "ks".parse().expect("a name");
        let reason = "why".to_owned();
        let passing = [
            (RequestError::SwitchInProgress(name.clone()), "switching"),
            (RequestError::EpochClosed(name.clone()), "try_again"),
            (RequestError::TryAgain { keyspace: name.clone(), reason: reason.clone() }, "try_again"),
            (RequestError::NoLeader(reason.clone()), "no_leader"),
            (RequestError::Loading(name.clone()), "loading"),
        ];
        for (error, code) in passing {
            let problem = Problem::from(error);
            assert_eq!((problem.code, problem.status()), (code, StatusCode::SERVICE_UNAVAILABLE));
            assert!(problem.into_response().headers().contains_key(header::RETRY_AFTER), "{code}");
        }
        let unknown = Problem::from(RequestError::Unknown("1-00-7".to_owned()));
        assert_eq!((unknown.code, unknown.status()), ("outcome_unknown", StatusCode::GATEWAY_TIMEOUT));
        assert_eq!(unknown.operation.as_deref(), Some("1-00-7"));
        // Trying again might do it twice.
        assert!(!unknown.into_response().headers().contains_key(header::RETRY_AFTER));
        let done = [Problem::from(RequestError::Untold), Problem::from(ActionError::Untold)];
        for untold in done {
            assert_eq!((untold.code, untold.status()), ("untold", StatusCode::GATEWAY_TIMEOUT));
            assert!(!untold.into_response().headers().contains_key(header::RETRY_AFTER));
        }
        let forgotten = Problem::from(RequestError::Forgotten("1-00-7".to_owned()));
        assert_eq!((forgotten.code, forgotten.status()), ("forgotten", StatusCode::GONE));
        assert_eq!(forgotten.operation.as_deref(), Some("1-00-7"));
        let eventual = RequestError::Action { index: 0, source: ActionError::NeedsStrong(name.clone()) };
        assert_eq!(Problem::from(eventual).code, "needs_strong");
        assert_eq!(Problem::from(RequestError::Never).status(), StatusCode::GONE);
        assert_eq!(Problem::from(RequestError::OtherOperation).status(), StatusCode::UNPROCESSABLE_ENTITY);
        let too_large = Problem::from(RequestError::TooLarge { keyspace: name, reason });
        assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn every_code_is_documented() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("api/openapi.json")).expect("it is JSON");
        let listed = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array();
        let listed: Vec<&str> =
            listed.expect("a list").iter().filter_map(serde_json::Value::as_str).collect();
        assert_eq!(listed, CODES.map(|(code, _)| code));
    }
}
