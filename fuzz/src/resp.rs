//! The commands that bytes stand for, by a parser that sees all of them at once and keeps no state: the oracle
//! of the Redis port's decoder, which sees them in pieces.
//!
//! Source: the Redis serialization protocol specification; Redis, `processInlineBuffer` and `sdssplitargs`.

use tidelock::redis::{ARGUMENT_OVERHEAD_BYTES, INLINE_BYTES_MAX, ProtocolError, RedisConfig};

/// Commands, each as its arguments, of which one that is too long has none.
pub type Commands = Vec<Vec<Vec<u8>>>;

/// The longest `*` or `$` line, in bytes.
const HEADER_BYTES_MAX: usize = 64;

/// The longest argument that is skipped and not an error, in bytes.
const SKIPPED_BYTES_MAX: usize = 512 << 20;

/// What bytes begin with.
enum Begin<'a> {
    Command(Vec<Vec<u8>>, &'a [u8]),
    /// Something that is no command and no error.
    Nothing(&'a [u8]),
    /// More is needed to tell.
    Incomplete,
}

/// All commands of `bytes`, and the error that ended them, if one did.
pub fn commands(config: &RedisConfig, mut bytes: &[u8]) -> (Commands, Option<ProtocolError>) {
    let mut commands = Commands::new();
    loop {
        let begin = match bytes.first() {
            None => return (commands, None),
            Some(b'*') => array(config, &bytes[1..]),
            Some(_) => inline(config, bytes),
        };
        match begin {
            Ok(Begin::Command(arguments, rest)) => {
                commands.push(arguments);
                bytes = rest;
            }
            Ok(Begin::Nothing(rest)) => bytes = rest,
            Ok(Begin::Incomplete) => return (commands, None),
            Err(error) => return (commands, Some(error)),
        }
    }
}

/// A line without its end, and what is behind it.
type Line<'a> = (&'a [u8], &'a [u8]);

/// The first line; `Ok(None)` when its end has not come, an error when it is longer than `max`.
fn line(bytes: &[u8], max: usize) -> Result<Option<Line<'_>>, ()> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        // Two bytes more could still be its end.
        return if bytes.len() < max + 2 { Ok(None) } else { Err(()) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.len() > max { Err(()) } else { Ok(Some((line, &bytes[end + 1..]))) }
}

/// A decimal number in its only form.
fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits == "0" && digits == text || !digits.starts_with(['0', '+', '-']);
    text.parse().ok().filter(|_| is_plain)
}

fn array<'a>(config: &RedisConfig, bytes: &'a [u8]) -> Result<Begin<'a>, ProtocolError> {
    let found = line(bytes, HEADER_BYTES_MAX).map_err(|()| ProtocolError::ArrayHeader)?;
    let Some((text, mut rest)) = found else { return Ok(Begin::Incomplete) };
    let count = number(text).ok_or(ProtocolError::ArrayLength)?;
    if count > i64::try_from(config.array_elements_max).unwrap_or(i64::MAX) {
        return Err(ProtocolError::ArrayLength);
    }
    let (mut arguments, mut bytes, mut is_too_long) = (Vec::new(), 0, false);
    for _ in 0..count {
        match rest.first() {
            None => return Ok(Begin::Incomplete),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NotBulk(*other)),
        }
        let found = line(&rest[1..], HEADER_BYTES_MAX).map_err(|()| ProtocolError::BulkHeader)?;
        let Some((text, behind)) = found else { return Ok(Begin::Incomplete) };
        let length = number(text).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= SKIPPED_BYTES_MAX);
        let length = length.ok_or(ProtocolError::BulkLength)?;
        bytes += length + ARGUMENT_OVERHEAD_BYTES;
        is_too_long |= length > config.bulk_bytes_max || bytes > config.command_bytes_max;
        let Some((argument, behind)) = behind.split_at_checked(length) else { return Ok(Begin::Incomplete) };
        rest = match behind {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(Begin::Incomplete),
            _ => return Err(ProtocolError::BulkEnd),
        };
        arguments.push(argument.to_vec());
    }
    if is_too_long {
        arguments.clear();
        return Ok(Begin::Command(arguments, rest));
    }
    Ok(if arguments.is_empty() { Begin::Nothing(rest) } else { Begin::Command(arguments, rest) })
}

fn inline<'a>(config: &RedisConfig, bytes: &'a [u8]) -> Result<Begin<'a>, ProtocolError> {
    let found = line(bytes, INLINE_BYTES_MAX).map_err(|()| ProtocolError::Inline)?;
    let Some((text, rest)) = found else { return Ok(Begin::Incomplete) };
    let arguments = words(text).ok_or(ProtocolError::Quotes)?;
    if arguments.is_empty() {
        return Ok(Begin::Nothing(rest));
    }
    let bytes: usize = arguments.iter().map(|argument| argument.len() + ARGUMENT_OVERHEAD_BYTES).sum();
    let is_too_long = bytes > config.command_bytes_max;
    Ok(Begin::Command(if is_too_long { Vec::new() } else { arguments }, rest))
}

/// The words of a line; `None` when its quotes do not match. One index, one loop, one quote that is open.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut words, mut word, mut quote): (Vec<Vec<u8>>, Option<Vec<u8>>, Option<u8>) = (vec![], None, None);
    let mut at = 0;
    while let Some(byte) = line.get(at).copied() {
        at += 1;
        match (quote, byte) {
            (None, byte) if byte.is_ascii_whitespace() => words.extend(word.take()),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (Some(open), byte) if byte == open => {
                if line.get(at).is_some_and(|next| !next.is_ascii_whitespace()) {
                    return None;
                }
                quote = None;
                words.extend(word.take());
            }
            (Some(b'"'), b'\\') => {
                let (escaped, length) = escaped(&line[at..])?;
                word.get_or_insert_default().push(escaped);
                at += length;
            }
            (Some(b'\''), b'\\') if line.get(at) == Some(&b'\'') => {
                word.get_or_insert_default().push(b'\'');
                at += 1;
            }
            (None | Some(_), byte) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The byte that is meant behind a backslash in double quotes, and how many bytes say so.
fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    if let [b'x', high, low, ..] = rest
        && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
    {
        return u8::try_from(high * 16 + low).ok().map(|byte| (byte, 3));
    }
    let byte = match *rest.first()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    };
    Some((byte, 1))
}

/// A command as an array of bulk strings.
pub fn encode(arguments: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", arguments.len()).bytes());
    for argument in arguments {
        out.extend(format!("${}\r\n", argument.len()).bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}
