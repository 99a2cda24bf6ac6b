//! What a node answered, read from its bytes.

use std::io::{self, BufRead, Read};

use super::client::ClientError;

/// Deeper than this no node answers.
const DEPTH_MAX: usize = 8;

/// Longer than this no line of an answer is, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// An answer, in either version of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Boolean(bool),
    Double(f64),
    /// A word such as `OK`.
    Word(String),
    Bytes(Vec<u8>),
    /// Also sets and pushes.
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// The value of a field of a map.
    pub(super) fn field(&self, name: &str) -> &Self {
        static MISSING: Value = Value::Null;
        let Self::Map(pairs) = self else { return &MISSING };
        let found = pairs.iter().find(|(key, _)| matches!(key, Self::Bytes(key) if key == name.as_bytes()));
        found.map_or(&MISSING, |(_, value)| value)
    }

    pub(super) fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    pub(super) fn pairs(&self) -> &[(Self, Self)] {
        if let Self::Map(pairs) = self { pairs } else { &[] }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }
}

/// Reads one answer. An error that the node answers is [`ClientError::Refused`].
pub(super) fn read(input: &mut impl BufRead) -> Result<Value, ClientError> {
    read_nested(input, 0)
}

fn read_nested(input: &mut impl BufRead, depth: usize) -> Result<Value, ClientError> {
    let line = read_line(input)?;
    let Some((mark, text)) = line.split_at_checked(1) else { return Err(ClientError::NotANode) };
    if depth > DEPTH_MAX {
        return Err(ClientError::NotANode);
    }
    let list = |input: &mut _| -> Result<Vec<Value>, ClientError> {
        (0..length(text)?).map(|_| read_nested(input, depth + 1)).collect()
    };
    Ok(match mark {
        "+" => Value::Word(text.to_owned()),
        "-" => return Err(ClientError::Refused(text.to_owned())),
        ":" => Value::Integer(text.parse().map_err(|_| ClientError::NotANode)?),
        "#" => Value::Boolean(text == "t"),
        "," => Value::Double(text.parse().map_err(|_| ClientError::NotANode)?),
        "_" => Value::Null,
        "$" | "*" if text == "-1" => Value::Null,
        "$" => Value::Bytes(read_bytes(input, length(text)?)?),
        "=" => {
            // Behind three letters that say what it is, and a colon.
            let bytes = read_bytes(input, length(text)?)?;
            Value::Bytes(bytes.get(4..).ok_or(ClientError::NotANode)?.to_vec())
        }
        "*" | "~" | ">" => Value::List(list(input)?),
        "%" => {
            let pair = |_| Ok((read_nested(input, depth + 1)?, read_nested(input, depth + 1)?));
            Value::Map((0..length(text)?).map(pair).collect::<Result<_, ClientError>>()?)
        }
        _ => return Err(ClientError::NotANode),
    })
}

fn length(text: &str) -> Result<u64, ClientError> {
    text.parse().map_err(|_| ClientError::NotANode)
}

fn read_line(input: &mut impl BufRead) -> Result<String, ClientError> {
    let mut line = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or(ClientError::NotANode)?;
    String::from_utf8(line.to_vec()).map_err(|_| ClientError::NotANode)
}

/// The memory grows with what comes, not with what was announced.
fn read_bytes(input: &mut impl BufRead, length: u64) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    input.by_ref().take(length.saturating_add(2)).read_to_end(&mut bytes)?;
    let is_whole = bytes.len() as u64 == length.saturating_add(2) && bytes.ends_with(b"\r\n");
    if !is_whole {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    bytes.truncate(bytes.len() - 2);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, ClientError> {
        read(&mut text.as_bytes())
    }

    #[test]
    fn both_protocols_are_read() {
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let cases = [
            ("+OK\r\n", Value::Word("OK".to_owned())),
            (":-5\r\n", Value::Integer(-5)),
            ("$-1\r\n", Value::Null),
            ("*-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            ("$4\r\na\r\nb\r\n", bytes("a\r\nb")),
            ("=6\r\ntxt:hi\r\n", bytes("hi")),
            ("#t\r\n", Value::Boolean(true)),
            (",1.5\r\n", Value::Double(1.5)),
            ("*2\r\n:1\r\n~1\r\n_\r\n", Value::List(vec![Value::Integer(1), Value::List(vec![Value::Null])])),
            ("%1\r\n$1\r\nk\r\n:2\r\n", Value::Map(vec![(bytes("k"), Value::Integer(2))])),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).expect(text), expected);
        }
    }

    #[test]
    fn answers_that_no_node_gives_are_errors() {
        let nested = "*1\r\n".repeat(1_000);
        // The fuzzer's first find was the text without the letters that say what it is.
        let untyped = "*4\r\n=2\r\nhi\r\n";
        for text in [
            "",
            "HTTP/1.1 400\r\n",
            "$5\r\nab",
            "$99999999999999999999\r\n",
            ":x\r\n",
            "+no end",
            untyped,
            &nested,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(matches!(parse("-ERR no\r\n"), Err(ClientError::Refused(text)) if text == "ERR no"));
    }
}
