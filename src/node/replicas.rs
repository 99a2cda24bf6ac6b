//! Every replica that ever wrote, as this node knows it, and the retirement of those that never will again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use thiserror::Error;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::ports::{Durability, Log, ReadError, RowRange, Rows, Within};
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request};
use tidelock_engine::row::{Kind, Payload, RETIRED_KEY};
use tidelock_engine::write::{Outcome, Write};
use tidelock_store::Snapshot;

use crate::node::Node;
use crate::status::{ReplicaKeyspace, ReplicaState, Retirement};

/// Why a replica was not retired, or not everywhere.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetireError {
    /// It is the node's own. Nothing was changed.
    #[error("replica {0} is this node's own; if it is retired all the same, by force, the node must rejoin")]
    Own(ReplicaId),
    /// It is connected now. Nothing was changed.
    #[error(
        "replica {0} is connected now; if it is retired all the same, by force, its node must rejoin, and what it \
         counts before it knows may be lost"
    )]
    Connected(ReplicaId),
    /// Nothing is known of it. Nothing was changed.
    #[error(
        "no keyspace here has an operation of replica {0}; `tidelock replicas` lists all that have written"
    )]
    Unknown(ReplicaId),
    /// A write was refused; where it was not, the replica is retired.
    #[error("retired in {done} keyspaces, and then: {reason}")]
    Refused {
        /// The keyspaces in which it was retired.
        done: usize,
        /// Why not in the next one.
        reason: String,
    },
    /// The store could not be read. Nothing was changed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Node {
    /// Every replica that ever wrote here, with what is known of it, and this node's own.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn replicas(&self) -> Result<Vec<ReplicaState>, ReadError> {
        let reader = self.reader()?;
        let snapshot = reader.snapshot();
        let mut found: BTreeMap<ReplicaId, Vec<ReplicaKeyspace>> =
            BTreeMap::from([(self.replica(), Vec::new())]);
        for (id, name) in reader.keyspaces() {
            let Some(state) = reader.state(id) else { continue };
            let mut retired = retirements(&snapshot, id)?;
            for (replica, head) in state.heads.iter() {
                let retired = retired.remove(&replica);
                let of = ReplicaKeyspace { name: name.clone(), seq: head.seq, retired };
                found.entry(replica).or_default().push(of);
            }
        }
        let report = self.report();
        let state = |(replica, mut keyspaces): (ReplicaId, Vec<ReplicaKeyspace>)| {
            let peer = reader.card(replica)?.map(|card| PeerId::from_public_key(card.public_key));
            let is_own = replica == self.replica();
            let peer = if is_own { Some(self.peer()) } else { peer };
            let is_connected = report.links.iter().any(|link| link.replica == replica);
            let seen = report.seen.iter().find(|(seen, _)| Some(*seen) == peer);
            let seen = seen.map(|(_, ms)| Duration::from_millis(*ms));
            keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(ReplicaState { replica, peer, is_own, is_connected, seen, keyspaces })
        };
        found.into_iter().map(state).collect()
    }

    /// Retires a replica that will never write again, in one keyspace or wherever it has written: what only it could
    /// remove goes, on all nodes. Answers in how many keyspaces that was new. One that may write again, because it is
    /// this node's own or connected, is retired only by force.
    ///
    /// # Errors
    /// [`RetireError`] says what was changed.
    pub async fn retire(
        &self,
        replica: ReplicaId,
        keyspace: Option<&KeyspaceName>,
        is_forced: bool,
    ) -> Result<usize, RetireError> {
        if replica == self.replica() && !is_forced {
            return Err(RetireError::Own(replica));
        }
        if self.is_connected(replica)? && !is_forced {
            return Err(RetireError::Connected(replica));
        }
        let reader = self.reader()?;
        let has_written = |id| reader.state(id).is_some_and(|state| state.heads.seq(replica) > 0);
        let is_meant = |name: &KeyspaceName| keyspace.is_none_or(|keyspace| keyspace == name);
        let keyspaces =
            reader.keyspaces().into_iter().filter(|(id, name)| is_meant(name) && has_written(*id));
        let request = |(_, keyspace)| Request {
            keyspace,
            actions: vec![Action::Write(Write::Retire { replica })],
            atomicity: Atomicity::AllOrNothing,
            durability: Durability::Durable,
        };
        let requests: Vec<Request> = keyspaces.map(request).collect();
        if requests.is_empty() {
            return Err(RetireError::Unknown(replica));
        }
        let mut done = 0;
        for reply in self.submit(requests).await {
            let replies = reply.map_err(|error| RetireError::Refused { done, reason: error.to_string() })?;
            done += replies.iter().filter(|reply| is_new(reply.as_ref().ok())).count();
        }
        Ok(done)
    }
}

impl Node {
    /// Whether a replica is connected now. The report is a little old: of a peer that it does not know yet, which may
    /// have become another replica, the worse is assumed.
    fn is_connected(&self, replica: ReplicaId) -> Result<bool, ReadError> {
        let card = self.reader()?.card(replica)?;
        let Some(peer) = card.map(|card| PeerId::from_public_key(card.public_key)) else { return Ok(false) };
        let report = self.report();
        let is_connected = match report.links.iter().find(|link| link.peer == peer) {
            Some(link) => link.replica == replica,
            None => self.inner.network.peers().iter().any(|connected| connected.peer == peer),
        };
        Ok(is_connected)
    }
}

fn is_new(reply: Option<&ActionReply>) -> bool {
    matches!(reply, Some(ActionReply::Outcome(Outcome::Changed(1))))
}

/// Who was retired in a keyspace: the first time, if several said so.
fn retirements(snapshot: &Snapshot, id: KeyspaceId) -> Result<BTreeMap<ReplicaId, Retirement>, ReadError> {
    let mut found: BTreeMap<ReplicaId, Retirement> = BTreeMap::new();
    let within = Within::Kind(RETIRED_KEY.to_vec(), Kind::Retired);
    snapshot.scan(id, &RowRange::all(within), &mut |row, payload| {
        if let (Payload::Retired { stamp, last }, Ok(replica)) = (payload, row.subkey.try_into()) {
            let retired = Retirement { by: row.dot.replica, unix_ms: stamp.hlc.unix_ms(), last };
            let first = found.entry(ReplicaId::from_bytes(replica)).or_insert(retired);
            if retired.unix_ms < first.unix_ms {
                *first = retired;
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
