//! What a node's double holds: one replica over a store in memory, with the engine's own reads and writes.

use std::collections::BTreeMap;

use tidelock_engine::bounds::BoundError;
use tidelock_engine::causality::Clock;
use tidelock_engine::draft::Draft;
use tidelock_engine::evaluation::{AnswerBudget, Evaluation, Rules};
use tidelock_engine::frame::{FrameBuilder, FrameStart, SigningKey};
use tidelock_engine::id::{ClientId, ClusterId, Epoch, FrameId, KeyspaceId, KeyspaceName};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{Batch, Conditional, Durability, KeyspaceState, Store};
use tidelock_engine::read::{Answer, Query, answer};
use tidelock_engine::replica::{Label, Terms};
use tidelock_engine::request::{
    ActionError, Atomicity, Request, RequestError, RequestReply, decode_reply, encode_reply,
};
use tidelock_engine::write::{Author, WriteError};

use crate::node::KeyspaceMode;
use crate::pubsub::PubSub;

/// What a double holds.
pub(super) struct World {
    pub(super) pubsub: PubSub,
    pub(super) cluster: ClusterId,
    pub(super) key: SigningKey,
    pub(super) store: MemStore,
    pub(super) clock: Clock,
    pub(super) unix_ms: u64,
    pub(super) failure: Option<fn() -> RequestError>,
    pub(super) durability: Option<Durability>,
    pub(super) conditional: Conditional,
    /// Whether all keyspaces are strong.
    pub(super) is_strong: bool,
    /// What operations gave that were named.
    pub(super) kept: BTreeMap<(KeyspaceName, (ClientId, u64)), Vec<u8>>,
}

impl World {
    /// Replicas of different seeds write concurrently at the same moment.
    pub(super) fn new(seed: u8, pubsub: PubSub) -> Self {
        let key = SigningKey::from_seed([seed; 32]);
        let cluster = ClusterId::named("test");
        let store = MemStore::new(cluster, key.card([0; 16]));
        Self {
            pubsub,
            cluster,
            key,
            store,
            clock: Clock::default(),
            unix_ms: 1_800_000_000_000,
            failure: None,
            durability: None,
            conditional: Conditional::default(),
            is_strong: false,
            kept: BTreeMap::new(),
        }
    }

    pub(super) fn check(&self, keyspace: &KeyspaceName) -> Result<(), RequestError> {
        if keyspace.as_str().starts_with("elsewhere") {
            return Err(RequestError::NotReplicated(keyspace.clone()));
        }
        self.failure.map_or(Ok(()), |failure| Err(failure()))
    }

    /// Executes what was not executed by this name.
    pub(super) fn execute_named(&mut self, request: Request, terms: &Terms) -> RequestReply {
        let Some(name) = terms.operation else { return self.execute(request) };
        let keyspace = request.keyspace.clone();
        if !self.mode(&keyspace).epoch.is_strong() {
            return Err(RequestError::Action { index: 0, source: ActionError::NeedsStrong(keyspace) });
        }
        let place = (keyspace, name);
        if let Some(kept) = self.kept.get(&place) {
            return decode_reply(kept).expect("it was kept here");
        }
        let reply = self.execute(request);
        self.kept.insert(place, encode_reply(&reply));
        reply
    }

    pub(super) fn execute(&mut self, request: Request) -> RequestReply {
        self.check(&request.keyspace)?;
        self.durability = Some(request.durability);
        let id = KeyspaceId::of(self.cluster, &request.keyspace);
        let recovered = self.store.recovered();
        let state: KeyspaceState = recovered.keyspaces.get(&request.keyspace).cloned().unwrap_or_default();
        let author = recovered.card.replica();
        let head = state.heads.get(author);
        let start = FrameStart {
            keyspace: id,
            epoch: Epoch(0),
            author,
            first: head.map_or(1, |head| head.seq + 1),
            previous: head.map_or(FrameId::NONE, |head| head.frame),
            hlc: self.clock.tick(self.unix_ms),
        };
        let vector = state.heads.vector();
        let mut frame = FrameBuilder::new(start, &vector);
        let mut draft = Draft::over(&self.store);
        let mut answers = AnswerBudget::default();
        let mut given = Vec::new();
        for (index, action) in request.actions.iter().enumerate() {
            let author = Author { draft: &mut draft, frame: &mut frame, heads: &state.heads };
            let is_strong = self.mode(&request.keyspace).epoch.is_strong();
            let conditional = if is_strong { Conditional::Local } else { self.conditional };
            let rules = Rules { keyspace: &request.keyspace, quota_bytes: None, conditional };
            let reply = Evaluation { author, rules, answers: &mut answers }.run(action);
            // What must be whole must fit into one frame.
            let (bytes, ops) = frame.size();
            if request.atomicity != Atomicity::Each && !frame.is_within_bounds() {
                let source = WriteError::from(BoundError::Batch { bytes, ops }).into();
                return Err(RequestError::Action { index, source });
            }
            match reply {
                Err(source) if request.atomicity == Atomicity::AllOrNothing => {
                    return Err(RequestError::Action { index, source });
                }
                reply => given.push(reply),
            }
        }
        let changes = draft.into_changes();
        if !frame.is_empty() {
            let (keyspaces, frames) = (vec![request.keyspace], vec![frame.seal(&self.key)]);
            let batch = Batch {
                keyspaces,
                cards: vec![recovered.card],
                frames,
                changes,
                clock: self.clock.last(),
                ..Batch::default()
            };
            self.store.commit(&batch, request.durability).expect("in memory");
            let keys = batch.changes.rows.keys().map(|(_, row)| (&batch.keyspaces[0], row.key.as_slice()));
            self.pubsub.tracking().changed(keys);
        }
        Ok(given)
    }

    /// Those whose names say so are strong.
    pub(super) fn mode(&self, keyspace: &KeyspaceName) -> KeyspaceMode {
        let is_strong = self.is_strong || keyspace.as_str().starts_with("strong");
        KeyspaceMode { epoch: Epoch(u64::from(is_strong)), is_exact: is_strong, ..KeyspaceMode::default() }
    }

    pub(super) fn label(&self, keyspace: &KeyspaceName) -> Option<Label> {
        let author = self.store.recovered().card.replica();
        let revision = self.state(keyspace).heads.seq(author);
        let label = Label { revision, age_ms: 5, tentative: 0 };
        self.mode(keyspace).epoch.is_strong().then_some(label)
    }

    pub(super) fn state(&self, keyspace: &KeyspaceName) -> KeyspaceState {
        self.store.recovered().keyspaces.get(keyspace).cloned().unwrap_or_default()
    }

    pub(super) fn fingerprint(&self, keyspace: &KeyspaceName) -> String {
        let state = self.state(keyspace);
        format!("{:032x}{:032x}", state.heads.hash(), state.fingerprint.to_bits())
    }

    pub(super) fn keys(&self, keyspace: &KeyspaceName) -> u64 {
        let id = KeyspaceId::of(self.cluster, keyspace);
        match answer(&self.store, id, &Query::Size) {
            Ok(Answer::Count(count)) => count,
            _ => 0,
        }
    }
}
