//! Entries of the anchors' log, and what requests are answered, as peers tell it each other.

use std::ops::Bound as End;

use tidelock_engine::bounds::COMMANDS_MAX;
use tidelock_engine::causality::{Dot, Hlc, Stamp};
use tidelock_engine::command::{ClientId, Command, Entry, Execute, OperationId, decode_entry, encode_entry};
use tidelock_engine::condition::Condition;
use tidelock_engine::id::Epoch;
use tidelock_engine::ports::{COMMAND_BYTES_MAX, LogIndex};
use tidelock_engine::read::{Answer, Entry as KeyEntry, EntryRow, Query, SortedPage, SortedRange};
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Decided, Decision, REPLY_BYTES_MAX, RequestError,
    RequestReply, decode_reply, encode_reply,
};
use tidelock_engine::row::{Fingerprint, Slot};
use tidelock_engine::write::{Outcome, Write, WriteError};

use crate::Verdict;
use crate::forge::{self, KEYSPACES, any_key, keyspace_id, named, subkey, value};
use crate::input::Input;
use crate::memory::Bound;
use crate::mutate::Random;

/// An action of two bytes is a hundred and more in memory, and a list that grows is there twice. What is more than a
/// byte in memory for each of the input is bounded by what may be structure.
pub const BOUND: Bound = Bound { base: 2 << 20, per_byte: 512, max: 512 << 20 };

/// An entry's bytes: within its bounds, and the same when it is written again, at once or command by command.
pub fn entry_of_commands(data: &[u8]) -> Verdict {
    let Ok(commands) = BOUND.hold(data.len(), || decode_entry(data)) else {
        return Verdict::Refused;
    };
    assert!(data.len() <= COMMAND_BYTES_MAX && commands.len() <= COMMANDS_MAX);
    assert!(encode_entry(&commands) == data, "it is written in another way: {commands:?}");
    let mut entry = Entry::default();
    for command in &commands {
        assert_eq!(entry.push(command), Ok(true));
    }
    assert_eq!(entry.into_bytes(), data);
    Verdict::Decoded
}

/// A reply's bytes: within its bounds, and the same when it is written again.
pub fn reply(data: &[u8]) -> Verdict {
    let Ok(reply) = BOUND.hold(data.len(), || decode_reply(data)) else {
        return Verdict::Refused;
    };
    assert!(data.len() <= REPLY_BYTES_MAX);
    assert!(encode_reply(&reply) == data, "it is written in another way: {reply:?}");
    Verdict::Decoded
}

/// The inputs of each kind that are drawn.
const DRAWN: u64 = 64;

fn drawn<T>(name: &str, mut one: impl FnMut(&mut Input<'_>) -> T) -> Vec<T> {
    let draw = |round| {
        let mut random = Random::of_round(name, round);
        let length = 16 + random.below(200);
        one(&mut Input::new(&random.bytes(length)))
    };
    (0..DRAWN).map(draw).collect()
}

/// Entries of some commands each.
pub fn entries() -> Vec<Vec<u8>> {
    drawn("entries", |input| encode_entry(&input.list(4, command)))
}

/// Replies of every kind.
pub fn replies() -> Vec<Vec<u8>> {
    drawn("replies", |input| encode_reply(&any_reply(input)))
}

fn command(input: &mut Input<'_>) -> Command {
    let keyspace = keyspace_id(KEYSPACES[0]);
    let (epoch, until, begin) = (Epoch(1), Hlc::from_bits(input.number()), LogIndex(input.number()));
    match input.below(12) {
        0 => Command::Expire { keyspace, epoch, until },
        1 => Command::ForgetOutcomes { keyspace, epoch, until },
        2 => Command::BeginSeal { keyspace: named(KEYSPACES[0]), epoch, secret: input.array().into() },
        3 => Command::Cut { keyspace, begin, frontier: input.list(3, dot) },
        4 => Command::Seal { keyspace, begin, cut: begin, fingerprint: Fingerprint::from_bits(7) },
        5 => Command::AbortSeal { keyspace, begin },
        6 => Command::NameGroup(input.array().into()),
        7 => Command::WantVoters(input.once_in(2).then(|| input.byte())),
        _ => {
            let operation = OperationId { epoch, client: ClientId([5; 16]), number: input.number() };
            let actions = input.list(4, |input| action(input, 2));
            let atomicity = Atomicity::Together;
            Command::Execute(Execute { keyspace, operation, hlc: until, actions, atomicity })
        }
    }
}

/// An action with so many levels within it.
fn action(input: &mut Input<'_>, levels: usize) -> Action {
    match input.below(if levels > 0 { 4 } else { 2 }) {
        0 => Action::Write(write(input)),
        1 => Action::Query(query(input)),
        2 => Action::Whole(input.list(3, |input| action(input, levels - 1))),
        _ => Action::Decide(Box::new(Decision {
            reads: input.list(3, query),
            conditions: vec![Condition::Equals { key: any_key(input), value: Some(value(input)) }],
            actions: input.list(3, |input| action(input, levels - 1)),
            is_whole: input.once_in(2),
        })),
    }
}

fn write(input: &mut Input<'_>) -> Write {
    let key = any_key(input);
    match input.below(5) {
        0 => Write::Set { key, value: value(input) },
        1 => Write::Add { key, elements: input.list(4, subkey) },
        2 => Write::Put { key, fields: input.list(3, |input| (subkey(input), value(input))) },
        3 => Write::StoreRange { into: key.clone(), page: page(key, input) },
        _ => Write::Increment { key, by: -3 },
    }
}

fn query(input: &mut Input<'_>) -> Query {
    let key = any_key(input);
    match input.below(4) {
        0 => Query::Get(key),
        1 => Query::Scores(key, input.list(4, subkey)),
        2 => Query::Sorted(page(key, input)),
        _ => Query::Size,
    }
}

fn page(key: Vec<u8>, input: &mut Input<'_>) -> SortedPage {
    let range = SortedRange::Members { min: End::Included(subkey(input)), max: End::Unbounded };
    SortedPage { range, ..SortedPage::all(key) }
}

fn dot(input: &mut Input<'_>) -> Dot {
    Dot::new(forge::replica(1), input.number())
}

fn any_reply(input: &mut Input<'_>) -> RequestReply {
    match input.below(8) {
        0 => Err(RequestError::Commit("the disk is gone".to_owned())),
        1 => Err(RequestError::Loading(named(KEYSPACES[0]))),
        2 => Err(RequestError::Action { index: 3, source: ActionError::TooDeep }),
        _ => Ok(input.list(5, |input| action_reply(input, 2))),
    }
}

fn action_reply(input: &mut Input<'_>, levels: usize) -> Result<ActionReply, ActionError> {
    Ok(match input.below(if levels > 0 { 7 } else { 5 }) {
        0 => return Err(WriteError::Overflow.into()),
        1 => ActionReply::Outcome(Outcome::ScoredMembers(vec![(subkey(input), forge::score(input))])),
        2 => ActionReply::Answer(Answer::Pairs(vec![(subkey(input), value(input))])),
        3 => ActionReply::Answer(Answer::Chunks(vec![(dot(input), value(input))])),
        4 => {
            let row = EntryRow {
                kind: forge::kind(input),
                subkey: subkey(input),
                dot: dot(input),
                stamp: Some(Stamp::default()),
                value: Some(value(input)),
                slot: Some(Slot::default()),
                deadline_ms: None,
                is_visible: true,
            };
            ActionReply::Answer(Answer::Entry(KeyEntry { rows: vec![row], ..KeyEntry::default() }))
        }
        5 => ActionReply::Whole(vec![ActionReply::Outcome(Outcome::Done)]),
        _ => ActionReply::Decided(Decided {
            answers: vec![Answer::Count(input.number())],
            given: input.once_in(2).then(|| input.list(3, |input| action_reply(input, levels - 1))),
        }),
    })
}
