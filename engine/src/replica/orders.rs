//! What the operator orders while the node runs: to join a keyspace, to leave one, and how much one may hold.
//!
//! Leaving loses nothing. A node that is to leave takes no more writes there, holds still, and asks its neighbours
//! to *vouch*: to say what they have on disk. It goes when one of them has all that it has. Who is leaving itself
//! vouches for nobody, so two that leave at once do not rely on each other. Without a voucher the node stays, unless
//! it is forced.
//!
//! What was left is dropped, and how far this replica had written is remembered. When it joins again, it takes over
//! the state from a peer that has all of that, so that its next operation follows its last. Where nobody vouched, its
//! last operations may be lost, and then it has to go on under another name.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::causality::{Dot, VersionVector};
use crate::id::{KeyspaceId, KeyspaceName};
use crate::message::{HEADS_MAX, KEYSPACES_MAX, Message, WantEntry};
use crate::mode::Mode;
use crate::ports::{Choice, Conditional, Durability, NotDone, SessionId, Settings, Written};
use crate::replica::{AnchorError, Now, Replica, Replicate, Step, View};
use crate::request::RequestId;

/// How long a node that is to leave waits for a peer that vouches, in milliseconds.
const VOUCHED_WITHIN_MS: u64 = 10_000;

/// How often its neighbours are asked, in milliseconds.
const VOUCH_AGAIN_MS: u64 = 1_000;

/// What the operator orders of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Replicate it from now on.
    Join,
    /// Replicate it no more, and drop what is here of it.
    Leave {
        /// Whether to do so although nobody vouches.
        is_forced: bool,
    },
    /// From now on it may hold so many bytes on this node, [`u64::MAX`] for any number; none for what the node was
    /// started with.
    Quota(Option<u64>),
    /// From now on its decisions are refused, or made by what this node sees; none for what the node was started with.
    Conditional(Option<Conditional>),
    /// Make it strong. It must hold nothing.
    MakeStrong,
}

/// Why an order was not carried out. But for [`OrderError::Commit`], nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OrderError {
    /// No peer has everything.
    #[error(
        "no connected peer has confirmed to hold all of keyspace {keyspace}, so nothing was changed; of what this \
         node wrote there {operations} operations are not known to be anywhere else. Connect to a peer that \
         replicates it, or force it and lose what nobody else has"
    )]
    Unconfirmed {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Of this replica's own operations, those that no peer is known to have.
        operations: u64,
    },
    /// Its state is being taken over from a peer.
    #[error(
        "keyspace {0} is being fetched from a peer, so nobody knows what would be lost, and nothing was changed; \
         wait until it is complete, or force it"
    )]
    Loading(KeyspaceName),
    /// It was left, or is being left, and what was in it is not gone yet.
    #[error("keyspace {0} is still being dropped on this node; try again in a moment")]
    Dropping(KeyspaceName),
    /// This replica's last operations may be lost, so that it cannot go on behind them; another one can.
    #[error("keyspace {0} was left by force; the node joins it again as another replica")]
    NeedsReplica(KeyspaceName),
    /// The node holds, or remembers, as many keyspaces as it can.
    #[error("this node holds or remembers {0} keyspaces, which is the most it can")]
    TooManyKeyspaces(usize),
    /// The node takes no writes since an earlier one failed.
    #[error("{0}")]
    ReadOnly(String),
    /// Only anchors can change the mode of a keyspace, and none is known.
    #[error(
        "this node knows of no anchor in the cluster, and only anchors can change the mode of a keyspace"
    )]
    NoAnchor,
    /// The keyspace is not among those that this node replicates.
    #[error("keyspace {0} is not replicated on this node")]
    NotReplicated(KeyspaceName),
    /// It holds data, or held some once.
    #[error(
        "keyspace {0} has been written in, and switching a keyspace that holds data is not possible yet; it is \
         eventual as before"
    )]
    HoldsData(KeyspaceName),
    /// It is strong, and this node is one of the anchors that hold it.
    #[error(
        "keyspace {0} is strong, and this node is an anchor, which holds every strong keyspace; nothing was changed. \
         Remove it from the anchors first"
    )]
    HeldByAnchor(KeyspaceName),
    /// The anchors have too much to do, or too few of them came to where the new mode was to begin; retryable.
    #[error("{0}; the keyspace is as it was, try again in a moment")]
    NotNow(String),
    /// The anchors have no leader that a majority follows, as far as is known here; retryable once they have.
    #[error("{0}; the keyspace is as it was")]
    NoLeader(String),
    /// The anchors do not do it, and will not as long as things are as they are.
    #[error("{0}; the keyspace is as it was")]
    Refused(String),
    /// Nobody knows yet how it ends.
    #[error("the anchors did not finish in time; the keyspace may become strong yet")]
    Unfinished,
    /// The store did not take the change, or nobody knows whether it did: it shows after a restart.
    #[error("{0}")]
    Commit(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

impl From<AnchorError> for OrderError {
    fn from(error: AnchorError) -> Self {
        match error {
            AnchorError::Unknown => Self::Unfinished,
            AnchorError::Commit(reason) => Self::Commit(reason),
            AnchorError::Closed => Self::Closed,
            AnchorError::HoldsData(keyspace) => Self::HoldsData(keyspace),
            AnchorError::Not(NotDone::NoLeader | NotDone::NotLeader { .. }) => {
                Self::NoLeader(error.to_string())
            }
            AnchorError::GivenUp(_) | AnchorError::Not(NotDone::Busy | NotDone::Stopped) => {
                Self::NotNow(error.to_string())
            }
            AnchorError::Founded(_) | AnchorError::Not(_) => Self::Refused(error.to_string()),
        }
    }
}

/// How an order ended.
pub type OrderReply = Result<(), OrderError>;

/// What has become of the operator's orders.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// What is remembered of keyspaces.
    settings: BTreeMap<KeyspaceId, (KeyspaceName, Settings)>,
    leaving: BTreeMap<KeyspaceId, Leaving>,
    /// The keyspaces that were left in this turn; the store knows of it when it was committed.
    left: Vec<KeyspaceId>,
    /// The attempts to leave so far, so that an answer to an earlier one counts for nothing.
    attempts: u64,
}

/// A keyspace that is to be left.
#[derive(Debug)]
struct Leaving {
    requests: Vec<RequestId>,
    is_forced: bool,
    attempt: u64,
    since_ms: u64,
    asked_ms: Option<u64>,
    /// What the neighbours say to have on disk.
    vouched: BTreeMap<SessionId, VersionVector>,
}

impl Orders {
    pub(crate) fn new(settings: impl Iterator<Item = (KeyspaceId, KeyspaceName, Settings)>) -> Self {
        let settings = settings.map(|(id, name, settings)| (id, (name, settings))).collect();
        Self { settings, ..Self::default() }
    }

    pub(crate) fn choice(&self, id: KeyspaceId) -> Option<Choice> {
        self.settings.get(&id).and_then(|(_, settings)| settings.choice)
    }

    pub(crate) fn settings(&self, id: KeyspaceId) -> Settings {
        self.settings.get(&id).map(|(_, settings)| *settings).unwrap_or_default()
    }

    pub(crate) fn is_leaving(&self, id: KeyspaceId) -> bool {
        self.leaving.contains_key(&id)
    }

    /// The names that were chosen in one way.
    pub(crate) fn chosen(&self, choice: Choice) -> impl Iterator<Item = (KeyspaceId, &KeyspaceName)> {
        let is_so = move |(_, (_, settings)): &(_, &(_, Settings))| settings.choice == Some(choice);
        self.settings.iter().filter(is_so).map(|(id, (name, _))| (*id, name))
    }

    /// A turn was committed.
    pub(crate) fn committed(&mut self) {
        self.left.clear();
    }

    /// A neighbour vouches for nothing any more.
    pub(crate) fn forget_voucher(&mut self, session: SessionId, id: Option<KeyspaceId>) {
        let of = self.leaving.iter_mut().filter(|(of, _)| id.is_none_or(|id| id == **of));
        of.for_each(|(_, leaving)| drop(leaving.vouched.remove(&session)));
    }
}

impl Replica {
    /// Takes in an order. Leaving is answered by a later turn.
    pub(super) fn order(
        &mut self,
        now: Now,
        request: RequestId,
        (name, order): (&KeyspaceName, Order),
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let reply = match order {
            _ if self.failed.is_some() => {
                Some(Err(OrderError::ReadOnly(self.failed.clone().unwrap_or_default())))
            }
            Order::Join => Some(self.join(name, view, step)),
            Order::Quota(quota_bytes) => {
                let settings = self.orders.settings(self.id_of(name));
                Some(self.settle(name, Settings { quota_bytes, ..settings }, step))
            }
            Order::Conditional(conditional) => {
                let settings = self.orders.settings(self.id_of(name));
                Some(self.settle(name, Settings { conditional, ..settings }, step))
            }
            Order::MakeStrong => self.make_strong(now, request, name, step),
            Order::Leave { is_forced } => self.begin_leaving(request, name, is_forced, step),
        };
        step.orders.extend(reply.map(|reply| (request, reply)));
    }

    fn join(&mut self, name: &KeyspaceName, view: &View<'_, '_>, step: &mut Step) -> OrderReply {
        let id = self.id_of(name);
        let settings = self.orders.settings(id);
        if self.orders.is_leaving(id) || self.orders.left.contains(&id) || view.log.is_dropping(id) {
            return Err(OrderError::Dropping(name.clone()));
        }
        let is_here = self.keyspaces.contains_key(&id);
        let written = settings.written.filter(|written| !is_here && written.replica == self.id());
        if written.is_some_and(|written| !written.is_held) {
            return Err(OrderError::NeedsReplica(name.clone()));
        }
        if !is_here && self.keyspaces.len() >= KEYSPACES_MAX {
            return Err(OrderError::TooManyKeyspaces(KEYSPACES_MAX));
        }
        self.settle(name, Settings { choice: Some(Choice::Join), ..settings }, step)?;
        self.open_keyspace(name, step).map_err(|_| OrderError::TooManyKeyspaces(KEYSPACES_MAX))?;
        Ok(())
    }

    /// Begins to leave, if there is something to wait for.
    fn begin_leaving(
        &mut self,
        request: RequestId,
        name: &KeyspaceName,
        is_forced: bool,
        step: &mut Step,
    ) -> Option<OrderReply> {
        let id = self.id_of(name);
        if self.orders.choice(id) == Some(Choice::Leave) {
            return Some(Ok(()));
        }
        if self.must_hold(id) {
            return Some(Err(OrderError::HeldByAnchor(name.clone())));
        }
        let Some(keyspace) = self.keyspaces.get(&id) else {
            let settings = self.orders.settings(id);
            return Some(self.settle(name, Settings { choice: Some(Choice::Leave), ..settings }, step));
        };
        if keyspace.is_partial && !is_forced {
            return Some(Err(OrderError::Loading(name.clone())));
        }
        if !self.has_room_for_settings(id) {
            return Some(Err(OrderError::TooManyKeyspaces(KEYSPACES_MAX)));
        }
        self.orders.attempts += 1;
        let (attempt, since_ms) = (self.orders.attempts, self.mono_ms);
        let leaving = self.orders.leaving.entry(id).or_insert_with(|| Leaving {
            requests: Vec::new(),
            is_forced,
            attempt,
            since_ms,
            asked_ms: None,
            vouched: BTreeMap::new(),
        });
        leaving.requests.push(request);
        leaving.is_forced |= is_forced;
        None
    }

    /// At the beginning of a turn, when nothing was drafted yet: leaves what can be left, and asks on.
    pub(super) fn tick_leaving(&mut self, step: &mut Step) {
        let ids: Vec<KeyspaceId> = self.orders.leaving.keys().copied().collect();
        for id in ids {
            let Some(keyspace) = self.keyspaces.get(&id) else { continue };
            if self.must_hold(id) {
                let name = keyspace.name.clone();
                self.end_leaving(id, || OrderError::HeldByAnchor(name.clone()), step);
                continue;
            }
            let leaving = &self.orders.leaving[&id];
            let covers = |vector: &VersionVector| {
                keyspace.heads.iter().all(|(author, head)| vector.covers(Dot::new(author, head.seq)))
            };
            let is_vouched =
                !keyspace.is_partial && (keyspace.heads.is_empty() || leaving.vouched.values().any(covers));
            let is_alone = !self.links.values().any(|link| link.shares(id));
            let is_late = self.mono_ms >= leaving.since_ms + VOUCHED_WITHIN_MS;
            if (is_vouched || leaving.is_forced) && self.has_room_for_settings(id) {
                self.leave(id, is_vouched, step);
            } else if is_alone || is_late {
                self.give_up_leaving(id, step);
            } else if leaving.asked_ms.is_none_or(|at| self.mono_ms >= at + VOUCH_AGAIN_MS) {
                self.ask_to_vouch(id, step);
            }
        }
    }

    /// Whether it is an anchor's: what a majority has agreed on is lost with the rows of a majority.
    fn must_hold(&self, id: KeyspaceId) -> bool {
        let becomes_strong = |mode: &Mode| mode.latest().is_strong() || mode.sealing().is_some();
        self.anchor().is_some() && self.mode(id).is_some_and(becomes_strong)
    }

    /// The store takes no more changes.
    pub(super) fn refuse_leaving(&mut self, step: &mut Step) {
        let reason = self.failed.clone().unwrap_or_default();
        let leaving = std::mem::take(&mut self.orders.leaving).into_values();
        let refused = leaving.flat_map(|leaving| leaving.requests);
        step.orders.extend(refused.map(|request| (request, Err(OrderError::ReadOnly(reason.clone())))));
    }

    fn ask_to_vouch(&mut self, id: KeyspaceId, step: &mut Step) {
        let leaving = self.orders.leaving.get_mut(&id).expect("it is being left");
        leaving.asked_ms = Some(self.mono_ms);
        let number = leaving.attempt;
        let asked = self.links.iter().filter(|(_, link)| link.shares(id) && !link.is_congested);
        step.sends.extend(asked.map(|(session, _)| (*session, Message::Vouch { keyspace: id, number })));
    }

    fn give_up_leaving(&mut self, id: KeyspaceId, step: &mut Step) {
        let keyspace = &self.keyspaces[&id];
        let (own, name) = (self.id(), keyspace.name.clone());
        let held = self.holdings.held_of(id, own);
        let operations = keyspace.heads.seq(own).saturating_sub(held);
        self.end_leaving(id, || OrderError::Unconfirmed { keyspace: name.clone(), operations }, step);
    }

    /// The keyspace stays.
    fn end_leaving(&mut self, id: KeyspaceId, reason: impl Fn() -> OrderError, step: &mut Step) {
        let leaving = self.orders.leaving.remove(&id).expect("it is being left");
        step.orders.extend(leaving.requests.into_iter().map(|request| (request, Err(reason()))));
    }

    /// The keyspace is here no more from now on.
    fn leave(&mut self, id: KeyspaceId, is_held: bool, step: &mut Step) {
        let leaving = self.orders.leaving.remove(&id).expect("it is being left");
        let keyspace = self.keyspaces.remove(&id).expect("it is here");
        let replica = self.id();
        let before = self.orders.settings(id);
        // State that was not complete says nothing of how far this replica has written.
        let seq = keyspace.heads.seq(replica).max(u64::from(keyspace.is_partial));
        let written = (seq > 0).then_some(Written { replica, seq, is_held });
        let settings = Settings { choice: Some(Choice::Leave), written, ..before };
        let settled = self.settle(&keyspace.name, settings, step);
        tracing::info!(keyspace = %keyspace.name, is_held, ?settled, "keyspace left");
        self.orders.left.push(id);
        self.early.forget_keyspace(id);
        self.holdings.forget_keyspace(id);
        self.sources.forget_keyspace(id);
        for (session, link) in &mut self.links {
            link.unshare(id);
            step.sends.push((*session, Message::Left(vec![id])));
        }
        // Whoever is answered must find it so after a restart.
        step.durability = Some(Durability::Durable);
        self.counters.count("keyspaces_left");
        step.orders.extend(leaving.requests.into_iter().map(|request| (request, Ok(()))));
    }

    /// Remembers something of a keyspace.
    fn settle(&mut self, name: &KeyspaceName, settings: Settings, step: &mut Step) -> OrderReply {
        let id = self.id_of(name);
        if !self.has_room_for_settings(id) {
            return Err(OrderError::TooManyKeyspaces(KEYSPACES_MAX));
        }
        if self.orders.settings(id) != settings {
            self.orders.settings.insert(id, (name.clone(), settings));
            step.settings.push((name.clone(), settings));
            step.durability = Some(Durability::Durable);
        }
        Ok(())
    }

    /// What a keyspace may hold on this node, if that is limited.
    pub(crate) fn quota(&self, id: KeyspaceId) -> Option<u64> {
        let of_start = || {
            let name = &self.keyspaces.get(&id)?.name;
            self.config().limits.quotas.get(name).copied()
        };
        self.orders.settings(id).quota_bytes.or_else(of_start).filter(|quota| *quota < u64::MAX)
    }

    /// What is done with decisions in a keyspace.
    pub(crate) fn conditional(&self, id: KeyspaceId) -> Conditional {
        self.orders.settings(id).conditional.unwrap_or(self.config().conditional)
    }

    /// Whether a keyspace that a peer names may be taken in: what the operator named always, others up to a number, so
    /// that no peer can keep the node from having more of its own.
    pub(crate) fn may_take_in(&mut self, name: &KeyspaceName) -> bool {
        let id = self.id_of(name);
        let is_named =
            self.orders.choice(id) == Some(Choice::Join) || self.config().replicate != Replicate::All;
        let has_room = self.keyspaces.len() < self.config().limits.keyspaces_max;
        let may = self.may_replicate(name) && (is_named || has_room || self.keyspaces.contains_key(&id));
        if !may && self.may_replicate(name) {
            self.counters.count("keyspaces_not_taken_in");
        }
        may
    }

    fn has_room_for_settings(&self, id: KeyspaceId) -> bool {
        self.orders.settings.len() < KEYSPACES_MAX || self.orders.settings.contains_key(&id)
    }

    /// A neighbour wants to leave, and asks what is on disk here. What was applied in this turn is committed before
    /// the answer goes.
    pub(crate) fn vouch(&mut self, session: SessionId, id: KeyspaceId, number: u64, step: &mut Step) {
        let is_shared = self.links.get(&session).is_some_and(|link| link.shares(id));
        let Some(keyspace) = self.keyspaces.get(&id) else { return };
        if !is_shared || keyspace.is_partial || self.orders.is_leaving(id) {
            return;
        }
        for entries in keyspace.heads_since(0) {
            let held = entries.iter().map(|head| WantEntry { author: head.author, after: head.seq });
            let held: Vec<WantEntry> = held.take(HEADS_MAX).collect();
            step.sends.push((session, Message::Vouched { keyspace: id, number, held }));
        }
    }

    /// A neighbour says what it has on disk.
    pub(crate) fn vouched(&mut self, session: SessionId, id: KeyspaceId, number: u64, held: &[WantEntry]) {
        let is_shared = self.links.get(&session).is_some_and(|link| link.shares(id));
        let leaving = self.orders.leaving.get_mut(&id).filter(|of| is_shared && of.attempt == number);
        if let Some(leaving) = leaving {
            let vector = leaving.vouched.entry(session).or_default();
            held.iter().for_each(|entry| vector.raise(Dot::new(entry.author, entry.after)));
        }
    }
}
