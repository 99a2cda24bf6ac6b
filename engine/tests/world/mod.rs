//! A world of replicas in one thread: real drivers over memory stores, a network that obeys the test, a clock
//! for each node, one seed.
//!
//! Safety is checked after every turn of every node: replicas with equal heads have equal rows, and what is
//! derived from rows is what the rows say.

#![allow(dead_code, reason = "each test binary uses its part of the world")]

pub(crate) mod by_hand;
pub(crate) mod faulty_store;
pub(crate) mod forge;
pub(crate) mod network;
pub(crate) mod random;
pub(crate) mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::rc::Rc;

use tidelock_engine::crdt::DotStore;
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName, PeerId};
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::message::Message;
use tidelock_engine::ports::{Durability, Store, Target};
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::replica::{Input, Now, Replica, ReplicaConfig, Replicate, Report};
use tidelock_engine::request::{Action, ActionReply, Atomicity, Request, RequestId, RequestReply};
use tidelock_engine::turn::{Driver, TurnOutcome};
use tidelock_engine::write::Write;

use self::faulty_store::{Faults, FaultyStore};
use self::network::{Network, Wire};
use self::random::Random;
use self::words::text;

/// The start of time, in Unix milliseconds.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// The keyspace that most stories are about.
pub(crate) const NOTES: &str = "notes";

const CLUSTER: &str = "world";

/// How much faster the stories go than the network: the step of the simulated time, in milliseconds.
const STEP_MS: u64 = 10;

/// How long the nodes are given to become equal, in milliseconds.
const SETTLE_MS: u64 = 90_000;

/// A running replica.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) config: ReplicaConfig,
    driver: Option<Driver<FaultyStore, Wire>>,
    left: Option<MemStore>,
    clock_ahead_ms: i64,
    pub(crate) confirmations: BTreeMap<RequestId, usize>,
}

/// Who a new node is, when it is not like all others.
pub(crate) struct Birth {
    pub(crate) cluster: ClusterId,
    pub(crate) replicate: Replicate,
    pub(crate) key: SigningKey,
    /// The key whose card the store holds; another one than the node's makes a liar.
    pub(crate) card_key: SigningKey,
    pub(crate) clock_ahead_ms: i64,
}

/// All nodes, and the network between them.
pub(crate) struct World {
    nodes: Vec<Node>,
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) random: Random,
    now_ms: u64,
    requests: u64,
    states: BTreeMap<(KeyspaceId, String), String>,
    pub(crate) turns: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            network: Rc::new(RefCell::new(Network::new(seed))),
            random: Random::new(seed.wrapping_add(77)),
            now_ms: 0,
            requests: 0,
            states: BTreeMap::new(),
            turns: 0,
        }
    }

    /// A world of nodes that all know each other and are connected.
    pub(crate) fn connected(seed: u64, names: &[&'static str]) -> Self {
        let mut world = Self::new(seed);
        names.iter().for_each(|name| world.add(name));
        for (index, a) in names.iter().enumerate() {
            names[index + 1..].iter().for_each(|b| world.connect(a, b));
        }
        world.run(1_000);
        world
    }

    pub(crate) fn add(&mut self, name: &'static str) {
        self.add_with(name, |_| {});
    }

    /// Adds a node that is not like all others.
    pub(crate) fn add_with(&mut self, name: &'static str, change: impl FnOnce(&mut Birth)) {
        let index = u8::try_from(self.nodes.len() + 1).expect("worlds are small");
        let key = SigningKey::from_seed([index; 32]);
        let (cluster, replicate) = (ClusterId::named(CLUSTER), Replicate::All);
        let mut birth = Birth { cluster, replicate, card_key: key.clone(), key, clock_ahead_ms: 0 };
        change(&mut birth);
        let Birth { cluster, replicate, key, card_key, clock_ahead_ms } = birth;
        let store = MemStore::new(cluster, card_key.card([index; 16]));
        self.network.borrow_mut().add_station(key.peer(), address(name));
        let config = ReplicaConfig { key, cluster, replicate };
        let (driver, left, confirmations) = (None, Some(store), BTreeMap::new());
        self.nodes.push(Node { name, config, driver, left, clock_ahead_ms, confirmations });
        self.start(name);
    }

    /// Starts a node that was stopped, from what its disk has.
    pub(crate) fn start(&mut self, name: &str) {
        let index = self.index(name);
        let node = &mut self.nodes[index];
        let store = node.left.take().expect("the node was stopped");
        let replica = Replica::new(node.config.clone(), &store.recovered());
        let wire = Wire { node: index, network: Rc::clone(&self.network) };
        node.driver = Some(Driver::new(replica, FaultyStore::new(store), wire));
        self.network.borrow_mut().set_up(index, true);
        self.input(name, Input::Listening(vec![address(name)]));
    }

    /// Stops a node without warning. What was not on disk is lost.
    pub(crate) fn crash(&mut self, name: &str) {
        let index = self.index(name);
        self.network.borrow_mut().set_up(index, false);
        let driver = self.nodes[index].driver.take().expect("the node runs");
        if !driver.is_durable() {
            // What was lost was seen by nobody else, so its dots may be used for something else.
            self.states.clear();
        }
        self.nodes[index].left = Some(driver.into_parts().0.crash());
    }

    pub(crate) fn restart(&mut self, name: &str) {
        self.crash(name);
        self.start(name);
    }

    /// Has `a` keep connected with `b`.
    pub(crate) fn connect(&mut self, a: &str, b: &str) {
        let target = Target { peer: Some(self.peer(b)), addresses: vec![address(b)] };
        self.input(a, Input::Connect(target));
    }

    pub(crate) fn partition(&mut self, a: &str, b: &str) {
        let (a, b) = (self.index(a), self.index(b));
        self.network.borrow_mut().cut(a, b);
    }

    /// Cuts every connection between the two sides.
    pub(crate) fn split(&mut self, side: &[&str], other: &[&str]) {
        side.iter().for_each(|a| other.iter().for_each(|b| self.partition(a, b)));
    }

    pub(crate) fn heal(&mut self) {
        self.network.borrow_mut().heal();
    }

    pub(crate) fn drop_session(&mut self, a: &str, b: &str) {
        let (a, b) = (self.index(a), self.index(b));
        self.network.borrow_mut().drop_session(a, b);
    }

    pub(crate) fn stall(&mut self, from: &str, to: &str) {
        let (from, to) = (self.index(from), self.index(to));
        self.network.borrow_mut().stall(from, to);
    }

    pub(crate) fn unstall(&mut self, from: &str, to: &str) {
        let (from, to) = (self.index(from), self.index(to));
        self.network.borrow_mut().unstall(from, to);
    }

    /// One write, which must succeed.
    pub(crate) fn write(&mut self, name: &str, write: Write) {
        let actions = vec![Action::Write(write)];
        let replies = self.request(name, NOTES, Atomicity::Each, actions).expect("the request is executed");
        replies.into_iter().for_each(|reply| drop(reply.expect("the write is done")));
    }

    /// Writes that nobody sees half done.
    pub(crate) fn batch(&mut self, name: &str, writes: Vec<Write>) -> RequestReply {
        let actions = writes.into_iter().map(Action::Write).collect();
        self.request(name, NOTES, Atomicity::AllOrNothing, actions)
    }

    pub(crate) fn request(
        &mut self,
        name: &str,
        keyspace: &str,
        atomicity: Atomicity,
        actions: Vec<Action>,
    ) -> RequestReply {
        let request =
            Request { keyspace: named(keyspace), actions, atomicity, durability: Durability::Durable };
        self.ask(name, request)
    }

    /// A request, as one turn.
    pub(crate) fn ask(&mut self, name: &str, request: Request) -> RequestReply {
        self.requests += 1;
        let id = RequestId(self.requests);
        let outcome = self.input(name, Input::Request(id, request));
        let mut replies = outcome.replies.into_iter().filter(|(of, _)| *of == id);
        replies.next().expect("every request is answered").1
    }

    pub(crate) fn query(&mut self, name: &str, query: Query) -> Answer {
        self.query_in(name, NOTES, query)
    }

    pub(crate) fn query_in(&mut self, name: &str, keyspace: &str, query: Query) -> Answer {
        let actions = vec![Action::Query(query)];
        let mut replies = self.request(name, keyspace, Atomicity::Each, actions).expect("reads are answered");
        match replies.pop().expect("one answer").expect("the query fits the key") {
            ActionReply::Answer(answer) => answer,
            ActionReply::Outcome(outcome) => panic!("a query answered {outcome:?}"),
        }
    }

    /// The value under a key.
    pub(crate) fn get(&mut self, name: &str, key: &str) -> Option<String> {
        match self.query(name, Query::Get(key.into())) {
            Answer::Value(value) => value.map(|value| text(&value)),
            other => panic!("{other:?}"),
        }
    }

    /// The elements of a set.
    pub(crate) fn members(&mut self, name: &str, key: &str) -> Vec<String> {
        match self.query(name, Query::Members(key.into())) {
            Answer::List(list) => list.iter().map(|element| text(element)).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// How many peers have confirmed a wait that was begun as [`World::wait`].
    pub(crate) fn confirmed(&self, name: &str, wait: RequestId) -> usize {
        self.node(name).confirmations[&wait]
    }

    /// Begins to wait for peers to have the node's writes on disk.
    pub(crate) fn wait(&mut self, name: &str) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.input(name, Input::Confirm(id, named(NOTES)));
        id
    }

    pub(crate) fn input(&mut self, name: &str, input: Input) -> TurnOutcome {
        let index = self.index(name);
        self.turn(index, vec![input])
    }

    /// Several inputs as one turn of a node.
    pub(crate) fn turn(&mut self, index: usize, inputs: Vec<Input>) -> TurnOutcome {
        let mono_ms = self.now_ms;
        let node = &mut self.nodes[index];
        let unix_ms = (START_MS + mono_ms).saturating_add_signed(node.clock_ahead_ms);
        let now = Now { unix_ms, mono_ms, entropy: self.random.next() };
        let driver = node.driver.as_mut().expect("the node runs");
        let outcome = driver.turn(now, inputs);
        node.confirmations.extend(outcome.confirmations.iter().copied());
        self.turns += 1;
        if outcome.position.is_some() {
            self.check(index);
        }
        outcome
    }

    /// What is asked of the store by a caller that buffers.
    pub(crate) fn sync(&mut self, name: &str) {
        let index = self.index(name);
        let driver = self.nodes[index].driver.as_mut().expect("the node runs");
        // A failure shows in what follows.
        drop(driver.sync());
    }

    /// Lets time pass: messages arrive in random order across sessions, nodes tick.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += STEP_MS;
            self.network.borrow_mut().advance(self.now_ms);
            for index in 0..self.nodes.len() {
                let is_due = (self.now_ms + 10 * index as u64).is_multiple_of(100);
                if is_due && self.nodes[index].driver.is_some() {
                    self.turn(index, vec![Input::Tick]);
                }
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        loop {
            let ready = self.network.borrow().ready();
            if ready.is_empty() {
                return;
            }
            let node = *self.random.pick(&ready);
            let count = 1 + self.random.below(4);
            let events = self.network.borrow_mut().take(node, count);
            if self.nodes[node].driver.is_some() {
                self.turn(node, events.into_iter().map(Input::Network).collect());
            }
        }
    }

    /// Lets time pass until all running nodes are equal.
    pub(crate) fn settle(&mut self) {
        let names: Vec<&'static str> =
            self.nodes.iter().filter(|node| node.driver.is_some()).map(|node| node.name).collect();
        self.settle_among(&names);
    }

    /// Lets time pass until these nodes are equal.
    pub(crate) fn settle_among(&mut self, names: &[&str]) {
        let end = self.now_ms + SETTLE_MS;
        while !self.is_settled(names) {
            assert!(self.now_ms < end, "not settled after {SETTLE_MS} ms:\n{}", self.describe(names));
            self.run(100);
        }
    }

    pub(crate) fn is_settled(&self, names: &[&str]) -> bool {
        let states: BTreeSet<Vec<String>> = names.iter().map(|name| self.state(name)).collect();
        states.len() == 1
    }

    /// Heads and fingerprints of a node, by keyspace.
    pub(crate) fn state(&self, name: &str) -> Vec<String> {
        let keyspaces = self.report(name).keyspaces.into_iter();
        keyspaces.map(|keyspace| format!("{}={}", keyspace.name, keyspace.fingerprint)).collect()
    }

    fn describe(&self, names: &[&str]) -> String {
        let one = |name: &&str| {
            let report = self.report(name);
            let links: Vec<String> =
                report.links.iter().map(|link| format!("{:?} eager {}", link.peer, link.eager)).collect();
            format!("{name}: {:?}\n  {links:?}\n  {:?}\n", self.state(name), report.counters)
        };
        names.iter().map(one).collect()
    }

    pub(crate) fn report(&self, name: &str) -> Report {
        self.driver(name).replica().report()
    }

    pub(crate) fn counter(&self, name: &str, counter: &str) -> u64 {
        self.report(name).counters.get(counter)
    }

    pub(crate) fn driver(&self, name: &str) -> &Driver<FaultyStore, Wire> {
        self.node(name).driver.as_ref().expect("the node runs")
    }

    pub(crate) fn faults(&self, name: &str) -> Rc<Faults> {
        Rc::clone(&self.driver(name).store().faults)
    }

    /// The rows of [`NOTES`] at a node.
    pub(crate) fn rows(&self, name: &str) -> DotStore {
        let store = self.driver(name).store().memory();
        store.dot_store(keyspace_id(NOTES)).cloned().unwrap_or_default()
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> &mut Node {
        let index = self.index(name);
        &mut self.nodes[index]
    }

    pub(crate) fn set_clock(&mut self, name: &str, ahead_ms: i64) {
        self.node_mut(name).clock_ahead_ms = ahead_ms;
    }

    pub(crate) fn peer(&self, name: &str) -> PeerId {
        self.node(name).config.key.peer()
    }

    pub(crate) fn is_linked(&self, a: &str, b: &str) -> bool {
        let b = self.peer(b);
        self.report(a).links.iter().any(|link| link.peer == b)
    }

    pub(crate) fn index(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name == name).expect("the story names its nodes")
    }

    /// Safety: equal vectors have equal rows at every node at every time, and derived figures are right.
    fn check(&mut self, index: usize) {
        let node = &self.nodes[index];
        let driver = node.driver.as_ref().expect("the node runs");
        for keyspace in driver.replica().report().keyspaces {
            let Some(rows) = driver.store().memory().dot_store(keyspace.id) else { continue };
            let vector = format!("{:?}", rows.vector());
            let fingerprint = format!("{:?}", rows.fingerprint());
            let known = self.states.entry((keyspace.id, vector)).or_insert_with(|| {
                check_derived(rows);
                fingerprint.clone()
            });
            assert_eq!(*known, fingerprint, "{}: equal vectors, other rows", node.name);
        }
    }
}

/// Members, keys and fingerprint are what the rows say.
pub(crate) fn check_derived(rows: &DotStore) {
    let computed = DotStore::from_rows(rows.vector().clone(), rows.rows().clone());
    assert_eq!(*rows, computed, "derived figures differ from the rows");
}

pub(crate) fn keyspace_id(name: &str) -> KeyspaceId {
    KeyspaceId::of(ClusterId::named(CLUSTER), &named(name))
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId::named(CLUSTER)
}

pub(crate) fn named(name: &str) -> KeyspaceName {
    name.parse().expect("stories use valid names")
}

pub(crate) fn address(name: &str) -> String {
    format!("mem/{name}")
}

/// What went wrong with an action of a request.
pub(crate) fn refusal<T: Debug>(reply: Result<T, impl std::error::Error>) -> String {
    reply.expect_err("it is refused").to_string()
}

/// The variant of an encoded message, for counting.
pub(crate) fn message_name(bytes: &[u8]) -> &'static str {
    match Message::decode(bytes) {
        Ok(Message::Hello(_)) => "hello",
        Ok(Message::Goodbye { .. }) => "goodbye",
        Ok(Message::Keyspaces(_)) => "keyspaces",
        Ok(Message::Peers(_)) => "peers",
        Ok(Message::Summary { .. }) => "summary",
        Ok(Message::Heads { .. }) => "heads",
        Ok(Message::Want { .. }) => "want",
        Ok(Message::Answer { .. }) => "answer",
        Ok(Message::Push { .. }) => "push",
        Ok(Message::Prune { .. }) => "prune",
        Ok(Message::Graft { .. }) => "graft",
        Ok(Message::Confirm { .. }) => "confirm",
        Ok(Message::Confirmed { .. }) => "confirmed",
        Err(_) => "malformed",
    }
}
