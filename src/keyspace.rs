//! Typed handles: what a program reads and writes in a keyspace.
//!
//! A handle is a name, not a copy: it is cheap, holds nothing, and reads what is committed at that moment.
//! Reads answer from this node; writes return when they are on its disk, or in its memory if the keyspace
//! handle is [`Keyspace::buffered`].

mod sorted_set;
pub mod strong;
#[cfg(test)]
mod tests;

pub use sorted_set::SortedSet;
pub use strong::{Expected, Strong, StrongError};

use std::time::Duration;

use thiserror::Error;
use tidelock_engine::crdt::VisibleKind;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Entry, EntryRow, KeyPage, PAGE_KEYS_MAX, Pair, Query, QueryError};
use tidelock_engine::replica::{Label, Terms};
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Request, RequestError, RequestReply,
};
use tidelock_engine::score::Score;
use tidelock_engine::write::{Outcome, ScoreRule, Write};

use crate::document::Document;
use crate::named::{self, Name};
use crate::node::Node;
use crate::watch::{Cursor, WatchRange};
use crate::watch_hub::Watch;

/// Why a write was not acknowledged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It was refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] ActionError),
    /// The request was not executed, or its outcome is unknown because the disk failed; the text says which.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// A keyspace of a node.
#[derive(Clone, Debug)]
pub struct Keyspace {
    node: Node,
    name: KeyspaceName,
    durability: Durability,
    /// What the operation is called that is made of what is written through this handle.
    operation: Option<Name>,
}

impl Keyspace {
    pub(crate) fn new(node: Node, name: KeyspaceName) -> Self {
        Self { node, name, durability: Durability::Durable, operation: None }
    }

    /// The same keyspace, for one write, which is done once however often it is asked for by this name. Only a strong one
    /// takes it.
    pub(crate) fn named(&self, operation: Name) -> Self {
        Self { operation: Some(operation), ..self.clone() }
    }

    /// The keyspace's name.
    pub fn name(&self) -> &KeyspaceName {
        &self.name
    }

    /// The same keyspace, with writes that return from memory: they are on disk, and go to peers, within 50 ms.
    /// A crash before that loses them here, and nobody has seen them.
    #[must_use]
    pub fn buffered(mut self) -> Self {
        self.durability = Durability::Buffered;
        self
    }

    /// A value that is written as a whole.
    pub fn register(&self, key: impl AsRef<[u8]>) -> Register<'_> {
        Register(self.handle(key))
    }

    /// A number that all peers count.
    pub fn counter(&self, key: impl AsRef<[u8]>) -> Counter<'_> {
        Counter(self.handle(key))
    }

    /// A set of elements.
    pub fn set(&self, key: impl AsRef<[u8]>) -> Set<'_> {
        Set(self.handle(key))
    }

    /// A map of fields.
    pub fn map(&self, key: impl AsRef<[u8]>) -> Map<'_> {
        Map(self.handle(key))
    }

    /// A set of members in order of their scores.
    pub fn sorted_set(&self, key: impl AsRef<[u8]>) -> SortedSet<'_> {
        SortedSet(self.handle(key))
    }

    /// A value of many parts that several people change at once.
    pub fn document(&self, key: impl AsRef<[u8]>) -> Document<'_> {
        Document::new(self, key.as_ref().to_vec())
    }

    /// Removes a key, whatever it holds; answers whether it existed.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        self.handle(key).changed(|key| Write::Delete { key }).await.map(|count| count > 0)
    }

    /// Does several writes at once: every peer sees all of them or none. If one is refused, none is done.
    pub async fn batch(&self, batch: Batch) -> Result<Vec<Outcome>, WriteError> {
        let actions = batch.writes.into_iter().map(Action::Write).collect();
        let replies = self.submit(actions, Atomicity::AllOrNothing).await?;
        replies.into_iter().map(|reply| Ok(outcome(reply?))).collect()
    }

    /// All that concurrent writes left under a key.
    pub fn entry(&self, key: impl AsRef<[u8]>) -> Result<Entry, QueryError> {
        match self.query(&Query::Entry(key.as_ref().to_vec()))? {
            Answer::Entry(entry) => Ok(entry),
            other => mismatch(&other),
        }
    }

    /// The rows of a key that lost to a concurrent write, or are of a kind that the key does not show.
    pub fn conflicts(&self, key: impl AsRef<[u8]>) -> Result<Vec<EntryRow>, QueryError> {
        Ok(self.entry(key)?.conflicts().cloned().collect())
    }

    /// The kind that a key shows, if it exists.
    pub fn kind(&self, key: impl AsRef<[u8]>) -> Result<Option<VisibleKind>, QueryError> {
        match self.query(&Query::Kind(key.as_ref().to_vec()))? {
            Answer::Kind(kind) => Ok(kind),
            other => mismatch(&other),
        }
    }

    /// The next keys that begin with a prefix, in byte order: at most 10,000, behind `after` if it is given.
    pub fn keys(&self, prefix: impl AsRef<[u8]>, after: Option<&[u8]>) -> Result<Vec<Vec<u8>>, QueryError> {
        let (prefix, after) = (prefix.as_ref().to_vec(), after.map(<[u8]>::to_vec));
        list(self.query(&Query::Keys(KeyPage { prefix, after, count: PAGE_KEYS_MAX }))?)
    }

    /// The number of keys that exist.
    pub fn len(&self) -> Result<u64, QueryError> {
        count(self.query(&Query::Size)?)
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> Result<bool, QueryError> {
        Ok(self.len()? == 0)
    }

    /// Watches a key or prefix. With a cursor, what happened behind it comes first.
    pub fn watch(&self, range: WatchRange, from: Option<Cursor>) -> Watch {
        self.node.watch(&self.name, range, from)
    }

    /// Waits until `peers` peers have all that this node wrote here on disk; answers how many have.
    pub async fn wait_for_peers(&self, peers: usize, timeout: Duration) -> usize {
        self.node.wait_for_peers(&self.name, peers, Some(timeout)).await
    }

    /// A text that is equal on two peers exactly when their histories and rows of this keyspace are.
    pub fn fingerprint(&self) -> String {
        self.node.fingerprint(&self.name)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Answers a query, of a keyspace of either mode: of a strong one after its anchors were asked.
    pub(crate) async fn ask(&self, query: Query) -> Result<Answer, WriteError> {
        if !self.node.mode(&self.name).epoch.is_strong() {
            return Ok(self.query(&query).map_err(ActionError::Query)?);
        }
        let mut given = self.submit(vec![Action::Query(query)], Atomicity::Each).await?;
        match given.pop().expect("one reply for one action")? {
            ActionReply::Answer(answer) => Ok(answer),
            other => unreachable!("a query does not answer {other:?}"),
        }
    }

    fn handle(&self, key: impl AsRef<[u8]>) -> Handle<'_> {
        Handle { keyspace: self, key: key.as_ref().to_vec() }
    }

    fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        self.node.query(&self.name, query)
    }

    async fn submit(
        &self,
        actions: Vec<Action>,
        atomicity: Atomicity,
    ) -> Result<Vec<Result<ActionReply, ActionError>>, RequestError> {
        self.submit_on((actions, atomicity), Terms::default()).await.0
    }

    async fn submit_on(
        &self,
        (actions, atomicity): (Vec<Action>, Atomicity),
        mut terms: Terms,
    ) -> (RequestReply, Option<Label>) {
        let (keyspace, durability) = (self.name.clone(), Durability::Durable);
        let mut request = Request { keyspace, actions, atomicity, durability };
        if let Some(name) = self.operation {
            let words = match request.encode() {
                Ok(words) => words,
                Err(error) => {
                    let (keyspace, reason) = (request.keyspace, error.to_string());
                    return (Err(RequestError::TooLarge { keyspace, reason }), None);
                }
            };
            named::put_name((&mut request, &mut terms), name, named::mark_of([&words[..]]));
        }
        request.durability = self.durability;
        self.node.submit_on(vec![(request, terms)]).await.into_only()
    }
}

/// Writes that are done at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    writes: Vec<Write>,
}

impl Batch {
    /// No writes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a key a register with this value.
    #[must_use]
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        self.with(Write::Set { key, value })
    }

    /// Adds to a counter.
    #[must_use]
    pub fn increment(self, key: impl AsRef<[u8]>, by: i64) -> Self {
        let key = key.as_ref().to_vec();
        self.with(Write::Increment { key, by })
    }

    /// Adds an element to a set.
    #[must_use]
    pub fn add(self, key: impl AsRef<[u8]>, element: impl AsRef<[u8]>) -> Self {
        let (key, elements) = (key.as_ref().to_vec(), vec![element.as_ref().to_vec()]);
        self.with(Write::Add { key, elements })
    }

    /// Removes an element from a set.
    #[must_use]
    pub fn remove(self, key: impl AsRef<[u8]>, element: impl AsRef<[u8]>) -> Self {
        let (key, elements) = (key.as_ref().to_vec(), vec![element.as_ref().to_vec()]);
        self.with(Write::Remove { key, elements })
    }

    /// Writes a field of a map.
    #[must_use]
    pub fn put(self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let fields = vec![(field.as_ref().to_vec(), value.as_ref().to_vec())];
        self.with(Write::Put { key: key.as_ref().to_vec(), fields })
    }

    /// Removes a field of a map.
    #[must_use]
    pub fn unset(self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Self {
        let (key, fields) = (key.as_ref().to_vec(), vec![field.as_ref().to_vec()]);
        self.with(Write::Unset { key, fields })
    }

    /// Scores a member of a sorted set.
    #[must_use]
    pub fn score(self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>, score: Score) -> Self {
        let (key, members) = (key.as_ref().to_vec(), vec![(member.as_ref().to_vec(), score)]);
        self.with(Write::Score { key, members, rule: ScoreRule::default() })
    }

    /// Removes a member of a sorted set.
    #[must_use]
    pub fn unscore(self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Self {
        let (key, members) = (key.as_ref().to_vec(), vec![member.as_ref().to_vec()]);
        self.with(Write::Unscore { key, members })
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref().to_vec();
        self.with(Write::Delete { key })
    }

    fn with(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }
}

#[derive(Clone, Debug)]
struct Handle<'a> {
    keyspace: &'a Keyspace,
    key: Vec<u8>,
}

impl Handle<'_> {
    async fn write(&self, write: impl FnOnce(Vec<u8>) -> Write) -> Result<Outcome, WriteError> {
        let actions = vec![Action::Write(write(self.key.clone()))];
        let replies = self.keyspace.submit(actions, Atomicity::Each).await?;
        Ok(outcome(replies.into_iter().next().expect("one reply for one action")?))
    }

    async fn changed(&self, write: impl FnOnce(Vec<u8>) -> Write) -> Result<u64, WriteError> {
        match self.write(write).await? {
            Outcome::Changed(count) => Ok(count),
            Outcome::Done => Ok(0),
            other => unreachable!("it counts neither rows nor numbers, and does not do {other:?}"),
        }
    }

    fn query(&self, query: impl FnOnce(Vec<u8>) -> Query) -> Result<Answer, QueryError> {
        self.keyspace.query(&query(self.key.clone()))
    }
}

/// A value that is written as a whole. Of concurrent writes the latest is read, and the others are conflicts.
#[derive(Clone, Debug)]
pub struct Register<'a>(Handle<'a>);

impl Register<'_> {
    /// The value, if there is one.
    pub fn get(&self) -> Result<Option<Vec<u8>>, QueryError> {
        value(self.0.query(Query::Get)?)
    }

    /// Replaces whatever the key held.
    pub async fn set(&self, value: impl AsRef<[u8]>) -> Result<(), WriteError> {
        let value = value.as_ref().to_vec();
        self.0.write(|key| Write::Set { key, value }).await.map(drop)
    }
}

/// A number that all peers count. Every increment counts exactly once, however late it arrives.
#[derive(Clone, Debug)]
pub struct Counter<'a>(Handle<'a>);

impl Counter<'_> {
    /// The number; 0 when nothing was counted.
    pub fn get(&self) -> Result<i128, QueryError> {
        Ok(counted(value(self.0.query(Query::Get)?)?))
    }

    /// Adds to the number, which may be negative; answers what this node then counts.
    pub async fn add(&self, by: i64) -> Result<i64, WriteError> {
        match self.0.write(|key| Write::Increment { key, by }).await? {
            Outcome::Number(number) => Ok(number),
            other => unreachable!("an increment answers a number, and not {other:?}"),
        }
    }
}

/// A set of elements. An add wins over a concurrent remove.
#[derive(Clone, Debug)]
pub struct Set<'a>(Handle<'a>);

impl Set<'_> {
    /// Adds an element; answers whether it was new here.
    pub async fn add(&self, element: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let elements = vec![element.as_ref().to_vec()];
        self.0.changed(|key| Write::Add { key, elements }).await.map(|count| count > 0)
    }

    /// Removes an element; answers whether it was there.
    pub async fn remove(&self, element: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let elements = vec![element.as_ref().to_vec()];
        self.0.changed(|key| Write::Remove { key, elements }).await.map(|count| count > 0)
    }

    /// Whether an element is in.
    pub fn contains(&self, element: impl AsRef<[u8]>) -> Result<bool, QueryError> {
        let element = element.as_ref().to_vec();
        match self.0.query(|key| Query::Contains(key, element))? {
            Answer::Bool(is_member) => Ok(is_member),
            other => mismatch(&other),
        }
    }

    /// The elements in byte order.
    pub fn members(&self) -> Result<Vec<Vec<u8>>, QueryError> {
        list(self.0.query(Query::Members)?)
    }

    /// The number of elements.
    pub fn len(&self) -> Result<u64, QueryError> {
        count(self.0.query(Query::Cardinality)?)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> Result<bool, QueryError> {
        Ok(self.len()? == 0)
    }
}

/// A map of fields, each of which is a register.
#[derive(Clone, Debug)]
pub struct Map<'a>(Handle<'a>);

impl Map<'_> {
    /// Writes a field; answers whether it was new here.
    pub async fn put(&self, field: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let fields = vec![(field.as_ref().to_vec(), value.as_ref().to_vec())];
        self.0.changed(|key| Write::Put { key, fields }).await.map(|count| count > 0)
    }

    /// Removes a field; answers whether it was there.
    pub async fn remove(&self, field: impl AsRef<[u8]>) -> Result<bool, WriteError> {
        let fields = vec![field.as_ref().to_vec()];
        self.0.changed(|key| Write::Unset { key, fields }).await.map(|count| count > 0)
    }

    /// The value of a field.
    pub fn get(&self, field: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, QueryError> {
        let field = field.as_ref().to_vec();
        value(self.0.query(|key| Query::Field(key, field))?)
    }

    /// The fields and their values, in byte order of the fields.
    pub fn entries(&self) -> Result<Vec<Pair>, QueryError> {
        match self.0.query(Query::Fields)? {
            Answer::Pairs(pairs) => Ok(pairs),
            other => mismatch(&other),
        }
    }

    /// The number of fields.
    pub fn len(&self) -> Result<u64, QueryError> {
        count(self.0.query(Query::FieldCount)?)
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> Result<bool, QueryError> {
        Ok(self.len()? == 0)
    }
}

fn outcome(reply: ActionReply) -> Outcome {
    match reply {
        ActionReply::Outcome(outcome) => outcome,
        ActionReply::Answer(_) | ActionReply::Decided(_) | ActionReply::Whole(_) => {
            unreachable!("a write has an outcome")
        }
    }
}

/// The number that a counter shows.
pub(crate) fn counted(text: Option<Vec<u8>>) -> i128 {
    text.and_then(|text| String::from_utf8(text).ok()?.parse().ok()).unwrap_or(0)
}

fn value(answer: Answer) -> Result<Option<Vec<u8>>, QueryError> {
    match answer {
        Answer::Value(value) => Ok(value),
        other => mismatch(&other),
    }
}

fn list(answer: Answer) -> Result<Vec<Vec<u8>>, QueryError> {
    match answer {
        Answer::List(list) => Ok(list),
        other => mismatch(&other),
    }
}

fn count(answer: Answer) -> Result<u64, QueryError> {
    match answer {
        Answer::Count(count) => Ok(count),
        other => mismatch(&other),
    }
}

/// Every query has one form of answer; another is a defect of ours.
fn mismatch<T>(answer: &Answer) -> T {
    unreachable!("the query does not answer {answer:?}")
}
