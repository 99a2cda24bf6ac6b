//! What the world knows of strong keyspaces and no node does: every frame that was ever made there, which operations were
//! executed, and what clients were told.
//!
//! A keyspace that is to be strong is named to the world before anybody writes there; from then on it is judged here,
//! and not by the [`ledger`](crate::ledger).

pub mod clients;
pub mod deeds;

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::causality::Dot;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{ClientId, KeyspaceId, ReplicaId};
use tidelock_engine::op::Op;
use tidelock_engine::ports::{AnchorId, Role, Status, Term};
use tidelock_engine::row::Fingerprint;

use self::clients::Clients;
use crate::ledger::Violation;

/// The name of an operation: its client, and its number there.
pub type OperationName = (ClientId, u64);

/// The book of strong keyspaces.
#[derive(Debug, Default)]
pub struct Strong {
    spaces: BTreeMap<KeyspaceId, Space>,
    leaders: BTreeMap<Term, AnchorId>,
    /// Who asks for things there.
    pub clients: Clients,
}

/// What is known of one keyspace.
#[derive(Debug, Default)]
struct Space {
    /// By author and last seq.
    frames: BTreeMap<(ReplicaId, u64), Vec<u8>>,
    executed: BTreeMap<OperationName, Dot>,
    /// When that was found in a log, by the count of what happened to clients.
    executed_at: BTreeMap<OperationName, u64>,
    /// The rows by the heads under which they were seen.
    rows_at: BTreeMap<String, Fingerprint>,
    not_done: BTreeSet<OperationName>,
}

impl Strong {
    /// From now on a keyspace is judged here.
    pub(crate) fn watch(&mut self, keyspace: KeyspaceId) {
        self.spaces.entry(keyspace).or_default();
    }

    /// Whether a keyspace is judged here.
    pub(crate) fn watches(&self, keyspace: KeyspaceId) -> bool {
        self.spaces.contains_key(&keyspace)
    }

    /// The keyspaces that are judged here.
    pub(crate) fn keyspaces(&self) -> Vec<KeyspaceId> {
        self.spaces.keys().copied().collect()
    }

    /// The operations that were executed.
    pub fn executed(&self) -> usize {
        self.spaces.values().map(|space| space.executed.len()).sum()
    }

    /// How many operations of a client were executed.
    pub fn executed_of(&self, client: ClientId) -> usize {
        let all = self.spaces.values().flat_map(|space| space.executed.keys());
        all.filter(|(of, _)| *of == client).count()
    }

    /// The operations that were executed in a keyspace, and before which moment.
    pub(crate) fn executed_in(&self, keyspace: KeyspaceId) -> BTreeMap<OperationName, u64> {
        self.spaces.get(&keyspace).map(|space| space.executed_at.clone()).unwrap_or_default()
    }

    /// Whether an operation was executed.
    pub fn is_executed(&self, keyspace: KeyspaceId, operation: OperationName) -> bool {
        self.spaces.get(&keyspace).is_some_and(|space| space.executed.contains_key(&operation))
    }

    /// Takes in a frame that was found in the log of a node.
    ///
    /// # Errors
    /// It is not the frame that was made, or does what may not be done.
    pub(crate) fn take_in(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let frame =
            Frame::decode(bytes).map_err(|error| Violation::new("the log can be read", error.to_string()))?;
        let header = frame.header();
        let Some(space) = self.spaces.get_mut(&header.keyspace) else { return Ok(()) };
        let name = (header.author, header.last());
        if let Some(known) = space.frames.get(&name) {
            if known == bytes {
                return Ok(());
            }
            let detail = format!("{} {} of epoch {} is two frames", name.0, name.1, header.epoch.0);
            return Err(Violation::new("anchors make the same frames, byte for byte", detail));
        }
        space.frames.insert(name, bytes.to_vec());
        if !header.epoch.is_strong() {
            return Ok(());
        }
        for (dot, op) in frame.operations() {
            let Op::Outcome { client, number, .. } = op else { continue };
            let operation = (*client, *number);
            space.executed_at.insert(operation, self.clients.moment());
            if let Some(before) = space.executed.insert(operation, dot) {
                let detail = format!("{operation:?} at {before:?} and {dot:?}");
                return Err(Violation::new("no operation is executed twice", detail));
            }
            if space.not_done.contains(&operation) {
                let detail = format!("{operation:?} at {dot:?}");
                return Err(Violation::new("what was certainly not done is never done", detail));
            }
        }
        Ok(())
    }

    /// Takes in that a client was told that an operation is done.
    pub(crate) fn acknowledged(
        &self,
        keyspace: KeyspaceId,
        operation: OperationName,
    ) -> Result<(), Violation> {
        if self.is_executed(keyspace, operation) {
            return Ok(());
        }
        Err(Violation::new("what is acknowledged was executed", format!("{operation:?} is in no log")))
    }

    /// Takes in that a client was told that an operation is certainly not done.
    pub(crate) fn denied(&mut self, keyspace: KeyspaceId, operation: OperationName) -> Result<(), Violation> {
        if self.is_executed(keyspace, operation) {
            let detail = format!("{operation:?} is in a log");
            return Err(Violation::new("what was certainly not done is never done", detail));
        }
        self.spaces.entry(keyspace).or_default().not_done.insert(operation);
        Ok(())
    }

    /// Takes in what a node shows under its heads.
    pub(crate) fn shows(
        &mut self,
        keyspace: KeyspaceId,
        heads: &str,
        shown: Fingerprint,
    ) -> Result<(), Violation> {
        let space = self.spaces.entry(keyspace).or_default();
        let known = *space.rows_at.entry(heads.to_owned()).or_insert(shown);
        if known == shown {
            return Ok(());
        }
        let detail = format!("{keyspace} at {heads}: {shown:?}, and elsewhere {known:?}");
        Err(Violation::new("rows are a function of the version vector", detail))
    }

    /// Takes in how an anchor says that its group stands.
    pub(crate) fn stands(&mut self, anchor: Option<AnchorId>, status: &Status) -> Result<(), Violation> {
        let Some(anchor) = anchor.filter(|_| status.role == Role::Leader) else { return Ok(()) };
        let known = *self.leaders.entry(status.term).or_insert(anchor);
        if known == anchor {
            return Ok(());
        }
        let detail = format!("{known} and {anchor} in {}", status.term);
        Err(Violation::new("a term has one leader", detail))
    }

    /// The terms that had a leader.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }
}
