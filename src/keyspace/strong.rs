//! The handle of a strong keyspace: linearizable reads and writes, decided by a majority of the anchors.
//!
//! Everything here waits for the anchors, and without a majority fails in bounded time; nothing is answered from this
//! node alone, but for what [`Strong::stale`] gives, which says so. Each error says what became of the operation.

mod error;
mod lease;
mod named;
mod operation;
#[cfg(test)]
mod tests;
mod watching;

use std::time::Duration;

pub use error::StrongError;
pub use lease::{Lease, Leased};
pub use named::Named;
pub use operation::{StrongChange, StrongOperation};
use tidelock_engine::command::OperationId;
use tidelock_engine::condition::Condition;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::read::{Answer, Query};
pub use tidelock_engine::replica::Label;
use tidelock_engine::replica::{Freshness, Terms};
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Decided, Decision};
use tidelock_engine::row::Fingerprint;
use tidelock_engine::write::{Outcome, Write};
pub use watching::{StrongWatch, StrongWatchError};

use super::{Batch, Keyspace, value};
use crate::node::{GroupEvents, OperationOutcome};

/// How often [`Strong::update`] begins again at most when others write meanwhile.
const UPDATE_TRIES_MAX: usize = 64;

/// A strong keyspace of a node, anchor or not.
///
/// ```no_run
/// # async fn example(node: tidelock::Node) -> Result<(), Box<dyn std::error::Error>> {
/// use tidelock::keyspace::Expected;
///
/// let orders = node.keyspace("orders")?.strong();
/// orders.put("state", "open").await?;
/// // Whoever comes second is told so, on whichever node.
/// let is_mine = orders.compare_and_set("state", Expected::Value(b"open"), "taken").await?;
/// let count = orders.update("count", |count| {
///     let count = count.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0_u64);
///     Some((count + 1).to_string().into_bytes())
/// });
/// println!("{is_mine} {:?}", count.await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Strong {
    keyspace: Keyspace,
    terms: Terms,
}

/// What a key must be for something to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// There is no such key.
    Missing,
    /// It holds this value.
    Value(&'a [u8]),
    /// It is as it was when this revision of it was read.
    Unchanged(KeyRevision),
}

impl Expected<'_> {
    fn of(self, key: Vec<u8>) -> Condition {
        match self {
            Self::Missing => Condition::Missing(key),
            Self::Value(value) => Condition::Equals { key, value: Some(value.to_vec()) },
            Self::Unchanged(KeyRevision(revision)) => Condition::Unchanged { key, revision },
        }
    }
}

/// What a key was at some moment. Every write of it makes another, also one of the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRevision(Fingerprint);

/// Something that was read, and what the read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled<T> {
    /// What was read.
    pub value: T,
    /// How much of what was acknowledged it is of.
    pub label: Label,
}

impl Keyspace {
    /// The keyspace as one that is strong. Whatever is asked of it while it is not fails.
    pub fn strong(&self) -> Strong {
        Strong { keyspace: self.clone(), terms: Terms::default() }
    }
}

impl Strong {
    /// The keyspace's name.
    pub fn name(&self) -> &KeyspaceName {
        &self.keyspace.name
    }

    /// The same, with operations that take so long at most: a minute, and five seconds if nothing is said.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.terms.within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The value of a key, if there is one: as of a moment after this was called, whoever wrote before.
    ///
    /// # Errors
    /// [`StrongError`]; nothing was changed.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, StrongError> {
        Ok(value(self.ask(Query::Get(key.as_ref().to_vec())).await?)?)
    }

    /// The same, with the revision that [`Expected::Unchanged`] takes.
    ///
    /// # Errors
    /// As [`Strong::get`].
    pub async fn read(&self, key: impl AsRef<[u8]>) -> Result<(Option<Vec<u8>>, KeyRevision), StrongError> {
        let key = || key.as_ref().to_vec();
        let queries = [Query::Get(key()), Query::Revision(key())].map(Action::Query).to_vec();
        let (mut given, _) = self.submit(queries, self.terms).await?;
        match (given.pop().transpose()?, given.pop().transpose()?) {
            (Some(ActionReply::Answer(Answer::Revision(revision))), Some(ActionReply::Answer(read))) => {
                Ok((value(read)?, KeyRevision(revision)))
            }
            other => unreachable!("a value and a revision were asked for, not {other:?}"),
        }
    }

    /// Writes a value, whatever the key held.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), StrongError> {
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        self.one(Action::Write(Write::Set { key, value })).await.map(drop)
    }

    /// Removes a key, whatever it holds; answers whether it was there.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, StrongError> {
        match self.one(Action::Write(Write::Delete { key: key.as_ref().to_vec() })).await? {
            ActionReply::Outcome(Outcome::Changed(count)) => Ok(count > 0),
            other => unreachable!("a removal counts keys, and does not answer {other:?}"),
        }
    }

    /// Writes a value if the key is what was expected; answers whether it was.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        expected: Expected<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, StrongError> {
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        let conditions = vec![expected.of(key.clone())];
        Ok(self.decide(conditions, vec![Write::Set { key, value }]).await?.is_some())
    }

    /// Writes what `change` makes of the value: none removes the key. It is called again with what is there then if
    /// somebody else wrote meanwhile. Answers what was written.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it. After [`StrongError::Contended`] nothing was written.
    pub async fn update(
        &self,
        key: impl AsRef<[u8]>,
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, StrongError> {
        let key = key.as_ref();
        for _ in 0..UPDATE_TRIES_MAX {
            let (old, revision) = self.read(key).await?;
            let new = change(old.as_deref());
            let write = match &new {
                Some(value) => Write::Set { key: key.to_vec(), value: value.clone() },
                None => Write::Delete { key: key.to_vec() },
            };
            let conditions = vec![Expected::Unchanged(revision).of(key.to_vec())];
            if self.decide(conditions, vec![write]).await?.is_some() {
                return Ok(new);
            }
        }
        Err(StrongError::Contended { tries: UPDATE_TRIES_MAX })
    }

    /// Does several writes at one moment: all of them or none.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn batch(&self, batch: Batch) -> Result<Vec<Outcome>, StrongError> {
        let outcomes = self.decide(Vec::new(), batch.writes).await?;
        Ok(outcomes.expect("there is no condition that may not hold"))
    }

    /// The same if all of these keys are what was expected of them at that moment; none if one is not.
    ///
    /// # Errors
    /// [`StrongError`] says what became of it.
    pub async fn batch_if<K: AsRef<[u8]>>(
        &self,
        expected: impl IntoIterator<Item = (K, Expected<'_>)>,
        batch: Batch,
    ) -> Result<Option<Vec<Outcome>>, StrongError> {
        let conditions = expected.into_iter().map(|(key, expected)| expected.of(key.as_ref().to_vec()));
        self.decide(conditions.collect(), batch.writes).await
    }

    /// Reads that answer what this node has, at once, and say how old that is.
    pub fn stale(&self) -> Relaxed<'_> {
        Relaxed { strong: self, freshness: Freshness::Stale }
    }

    /// Reads that see at least what the keyspace held at a revision, which [`Strong::revision`] of another node told.
    pub fn at_least(&self, revision: u64) -> Relaxed<'_> {
        Relaxed { strong: self, freshness: Freshness::Revision(revision) }
    }

    /// The number of the last operation that this node has applied. All writes that were acknowledged here are up to it.
    ///
    /// # Errors
    /// [`StrongError`]: the keyspace cannot be read here.
    pub async fn revision(&self) -> Result<u64, StrongError> {
        self.check()?;
        let label = self.keyspace.node.label(&self.keyspace.name).await?;
        label.map(|label| label.revision).ok_or_else(|| self.not_strong())
    }

    /// What became of an operation of which [`StrongError::Unknown`] said that nobody knows: as of a moment after this was
    /// called, on any node.
    ///
    /// # Errors
    /// [`StrongError`]: the anchors did not say in time what was executed.
    pub async fn outcome(&self, operation: OperationId) -> Result<OperationOutcome, StrongError> {
        self.check()?;
        Ok(self.keyspace.node.outcome(&self.keyspace.name, operation).await?)
    }

    /// The same, and where it was not executed it is made certain that it never will be, so that it can be done by another
    /// name, or not at all. What is answered is final.
    ///
    /// # Errors
    /// [`StrongError`]: the anchors did not do it in time, and the operation may be executed yet. It may be asked for again.
    pub async fn settle(&self, operation: OperationId) -> Result<OperationOutcome, StrongError> {
        self.check()?;
        Ok(self.keyspace.node.settle(&self.keyspace.name, operation).await?)
    }

    /// What happens to the group of anchors, as far as this node takes part in it.
    pub fn events(&self) -> GroupEvents {
        self.keyspace.node.group_events()
    }

    async fn ask(&self, query: Query) -> Result<Answer, StrongError> {
        match self.one(Action::Query(query)).await? {
            ActionReply::Answer(answer) => Ok(answer),
            other => unreachable!("a query does not answer {other:?}"),
        }
    }

    async fn one(&self, action: Action) -> Result<ActionReply, StrongError> {
        let (mut given, _) = self.submit(vec![action], self.terms).await?;
        Ok(given.pop().expect("there is one reply per action")?)
    }

    /// Does all writes at one moment if all conditions hold, and answers what they did.
    async fn decide(
        &self,
        conditions: Vec<Condition>,
        writes: Vec<Write>,
    ) -> Result<Option<Vec<Outcome>>, StrongError> {
        let actions = writes.into_iter().map(Action::Write).collect();
        let decision = Decision { conditions, actions, is_whole: true, ..Decision::default() };
        let reply = self.one(Action::Decide(Box::new(decision))).await?;
        let ActionReply::Decided(Decided { given, .. }) = reply else {
            unreachable!("a decision does not answer {reply:?}")
        };
        let Some(given) = given else { return Ok(None) };
        given.into_iter().map(|given| Ok(super::outcome(given?))).collect::<Result<_, _>>().map(Some)
    }

    async fn submit(
        &self,
        actions: Vec<Action>,
        terms: Terms,
    ) -> Result<(Given, Option<Label>), StrongError> {
        self.check()?;
        let (reply, label) = self.keyspace.submit_on((actions, Atomicity::Each), terms).await;
        Ok((reply?, label))
    }

    fn check(&self) -> Result<(), StrongError> {
        let is_strong = self.keyspace.node.mode(&self.keyspace.name).epoch.is_strong();
        if is_strong { Ok(()) } else { Err(self.not_strong()) }
    }

    fn not_strong(&self) -> StrongError {
        StrongError::NotStrong(self.keyspace.name.clone())
    }
}

/// What each action gave, in order.
type Given = Vec<Result<ActionReply, ActionError>>;

/// Reads of a strong keyspace that need not see all that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Relaxed<'a> {
    strong: &'a Strong,
    freshness: Freshness,
}

impl Relaxed<'_> {
    /// The value of a key, if there is one, and how old it may be.
    ///
    /// # Errors
    /// [`StrongError`]: it could not be read in time.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Labelled<Option<Vec<u8>>>, StrongError> {
        let query = Action::Query(Query::Get(key.as_ref().to_vec()));
        let terms = Terms { freshness: self.freshness, ..self.strong.terms };
        let (mut given, label) = self.strong.submit(vec![query], terms).await?;
        let label = if let Some(label) = label {
            label
        } else {
            // It had to wait, and is of the moment at which it was answered.
            let label = self.strong.keyspace.node.label(&self.strong.keyspace.name).await?;
            label.ok_or_else(|| self.strong.not_strong())?
        };
        match given.pop().expect("there is one reply per action")? {
            ActionReply::Answer(answer) => Ok(Labelled { value: value(answer)?, label }),
            other => unreachable!("a query does not answer {other:?}"),
        }
    }
}
