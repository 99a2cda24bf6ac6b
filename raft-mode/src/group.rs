//! One Raft group of one anchor: a [`Consensus`] around openraft's tasks.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Change, Consensus, DriverError, GroupId, LogIndex, Member, Output, RaftLog, RequestId, Token,
};
use tokio::runtime::Handle;

use crate::counters::GroupCounts;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::message::ENTRIES_MAX;
use crate::network::Network;
use crate::settings::{Settings, SettingsError};
use crate::shared::Shared;
use crate::types::Raft;
use crate::{admin, inbound, proposals, reads, status};

/// What a group needs to begin.
pub struct Opening {
    /// Which group.
    pub group: GroupId,
    /// Who this anchor is in it. See [`AnchorId`]: a store that lost its disk takes a new one.
    pub me: AnchorId,
    /// What is stored of it.
    pub log: Arc<dyn RaftLog>,
    /// Its settings.
    pub settings: Settings,
    /// A number that no earlier life of this anchor had: from the system's random numbers, or from a simulator's seed.
    /// It names this life in requests, and every random choice of the group follows from it.
    pub seed: u64,
    /// Where its tasks run.
    pub runtime: Handle,
    /// Called from any thread when there is something to poll. It must not wait and must not call the group.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({}, anchor {})", self.group, self.me)
    }
}

/// One Raft group of one anchor. Dropping it ends all its tasks, as a crash would.
#[derive(Debug)]
pub struct Group {
    shared: Arc<Shared>,
}

impl Group {
    /// Begins to take part. Everything else is told by [`Consensus::poll`], a failure to begin too.
    ///
    /// # Errors
    /// The settings do not make sense; see [`Settings::validate`].
    pub fn open(opening: Opening) -> Result<Self, SettingsError> {
        opening.settings.validate()?;
        let shared = Shared::new(opening);
        let starting = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            match start(&starting).await {
                Ok(raft) => status::watch(starting, raft).await,
                Err(error) => starting.stop(&format!("cannot start: {error}")),
            }
        });
        Ok(Self { shared })
    }

    /// What was counted since it was opened.
    pub fn counts(&self) -> GroupCounts {
        self.shared.counters.read()
    }
}

/// Reads what is stored and starts openraft on it. What was committed and not applied is applied by outputs.
async fn start(shared: &Arc<Shared>) -> io::Result<Raft> {
    let log = LogStore::open(Arc::clone(shared))?;
    let machine = Machine::open(Arc::clone(shared))?;
    let network = Network { shared: Arc::clone(shared) };
    let config = shared.settings.config(ENTRIES_MAX as u64).validate().map_err(io::Error::other)?;
    let raft =
        Raft::new(shared.me.0, Arc::new(config), network, log, machine).await.map_err(io::Error::other)?;
    shared.set_raft(raft.clone());
    Ok(raft)
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.tasks.end();
    }
}

impl Consensus for Group {
    fn received(&mut self, from: PeerId, message: &[u8]) {
        inbound::received(&self.shared, from, message);
    }

    fn disconnected(&mut self, peer: PeerId) {
        self.shared.requests.forget(&self.shared.directory.anchors_of(peer));
    }

    fn untold(&mut self, message: &[u8]) {
        self.shared.requests.untold(message);
    }

    fn introduce(&mut self, index: LogIndex, members: BTreeMap<AnchorId, Member>) {
        self.shared.directory.tell(index, members);
    }

    fn propose(&mut self, id: RequestId, command: Vec<u8>, within: Duration) {
        proposals::propose(&self.shared, id, command, within);
    }

    fn barrier(&mut self, id: RequestId, within: Duration) {
        reads::barrier(&self.shared, id, within);
    }

    fn administer(&mut self, id: RequestId, change: Change, within: Duration) {
        admin::administer(&self.shared, id, change, within);
    }

    fn written(&mut self, token: Token, result: Result<(), DriverError>) {
        if let Err(reason) = self.shared.outbox.written(token, result) {
            self.shared.stop(&reason);
        }
    }

    fn applied(&mut self, token: Token, result: Result<Vec<Vec<u8>>, DriverError>) {
        let failure = result.as_ref().err().map(|error| format!("applying failed: {error}"));
        self.shared.outbox.applied(token, result);
        if let Some(reason) = failure {
            self.shared.stop(&reason);
        }
    }

    fn snapshot_built(&mut self, token: Token, result: Result<Vec<u8>, DriverError>) {
        self.shared.outbox.snapshot_built(token, result);
    }

    fn installed(&mut self, token: Token, result: Result<(), DriverError>) {
        let failure = result.as_ref().err().map(|error| format!("installing a snapshot failed: {error}"));
        self.shared.outbox.installed(token, result);
        if let Some(reason) = failure {
            self.shared.stop(&reason);
        }
    }

    fn poll(&mut self) -> Vec<Output> {
        self.shared.outbox.poll()
    }
}
