//! Inline commands: a line that somebody typed, split at white space, with quotes.
//!
//! Source: Redis, `sdssplitargs`. In double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` stand for a byte, and
//! a backslash before anything else for that; in single quotes `\'` stands for a quote.

/// The arguments of a line; `None` when a quote is not closed, or something follows it at once.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(arguments);
        }
        let mut argument = Vec::new();
        rest = take_argument(rest, &mut argument)?;
        arguments.push(argument);
    }
}

/// An argument may go from bare into quotes, but must end behind them.
fn take_argument<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    while let [first, behind @ ..] = rest {
        match first {
            b'"' => return take_double_quoted(behind, argument),
            b'\'' => return take_single_quoted(behind, argument),
            byte if byte.is_ascii_whitespace() => return Some(rest),
            byte => argument.push(*byte),
        }
        rest = behind;
    }
    Some(rest)
}

fn take_double_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return at_end(behind),
            [b'\\', b'x', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                argument.push(hex(*high) << 4 | hex(*low));
                behind
            }
            [b'\\', escaped, behind @ ..] => {
                argument.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                behind
            }
            [byte, behind @ ..] => {
                argument.push(*byte);
                behind
            }
            [] => return None,
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\'', behind @ ..] => return at_end(behind),
            [b'\\', b'\'', behind @ ..] => {
                argument.push(b'\'');
                behind
            }
            [byte, behind @ ..] => {
                argument.push(*byte);
                behind
            }
            [] => return None,
        }
    }
}

fn at_end(behind_quote: &[u8]) -> Option<&[u8]> {
    let is_end = behind_quote.first().is_none_or(u8::is_ascii_whitespace);
    is_end.then_some(behind_quote)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_as_redis_splits_them() {
        let cases: [(&str, Option<Vec<&[u8]>>); 10] = [
            ("", Some(vec![])),
            ("  PING  ", Some(vec![b"PING"])),
            ("set k v", Some(vec![b"set", b"k", b"v"])),
            (r#"set k "a b""#, Some(vec![b"set", b"k", b"a b"])),
            (r#"set k "\x41\n\"\q""#, Some(vec![b"set", b"k", b"A\n\"q"])),
            (r"set k 'it\'s \n'", Some(vec![b"set", b"k", br"it's \n"])),
            (r#"set k """#, Some(vec![b"set", b"k", b""])),
            (r#"set k "open"#, None),
            (r#"set k "a"b"#, None),
            ("set k 'open", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|list| list.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
            assert_eq!(split(line.as_bytes()), expected, "{line}");
        }
    }
}
