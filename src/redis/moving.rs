//! MOVE: what a key shows, from one keyspace to another.
//!
//! Nothing spans keyspaces, so it is two requests: the key is written there first, and on the disk, and then removed here
//! if it is as it was read. Who is cut off in between leaves it in both, never in none.

use tidelock_engine::condition::Condition;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Query, SortedPage};
use tidelock_engine::replica::Freshness;
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Decided, Decision, Request, RequestReply,
};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::write::{ScoreRule, Ttl, Write};

use super::asking::Asking;
use super::backend::Backend;
use super::call::Arguments;
use super::conditional::doing;
use super::connection;
use super::errors;
use super::reply::Reply;

const SAME: Reply = errors::constant("ERR source and destination objects are the same");

const CHANGED: Reply = errors::constant(
    "UNKNOWN the key was changed while it was moved: the other keyspace has it as it was, and this one as it is",
);

/// `MOVE key keyspace`
pub(super) async fn move_key<B: Backend>(
    backend: &B,
    (here, durability): (&KeyspaceName, Durability),
    mut arguments: Arguments,
) -> Result<Reply, Reply> {
    let (key, there) = (arguments.key()?, connection::keyspace(arguments.take())?);
    if there == *here {
        return Err(SAME);
    }
    // Both must let this node decide before anything is done in either, and a key that is too long has no revision.
    let look = || Decision {
        reads: vec![Query::Kind(key.clone()), Query::Revision(key.clone())],
        ..Decision::default()
    };
    let looked = vec![request(here, look(), durability), request(&there, look(), durability)];
    let mut kinds = Vec::new();
    for reply in backend.submit(looked).await {
        kinds.push(decided(reply)?.answers.into_iter().next());
    }
    if kinds[0] == Some(Answer::Kind(None)) || kinds[1] != Some(Answer::Kind(None)) {
        return Ok(Reply::Integer(0));
    }
    let Some((writes, revision)) = shown(backend, here, &key).await? else { return Ok(Reply::Integer(0)) };
    let write = Decision { conditions: vec![Condition::Missing(key.clone())], ..doing(writes) };
    if one(backend, request(&there, write, Durability::Durable)).await?.given.is_none() {
        return Ok(Reply::Integer(0));
    }
    let conditions = vec![Condition::Unchanged { key: key.clone(), revision }];
    let remove = Decision { conditions, ..doing(vec![Write::Delete { key }]) };
    match one(backend, request(here, remove, durability)).await {
        Ok(Decided { given: Some(_), .. }) => Ok(Reply::Integer(1)),
        Ok(_) => Err(CHANGED),
        Err(Reply::Error(why)) => Err(Reply::error(format!(
            "UNKNOWN the key is in the other keyspace, and may be in this one: {why}"
        ))),
        Err(other) => Err(other),
    }
}

fn request(keyspace: &KeyspaceName, decision: Decision, durability: Durability) -> Request {
    let actions = vec![Action::Decide(Box::new(decision))];
    // Whole as a transaction is: what no frame holds is refused.
    Request { keyspace: keyspace.clone(), actions, atomicity: Atomicity::Together, durability }
}

async fn one<B: Backend>(backend: &B, request: Request) -> Result<Decided, Reply> {
    decided(backend.submit(vec![request]).await.pop().expect("there is one reply per request"))
}

fn decided(reply: RequestReply) -> Result<Decided, Reply> {
    match reply.map_err(|error| errors::request(&error))?.pop().expect("there is one reply per action") {
        Ok(ActionReply::Decided(decided)) => Ok(decided),
        Ok(other) => unreachable!("a decision does not answer {other:?}"),
        Err(ActionError::NeedsStrong(keyspace)) => Err(errors::needs_strong("MOVE", &keyspace)),
        Err(error) => Err(errors::action(&error)),
    }
}

/// The writes that make a key what it shows here, and its revision; `None` if it is gone.
async fn shown<B: Backend>(
    backend: &B,
    keyspace: &KeyspaceName,
    key: &[u8],
) -> Result<Option<(Vec<Write>, Fingerprint)>, Reply> {
    let key = || key.to_vec();
    // Those that are about another kind than the key's have no answer.
    let queries = vec![
        Query::Kind(key()),
        Query::Deadline(key()),
        Query::Revision(key()),
        Query::Get(key()),
        Query::Members(key()),
        Query::Fields(key()),
        Query::Sorted(SortedPage::all(key())),
        Query::Chunks(key()),
    ];
    let (answers, _) = Asking { keyspace, freshness: Freshness::Linearizable }.ask(backend, queries).await?;
    let mut answers = answers.into_iter();
    let mut next =
        || answers.next().expect("there is one answer per query").map_err(|error| errors::action(&error));
    let (kind, deadline, revision) = (next()?, next()?, next()?);
    let [text, elements, fields, scored, chunks] = std::array::from_fn(|_| next());
    let Answer::Revision(revision) = revision else { unreachable!("a revision was asked for") };
    let Answer::Deadline(Some(deadline_ms)) = deadline else { return Ok(None) };
    let content = match kind {
        Answer::Kind(Some(VisibleKind::Register | VisibleKind::Counter)) => text?,
        Answer::Kind(Some(VisibleKind::Set)) => elements?,
        Answer::Kind(Some(VisibleKind::Map)) => fields?,
        Answer::Kind(Some(VisibleKind::Sorted)) => scored?,
        Answer::Kind(Some(VisibleKind::Document)) => chunks?,
        _ => return Ok(None),
    };
    let mut writes = match content {
        Answer::Value(Some(value)) => {
            // A value gets its deadline with it, for a large one is alone in its frame.
            let ttl = deadline_ms.map_or(Ttl::None, Ttl::Until);
            return Ok(Some((vec![Write::SetFor { key: key(), value, ttl }], revision)));
        }
        Answer::List(elements) => vec![Write::Add { key: key(), elements }],
        Answer::Pairs(fields) => vec![Write::Put { key: key(), fields }],
        Answer::Scored(members) => {
            vec![Write::Score { key: key(), members, rule: ScoreRule::default() }]
        }
        Answer::Chunks(chunks) => {
            let change =
                |(_, chunk)| Write::Change { key: key(), chunk, base: Vec::new(), replaced: Vec::new() };
            chunks.into_iter().map(change).collect()
        }
        _ => return Ok(None),
    };
    let expire = |deadline_ms| Write::Expire { key: key(), deadline_ms, only: None };
    writes.extend(deadline_ms.map(expire));
    Ok(Some((writes, revision)))
}
