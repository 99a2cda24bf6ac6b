//! SET, GET, MSET, MGET, INCR and its kin.

use tidelock_engine::read::Query;
use tidelock_engine::request::Action;
use tidelock_engine::write::{Ttl, Write};

use super::call::{Arguments, Call, Shape};
use super::conditional::SetIf;
use super::errors;
use super::expiry;
use super::reply::Reply;
use super::table::{ALL, ONE, PAIRS, READ_FAST, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("decr", 2, WRITE_FAST, ONE, Run::Data(decr), "Counts one down")),
    spec(("decrby", 3, WRITE_FAST, ONE, Run::Data(decrby), "Counts down")),
    spec(("get", 2, READ_FAST, ONE, Run::Data(get), "Reads a value")),
    spec(("incr", 2, WRITE_FAST, ONE, Run::Data(incr), "Counts one up")),
    spec(("incrby", 3, WRITE_FAST, ONE, Run::Data(incrby), "Counts up")),
    spec(("mget", -2, READ_FAST, ALL, Run::Data(mget), "Reads values")),
    spec(("mset", -3, WRITE, PAIRS, Run::Data(mset), "Writes values, all or none")),
    spec(("set", -3, WRITE, ONE, Run::Data(set), "Writes a value")),
];

/// `SET key value [NX|XX] [GET]`.
pub(super) fn set(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, value) = (arguments.key()?, arguments.take());
    let (mut set_if, mut ttl) = (SetIf::default(), None);
    while let Some(option) = arguments.next() {
        let said = match option.to_ascii_lowercase().as_slice() {
            b"nx" if set_if.exists != Some(true) => {
                set_if.exists = Some(false);
                continue;
            }
            b"xx" if set_if.exists != Some(false) => {
                set_if.exists = Some(true);
                continue;
            }
            b"get" => {
                set_if.gets = true;
                continue;
            }
            b"keepttl" => Some(Ttl::Keep),
            _ => expiry::ttl_option("set", &option, &mut arguments)?,
        };
        if said.is_none() || ttl.is_some() {
            return Err(errors::SYNTAX);
        }
        ttl = said;
    }
    let write = match ttl {
        None => Write::Set { key, value },
        Some(ttl) => Write::SetFor { key, value, ttl },
    };
    if set_if == SetIf::default() { Ok(Call::write(write, Shape::Done)) } else { Ok(set_if.call(write)) }
}

pub(super) fn get(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Get(arguments.key()?), Shape::Value))
}

pub(super) fn mset(mut arguments: Arguments) -> Result<Call, Reply> {
    if !arguments.len().is_multiple_of(2) {
        return Err(errors::arity("mset"));
    }
    Arguments::check_batch(arguments.len() / 2, arguments.as_slice().iter().map(Vec::len).sum())?;
    let mut writes = Vec::with_capacity(arguments.len() / 2);
    while arguments.len() > 0 {
        let (key, value) = (arguments.key()?, arguments.take());
        writes.push(Action::Write(Write::Set { key, value }));
    }
    Ok(Call::each(writes.into_iter(), Shape::Done))
}

pub(super) fn mget(arguments: Arguments) -> Result<Call, Reply> {
    let keys = arguments.keys()?;
    Ok(Call::each(keys.into_iter().map(|key| Action::Query(Query::Get(key))), Shape::Values))
}

pub(super) fn incr(mut arguments: Arguments) -> Result<Call, Reply> {
    increment(arguments.key()?, 1)
}

pub(super) fn decr(mut arguments: Arguments) -> Result<Call, Reply> {
    increment(arguments.key()?, -1)
}

pub(super) fn incrby(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, by) = (arguments.key()?, errors::integer(&arguments.take())?);
    increment(key, by)
}

pub(super) fn decrby(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, by) = (arguments.key()?, errors::integer(&arguments.take())?);
    let by = by.checked_neg().ok_or(errors::constant("ERR decrement would overflow"))?;
    increment(key, by)
}

#[expect(clippy::unnecessary_wraps, reason = "the callers are rows of the command table")]
fn increment(key: Vec<u8>, by: i64) -> Result<Call, Reply> {
    Ok(Call::write(Write::Increment { key, by }, Shape::Number))
}
