//! The node as the Redis port sees it.

use std::time::Duration;

use tidelock_engine::command::OperationId;
use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Query, QueryError};
use tidelock_engine::replica::{AnchorError, AnchorOrder, GroupReport, Label, Order, Terms};
use tidelock_engine::request::{Request, RequestError};
use tidelock_store::Compacted;

use crate::backup::unix_ms;
use crate::document::DocumentError;
use crate::keyspace::Keyspace;
use crate::keyspace::strong::{StrongWatch, StrongWatchError};
use crate::node::{KeyspaceError, KeyspaceMode, Node, OperationOutcome, Outbox, Replied};
use crate::pubsub::PubSub;
use crate::redis::{Backend, DocumentAnswer, DocumentCommand, DocumentPlace, Pieces, Pushed, WatchStream};
use crate::status::{KeyspaceStatus, PeerState, ReplicaState, Status};
use crate::watch::{Cursor, WatchRange};
use crate::watch_hub::Watch;

impl Backend for Node {
    type Watch = NodeWatch;

    fn read(
        &self,
        keyspace: &KeyspaceName,
        queries: &[Query],
        bytes_max: usize,
    ) -> Result<Vec<Result<Answer, QueryError>>, RequestError> {
        let id = self.id_of(keyspace);
        self.may_use_id(keyspace, id)?;
        // It has become strong since whoever asks looked.
        if !queries.is_empty() && self.inner.modes.is_strong(keyspace) {
            return Err(RequestError::SwitchInProgress(keyspace.clone()));
        }
        let snapshot = self.reader().map_err(|_| RequestError::Closed)?.snapshot();
        if snapshot.is_partial(id) {
            return Err(RequestError::Loading(keyspace.clone()));
        }
        let mut bytes = 0;
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            if bytes > bytes_max {
                break;
            }
            let answer = self.query_at(&snapshot, (keyspace, id), query);
            bytes += answer.as_ref().map_or(0, Answer::bytes);
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn submit_on(&self, requests: Vec<(Request, Terms)>) -> Replied {
        Self::submit_on(self, requests).await
    }

    fn mode(&self, keyspace: &KeyspaceName) -> KeyspaceMode {
        Self::mode(self, keyspace)
    }

    async fn label(&self, keyspace: &KeyspaceName) -> Result<Option<Label>, RequestError> {
        Self::label(self, keyspace).await
    }

    async fn outcome(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        Self::outcome(self, keyspace, operation).await
    }

    async fn settle(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        Self::settle(self, keyspace, operation).await
    }

    async fn outbox(&self, keyspace: &KeyspaceName, bytes_max: usize) -> Result<Outbox, String> {
        Self::outbox(self, keyspace, bytes_max).await.map_err(|error| error.to_string())
    }

    async fn document(
        &self,
        place: DocumentPlace,
        command: DocumentCommand,
    ) -> Result<DocumentAnswer, DocumentError> {
        let DocumentPlace { keyspace, key, durability } = place;
        let keyspace = Keyspace::new(self.clone(), keyspace);
        let keyspace = if durability == Durability::Buffered { keyspace.buffered() } else { keyspace };
        let document = keyspace.document(key);
        let done = |()| DocumentAnswer::Done;
        match command {
            DocumentCommand::Get(path) => {
                let json = document.json(&path).await?;
                Ok(DocumentAnswer::Bytes(json.map(|json| json.to_string().into_bytes())))
            }
            DocumentCommand::Set(path, value) => document.set_json(&path, value).await.map(done),
            DocumentCommand::Patch(patch) => document.patch_json(patch).await.map(done),
            DocumentCommand::Heads => {
                let heads = document.heads().await?;
                Ok(DocumentAnswer::List(heads.iter().map(ToString::to_string).collect()))
            }
            DocumentCommand::Save => document.save().await.map(DocumentAnswer::Bytes),
            DocumentCommand::Load(saved) => document.merged(saved).await.map(|_| DocumentAnswer::Done),
        }
    }

    async fn wait(&self, keyspace: &KeyspaceName, peers: usize, timeout: Option<Duration>) -> usize {
        self.wait_for_peers(keyspace, peers, timeout).await
    }

    fn watch(
        &self,
        keyspace: &KeyspaceName,
        range: WatchRange,
        from: Option<Cursor>,
    ) -> Result<NodeWatch, String> {
        self.may_use(keyspace).map_err(|error| error.to_string())?;
        Ok(NodeWatch::Log(Self::watch(self, keyspace, range, from)))
    }

    fn watch_after(
        &self,
        keyspace: &KeyspaceName,
        range: WatchRange,
        revision: u64,
    ) -> Result<NodeWatch, String> {
        let strong = self.keyspace(keyspace.as_str()).map_err(|error| error.to_string())?.strong();
        let watch = strong.watch(range).map_err(|error| error.to_string())?;
        Ok(NodeWatch::Revision(keyspace.clone(), watch.after(revision)))
    }

    fn pubsub(&self) -> &PubSub {
        Self::pubsub(self)
    }

    fn status(&self) -> Status {
        Self::status(self)
    }

    fn anchors(&self) -> Option<GroupReport> {
        Self::anchors(self)
    }

    async fn govern(&self, order: AnchorOrder) -> Result<(), AnchorError> {
        Self::govern(self, order).await
    }

    fn peers(&self) -> Vec<PeerState> {
        Self::peers(self)
    }

    fn keyspaces(&self) -> Vec<KeyspaceStatus> {
        Self::keyspaces(self)
    }

    fn fingerprint(&self, keyspace: &KeyspaceName) -> String {
        Self::fingerprint(self, keyspace)
    }

    async fn connect(&self, address: &str, within: Option<Duration>) -> Result<Option<PeerId>, String> {
        let connected = match within {
            None => self.want(address).map(|_| None),
            Some(within) => self.connected(address, within).await.map(Some),
        };
        connected.map_err(|error| error.to_string())
    }

    fn set_online(&self, online: bool) {
        Self::set_online(self, online);
    }

    fn backup(&self) -> Result<Pieces, String> {
        let reader = self.reader().map_err(|error| error.to_string())?;
        Ok(Box::new(reader.backup(unix_ms()).map(|piece| piece.map_err(|error| error.to_string()))))
    }

    async fn compact(&self) -> Result<Vec<Compacted>, String> {
        Self::compact(self, |_| {}).await.map_err(|error| error.to_string())
    }

    fn compaction(&self) -> Option<String> {
        self.reader().ok()?.compaction().map(|at| at.to_string())
    }

    async fn export(&self, keyspace: &KeyspaceName) -> Result<Pieces, String> {
        self.may_use(keyspace).map_err(|error| error.to_string())?;
        let export = self.export_all(keyspace).await.map_err(|error| error.to_string())?;
        Ok(Box::new(export.map(|line| line.map_err(|error| error.to_string()))))
    }

    async fn snapshot(&self, keyspaces: &[KeyspaceName]) -> Result<Pieces, String> {
        let snapshot = self.save_snapshot(keyspaces).await.map_err(|error| error.to_string())?;
        Ok(Box::new(snapshot.map(|line| line.map_err(|error| error.to_string()))))
    }

    async fn order(&self, keyspace: KeyspaceName, order: Order) -> Result<(), KeyspaceError> {
        match order {
            Order::Join => self.join(keyspace.as_str()).await,
            order @ (Order::Leave { .. } | Order::Quota(_) | Order::Conditional(_) | Order::MakeStrong) => {
                Ok(Self::order(self, keyspace, order).await?)
            }
        }
    }

    fn replicas(&self) -> Result<Vec<ReplicaState>, String> {
        Self::replicas(self).map_err(|error| error.to_string())
    }

    async fn retire(
        &self,
        replica: ReplicaId,
        keyspace: Option<KeyspaceName>,
        is_forced: bool,
    ) -> Result<usize, String> {
        Self::retire(self, replica, keyspace.as_ref(), is_forced).await.map_err(|error| error.to_string())
    }

    async fn rejoin(&self) -> Result<String, String> {
        let replica = Self::rejoin(self).await.map_err(|error| error.to_string())?;
        Ok(replica.to_string())
    }
}

/// A watch by the cursor of this node, or by the revision of a strong keyspace.
#[derive(Debug)]
pub enum NodeWatch {
    /// By the log.
    Log(Watch),
    /// By revision.
    Revision(KeyspaceName, StrongWatch),
    /// It has said why there is no more.
    Over,
}

impl WatchStream for NodeWatch {
    async fn next(&mut self) -> Option<Pushed> {
        let (keyspace, watch) = match self {
            Self::Log(watch) => return watch.next().await.map(Pushed::Event),
            Self::Revision(keyspace, watch) => (keyspace, watch),
            Self::Over => return None,
        };
        match watch.next().await? {
            Ok(operation) => Some(Pushed::Operation(keyspace.clone(), operation)),
            Err(StrongWatchError::Compacted { first, .. }) => {
                watch.go_on_after(first);
                Some(Pushed::Compacted(keyspace.clone(), first))
            }
            Err(error) => {
                tracing::warn!(%error, "a watch of a strong keyspace ends");
                let ended = Pushed::Ended(keyspace.clone(), error.to_string());
                *self = Self::Over;
                Some(ended)
            }
        }
    }
}
