//! Making a keyspace strong: what the entries that change a mode do here, and what the leader does to bring them about.
//!
//! The leader proposes a cut, asks nobody anything, and counts the anchors that say, after a commit, that they are fenced
//! and stand exactly there. A majority of them ends the epoch. It may stop anywhere: whoever leads next finds in the mode
//! how far it came. A keyspace that holds data cannot be made strong yet, so the cut is empty; if a majority does not
//! stand there, somebody has written meanwhile, or is away, and the leader gives up, which lifts the fence.

use std::collections::{BTreeMap, BTreeSet};

use super::anchors::Asker;
use super::{AnchorError, AnchorOrder, Ask, CommandReply, entry_of};
use crate::causality::Dot;
use crate::command::{Command, EpochSecret};
use crate::id::{KeyspaceId, KeyspaceName};
use crate::message::Message;
use crate::mode::{Mode, Sealing, is_exactly};
use crate::ports::{
    AnchorId, Durability, LogIndex, NotDone, Outcome, RequestId as GroupRequestId, SessionId,
};
use crate::replica::{Now, OrderError, Replica, Step};
use crate::request::RequestId;
use crate::row::Fingerprint;

/// How long an order to make a keyspace strong waits, in milliseconds.
const MADE_WITHIN_MS: u64 = 15_000;

/// How long the leader waits for a majority at the cut before it gives up, in milliseconds.
const SEALED_WITHIN_MS: u64 = 10_000;

/// How often an anchor says again that it stands at the cut, and the leader proposes again, in milliseconds.
const AGAIN_MS: u64 = 500;

/// How long a proposal of the leader may take, in milliseconds.
const PROPOSED_WITHIN_MS: u64 = 5_000;

/// A keyspace that is being made strong, as one anchor knows it. None of it is remembered: the mode is.
#[derive(Debug, Default)]
pub(crate) struct Making {
    name: Option<KeyspaceName>,
    /// The orders that are carried out by this, by their numbers here.
    orders: BTreeSet<u64>,
    /// The anchors that stand at a cut, by the places of the attempt and of the cut.
    at: BTreeMap<(LogIndex, LogIndex), BTreeMap<AnchorId, Fingerprint>>,
    /// Since when it is seen to be sealing, by our monotonic clock.
    since_ms: Option<u64>,
    said_ms: Option<u64>,
    proposed: Option<(GroupRequestId, u64)>,
}

impl Making {
    fn may_propose(&self, now_ms: u64) -> bool {
        self.proposed.is_none_or(|(_, at)| now_ms >= at + PROPOSED_WITHIN_MS)
    }
}

impl Replica {
    /// An operator orders a keyspace to be strong. It is answered when it is, as this node knows it. The leader makes it;
    /// wherever it is ordered, it is handed on to there.
    pub(crate) fn make_strong(
        &mut self,
        now: Now,
        request: RequestId,
        name: &KeyspaceName,
        step: &mut Step,
    ) -> Option<Result<(), OrderError>> {
        let id = self.id_of(name);
        if self.mode(id).is_some_and(|mode| mode.epoch().is_strong()) {
            return Some(Ok(()));
        }
        if !self.may_replicate(name) {
            return Some(Err(OrderError::NotReplicated(name.clone())));
        }
        if self.is_written(id) {
            return Some(Err(OrderError::HoldsData(name.clone())));
        }
        let is_known = self.strong.anchor.is_some() || self.strong.known.key.is_some();
        if !is_known && !self.links.values().any(|link| link.is_anchor) {
            return Some(Err(OrderError::NoAnchor));
        }
        let order = AnchorOrder::MakeStrong(name.clone());
        self.take_order(now, Asker::OfKeyspace(request), (order, 0, MADE_WITHIN_MS), step);
        None
    }

    /// Whether there is anything in a keyspace here, or there will be.
    fn is_written(&self, id: KeyspaceId) -> bool {
        self.keyspaces.get(&id).is_some_and(|keyspace| keyspace.is_partial || !keyspace.heads.is_empty())
    }

    /// Carries out an order to make a keyspace strong, as the leader.
    pub(super) fn lead_making(&mut self, now: Now, number: u64, name: &KeyspaceName, step: &mut Step) {
        let id = self.id_of(name);
        let has_next = self.mode(id).is_none_or(|mode| mode.epoch().next().is_some());
        if self.is_written(id) || !has_next {
            return self.end_order(number, Err(AnchorError::HoldsData(name.clone())), step);
        }
        if !self.may_replicate(name) {
            let reason = OrderError::NotReplicated(name.clone()).to_string();
            return self.end_order(number, Err(NotDone::Refused { reason }.into()), step);
        }
        let making = self.strong.making.entry(id).or_default();
        making.name = Some(name.clone());
        making.orders.insert(number);
        self.strong.anchoring.await_group(number, None);
        self.begin_making(now, id, step);
    }

    /// Proposes the beginning of what is ordered here, unless it has begun.
    fn begin_making(&mut self, now: Now, id: KeyspaceId, step: &mut Step) {
        let Some(making) = self.strong.making.get(&id) else { return };
        let Some(keyspace) = making.name.clone().filter(|_| making.may_propose(now.mono_ms)) else { return };
        let mode = self.mode(id).cloned().unwrap_or_default();
        // Without the group's key nobody could tell others how the epoch began.
        let may_begin = mode.sealing().is_none() && self.strong.known.secret.is_some();
        let next =
            mode.epoch().next().filter(|epoch| epoch.is_strong() && may_begin && !making.orders.is_empty());
        if let Some(epoch) = next {
            let of = [&id.as_bytes()[..], &epoch.0.to_be_bytes()].concat();
            let secret =
                EpochSecret::from(self.draw(now, "tidelock 2026-11-21 secret of a strong epoch", &of));
            self.propose_mode(id, &Command::BeginSeal { keyspace, epoch, secret }, step);
        }
    }

    fn propose_mode(&mut self, id: KeyspaceId, command: &Command, step: &mut Step) {
        let request = self.strong.requests.next_id();
        let entry = entry_of(std::slice::from_ref(command));
        self.strong.making.entry(id).or_default().proposed = Some((request, self.mono_ms));
        step.asks.push(Ask::Propose { id: request, entry, within_ms: PROPOSED_WITHIN_MS });
    }

    /// What became of an entry that changes a mode. What it did, the log says.
    pub(super) fn mode_proposed(&mut self, request: GroupRequestId, outcome: &Outcome, step: &mut Step) {
        let is_this = |making: &&mut Making| making.proposed.is_some_and(|(id, _)| id == request);
        let Some(making) = self.strong.making.values_mut().find(is_this) else { return };
        making.proposed = None;
        let Outcome::Not(reason) = outcome else { return };
        let orders = std::mem::take(&mut making.orders);
        for number in orders {
            match reason {
                // Whoever leads now does it.
                NotDone::NotLeader { .. } | NotDone::NoLeader => {
                    self.strong.anchoring.await_group(number, Some(reason.clone()));
                }
                reason => self.end_order(number, Err(reason.clone().into()), step),
            }
        }
    }

    /// The keyspace of an entry that changes a mode.
    pub(super) fn keyspace_of(&self, command: &Command) -> KeyspaceId {
        match command {
            Command::BeginSeal { keyspace, .. } => self.id_of(keyspace),
            Command::Cut { keyspace, .. }
            | Command::Seal { keyspace, .. }
            | Command::AbortSeal { keyspace, .. }
            | Command::Expire { keyspace, .. }
            | Command::ForgetOutcomes { keyspace, .. } => *keyspace,
            Command::Execute(execute) => execute.keyspace,
            Command::NameGroup(_) | Command::WantVoters(_) => unreachable!("it is of no keyspace"),
        }
    }

    /// Does what an entry says that changes a mode.
    pub(super) fn change_epoch(
        &mut self,
        index: LogIndex,
        command: &Command,
        step: &mut Step,
    ) -> CommandReply {
        let id = self.keyspace_of(command);
        let place = (self.config.cluster, id);
        let is_changed = match command {
            Command::BeginSeal { .. } if self.strong.known.secret.is_none() => false,
            Command::BeginSeal { keyspace, epoch, secret } => self.change_mode(id, Some(keyspace), |mode| {
                mode.begin_seal(index, *epoch, secret.clone())
                    || mode.take_part(index, *epoch, secret.clone(), place)
            }),
            Command::Cut { begin, frontier, .. } => {
                self.change_mode(id, None, |mode| mode.cut(index, *begin, frontier))
            }
            Command::Seal { begin, cut, fingerprint, .. } => {
                let group = self.strong.known.secret.clone();
                let whole = self.keyspaces.get(&id).filter(|keyspace| !keyspace.is_partial);
                let vector = whole.map(|keyspace| keyspace.heads.vector());
                let ours = self.keyspaces.get(&id).map(|keyspace| keyspace.fingerprint).unwrap_or_default();
                let is_at = |frontier: &[Dot]| {
                    ours == *fingerprint && vector.is_some_and(|vector| is_exactly(&vector, frontier))
                };
                group.is_some_and(|group| {
                    self.change_mode(id, None, |mode| {
                        mode.seal(index, (*begin, *cut), (place, &group), is_at)
                    })
                })
            }
            Command::AbortSeal { begin, .. } => self.change_mode(id, None, |mode| mode.abort_seal(*begin)),
            Command::Execute(_)
            | Command::Expire { .. }
            | Command::ForgetOutcomes { .. }
            | Command::NameGroup(_)
            | Command::WantVoters(_) => false,
        };
        if is_changed {
            self.epoch_changed(id, command, step);
        }
        CommandReply::Mode(is_changed)
    }

    fn epoch_changed(&mut self, id: KeyspaceId, command: &Command, step: &mut Step) {
        let Some((name, mode)) = self.strong.modes.get(&id).cloned() else { return };
        self.end_transfers_of(id, step);
        // What is said to the group from here on rests on it: an anchor that came back without its fence would write on.
        step.durability = Some(Durability::Durable);
        tracing::info!(keyspace = %name, epoch = mode.epoch().0, "the mode of a keyspace changes");
        // What was written before is in the epoch that ends; nothing is from here on.
        if self.open_keyspace(&name, step).is_err() {
            self.counters.count("strong_keyspaces_not_here");
        }
        let reply = match command {
            Command::Seal { .. } => Some(Ok(())),
            Command::AbortSeal { .. } => Some(Err(())),
            _ => None,
        };
        let Some(reply) = reply else { return };
        for number in self.strong.making.remove(&id).map(|making| making.orders).into_iter().flatten() {
            let reason = if self.is_written(id) { AnchorError::HoldsData } else { AnchorError::GivenUp };
            let reply = reply.map_err(|()| reason(name.clone()));
            self.end_order(number, reply, step);
        }
        if mode.epoch().is_strong() {
            self.strong.untold.insert(id);
            if let Some(record) = mode.record() {
                self.know_card(record.card);
            }
        }
    }

    /// What is due while keyspaces are being made strong: anchors say where they stand, the leader goes on.
    pub(crate) fn tick_making(&mut self, now: Now, step: &mut Step) {
        let anchoring = &self.strong.anchoring;
        for making in self.strong.making.values_mut() {
            making.orders.retain(|number| anchoring.is_open(*number));
        }
        if self.strong.anchor.is_none() {
            return;
        }
        let ordered: Vec<KeyspaceId> = self.strong.making.keys().copied().collect();
        ordered.into_iter().for_each(|id| self.begin_making(now, id, step));
        let sealing =
            self.strong.modes.iter().filter_map(|(id, (_, mode))| Some((*id, mode.sealing()?.clone())));
        let sealing: Vec<(KeyspaceId, Sealing)> = sealing.collect();
        for (id, sealing) in sealing {
            self.say_where(id, &sealing, step);
            if self.strong.leads() {
                self.lead_sealing(id, &sealing, step);
            }
        }
    }

    /// The fingerprint of the rows, if this anchor stands exactly at the cut, and it is committed: no turn has changed
    /// anything since.
    fn fingerprint_at(&self, id: KeyspaceId, frontier: &[Dot]) -> Option<Fingerprint> {
        let keyspace = self.keyspaces.get(&id).filter(|keyspace| !keyspace.is_partial)?;
        let is_at = !self.is_touched(id) && is_exactly(&keyspace.heads.vector(), frontier);
        is_at.then_some(keyspace.fingerprint)
    }

    /// Says to the other anchors that this one stands at the cut.
    fn say_where(&mut self, id: KeyspaceId, sealing: &Sealing, step: &mut Step) {
        let now_ms = self.mono_ms;
        let Some(cut) = &sealing.cut else { return };
        let Some((own, fingerprint)) = self.strong.anchor.zip(self.fingerprint_at(id, &cut.frontier)) else {
            return;
        };
        let members: BTreeSet<_> =
            self.strong.status.membership.members.values().map(|member| member.peer).collect();
        let making = self.strong.making.entry(id).or_default();
        making.at.entry((sealing.begin, cut.index)).or_default().insert(own, fingerprint);
        if making.said_ms.is_some_and(|at| now_ms < at + AGAIN_MS) {
            return;
        }
        making.said_ms = Some(now_ms);
        let (begin, cut, fingerprint) = (sealing.begin.0, cut.index.0, fingerprint.to_bits().to_be_bytes());
        let others = self.links.iter().filter(|(_, link)| members.contains(&link.peer));
        step.sends.extend(
            others.map(|(session, _)| (*session, Message::At { keyspace: id, begin, cut, fingerprint })),
        );
    }

    /// Another anchor stands at a cut.
    pub(crate) fn stands_at(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        (begin, cut): (u64, u64),
        fingerprint: [u8; 16],
    ) {
        let Some(link) = self.links.get(&session) else { return };
        let mut members = self.strong.status.membership.members.iter();
        let Some((anchor, _)) = members.find(|(_, member)| member.peer == link.peer) else { return };
        let place = (LogIndex(begin), LogIndex(cut));
        let is_latest = self.mode(id).and_then(Mode::sealing).is_some_and(|sealing| {
            (sealing.begin, sealing.cut.as_ref().map(|cut| cut.index)) == (place.0, Some(place.1))
        });
        if is_latest {
            let fingerprint = Fingerprint::from_bits(u128::from_be_bytes(fingerprint));
            let making = self.strong.making.entry(id).or_default();
            making.at.entry(place).or_default().insert(*anchor, fingerprint);
        }
    }

    /// Proposes what comes next.
    fn lead_sealing(&mut self, id: KeyspaceId, sealing: &Sealing, step: &mut Step) {
        let now_ms = self.mono_ms;
        let begin = sealing.begin;
        let holds_data = self.keyspaces.get(&id).is_none_or(|keyspace| !keyspace.heads.is_empty());
        let making = self.strong.making.entry(id).or_default();
        let since_ms = *making.since_ms.get_or_insert(now_ms);
        if !making.may_propose(now_ms) {
            return;
        }
        if holds_data || now_ms >= since_ms + SEALED_WITHIN_MS {
            return self.propose_mode(id, &Command::AbortSeal { keyspace: id, begin }, step);
        }
        let Some(cut) = &sealing.cut else {
            return self.propose_mode(id, &Command::Cut { keyspace: id, begin, frontier: Vec::new() }, step);
        };
        let Some(at) = self.strong.making.get(&id).and_then(|making| making.at.get(&(begin, cut.index)))
        else {
            return;
        };
        let fingerprint = at.values().next().copied().filter(|first| at.values().all(|print| print == first));
        let command = match fingerprint {
            Some(fingerprint) => {
                let anchors = at.keys().copied().collect();
                if !is_majority(&self.strong.status.membership.voters, &anchors) {
                    return;
                }
                Command::Seal { keyspace: id, begin, cut: cut.index, fingerprint }
            }
            // Equal vectors and other rows: nobody may begin with them.
            None => Command::AbortSeal { keyspace: id, begin },
        };
        self.propose_mode(id, &command, step);
    }
}

/// Whether anchors are a majority: of both sets of voters, while the group passes from one to the other.
fn is_majority(voters: &[BTreeSet<AnchorId>], anchors: &BTreeSet<AnchorId>) -> bool {
    let has_majority = |set: &BTreeSet<AnchorId>| set.intersection(anchors).count() * 2 > set.len();
    !voters.is_empty() && voters.iter().all(has_majority)
}
