//! Hashes: maps of fields, each with a value of its own.

use tidelock_engine::read::{Answer, Collection, Query};
use tidelock_engine::request::{Action, ActionReply};
use tidelock_engine::write::Write;

use super::call::{Arguments, Call, Shape, list};
use super::errors;
use super::reply::Reply;
use super::sets::{random, random_count};
use super::table::{ONE, Other, READ, READ_FAST, Run, Spec, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("hdel", -3, WRITE_FAST, ONE, Run::Data(hdel), "Removes fields")),
    spec(("hexists", 3, READ_FAST, ONE, Run::Data(hexists), "Tells whether a field exists")),
    spec(("hget", 3, READ_FAST, ONE, Run::Data(hget), "Reads a field")),
    spec(("hgetall", 2, READ, ONE, Run::Data(hgetall), "Reads all fields")),
    spec(("hkeys", 2, READ, ONE, Run::Data(hkeys), "Reads the names of all fields")),
    spec(("hlen", 2, READ_FAST, ONE, Run::Data(hlen), "Counts fields")),
    spec(("hmget", -3, READ_FAST, ONE, Run::Data(hmget), "Reads some fields")),
    spec(("hmset", -4, WRITE_FAST, ONE, Run::Data(hmset), "Writes fields; HSET tells how many are new")),
    spec(("hrandfield", -2, READ, ONE, Run::Data(hrandfield), "Reads some fields at random")),
    spec((
        "hscan",
        -3,
        &["readonly", "no_multi"],
        ONE,
        Run::Other(Other::FieldScan),
        "Reads fields page by page",
    )),
    spec(("hset", -4, WRITE_FAST, ONE, Run::Data(hset), "Writes fields")),
    spec(("hstrlen", 3, READ_FAST, ONE, Run::Data(hstrlen), "Tells the length of a field's value")),
    spec(("hvals", 2, READ, ONE, Run::Data(hvals), "Reads the values of all fields")),
];

pub(super) fn hset(arguments: Arguments) -> Result<Call, Reply> {
    put("hset", arguments, Shape::Count)
}

fn hmset(arguments: Arguments) -> Result<Call, Reply> {
    put("hmset", arguments, Shape::Done)
}

fn put(name: &str, mut arguments: Arguments, shape: Shape) -> Result<Call, Reply> {
    let key = arguments.key()?;
    if !arguments.len().is_multiple_of(2) {
        return Err(errors::arity(name));
    }
    let mut fields = Vec::with_capacity(arguments.len() / 2);
    while arguments.len() > 0 {
        fields.push((arguments.subkey()?, arguments.take()));
    }
    Ok(Call::write(Write::Put { key, fields }, shape))
}

pub(super) fn hget(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    Ok(Call::query(Query::Field(key, field), Shape::Value))
}

fn hmget(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, fields) = (arguments.key()?, arguments.subkeys()?);
    let queries = fields.into_iter().map(|field| Action::Query(Query::Field(key.clone(), field)));
    let shape = Shape::made(|given| list(given, |reply| Reply::optional(value(reply))), true);
    Ok(Call::each(queries, shape))
}

fn hexists(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    let show = |reply| Reply::Integer(i64::from(value(reply).is_some()));
    Ok(Call::query(Query::Field(key, field), Shape::of_one(show, false)))
}

fn hstrlen(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field) = (arguments.key()?, arguments.subkey()?);
    let show = |reply| Reply::count(value(reply).map_or(0, |value| value.len()));
    Ok(Call::query(Query::Field(key, field), Shape::of_one(show, false)))
}

pub(super) fn hdel(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, fields) = (arguments.key()?, arguments.subkeys()?);
    Ok(Call::write(Write::Unset { key, fields }, Shape::Count))
}

pub(super) fn hgetall(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Fields(arguments.key()?), Shape::Pairs))
}

fn hkeys(mut arguments: Arguments) -> Result<Call, Reply> {
    let show = |reply| Reply::Array(pairs(reply).map(|(field, _)| Reply::Bulk(field)).collect());
    Ok(Call::query(Query::Fields(arguments.key()?), Shape::of_one(show, true)))
}

fn hvals(mut arguments: Arguments) -> Result<Call, Reply> {
    let show = |reply| Reply::Array(pairs(reply).map(|(_, value)| Reply::Bulk(value)).collect());
    Ok(Call::query(Query::Fields(arguments.key()?), Shape::of_one(show, true)))
}

pub(super) fn hlen(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::FieldCount(arguments.key()?), Shape::Count))
}

/// `HRANDFIELD key [count [WITHVALUES]]`; a negative count asks for so many, which may be the same.
fn hrandfield(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let Some(count) = arguments.next() else {
        let show = |reply| Reply::optional(pairs(reply).next().map(|(field, _)| field));
        return Ok(Call::query(random(key, Collection::Map, 1), Shape::of_one(show, false)));
    };
    let count = random_count(&count)?;
    let option = arguments.next();
    if arguments.len() > 0
        || option.as_ref().is_some_and(|option| !option.eq_ignore_ascii_case(b"withvalues"))
    {
        return Err(errors::SYNTAX);
    }
    let show: fn(ActionReply) -> Reply = if option.is_some() {
        |reply| {
            let pair = |(field, value)| (Reply::Bulk(field), Reply::Bulk(value));
            Reply::Pairs(pairs(reply).map(pair).collect())
        }
    } else {
        |reply| Reply::Array(pairs(reply).map(|(field, _)| Reply::Bulk(field)).collect())
    };
    Ok(Call::query(random(key, Collection::Map, count), Shape::of_one(show, true)))
}

fn value(reply: ActionReply) -> Option<Vec<u8>> {
    let ActionReply::Answer(Answer::Value(value)) = reply else { unreachable!("a field was asked for") };
    value
}

fn pairs(reply: ActionReply) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let ActionReply::Answer(Answer::Pairs(pairs)) = reply else { unreachable!("fields were asked for") };
    pairs.into_iter()
}
