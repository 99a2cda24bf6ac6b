//! Replicas whose frames are carried by hand: the test decides what arrives where, in which order, how often.
//!
//! Every replica has one session, with a courier that greeted it and can say anything. What replicas send is
//! kept for the test to look at and goes nowhere.

use std::collections::BTreeSet;

use tidelock_engine::causality::Dot;
use tidelock_engine::crdt::DotStore;
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::{AuthorCard, PeerId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::message::{FrameBytes, Hello, Message, PROTOCOL_VERSION};
use tidelock_engine::ports::{
    Batch, Conditional, Durability, Log, LogPosition, LogRecord, MESSAGE_BYTES_MAX, MessageClass, Rows,
    SendError, SessionId, Store, Target, Transport, TransportEvent,
};
use tidelock_engine::read::{Answer, Query, answer};
use tidelock_engine::replica::{Input, Limits, Now, Replica, ReplicaConfig, Replicate, Report, Retention};
use tidelock_engine::request::{Action, Atomicity, Request, RequestId, RequestReply};
use tidelock_engine::row::{Payload, RowId};
use tidelock_engine::turn::{Driver, TurnOutcome};
use tidelock_engine::write::Write;

use super::words::text;
use super::{NOTES, START_MS, cluster, keyspace_id, named};

/// The session of every replica with the courier.
pub(crate) const COURIER: SessionId = SessionId(1);

/// A transport that keeps what it was given.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) sent: Vec<(SessionId, Message)>,
    pub(crate) closed: Vec<(SessionId, String)>,
}

impl Transport for Kept {
    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        let message = Message::decode(&message).expect("a replica sends what it would take");
        self.sent.push((session, message));
        Ok(())
    }

    fn close(&mut self, session: SessionId, reason: &str) {
        self.closed.push((session, reason.to_owned()));
    }

    fn connect(&mut self, _: Target) {}

    fn disconnect(&mut self, _: &Target) {}

    fn tell(&mut self, _: PeerId, _: MessageClass, _: Vec<u8>) -> Result<(), Vec<u8>> {
        Ok(())
    }

    fn talk_with(&mut self, _: BTreeSet<PeerId>) {}
}

/// A replica and its store.
pub(crate) struct Station {
    key: SigningKey,
    driver: Option<Driver<MemStore, Kept>>,
    cards: Vec<AuthorCard>,
    pub(crate) unix_ms: u64,
    pub(crate) mono_ms: u64,
    seen: LogPosition,
}

/// The key of the `index`-th station.
pub(crate) fn key(index: u8) -> SigningKey {
    SigningKey::from_seed([index; 32])
}

/// The card of the `index`-th station.
pub(crate) fn card(index: u8) -> AuthorCard {
    key(index).card([index; 16])
}

/// The key of the courier.
pub(crate) fn courier_key() -> SigningKey {
    key(200)
}

impl Station {
    /// The `index`-th station, which takes frames of the first `stations`.
    pub(crate) fn new(index: u8, stations: u8) -> Self {
        let store = MemStore::new(cluster(), card(index));
        let mut station = Self {
            key: key(index),
            driver: None,
            cards: (0..stations).map(card).collect(),
            unix_ms: START_MS,
            mono_ms: 0,
            seen: LogPosition(0),
        };
        station.start(store);
        station
    }

    fn start(&mut self, store: MemStore) {
        let (replicate, retention) = (Replicate::All, Retention::default());
        let config = ReplicaConfig {
            key: self.key.clone(),
            cluster: cluster(),
            replicate,
            retention,
            limits: Limits::default(),
            conditional: Conditional::default(),
            anchors_target: 3,
        };
        let replica = Replica::new(config, &store.recovered());
        self.driver = Some(Driver::new(replica, store, Kept::default()));
        self.greet(COURIER, &courier_key());
    }

    /// Begins again from what the store has.
    pub(crate) fn restart(&mut self) {
        let driver = self.driver.take().expect("the station runs");
        self.start(driver.into_parts().0);
    }

    /// Rows change behind the replica's back, which has noted another fingerprint for them.
    pub(crate) fn damage_rows(&mut self, rows: Vec<(RowId, Option<Payload>)>) {
        let store = self.driver.as_mut().expect("the station runs").store_mut();
        let mut draft = Draft::over(store);
        for (row, payload) in rows {
            let author = row.dot.replica;
            draft.put(keyspace_id(NOTES), row, payload, author).expect("memory");
        }
        let changes = draft.into_changes();
        let batch = Batch { changes, ..Batch::default() };
        store.commit(&batch, Durability::Durable).expect("memory takes everything");
    }

    /// Something is committed behind the replica's back, and it begins again.
    pub(crate) fn commit(&mut self, batch: &Batch) {
        let store = self.driver.as_mut().expect("the station runs").store_mut();
        store.commit(batch, Durability::Durable).expect("memory takes everything");
        self.restart();
    }

    /// A row of the store.
    pub(crate) fn row(&self, row: &RowId) -> Option<Payload> {
        self.store().row(keyspace_id(NOTES), row).expect("memory")
    }

    /// A session with another courier.
    pub(crate) fn greet(&mut self, session: SessionId, courier: &SigningKey) {
        let (peer, address) = (courier.peer(), "hand/courier".to_owned());
        let up = TransportEvent::Up { peer, session, address, is_dialer: false };
        self.turn(vec![Input::Network(up)]);
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            cluster: cluster(),
            card: courier.card([200; 16]),
            keyspaces: vec![named(NOTES)],
            takes_any_keyspace: true,
            addresses: Vec::new(),
        };
        self.say(session, &Message::Hello(hello));
    }

    pub(crate) fn turn(&mut self, inputs: Vec<Input>) -> TurnOutcome {
        let (unix_ms, mono_ms) = (self.unix_ms, self.mono_ms);
        let now = Now { unix_ms, mono_ms, entropy: mono_ms.wrapping_mul(0x9E37_79B9_7F4A_7C15) };
        self.driver.as_mut().expect("the station runs").turn(now, inputs)
    }

    /// Goes on as the replica that a card proves.
    pub(crate) fn rejoin(&mut self, card: AuthorCard) {
        let now = Now { unix_ms: self.unix_ms, mono_ms: self.mono_ms, entropy: 0 };
        self.driver.as_mut().expect("the station runs").rejoin(now, card).expect("memory takes everything");
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.unix_ms += ms;
        self.mono_ms += ms;
        self.turn(vec![Input::Tick]);
    }

    /// The courier says something.
    pub(crate) fn say(&mut self, session: SessionId, message: &Message) -> TurnOutcome {
        self.hear(session, message.encode())
    }

    /// The courier sends bytes.
    pub(crate) fn hear(&mut self, session: SessionId, bytes: Vec<u8>) -> TurnOutcome {
        self.turn(vec![Input::Network(TransportEvent::Message { session, bytes })])
    }

    /// What the replica said since it was last asked.
    pub(crate) fn said(&mut self) -> Vec<Message> {
        let driver = self.driver.as_mut().expect("the station runs");
        std::mem::take(&mut driver.transport().sent).into_iter().map(|(_, message)| message).collect()
    }

    /// The same, with the sessions in which it was said.
    pub(crate) fn sent(&mut self) -> Vec<(SessionId, Message)> {
        std::mem::take(&mut self.driver.as_mut().expect("the station runs").transport().sent)
    }

    /// Why the replica ended sessions since it was last asked.
    pub(crate) fn closed(&mut self) -> Vec<String> {
        let driver = self.driver.as_mut().expect("the station runs");
        std::mem::take(&mut driver.transport().closed).into_iter().map(|(_, reason)| reason).collect()
    }

    /// Executes writes as one batch; answers the replies.
    pub(crate) fn try_write(&mut self, writes: Vec<Write>) -> RequestReply {
        let mut outcome = self.turn(vec![request(writes)]);
        outcome.replies.pop().expect("every request is answered").1
    }

    /// Executes one write, which must succeed; answers the frames that were made.
    pub(crate) fn write(&mut self, write: Write) -> Vec<Frame> {
        self.batch(vec![write])
    }

    /// Executes a batch, which must succeed; answers the frames that were made.
    pub(crate) fn batch(&mut self, writes: Vec<Write>) -> Vec<Frame> {
        self.seen = self.position();
        self.try_write(writes).expect("the batch is executed");
        self.new_frames()
    }

    fn position(&self) -> LogPosition {
        self.store().recovered().position
    }

    /// The frames that were committed since this was last asked, own and foreign.
    pub(crate) fn new_frames(&mut self) -> Vec<Frame> {
        let from = LogPosition(self.seen.0 + 1);
        self.seen = self.position();
        let logged = self.store().records_from(from, usize::MAX).expect("memory can be read");
        logged
            .iter()
            .filter_map(LogRecord::frame)
            .map(|frame| Frame::decode(frame).expect("it was committed"))
            .collect()
    }

    /// All frames in commit order.
    pub(crate) fn log(&self) -> Vec<Frame> {
        let logged = self.store().records_from(LogPosition(1), usize::MAX).expect("memory can be read");
        logged
            .iter()
            .filter_map(LogRecord::frame)
            .map(|frame| Frame::decode(frame).expect("it was committed"))
            .collect()
    }

    /// Pushes frames, with the cards of all stations.
    pub(crate) fn deliver(&mut self, frames: &[Frame]) -> TurnOutcome {
        let message = self.push(frames);
        self.say(COURIER, &message)
    }

    /// Frames as a push.
    pub(crate) fn push(&self, frames: &[Frame]) -> Message {
        let frames = frames.iter().map(|frame| FrameBytes(frame.bytes().to_vec())).collect();
        Message::Push { cards: self.cards.clone(), frames }
    }

    /// Takes up to `count` frames that `from` has and this replica lacks, in the commit order of `from`.
    pub(crate) fn pull(&mut self, from: &Self, count: usize) {
        let vector = self.rows().vector();
        let authors = from.rows().vector().iter();
        let after: Vec<Dot> = authors.map(|dot| Dot::new(dot.replica, vector.get(dot.replica))).collect();
        let missing = from.store().missing(keyspace_id(NOTES), &after, usize::MAX).expect("memory");
        let frames: Vec<FrameBytes> =
            missing.into_iter().take(count).map(|logged| FrameBytes(logged.bytes.to_vec())).collect();
        let bytes: usize = frames.iter().map(|frame| frame.0.len()).sum();
        // What would not fit a message comes in several.
        let per_message = if bytes < MESSAGE_BYTES_MAX / 2 { frames.len().max(1) } else { 1 };
        for frames in frames.chunks(per_message) {
            let message = Message::Push { cards: self.cards.clone(), frames: frames.to_vec() };
            self.say(COURIER, &message);
        }
    }

    pub(crate) fn store(&self) -> &MemStore {
        self.driver.as_ref().expect("the station runs").store()
    }

    pub(crate) fn report(&self) -> Report {
        self.driver.as_ref().expect("the station runs").replica().report()
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.report().counters.get(name)
    }

    /// The rows under their version vector.
    pub(crate) fn rows(&self) -> &DotStore {
        static EMPTY: std::sync::LazyLock<DotStore> = std::sync::LazyLock::new(DotStore::default);
        self.store().dot_store(keyspace_id(NOTES)).unwrap_or(&EMPTY)
    }

    pub(crate) fn query(&self, query: &Query) -> Answer {
        answer(self.store(), keyspace_id(NOTES), query).expect("the query fits the key")
    }

    /// The value under a key.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        match self.query(&Query::Get(key.into())) {
            Answer::Value(value) => value.map(|value| text(&value)),
            other => panic!("{other:?}"),
        }
    }
}

/// A batch of writes as an input.
pub(crate) fn request(writes: Vec<Write>) -> Input {
    request_in(NOTES, writes)
}

/// A batch of writes of any keyspace as an input.
pub(crate) fn request_in(keyspace: &str, writes: Vec<Write>) -> Input {
    let request = Request {
        keyspace: named(keyspace),
        actions: writes.into_iter().map(Action::Write).collect(),
        atomicity: Atomicity::AllOrNothing,
        durability: Durability::Durable,
    };
    Input::Request(RequestId(1), request)
}
