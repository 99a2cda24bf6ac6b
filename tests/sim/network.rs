//! A network in memory that does what a seed or a story says: connections come and go, messages are slow, lost,
//! doubled, damaged, or wait behind a partition.
//!
//! Without faults it keeps the promises of the transport port and no others: messages of a session arrive in
//! order or not at all, a session that ended never comes back, a full queue says so and says when it is drained.
//! With faults it breaks them, as a member could that means harm. But what rests on the connection alone, which proves
//! who speaks, never arrives damaged: the connection breaks over it, as it does for the real transport.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    MESSAGE_BYTES_MAX, MessageClass, SendError, SessionId, Target, Transport, TransportEvent,
};

use self::conditions::Afflicted;
pub use self::conditions::Conditions;
use self::connection::{Connection, End, Station, rests_on_the_connection};
pub use self::connection::{Traffic, message_name};
use crate::random::Random;
use crate::tally::Tally;

mod conditions;
mod connection;
mod talk;

/// Dials are repeated after so long, in microseconds.
const REDIAL_US: u64 = 250_000;

/// A connection whose messages are held up for so long breaks, in microseconds.
const BROKEN_AFTER_US: u64 = 20_000_000;

/// What is on its way to a node: which connection, which of its ends, and what.
type Arrival = (u64, usize, TransportEvent);

/// The network between all nodes of a world.
#[derive(Debug)]
pub struct Network {
    stations: Vec<Station>,
    addresses: BTreeMap<String, usize>,
    connections: BTreeMap<u64, Connection>,
    sessions: BTreeMap<SessionId, (u64, usize)>,
    pairs: BTreeMap<(usize, usize), u64>,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    /// Ordered pairs of nodes between which nothing gets through, in that direction.
    blocked: BTreeSet<(usize, usize)>,
    /// On which of two sides each node is, between which nothing gets through; empty without them.
    sides: Vec<bool>,
    conditions: Conditions,
    particular: BTreeMap<(usize, usize), Conditions>,
    made: u64,
    random: Random,
    now_us: u64,
    /// What was sent.
    pub traffic: Traffic,
    /// The faults that struck.
    pub tally: Tally,
}

impl Network {
    /// A network without nodes.
    pub fn new(random: Random) -> Self {
        Self {
            stations: Vec::new(),
            addresses: BTreeMap::new(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pairs: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            blocked: BTreeSet::new(),
            sides: Vec::new(),
            conditions: Conditions::default(),
            particular: BTreeMap::new(),
            made: 0,
            random,
            now_us: 0,
            traffic: Traffic::default(),
            tally: Tally::default(),
        }
    }

    /// Adds a node, which is down; answers its number.
    pub fn add_station(&mut self, peer: PeerId, address: String) -> usize {
        let node = self.stations.len();
        self.addresses.insert(address.clone(), node);
        self.stations.push(Station::new(peer, address));
        node
    }

    /// Ends all connections of a node without telling it; others learn of it within moments. A node that is
    /// up again has no wishes yet.
    pub fn set_up(&mut self, node: usize, is_up: bool) {
        self.stations[node].is_up = is_up;
        self.stations[node].wishes.clear();
        self.stations[node].talking.clear();
        self.stations[node].inbox.clear();
        let with: Vec<u64> = self.of(node);
        for id in with {
            let connection = &self.connections[&id];
            let side = connection.side_of(node).expect("it is one of its connections");
            self.end_side(id, side);
            self.hang_up(id, 1 - side, "the connection broke");
        }
    }

    /// The rates and delays of all messages from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// The rates and delays of all messages.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// The rates and delays of what `from` sends to `to`; `None` for those of all.
    pub fn set_particular(&mut self, from: usize, to: usize, conditions: Option<Conditions>) {
        match conditions {
            Some(conditions) => drop(self.particular.insert((from, to), conditions)),
            None => drop(self.particular.remove(&(from, to))),
        }
    }

    /// Nothing gets from `from` to `to` any more. What is on its way, and what is sent, waits; the connection
    /// breaks when that takes too long.
    pub fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// Lets messages through again, in order.
    pub fn unblock(&mut self, from: usize, to: usize) {
        self.blocked.remove(&(from, to));
        if let Some(id) = self.pairs.get(&pair(from, to)).copied() {
            let connection = self.connections.get_mut(&id).expect("the pair is connected");
            let side = connection.side_of(to).expect("it is its connection");
            let held = std::mem::take(&mut connection.ends[side].held);
            connection.ends[side].held_since_us = None;
            for event in held {
                self.arrive(id, side, event);
            }
        }
    }

    /// Blocks both directions and breaks the connection at once.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.block(a, b);
        self.block(b, a);
        self.drop_session(a, b);
    }

    /// Cuts off from each other those of whom this says yes and those of whom it says no, by node.
    pub fn divide(&mut self, sides: Vec<bool>) {
        self.sides = sides;
        let pairs = self.pairs.keys().copied();
        let cut: Vec<(usize, usize)> = pairs.filter(|(a, b)| self.is_blocked(*a, *b)).collect();
        cut.into_iter().for_each(|(a, b)| self.drop_session(a, b));
    }

    fn is_blocked(&self, from: usize, to: usize) -> bool {
        let side = |node: usize| self.sides.get(node).copied().unwrap_or_default();
        self.blocked.contains(&(from, to)) || side(from) != side(to)
    }

    /// Lets everything through again.
    pub fn heal(&mut self) {
        self.sides.clear();
        let blocked: Vec<(usize, usize)> = self.blocked.iter().copied().collect();
        for (from, to) in blocked {
            self.unblock(from, to);
        }
        self.particular.clear();
    }

    /// Breaks a connection; both sides learn of it.
    pub fn drop_session(&mut self, a: usize, b: usize) {
        if let Some(id) = self.pairs.get(&pair(a, b)).copied() {
            self.hang_up(id, 0, "the connection broke");
            self.hang_up(id, 1, "the connection broke");
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self, a: usize, b: usize) -> bool {
        self.pairs.contains_key(&pair(a, b))
    }

    /// Who is at the other end of a session.
    pub fn sender(&self, session: SessionId) -> Option<usize> {
        let (id, side) = self.sessions.get(&session)?;
        Some(self.connections[id].ends[1 - side].node)
    }

    /// The nodes with which a node is connected.
    pub fn neighbours(&self, node: usize) -> Vec<usize> {
        let other = |id: u64| {
            let [a, b] = &self.connections[&id].ends;
            if a.node == node { b.node } else { a.node }
        };
        self.of(node).into_iter().map(other).collect()
    }

    /// The connections of a node.
    pub fn degree(&self, node: usize) -> usize {
        self.of(node).len()
    }

    /// When the next message arrives anywhere.
    pub fn next_at(&self) -> Option<u64> {
        self.arrivals.keys().next().map(|(at, _)| *at)
    }

    /// Moves the time. It never goes back.
    pub fn advance(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// Delivers what is due next; answers whose inbox has something new, if anybody's.
    pub fn deliver_next(&mut self) -> Option<usize> {
        let entry = self.arrivals.first_entry().filter(|entry| entry.key().0 <= self.now_us)?;
        let (id, side, event) = entry.remove();
        let connection = self.connections.get_mut(&id)?;
        let end = &mut connection.ends[side];
        let is_end = matches!(event, TransportEvent::Down { .. });
        let is_lost = end.is_deaf && !is_end && !matches!(event, TransportEvent::Up { .. });
        if !end.is_open || is_lost {
            return None;
        }
        let (node, other) = (end.node, connection.ends[1 - side].node);
        if !is_end && self.is_blocked(other, node) {
            let end = &mut self.connections.get_mut(&id).expect("it was there").ends[side];
            end.held_since_us.get_or_insert(self.now_us);
            end.held.push(event);
            return None;
        }
        if self.refuses(node, &event) {
            return None;
        }
        if is_end {
            self.end_side(id, side);
            self.untell(node, other);
        }
        self.stations[node].inbox.push_back(event);
        Some(node)
    }

    /// The number of events that wait for a node.
    pub fn waiting(&self, node: usize) -> usize {
        self.stations[node].inbox.len()
    }

    /// Takes up to `count` events that wait for a node.
    pub fn take(&mut self, node: usize, count: usize) -> Vec<TransportEvent> {
        let count = count.min(self.waiting(node));
        let taken: Vec<TransportEvent> = self.stations[node].inbox.drain(..count).collect();
        for event in &taken {
            match event {
                TransportEvent::Message { session, bytes } => self.taken(*session, bytes.len()),
                TransportEvent::Told { from, .. } => self.heard(node, *from),
                _ => {}
            }
        }
        taken
    }

    /// A message left the queue towards its session's owner: tell the sender if it waits for that.
    fn taken(&mut self, session: SessionId, bytes: usize) {
        let Some((id, side)) = self.sessions.get(&session).copied() else { return };
        let now_us = self.now_us;
        let connection = self.connections.get_mut(&id).expect("its session is known");
        let end = &mut connection.ends[side];
        end.queued = end.queued.saturating_sub(1);
        end.queued_bytes = end.queued_bytes.saturating_sub(bytes);
        let is_half_free = end.queued <= self.conditions.queue_max / 2;
        let sender = &mut connection.ends[1 - side];
        if sender.is_refused && is_half_free && sender.is_open {
            sender.is_refused = false;
            let event = TransportEvent::Drained { session: sender.session };
            self.schedule(now_us, (id, 1 - side, event));
        }
    }

    /// Dials whom a node wants to be connected with, and breaks connections of its that are held up too long.
    pub fn tend(&mut self, node: usize) {
        for id in self.of(node) {
            let is_stuck = |end: &End| end.held_since_us.is_some_and(|at| self.now_us > at + BROKEN_AFTER_US);
            if self.connections[&id].ends.iter().any(is_stuck) {
                self.tally.count("connections that timed out");
                self.hang_up(id, 0, "the peer does not answer");
                self.hang_up(id, 1, "the peer does not answer");
            }
        }
        let due = |(target, at): (&Target, &u64)| (*at <= self.now_us).then(|| target.clone());
        let due: Vec<Target> = self.stations[node].wishes.iter().filter_map(due).collect();
        for target in due {
            self.stations[node].wishes.insert(target.clone(), self.now_us + REDIAL_US);
            self.dial(node, &target);
        }
    }

    fn dial(&mut self, from: usize, target: &Target) {
        let found = target.addresses.iter().find_map(|address| self.addresses.get(address).copied());
        let Some(to) = found.filter(|to| *to != from) else { return };
        let station = &self.stations[to];
        let is_peer = target.peer.is_none_or(|peer| peer == station.peer);
        let is_blocked = self.is_blocked(from, to) || self.is_blocked(to, from);
        if !is_peer
            || !station.is_up
            || !self.stations[from].is_up
            || is_blocked
            || self.is_connected(from, to)
        {
            return;
        }
        self.made += 1;
        let id = self.made;
        let mut end = |node: usize| {
            self.made += 1;
            End::new(node, SessionId(self.made))
        };
        let ends = [end(from), end(to)];
        let is_dialer = [true, false];
        let ups: Vec<TransportEvent> = (0..2)
            .map(|side| {
                let Station { peer, address, .. } = &self.stations[ends[1 - side].node];
                let address = if is_dialer[side] { address.clone() } else { format!("ephemeral/{id}") };
                let (peer, session, is_dialer) = (*peer, ends[side].session, is_dialer[side]);
                TransportEvent::Up { peer, session, address, is_dialer }
            })
            .collect();
        for (side, end) in ends.iter().enumerate() {
            self.sessions.insert(end.session, (id, side));
        }
        self.pairs.insert(pair(from, to), id);
        for node in [from, to] {
            self.stations[node].connections.insert(id);
        }
        self.connections.insert(id, Connection { ends });
        for (side, up) in ups.into_iter().enumerate() {
            self.arrive(id, side, up);
        }
    }

    /// Puts an event on its way to one end, behind what is on its way there.
    fn arrive(&mut self, id: u64, side: usize, event: TransportEvent) {
        let delay = self.delay(id, side);
        let end = &mut self.connections.get_mut(&id).expect("the connection is there").ends[side];
        let at = end.last_at_us.max(self.now_us + delay);
        end.last_at_us = at;
        self.schedule(at, (id, side, event));
    }

    fn delay(&mut self, id: u64, side: usize) -> u64 {
        let ends = &self.connections[&id].ends;
        let route = (ends[1 - side].node, ends[side].node);
        let conditions = self.particular.get(&route).unwrap_or(&self.conditions);
        self.random.between(conditions.delay_us.0, conditions.delay_us.1)
    }

    fn schedule(&mut self, at_us: u64, arrival: Arrival) {
        self.made += 1;
        self.arrivals.insert((at_us, self.made), arrival);
    }

    /// Tells one end that its session is over. What is on its way there is lost.
    fn hang_up(&mut self, id: u64, side: usize, reason: &str) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.ends[side].is_open {
            let (session, reason) = (connection.ends[side].session, reason.to_owned());
            self.connections.get_mut(&id).expect("it was there").ends[side].is_deaf = true;
            self.arrive(id, side, TransportEvent::Down { session, reason });
        }
    }

    /// One end is told nothing any more; with the other one the connection goes.
    fn end_side(&mut self, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.ends[side].is_open = false;
        self.sessions.remove(&connection.ends[side].session);
        if connection.ends.iter().all(|end| !end.is_open) {
            let [a, b] = [connection.ends[0].node, connection.ends[1].node];
            self.connections.remove(&id);
            self.pairs.remove(&pair(a, b));
            for node in [a, b] {
                self.stations[node].connections.remove(&id);
            }
        }
    }

    /// The connections of which a node still hears.
    fn of(&self, node: usize) -> Vec<u64> {
        let is_open = |id: &u64| {
            let connection = &self.connections[id];
            connection.side_of(node).is_some_and(|side| connection.ends[side].is_open)
        };
        self.stations[node].connections.iter().copied().filter(is_open).collect()
    }

    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        let (id, side) = self.sessions.get(&session).copied().ok_or(SendError::NotUp)?;
        let to = 1 - side;
        let connection = self.connections.get_mut(&id).expect("its session is known");
        if !connection.ends[to].is_open {
            return Err(SendError::NotUp);
        }
        let route = (connection.ends[side].node, connection.ends[to].node);
        let conditions = self.particular.get(&route).unwrap_or(&self.conditions).clone();
        if connection.ends[to].queued >= conditions.queue_max {
            connection.ends[side].is_refused = true;
            self.tally.count("full queues");
            return Err(SendError::Full);
        }
        self.traffic.count(&message);
        let is_bare = rests_on_the_connection(&message);
        let Afflicted { arriving, is_damaged } =
            conditions.afflict(message, &mut self.random, &mut self.tally);
        if is_damaged && is_bare {
            self.break_over_damage(id);
            return Ok(());
        }
        let end = &mut connection.ends[to];
        end.queued += arriving.len();
        end.queued_bytes += arriving.iter().map(Vec::len).sum::<usize>();
        self.traffic.queued(end.queued, end.queued_bytes);
        let session = end.session;
        for bytes in arriving {
            let event = TransportEvent::Message { session, bytes };
            if self.random.chance(conditions.reordering) {
                self.tally.count("reordered messages");
                let delay = self.random.between(conditions.delay_us.0, 4 * conditions.delay_us.1 + 1_000);
                self.schedule(self.now_us + delay, (id, to, event));
            } else {
                self.arrive(id, to, event);
            }
        }
        Ok(())
    }

    fn close(&mut self, session: SessionId, reason: &str) {
        let Some((id, side)) = self.sessions.get(&session).copied() else { return };
        let ends = &self.connections[&id].ends;
        let (node, other) = (ends[side].node, ends[1 - side].node);
        self.end_side(id, side);
        self.untell(node, other);
        let reason = reason.to_owned();
        self.stations[node].inbox.push_back(TransportEvent::Down { session, reason: reason.clone() });
        // What was sent before the end still arrives.
        if let Some(connection) = self.connections.get(&id) {
            let session = connection.ends[1 - side].session;
            self.arrive(id, 1 - side, TransportEvent::Down { session, reason });
        }
    }
}

/// Two nodes in either order.
pub(crate) fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// A node's end of the network.
#[derive(Clone, Debug)]
pub struct Wire {
    pub(crate) node: usize,
    pub(crate) network: Rc<RefCell<Network>>,
}

impl Transport for Wire {
    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        self.network.borrow_mut().send(session, message)
    }

    fn close(&mut self, session: SessionId, reason: &str) {
        self.network.borrow_mut().close(session, reason);
    }

    fn connect(&mut self, target: Target) {
        let mut network = self.network.borrow_mut();
        let now_us = network.now_us;
        network.stations[self.node].wishes.entry(target).or_insert(now_us);
    }

    fn disconnect(&mut self, target: &Target) {
        self.network.borrow_mut().stations[self.node].wishes.remove(target);
    }

    fn tell(&mut self, to: PeerId, class: MessageClass, message: Vec<u8>) -> Result<(), Vec<u8>> {
        self.network.borrow_mut().tell(self.node, to, class, message)
    }

    fn talk_with(&mut self, peers: BTreeSet<PeerId>) {
        self.network.borrow_mut().talk_with(self.node, peers);
    }
}
