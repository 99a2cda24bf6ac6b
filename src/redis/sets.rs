//! SADD, SREM, SMEMBERS, SISMEMBER and SCARD.

use tidelock_engine::read::Query;
use tidelock_engine::write::Write;

use super::call::{Arguments, Call, Shape};
use super::reply::Reply;
use super::table::{ONE, READ, READ_FAST, Run, Spec, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("sadd", -3, WRITE_FAST, ONE, Run::Data(sadd), "Adds elements")),
    spec(("scard", 2, READ_FAST, ONE, Run::Data(scard), "Counts elements")),
    spec(("sismember", 3, READ_FAST, ONE, Run::Data(sismember), "Tells whether an element is in a set")),
    spec(("smembers", 2, READ, ONE, Run::Data(smembers), "Reads all elements")),
    spec(("srem", -3, WRITE_FAST, ONE, Run::Data(srem), "Removes elements")),
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

pub(super) fn scard(mut arguments: Arguments) -> Result<Call, Reply> {
    Ok(Call::query(Query::Cardinality(arguments.key()?), Shape::Count))
}
