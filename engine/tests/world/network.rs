//! A network in memory that does what a test says: connections come and go, messages are slow, peers stall.
//!
//! It keeps the promises of the transport port and no others: messages of a session arrive in order or not at
//! all, a session that ended never comes back, a full queue says so and says when it is drained.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, SendError, SessionId, Target, Transport, TransportEvent};

use super::random::Random;

/// Dials are repeated after so many milliseconds.
const REDIAL_MS: u64 = 250;

/// One side of a connection.
#[derive(Debug)]
struct End {
    node: usize,
    session: SessionId,
    /// What is on its way to this side, and when it arrives.
    inbox: VecDeque<(u64, TransportEvent)>,
    /// Whether this side was told that the queue towards the other one is full.
    is_full: bool,
}

#[derive(Debug)]
struct Connection {
    ends: [End; 2],
    is_over: bool,
}

#[derive(Debug)]
struct Station {
    peer: PeerId,
    address: String,
    is_up: bool,
    wishes: BTreeMap<Target, u64>,
}

/// The network between all nodes of a world.
#[derive(Debug)]
pub(crate) struct Network {
    stations: Vec<Station>,
    connections: Vec<Connection>,
    cut: BTreeSet<(usize, usize)>,
    stalled: BTreeSet<(usize, usize)>,
    sessions: u64,
    random: Random,
    now_ms: u64,
    /// The fastest and the slowest that a message may be.
    pub(crate) latency_ms_min: usize,
    pub(crate) latency_ms_max: usize,
    /// The messages that a queue holds before it is full.
    pub(crate) queue_max: usize,
    /// The messages and bytes that were queued, by variant and in total.
    pub(crate) sent: BTreeMap<&'static str, usize>,
    pub(crate) bytes_sent: usize,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            stations: Vec::new(),
            connections: Vec::new(),
            cut: BTreeSet::new(),
            stalled: BTreeSet::new(),
            sessions: 0,
            random: Random::new(seed),
            now_ms: 0,
            latency_ms_min: 0,
            latency_ms_max: 20,
            queue_max: 10_000,
            sent: BTreeMap::new(),
            bytes_sent: 0,
        }
    }

    pub(crate) fn add_station(&mut self, peer: PeerId, address: String) {
        self.stations.push(Station { peer, address, is_up: true, wishes: BTreeMap::new() });
    }

    /// Ends all connections of a node; it is dialled again once it is up.
    pub(crate) fn set_up(&mut self, node: usize, is_up: bool) {
        self.stations[node].is_up = is_up;
        self.stations[node].wishes.clear();
        self.drop_where(|a, b| a == node || b == node, Some(node));
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert(pair(a, b));
        self.drop_session(a, b);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.stalled.clear();
    }

    pub(crate) fn drop_session(&mut self, a: usize, b: usize) {
        self.drop_where(|x, y| pair(x, y) == pair(a, b), None);
    }

    /// Nothing that `from` sends arrives at `to` until the network is healed or unstalled.
    pub(crate) fn stall(&mut self, from: usize, to: usize) {
        self.stalled.insert((from, to));
    }

    pub(crate) fn unstall(&mut self, from: usize, to: usize) {
        self.stalled.remove(&(from, to));
    }

    /// Moves the time, and dials whom somebody wants to be connected with.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.connections.retain(|connection| {
            let is_empty = connection.ends.iter().all(|end| end.inbox.is_empty());
            !(connection.is_over && is_empty)
        });
        for node in 0..self.stations.len() {
            let due: Vec<Target> = self.stations[node]
                .wishes
                .iter()
                .filter(|(_, at)| **at <= now_ms)
                .map(|(target, _)| target.clone())
                .collect();
            for target in due {
                self.stations[node].wishes.insert(target.clone(), now_ms + REDIAL_MS);
                if self.stations[node].is_up {
                    self.dial(node, &target);
                }
            }
        }
    }

    fn dial(&mut self, from: usize, target: &Target) {
        let answers = |station: &Station| {
            let is_peer = target.peer.is_none_or(|peer| peer == station.peer);
            is_peer && target.addresses.contains(&station.address) && station.is_up
        };
        let Some(to) = self.stations.iter().position(answers) else { return };
        if to == from || self.cut.contains(&pair(from, to)) || self.is_connected(from, to) {
            return;
        }
        let mut end = |node: usize, other: usize, is_dialer: bool| {
            self.sessions += 1;
            let session = SessionId(self.sessions);
            let Station { peer, address, .. } = &self.stations[other];
            let address = if is_dialer { address.clone() } else { format!("ephemeral/{}", self.sessions) };
            let up = TransportEvent::Up { peer: *peer, session, address, is_dialer };
            End { node, session, inbox: VecDeque::from([(self.now_ms, up)]), is_full: false }
        };
        let ends = [end(from, to, true), end(to, from, false)];
        self.connections.push(Connection { ends, is_over: false });
    }

    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        let live = self.connections.iter().filter(|connection| !connection.is_over);
        live.into_iter()
            .any(|connection| pair(connection.ends[0].node, connection.ends[1].node) == pair(a, b))
    }

    /// The peers that a node has sessions with.
    pub(crate) fn degree(&self, node: usize) -> usize {
        let live = self.connections.iter().filter(|connection| !connection.is_over);
        live.filter(|connection| connection.ends.iter().any(|end| end.node == node)).count()
    }

    /// The nodes that have news waiting.
    pub(crate) fn ready(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self
            .connections
            .iter()
            .flat_map(|connection| {
                let [a, b] = &connection.ends;
                [(a, b), (b, a)].into_iter().filter(|(end, other)| self.is_ready(end, other))
            })
            .map(|(end, _)| end.node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn is_ready(&self, end: &End, other: &End) -> bool {
        let is_stalled = self.stalled.contains(&(other.node, end.node));
        let first = end.inbox.front();
        first.is_some_and(|(at, event)| {
            *at <= self.now_ms && !(is_stalled && matches!(event, TransportEvent::Message { .. }))
        })
    }

    /// Takes up to `count` events for a node, each from a connection at random.
    pub(crate) fn take(&mut self, node: usize, count: usize) -> Vec<TransportEvent> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let ready: Vec<(usize, usize)> = (0..self.connections.len())
                .flat_map(|index| [(index, 0), (index, 1)])
                .filter(|(index, side)| {
                    let ends = &self.connections[*index].ends;
                    ends[*side].node == node && self.is_ready(&ends[*side], &ends[1 - *side])
                })
                .collect();
            if ready.is_empty() {
                break;
            }
            let (index, side) = *self.random.pick(&ready);
            let (_, event) = self.connections[index].ends[side].inbox.pop_front().expect("it is ready");
            self.drained(index, side);
            taken.push(event);
        }
        taken
    }

    /// The queue towards `side` got shorter: tell the other side if it waits for that.
    fn drained(&mut self, index: usize, side: usize) {
        let Connection { ends, is_over } = &mut self.connections[index];
        let is_half_free = ends[side].inbox.len() <= self.queue_max / 2;
        let sender = &mut ends[1 - side];
        if sender.is_full && is_half_free && !*is_over {
            sender.is_full = false;
            let at = sender.inbox.back().map_or(self.now_ms, |(at, _)| *at);
            sender.inbox.push_back((at, TransportEvent::Drained { session: sender.session }));
        }
    }

    fn drop_where(&mut self, matches: impl Fn(usize, usize) -> bool, silent: Option<usize>) {
        let now_ms = self.now_ms;
        for Connection { ends, is_over } in &mut self.connections {
            if *is_over || !matches(ends[0].node, ends[1].node) {
                continue;
            }
            *is_over = true;
            for end in ends {
                // A session whose beginning was not told yet has no end to be told of.
                let was_told = !end.inbox.iter().any(|(_, event)| matches!(event, TransportEvent::Up { .. }));
                end.inbox.clear();
                if was_told && Some(end.node) != silent {
                    let reason = "the connection broke".to_owned();
                    end.inbox.push_back((now_ms, TransportEvent::Down { session: end.session, reason }));
                }
            }
        }
    }

    fn find(&mut self, node: usize, session: SessionId) -> Option<(&mut Connection, usize)> {
        self.connections.iter_mut().filter(|connection| !connection.is_over).find_map(|connection| {
            let side = connection.ends.iter().position(|end| end.node == node && end.session == session)?;
            Some((connection, side))
        })
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// A node's end of the network.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) node: usize,
    pub(crate) network: Rc<RefCell<Network>>,
}

impl Transport for Wire {
    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError> {
        let mut network = self.network.borrow_mut();
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        let (now_ms, queue_max, fastest) = (network.now_ms, network.queue_max, network.latency_ms_min);
        let spread = network.latency_ms_max - fastest;
        let delay = (fastest + network.random.below(spread + 1)) as u64;
        let (name, length) = (super::message_name(&message), message.len());
        let (connection, side) = network.find(self.node, session).ok_or(SendError::NotUp)?;
        if connection.ends[1 - side].inbox.len() >= queue_max {
            connection.ends[side].is_full = true;
            return Err(SendError::Full);
        }
        let other = &mut connection.ends[1 - side];
        let at = other.inbox.back().map_or(0, |(at, _)| *at).max(now_ms + delay);
        other.inbox.push_back((at, TransportEvent::Message { session: other.session, bytes: message }));
        *network.sent.entry(name).or_default() += 1;
        network.bytes_sent += length;
        Ok(())
    }

    fn close(&mut self, session: SessionId, reason: &str) {
        let mut network = self.network.borrow_mut();
        let now_ms = network.now_ms;
        let Some((connection, side)) = network.find(self.node, session) else { return };
        connection.is_over = true;
        connection.ends[side].inbox.clear();
        for end in &mut connection.ends {
            let at = end.inbox.back().map_or(now_ms, |(at, _)| *at);
            let down = TransportEvent::Down { session: end.session, reason: reason.to_owned() };
            end.inbox.push_back((at, down));
        }
    }

    fn connect(&mut self, target: Target) {
        let mut network = self.network.borrow_mut();
        let now_ms = network.now_ms;
        network.stations[self.node].wishes.entry(target).or_insert(now_ms);
    }

    fn disconnect(&mut self, target: &Target) {
        self.network.borrow_mut().stations[self.node].wishes.remove(target);
    }
}
