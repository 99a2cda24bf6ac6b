//! What the Redis port needs from a node. The node implements it, and a double over a store in memory for
//! the tests, so that commands run against the real semantics of reads and writes.

use std::time::Duration;

use tidelock_engine::command::OperationId;
use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::read::{Answer, Query, QueryError};
use tidelock_engine::replica::{AnchorError, AnchorOrder, GroupReport, Label, Order, Terms};
use tidelock_engine::request::{Request, RequestError, RequestReply};
use tidelock_store::Compacted;

use super::documents::{DocumentAnswer, DocumentCommand, DocumentPlace};
use crate::document::DocumentError;
use crate::keyspace::strong::StrongOperation;
use crate::node::{KeyspaceError, KeyspaceMode, OperationOutcome, Outbox, Replied};
use crate::pubsub::PubSub;
use crate::status::{KeyspaceStatus, PeerState, ReplicaState, Status};
use crate::watch::{Cursor, WatchEvent, WatchRange};

/// A node, as its clients use it. Cloned per connection, so a clone must be cheap.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What [`Backend::watch`] gives.
    type Watch: WatchStream;

    /// Answers queries from one snapshot, beside the event loop. It stops early once the answers together hold
    /// more than `bytes_max` bytes, so fewer answers than queries may come back, but one at least. No queries
    /// is a way to ask whether the keyspace may be used at all.
    ///
    /// # Errors
    /// [`RequestError::NotReplicated`] or [`RequestError::TooManyKeyspaces`], if a write would be refused for it.
    fn read(
        &self,
        keyspace: &KeyspaceName,
        queries: &[Query],
        bytes_max: usize,
    ) -> Result<Vec<Result<Answer, QueryError>>, RequestError>;

    /// Executes requests in their order, in one turn if possible, and replies to each after its durability.
    /// A read sees the writes before it. There is one reply per request, and in it one per action. A snapshot
    /// that is taken after the reply shows the writes.
    fn submit(&self, requests: Vec<Request>) -> impl Future<Output = Vec<RequestReply>> + Send {
        async {
            let requests = requests.into_iter().map(|request| (request, Terms::default())).collect();
            self.submit_on(requests).await.replies
        }
    }

    /// The same, each on terms of its own. In a strong keyspace requests that are handed over together may be executed
    /// in any order.
    fn submit_on(&self, requests: Vec<(Request, Terms)>) -> impl Future<Output = Replied> + Send;

    /// The mode of a keyspace. Nothing of a strong one is answered by [`Backend::read`].
    fn mode(&self, keyspace: &KeyspaceName) -> KeyspaceMode;

    /// What a stale read of a strong keyspace would see now; none if it is eventual.
    ///
    /// # Errors
    /// [`RequestError`]: the keyspace cannot be read here.
    fn label(
        &self,
        keyspace: &KeyspaceName,
    ) -> impl Future<Output = Result<Option<Label>, RequestError>> + Send;

    /// What became of an operation on a strong keyspace.
    ///
    /// # Errors
    /// [`RequestError`]: the anchors did not say in time what was executed.
    fn outcome(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> impl Future<Output = Result<OperationOutcome, RequestError>> + Send;

    /// The same, and where it was not executed it is made certain that it never will be.
    ///
    /// # Errors
    /// [`RequestError`]: the anchors did not do it in time, and the operation may be executed yet.
    fn settle(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> impl Future<Output = Result<OperationOutcome, RequestError>> + Send;

    /// What was written in an epoch of a keyspace that is over, and that no epoch has taken in: the frames of the first
    /// operations, of about so many bytes.
    ///
    /// # Errors
    /// A sentence that says why that is not known.
    fn outbox(
        &self,
        keyspace: &KeyspaceName,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Outbox, String>> + Send;

    /// Executes a command on a document.
    ///
    /// # Errors
    /// [`DocumentError`] says what became of it.
    fn document(
        &self,
        place: DocumentPlace,
        command: DocumentCommand,
    ) -> impl Future<Output = Result<DocumentAnswer, DocumentError>> + Send;

    /// Waits until at least `peers` peers have on disk all that this node wrote in the keyspace up to now, or
    /// the timeout is over; answers how many have. `None` waits for as long as it takes.
    fn wait(
        &self,
        keyspace: &KeyspaceName,
        peers: usize,
        timeout: Option<Duration>,
    ) -> impl Future<Output = usize> + Send;

    /// Begins to watch keys, from a cursor on or from now on.
    ///
    /// # Errors
    /// A sentence that says why not, such as too many watchers.
    fn watch(
        &self,
        keyspace: &KeyspaceName,
        range: WatchRange,
        from: Option<Cursor>,
    ) -> Result<Self::Watch, String>;

    /// Begins to watch keys of a strong keyspace behind a revision.
    ///
    /// # Errors
    /// A sentence that says why not, such as that it is eventual.
    fn watch_after(
        &self,
        keyspace: &KeyspaceName,
        range: WatchRange,
        revision: u64,
    ) -> Result<Self::Watch, String>;

    /// The channels of the node.
    fn pubsub(&self) -> &PubSub;

    /// The node as a whole.
    fn status(&self) -> Status;

    /// The group of anchors; none as long as nothing is known of one.
    fn anchors(&self) -> Option<GroupReport>;

    /// Orders something of the group of anchors.
    ///
    /// # Errors
    /// [`AnchorError`] says why it was not done.
    fn govern(&self, order: AnchorOrder) -> impl Future<Output = Result<(), AnchorError>> + Send;

    /// The peers that are connected, or wanted.
    fn peers(&self) -> Vec<PeerState>;

    /// The keyspaces that the node holds.
    fn keyspaces(&self) -> Vec<KeyspaceStatus>;

    /// A text that is equal on two peers exactly when their vectors and rows are. A keyspace that was never
    /// written has one too.
    fn fingerprint(&self, keyspace: &KeyspaceName) -> String;

    /// Begins to connect to a peer, now and again after every loss. Who says how long it may take waits for it, and is
    /// answered which peer that is.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the address, or why the peer is not connected yet.
    fn connect(
        &self,
        address: &str,
        within: Option<Duration>,
    ) -> impl Future<Output = Result<Option<PeerId>, String>> + Send;

    /// Hangs up on all peers and refuses them, or goes back to them.
    fn set_online(&self, online: bool);

    /// Begins a backup of the whole node. Nothing is held up while nobody asks for its next piece.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn backup(&self) -> Result<Pieces, String>;

    /// Gives back what the files of the store do not use. It goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn compact(&self) -> impl Future<Output = Result<Vec<Compacted>, String>> + Send;

    /// How far that is, if it is under way.
    fn compaction(&self) -> Option<String>;

    /// Begins an export of a keyspace, as JSON lines.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn export(&self, keyspace: &KeyspaceName) -> impl Future<Output = Result<Pieces, String>> + Send;

    /// Begins a snapshot of these strong keyspaces, or of all if none is named.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn snapshot(&self, keyspaces: &[KeyspaceName]) -> impl Future<Output = Result<Pieces, String>> + Send;

    /// Joins or leaves a keyspace.
    ///
    /// # Errors
    /// [`KeyspaceError`] says what is in the way, and what was changed.
    fn order(
        &self,
        keyspace: KeyspaceName,
        order: Order,
    ) -> impl Future<Output = Result<(), KeyspaceError>> + Send;

    /// Every replica that has written.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn replicas(&self) -> Result<Vec<ReplicaState>, String>;

    /// Retires a replica, in one keyspace or wherever it has written; answers in how many that was new.
    ///
    /// # Errors
    /// A sentence that says why not, and what was changed.
    fn retire(
        &self,
        replica: ReplicaId,
        keyspace: Option<KeyspaceName>,
        is_forced: bool,
    ) -> impl Future<Output = Result<usize, String>> + Send;

    /// Goes on as another replica after a fork, or after it was retired; answers which.
    ///
    /// # Errors
    /// A sentence that says why not, and what was changed.
    fn rejoin(&self) -> impl Future<Output = Result<String, String>> + Send;
}

/// The pieces of something long, made as they are asked for, or why there are no more.
pub type Pieces = Box<dyn Iterator<Item = Result<Vec<u8>, String>> + Send>;

/// Changes as they happen.
pub trait WatchStream: Send {
    /// The next event, or `None` when the node shuts down. It must be cancel safe: an event is lost to the
    /// caller only if it was returned.
    fn next(&mut self) -> impl Future<Output = Option<Pushed>> + Send;
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Something of this node's log.
    Event(WatchEvent),
    /// An operation on a strong keyspace.
    Operation(KeyspaceName, StrongOperation),
    /// Operations on a strong keyspace up to this revision are not held here any more, and were not told; it goes on behind
    /// it.
    Compacted(KeyspaceName, u64),
    /// There is nothing more to tell of a strong keyspace, for this reason.
    Ended(KeyspaceName, String),
}
