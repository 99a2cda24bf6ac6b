//! A member that means harm: it has a valid key and card, says hello as it should, and has no honest engine
//! behind it.
//!
//! It is a station of the network like any other and a node that never runs, so that nobody strikes it and
//! nobody waits for it. What it does follows from its behaviours and the seed; a story can also have it say one
//! thing to one node. What it writes is under keys that begin with `evil`, so that the specification judges all
//! others.

mod equivocation;
mod flood;
pub mod forging;
mod garbage;
mod replay;
mod withholding;

use std::collections::{BTreeMap, BTreeSet};

use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::{AuthorCard, PeerId};
use tidelock_engine::message::{Hello, Message, PROTOCOL_VERSION};
use tidelock_engine::ports::{SessionId, Target, Transport, TransportEvent};

use self::equivocation::Histories;
use self::replay::Recording;
use self::withholding::Promises;
use crate::network::Wire;
use crate::node::Node;
use crate::random::Random;
use crate::tally::Tally;
use crate::world::{NOTES, World, address, cluster, named};

/// How often it acts, in microseconds.
const ACT_US: u64 = 200_000;

/// In how many of a thousand of these moments it does one of its things to one peer.
const ACT_CHANCE: u32 = 120;

/// The replicas that it claims to be, at most: one key proves as many as it likes.
const REPLICAS_MAX: u8 = 4;

/// What a hostile member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Signs two different frames with one name, and tells one peer the one and another peer the other.
    Equivocates,
    /// Says again what it or somebody else said before, in this session or an earlier one.
    Replays,
    /// Says much: questions, heads of nobody, keyspaces, peers that are nowhere.
    Floods,
    /// Says what is no message, or not now, or not here.
    SendsGarbage,
    /// Announces what it never sends.
    Withholds,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Equivocates, Self::Replays, Self::Floods, Self::SendsGarbage, Self::Withholds];

    /// Under which name it is counted, each time it strikes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equivocates => "equivocations",
            Self::Replays => "replays",
            Self::Floods => "floods",
            Self::SendsGarbage => "pieces of garbage",
            Self::Withholds => "empty promises",
        }
    }
}

/// A hostile member.
#[derive(Debug)]
pub struct Hostile {
    behaviours: BTreeSet<Behaviour>,
    key: SigningKey,
    wire: Wire,
    address: String,
    random: Random,
    sessions: BTreeMap<SessionId, Session>,
    histories: Histories,
    recording: Recording,
    promises: Promises,
    tally: Tally,
    now_us: u64,
}

/// A session with somebody.
#[derive(Clone, Copy, Debug)]
struct Session {
    peer: PeerId,
    /// Whether the peer has said hello, so that it listens.
    is_greeted: bool,
}

impl Hostile {
    fn new(name: &str, key: SigningKey, wire: Wire, random: Random) -> Self {
        Self {
            behaviours: BTreeSet::new(),
            address: address(name),
            histories: Histories::new(&key),
            recording: Recording::default(),
            promises: Promises::default(),
            sessions: BTreeMap::new(),
            tally: Tally::default(),
            now_us: 0,
            key,
            wire,
            random,
        }
    }

    fn cards(key: &SigningKey) -> impl Iterator<Item = AuthorCard> {
        (1..=REPLICAS_MAX).map(|nonce| key.card([nonce; 16]))
    }

    fn does(&self, behaviour: Behaviour) -> bool {
        self.behaviours.contains(&behaviour)
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster: cluster(),
            card: self.key.card([1; 16]),
            keyspaces: vec![named(NOTES)],
            takes_any_keyspace: true,
            addresses: vec![self.address.clone()],
        }
    }

    fn say(&mut self, session: SessionId, message: &Message) {
        self.utter(session, message.encode());
    }

    fn utter(&mut self, session: SessionId, bytes: Vec<u8>) {
        if self.does(Behaviour::Replays) {
            self.recording.take(&bytes, &mut self.random);
        }
        // Whether there is anybody to hear it does not matter.
        let _ = self.wire.send(session, bytes);
    }

    fn hear(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Up { peer, session, .. } => {
                self.sessions.insert(session, Session { peer, is_greeted: false });
                if !self.does(Behaviour::SendsGarbage) || !self.greet_badly(session) {
                    let hello = Message::Hello(self.hello());
                    self.say(session, &hello);
                }
            }
            TransportEvent::Message { session, bytes } => self.hear_message(session, &bytes),
            TransportEvent::Drained { .. } | TransportEvent::Told { .. } | TransportEvent::Untold { .. } => {}
            TransportEvent::Down { session, .. } => {
                self.sessions.remove(&session);
                self.tally.count("sessions of hostile members that ended");
            }
        }
    }

    fn hear_message(&mut self, session: SessionId, bytes: &[u8]) {
        if self.does(Behaviour::Replays) {
            self.recording.take(bytes, &mut self.random);
        }
        let Some(of) = self.sessions.get_mut(&session) else { return };
        match Message::decode(bytes) {
            Ok(Message::Hello(_)) => of.is_greeted = true,
            Ok(Message::Goodbye { reason }) => {
                self.tally.count("hostile members that were turned away");
                self.wire.close(session, &reason);
            }
            Ok(Message::Heads { keyspace, entries }) => self.promises.note(keyspace, &entries),
            Ok(Message::Push { frames, .. } | Message::Answer { frames, .. }) => {
                frames
                    .iter()
                    .filter_map(|frame| Frame::peek(&frame.0))
                    .for_each(|dot| self.promises.see(dot));
            }
            Ok(Message::Want { keyspace, after }) => {
                let is_told = self.does(Behaviour::Equivocates) && self.tell_history(session, &after);
                if !is_told && self.does(Behaviour::Withholds) {
                    self.withhold(session, keyspace);
                }
            }
            _ => {}
        }
    }

    /// Does one thing to the peer of a session.
    fn strike(&mut self, behaviour: Behaviour, session: SessionId) {
        match behaviour {
            Behaviour::Equivocates => self.equivocate(session),
            Behaviour::Replays => self.replay(session),
            Behaviour::Floods => self.flood(session),
            Behaviour::SendsGarbage => self.send_garbage(session),
            Behaviour::Withholds => self.promise(session),
        }
    }

    /// The sessions in which somebody listens.
    fn listeners(&self) -> Vec<SessionId> {
        let greeted = self.sessions.iter().filter(|(_, session)| session.is_greeted);
        greeted.map(|(session, _)| *session).collect()
    }

    fn act(&mut self) {
        self.keep_promises();
        for session in self.listeners() {
            for behaviour in self.behaviours.clone() {
                if self.random.chance(ACT_CHANCE) {
                    self.strike(behaviour, session);
                }
            }
        }
    }
}

impl World {
    /// Adds a hostile member, which dials everybody and does what its behaviours say until the end.
    pub fn add_hostile(&mut self, name: &str, behaviours: &[Behaviour]) {
        let index = self.nodes.len();
        let mut node = Node::new(name, index, cluster(), self.storage);
        node.is_gone = true;
        let key = node.config.key.clone();
        let station = self.network().add_station(key.peer(), address(name));
        assert_eq!(station, index, "stations and nodes go together");
        self.nodes.push(node);
        self.network().set_up(index, true);
        Hostile::cards(&key).for_each(|card| self.ledger.distrust(card.replica()));
        let wire = Wire { node: index, network: std::rc::Rc::clone(&self.network) };
        let random = self.random.fork();
        self.hostile.insert(index, Hostile::new(name, key, wire, random));
        behaviours.iter().for_each(|behaviour| self.turn_to(index, *behaviour));
        self.tally.count("hostile members");
        self.hostile_acts(index);
    }

    /// Has a hostile member do something more from now on.
    pub(crate) fn turn_to(&mut self, index: usize, behaviour: Behaviour) {
        self.hostile.get_mut(&index).expect("it is hostile").behaviours.insert(behaviour);
    }

    /// The hostile members.
    pub(crate) fn hostile_members(&self) -> Vec<usize> {
        self.hostile.keys().copied().collect()
    }

    /// Has a hostile member do one thing to one node, so many times, if that node listens; answers whether.
    pub fn strike(&mut self, name: &str, behaviour: Behaviour, at: &str, times: usize) -> bool {
        self.as_hostile(name, at, |hostile, session| {
            (0..times).for_each(|_| hostile.strike(behaviour, session));
        })
    }

    /// Has a hostile member say something to one node, if that node listens; answers whether.
    pub fn say(&mut self, name: &str, to: &str, message: &Message) -> bool {
        self.as_hostile(name, to, |hostile, session| hostile.say(session, message))
    }

    /// A forger of frames that signs with a hostile member's key, as the replica that it says hello with.
    pub fn forger(&self, name: &str) -> forging::Forger {
        forging::Forger::new(&self.node(name).config.key, 1)
    }

    fn as_hostile(&mut self, name: &str, peer: &str, act: impl FnOnce(&mut Hostile, SessionId)) -> bool {
        let (index, peer) = (self.index(name), self.peer(peer));
        let hostile = self.hostile.get_mut(&index).expect("it is hostile");
        let with = |session: &SessionId| hostile.sessions[session].peer == peer;
        let Some(session) = hostile.listeners().into_iter().find(with) else { return false };
        act(hostile, session);
        self.tally.join(&std::mem::take(&mut hostile.tally));
        true
    }

    /// A hostile member takes in what has arrived, if it is one.
    pub(crate) fn hostile_hears(&mut self, index: usize) {
        let Some(mut hostile) = self.hostile.remove(&index) else { return };
        hostile.now_us = self.now_us();
        let events = self.network().take(index, usize::MAX);
        events.into_iter().for_each(|event| hostile.hear(event));
        self.tally.join(&std::mem::take(&mut hostile.tally));
        self.hostile.insert(index, hostile);
    }

    fn hostile_acts(&mut self, index: usize) {
        let known: Vec<Target> = self
            .nodes
            .iter()
            .filter(|node| !node.is_gone)
            .map(|node| Target { peer: Some(node.config.key.peer()), addresses: vec![address(&node.name)] })
            .collect();
        let mut hostile = self.hostile.remove(&index).expect("it is hostile for ever");
        hostile.now_us = self.now_us();
        known.into_iter().for_each(|target| hostile.wire.connect(target));
        hostile.act();
        self.tally.join(&std::mem::take(&mut hostile.tally));
        self.hostile.insert(index, hostile);
        self.network().tend(index);
        self.after(ACT_US, move |world| world.hostile_acts(index));
    }
}
