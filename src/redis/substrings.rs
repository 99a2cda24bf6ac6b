//! STRLEN, GETRANGE, SUBSTR, GETBIT and BITCOUNT: what is asked about a part of a value.

use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::ActionReply;

use super::call::{Arguments, Call, Given, Shape};
use super::errors;
use super::reply::Reply;
use super::table::{ONE, READ, READ_FAST, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("bitcount", -2, READ, ONE, Run::Data(bitcount), "Counts the bits that are set in a value")),
    spec(("getbit", 3, READ_FAST, ONE, Run::Data(getbit), "Reads a bit of a value")),
    spec(("getrange", 4, READ, ONE, Run::Data(getrange), "Reads a part of a value")),
    spec(("strlen", 2, READ_FAST, ONE, Run::Data(strlen), "Tells the length of a value")),
    spec(("substr", 4, READ, ONE, Run::Data(getrange), "Reads a part of a value")),
];

/// As in Redis: the bits of 512 MiB.
const BIT_OFFSET_MAX: u64 = (512 << 20) * 8 - 1;

/// A call that reads a value, which is empty if it is missing, and answers what `by` makes of it.
fn of_value(key: Vec<u8>, by: impl FnOnce(Vec<u8>) -> Reply + Send + 'static, is_long: bool) -> Call {
    let made = move |given: &mut Vec<Given>| match value(given) {
        Ok(value) => by(value),
        Err(refused) => refused,
    };
    Call::query(Query::Get(key), Shape::made(made, is_long))
}

/// The next value that was read, empty if there is none.
pub(super) fn value(given: &mut Vec<Given>) -> Result<Vec<u8>, Reply> {
    match given.pop().expect("the command has an action") {
        Ok(ActionReply::Answer(Answer::Value(value))) => Ok(value.unwrap_or_default()),
        Ok(_) => unreachable!("a value was asked for"),
        Err(error) => Err(errors::action(&error)),
    }
}

fn strlen(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(of_value(arguments.key()?, |value| Reply::count(value.len()), false))
}

fn getrange(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let (start, end) = (errors::integer(&arguments.take())?, errors::integer(&arguments.take())?);
    Ok(of_value(
        key,
        move |value| match span(start, end, value.len()) {
            Some((first, last)) => Reply::Bulk(value[first..=last].to_vec()),
            None => Reply::text(""),
        },
        true,
    ))
}

fn getbit(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, offset) = (arguments.key()?, arguments.take());
    let offset = errors::integer(&offset).ok().and_then(|offset| u64::try_from(offset).ok());
    let offset = offset
        .filter(|offset| *offset <= BIT_OFFSET_MAX)
        .ok_or(errors::constant("ERR bit offset is not an integer or out of range"))?;
    let bit = move |value: Vec<u8>| {
        let byte = usize::try_from(offset / 8).ok().and_then(|at| value.get(at)).copied().unwrap_or(0);
        Reply::Integer(i64::from(byte >> (7 - offset % 8) & 1))
    };
    Ok(of_value(key, bit, false))
}

/// `BITCOUNT key [start end [BYTE | BIT]]`
fn bitcount(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    if !matches!(arguments.len(), 0 | 2 | 3) {
        return Err(errors::SYNTAX);
    }
    let Some(start) = arguments.next() else {
        return Ok(of_value(key, |value| Reply::Integer(ones(&value)), false));
    };
    let (start, end) = (errors::integer(&start)?, errors::integer(&arguments.take())?);
    let is_bits = match arguments.next().map(|unit| unit.to_ascii_lowercase()).as_deref() {
        None | Some(b"byte") => false,
        Some(b"bit") => true,
        Some(_) => return Err(errors::SYNTAX),
    };
    let count = move |value: Vec<u8>| {
        let unit = if is_bits { 8 } else { 1 };
        let Some((first, last)) = span(start, end, value.len() * unit) else { return Reply::Integer(0) };
        let mut part = value[first / unit..=last / unit].to_vec();
        if is_bits {
            // The bits before the first and behind the last one do not count.
            let (before, behind) = (first % 8, 7 - last % 8);
            if let Some(byte) = part.first_mut() {
                *byte &= u8::MAX >> before;
            }
            if let Some(byte) = part.last_mut() {
                *byte &= u8::MAX << behind;
            }
        }
        Reply::Integer(ones(&part))
    };
    Ok(of_value(key, count, false))
}

fn ones(bytes: &[u8]) -> i64 {
    bytes.iter().map(|byte| i64::from(byte.count_ones())).sum()
}

/// The first and the last place of a range as Redis takes it: negative ones count from the end, and what is still
/// before the beginning is the beginning, also where the range ends.
fn span(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (first, last) = (place(start), place(end).min(length - 1));
    if first > last {
        return None;
    }
    Some((usize::try_from(first).ok()?, usize::try_from(last).ok()?))
}
