//! A replica: all that a node knows, and its one step.
//!
//! The step is pure: time, randomness and bytes come in with the input, rows and frames are read through the
//! view, and all that is to be written, sent or answered goes out as a value. Whoever drives it commits before
//! it sends and sends before it replies; [`crate::turn`] is that driver.

mod counters;
mod early;
mod evidence;
mod expiry;
mod fork;
mod housekeeping;
mod incoming;
mod keyspace;
mod local;
mod orders;
mod retention;
mod retirement;
mod status;
mod strong;

use std::collections::{BTreeMap, BTreeSet};

pub use self::counters::Counters;
pub use self::early::{EARLY_BYTES_MAX, EARLY_FRAMES_MAX};
pub use self::evidence::{EVIDENCE_BYTES_MAX, EVIDENCE_MAX, Evidence};
pub(crate) use self::expiry::Deadlines;
pub(crate) use self::orders::Orders;
pub use self::orders::{Order, OrderError, OrderReply};
pub use self::retention::{Kept, LogReport, Retention};
pub use self::status::{KeyspaceReport, LinkReport, ModeReport, Report};
pub use self::strong::{
    AnchorError, AnchorOrder, AnchorReply, AnchorReport, Ask, CommandReply, Freshness, GroupReport, Heard,
    Label, OtherGroup, Terms,
};
pub use crate::gossip::Repair;

use self::early::EarlyFrames;
pub(crate) use self::keyspace::Keyspace;
use self::strong::Waiter;
use crate::causality::{Clock, Hlc};
use crate::draft::{Changes, Draft};
use crate::evaluation::AnswerBudget;
use crate::frame::{Frame, SigningKey};
use crate::gossip::{Holdings, Link, Membership, Sources};
use crate::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use crate::install::Install;
use crate::message::Message;
use crate::ports::{
    Address, Conditional, Durability, Fork, Log, LogPosition, RaftWrite, Recovered, SessionId, Settings,
    Target, TransportEvent,
};
use crate::request::{Request, RequestId, RequestReply};
use crate::staged::Staged;

/// The moment of a step, and randomness for its choices. The engine has no clock and no dice of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in Unix milliseconds. It may jump.
    pub unix_ms: u64,
    /// A clock that only moves forward, in milliseconds since any fixed moment.
    pub mono_ms: u64,
    /// Fresh random bits.
    pub entropy: u64,
}

/// What happens to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client asks for something.
    Request(RequestId, Request),
    /// The same, and on what terms, if the keyspace is strong.
    RequestOn(RequestId, Request, Terms),
    /// The group of anchors has news.
    Consensus(Heard),
    /// A client wants to know how many peers have this replica's writes in a keyspace on disk. Answered by
    /// [`Step::confirmations`] as they come in, until [`Input::Forget`].
    Confirm(RequestId, KeyspaceName),
    /// The operator orders something of a keyspace. Answered by [`Step::orders`], now or in a later turn.
    Order(RequestId, KeyspaceName, Order),
    /// The operator orders something of the group of anchors. Answered by [`Step::governed`].
    Govern(RequestId, AnchorOrder),
    /// Nobody waits for these confirmations any more.
    Forget(RequestId),
    /// The network has news.
    Network(TransportEvent),
    /// A message could not be queued: the session's peer is slow.
    Congested(SessionId),
    /// The node listens on these addresses.
    Listening(Vec<Address>),
    /// The operator names a peer to keep connected with.
    Connect(Target),
    /// Time passes; at least every 100 ms while there are peers.
    Tick,
}

/// What a step reads, and the rows that the turn has changed so far.
pub struct View<'a, 'b> {
    /// The rows, with the turn's earlier changes.
    pub draft: &'a mut Draft<'b>,
    /// The committed frames.
    pub log: &'a dyn Log,
}

impl std::fmt::Debug for View<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("draft", &self.draft).finish_non_exhaustive()
    }
}

/// What a step wants done, in this order: committed, then sent, then answered.
#[derive(Debug, Default)]
pub struct Step {
    /// Keyspaces that are new here.
    pub keyspaces: Vec<KeyspaceName>,
    /// What is remembered of keyspaces from now on.
    pub settings: Vec<(KeyspaceName, Settings)>,
    /// What is remembered of the modes of keyspaces from now on.
    pub modes: Vec<(KeyspaceName, Vec<u8>)>,
    /// Which anchor this node is from now on.
    pub anchor: Option<Vec<u8>>,
    /// What is written to the log of the anchors, in order.
    pub raft: Vec<RaftWrite>,
    /// How far the log of the anchors is applied from now on.
    pub raft_applied: Option<Vec<u8>>,
    /// What the group of anchors is to be told or asked for, after the commit.
    pub asks: Vec<Ask>,
    /// What reads saw that were not linearizable.
    pub labels: Vec<(RequestId, Label)>,
    /// Cards of authors that are new here.
    pub cards: Vec<AuthorCard>,
    /// Frames that were made or applied.
    pub frames: Vec<Frame>,
    /// State that was taken over, each with the number of frames of this step before it.
    pub installs: Vec<(usize, Install)>,
    /// State that is to wait in the log.
    pub staged: Vec<Staged>,
    /// Up to where records of the log are needed no more.
    pub truncate: Option<LogPosition>,
    /// What has a deadline up to this moment has expired.
    pub expiry: Option<Hlc>,
    /// The highest durability that a request of this step asked for.
    pub durability: Option<Durability>,
    /// Messages.
    pub sends: Vec<(SessionId, Message)>,
    /// Sessions to end once their messages are sent, with the reason.
    pub closes: Vec<(SessionId, String)>,
    /// Whom to keep connected with from now on.
    pub connects: Vec<Target>,
    /// With whom no longer.
    pub disconnects: Vec<Target>,
    /// Answers to requests.
    pub replies: Vec<(RequestId, RequestReply)>,
    /// How many peers have confirmed so far.
    pub confirmations: Vec<(RequestId, usize)>,
    /// How orders ended.
    pub orders: Vec<(RequestId, OrderReply)>,
    /// How orders of the group of anchors ended.
    pub governed: Vec<(RequestId, AnchorReply)>,
}

impl Step {
    /// Adds what a later step wants done.
    pub fn absorb(&mut self, later: Self) {
        self.keyspaces.extend(later.keyspaces);
        self.settings.extend(later.settings);
        // The newest mode of a keyspace comes last, and stands.
        self.modes.extend(later.modes);
        self.anchor = later.anchor.or(self.anchor.take());
        self.raft.extend(later.raft);
        self.raft_applied = later.raft_applied.or(self.raft_applied.take());
        self.asks.extend(later.asks);
        self.labels.extend(later.labels);
        self.cards.extend(later.cards);
        let before = self.frames.len();
        self.installs.extend(later.installs.into_iter().map(|(number, install)| (before + number, install)));
        self.frames.extend(later.frames);
        self.staged.extend(later.staged);
        self.expiry = later.expiry.or(self.expiry);
        self.truncate = self.truncate.max(later.truncate);
        self.durability = self.durability.max(later.durability);
        self.sends.extend(later.sends);
        self.closes.extend(later.closes);
        self.connects.extend(later.connects);
        self.disconnects.extend(later.disconnects);
        self.replies.extend(later.replies);
        self.confirmations.extend(later.confirmations);
        self.orders.extend(later.orders);
        self.governed.extend(later.governed);
    }
}

/// Which keyspaces a node replicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Replicate {
    /// Every one that it hears of.
    #[default]
    All,
    /// Only these.
    Only(BTreeSet<KeyspaceName>),
}

/// What a node takes in at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What keyspaces may hold, in bytes; others may hold anything. It bounds what is written here, never what comes
    /// from peers.
    pub quotas: BTreeMap<KeyspaceName, u64>,
    /// Keyspaces that peers name are taken in while there are fewer than so many; the operator may have more.
    /// Default 1,024.
    pub keyspaces_max: usize,
    /// State that is taken over waits in memory up to so many bytes, and becomes the state of a keyspace in one
    /// commit. Beyond, it waits in the log, and the keyspace is not to be read while it is taken from there.
    /// Default 64 MiB.
    pub staged_bytes: usize,
}

impl Limits {
    /// What [`Limits::staged_bytes`] should be.
    pub const STAGED_BYTES: usize = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { quotas: BTreeMap::new(), keyspaces_max: 1_024, staged_bytes: Self::STAGED_BYTES }
    }
}

/// Who a replica is and what it takes part in.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The node's secret key.
    pub key: SigningKey,
    /// The node's cluster.
    pub cluster: ClusterId,
    /// The keyspaces it replicates.
    pub replicate: Replicate,
    /// How long it keeps its log.
    pub retention: Retention,
    /// What it takes in at most.
    pub limits: Limits,
    /// What it does with decisions where the operator has said nothing of a keyspace.
    pub conditional: Conditional,
    /// How many anchors there are to be if it leads them: an odd number. With 0 it never becomes one itself.
    pub anchors_target: usize,
}

/// All that a node knows.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    peer: PeerId,
    card: AuthorCard,
    id: ReplicaId,
    clock: Clock,
    expiry: expiry::Expiry,
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    early: EarlyFrames,
    answers: AnswerBudget,
    /// The cards of authors whose frames were applied since the start.
    cards: BTreeMap<ReplicaId, AuthorCard>,
    /// Frames of this turn that peers have not heard of, with the session that each came in.
    pub(crate) fresh: Vec<(Frame, Option<SessionId>)>,
    /// The keyspaces whose heads changed in this turn.
    touched: BTreeSet<KeyspaceId>,
    pub(crate) links: BTreeMap<SessionId, Link>,
    pub(crate) membership: Membership,
    pub(crate) holdings: Holdings,
    pub(crate) sources: Sources,
    pub(crate) orders: Orders,
    strong: strong::Strong,
    /// Messages of transfers that came behind a change of the same turn.
    pub(crate) postponed: Vec<(SessionId, Message)>,
    looks: retention::Looks,
    pub(crate) counters: Counters,
    evidence: Vec<Evidence>,
    /// Peers that did not get past the hello, and why.
    pub(crate) refusals: BTreeMap<PeerId, String>,
    confirms: BTreeMap<RequestId, local::Confirming>,
    /// The monotonic clock, as of the last step.
    pub(crate) mono_ms: u64,
    /// Set when a commit failed: nothing is written or sent any more.
    failed: Option<String>,
    /// Set when our own replica has two histories: nothing is written any more.
    fork: Option<Fork>,
    /// Set when our own replica was retired, with a keyspace that says so and who did: nothing is written any more.
    retired_by: Option<(KeyspaceId, ReplicaId)>,
}

impl Replica {
    /// A replica that goes on from what its store recovered.
    pub fn new(config: ReplicaConfig, recovered: &Recovered) -> Self {
        let keyspaces = recovered
            .keyspaces
            .iter()
            .map(|(name, state)| {
                let id = KeyspaceId::of(config.cluster, name);
                (id, Keyspace::new(name.clone(), state, recovered.card.replica()))
            })
            .collect();
        let settings = recovered.settings.iter();
        let settings = settings.map(|(name, of)| (KeyspaceId::of(config.cluster, name), name.clone(), *of));
        let (strong, failed) = strong::Strong::recover(recovered, config.cluster);
        let cards = strong.cards().chain([recovered.card]).map(|card| (card.replica(), card)).collect();
        Self {
            peer: config.key.peer(),
            strong,
            orders: Orders::new(settings),
            card: recovered.card,
            id: recovered.card.replica(),
            clock: Clock::starting_at(recovered.clock),
            expiry: expiry::Expiry::since(recovered.expiry),
            keyspaces,
            early: EarlyFrames::default(),
            answers: AnswerBudget::default(),
            cards,
            fresh: Vec::new(),
            touched: BTreeSet::new(),
            links: BTreeMap::new(),
            membership: Membership::new(config.key.peer()),
            holdings: Holdings::default(),
            sources: Sources::default(),
            postponed: Vec::new(),
            looks: retention::Looks::default(),
            counters: Counters::default(),
            evidence: Vec::new(),
            refusals: BTreeMap::new(),
            confirms: BTreeMap::new(),
            mono_ms: 0,
            failed,
            fork: recovered.fork,
            retired_by: None,
            config,
        }
    }

    /// Who this node is to its peers.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whose operations this node mints.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The id of a keyspace in this cluster.
    pub fn id_of(&self, name: &KeyspaceName) -> KeyspaceId {
        KeyspaceId::of(self.config.cluster, name)
    }

    /// The clock, as of the last step.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Begins a turn, with what had to wait for it.
    pub fn begin(&mut self, now: Now, view: &mut View<'_, '_>) -> Step {
        let mut step = Step::default();
        self.mono_ms = now.mono_ms;
        self.begin_strong(view);
        if self.failed.is_some() {
            self.refuse_leaving(&mut step);
        } else {
            self.tick_leaving(&mut step);
            self.resume_transfers(now, view, &mut step);
            self.expire(now, view, &mut step);
        }
        self.learn_retirements(view);
        step
    }

    /// Whether the heads of a keyspace changed in this turn.
    pub(crate) fn is_touched(&self, id: KeyspaceId) -> bool {
        self.touched.contains(&id)
    }

    /// Takes in one input.
    pub fn step(&mut self, now: Now, input: Input, view: &mut View<'_, '_>) -> Step {
        let mut step = Step::default();
        self.mono_ms = now.mono_ms;
        match input {
            Input::Request(id, request) => {
                let asked = (request, Terms::default());
                self.take_request(now, Waiter::Client(id), asked, view, &mut step);
            }
            Input::RequestOn(id, request, terms) => {
                self.take_request(now, Waiter::Client(id), (request, terms), view, &mut step);
            }
            Input::Consensus(heard) => self.heard(now, heard, view, &mut step),
            Input::Order(id, keyspace, order) => {
                self.order(now, id, (&keyspace, order), view, &mut step);
            }
            Input::Govern(id, order) => self.govern(now, id, order, &mut step),
            Input::Confirm(id, keyspace) => self.confirm(id, &keyspace, &mut step),
            Input::Forget(id) => drop(self.confirms.remove(&id)),
            Input::Network(event) if self.failed.is_none() => self.network(now, event, view, &mut step),
            Input::Congested(session) => self.congested(session),
            Input::Listening(addresses) => self.membership.listen(addresses),
            Input::Connect(target) => self.membership.add_seed(target, &mut step),
            Input::Tick if self.failed.is_none() => self.tick(now, view, &mut step),
            // Whoever comes now is met when writes are taken again.
            Input::Network(TransportEvent::Up { session, .. }) => {
                step.closes.push((session, "the store takes no writes".to_owned()));
            }
            Input::Network(_) | Input::Tick => {}
        }
        step
    }

    /// Ends a turn: seals the frames in the making, and tells peers what is fresh.
    pub fn finish(&mut self, view: &mut View<'_, '_>) -> Step {
        let mut step = Step::default();
        self.answers.begin_turn();
        let open: Vec<KeyspaceId> = self
            .keyspaces
            .iter()
            .filter(|(_, keyspace)| keyspace.open.is_some())
            .map(|(id, _)| *id)
            .collect();
        for keyspace in open {
            self.seal(keyspace, &mut step);
        }
        self.finish_strong(view, &mut step);
        if self.failed.is_none() {
            self.broadcast(view.log, &mut step);
        }
        step
    }

    /// Takes in that a turn was committed, with what it changed.
    pub fn committed(&mut self, changes: &Changes) {
        self.index_changes(changes);
        self.note_deadlines(changes);
        self.orders.committed();
        for (id, delta) in &changes.deltas {
            if let Some(keyspace) = self.keyspaces.get_mut(id) {
                keyspace.fingerprint = keyspace.fingerprint.plus(delta.fingerprint);
            }
        }
        for id in std::mem::take(&mut self.touched) {
            if let Some(keyspace) = self.keyspaces.get_mut(&id) {
                keyspace.remember();
            }
        }
    }

    /// Takes in that a turn could not be committed. What was drafted is void, and the store takes no more
    /// writes: the replica lets go of its peers and refuses writes until it is opened again, or
    /// [goes on](crate::turn::Driver::go_on).
    pub fn commit_failed(&mut self, reason: &str) -> Step {
        let mut step = Step::default();
        self.failed = Some(reason.to_owned());
        self.fresh.clear();
        self.keyspaces.values_mut().for_each(|keyspace| keyspace.open = None);
        for session in std::mem::take(&mut self.links).into_keys() {
            step.closes.push((session, "the store failed".to_owned()));
        }
        step
    }

    /// Goes on from what the store holds, which got over the failure of a commit. What does not follow from the
    /// store stays; peers are met anew.
    pub(crate) fn go_on(&mut self, recovered: &Recovered) {
        let before = std::mem::replace(self, Self::new(self.config.clone(), recovered));
        self.membership = before.membership;
        self.evidence = before.evidence;
        self.refusals = before.refusals;
        self.counters = before.counters;
        self.mono_ms = before.mono_ms;
        self.counters.count("failures_got_over");
    }

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.get(&id)
    }

    pub(crate) fn keyspace_mut(&mut self, id: KeyspaceId) -> Option<&mut Keyspace> {
        self.keyspaces.get_mut(&id)
    }

    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Keyspace)> {
        self.keyspaces.iter().map(|(id, keyspace)| (*id, keyspace))
    }

    pub(crate) fn card(&self) -> AuthorCard {
        self.card
    }

    pub(crate) fn card_cached(&self, author: ReplicaId) -> Option<AuthorCard> {
        self.cards.get(&author).copied()
    }

    fn tick(&mut self, now: Now, view: &mut View<'_, '_>, step: &mut Step) {
        if !self.must_rejoin() {
            self.close_spent(now, view, step);
        }
        self.tick_confirms(now, step);
        self.tick_requests(step);
        self.tick_anchors(now, step);
        self.tick_making(now, step);
        self.tick_sweeps(now, view, step);
        self.tick_links(now, step);
        self.tick_membership(now, step);
        self.tick_holdings(step);
        self.tick_retention(now, view, step);
        self.tick_transfers(step);
    }

    pub(crate) fn config(&self) -> &ReplicaConfig {
        &self.config
    }
}
