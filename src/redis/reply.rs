//! What a client is answered, and its bytes in both protocols.
//!
//! Source: the Redis serialization protocol specification, versions 2 and 3.

use std::borrow::Cow;
use std::io::Write;

use super::scores;

/// The version of the protocol that a client speaks. It begins with 2 and asks for 3 with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2: maps and sets are flat arrays, booleans integers.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A word such as `OK`. Line ends within become spaces.
    Simple(Cow<'static, str>),
    /// An error: a word in capitals that programs look at, then a sentence. Line ends within become spaces.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Text to be shown as it is; a bulk string in RESP2.
    Verbatim(String),
    /// Nothing, where there might be bytes.
    Null,
    /// Nothing, where there might be an array.
    NullArray,
    /// A list.
    Array(Vec<Self>),
    /// Pairs.
    Map(Vec<(Self, Self)>),
    /// Pairs in an order, or repeated: a list of lists of two; flat in RESP2.
    Pairs(Vec<(Self, Self)>),
    /// A list without order or repetition.
    Set(Vec<Self>),
    /// Yes or no; 1 or 0 in RESP2.
    Boolean(bool),
    /// A number with a fraction; a bulk string in RESP2.
    Double(f64),
    /// A list that was not asked for; an array in RESP2.
    Push(Vec<Self>),
}

impl Reply {
    /// `+OK`.
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// An error of text that is made now.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(text.into())
    }

    /// Text as a bulk string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(text.into().into_bytes())
    }

    /// A count, which no node reaches the end of.
    pub fn count(count: impl TryInto<i64>) -> Self {
        Self::Integer(count.try_into().unwrap_or(i64::MAX))
    }

    /// Bytes that may not be there.
    pub fn optional(bytes: Option<Vec<u8>>) -> Self {
        bytes.map_or(Self::Null, Self::Bulk)
    }

    /// Appends the answer's bytes. The depth of an answer is that of the code which makes it.
    pub fn encode_into(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let is_resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Error(text) => line(out, '-', text),
            Self::Integer(number) => header(out, ':', number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Verbatim(text) if is_resp3 => {
                header(out, '=', text.len() + "txt:".len());
                out.extend_from_slice(b"txt:");
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Self::Verbatim(text) => bulk(out, text.as_bytes()),
            Self::Null | Self::NullArray if is_resp3 => out.extend_from_slice(b"_\r\n"),
            Self::Null => out.extend_from_slice(b"$-1\r\n"),
            Self::NullArray => out.extend_from_slice(b"*-1\r\n"),
            Self::Array(list) => sequence(out, '*', list, protocol),
            Self::Set(list) => sequence(out, if is_resp3 { '~' } else { '*' }, list, protocol),
            Self::Push(list) => sequence(out, if is_resp3 { '>' } else { '*' }, list, protocol),
            Self::Map(pairs) => {
                let length = if is_resp3 { pairs.len() } else { pairs.len() * 2 };
                header(out, if is_resp3 { '%' } else { '*' }, length);
                for (key, value) in pairs {
                    key.encode_into(protocol, out);
                    value.encode_into(protocol, out);
                }
            }
            Self::Pairs(pairs) => {
                header(out, '*', if is_resp3 { pairs.len() } else { pairs.len() * 2 });
                for (first, second) in pairs {
                    if is_resp3 {
                        out.extend_from_slice(b"*2\r\n");
                    }
                    first.encode_into(protocol, out);
                    second.encode_into(protocol, out);
                }
            }
            Self::Boolean(is) if is_resp3 => header(out, '#', if *is { 't' } else { 'f' }),
            Self::Boolean(is) => header(out, ':', u8::from(*is)),
            Self::Double(number) if is_resp3 => header(out, ',', scores::print(*number)),
            Self::Double(number) => bulk(out, scores::print(*number).as_bytes()),
        }
    }
}

fn header(out: &mut Vec<u8>, mark: char, what: impl std::fmt::Display) {
    write!(out, "{mark}{what}\r\n").expect("writing to memory cannot fail");
}

fn line(out: &mut Vec<u8>, mark: char, text: &str) {
    header(out, mark, "");
    out.truncate(out.len() - 2);
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, '$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn sequence(out: &mut Vec<u8>, mark: char, list: &[Reply], protocol: Protocol) {
    header(out, mark, list.len());
    for item in list {
        item.encode_into(protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_has_golden_bytes_in_both_protocols() {
        let list = || vec![Reply::Integer(1), Reply::Null];
        let cases: [(Reply, &str, &str); 20] = [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::error("ERR no\r\nway"), "-ERR no  way\r\n", "-ERR no  way\r\n"),
            (Reply::Simple("a\nb".into()), "+a b\r\n", "+a b\r\n"),
            (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Reply::text("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Verbatim("hi".to_owned()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::NullArray, "*-1\r\n", "_\r\n"),
            (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
            (Reply::Array(list()), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
            (Reply::Set(list()), "*2\r\n:1\r\n$-1\r\n", "~2\r\n:1\r\n_\r\n"),
            (Reply::Push(list()), "*2\r\n:1\r\n$-1\r\n", ">2\r\n:1\r\n_\r\n"),
            (
                Reply::Map(vec![(Reply::text("k"), Reply::Integer(2))]),
                "*2\r\n$1\r\nk\r\n:2\r\n",
                "%1\r\n$1\r\nk\r\n:2\r\n",
            ),
            (
                Reply::Pairs(vec![(Reply::text("k"), Reply::Integer(2))]),
                "*2\r\n$1\r\nk\r\n:2\r\n",
                "*1\r\n*2\r\n$1\r\nk\r\n:2\r\n",
            ),
            (Reply::Boolean(true), ":1\r\n", "#t\r\n"),
            (Reply::Boolean(false), ":0\r\n", "#f\r\n"),
            (Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (Reply::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (Reply::count(u64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
        ];
        for (reply, resp2, resp3) in cases {
            for (protocol, golden) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut bytes = Vec::new();
                reply.encode_into(protocol, &mut bytes);
                assert_eq!(bytes.escape_ascii().to_string(), golden.as_bytes().escape_ascii().to_string());
            }
        }
    }
}
