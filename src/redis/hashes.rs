//! HSET, HGET, HDEL, HGETALL and HLEN: maps of fields, each with a value of its own.

use tidelock_engine::read::Query;
use tidelock_engine::write::Write;

use super::call::{Arguments, Call, Shape};
use super::errors;
use super::reply::Reply;
use super::table::{ONE, READ, READ_FAST, Run, Spec, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("hdel", -3, WRITE_FAST, ONE, Run::Data(hdel), "Removes fields")),
    spec(("hget", 3, READ_FAST, ONE, Run::Data(hget), "Reads a field")),
    spec(("hgetall", 2, READ, ONE, Run::Data(hgetall), "Reads all fields")),
    spec(("hlen", 2, READ_FAST, ONE, Run::Data(hlen), "Counts fields")),
    spec(("hset", -4, WRITE_FAST, ONE, Run::Data(hset), "Writes fields")),
];

pub(super) fn hset(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    if !arguments.len().is_multiple_of(2) {
        return Err(errors::arity("hset"));
    }
    let mut fields = Vec::with_capacity(arguments.len() / 2);
    while arguments.len() > 0 {
        fields.push((arguments.subkey()?, arguments.take()));
    }
    Ok(Call::write(Write::Put { key, fields }, Shape::Count))
}

pub(super) fn hget(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    Ok(Call::query(Query::Field(key, field), Shape::Value))
}

pub(super) fn hdel(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, fields) = (arguments.key()?, arguments.subkeys()?);
    Ok(Call::write(Write::Unset { key, fields }, Shape::Count))
}

pub(super) fn hgetall(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Fields(arguments.key()?), Shape::Pairs))
}

pub(super) fn hlen(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::FieldCount(arguments.key()?), Shape::Count))
}
