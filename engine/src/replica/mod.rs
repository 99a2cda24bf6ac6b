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
mod step;
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
pub use self::step::{Basis, Input, Now, Step, View};
pub use self::strong::{
    AnchorError, AnchorOrder, AnchorReply, AnchorReport, Ask, CommandReply, Freshness, GroupReport, Heard,
    Label, OtherGroup, Terms,
};
pub use crate::gossip::Repair;

use self::early::EarlyFrames;
pub(crate) use self::keyspace::Keyspace;
use self::strong::Waiter;
use crate::causality::Clock;
use crate::draft::Changes;
use crate::evaluation::AnswerBudget;
use crate::frame::{Frame, SigningKey};
use crate::gossip::{Holdings, Link, Membership, Sources};
use crate::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use crate::message::Message;
use crate::ports::{Conditional, Fork, Recovered, SessionId, TransportEvent};
use crate::request::RequestId;

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
        let (mut strong, failed) = strong::Strong::recover(recovered, config.cluster);
        let partial = recovered.keyspaces.iter().filter(|(_, state)| state.is_partial);
        partial.for_each(|(name, _)| strong.lose_rows(KeyspaceId::of(config.cluster, name)));
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
            Input::Tick => self.tick_requests(&mut step),
            Input::Network(_) => {}
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
        self.strong.requests.forwarded_are_lost();
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
        self.strong.go_on(before.strong);
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
