//! The commands that decide: they write only if something holds, or answer what nobody else is to be answered.
//!
//! Only a total order makes that true. So they are decisions, which the engine refuses in an eventual keyspace unless
//! the operator said that this replica's view is good enough.

use tidelock_engine::condition::Condition;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{Action, ActionReply, Decided, Decision};
use tidelock_engine::write::{Outcome, Write};

use super::call::{Arguments, Call};
use super::errors;
use super::reply::Reply;
use super::table::{ONE, PAIRS, Run, Spec, WRITE, WRITE_FAST, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("getdel", 2, WRITE_FAST, ONE, Run::Data(getdel), "Reads a value and removes it")),
    spec(("getset", 3, WRITE_FAST, ONE, Run::Data(getset), "Writes a value and reads what was there")),
    spec(("hsetnx", 4, WRITE_FAST, ONE, Run::Data(hsetnx), "Writes a field that is missing")),
    spec(("msetnx", -3, WRITE, PAIRS, Run::Data(msetnx), "Writes values if all keys are missing")),
    spec(("setnx", 3, WRITE_FAST, ONE, Run::Data(setnx), "Writes a value if the key is missing")),
    spec(("smove", 4, WRITE_FAST, (1, 2, 1), Run::Data(smove), "Moves an element from one set to another")),
    spec(("spop", -2, WRITE_FAST, ONE, Run::Data(spop), "Removes elements that nobody chose")),
];

/// What decides whether a SET is done, and what it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetIf {
    /// `Some(true)` if the key must exist, `Some(false)` if it must not.
    pub(super) exists: Option<bool>,
    /// Whether it answers what was there.
    pub(super) gets: bool,
}

impl SetIf {
    /// A SET that decides.
    pub(super) fn call(self, write: Write) -> Call {
        let Write::Set { key, .. } = &write else { unreachable!("it is a SET") };
        let condition = self.exists.map(|exists| {
            if exists { Condition::Exists(key.clone()) } else { Condition::Missing(key.clone()) }
        });
        let command = match (self.exists, self.gets) {
            (Some(false), false) => "SET NX",
            (Some(true), false) => "SET XX",
            (Some(false), true) => "SET NX GET",
            (Some(true), true) => "SET XX GET",
            (None, _) => "SET GET",
        };
        let decision = Decision {
            reads: self.gets.then(|| Query::Get(key.clone())).into_iter().collect(),
            conditions: condition.into_iter().collect(),
            ..doing(vec![write])
        };
        Call::decide(command, decision, if self.gets { answered } else { done_or_null })
    }
}

/// A decision to do all of this or nothing.
pub(super) fn doing(writes: Vec<Write>) -> Decision {
    let actions = writes.into_iter().map(Action::Write).collect();
    Decision { actions, is_whole: true, ..Decision::default() }
}

pub(super) fn setnx(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, value) = (arguments.key()?, arguments.take());
    let conditions = vec![Condition::Missing(key.clone())];
    Ok(Call::decide("SETNX", Decision { conditions, ..doing(vec![Write::Set { key, value }]) }, whether))
}

pub(super) fn msetnx(mut arguments: Arguments) -> Result<Call, Reply> {
    if !arguments.len().is_multiple_of(2) {
        return Err(errors::arity("msetnx"));
    }
    Arguments::check_batch(arguments.len() / 2, arguments.as_slice().iter().map(Vec::len).sum())?;
    let (mut conditions, mut writes) = (Vec::new(), Vec::new());
    while arguments.len() > 0 {
        let (key, value) = (arguments.key()?, arguments.take());
        conditions.push(Condition::Missing(key.clone()));
        writes.push(Write::Set { key, value });
    }
    Ok(Call::decide("MSETNX", Decision { conditions, ..doing(writes) }, whether))
}

pub(super) fn getset(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, value) = (arguments.key()?, arguments.take());
    let reads = vec![Query::Get(key.clone())];
    Ok(Call::decide("GETSET", Decision { reads, ..doing(vec![Write::Set { key, value }]) }, answered))
}

pub(super) fn getdel(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let reads = vec![Query::Get(key.clone())];
    Ok(Call::decide("GETDEL", Decision { reads, ..doing(vec![Write::Delete { key }]) }, answered))
}

pub(super) fn hsetnx(mut arguments: Arguments) -> Result<Call, Reply> {
    let (key, field, value) = (arguments.key()?, arguments.subkey()?, arguments.take());
    let conditions = vec![Condition::FieldMissing { key: key.clone(), field: field.clone() }];
    let put = Write::Put { key, fields: vec![(field, value)] };
    Ok(Call::decide("HSETNX", Decision { conditions, ..doing(vec![put]) }, whether))
}

/// `SPOP key [count]`.
pub(super) fn spop(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    let count = arguments.next();
    if arguments.len() > 0 {
        return Err(errors::SYNTAX);
    }
    // Without randomness of the system it is the same elements each time, which is no secret.
    let seed = getrandom::u64().unwrap_or(0);
    let pop = |count| doing(vec![Write::Pop { key, count, seed }]);
    let Some(count) = count else { return Ok(Call::decide("SPOP", pop(1), popped)) };
    let count = errors::integer(&count).ok().and_then(|count| u64::try_from(count).ok());
    let count = count.ok_or(errors::constant("ERR value is out of range, must be positive"))?;
    Ok(Call::decide("SPOP", pop(count), all_popped))
}

/// `SMOVE source destination element`.
pub(super) fn smove(mut arguments: Arguments) -> Result<Call, Reply> {
    let (from, to, element) = (arguments.key()?, arguments.key()?, arguments.subkey()?);
    let reads = vec![Query::Kind(from.clone()), Query::Kind(to.clone())];
    let conditions = vec![Condition::Contains { key: from.clone(), element: element.clone(), is_in: true }];
    let elements = vec![element];
    let writes = if from == to {
        Vec::new()
    } else {
        vec![Write::Remove { key: from, elements: elements.clone() }, Write::Add { key: to, elements }]
    };
    Ok(Call::decide("SMOVE", Decision { reads, conditions, ..doing(writes) }, moved))
}

/// 1 if it was done.
#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
pub(super) fn whether(decided: Decided) -> Reply {
    Reply::Integer(i64::from(decided.given.is_some()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn done_or_null(decided: Decided) -> Reply {
    if decided.given.is_some() { Reply::OK } else { Reply::Null }
}

/// What was read before.
fn answered(mut decided: Decided) -> Reply {
    match decided.answers.pop() {
        Some(Answer::Value(value)) => Reply::optional(value),
        other => unreachable!("a value was asked for, not {other:?}"),
    }
}

/// A destination of another type is refused even if there is nothing to move to it, as in Redis.
fn moved(decided: Decided) -> Reply {
    let is_wrong = |answer: &Answer| !matches!(answer, Answer::Kind(None | Some(VisibleKind::Set)));
    let [from, to] = &decided.answers[..] else { unreachable!("two kinds were asked for") };
    if *from != Answer::Kind(None) && is_wrong(to) {
        return errors::WRONG_TYPE;
    }
    whether(decided)
}

fn elements(decided: Decided) -> Vec<Vec<u8>> {
    match decided.given.and_then(|mut given| given.pop()) {
        Some(Ok(ActionReply::Outcome(Outcome::Elements(elements)))) => elements,
        other => unreachable!("elements were removed, not {other:?}"),
    }
}

fn popped(decided: Decided) -> Reply {
    Reply::optional(elements(decided).pop())
}

fn all_popped(decided: Decided) -> Reply {
    Reply::Set(elements(decided).into_iter().map(Reply::Bulk).collect())
}
