//! A world of anchors: real groups on simulated disks and a simulated network, in one thread, on a paused clock.
//!
//! One seed is one history: nothing here reads a clock, an unordered map or a random number that does not follow from
//! the seed. What must hold is checked with every output; see [`Facts`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{
    AnchorId, Change, Consensus, GroupId, LogIndex, Member, MessageClass, NotDone, Outcome, Output,
    RequestId, Role, Status,
};
use tidelock_raft_mode::{Group, Opening, Settings};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clients::{Clients, Told};
use crate::facts::Facts;
use crate::network::{Message, Network, Random};
use crate::node::{Node, peer_of};

/// The group of every world.
pub(crate) const GROUP: GroupId = GroupId(1);

/// How often anchors are polled at least: what is not urgent does not wake.
const POLL: Duration = Duration::from_millis(20);

/// How long a client waits for an answer.
const WITHIN: Duration = Duration::from_millis(1500);

/// The last events that a failure tells.
const LINES_MAX: usize = 60;

/// The newest messages that are remembered.
const HEARD_MAX: usize = 100;

/// The requests of stories begin here, those of clients at one.
const STORY: u64 = 1 << 40;

/// A world.
pub(crate) struct World {
    /// Its seed.
    pub(crate) seed: u64,
    /// What the anchors are.
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// What is between them.
    pub(crate) network: Network,
    /// Who asks them.
    pub(crate) clients: Clients,
    /// What holds.
    pub(crate) facts: Facts,
    /// The settings of anchors that are started.
    pub(crate) settings: Settings,
    /// Whose process is gone while its system answers: connections to it end, and it is not connected with.
    gone: BTreeSet<PeerId>,
    /// To break it on purpose: reads are served without waiting for a barrier.
    pub(crate) reads_stale: bool,
    /// The newest membership that anybody told of, and tells those that start.
    gossip: Option<(LogIndex, BTreeMap<AnchorId, Member>)>,
    random: Random,
    start: Instant,
    woken: Arc<Notify>,
    pub(crate) next_story: u64,
    pub(crate) told: BTreeMap<RequestId, Outcome>,
    pub(crate) barriers: BTreeMap<RequestId, Result<LogIndex, NotDone>>,
    pub(crate) administered: BTreeMap<RequestId, Option<Result<(), NotDone>>>,
    trace: u64,
    lines: VecDeque<String>,
    pub(crate) heard: VecDeque<(PeerId, Vec<u8>)>,
}

/// Plays a story in a world of its own, on a clock of its own.
pub(crate) fn play<F: Future<Output = World>>(seed: u64, story: impl FnOnce(World) -> F) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("it builds");
    runtime.block_on(async {
        let mut world = World::new(seed);
        world.network.delay_ms = (1, 8);
        let world = story(world).await;
        world.trace
    })
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            nodes: BTreeMap::new(),
            network: Network::default(),
            clients: Clients::default(),
            facts: Facts::default(),
            settings: Settings::local(),
            gone: BTreeSet::new(),
            reads_stale: false,
            gossip: None,
            random: Random(seed),
            start: Instant::now(),
            woken: Arc::new(Notify::new()),
            next_story: STORY,
            told: BTreeMap::new(),
            barriers: BTreeMap::new(),
            administered: BTreeMap::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            heard: VecDeque::new(),
        }
    }

    /// Some anchors from 1 on, running, of which the first founds a group of all.
    pub(crate) async fn founded(mut self, anchors: u64) -> Self {
        let members: BTreeMap<AnchorId, Member> =
            (1..=anchors).map(|id| (AnchorId(id), member(id))).collect();
        for anchor in 1..=anchors {
            self.gossip = Some((LogIndex(0), members.clone()));
            self.add(anchor);
        }
        assert_eq!(self.administer(1, Change::Found(members)).await, Some(Ok(())));
        self.elected().await;
        self
    }

    /// Adds an anchor with an empty disk and starts it.
    pub(crate) fn add(&mut self, anchor: u64) {
        self.nodes.insert(anchor, Node::new(anchor));
        self.start(anchor);
    }

    /// Starts an anchor on its disk.
    pub(crate) fn start(&mut self, anchor: u64) {
        let (seed, settings, woken) = (self.random.next(), self.settings.clone(), Arc::clone(&self.woken));
        let node = self.nodes.get_mut(&anchor).expect("it is there");
        let opening = Opening {
            group: GROUP,
            me: AnchorId(anchor),
            log: Arc::clone(&node.disk.log) as _,
            settings,
            seed,
            runtime: Handle::current(),
            wake: Box::new(move || woken.notify_one()),
        };
        let mut group = Group::open(opening).expect("the settings are valid");
        if let Some((index, members)) = self.gossip.clone() {
            group.introduce(index, members);
        }
        node.group = Some(group);
        self.gone.remove(&peer_of(anchor));
        self.note(&format!("{anchor} starts"));
    }

    /// The group of an anchor that runs.
    pub(crate) fn node(&mut self, anchor: u64) -> &mut Group {
        self.nodes.get_mut(&anchor).and_then(|node| node.group.as_mut()).expect("it runs")
    }

    /// Kills an anchor: a power cut takes what was not synced.
    pub(crate) fn crash(&mut self, anchor: u64) {
        self.end(anchor, true);
    }

    /// Kills the process of an anchor; what it wrote stays written.
    pub(crate) fn kill(&mut self, anchor: u64) {
        self.end(anchor, false);
        self.gone.insert(peer_of(anchor));
        self.nodes.values_mut().filter_map(|node| node.group.as_mut()).for_each(|group| {
            group.disconnected(peer_of(anchor));
        });
    }

    fn end(&mut self, anchor: u64, loses_unsynced: bool) {
        self.note(&format!("{anchor} ends, {loses_unsynced}"));
        let again_at = Instant::now() + Duration::from_millis(20);
        self.clients.crashed(anchor, again_at);
        self.network.ended(peer_of(anchor));
        self.nodes.get_mut(&anchor).expect("it is there").crash(loses_unsynced);
    }

    /// Lets nothing through between two anchors.
    pub(crate) fn cut(&mut self, a: u64, b: u64) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Lets nothing through in one direction.
    pub(crate) fn cut_one_way(&mut self, from: u64, to: u64) {
        self.note(&format!("cut {from} -> {to}"));
        self.network.cut_one_way(peer_of(from), peer_of(to));
    }

    /// Cuts an anchor off from all others.
    pub(crate) fn isolate(&mut self, anchor: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != anchor).collect();
        others.into_iter().for_each(|other| self.cut(anchor, other));
    }

    /// Lets everything through.
    pub(crate) fn heal(&mut self) {
        self.note("heal");
        self.network.heal();
    }

    /// A number below a bound, of the story's own.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// The anchors whose processes run.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.group.is_some()).map(|(anchor, _)| *anchor).collect()
    }

    /// Who leads: the anchor that says so in the highest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders =
            self.nodes.values().filter(|node| node.status.role == Role::Leader && node.group.is_some());
        leaders.max_by_key(|node| node.status.term).map(|node| node.anchor.0)
    }

    /// What an anchor last said of itself.
    pub(crate) fn status(&self, anchor: u64) -> &Status {
        &self.nodes[&anchor].status
    }

    pub(crate) fn note(&mut self, line: &str) {
        let at = self.start.elapsed().as_millis();
        for byte in at.to_be_bytes().iter().chain(line.as_bytes()) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{at} ms: {line}"));
        if std::env::var_os("TELL").is_some() {
            println!("{at} ms: {line}");
        }
    }

    /// Lets time pass.
    pub(crate) async fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step(until).await;
            self.check();
        }
    }

    /// Lets some milliseconds pass.
    pub(crate) async fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms)).await;
    }

    /// Lets time pass until something holds, or fails.
    pub(crate) async fn until(&mut self, what: &str, limit: Duration, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + limit;
        while !holds(self) {
            if Instant::now() >= until {
                self.fail(&format!("not within {limit:?}: {what}"));
            }
            self.step(until).await;
            self.check();
        }
    }

    /// Lets time pass until there is a leader that a majority follows.
    pub(crate) async fn elected(&mut self) -> u64 {
        self.until("a leader that commits", Duration::from_secs(15), |world| {
            world.leader().is_some_and(|leader| {
                let status = world.status(leader);
                let is_alone = status.membership.voters.iter().all(|voters| voters.len() == 1);
                let is_followed = is_alone || status.quorum_ack_age.is_some();
                is_followed && status.committed.is_some() && status.applied == status.last
            })
        })
        .await;
        self.leader().expect("there is one")
    }

    fn check(&mut self) {
        if let Some(broken) = self.facts.broken.take() {
            self.fail(&broken);
        }
    }

    /// Fails with what happened last and how to play it again.
    pub(crate) fn fail(&self, what: &str) -> ! {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let states: Vec<String> = self
            .nodes
            .values()
            .map(|node| format!("{}: {:?} {:?}", node.anchor, node.status, node.stopped))
            .collect();
        panic!(
            "{what}\n{}\n{}\nreplay: SEED={} cargo test -p tidelock-raft-mode --test raft -- --exact <this test>",
            lines.join("\n"),
            states.join("\n"),
            self.seed
        );
    }

    async fn step(&mut self, until: Instant) {
        let now = Instant::now();
        self.deliver(now);
        self.syncs(now);
        self.ask(now);
        while self.turns() {}
        let syncs = self.nodes.values().filter_map(Node::sync_done_at);
        let next = syncs.chain(self.network.next_at()).chain(self.clients.next_at()).min();
        let until = until.min(now + POLL);
        let next = next.map_or(until, |next| next.min(until));
        if next > now {
            tokio::select! {
                biased;
                () = self.woken.notified() => (),
                () = tokio::time::sleep_until(next) => (),
            }
        }
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(Message { from, to, bytes, .. }) = self.network.take(now) {
            if self.heard.len() >= HEARD_MAX {
                self.heard.pop_front();
            }
            self.heard.push_back((to, bytes.clone()));
            let to = self.nodes.values_mut().find(|node| node.peer == to);
            if let Some(group) = to.and_then(|node| node.group.as_mut()) {
                group.received(from, &bytes);
            }
        }
    }

    fn syncs(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            if node.sync_done_at().is_some_and(|at| at <= now) {
                node.end_sync();
                self.facts.votes(node);
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        while let Some(client) = self.clients.take_due(now) {
            let running = self.running();
            let Some(anchor) =
                running.get(usize::try_from(self.random.below(running.len() as u64)).unwrap_or(0))
            else {
                self.clients.wait(client, now + Duration::from_millis(50));
                continue;
            };
            let anchor = *anchor;
            let (id, operation) = self.clients.ask(client, anchor, &mut self.random);
            match operation {
                Some(operation) => self.node(anchor).propose(id, operation.command(), WITHIN),
                None if self.reads_stale => self.read(anchor, id),
                None => self.node(anchor).barrier(id, WITHIN),
            }
        }
    }

    /// Carries out one poll of every anchor that is not waiting for its disk. Whether there was anything.
    fn turns(&mut self) -> bool {
        let mut was_busy = false;
        let anchors: Vec<u64> = self.nodes.keys().copied().collect();
        for anchor in anchors {
            let node = self.nodes.get_mut(&anchor).expect("it is there");
            if node.sync_done_at().is_some() {
                continue;
            }
            let Some(group) = &mut node.group else { continue };
            let outputs = group.poll();
            was_busy |= !outputs.is_empty();
            outputs.into_iter().for_each(|output| self.carry_out(anchor, output));
            let Self { nodes, random, .. } = self;
            let node = nodes.get_mut(&anchor).expect("it is there");
            node.begin_sync(|ms| Instant::now() + random.time(ms));
        }
        was_busy
    }

    fn carry_out(&mut self, anchor: u64, output: Output) {
        let node = self.nodes.get_mut(&anchor).expect("it is there");
        match output {
            Output::Write { token, writes } => node.write(token, writes),
            Output::Apply { token, entries, record } => {
                self.facts.applying(node, &entries);
                node.apply(token, entries, record);
                self.facts.applied(node);
            }
            Output::Send { to, bytes, .. } if self.gone.contains(&to) => {
                node.group.as_mut().expect("it runs").untold(&bytes);
            }
            Output::Send { to, class, mut bytes } => {
                // The piece itself is what a message ends with. The question what is missing has none, and is short.
                let is_piece = class == MessageClass::Snapshot && bytes.len() > 1_000;
                if let Some(last) = bytes.last_mut().filter(|_| is_piece && self.network.damages > 0) {
                    self.network.damages -= 1;
                    *last ^= 1;
                }
                let message = Message { from: node.peer, to, bytes, is_doubled: false };
                self.network.send(Instant::now(), &mut self.random, message);
            }
            Output::BuildSnapshot { token, applied } => {
                self.facts.snapshot(node, applied);
                let snapshot = node.snapshot();
                node.group.as_mut().expect("it runs").snapshot_built(token, Ok(snapshot));
                self.note(&format!("{anchor} builds a snapshot"));
            }
            Output::InstallSnapshot { token, bytes, record } => {
                node.install(token, &bytes, record);
                self.facts.applied(node);
                self.note(&format!("{anchor} installs a snapshot"));
            }
            Output::Status(status) => {
                self.facts.status(node, &status);
                if let Some(index) = status.membership_index
                    && self.gossip.as_ref().is_none_or(|(known, _)| *known < index)
                {
                    self.gossip = Some((index, status.membership.members.clone()));
                }
                let line = (status.term, status.leader, status.role)
                    != (node.status.term, node.status.leader, node.status.role);
                node.status = status;
                if line {
                    let status = &node.status;
                    let line =
                        format!("{anchor} is {:?} of {:?} in {}", status.role, status.leader, status.term);
                    self.note(&line);
                }
            }
            Output::Stopped { reason } => {
                self.note(&format!("{anchor} stops: {reason}"));
                self.nodes.get_mut(&anchor).expect("it is there").stopped = Some(reason);
            }
            Output::Proposed { id, outcome } => self.proposed(anchor, id, outcome),
            Output::Barrier { id, result } => self.barrier_told(anchor, id, result),
            Output::Administered { id, result } => {
                self.note(&format!("{anchor}: {result:?}"));
                self.administered.insert(id, result);
            }
        }
    }

    fn again_at(&mut self) -> Instant {
        Instant::now() + self.random.time((1, 30))
    }

    fn proposed(&mut self, anchor: u64, id: RequestId, outcome: Outcome) {
        self.note(&format!("{anchor} answers {}: {outcome:?}", id.0));
        if let Outcome::Done { index, .. } = &outcome {
            self.facts.acknowledged(&self.nodes, *index);
        }
        if id.0 >= STORY {
            self.told.insert(id, outcome);
            return;
        }
        let again_at = self.again_at();
        self.clients.proposed(id, &outcome, again_at);
    }

    fn barrier_told(&mut self, anchor: u64, id: RequestId, result: Result<LogIndex, NotDone>) {
        if id.0 >= STORY {
            self.barriers.insert(id, result);
            return;
        }
        let again_at = self.again_at();
        if let Told::Read = self.clients.barrier(id, &result, again_at) {
            self.read(anchor, id);
        }
    }

    fn read(&mut self, anchor: u64, id: RequestId) {
        let again_at = self.again_at();
        let Some(cell) = self.clients.cell(id) else { return };
        let value = self.nodes[&anchor].machine.cells.get(&cell).copied().unwrap_or(0);
        self.note(&format!("{anchor} reads {value} for {}", id.0));
        self.clients.read(id, value, again_at);
    }
}

/// An anchor as a member.
pub(crate) fn member(anchor: u64) -> Member {
    Member { peer: peer_of(anchor), addresses: vec![format!("/memory/{anchor}")] }
}
