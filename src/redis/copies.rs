//! The commands that make one key of others: RENAME, COPY, and the STORE forms of what sets combine to.
//!
//! Each is one write, so that it is done whole or not at all, also within MULTI.

use tidelock_engine::condition::Condition;
use tidelock_engine::read::Combination;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{ActionReply, Decided, Decision};
use tidelock_engine::write::{Outcome, Write};

use super::call::{Arguments, Call, Shape};
use super::conditional::{doing, whether};
use super::errors;
use super::reply::Reply;
use super::table::{ALL, NONE, ONE, Other, Run, Spec, WRITE, WRITE_FAST, spec};

/// A key and another one.
pub(super) const TWO: (i64, i64, i64) = (1, 2, 1);

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("copy", -3, WRITE, TWO, Run::Data(copy), "Makes a key what another one is")),
    spec((
        "move",
        3,
        &["write", "fast", "no_multi"],
        ONE,
        Run::Other(Other::Move),
        "Moves a key to another keyspace",
    )),
    spec(("rename", 3, WRITE, TWO, Run::Data(rename), "Gives a key another name")),
    spec(("renamenx", 3, WRITE_FAST, TWO, Run::Data(renamenx), "Gives a key a name that is free")),
    spec(("sdiffstore", -3, WRITE, ALL, Run::Data(sdiffstore), "Stores what is in the first set alone")),
    spec(("sinterstore", -3, WRITE, ALL, Run::Data(sinterstore), "Stores what is in all sets")),
    spec(("sunionstore", -3, WRITE, ALL, Run::Data(sunionstore), "Stores what is in any set")),
    spec(("swapdb", 3, WRITE_FAST, NONE, Run::Data(swapdb), "Refused: a keyspace is what it is called")),
];

const NO_SUCH_KEY: Reply = errors::constant("ERR no such key");

const SPANS_KEYSPACES: &str = "ERR a batch never spans keyspaces, so a key cannot be copied from one to another at one \
                               moment; read it in one and write it in the other";

/// `COPY source destination [DB number] [REPLACE]`.
pub(super) fn copy(mut arguments: Arguments) -> Result<Call, Reply> {
    let (from, to) = (arguments.key()?, arguments.key()?);
    let mut replaces = false;
    while let Some(option) = arguments.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replaces = true;
        } else if option.eq_ignore_ascii_case(b"db") && arguments.len() > 0 {
            return Err(errors::constant(SPANS_KEYSPACES));
        } else {
            return Err(errors::SYNTAX);
        }
    }
    if from == to {
        return Err(errors::constant("ERR source and destination objects are the same"));
    }
    let conditions = vec![Condition::Exists(from.clone()), Condition::Missing(to.clone())];
    let copy = Write::Copy { from, to, is_move: false };
    if replaces {
        return Ok(Call::write(copy, Shape::Count));
    }
    Ok(Call::decide("COPY without REPLACE", Decision { conditions, ..doing(vec![copy]) }, whether))
}

pub(super) fn rename(mut arguments: Arguments) -> Result<Call, Reply> {
    let (from, to) = (arguments.key()?, arguments.key()?);
    Ok(Call::write(Write::Copy { from, to, is_move: true }, Shape::of_one(renamed, false)))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn renamed(reply: ActionReply) -> Reply {
    match reply {
        ActionReply::Outcome(Outcome::Changed(0)) => NO_SUCH_KEY,
        _ => Reply::OK,
    }
}

pub(super) fn renamenx(mut arguments: Arguments) -> Result<Call, Reply> {
    let (from, to) = (arguments.key()?, arguments.key()?);
    let decision = Decision {
        reads: vec![Query::Kind(from.clone())],
        conditions: vec![Condition::Exists(from.clone()), Condition::Missing(to.clone())],
        ..doing(vec![Write::Copy { from, to, is_move: true }])
    };
    Ok(Call::decide("RENAMENX", decision, renamed_if_free))
}

fn renamed_if_free(decided: Decided) -> Reply {
    if decided.answers == [Answer::Kind(None)] { NO_SUCH_KEY } else { whether(decided) }
}

pub(super) fn swapdb(_: Arguments) -> Result<Call, Reply> {
    Err(errors::constant(
        "ERR what a keyspace is follows from its name, on every peer, so two can never change places; SELECT takes any name",
    ))
}

pub(super) fn sinterstore(arguments: Arguments) -> Result<Call, Reply> {
    combine(arguments, Combination::Intersection)
}

pub(super) fn sunionstore(arguments: Arguments) -> Result<Call, Reply> {
    combine(arguments, Combination::Union)
}

pub(super) fn sdiffstore(arguments: Arguments) -> Result<Call, Reply> {
    combine(arguments, Combination::Difference)
}

fn combine(mut arguments: Arguments, how: Combination) -> Result<Call, Reply> {
    let (into, keys) = (arguments.key()?, arguments.keys()?);
    Ok(Call::write(Write::Combine { into, how, keys }, Shape::Count))
}
