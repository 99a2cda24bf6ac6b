//! A data command on its way: the actions it asks for, and the shape of its answer.

use tidelock_engine::bounds::{FRAME_OPS_MAX, check_key, check_subkey};
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::read::{Answer, Query, QueryError};
use tidelock_engine::request::{Action, ActionError, ActionReply, Decided, Decision};
use tidelock_engine::write::{Outcome, Write};

use super::errors;
use super::reply::Reply;

/// What one action gave.
pub(super) type Given = Result<ActionReply, ActionError>;

/// A data command, understood but not yet executed.
#[derive(Debug)]
pub(super) struct Call {
    /// The first action; most commands have no other.
    pub(super) first: Action,
    /// The others.
    pub(super) more: Vec<Action>,
    /// Whether all of them are done or none.
    is_whole: bool,
    /// How the answer is made.
    pub(super) shape: Shape,
}

/// Makes an answer of what a decision came to.
type Judge = fn(Decided) -> Reply;

/// Makes an answer of what actions gave.
type Maker = Box<dyn FnOnce(&mut Vec<Given>) -> Reply + Send>;

/// How the answer of a command is made of what its actions gave.
pub(super) enum Shape {
    /// A value or nothing.
    Value,
    /// A list of values, with nothing where a key holds another kind.
    Values,
    /// `OK`.
    Done,
    /// The sum of all counts.
    Count,
    /// The number after an increment.
    Number,
    /// The type of a key, as Redis names it.
    Type,
    /// A set.
    Members,
    /// 1 or 0.
    IsMember,
    /// A map.
    Pairs,
    /// What a decision came to.
    Decided {
        /// What the command is called where it is refused.
        command: &'static str,
        /// Makes the answer.
        by: Judge,
    },
    /// What no other command answers.
    Made {
        /// Makes it; leaves nothing behind.
        by: Maker,
        /// Whether it has no bound but the size of a key.
        is_long: bool,
    },
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shape")
    }
}

impl Call {
    pub(super) fn query(query: Query, shape: Shape) -> Self {
        Self { first: Action::Query(query), more: Vec::new(), is_whole: false, shape }
    }

    pub(super) fn write(write: Write, shape: Shape) -> Self {
        Self { first: Action::Write(write), more: Vec::new(), is_whole: false, shape }
    }

    /// A command that does something only if something holds.
    pub(super) fn decide(command: &'static str, decision: Decision, by: Judge) -> Self {
        let first = Action::Decide(Box::new(decision));
        Self { first, more: Vec::new(), is_whole: false, shape: Shape::Decided { command, by } }
    }

    /// A command that does the same with each of several things, of which there is one at least.
    pub(super) fn each(actions: impl Iterator<Item = Action>, shape: Shape) -> Self {
        let mut actions = actions;
        let first = actions.next().expect("the command table asks for one argument at least");
        Self { first, more: actions.collect(), is_whole: false, shape }
    }

    /// As [`Call::each`], of actions that are all done or none.
    pub(super) fn whole(actions: impl Iterator<Item = Action>, shape: Shape) -> Self {
        Self { is_whole: true, ..Self::each(actions, shape) }
    }

    pub(super) fn len(&self) -> usize {
        1 + self.more.len()
    }

    pub(super) fn is_write(&self) -> bool {
        !self.first.is_query() || !self.more.iter().all(Action::is_query)
    }

    /// Whether the actions must be done all or none.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole && !self.more.is_empty()
    }

    /// What is to be done, and how the answer is made of what that gives.
    pub(super) fn into_parts(self) -> (impl Iterator<Item = Action>, Shape) {
        (std::iter::once(self.first).chain(self.more), self.shape)
    }
}

impl Shape {
    /// Whether an answer has no bound but the size of a key.
    pub(super) const fn is_long(&self) -> bool {
        match self {
            Self::Made { is_long, .. } => *is_long,
            Self::Members | Self::Pairs | Self::Values => true,
            _ => false,
        }
    }

    /// An answer that `by` makes of what the command's only action gave.
    pub(super) fn of_one(by: fn(ActionReply) -> Reply, is_long: bool) -> Self {
        let by = move |given: &mut Vec<Given>| match given.pop().expect("the command has an action") {
            Ok(reply) => by(reply),
            Err(error) => errors::action(&error),
        };
        Self::Made { by: Box::new(by), is_long }
    }

    /// An answer that `by` makes of what the actions gave.
    pub(super) fn made(by: impl FnOnce(&mut Vec<Given>) -> Reply + Send + 'static, is_long: bool) -> Self {
        Self::Made { by: Box::new(by), is_long }
    }

    /// Makes the answer of what the actions gave, and leaves `given` empty.
    pub(super) fn reply(self, given: &mut Vec<Given>) -> Reply {
        match self {
            Self::Decided { command, by } => decided(given, command, by),
            Self::Made { by, .. } => {
                let reply = by(given);
                given.clear();
                reply
            }
            Self::Values => Reply::Array(given.drain(..).map(value_or_null).collect()),
            Self::Count => sum(given, |reply| match reply {
                ActionReply::Outcome(Outcome::Changed(count)) | ActionReply::Answer(Answer::Count(count)) => {
                    count
                }
                _ => 0,
            }),
            Self::Done => {
                given.drain(..).find_map(Result::err).map_or(Reply::OK, |error| errors::action(&error))
            }
            _ => match given.drain(..).next().expect("every command has an action") {
                Ok(reply) => Self::single(reply),
                Err(error) => errors::action(&error),
            },
        }
    }

    fn single(reply: ActionReply) -> Reply {
        match reply {
            ActionReply::Outcome(Outcome::Done) => Reply::OK,
            ActionReply::Outcome(Outcome::Changed(count)) | ActionReply::Answer(Answer::Count(count)) => {
                Reply::count(count)
            }
            ActionReply::Outcome(Outcome::Number(number)) => Reply::Integer(number),
            ActionReply::Outcome(Outcome::Length(length)) => Reply::count(length),
            ActionReply::Outcome(Outcome::Bit(bit)) => Reply::Integer(i64::from(bit)),
            ActionReply::Outcome(Outcome::Value(value)) => Reply::Bulk(value),
            ActionReply::Outcome(Outcome::Elements(elements)) => {
                Reply::Set(elements.into_iter().map(Reply::Bulk).collect())
            }
            ActionReply::Answer(Answer::Value(value)) => Reply::optional(value),
            ActionReply::Answer(Answer::Kind(kind)) => Reply::Simple(type_name(kind).into()),
            ActionReply::Answer(Answer::Bool(is)) => Reply::Integer(i64::from(is)),
            ActionReply::Answer(Answer::List(list)) => {
                Reply::Set(list.into_iter().map(Reply::Bulk).collect())
            }
            ActionReply::Answer(Answer::Pairs(pairs)) => Reply::Map(
                pairs.into_iter().map(|(field, value)| (Reply::Bulk(field), Reply::Bulk(value))).collect(),
            ),
            ActionReply::Answer(Answer::Chunks(_)) | ActionReply::Outcome(Outcome::At(_)) => {
                unreachable!("documents have commands of their own")
            }
            ActionReply::Answer(Answer::Scored(_) | Answer::Scores(_) | Answer::Rank(_))
            | ActionReply::Outcome(Outcome::Scored { .. } | Outcome::Score(_) | Outcome::ScoredMembers(_)) => {
                unreachable!("the commands of sorted sets show what they answer")
            }
            ActionReply::Answer(Answer::Entry(_) | Answer::Deadline(_) | Answer::Executed(_)) => {
                unreachable!("the commands that ask for them show them")
            }
            ActionReply::Answer(Answer::Mark(_)) => unreachable!("a mark is taken off before"),
            ActionReply::Answer(Answer::Revision(_)) | ActionReply::Decided(_) => {
                unreachable!("the commands that decide say what that means")
            }
            ActionReply::Whole(_) => unreachable!("a whole was taken apart"),
        }
    }
}

/// The type of a key as Redis names it. A counter is a string that INCR made.
pub(super) const fn type_name(kind: Option<VisibleKind>) -> &'static str {
    match kind {
        Some(VisibleKind::Register | VisibleKind::Counter) => "string",
        Some(VisibleKind::Set) => "set",
        Some(VisibleKind::Map) => "hash",
        Some(VisibleKind::Sorted) => "zset",
        // A type of our own, as modules of Redis have.
        Some(VisibleKind::Document) => "document",
        None => "none",
    }
}

fn decided(given: &mut Vec<Given>, command: &str, by: Judge) -> Reply {
    match given.drain(..).next().expect("every command has an action") {
        Ok(ActionReply::Decided(decided)) => by(decided),
        Ok(other) => unreachable!("a decision does not answer {other:?}"),
        Err(ActionError::NeedsStrong(keyspace)) => errors::needs_strong(command, &keyspace),
        Err(error) => errors::action(&error),
    }
}

fn value_or_null(given: Given) -> Reply {
    match given {
        Ok(ActionReply::Answer(Answer::Value(value))) => Reply::optional(value),
        Ok(_) | Err(ActionError::Query(QueryError::WrongKind { .. })) => Reply::Null,
        Err(error) => errors::action(&error),
    }
}

/// The sum of what each action counts for, or the first error.
pub(super) fn sum(given: &mut Vec<Given>, count: impl Fn(ActionReply) -> u64) -> Reply {
    let counts: Result<u64, ActionError> = given.drain(..).map(|given| given.map(&count)).sum();
    counts.map_or_else(|error| errors::action(&error), Reply::count)
}

/// A list of what each action gave, or the first error.
pub(super) fn list(given: &mut Vec<Given>, show: impl Fn(ActionReply) -> Reply) -> Reply {
    let list: Result<Vec<Reply>, ActionError> = given.drain(..).map(|given| given.map(&show)).collect();
    list.map_or_else(|error| errors::action(&error), Reply::Array)
}

/// The arguments of a command behind its name. The command table has checked their number.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    rest: std::vec::IntoIter<Vec<u8>>,
}

impl Arguments {
    pub(super) fn behind_name(arguments: Vec<Vec<u8>>) -> Self {
        let mut rest = arguments.into_iter();
        rest.next();
        Self { rest }
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn as_slice(&self) -> &[Vec<u8>] {
        self.rest.as_slice()
    }

    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.rest.next()
    }

    /// The next argument, of which the command table said that it is there.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.rest.next().expect("the command table has checked the number of arguments")
    }

    /// The next argument, if it is short enough for a key. Checking here lets MULTI refuse it in time.
    pub(super) fn key(&mut self) -> Result<Vec<u8>, Reply> {
        let key = self.take();
        check_key(&key).map_err(|error| errors::bound(&error))?;
        Ok(key)
    }

    /// The next argument, if it is short enough for an element or field.
    pub(super) fn subkey(&mut self) -> Result<Vec<u8>, Reply> {
        let subkey = self.take();
        check_subkey(&subkey).map_err(|error| errors::bound(&error))?;
        Ok(subkey)
    }

    /// All that are left, as keys.
    pub(super) fn keys(self) -> Result<Vec<Vec<u8>>, Reply> {
        self.rest
            .as_slice()
            .iter()
            .try_for_each(|key| check_key(key))
            .map_err(|error| errors::bound(&error))?;
        Ok(self.rest.collect())
    }

    /// All that are left, as elements or fields.
    pub(super) fn subkeys(self) -> Result<Vec<Vec<u8>>, Reply> {
        let mut list = self.rest.as_slice().iter();
        list.try_for_each(|subkey| check_subkey(subkey)).map_err(|error| errors::bound(&error))?;
        Ok(self.rest.collect())
    }

    /// Refuses more writes at once than one frame holds.
    pub(super) fn check_batch(writes: usize, bytes: usize) -> Result<(), Reply> {
        if writes <= FRAME_OPS_MAX {
            return Ok(());
        }
        Err(errors::bound(&tidelock_engine::bounds::BoundError::Batch { bytes, ops: writes }))
    }
}
