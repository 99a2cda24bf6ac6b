//! The keys that WATCH named, with what they were then.
//!
//! EXEC is a decision that none of them was changed. That is told by a revision, which covers the rows of a key: a write
//! of the same value is a change, and so is what came from a peer.

use std::collections::BTreeMap;

use tidelock_engine::condition::Condition;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::Freshness;
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Decision, Request};
use tidelock_engine::row::Fingerprint;

use super::asking::Asking;
use super::backend::Backend;
use super::call::Arguments;
use super::errors;
use super::reply::Reply;
use super::state::SessionState;

/// What a watched key takes beside its bytes, about.
const KEY_OVERHEAD_BYTES: usize = 64;

/// Keys of one keyspace, and their revisions.
#[derive(Debug, Default)]
pub(super) struct Watched {
    revisions: BTreeMap<Vec<u8>, Fingerprint>,
    bytes: usize,
}

impl Watched {
    pub(super) fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// The bytes that are held, as they count towards the limits.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// What must hold for EXEC to do something.
    pub(super) fn into_conditions(self) -> Vec<Condition> {
        let unchanged = |(key, revision)| Condition::Unchanged { key, revision };
        self.revisions.into_iter().map(unchanged).collect()
    }

    /// A key that is watched already stays as it was watched first.
    fn insert(&mut self, key: Vec<u8>, revision: Fingerprint) {
        let bytes = key.len() + KEY_OVERHEAD_BYTES;
        if let std::collections::btree_map::Entry::Vacant(entry) = self.revisions.entry(key) {
            entry.insert(revision);
            self.bytes += bytes;
        }
    }
}

/// `WATCH key...`: reads what the keys are now. It is a decision itself where it could be refused, so that a keyspace that
/// cannot decide refuses it before anybody relies on it.
pub(super) async fn watch<B: Backend>(
    backend: &B,
    state: &mut SessionState,
    arguments: Arguments,
    bytes_max: usize,
) -> Result<Reply, Reply> {
    let keys = arguments.keys()?;
    let bytes: usize = keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES).sum();
    if state.watched.held_bytes() + bytes > bytes_max {
        return Err(Reply::error(format!("ERR the watched keys are more than {bytes_max} bytes")));
    }
    let reads: Vec<Query> = keys.iter().cloned().map(Query::Revision).collect();
    let answers = if backend.mode(&state.keyspace).epoch.is_strong() {
        // Whatever they are now, EXEC decides in the log whether they are so still.
        let asking = Asking { keyspace: &state.keyspace, freshness: Freshness::Linearizable };
        let (answers, _) = asking.ask(backend, reads).await?;
        answers.into_iter().collect::<Result<_, _>>().map_err(|error| errors::action(&error))?
    } else {
        decided(backend, state, reads).await?
    };
    for (key, answer) in keys.into_iter().zip(answers) {
        let Answer::Revision(revision) = answer else { unreachable!("revisions were asked for") };
        state.watched.insert(key, revision);
    }
    Ok(Reply::OK)
}

async fn decided<B: Backend>(
    backend: &B,
    state: &SessionState,
    reads: Vec<Query>,
) -> Result<Vec<Answer>, Reply> {
    let decision = Decision { reads, ..Decision::default() };
    let request = Request {
        keyspace: state.keyspace.clone(),
        actions: vec![Action::Decide(Box::new(decision))],
        atomicity: Atomicity::Each,
        durability: state.durability,
    };
    let reply = backend.submit(vec![request]).await.pop().expect("there is one reply per request");
    match reply.map_err(|error| errors::request(&error))?.pop().expect("there is one reply per action") {
        Ok(ActionReply::Decided(decided)) => Ok(decided.answers),
        Ok(other) => unreachable!("a decision does not answer {other:?}"),
        Err(ActionError::NeedsStrong(keyspace)) => Err(errors::needs_strong("WATCH", &keyspace)),
        Err(error) => Err(errors::action(&error)),
    }
}
