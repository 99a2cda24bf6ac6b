//! A node's double: one replica over a store in memory, with the engine's own reads and writes.

mod orders;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelock_engine::apply::apply_frame;
use tidelock_engine::command::OperationId;
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::ports::{
    AnchorId, Batch, Conditional, Durability, KeyspaceState, Log, LogEntry, LogPosition, NotDone, Store,
};
use tidelock_engine::read::{Answer, Query, QueryError, answer};
use tidelock_engine::replica::{
    AnchorError, AnchorOrder, AnchorReport, Freshness, GroupReport, Kept, Label, Order, Terms,
};
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request, RequestError, RequestReply};
use tidelock_engine::write::{Outcome, Write, WriteError};
use tidelock_store::Compacted;
use tokio::sync::mpsc;

use super::world::World;
use crate::document::DocumentError;
use crate::named;
use crate::node::{KeyspaceError, KeyspaceMode, OperationOutcome, Outbox, Replied};
use crate::pubsub::PubSub;
use crate::redis::backend::{Backend, Pieces, Pushed, WatchStream};
use crate::redis::documents::{DocumentAnswer, DocumentCommand, DocumentPlace};
use crate::status::{
    KeyspaceStatus, LogStatus, ModeStatus, NotReady, PeerState, ReplicaKeyspace, ReplicaState, Retirement,
    Status,
};
use crate::watch::{Cursor, WatchEvent, WatchRange};

/// A node's double. What it was asked is counted, and it can be told to fail.
#[derive(Clone)]
pub(crate) struct Double(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    pubsub: PubSub,
    watchers: Mutex<Vec<mpsc::UnboundedSender<WatchEvent>>>,
    /// Requests executed by `submit`, and its calls: a call is a turn.
    requests: AtomicUsize,
    turns: AtomicUsize,
    reads: AtomicUsize,
    /// What those snapshots answered.
    answers: AtomicUsize,
    is_online: AtomicBool,
    /// The peers that have everything on disk.
    peers: AtomicUsize,
}

impl Double {
    /// Replicas of different seeds write concurrently at the same moment.
    pub(crate) fn new(seed: u8) -> Self {
        let pubsub = PubSub::new(PeerId::from_public_key([seed; 32]), None);
        Self(Arc::new(Shared {
            world: Mutex::new(World::new(seed, pubsub.clone())),
            pubsub,
            watchers: Mutex::default(),
            requests: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            is_online: AtomicBool::new(true),
            peers: AtomicUsize::new(0),
        }))
    }

    fn world<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        with(&mut self.0.world.lock().expect("no test panics with the lock"))
    }

    /// Writes without the port.
    pub(crate) fn write(&self, write: Write) {
        let request = Request {
            keyspace: name("default"),
            actions: vec![Action::Write(write)],
            atomicity: Atomicity::Each,
            durability: Durability::Durable,
        };
        let mut given = self.world(|world| world.execute(request)).expect("the request is executed");
        given.pop().expect("one action, one reply").expect("the write is right");
    }

    /// Decides by what it sees, from now on.
    pub(crate) fn decide(&self) {
        self.world(|world| world.conditional = Conditional::Local);
    }

    /// All keyspaces are strong from now on.
    pub(crate) fn make_strong(&self) {
        self.world(|world| world.is_strong = true);
        self.decide();
    }

    /// Takes over all that another replica wrote.
    pub(crate) fn pull(&self, other: &Self) {
        let records =
            other.world(|world| world.store.records_from(LogPosition(1), usize::MAX).expect("in memory"));
        let clock = other.world(|world| world.clock.last());
        self.world(|world| {
            for record in records {
                let LogEntry::Frame(bytes) = record.entry else {
                    unreachable!("no state is taken over here")
                };
                let frame = Frame::decode(&bytes).expect("the other replica made it");
                let (keyspace, dot) = (frame.header().keyspace, frame.header().last_dot());
                if world.store.frame_with(keyspace, dot).expect("in memory").is_some() {
                    continue; // a frame is applied once
                }
                let mut draft = Draft::over(&world.store);
                apply_frame(&mut draft, &frame, frame.header().first - 1).expect("in memory");
                let changes = draft.into_changes();
                let batch = Batch { frames: vec![frame], changes, clock, ..Batch::default() };
                world.store.commit(&batch, Durability::Durable).expect("in memory");
            }
        });
    }

    pub(crate) fn fail_with(&self, failure: fn() -> RequestError) {
        self.world(|world| world.failure = Some(failure));
    }

    pub(crate) fn last_durability(&self) -> Option<Durability> {
        self.world(|world| world.durability)
    }

    pub(crate) fn set_peers(&self, peers: usize) {
        self.0.peers.store(peers, Ordering::Relaxed);
    }

    pub(crate) fn is_online(&self) -> bool {
        self.0.is_online.load(Ordering::Relaxed)
    }

    /// The turns taken, the requests executed in them, and the snapshots read beside them.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (count(&self.0.turns), count(&self.0.requests), count(&self.0.reads))
    }

    /// The questions that were answered beside the turns.
    pub(crate) fn answers(&self) -> usize {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Tells everybody who watches.
    pub(crate) fn push(&self, event: &WatchEvent) {
        let mut watchers = self.0.watchers.lock().expect("no test panics with the lock");
        watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    pub(crate) fn watchers(&self) -> usize {
        let mut watchers = self.0.watchers.lock().expect("no test panics with the lock");
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.len()
    }

    /// Ends all watches, as a node that shuts down does.
    pub(crate) fn end_watches(&self) {
        self.0.watchers.lock().expect("no test panics with the lock").clear();
    }
}

pub(crate) fn name(text: &str) -> KeyspaceName {
    text.parse().expect("a valid name")
}

impl Backend for Double {
    type Watch = DoubleWatch;

    fn read(
        &self,
        keyspace: &KeyspaceName,
        queries: &[Query],
        bytes_max: usize,
    ) -> Result<Vec<Result<Answer, QueryError>>, RequestError> {
        self.0.reads.fetch_add(usize::from(!queries.is_empty()), Ordering::Relaxed);
        self.world(|world| {
            world.check(keyspace)?;
            let id = KeyspaceId::of(world.cluster, keyspace);
            let mut bytes = 0;
            let mut answers = Vec::new();
            for query in queries {
                let answer = answer(&world.store, id, query);
                bytes += answer.as_ref().map_or(0, Answer::bytes);
                answers.push(answer);
                self.0.answers.fetch_add(1, Ordering::Relaxed);
                if bytes > bytes_max {
                    break;
                }
            }
            Ok(answers)
        })
    }

    async fn submit_on(&self, requests: Vec<(Request, Terms)>) -> Replied {
        tokio::task::yield_now().await;
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.0.requests.fetch_add(requests.len(), Ordering::Relaxed);
        let marks = named::marks(&requests);
        self.world(|world| {
            let mut label = None;
            let mut execute = |(request, terms): (Request, Terms)| {
                let only_reads = request.actions.iter().all(Action::is_query);
                if only_reads && terms.freshness != Freshness::Linearizable {
                    label = world.label(&request.keyspace);
                }
                world.execute_named(request, &terms)
            };
            let mut replies: Vec<RequestReply> = requests.into_iter().map(&mut execute).collect();
            named::judge(&marks, &mut replies);
            Replied { replies, label }
        })
    }

    fn mode(&self, keyspace: &KeyspaceName) -> KeyspaceMode {
        self.world(|world| world.mode(keyspace))
    }

    async fn label(&self, keyspace: &KeyspaceName) -> Result<Option<Label>, RequestError> {
        self.world(|world| world.check(keyspace).map(|()| world.label(keyspace)))
    }

    /// What became of it is in its number.
    async fn outcome(
        &self,
        _: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        match operation.number {
            1 => Ok(OperationOutcome::Done(Ok(vec![
                Ok(ActionReply::Outcome(Outcome::Done)),
                Ok(ActionReply::Outcome(Outcome::Number(7))),
                Err(WriteError::NotAnInteger.into()),
            ]))),
            2 => Ok(OperationOutcome::Done(Err(RequestError::Untold))),
            4 => Ok(OperationOutcome::Never),
            5 => Ok(OperationOutcome::Forgotten),
            6 => Err(RequestError::NoLeader("nobody leads".to_owned())),
            _ => Ok(OperationOutcome::Unknown),
        }
    }

    /// What was not executed never is.
    async fn settle(
        &self,
        keyspace: &KeyspaceName,
        operation: OperationId,
    ) -> Result<OperationOutcome, RequestError> {
        match self.outcome(keyspace, operation).await? {
            OperationOutcome::Unknown => Ok(OperationOutcome::Never),
            known => Ok(known),
        }
    }

    fn anchors(&self) -> Option<GroupReport> {
        let anchor = |number: u8, is_voter, is_leader| AnchorReport {
            anchor: AnchorId(number.into()),
            peer: PeerId::from_public_key([number; 32]),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            is_voter,
            is_leader,
            is_here: is_voter,
            is_exact: is_voter,
            heard_ms: is_voter.then_some(0),
        };
        let anchors = vec![anchor(7, true, true), anchor(8, false, false)];
        Some(GroupReport { anchors, ..GroupReport::default() })
    }

    /// What became of it is in the number that it names.
    async fn govern(&self, order: AnchorOrder) -> Result<(), AnchorError> {
        match order {
            AnchorOrder::Transfer(AnchorId(1)) => Err(NotDone::NoLeader.into()),
            AnchorOrder::Transfer(AnchorId(2)) => Err(NotDone::Busy.into()),
            AnchorOrder::Transfer(AnchorId(3)) => Err(AnchorError::Unknown),
            AnchorOrder::Remove(anchors) if anchors.len() == 1 => {
                Err(NotDone::Refused { reason: "2 voters".to_owned() }.into())
            }
            _ => Ok(()),
        }
    }

    async fn outbox(&self, keyspace: &KeyspaceName, _: usize) -> Result<Outbox, String> {
        let frames = self.world(|world| {
            let records = world.store.records_from(LogPosition(1), usize::MAX).expect("in memory");
            let frame = |bytes: &Arc<[u8]>| Frame::decode(bytes).expect("it was made here");
            let frames = records.iter().filter_map(|record| record.frame().map(frame));
            let id = KeyspaceId::of(world.cluster, keyspace);
            frames.filter(|frame| frame.header().keyspace == id).collect::<Vec<_>>()
        });
        let operations = frames.iter().map(|frame| frame.ops().len() as u64).sum();
        Ok(Outbox { operations, frames })
    }

    /// Tells what it was asked: documents need a worker, which needs a node.
    async fn document(
        &self,
        place: DocumentPlace,
        command: DocumentCommand,
    ) -> Result<DocumentAnswer, DocumentError> {
        let key = String::from_utf8_lossy(&place.key).into_owned();
        match (key.as_str(), command) {
            ("refused", _) => Err(DocumentError::Refused("two\r\nlines".to_owned())),
            ("outdated", _) => Err(DocumentError::Outdated),
            (_, DocumentCommand::Heads) => Ok(DocumentAnswer::List(vec![key])),
            (_, DocumentCommand::Set(..) | DocumentCommand::Patch(_)) => Ok(DocumentAnswer::Done),
            ("nothing", _) => Ok(DocumentAnswer::Bytes(None)),
            (_, command) => Ok(DocumentAnswer::Bytes(Some(format!("{command:?}").into_bytes()))),
        }
    }

    async fn wait(&self, _: &KeyspaceName, peers: usize, timeout: Option<Duration>) -> usize {
        let have = self.0.peers.load(Ordering::Relaxed);
        match timeout {
            _ if have >= peers => {}
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
        have
    }

    fn watch(
        &self,
        _: &KeyspaceName,
        range: WatchRange,
        from: Option<Cursor>,
    ) -> Result<Self::Watch, String> {
        if range == WatchRange::Key(b"refused".to_vec()) {
            return Err("there are too many watchers".to_owned());
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Some(cursor) = from {
            sender.send(WatchEvent::Lagged(cursor)).expect("the receiver is here");
        }
        self.0.watchers.lock().expect("no test panics with the lock").push(sender);
        Ok(DoubleWatch(receiver))
    }

    fn watch_after(&self, keyspace: &KeyspaceName, _: WatchRange, _: u64) -> Result<Self::Watch, String> {
        Err(format!("keyspace {keyspace} is not strong"))
    }

    fn pubsub(&self) -> &PubSub {
        &self.0.pubsub
    }

    fn status(&self) -> Status {
        Status {
            name: Some("double".to_owned()),
            version: "0.0.1",
            peer: PeerId::from_public_key([7; 32]),
            replica: ReplicaId::from_bytes([9; 16]),
            cluster: "test".to_owned(),
            listen: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            is_online: self.is_online(),
            uptime: Duration::from_millis(90_061_001),
            peers_connected: 1,
            keyspaces: self.keyspaces().len(),
            keys: self.keyspaces().iter().map(|keyspace| keyspace.keys).sum(),
            frames: 3,
            log: LogStatus {
                bytes: 2048,
                first: 7,
                age: Duration::from_secs(61),
                kept: Some(Kept::For(PeerId::from_public_key([8; 32]))),
            },
            bytes_on_disk: 4096,
            counters: vec![("frames_received".to_owned(), 5)],
            not_ready: vec![NotReady::Loading(name("notes"))],
            group: None,
            warnings: vec!["the clock is wrong".to_owned()],
        }
    }

    fn peers(&self) -> Vec<PeerState> {
        vec![PeerState {
            peer: None,
            address: "/ip4/127.0.0.1/tcp/2".to_owned(),
            state: "connecting".to_owned(),
            round_trip: None,
            connected_for: Some(Duration::from_secs(2)),
            queued_bytes: 10,
            is_slow: true,
            keyspaces: 2,
            keyspaces_in_sync: 1,
            ..PeerState::default()
        }]
    }

    fn keyspaces(&self) -> Vec<KeyspaceStatus> {
        self.world(|world| {
            let recovered = world.store.recovered().keyspaces;
            let keyspace = |(name, state): (KeyspaceName, KeyspaceState)| KeyspaceStatus {
                is_loading: false,
                mode: ModeStatus { mode: world.mode(&name), ..ModeStatus::default() },
                keys: world.keys(&name),
                authors: state.heads.len(),
                fingerprint: world.fingerprint(&name),
                peers: 0,
                bytes: 2048,
                quota_bytes: Some(4096),
                conditional: world.conditional,
                alone: Some(Duration::from_secs(61)),
                is_diverged: false,
                name,
            };
            recovered.into_iter().map(keyspace).collect()
        })
    }

    fn fingerprint(&self, keyspace: &KeyspaceName) -> String {
        self.world(|world| world.fingerprint(keyspace))
    }

    async fn connect(&self, address: &str, within: Option<Duration>) -> Result<Option<PeerId>, String> {
        match within {
            _ if !address.starts_with('/') => Err(format!("'{address}' is not a multiaddress")),
            None => Ok(None),
            Some(within) if within.is_zero() => {
                Err("not connected within 0 s; the node goes on trying".to_owned())
            }
            Some(_) => Ok(Some(PeerId::from_public_key([7; 32]))),
        }
    }

    fn set_online(&self, online: bool) {
        self.0.is_online.store(online, Ordering::Relaxed);
    }

    fn backup(&self) -> Result<Pieces, String> {
        let pieces = [Ok(vec![b'x'; 3 << 20]), Ok(Vec::new()), Ok(b"end".to_vec())];
        Ok(Box::new(pieces.into_iter()))
    }

    async fn compact(&self) -> Result<Vec<Compacted>, String> {
        Ok(vec![Compacted { file: "log.redb", before_bytes: 2, after_bytes: 1 }])
    }

    fn compaction(&self) -> Option<String> {
        None
    }

    async fn export(&self, keyspace: &KeyspaceName) -> Result<Pieces, String> {
        let pieces = [Ok(keyspace.as_str().as_bytes().to_vec()), Err("the disk failed".to_owned())];
        Ok(Box::new(pieces.into_iter()))
    }

    async fn snapshot(&self, keyspaces: &[KeyspaceName]) -> Result<Pieces, String> {
        let pieces: Vec<_> = keyspaces.iter().map(|name| Ok(name.as_str().as_bytes().to_vec())).collect();
        if pieces.is_empty() { Err("there is none".to_owned()) } else { Ok(Box::new(pieces.into_iter())) }
    }

    async fn order(&self, keyspace: KeyspaceName, order: Order) -> Result<(), KeyspaceError> {
        orders::end_of(keyspace, order)
    }

    fn replicas(&self) -> Result<Vec<ReplicaState>, String> {
        let replica = ReplicaId::from_bytes([0xab; 16]);
        let retired = Retirement { by: ReplicaId::from_bytes([2; 16]), unix_ms: 1_800_000_000_000, last: 3 };
        let keyspace = ReplicaKeyspace { name: name("default"), seq: 4, retired: Some(retired) };
        let (peer, is_own, seen) = (None, false, Some(Duration::from_secs(5)));
        Ok(vec![ReplicaState { replica, peer, is_own, is_connected: true, seen, keyspaces: vec![keyspace] }])
    }

    async fn retire(
        &self,
        replica: ReplicaId,
        keyspace: Option<KeyspaceName>,
        is_forced: bool,
    ) -> Result<usize, String> {
        if is_forced { Ok(2) } else { Err(format!("replica {replica} is connected in {keyspace:?}")) }
    }

    async fn rejoin(&self) -> Result<String, String> {
        Err("there is nothing to rejoin from".to_owned())
    }
}

pub(crate) struct DoubleWatch(mpsc::UnboundedReceiver<WatchEvent>);

impl WatchStream for DoubleWatch {
    async fn next(&mut self) -> Option<Pushed> {
        self.0.recv().await.map(Pushed::Event)
    }
}
