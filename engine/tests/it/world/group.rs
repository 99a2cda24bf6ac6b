//! Anchors and guests around one log that a test holds: it says which entries stand in it, and how far each anchor has
//! applied them. What peers send each other arrives when the test says so.
//!
//! The log stands for the group that agrees on it. Whatever is proposed stands in it at once, unless the test keeps it.

mod mishaps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidelock_engine::command::{Command, encode_entry};
use tidelock_engine::frame::{Frame, SigningKey};
use tidelock_engine::id::ReplicaId;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::message::Message;
use tidelock_engine::mode::Standing;
use tidelock_engine::ports::{
    AnchorId, Committed, CommittedPayload, Conditional, Durability, Log, LogIndex, LogPosition, LogRecord,
    Member, Membership, NotDone, Outcome, RequestId as GroupRequestId, Role, SessionId, Status, Store, Term,
    Token, TransportEvent,
};
use tidelock_engine::replica::{
    Ask, Heard, Input, Limits, ModeReport, Now, Order, OrderReply, Replica, ReplicaConfig, Replicate,
    Retention, Terms,
};
use tidelock_engine::request::{Action, Atomicity, Request, RequestId, RequestReply};
use tidelock_engine::turn::Driver;

use super::by_hand::{Kept, card, key};
use super::{NOTES, START_MS, cluster, keyspace_id, named};

/// A node of the group's cluster.
pub(crate) struct Node {
    key: SigningKey,
    driver: Option<Driver<MemStore, Kept>>,
    anchor: Option<AnchorId>,
    /// The next entry that it applies.
    next: usize,
    news: VecDeque<Heard>,
    proposed: BTreeMap<usize, GroupRequestId>,
    barriers: Vec<(usize, GroupRequestId)>,
    snapshot: Option<Vec<u8>>,
    pub(crate) replies: BTreeMap<RequestId, RequestReply>,
    pub(crate) orders: BTreeMap<RequestId, OrderReply>,
}

/// The cluster.
pub(crate) struct Group {
    pub(crate) nodes: Vec<Node>,
    anchors: usize,
    /// The log: who proposed each entry, and the entry.
    pub(crate) log: Vec<Vec<u8>>,
    leader: usize,
    ms: u64,
    tokens: u64,
    requests: u64,
    /// Pairs of nodes that do not hear each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// What is proposed is certainly not appended.
    pub(crate) has_no_leader: bool,
    /// What comes to an anchor in the turn in which its group says something.
    pub(crate) beside: Vec<Input>,
}

impl Group {
    /// So many anchors, the first of which leads, and so many guests; all know each other.
    pub(crate) fn new(anchors: usize, guests: usize) -> Self {
        let node = |index: usize| {
            let seed = u8::try_from(index + 1).expect("few");
            Node {
                key: key(seed),
                driver: None,
                anchor: (index < anchors).then_some(AnchorId(index as u64)),
                next: 0,
                news: VecDeque::new(),
                proposed: BTreeMap::new(),
                barriers: Vec::new(),
                snapshot: None,
                replies: BTreeMap::new(),
                orders: BTreeMap::new(),
            }
        };
        let mut group = Self {
            nodes: (0..anchors + guests).map(node).collect(),
            anchors,
            log: Vec::new(),
            leader: 0,
            ms: 0,
            tokens: 0,
            requests: 0,
            cut: BTreeSet::new(),
            has_no_leader: false,
            beside: Vec::new(),
        };
        for index in 0..anchors + guests {
            let store = MemStore::new(cluster(), card(u8::try_from(index + 1).expect("few")));
            group.start(index, store);
        }
        (0..anchors + guests).for_each(|index| group.greet(index));
        // The leader says by which key the group is known.
        group.settle(1);
        group
    }

    fn start(&mut self, index: usize, store: MemStore) {
        let config = ReplicaConfig {
            key: self.nodes[index].key.clone(),
            cluster: cluster(),
            replicate: Replicate::All,
            retention: Retention::default(),
            limits: Limits::default(),
            conditional: Conditional::default(),
            anchors_target: 3,
        };
        let replica = Replica::new(config, &store.recovered());
        let applied = store.raft_log().state().expect("memory").applied;
        let node = &mut self.nodes[index];
        node.next =
            applied.map_or(0, |bytes| usize::from(u16::from_be_bytes(bytes.try_into().expect("two"))));
        node.driver = Some(Driver::new(replica, store, Kept::default()));
        (node.proposed, node.barriers, node.news) = Default::default();
        if let Some(anchor) = node.anchor {
            self.turn(index, vec![Input::Consensus(Heard::Anchor(anchor))]);
            self.tell_status(index);
        }
    }

    fn tell_status(&mut self, index: usize) {
        let member = |index: usize| {
            let peer = self.nodes[index].key.peer();
            (AnchorId(index as u64), Member { peer, addresses: Vec::new() })
        };
        let members: BTreeMap<AnchorId, Member> = (0..self.anchors).map(member).collect();
        let status = Status {
            term: Term(1),
            leader: Some(AnchorId(self.leader as u64)),
            role: if index == self.leader { Role::Leader } else { Role::Follower },
            membership: Membership { voters: vec![members.keys().copied().collect()], members },
            ..Status::default()
        };
        self.turn(index, vec![Input::Consensus(Heard::Status(status))]);
    }

    /// Another anchor leads.
    pub(crate) fn lead(&mut self, index: usize) {
        self.leader = index;
        (0..self.anchors).for_each(|index| self.tell_status(index));
    }

    fn greet(&mut self, index: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            let up = |peer, session| TransportEvent::Up {
                peer,
                session,
                address: "hand".to_owned(),
                is_dialer: false,
            };
            let peer = self.nodes[other].key.peer();
            self.turn(index, vec![Input::Network(up(peer, SessionId(other as u64)))]);
        }
    }

    /// A node begins again from what its store has.
    pub(crate) fn restart(&mut self, index: usize) {
        let (store, _) = self.nodes[index].driver.take().expect("it runs").into_parts();
        self.start(index, store);
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.meet(other, index);
        }
        self.greet(index);
    }

    /// One turn of a node, and what the group makes of what it asks for.
    pub(crate) fn turn(&mut self, index: usize, inputs: Vec<Input>) {
        let now = Now {
            unix_ms: START_MS + self.ms,
            mono_ms: self.ms,
            entropy: (self.ms + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        let outcome = self.nodes[index].driver.as_mut().expect("it runs").turn(now, inputs);
        let node = &mut self.nodes[index];
        node.replies.extend(outcome.replies);
        node.orders.extend(outcome.orders);
        for ask in outcome.asks {
            match ask {
                Ask::Propose { id, .. } if self.has_no_leader => {
                    let outcome = Outcome::Not(NotDone::NoLeader);
                    node.news.push_back(Heard::Proposed { id, outcome });
                }
                Ask::Propose { id, entry, .. } => {
                    node.proposed.insert(self.log.len(), id);
                    self.log.push(entry);
                }
                Ask::Barrier { id, .. } if self.has_no_leader => {
                    node.news.push_back(Heard::Barrier { id, result: Err(NotDone::NoLeader) });
                }
                Ask::Barrier { id, .. } => node.barriers.push((self.log.len(), id)),
                Ask::Applied { result, .. } => {
                    let replies = result.expect("memory can be read");
                    for (place, reply) in (node.next..).zip(replies) {
                        if let Some(id) = node.proposed.remove(&place) {
                            let index = LogIndex(place as u64);
                            node.news
                                .push_back(Heard::Proposed { id, outcome: Outcome::Done { index, reply } });
                        }
                        node.next = place + 1;
                    }
                }
                Ask::SnapshotBuilt { bytes, .. } => node.snapshot = Some(bytes),
                Ask::Installed { result, .. } => result.expect("another anchor built it"),
                Ask::Written { .. }
                | Ask::Open(_)
                | Ask::Close
                | Ask::Introduce { .. }
                | Ask::Administer { .. } => {
                    unreachable!("the test keeps the log and says who is an anchor")
                }
            }
        }
    }

    /// An anchor applies up to so many more entries in one turn, and hears what became of what it had proposed.
    pub(crate) fn apply(&mut self, index: usize, count: usize) {
        self.execute(index, count);
        self.hear(index);
    }

    /// An anchor applies up to so many more entries in one turn.
    pub(crate) fn execute(&mut self, index: usize, count: usize) {
        let next = self.nodes[index].next;
        let until = self.log.len().min(next + count);
        if until > next && self.nodes[index].anchor.is_some() {
            let committed = |place: usize| Committed {
                index: LogIndex(place as u64),
                term: Term(1),
                payload: CommittedPayload::Command(self.log[place].clone()),
            };
            let entries: Vec<Committed> = (next..until).map(committed).collect();
            self.tokens += 1;
            let record = u16::try_from(until).expect("few").to_be_bytes().to_vec();
            let heard = Heard::Apply { token: Token(self.tokens), entries, record };
            self.turn(index, vec![Input::Consensus(heard)]);
        }
    }

    /// An anchor hears of its proposals and barriers.
    pub(crate) fn hear(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let ready = node.barriers.extract_if(.., |(place, _)| *place <= node.next);
        let index_read = LogIndex((node.next as u64).saturating_sub(1));
        node.news.extend(ready.map(|(_, id)| Heard::Barrier { id, result: Ok(index_read) }));
        while let Some(heard) = self.nodes[index].news.pop_front() {
            let mut inputs = std::mem::take(&mut self.beside);
            inputs.push(Input::Consensus(heard));
            self.turn(index, inputs);
        }
    }

    /// A snapshot of an anchor, as it is now.
    pub(crate) fn snapshot(&mut self, index: usize) -> Vec<u8> {
        let applied = self.nodes[index].next.checked_sub(1).map(|last| LogIndex(last as u64));
        self.turn(index, vec![Input::Consensus(Heard::BuildSnapshot { token: Token(1), applied })]);
        self.nodes[index].snapshot.take().expect("it was built")
    }

    /// An anchor takes over a snapshot of another in place of the entries that it has not applied.
    pub(crate) fn skip_by_snapshot(&mut self, from: usize, to: usize) {
        let bytes = self.snapshot(from);
        self.nodes[to].next = self.nodes[from].next;
        let record = u16::try_from(self.nodes[to].next).expect("few").to_be_bytes().to_vec();
        let heard = Heard::InstallSnapshot { token: Token(2), bytes, record };
        self.turn(to, vec![Input::Consensus(heard)]);
    }

    /// Delivers what nodes have said, and what they say to that.
    pub(crate) fn deliver(&mut self) {
        for _ in 0..100 {
            let mut is_quiet = true;
            for from in 0..self.nodes.len() {
                let driver = self.nodes[from].driver.as_mut().expect("it runs");
                // What entries have done is not on disk at once, and nobody is told of it before.
                driver.sync().expect("memory takes everything");
                for (session, message) in std::mem::take(&mut driver.transport().sent) {
                    let to = usize::try_from(session.0).expect("few");
                    if !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from)) {
                        is_quiet = false;
                        self.say(from, to, &message);
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("the nodes do not come to rest");
    }

    /// A node says something to another.
    pub(crate) fn say(&mut self, from: usize, to: usize, message: &Message) {
        let (session, bytes) = (SessionId(from as u64), message.encode());
        self.turn(to, vec![Input::Network(TransportEvent::Message { session, bytes })]);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.ms += ms;
        (0..self.nodes.len()).for_each(|index| self.turn(index, vec![Input::Tick]));
    }

    /// Everybody does what there is to do, for so many tenths of a second.
    pub(crate) fn settle(&mut self, tenths: usize) {
        for _ in 0..tenths {
            self.deliver();
            (0..self.anchors).for_each(|index| self.apply(index, usize::MAX / 2));
            self.deliver();
            self.pass(100);
        }
        self.deliver();
    }

    /// An operator orders, at a node, that the keyspace of the tests be strong.
    pub(crate) fn order_strong(&mut self, index: usize) -> RequestId {
        self.order(index, Order::MakeStrong)
    }

    /// An operator orders something of the keyspace of the tests at a node.
    pub(crate) fn order(&mut self, index: usize, order: Order) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.turn(index, vec![Input::Order(id, named(NOTES), order)]);
        id
    }

    /// A group whose keyspace is strong.
    pub(crate) fn strong(anchors: usize, guests: usize) -> Self {
        let mut group = Self::new(anchors, guests);
        let order = group.order_strong(0);
        group.settle(10);
        group.nodes[0].orders.remove(&order).expect("it was answered").expect("it was made");
        group
    }

    /// A write in a keyspace that is eventual.
    pub(crate) fn elsewhere(&mut self) -> (RequestId, Input) {
        self.elsewhere_as(Durability::Durable)
    }

    /// The same, as durable as that.
    pub(crate) fn elsewhere_as(&mut self, durability: Durability) -> (RequestId, Input) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request {
            keyspace: named("elsewhere"),
            actions: super::replies::write(super::words::set("k", "v")),
            atomicity: Atomicity::Each,
            durability,
        };
        (id, Input::Request(id, request))
    }

    /// A client asks a node for several things that do not belong together.
    pub(crate) fn ask_each(&mut self, index: usize, actions: Vec<Action>, terms: Terms) -> RequestId {
        self.ask_so(index, actions, Atomicity::Each, terms)
    }

    /// A client asks a node for something.
    pub(crate) fn ask(&mut self, index: usize, actions: Vec<Action>, terms: Terms) -> RequestId {
        self.ask_so(index, actions, Atomicity::AllOrNothing, terms)
    }

    fn ask_so(
        &mut self,
        index: usize,
        actions: Vec<Action>,
        atomicity: Atomicity,
        terms: Terms,
    ) -> RequestId {
        let (id, request) = self.request(actions, atomicity, terms);
        self.turn(index, vec![request]);
        id
    }

    /// Something that a client asks for.
    pub(crate) fn request(
        &mut self,
        actions: Vec<Action>,
        atomicity: Atomicity,
        terms: Terms,
    ) -> (RequestId, Input) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request { keyspace: named(NOTES), actions, atomicity, durability: Durability::Durable };
        (id, Input::RequestOn(id, request, terms))
    }

    /// The same, and the answer once all have done what there is to do.
    pub(crate) fn asked(&mut self, index: usize, actions: Vec<Action>) -> RequestReply {
        let id = self.ask(index, actions, Terms::default());
        self.settle(2);
        self.reply(index, id).expect("it is answered")
    }

    /// What a client was answered, if it was.
    pub(crate) fn reply(&mut self, index: usize, id: RequestId) -> Option<RequestReply> {
        self.nodes[index].replies.remove(&id)
    }

    /// Two entries change places, both proposed by one node.
    pub(crate) fn swap(&mut self, index: usize, (a, b): (usize, usize)) {
        self.log.swap(a, b);
        let proposed = &mut self.nodes[index].proposed;
        let (of_a, of_b) = (proposed.remove(&a), proposed.remove(&b));
        proposed.extend(of_a.map(|id| (b, id)).into_iter().chain(of_b.map(|id| (a, id))));
    }

    /// Puts an entry into the log.
    pub(crate) fn append(&mut self, commands: &[Command]) {
        self.log.push(encode_entry(commands));
    }

    /// The frames of a node's log, in its commit order.
    pub(crate) fn frames(&self, index: usize) -> Vec<Frame> {
        let store = self.driver(index).store();
        let records = store.records_from(LogPosition(1), usize::MAX).expect("memory");
        let frames = records.iter().filter_map(LogRecord::frame);
        frames.map(|bytes| Frame::decode(bytes).expect("it was committed")).collect()
    }

    /// The bytes of the strong frames of a node, signatures included.
    pub(crate) fn strong_frames(&self, index: usize) -> Vec<Vec<u8>> {
        let frames = self.frames(index).into_iter();
        frames.filter(|frame| frame.header().epoch.0 == 1).map(|frame| frame.bytes().to_vec()).collect()
    }

    pub(crate) fn driver(&self, index: usize) -> &Driver<MemStore, Kept> {
        self.nodes[index].driver.as_ref().expect("it runs")
    }

    pub(crate) fn replica(&self, index: usize) -> &Replica {
        self.driver(index).replica()
    }

    pub(crate) fn id_of(&self, index: usize) -> ReplicaId {
        self.replica(index).id()
    }

    pub(crate) fn now(&self) -> Now {
        Now { unix_ms: START_MS + self.ms, mono_ms: self.ms, entropy: 0 }
    }

    /// The state of the keyspace on a node.
    pub(crate) fn fingerprint(&self, index: usize) -> String {
        let reports = self.replica(index).report().keyspaces;
        let notes = reports.into_iter().find(|report| report.id == keyspace_id(NOTES));
        notes.map(|report| report.fingerprint).unwrap_or_default()
    }

    /// The mode of the keyspace on a node.
    pub(crate) fn mode(&self, index: usize) -> Option<ModeReport> {
        let reports = self.replica(index).report().keyspaces;
        reports.into_iter().find(|report| report.id == keyspace_id(NOTES)).and_then(|report| report.mode)
    }

    pub(crate) fn is_exact(&self, index: usize) -> bool {
        self.mode(index).is_some_and(|mode| mode.standing == Some(Standing::Exact))
    }
}
