//! Sets: SADD, SREM, what they hold, some of it at random, and what several make together.

use tidelock_engine::read::{Answer, Collection, Combination, Query, RandomPick};
use tidelock_engine::request::{Action, ActionReply};
use tidelock_engine::write::Write;

use super::call::{Arguments, Call, Given, Shape, list};
use super::errors;
use super::reply::Reply;
use super::table::{ALL, NONE, ONE, Other, READ, READ_FAST, READ_MOVABLE, Run, Spec, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("sadd", -3, WRITE_FAST, ONE, Run::Data(sadd), "Adds elements")),
    spec(("scard", 2, READ_FAST, ONE, Run::Data(scard), "Counts elements")),
    spec(("sdiff", -2, READ, ALL, Run::Data(sdiff), "Reads what is in the first set only")),
    spec(("sinter", -2, READ, ALL, Run::Data(sinter), "Reads what is in all sets")),
    spec(("sintercard", -3, READ_MOVABLE, NONE, Run::Data(sintercard), "Counts what is in all sets")),
    spec(("sismember", 3, READ_FAST, ONE, Run::Data(sismember), "Tells whether an element is in a set")),
    spec(("smembers", 2, READ, ONE, Run::Data(smembers), "Reads all elements")),
    spec(("smismember", -3, READ_FAST, ONE, Run::Data(smismember), "Tells which elements are in a set")),
    spec(("srandmember", -2, READ, ONE, Run::Data(srandmember), "Reads some elements at random")),
    spec(("srem", -3, WRITE_FAST, ONE, Run::Data(srem), "Removes elements")),
    spec((
        "sscan",
        -3,
        &["readonly", "no_multi"],
        ONE,
        Run::Other(Other::ElementScan),
        "Reads elements page by page",
    )),
    spec(("sunion", -2, READ, ALL, Run::Data(sunion), "Reads what is in any of the sets")),
];

pub(super) fn sadd(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, elements) = (arguments.key()?, arguments.subkeys()?);
    Ok(Call::write(Write::Add { key, elements }, Shape::Count))
}

pub(super) fn srem(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, elements) = (arguments.key()?, arguments.subkeys()?);
    Ok(Call::write(Write::Remove { key, elements }, Shape::Count))
}

pub(super) fn smembers(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Members(arguments.key()?), Shape::Members))
}

pub(super) fn sismember(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, element) = (arguments.key()?, arguments.subkey()?);
    Ok(Call::query(Query::Contains(key, element), Shape::IsMember))
}

fn smismember(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, elements) = (arguments.key()?, arguments.subkeys()?);
    let queries = elements.into_iter().map(|element| Action::Query(Query::Contains(key.clone(), element)));
    let shape = Shape::made(|given| list(given, |reply| Reply::Integer(i64::from(is_yes(&reply)))), false);
    Ok(Call::each(queries, shape))
}

fn is_yes(reply: &ActionReply) -> bool {
    matches!(reply, ActionReply::Answer(Answer::Bool(true)))
}

pub(super) fn scard(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Cardinality(arguments.key()?), Shape::Count))
}

fn sdiff(arguments: Arguments) -> Result<Call, Reply> {
    combined(Combination::Difference, arguments)
}

fn sinter(arguments: Arguments) -> Result<Call, Reply> {
    combined(Combination::Intersection, arguments)
}

fn sunion(arguments: Arguments) -> Result<Call, Reply> {
    combined(Combination::Union, arguments)
}

fn combined(combination: Combination, arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Combined(combination, arguments.keys()?), Shape::Members))
}

/// `SINTERCARD numkeys key [key ...] [LIMIT limit]`; a limit of 0 is none.
fn sintercard(mut arguments: Arguments) -> Result<Call, Reply> {
    let count = errors::integer(&arguments.take()).ok().filter(|count| *count > 0);
    let count = count.ok_or(errors::constant("ERR numkeys should be greater than 0"))?;
    let count = usize::try_from(count).ok().filter(|count| *count <= arguments.len());
    let count = count.ok_or(errors::constant("ERR Number of keys can't be greater than number of args"))?;
    let keys = (0..count).map(|_| arguments.key()).collect::<Result<Vec<_>, _>>()?;
    let mut limit = 0;
    while let Some(option) = arguments.next() {
        let value = arguments.next().filter(|_| option.eq_ignore_ascii_case(b"limit"));
        let value = errors::integer(&value.ok_or(errors::SYNTAX)?);
        let negative = errors::constant("ERR LIMIT can't be negative");
        limit = value.ok().and_then(|limit| u64::try_from(limit).ok()).ok_or(negative)?;
    }
    let limit = if limit == 0 { u64::MAX } else { limit };
    Ok(Call::query(Query::CommonCount(keys, limit), Shape::Count))
}

/// `SRANDMEMBER key [count]`; a negative count asks for so many, which may be the same.
fn srandmember(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let Some(count) = arguments.next() else {
        let (pick, show) = (random(key, Collection::Set, 1), |given: &mut Vec<Given>| one(given));
        return Ok(Call::query(pick, Shape::made(show, false)));
    };
    if arguments.len() > 0 {
        return Err(errors::SYNTAX);
    }
    let pick = random(key, Collection::Set, random_count(&count)?);
    let show = |given: &mut Vec<Given>| match list(given, elements) {
        Reply::Array(mut lists) => lists.pop().expect("the command has an action"),
        refused => refused,
    };
    Ok(Call::query(pick, Shape::made(show, true)))
}

fn elements(reply: ActionReply) -> Reply {
    let ActionReply::Answer(Answer::List(elements)) = reply else { unreachable!("elements were asked for") };
    Reply::Array(elements.into_iter().map(Reply::Bulk).collect())
}

/// The one element that was asked for, or nothing.
fn one(given: &mut Vec<Given>) -> Reply {
    match list(given, elements) {
        Reply::Array(mut lists) => match lists.pop() {
            Some(Reply::Array(mut elements)) => elements.pop().unwrap_or(Reply::Null),
            _ => Reply::Null,
        },
        refused => refused,
    }
}

/// How many are wanted; a negative number may repeat them.
pub(super) fn random_count(argument: &[u8]) -> Result<i64, Reply> {
    let count = errors::integer(argument)?;
    if count == i64::MIN {
        return Err(errors::constant(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    Ok(count)
}

/// A query for so many elements or fields.
pub(super) fn random(key: Vec<u8>, collection: Collection, count: i64) -> Query {
    let is_repeated = count < 0;
    Query::Random(RandomPick { key, collection, count: count.unsigned_abs(), is_repeated, seed: seed() })
}

/// A number that nobody can tell in advance.
pub(super) fn seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(())
}
