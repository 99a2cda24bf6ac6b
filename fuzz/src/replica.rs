//! A whole replica among peers that say anything: frames that are signed and in order, frames that are not,
//! messages of any content, bytes that are none; sessions that end, and users that write meanwhile.
//!
//! After each story the state is what its log says, the bounds are kept, and the replica still works.

use std::collections::{BTreeMap, BTreeSet};

use crdts::CmRDT;
use tidelock_engine::crdt::DotStore;
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::{FrameId, KeyspaceId, PeerId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::message::{FrameBytes, Hello, Message, PROTOCOL_VERSION};
use tidelock_engine::ports::{
    Conditional, Durability, Log, LogPosition, MESSAGE_BYTES_MAX, MessageClass, SendError, SessionId, Store,
    Target, Transport, TransportEvent,
};
use tidelock_engine::read::{Answer, Query, answer};
use tidelock_engine::replica::{
    EARLY_BYTES_MAX, EARLY_FRAMES_MAX, EVIDENCE_MAX, Input as Event, Limits, Now, Replica, ReplicaConfig,
    Replicate, Retention,
};
use tidelock_engine::request::{Action, Atomicity, Request, RequestId};
use tidelock_engine::turn::{Driver, TurnOutcome};
use tidelock_engine::write::{ScoreRule, Write};

use crate::forge::{
    self, Chain, KEYSPACES, MEMBERS, START_MS, card, cluster, encode, key, keyspace_id, named, sign,
};
use crate::frame::SIGNATURE_BYTES;
use crate::input::Input;
use crate::memory::Bound;
use crate::{Verdict, message, sound};

/// One input of a replica: a message is held as bytes, as frames and as operations, and all of it is applied.
pub const BOUND: Bound = Bound { base: 4 << 20, per_byte: 512, max: 8 * MESSAGE_BYTES_MAX };

/// The steps of a story at most.
const STEPS_MAX: usize = 12;

/// The frames that may come again.
const PAST_MAX: usize = 16;

/// What happens to a replica while strangers and members talk to it.
pub fn replica(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let mut stage = Stage::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        stage.act(&mut input);
    }
    let applied = stage.driver.replica().report().counters.get("frames_applied");
    stage.check();
    stage.still_works();
    if applied > 0 { Verdict::Decoded } else { Verdict::Refused }
}

/// A transport that looks at what it is given.
#[derive(Debug, Default)]
struct Ear {
    closed: Vec<SessionId>,
}

impl Transport for Ear {
    fn send(&mut self, _: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        assert!(message.len() <= MESSAGE_BYTES_MAX, "a message of {} bytes", message.len());
        Message::decode(&message).expect("a replica says what it would take");
        Ok(())
    }

    fn close(&mut self, session: SessionId, _: &str) {
        self.closed.push(session);
    }

    fn connect(&mut self, _: Target) {}

    fn disconnect(&mut self, _: &Target) {}

    fn tell(&mut self, _: PeerId, _: MessageClass, _: Vec<u8>) -> Result<(), Vec<u8>> {
        Ok(())
    }

    fn talk_with(&mut self, _: BTreeSet<PeerId>) {}
}

/// A replica, which is member 0, with one session.
struct Stage {
    driver: Driver<MemStore, Ear>,
    chains: BTreeMap<(u8, KeyspaceId), Chain>,
    past: Vec<Vec<u8>>,
    session: SessionId,
    elapsed_ms: u64,
}

fn courier() -> SigningKey {
    key(MEMBERS)
}

fn config() -> ReplicaConfig {
    let (replicate, retention) = (Replicate::All, Retention::default());
    ReplicaConfig {
        key: key(0),
        cluster: cluster(),
        replicate,
        retention,
        limits: Limits::default(),
        conditional: Conditional::default(),
        anchors_target: 3,
    }
}

impl Stage {
    fn new() -> Self {
        let store = MemStore::new(cluster(), card(0));
        let replica = Replica::new(config(), &store.recovered());
        let driver = Driver::new(replica, store, Ear::default());
        let (chains, past) = (BTreeMap::new(), Vec::new());
        let mut stage = Self { driver, chains, past, session: SessionId(0), elapsed_ms: 0 };
        stage.greet();
        stage
    }

    fn greet(&mut self) {
        self.session = SessionId(self.session.0 + 1);
        let (session, address) = (self.session, "hand/courier".to_owned());
        let peer = courier().peer();
        self.turn(Event::Network(TransportEvent::Up { peer, session, address, is_dialer: false }));
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            cluster: cluster(),
            card: courier().card([MEMBERS; 16]),
            keyspaces: KEYSPACES.map(named).to_vec(),
            takes_any_keyspace: true,
            addresses: Vec::new(),
        };
        self.hear(Message::Hello(hello).encode());
    }

    fn turn(&mut self, event: Event) -> TurnOutcome {
        let now = Now {
            unix_ms: START_MS + self.elapsed_ms,
            mono_ms: self.elapsed_ms,
            entropy: self.elapsed_ms.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        self.driver.turn(now, [event])
    }

    fn hear(&mut self, bytes: Vec<u8>) {
        let (session, length) = (self.session, bytes.len());
        BOUND.hold(length, || self.turn(Event::Network(TransportEvent::Message { session, bytes })));
        if self.driver.transport().closed.pop().is_some() {
            self.part();
        }
    }

    /// The session is over and another one begins.
    fn part(&mut self) {
        let (session, reason) = (self.session, "gone".to_owned());
        self.turn(Event::Network(TransportEvent::Down { session, reason }));
        self.greet();
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=6 => self.hear_next_frames(input),
            7 => self.hear_past_frame(input),
            8 => self.hear_changed_frame(input),
            9 | 10 => self.hear(message::any(input).encode()),
            11 => self.hear(input.bytes(100).to_vec()),
            12 => {
                self.elapsed_ms += 10 * u64::from(input.byte());
                self.turn(Event::Tick);
            }
            13 => self.part(),
            14 => {
                self.turn(Event::Congested(self.session));
                self.turn(Event::Network(TransportEvent::Drained { session: self.session }));
            }
            _ => {
                let write = any_write(input);
                self.write(write);
            }
        }
    }

    /// A member's next frames; a replica that has another history takes none of them.
    fn hear_next_frames(&mut self, input: &mut Input<'_>) {
        let mut frames = Vec::new();
        for _ in 0..=input.below(3) {
            // Now and then somebody who has this replica's key writes in its name.
            let member = if input.once_in(32) { 0 } else { 1 + input.byte() % (MEMBERS - 1) };
            let keyspace = keyspace_id(KEYSPACES[usize::from(input.once_in(8))]);
            let start = Chain { member, keyspace, first: 1, previous: FrameId::NONE };
            let chain = *self.chains.entry((member, keyspace)).or_insert(start);
            let (header, ops) = forge::frame(input, chain);
            let bytes = sign(member, encode(&header, &ops));
            let follows = (header.author, header.keyspace) == (forge::replica(member), keyspace)
                && (header.first, header.previous) == (chain.first, chain.previous);
            if follows && sound::frame(&header, &ops) {
                let previous = FrameId::of(&bytes[..bytes.len() - SIGNATURE_BYTES]);
                let next = Chain { first: header.last() + 1, previous, ..chain };
                self.chains.insert((member, keyspace), next);
            }
            if self.past.len() < PAST_MAX {
                self.past.push(bytes.clone());
            }
            frames.push(FrameBytes(bytes));
        }
        self.push(input, frames);
    }

    fn push(&mut self, input: &mut Input<'_>, frames: Vec<FrameBytes>) {
        let cards = if input.once_in(16) { Vec::new() } else { (0..MEMBERS).map(card).collect() };
        let message = if input.once_in(4) {
            Message::Answer { keyspace: keyspace_id(KEYSPACES[0]), cards, frames, has_more: input.once_in(2) }
        } else {
            Message::Push { cards, frames }
        };
        self.hear(message.encode());
    }

    fn hear_past_frame(&mut self, input: &mut Input<'_>) {
        if !self.past.is_empty() {
            let bytes = self.past[input.below(self.past.len())].clone();
            self.push(input, vec![FrameBytes(bytes)]);
        }
    }

    /// A frame of before with a byte changed, and signed again: another content at the same place.
    fn hear_changed_frame(&mut self, input: &mut Input<'_>) {
        if self.past.is_empty() {
            return;
        }
        let bytes = &self.past[input.below(self.past.len())];
        let mut body = bytes[..bytes.len() - SIGNATURE_BYTES].to_vec();
        let at = usize::from(u16::from_le_bytes(input.array())) % body.len();
        body[at] = input.byte();
        let bytes = sign(input.byte() % MEMBERS, body);
        self.push(input, vec![FrameBytes(bytes)]);
    }

    fn write(&mut self, write: Write) -> bool {
        let request = Request {
            keyspace: named(KEYSPACES[0]),
            actions: vec![Action::Write(write)],
            atomicity: Atomicity::Each,
            durability: Durability::Durable,
        };
        let mut outcome = self.turn(Event::Request(RequestId(1), request));
        let Some((_, reply)) = outcome.replies.pop() else {
            // Somebody said that the keyspace is strong: what is asked of it waits for an anchor.
            let id = self.driver.replica().id_of(&named(KEYSPACES[0]));
            assert!(
                self.driver.replica().mode(id).is_some(),
                "every request to an eventual keyspace is answered"
            );
            return false;
        };
        reply.is_ok_and(|replies| replies.iter().all(Result::is_ok))
    }

    /// The rows are what the log says, what is derived is what the rows say, bounds hold, and another start
    /// from the same store begins where this one ended.
    fn check(&self) {
        let (store, report) = (self.driver.store(), self.driver.replica().report());
        let mut replayed: BTreeMap<KeyspaceId, DotStore> = BTreeMap::new();
        for record in store.records_from(LogPosition(1), usize::MAX).expect("memory can be read") {
            let frame = Frame::decode(record.bytes()).expect("it was committed");
            let rows = replayed.entry(frame.header().keyspace).or_default();
            assert_eq!(rows.may_apply(&frame), Ok(()), "the log is not in causal order");
            rows.apply(frame);
        }
        for keyspace in &report.keyspaces {
            let empty = DotStore::default();
            let rows = store.dot_store(keyspace.id).unwrap_or(&empty);
            assert_eq!(*rows, DotStore::from_rows(rows.vector().clone(), rows.rows().clone()));
            assert_eq!(rows, replayed.get(&keyspace.id).unwrap_or(&empty));
        }
        assert!(report.early.0 <= EARLY_FRAMES_MAX && report.early.1 <= EARLY_BYTES_MAX);
        assert!(report.evidence.len() <= EVIDENCE_MAX && report.links.len() <= 1);
        // Whoever signs as this replica, which only its copy can, ends its writing until the operator decides; and
        // so does who retires it.
        assert_eq!(report.failed.is_some(), self.driver.replica().must_rejoin(), "{:?}", report.failed);
        let again = Replica::new(config(), &store.recovered()).report();
        let states = |report: &tidelock_engine::replica::Report| -> Vec<(KeyspaceId, String)> {
            report.keyspaces.iter().map(|keyspace| (keyspace.id, keyspace.fingerprint.clone())).collect()
        };
        // Of two last frames of one author that were told, a start knows only the one in its log.
        if report.evidence.is_empty() {
            assert_eq!(states(&again), states(&report), "another start knows something else");
        }
    }

    fn still_works(&mut self) {
        if self.driver.replica().must_rejoin() {
            let write = Write::Set { key: b"k".to_vec(), value: b"refused".to_vec() };
            assert!(!self.write(write), "a replica with two histories, or one that was retired, goes on");
            return;
        }
        let id = self.driver.replica().id_of(&named(KEYSPACES[0]));
        if self.driver.replica().mode(id).is_some() {
            let write = Write::Set { key: b"k".to_vec(), value: b"waits".to_vec() };
            assert!(!self.write(write), "a keyspace of the anchors is written without them");
            return;
        }
        assert!(self.write(Write::Set { key: b"k".to_vec(), value: b"still works".to_vec() }));
        let read = answer(self.driver.store(), keyspace_id(KEYSPACES[0]), &Query::Get(b"k".to_vec()));
        assert_eq!(read.expect("it is a register"), Answer::Value(Some(b"still works".to_vec())));
    }
}

fn any_write(input: &mut Input<'_>) -> Write {
    let key = forge::any_key(input);
    match input.below(11) {
        0 => Write::Set { key, value: forge::value(input) },
        1 => Write::Increment { key, by: i64::from_le_bytes(input.array()) },
        2 => Write::Add { key, elements: input.list(4, forge::subkey) },
        3 => Write::Remove { key, elements: input.list(4, forge::subkey) },
        4 => {
            let field = |input: &mut Input<'_>| (forge::subkey(input), forge::value(input));
            Write::Put { key, fields: input.list(4, field) }
        }
        5 => Write::Unset { key, fields: input.list(4, forge::subkey) },
        6 => Write::Delete { key },
        7 | 8 => {
            let member = |input: &mut Input<'_>| (forge::subkey(input), forge::score(input));
            Write::Score { key, members: input.list(4, member), rule: ScoreRule::default() }
        }
        9 => Write::Unscore { key, members: input.list(4, forge::subkey) },
        _ => Write::Clear,
    }
}
