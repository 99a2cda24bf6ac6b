//! What operations gave, and what operations did, where no command is there to say how its answer looks.

use tidelock_engine::frame::Frame;
use tidelock_engine::op::{Op, Prefix};
use tidelock_engine::read::{Answer, Executed, Scored};
use tidelock_engine::request::{ActionReply, Decided, RequestReply};
use tidelock_engine::score::Score;
use tidelock_engine::write::Outcome;

use super::call::{Given, type_name};
use super::entry;
use super::errors;
use super::reply::Reply;
use crate::node::Outbox;

/// What each action of an operation gave, in order; or why the operation did nothing.
pub(super) fn replies(reply: RequestReply) -> Reply {
    match reply {
        Ok(given) => Reply::Array(given.into_iter().map(of_action).collect()),
        Err(error) => errors::request(&error),
    }
}

fn of_action(given: Given) -> Reply {
    match given {
        Ok(reply) => of_reply(reply),
        Err(error) => errors::action(&error),
    }
}

/// A decision tells what it read, and what its actions gave: nothing, if a condition did not hold.
fn of_reply(reply: ActionReply) -> Reply {
    match reply {
        ActionReply::Outcome(outcome) => of_outcome(outcome),
        ActionReply::Answer(answer) => of_answer(answer),
        ActionReply::Whole(replies) => Reply::Array(replies.into_iter().map(of_reply).collect()),
        ActionReply::Decided(Decided { answers, given }) => {
            let given = given.map(|given| Reply::Array(given.into_iter().map(of_action).collect()));
            let answers = answers.into_iter().map(of_answer).collect();
            Reply::Array(vec![Reply::Array(answers), given.unwrap_or(Reply::Null)])
        }
    }
}

fn of_outcome(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Done => Reply::OK,
        Outcome::Changed(count) | Outcome::Length(count) => Reply::count(count),
        Outcome::Number(number) => Reply::Integer(number),
        Outcome::Bit(bit) => Reply::Integer(i64::from(bit)),
        Outcome::Value(value) => Reply::Bulk(value),
        Outcome::Elements(elements) => list(elements),
        Outcome::Scored { added, changed } => Reply::Array(vec![Reply::count(added), Reply::count(changed)]),
        Outcome::Score(score) => of_score(score),
        Outcome::ScoredMembers(members) => scored(members),
        Outcome::At(dot) => Reply::Array(vec![Reply::text(dot.replica.to_string()), Reply::count(dot.seq)]),
    }
}

fn of_answer(answer: Answer) -> Reply {
    match answer {
        Answer::Value(value) => Reply::optional(value),
        Answer::Kind(kind) => Reply::text(type_name(kind)),
        Answer::Bool(is) => Reply::Integer(i64::from(is)),
        Answer::Count(count) => Reply::count(count),
        Answer::List(elements) => list(elements),
        Answer::Pairs(pairs) => list(pairs.into_iter().flat_map(|(field, value)| [field, value])),
        Answer::Scored(members) => scored(members),
        Answer::Scores(scores) => Reply::Array(scores.into_iter().map(of_score).collect()),
        Answer::Rank(rank) => rank.map_or(Reply::Null, |(rank, score)| {
            Reply::Array(vec![Reply::count(rank), of_score(Some(score))])
        }),
        Answer::Chunks(chunks) => list(chunks.into_iter().map(|(_, chunk)| chunk)),
        Answer::Entry(found) => entry::entry(found),
        Answer::Deadline(deadline) => deadline.flatten().map_or(Reply::Null, Reply::count),
        Answer::Revision(revision) => Reply::text(format!("{:032x}", revision.to_bits())),
        Answer::Mark(mark) => Reply::text(format!("{mark:016x}")),
        Answer::Executed(executed) => Reply::Integer(i64::from(matches!(executed, Executed::Done { .. }))),
    }
}

fn of_score(score: Option<Score>) -> Reply {
    score.map_or(Reply::Null, |score| Reply::Double(score.get()))
}

fn scored(members: Vec<Scored>) -> Reply {
    let pair = |(member, score): Scored| [Reply::Bulk(member), Reply::Double(score.get())];
    Reply::Array(members.into_iter().flat_map(pair).collect())
}

fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Reply {
    Reply::Array(items.into_iter().map(Reply::Bulk).collect())
}

/// How many operations are in an outbox, and the first of them, up to a number: who wrote each and when, and what it is.
pub(super) fn outbox(outbox: &Outbox, count: usize) -> Reply {
    let operations = outbox.frames.iter().flat_map(|frame| {
        let numbered = (frame.header().first..).zip(frame.ops());
        numbered.map(|(seq, op)| operation(frame, seq, op))
    });
    Reply::Map(vec![
        (Reply::text("operations"), Reply::count(outbox.operations)),
        (Reply::text("first"), Reply::Array(operations.take(count).collect())),
    ])
}

fn operation(frame: &Frame, seq: u64, op: &Op) -> Reply {
    let header = frame.header();
    let (word, key, arguments) = described(op);
    Reply::Map(vec![
        (Reply::text("author"), Reply::text(header.author.to_string())),
        (Reply::text("seq"), Reply::count(seq)),
        (Reply::text("epoch"), Reply::count(header.epoch.0)),
        (Reply::text("unix_ms"), Reply::count(header.hlc.unix_ms())),
        (Reply::text("operation"), Reply::text(word)),
        (Reply::text("key"), key.map_or(Reply::Null, |key| Reply::Bulk(key.to_vec()))),
        (Reply::text("arguments"), list(arguments)),
    ])
}

/// An operation in a word, its key, and what it writes or removes. What is long is told by its length.
fn described(op: &Op) -> (&'static str, Option<&[u8]>, Vec<Vec<u8>>) {
    let number = |number: &dyn ToString| number.to_string().into_bytes();
    match op {
        Op::Set { key, value, .. } => ("set", Some(key), vec![value.clone()]),
        Op::Increment { key, sum, .. } => ("count", Some(key), vec![number(sum)]),
        Op::Add { key, elements } => {
            ("add", Some(key), elements.iter().map(|one| one.element.clone()).collect())
        }
        Op::Put { key, fields } => {
            let pairs = fields.iter().flat_map(|one| [one.field.clone(), one.value.clone()]);
            ("put", Some(key), pairs.collect())
        }
        Op::Score { key, members } => {
            let pairs = members.iter().flat_map(|one| [one.member.clone(), number(&one.score)]);
            ("score", Some(key), pairs.collect())
        }
        Op::Delete { key, rows, .. } => {
            ("delete", Some(key), rows.iter().map(|row| row.subkey.clone()).collect())
        }
        Op::Clear { prefix, .. } => match prefix {
            Prefix::Keyspace => ("clear", None, Vec::new()),
            Prefix::Key(key) => ("delete", Some(key), Vec::new()),
            Prefix::Group { key, subkey, .. } => ("delete", Some(key), vec![subkey.clone()]),
        },
        Op::Change { key, chunk, .. } => ("change", Some(key), vec![number(&chunk.len())]),
        Op::Expire { key, deadline_ms, .. } => ("expire", Some(key), vec![number(deadline_ms)]),
        Op::Retire { .. } => ("retire", None, Vec::new()),
        Op::Outcome { .. } | Op::Forget { .. } => ("outcome", None, Vec::new()),
    }
}
