//! A world of whole nodes in one thread: real engine, real turns, real store, and a network, disks and clocks
//! that do what the seed or the story says.
//!
//! One scheduler decides what happens next; time jumps from event to event. After every turn of every node its
//! log is read, and every property is checked. The same seed gives the same history in every process.

mod asking;
mod checking;
mod expiry;
mod lifecycle;
mod story;
mod strong;
mod telling;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName};
use tidelock_engine::ports::{Conditional, NotDone, RequestId as GroupRequestId, TransportEvent};
use tidelock_engine::replica::{AnchorReply, Input, Limits, OrderReply, Retention};
use tidelock_engine::request::{RequestId, RequestReply};
use tidelock_engine::turn::TurnOutcome;

use crate::group::{Foundation, Seat};
use crate::hostile::Hostile;
use crate::ledger::Ledger;
use crate::network::Network;
use crate::node::{Node, Storage};
use crate::paths::Paths;
use crate::random::Random;
use crate::strong::Strong;
use crate::tally::Tally;
use crate::trace::{Telling, Trace};
use crate::workload::Workload;

/// The keyspace that most stories are about.
pub const NOTES: &str = "notes";

const CLUSTER: &str = "world";

/// How often time passes for a node, in microseconds.
const TICK_US: u64 = 100_000;

/// How long a buffered commit stays off the disk at most, in microseconds.
const SYNC_US: u64 = 50_000;

/// The events of the network that one turn takes at most.
const TURN_EVENTS_MAX: usize = 8;

/// Something that was planned.
type Plan = Box<dyn FnOnce(&mut World)>;

/// What happens next. A number beside a node is the life in which it was planned.
enum Happening {
    Wake(usize, u64),
    Tick(usize, u64),
    Sync(usize, u64),
    Plan(Plan),
}

/// How closely a world looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrutiny {
    /// Every property after every turn.
    Everything,
    /// What logs say, after every turn, and nothing of the rows: for worlds of a thousand peers.
    Logs,
}

/// All nodes, and everything between and around them.
pub struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Rc<RefCell<Network>>,
    /// The members that mean harm, by their numbers among the nodes.
    pub(crate) hostile: BTreeMap<usize, Hostile>,
    schedule: BTreeMap<(u64, u64), Happening>,
    planned: u64,
    now_us: u64,
    requests: u64,
    /// The seed's numbers, for stories.
    pub random: Random,
    /// What the nodes draw their choices from.
    entropy: Random,
    /// What everybody did.
    pub ledger: Ledger,
    /// What happened, in short.
    pub trace: Trace,
    /// What was done, in numbers.
    pub tally: Tally,
    /// Which way frames took; followed only if somebody asks for it, since each message is decoded for it.
    pub paths: Option<Paths>,
    /// How closely to look.
    pub scrutiny: Scrutiny,
    /// How nodes that are added from now on stand on their stores.
    pub storage: Storage,
    /// How long nodes that are added keep their logs.
    pub retention: Retention,
    /// How much state that is taken over waits in the memory of nodes that are added, in bytes.
    pub staged_bytes: usize,
    /// Whether nodes that are added decide by what they see.
    pub conditional: Conditional,
    /// After how many of a thousand turns a node writes its rows.
    pub materializing: u32,
    /// How long a buffered commit stays off the disk, in microseconds; with `None` until the story syncs it.
    pub syncs_after_us: Option<u64>,
    /// Whether nodes whose store failed are restarted by somebody.
    pub has_operator: bool,
    /// What clients do at every node, and until when, in microseconds.
    pub workload: Option<(Workload, u64)>,
    /// The command that replays this.
    pub replay: String,
    pub(crate) confirmations: BTreeMap<RequestId, usize>,
    /// The orders to leave that have not ended: who goes does not keep anything for others.
    pub(crate) leaving: BTreeMap<RequestId, (usize, KeyspaceId)>,
    /// How orders ended that were not asked after yet.
    pub orders: BTreeMap<RequestId, OrderReply>,
    /// How orders of the group ended that were not asked after yet.
    pub(crate) governed: BTreeMap<RequestId, AnchorReply>,
    /// What became of changes of the group that the world itself asked for.
    pub(crate) changed: BTreeMap<GroupRequestId, Option<Result<(), NotDone>>>,
    /// What is known of strong keyspaces.
    pub strong: Strong,
    /// Which nodes stories asked for something of strong keyspaces, and what they were told.
    pub(crate) asked_strong: BTreeMap<RequestId, usize>,
    pub(crate) told: BTreeMap<RequestId, RequestReply>,
    /// How often clients of strong keyspaces ask, in milliseconds, and until when.
    strong_asking: Option<(u64, u64)>,
    /// What groups of anchors are opened with.
    pub(crate) foundation: Foundation,
    /// Up to when the tasks of groups have run, in milliseconds.
    groups_at_ms: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            nodes: Vec::new(),
            network: Rc::new(RefCell::new(Network::new(random.fork()))),
            hostile: BTreeMap::new(),
            schedule: BTreeMap::new(),
            planned: 0,
            now_us: 0,
            requests: 0,
            entropy: random.fork(),
            random,
            ledger: Ledger::default(),
            trace: Trace::new(Telling::Last),
            tally: Tally::default(),
            paths: None,
            scrutiny: Scrutiny::Everything,
            storage: Storage::default(),
            retention: Retention::default(),
            staged_bytes: Limits::STAGED_BYTES,
            conditional: Conditional::default(),
            materializing: 100,
            syncs_after_us: Some(SYNC_US),
            has_operator: false,
            workload: None,
            replay: String::new(),
            confirmations: BTreeMap::new(),
            leaving: BTreeMap::new(),
            orders: BTreeMap::new(),
            governed: BTreeMap::new(),
            changed: BTreeMap::new(),
            strong: Strong::default(),
            asked_strong: BTreeMap::new(),
            told: BTreeMap::new(),
            strong_asking: None,
            foundation: Foundation::new(seed),
            groups_at_ms: 0,
        }
    }

    /// A world of nodes that all know each other and are connected.
    pub fn connected(seed: u64, names: &[&str]) -> Self {
        let mut world = Self::new(seed);
        names.iter().for_each(|name| world.add(name));
        for (index, a) in names.iter().enumerate() {
            names[index + 1..].iter().for_each(|b| world.connect(a, b));
        }
        world.run(1_000);
        world
    }

    /// The time since the start, in microseconds.
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The network, to make it worse.
    pub fn network(&mut self) -> std::cell::RefMut<'_, Network> {
        self.network.borrow_mut()
    }

    /// A node by its name.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    /// A node by its name.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        let index = self.index(name);
        &mut self.nodes[index]
    }

    /// All nodes, in the order in which they were added.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node's number.
    pub fn index_of(&self, name: &str) -> usize {
        self.index(name)
    }

    pub(crate) fn index(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Has something happen after some time, in microseconds.
    pub fn after(&mut self, us: u64, plan: impl FnOnce(&mut Self) + 'static) {
        self.plan(self.now_us + us, Happening::Plan(Box::new(plan)));
    }

    /// Has the clients of a node do what the world's workload says.
    pub fn keep_writing_at(&mut self, index: usize) {
        if let Some((workload, end_us)) = self.workload.clone() {
            workload.keep_writing(self, index, end_us);
        }
    }

    fn plan(&mut self, at_us: u64, happening: Happening) {
        self.planned += 1;
        self.schedule.insert((at_us, self.planned), happening);
    }

    /// Lets time pass, in milliseconds.
    pub fn run(&mut self, ms: u64) {
        let end = self.now_us + 1_000 * ms;
        while self.step_until(end) {}
    }

    /// Lets time pass up to a moment, in microseconds since the beginning.
    pub fn run_until(&mut self, end_us: u64) {
        while self.step_until(end_us) {}
    }

    /// Does what is due next, if that is before `end_us`; otherwise it is `end_us` now.
    fn step_until(&mut self, end_us: u64) -> bool {
        let arrival = self.network.borrow().next_at();
        let planned = self.schedule.keys().next().map(|(at, _)| *at);
        let next = [arrival, planned].into_iter().flatten().min();
        if self.run_groups(next.map_or(end_us, |next| next.min(end_us))) {
            return true;
        }
        let Some(next) = next.filter(|at| *at <= end_us) else {
            self.move_to(end_us);
            return false;
        };
        self.move_to(next);
        if arrival == Some(next) {
            let delivered = self.network.borrow_mut().deliver_next();
            if let Some(node) = delivered {
                self.wake(node);
            }
            return true;
        }
        let (_, happening) = self.schedule.pop_first().expect("it is due");
        self.happen(happening);
        true
    }

    /// Runs the tasks of groups for the next millisecond, if it is over before that moment; answers whether it did.
    fn run_groups(&mut self, before_us: u64) -> bool {
        let has_group = |node: &Node| node.seat.as_ref().is_some_and(Seat::was_opened);
        if !self.nodes.iter().any(has_group) {
            self.groups_at_ms = self.now_us / 1_000;
            return false;
        }
        let ms = self.groups_at_ms + 1;
        if 1_000 * ms > before_us {
            return false;
        }
        self.groups_at_ms = ms;
        self.move_to(1_000 * ms);
        for index in 0..self.nodes.len() {
            let is_woken = !self.is_paused(index)
                && self.nodes[index]
                    .seat
                    .as_mut()
                    .filter(|seat| seat.was_opened())
                    .is_some_and(|seat| seat.run_until(ms));
            if is_woken {
                self.wake(index);
            }
        }
        true
    }

    fn move_to(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
        self.network.borrow_mut().advance(self.now_us);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Plan(plan) => plan(self),
            Happening::Wake(index, life) => {
                if self.lives(index, life) {
                    self.woken(index);
                }
            }
            Happening::Tick(index, life) => {
                if self.lives(index, life) {
                    if !self.is_paused(index) {
                        self.turn(index, vec![Input::Tick]);
                        self.network.borrow_mut().tend(index);
                    }
                    // Ticks come late now and then, as everything does.
                    let late = self.entropy.between(0, 5_000);
                    self.plan(self.now_us + TICK_US + late, Happening::Tick(index, life));
                }
            }
            Happening::Sync(index, life) => {
                if self.lives(index, life) {
                    self.sync_node(index);
                }
            }
        }
    }

    fn lives(&self, index: usize, life: u64) -> bool {
        let node = &self.nodes[index];
        node.is_running() && node.life == life
    }

    pub(crate) fn is_paused(&self, index: usize) -> bool {
        self.nodes[index].paused_until_us > self.now_us
    }

    /// A node has something in its inbox: it will look, soon.
    pub(crate) fn wake(&mut self, index: usize) {
        self.hostile_hears(index);
        let node = &mut self.nodes[index];
        if !node.is_running() || std::mem::replace(&mut node.is_woken, true) {
            return;
        }
        let from = self.now_us.max(node.paused_until_us);
        let at = from + self.entropy.between(0, node.slowness_us);
        let life = node.life;
        self.plan(at, Happening::Wake(index, life));
    }

    fn woken(&mut self, index: usize) {
        self.nodes[index].is_woken = false;
        if !self.is_paused(index) {
            let count = 1 + self.entropy.below(TURN_EVENTS_MAX);
            let inputs = self.take_events(index, count);
            if !inputs.is_empty() || self.nodes[index].has_group_woken() {
                self.turn(index, inputs);
            }
        }
        if self.nodes[index].is_running() && self.network.borrow().waiting(index) > 0 {
            self.wake(index);
        }
    }

    pub(crate) fn take_events(&mut self, index: usize, count: usize) -> Vec<Input> {
        let events = self.network.borrow_mut().take(index, count);
        events.into_iter().map(Input::Network).collect()
    }

    /// One turn of a node, which runs. Its log is read after it and everything is checked.
    pub fn turn(&mut self, index: usize, mut inputs: Vec<Input>) -> TurnOutcome {
        self.trace.step();
        self.nodes[index].collect(&mut inputs);
        self.take_changes(&mut inputs);
        self.record_inputs(index, &inputs);
        let asked = asking::requests(&inputs);
        self.follow(index, &inputs);
        let entropy = self.entropy.next();
        let now = self.nodes[index].moment(self.now_us, entropy);
        let before = self.before(index, &inputs, now.unix_ms);
        let node = &mut self.nodes[index];
        let driver = node.driver.as_mut().expect("it runs");
        let mut outcome = driver.turn(now, inputs);
        node.deliver(std::mem::take(&mut outcome.asks));
        for (id, reply) in std::mem::take(&mut outcome.orders) {
            self.leaving.remove(&id);
            self.orders.insert(id, reply);
        }
        self.confirmations.extend(outcome.confirmations.iter().copied());
        let strong = self.take_strong(&mut outcome);
        self.turned(index, asked, &before, &outcome);
        self.strong_turned(index, strong);
        if self.materializing > 0 && self.entropy.chance(self.materializing) {
            self.materialize(index);
        }
        self.after_store(index);
        outcome
    }

    fn materialize(&mut self, index: usize) {
        if let Some(driver) =
            self.nodes[index].driver.as_mut().filter(|driver| driver.store().failed().is_none())
        {
            driver.store_mut().materialize();
            self.tally.count("materializations");
        }
    }

    pub(crate) fn sync_node(&mut self, index: usize) {
        self.nodes[index].is_sync_due = false;
        if let Some(driver) = self.nodes[index].driver.as_mut() {
            // A failure shows in what follows.
            drop(driver.sync());
            self.tally.count("syncs of buffered writes");
        }
        self.kept(index);
        self.after_store(index);
    }

    fn record_inputs(&mut self, index: usize, inputs: &[Input]) {
        self.trace.absorb_number(self.now_us);
        self.trace.absorb_number(index as u64);
        for input in inputs {
            match input {
                Input::Network(TransportEvent::Message { session, bytes }) => {
                    self.trace.absorb_number(session.0);
                    self.trace.absorb(bytes);
                }
                Input::Tick => self.trace.absorb_number(1),
                other => self.trace.absorb(format!("{other:?}").as_bytes()),
            }
        }
        if inputs != [Input::Tick] {
            self.trace.note(self.now_us, index, || checking::describe(inputs));
        }
    }
}

/// The cluster of all worlds.
pub(crate) fn cluster() -> ClusterId {
    ClusterId::named(CLUSTER)
}

/// A keyspace's name.
///
/// # Panics
/// If it is not valid.
pub fn named(name: &str) -> KeyspaceName {
    name.parse().expect("stories use valid names")
}

/// A keyspace's id in every world.
pub fn keyspace_id(name: &str) -> KeyspaceId {
    KeyspaceId::of(cluster(), &named(name))
}

/// Where a node listens.
pub(crate) fn address(name: &str) -> String {
    format!("sim/{name}")
}
