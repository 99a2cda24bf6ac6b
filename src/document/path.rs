//! Where in a document something is: a JSON Pointer.
//!
//! Source: RFC 6901. `$`, which is the whole document in Redis's JSON commands, is accepted for it too.

use std::str::FromStr;

use super::json::JsonError;

/// The steps of a path at most, as deep as a document may be.
pub(super) const DEPTH_MAX: usize = 128;

/// A path from the whole document to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    /// The fields of maps and indexes of lists on the way, unescaped.
    pub(super) steps: Vec<String>,
}

impl FromStr for Path {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        let Some(steps) = text.strip_prefix('/') else {
            return if matches!(text, "" | "$") { Ok(Self::default()) } else { Err(JsonError::Path) };
        };
        let steps: Vec<String> = steps.split('/').map(unescaped).collect::<Result<_, _>>()?;
        if steps.len() > DEPTH_MAX { Err(JsonError::TooDeep) } else { Ok(Self { steps }) }
    }
}

/// `~1` is a slash, `~0` a tilde, and another tilde is a mistake.
fn unescaped(step: &str) -> Result<String, JsonError> {
    let mut parts = step.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(JsonError::Path),
        };
        text.push(escaped);
        text.push_str(rest);
    }
    Ok(text)
}

/// The index of a list that a step means, in its only form.
pub(super) fn index(step: &str) -> Option<usize> {
    let index: usize = step.parse().ok()?;
    (index.to_string() == step).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6901, section 5, and what it calls invalid.
    #[test]
    fn paths_are_read_as_the_rfc_says() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("$", &[]),
            ("/foo", &["foo"]),
            ("/foo/0", &["foo", "0"]),
            ("/", &[""]),
            ("/a~1b", &["a/b"]),
            ("/m~0n", &["m~n"]),
            ("/~01", &["~1"]),
        ];
        for (text, steps) in cases {
            assert_eq!(
                text.parse::<Path>().map(|path| path.steps),
                Ok(steps.iter().map(|s| (*s).into()).collect())
            );
        }
        for text in ["foo", "$.foo", "/~", "/a~2"] {
            assert_eq!(text.parse::<Path>(), Err(JsonError::Path), "{text}");
        }
        assert!("/a".repeat(DEPTH_MAX).parse::<Path>().is_ok());
        assert_eq!("/a".repeat(DEPTH_MAX + 1).parse::<Path>(), Err(JsonError::TooDeep));
    }

    #[test]
    fn index_has_one_form() {
        assert_eq!(
            ["0", "12", "01", "-1", "+1", "a", ""].map(index),
            [Some(0), Some(12), None, None, None, None, None]
        );
    }
}
