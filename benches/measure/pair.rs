//! Two nodes in one thread, with a wire between them that counts: drivers as in the daemon, no network.
//!
//! Commits are timed by themselves, so that the cost of a turn can be told apart from that of its storage.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, PeerId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    Batch, CommitError, Conditional, Due, Durability, Fork, Log, LogEnd, LogPosition, LogRecord, LoggedFrame,
    MessageClass, Milestone, ReadError, Recovered, RowRange, Rows, SendError, SessionId, Store, Target,
    Transport, TransportEvent, Visit,
};
use tidelock_engine::replica::{Input, Limits, Now, Replica, ReplicaConfig, Replicate, Retention};
use tidelock_engine::request::{Action, Atomicity, Request, RequestId};
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_engine::turn::{Driver, TurnOutcome};
use tidelock_engine::write::Write;
use tidelock_engine::{
    causality::{Dot, Hlc},
    id::ReplicaId,
};
use tidelock_store::{FileDisk, OpenOptions, RedbStore};

use super::{thread_cpu, thread_cpu_since};

/// The start of time, in Unix milliseconds.
const START_MS: u64 = 1_800_000_000_000;

/// How often time passes for a node, in milliseconds; as in the daemon.
const TICK_MS: u64 = 100;

/// The messages by the first byte of their encoding.
const MESSAGES: [&str; 22] = [
    "Hello",
    "Goodbye",
    "Keyspaces",
    "Peers",
    "Summary",
    "Heads",
    "Want",
    "Answer",
    "Push",
    "Prune",
    "Graft",
    "Confirm",
    "Confirmed",
    "Held",
    "Take",
    "Taken",
    "Compare",
    "Compared",
    "Tail",
    "Tailed",
    "EndTake",
    "Below",
];

/// Everybody's cluster.
pub(crate) fn cluster() -> ClusterId {
    ClusterId::named("benchmark")
}

/// The one keyspace.
pub(crate) fn keyspace_name() -> KeyspaceName {
    "default".parse().expect("a valid name")
}

/// Its id.
pub(crate) fn keyspace() -> KeyspaceId {
    KeyspaceId::of(cluster(), &keyspace_name())
}

/// The key of the n-th node.
pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

/// The card of the n-th node.
pub(crate) fn card(number: u8) -> AuthorCard {
    signing_key(number).card([number; 16])
}

/// A store of the n-th node in memory.
pub(crate) fn mem_store(number: u8) -> MemStore {
    MemStore::new(cluster(), card(number))
}

/// A store of the n-th node in a directory.
pub(crate) fn redb_store(directory: &Path, number: u8) -> RedbStore {
    let options = OpenOptions::new(cluster(), card(number));
    RedbStore::open(&FileDisk::at(directory), &options).expect("a new store can be made")
}

/// A store whose commits are timed.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    /// The store.
    pub(crate) store: S,
    /// The thread's CPU time that commits took.
    pub(crate) commit_cpu: Duration,
}

impl<S: Rows> Rows for Metered<S> {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.store.row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.store.scan(keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.store.members(keyspace, key, kind)
    }

    fn expiry(&self) -> Hlc {
        self.store.expiry()
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.store.has_deadlines(keyspace)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.store.deadlines(keyspace, after, until_ms, visit)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.store.order(keyspace, key, from, visit)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.store.keys(keyspace)
    }
}

impl<S: Log> Log for Metered<S> {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        self.store.missing(keyspace, after, bytes_max)
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        self.store.frame_with(keyspace, dot)
    }

    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        self.store.records_from(position, count_max)
    }

    fn first(&self) -> LogPosition {
        self.store.first()
    }

    fn end(&self) -> LogEnd {
        self.store.end()
    }

    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.store.floor(keyspace, author)
    }

    fn is_dropping(&self, keyspace: KeyspaceId) -> bool {
        self.store.is_dropping(keyspace)
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        self.store.card(replica)
    }
}

impl<S: Store> Store for Metered<S> {
    fn recovered(&self) -> Recovered {
        self.store.recovered()
    }

    fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError> {
        let start = thread_cpu();
        let position = self.store.commit(batch, durability);
        self.commit_cpu += thread_cpu_since(start);
        position
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        self.store.sync()
    }

    fn truncate(&mut self, until: LogPosition) {
        self.store.truncate(until);
    }

    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError> {
        self.store.keep_fork(fork)
    }

    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError> {
        self.store.rejoin(card)
    }
}

/// A node's end of the wire: what it sent and what was not yet delivered.
#[derive(Clone, Debug, Default)]
struct Wire(Rc<RefCell<Vec<Vec<u8>>>>);

impl Transport for Wire {
    fn send(&mut self, _: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        self.0.borrow_mut().push(message);
        Ok(())
    }

    fn close(&mut self, _: SessionId, reason: &str) {
        panic!("a session was closed: {reason}");
    }

    fn connect(&mut self, _: Target) {}

    fn disconnect(&mut self, _: &Target) {}

    fn tell(&mut self, _: PeerId, _: MessageClass, _: Vec<u8>) -> Result<(), Vec<u8>> {
        Ok(())
    }

    fn talk_with(&mut self, _: BTreeSet<PeerId>) {}
}

/// A node without a network of its own.
#[derive(Debug)]
pub(crate) struct Node<S> {
    driver: Driver<Metered<S>, Wire>,
    wire: Wire,
    requests: u64,
    /// The thread's CPU time that its turns took, commits included.
    pub(crate) cpu: Duration,
}

impl<S: Store> Node<S> {
    /// The n-th node on a store of its own.
    pub(crate) fn new(number: u8, store: S) -> Self {
        let config = ReplicaConfig {
            limits: Limits::default(),
            conditional: Conditional::default(),
            anchors_target: 3,
            key: signing_key(number),
            cluster: cluster(),
            replicate: Replicate::All,
            retention: Retention::default(),
        };
        let replica = Replica::new(config, &store.recovered());
        let wire = Wire::default();
        let store = Metered { store, commit_cpu: Duration::ZERO };
        let driver = Driver::new(replica, store, wire.clone());
        Self { driver, wire, requests: 0, cpu: Duration::ZERO }
    }

    /// The store.
    pub(crate) fn store(&self) -> &S {
        &self.driver.store().store
    }

    /// The CPU time of its turns but for their commits.
    pub(crate) fn cpu_before_storage(&self) -> Duration {
        self.cpu.saturating_sub(self.driver.store().commit_cpu)
    }

    /// Equal on two nodes exactly when their vectors and rows are.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        let report = self.driver.replica().report();
        assert!(report.evidence.is_empty() && report.failed.is_none(), "{report:?}");
        report.keyspaces.first().map(|keyspace| keyspace.fingerprint.clone())
    }

    /// Writes as one durable turn, which makes one frame.
    pub(crate) fn write(&mut self, now_ms: u64, writes: Vec<Write>) {
        self.requests += 1;
        let request = Request {
            keyspace: keyspace_name(),
            actions: writes.into_iter().map(Action::Write).collect(),
            atomicity: Atomicity::Each,
            durability: Durability::Durable,
        };
        let outcome = self.turn(now_ms, vec![Input::Request(RequestId(self.requests), request)]);
        for (_, reply) in outcome.replies {
            let replies = reply.expect("the request is executed");
            assert!(replies.iter().all(Result::is_ok), "a write failed: {replies:?}");
        }
    }

    fn turn(&mut self, now_ms: u64, inputs: Vec<Input>) -> TurnOutcome {
        let now = Now { unix_ms: START_MS + now_ms, mono_ms: now_ms, entropy: now_ms };
        let start = thread_cpu();
        let outcome = self.driver.turn(now, inputs);
        self.cpu += thread_cpu_since(start);
        outcome
    }
}

/// What went over the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    /// Each message: who sent it, its name, its length in bytes.
    pub(crate) messages: Vec<(usize, &'static str, usize)>,
    /// How often the wire was emptied: two are a round trip.
    pub(crate) legs: usize,
}

impl Traffic {
    /// All bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.messages.iter().map(|(_, _, bytes)| bytes).sum()
    }

    /// The bytes of one kind of message.
    pub(crate) fn bytes_of(&self, name: &str) -> usize {
        self.messages.iter().filter(|(_, of, _)| *of == name).map(|(_, _, bytes)| bytes).sum()
    }

    /// The longest message, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.messages.iter().map(|(_, _, bytes)| *bytes).max().unwrap_or(0)
    }

    /// The messages, by name, with how many there were and their bytes.
    pub(crate) fn summary(&self) -> String {
        let count = |name| self.messages.iter().filter(|(_, of, _)| of == name).count();
        let named = MESSAGES.iter().map(|name| (name, count(name), self.bytes_of(name)));
        let seen = named.filter(|(_, count, _)| *count > 0);
        seen.map(|(name, count, bytes)| format!("{count} {name} {bytes} B")).collect::<Vec<_>>().join(", ")
    }
}

/// Two nodes and the wire between them.
#[derive(Debug)]
pub(crate) struct Pair<S> {
    /// The nodes.
    pub(crate) nodes: [Node<S>; 2],
    /// What went over the wire since it was last taken.
    pub(crate) traffic: Traffic,
    sessions: u64,
    now_ms: u64,
}

impl<S: Store> Pair<S> {
    /// Two nodes, not connected. They are numbers 1 and 2.
    pub(crate) fn new(stores: [S; 2]) -> Self {
        let [first, second] = stores;
        let nodes = [Node::new(1, first), Node::new(2, second)];
        Self { nodes, traffic: Traffic::default(), sessions: 0, now_ms: 0 }
    }

    /// The node writes as one turn. The other hears of it with the next [`Pair::exchange`].
    pub(crate) fn write(&mut self, node: usize, writes: Vec<Write>) {
        self.now_ms += 1;
        self.nodes[node].write(self.now_ms, writes);
    }

    /// A session begins; everything that follows from it is exchanged.
    pub(crate) fn connect(&mut self) {
        self.sessions += 1;
        for node in 0..2 {
            let up = TransportEvent::Up {
                peer: signing_key(u8::try_from(2 - node).expect("it is 1 or 2")).peer(),
                session: SessionId(self.sessions),
                address: "/ip4/127.0.0.1/tcp/7400".to_owned(),
                is_dialer: node == 0,
            };
            self.nodes[node].turn(self.now_ms, vec![Input::Network(up)]);
        }
        self.exchange();
    }

    /// The session ends.
    pub(crate) fn cut(&mut self) {
        for node in &mut self.nodes {
            let down = TransportEvent::Down { session: SessionId(self.sessions), reason: "cut".to_owned() };
            node.turn(self.now_ms, vec![Input::Network(down)]);
            node.wire.0.borrow_mut().clear();
        }
    }

    /// Delivers messages, all that are on the wire at a time, until nobody sends any more.
    pub(crate) fn exchange(&mut self) {
        loop {
            let sent = [0, 1].map(|node: usize| std::mem::take(&mut *self.nodes[node].wire.0.borrow_mut()));
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            self.traffic.legs += 1;
            for (from, messages) in sent.into_iter().enumerate().filter(|(_, sent)| !sent.is_empty()) {
                let named = messages.iter().map(|bytes| (from, MESSAGES[usize::from(bytes[0])], bytes.len()));
                self.traffic.messages.extend(named);
                let session = SessionId(self.sessions);
                let events = messages.into_iter().map(|bytes| TransportEvent::Message { session, bytes });
                self.nodes[1 - from].turn(self.now_ms, events.map(Input::Network).collect());
            }
        }
    }

    /// A node lets go of its log, but for the last record.
    pub(crate) fn truncate(&mut self, node: usize) {
        let store = self.nodes[node].driver.store_mut();
        let end = store.end().position;
        store.truncate(LogPosition(end.0 - 1));
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now_ms += TICK_MS;
            for node in &mut self.nodes {
                node.turn(self.now_ms, vec![Input::Tick]);
            }
            self.exchange();
        }
    }

    /// What went over the wire since this was last asked.
    pub(crate) fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// The CPU time of both nodes' turns.
    pub(crate) fn cpu(&self) -> Duration {
        self.nodes.iter().map(|node| node.cpu).sum()
    }

    /// # Panics
    /// If the nodes are not equal: the benchmark would have measured nothing.
    pub(crate) fn assert_equal(&self) {
        let [first, second] = &self.nodes;
        assert!(first.fingerprint().is_some() && first.fingerprint() == second.fingerprint(), "not equal");
    }
}
