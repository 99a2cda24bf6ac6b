//! Three anchors in processes of their own, written through their Redis ports while they are killed, stopped, wiped and
//! restarted. Nothing acknowledged is lost, nothing is done twice, and every history is linearizable.

mod history;
mod roaming;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use self::history::History;
use crate::processes::{Node, Options, PROGRAM, eventually};

/// The clients that ask at once.
const CLIENTS: u64 = 6;

/// What is answered between two faults, at least.
const BETWEEN: usize = 300;

/// A member of the group, as a node lists it.
pub(crate) struct Seat {
    pub(crate) anchor: String,
    pub(crate) peer: String,
    pub(crate) votes: bool,
    pub(crate) leads: bool,
}

/// The group, as a node knows it.
pub(crate) fn seats(node: &mut Node) -> Vec<Seat> {
    let list = node.command(&["TIDE.ANCHOR", "LIST"]);
    let words: Vec<&str> = list.split(['[', ']', ' ']).filter(|word| !word.is_empty()).collect();
    let places = words.iter().enumerate().filter(|(_, word)| **word == "anchor").map(|(place, _)| place);
    let field = |place: usize, name: &str| {
        let after = words[place..].iter().skip_while(|word| **word != name);
        after.clone().nth(1).copied().unwrap_or_default().to_owned()
    };
    places
        .map(|place| Seat {
            anchor: field(place, "anchor"),
            peer: field(place, "peer"),
            votes: field(place, "votes") == "1",
            leads: field(place, "leads") == "1",
        })
        .collect()
}

struct Anchors {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
    /// Where clients connect; a node that is replaced is another address.
    ports: Arc<Mutex<Vec<String>>>,
    started: usize,
}

impl Anchors {
    /// Three anchors, all of which vote, and a keyspace that is strong.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut anchors = Self { nodes: Vec::new(), folder, ports: Arc::default(), started: 0 };
        (0..3).for_each(|_| anchors.join());
        anchors.all_vote();
        assert_eq!(anchors.nodes[0].command(&["TIDE.MODE", "default", "STRONG"]), "OK");
        for node in &mut anchors.nodes {
            eventually("all know that it is strong", || {
                node.command(&["TIDE.MODE", "default"]).contains("strong")
            });
        }
        anchors
    }

    /// Starts one more node, which the leader invites as long as fewer than three vote.
    fn join(&mut self) {
        let mut options = Options::default();
        match self.nodes.first() {
            Some(first) => options.peers = first.listen().to_vec(),
            None => options.arguments.push("--found".to_owned()),
        }
        let data = self.folder.path().join(format!("node-{}", self.started));
        self.started += 1;
        self.nodes.push(Node::start(PROGRAM, &data, options));
        self.publish();
    }

    /// Tells the clients where the nodes are.
    fn publish(&self) {
        let ports = self.nodes.iter().map(|node| node.redis().to_owned()).collect();
        *self.ports.lock().expect("no client panics with it") = ports;
    }

    /// Waits until these nodes and no others vote, as all of them know.
    fn all_vote(&mut self) {
        let peers: BTreeSet<String> = self.nodes.iter().map(|node| node.peer().to_owned()).collect();
        for node in &mut self.nodes {
            eventually("all vote, and nobody else", || {
                let seats = seats(node);
                seats.iter().all(|seat| seat.votes)
                    && seats.iter().map(|seat| seat.peer.clone()).collect::<BTreeSet<_>>() == peers
            });
        }
    }

    /// The place of the node that leads, once all agree on it.
    fn leader(&mut self) -> usize {
        let mut leader = None;
        eventually("all know the same leader", || {
            let told: BTreeSet<Option<String>> = self
                .nodes
                .iter_mut()
                .map(|node| seats(node).into_iter().find(|seat| seat.leads).map(|seat| seat.peer))
                .collect();
            leader = told.first().cloned().flatten().filter(|_| told.len() == 1);
            leader.is_some()
        });
        self.nodes.iter().position(|node| Some(node.peer()) == leader.as_deref()).expect("it is one of them")
    }

    /// Plays faults under load, and judges what the clients saw.
    fn under_load(&mut self, faults: impl FnOnce(&mut Self, &History)) {
        let history = History::new();
        let stop = AtomicBool::new(false);
        let ports = Arc::clone(&self.ports);
        thread::scope(|scope| {
            for seed in 0..CLIENTS {
                let (history, ports, stop) = (&history, &ports, &stop);
                scope.spawn(move || history.ask_until(seed, ports, stop));
            }
            faults(self, &history);
            stop.store(true, Ordering::Relaxed);
        });
        for node in &self.nodes {
            history.read_all(node.redis());
        }
        history.judge();
    }
}

/// The leader dies again and again; the others go on.
#[test]
fn killed_leaders_lose_nothing() {
    Anchors::start().under_load(|anchors, history| {
        for _ in 0..3 {
            answered(history, BETWEEN);
            let leader = anchors.leader();
            anchors.nodes[leader].kill();
            answered(history, BETWEEN);
            anchors.nodes[leader].restart();
            anchors.publish();
        }
    });
}

/// A leader that is stopped does not know that others elect another one; when it goes on, it serves nothing that is old.
#[test]
fn stopped_leader_serves_nothing_old() {
    Anchors::start().under_load(|anchors, history| {
        for _ in 0..2 {
            answered(history, BETWEEN);
            let leader = anchors.leader();
            anchors.nodes[leader].signal("STOP");
            // The clients of the stopped one wait; the others go on once there is another leader.
            answered(history, BETWEEN);
            anchors.nodes[leader].signal("CONT");
        }
        answered(history, BETWEEN);
    });
}

/// All restart, one after the other, as for a new version.
#[test]
fn rolling_restart_loses_nothing() {
    Anchors::start().under_load(|anchors, history| {
        for place in 0..3 {
            answered(history, BETWEEN);
            assert_eq!(anchors.nodes[place].terminate(), Some(0));
            anchors.nodes[place].restart();
            anchors.publish();
        }
        answered(history, BETWEEN);
    });
}

/// A follower loses its disk for good, and another node takes its place.
#[test]
fn wiped_follower_is_replaced() {
    Anchors::start().under_load(|anchors, history| {
        answered(history, BETWEEN);
        let leader = anchors.leader();
        let lost = if leader == 2 { 1 } else { 2 };
        let peer = anchors.nodes[lost].peer().to_owned();
        anchors.nodes.remove(lost);
        anchors.publish();
        answered(history, BETWEEN);
        anchors.join();
        let gone =
            seats(&mut anchors.nodes[0]).into_iter().find(|seat| seat.peer == peer).expect("it was one");
        // It is refused as long as nobody is there to take the place.
        eventually("the one that is gone is replaced", || {
            anchors.nodes[0].command(&["TIDE.ANCHOR", "REMOVE", &gone.anchor]) == "OK"
        });
        anchors.all_vote();
        answered(history, BETWEEN);
    });
}

/// Waits until so much more was answered.
fn answered(history: &History, more: usize) {
    let before = history.answered();
    eventually("clients are answered", || history.answered() >= before + more);
}
