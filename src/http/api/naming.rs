//! `Idempotency-Key`: the write of this request is an operation that its client names, and is done once however often it
//! is asked for.
//!
//! The key is a string, in quotation marks or plain. By itself it names one operation. Whoever counts its operations gives
//! the same key to all of them, and says which one it is: `"till-3";number=8812`.
//!
//! Source: IETF draft-ietf-httpapi-idempotency-key-header, "The Idempotency-Key HTTP Header Field"; RFC 9651, structured
//! fields. The parameter is ours.

use axum::http::HeaderMap;
use tidelock_engine::id::ClientId;

use crate::http::problem::Problem;
use crate::named::{CLIENT_BYTES_MAX, Name};

const HEADER: &str = "idempotency-key";

/// The name that the header gives to an operation, if it is there.
pub(super) fn name(headers: &HeaderMap) -> Result<Option<Name>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let found = value.to_str().ok().filter(|_| values.next().is_none()).and_then(parse);
    found.map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "Idempotency-Key is there once, and is a string of 1 to {CLIENT_BYTES_MAX} bytes, such as \"8e03-a57f\", or \
             \"till-3\";number=8812"
        ))
    })
}

fn parse(text: &str) -> Option<Name> {
    let (key, parameters) = match text.trim().strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => match text.trim().split_once(';') {
            Some((key, parameters)) => (key.trim_end().to_owned(), format!(";{parameters}")),
            None => (text.trim().to_owned(), String::new()),
        },
    };
    let number = match parameters.trim() {
        "" => 0,
        given => {
            let number = given.strip_prefix(';')?.trim().strip_prefix("number=")?;
            // A sign would be another text of the same number.
            number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?
        }
    };
    let is_plain = (1..=CLIENT_BYTES_MAX).contains(&key.len());
    is_plain.then(|| (ClientId::named(key.as_bytes()), number))
}

/// The string up to its quotation mark, and what is behind that.
fn unquoted(text: &str) -> Option<(String, String)> {
    let mut key = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((key, rest.as_str().to_owned())),
            '\\' => key.push(rest.next().filter(|character| matches!(character, '"' | '\\'))?),
            character => key.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Option<Name>, &'static str> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(HEADER, text.parse().expect("a header"));
        }
        name(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn key_names_one_operation_or_one_of_those_that_are_counted() {
        let named = |client: &str, number| Ok(Some((ClientId::named(client.as_bytes()), number)));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["8e03-a57f"]), named("8e03-a57f", 0));
        assert_eq!(of(&["\"8e03-a57f\""]), named("8e03-a57f", 0));
        for counted in ["\"till 3\";number=8812", " \"till 3\" ; number=8812", "till 3;number=8812"] {
            assert_eq!(of(&[counted]), named("till 3", 8_812), "{counted}");
        }
        assert_eq!(of(&["\"a\\\"b;\\\\\""]), named("a\"b;\\", 0));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let long = "k".repeat(CLIENT_BYTES_MAX + 1);
        let wrong = [
            "",
            "\"\"",
            "\"a",
            "\"a\\b\"",
            "\"a\"b",
            "a;n=1",
            "a;number=",
            "a;number=-1",
            "a;number=+1",
            "a;number=1;b",
        ];
        for wrong in wrong.into_iter().chain([&long[..]]) {
            assert_eq!(of(&[wrong]), Err("bad_request"), "{wrong}");
        }
        assert_eq!(of(&["a", "b"]), Err("bad_request"));
    }
}
