//! What the operator orders of the group: founding it, and who joins it, leaves it and leads it.
//!
//! An order is carried out by the leader, step by step, each time anew from how the group stands; wherever it is given, it
//! is handed on to there. One that would leave an even number of voters, or a majority that is not up to date, is
//! refused with the reason, or waits for what is missing.

mod asker;
mod order;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::asker::Asker;
use self::asker::answer;
pub use self::order::{AnchorError, AnchorOrder, AnchorReply};
use super::Ask;
use super::growth::{Tending, replaced};
use crate::command::Command;
use crate::id::PeerId;
use crate::message::Message;
use crate::ports::{AnchorId, Change, LogIndex, Member, NotDone, RequestId as GroupRequestId, SessionId};
use crate::replica::{Now, Replica, Step};
use crate::request::RequestId;

/// How long a change of the group may take, in milliseconds.
const CHANGED_WITHIN_MS: u64 = 10_000;

/// How long an order may take, in milliseconds: somebody may have to catch up first.
pub(super) const ORDERED_WITHIN_MS: u64 = 45_000;

/// Whom an order is handed on to has so much less time for it, in milliseconds, and can still say why it was not done.
const ANSWERING_MS: u64 = 500;

/// The orders that are open at most.
const ORDERS_MAX: usize = 64;

/// How often an order is handed on: by a guest, by an anchor that does not lead, and by a leader that is to go.
const HOPS_MAX: u8 = 3;

/// For what the group is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Founding it.
    Found(RequestId),
    /// The leader keeps it in order.
    Tending,
    /// An order, by its number here.
    Order(u64),
}

/// An order that is not carried out yet.
#[derive(Clone, Debug)]
struct Ordered {
    asker: Asker,
    order: AnchorOrder,
    hops: u8,
    until_ms: u64,
    stage: Stage,
    /// What it waits for.
    lacks: Option<NotDone>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For its next step.
    Waiting,
    /// For the group.
    Changing,
    /// For whoever it was handed on to.
    HandedOn(SessionId),
    /// It is done, and this node has not heard so.
    Done,
}

/// What comes next of an order.
enum Next {
    Done(AnchorReply),
    Change(Change),
    Propose(Command),
    Wait(String),
}

/// What is open of what was ordered, and of what the leader does by itself.
#[derive(Debug, Default)]
pub(super) struct Anchoring {
    /// What the group is asked for, why, and until when an answer is waited for.
    changing: BTreeMap<GroupRequestId, (Cause, u64)>,
    /// The members as of here were changed: the next change waits until that is seen, or for so long.
    changed: Option<(Option<LogIndex>, u64)>,
    /// The number of the learner that was added last, or is about to be.
    pub(super) adding: Option<AnchorId>,
    last: u64,
    ordered: BTreeMap<u64, Ordered>,
    pub(super) tending: Tending,
}

impl Anchoring {
    /// Whether an order is not carried out yet.
    pub(super) fn is_open(&self, number: u64) -> bool {
        self.ordered.contains_key(&number)
    }

    /// Its next step is the group's, or, for a reason, to be tried again.
    pub(super) fn await_group(&mut self, number: u64, lacks: Option<NotDone>) {
        if let Some(ordered) = self.ordered.get_mut(&number) {
            ordered.stage = if lacks.is_some() { Stage::Waiting } else { Stage::Changing };
            ordered.lacks = lacks;
        }
    }

    /// Nothing that the group was asked for is answered any more.
    pub(super) fn forget_changes(&mut self) {
        (self.changed, self.adding) = (None, None);
        self.changing.clear();
        for ordered in self.ordered.values_mut().filter(|ordered| ordered.stage == Stage::Changing) {
            ordered.stage = Stage::Waiting;
        }
    }
}

fn refuse<T: Into<String>>(reason: T) -> Next {
    Next::Done(Err(NotDone::Refused { reason: reason.into() }.into()))
}

impl Replica {
    /// The operator orders something of the group.
    pub(crate) fn govern(&mut self, now: Now, request: RequestId, order: AnchorOrder, step: &mut Step) {
        if order == AnchorOrder::Found {
            if let Some(reply) = self.found(now, request, step) {
                step.governed.push((request, reply));
            }
            return;
        }
        self.take_order(now, Asker::Client(request), (order, 0, ORDERED_WITHIN_MS), step);
    }

    /// A peer hands on an order.
    pub(crate) fn order_handed_on(
        &mut self,
        now: Now,
        (session, number): (SessionId, u64),
        (order, hops, within_ms): (AnchorOrder, u8, u64),
        step: &mut Step,
    ) {
        let asker = Asker::Peer(session, number);
        if order == AnchorOrder::Found || hops > HOPS_MAX {
            self.counters.count("refused_orders");
            let reason = "it is not to be handed on so far".to_owned();
            return answer(asker, Err(NotDone::Refused { reason }.into()), step);
        }
        self.take_order(now, asker, (order, hops, within_ms.min(ORDERED_WITHIN_MS)), step);
    }

    pub(super) fn take_order(
        &mut self,
        now: Now,
        asker: Asker,
        (order, hops, within_ms): (AnchorOrder, u8, u64),
        step: &mut Step,
    ) {
        let anchoring = &mut self.strong.anchoring;
        if anchoring.ordered.len() >= ORDERS_MAX {
            return answer(asker, Err(NotDone::Busy.into()), step);
        }
        anchoring.last += 1;
        let (number, until_ms) = (anchoring.last, now.mono_ms.saturating_add(within_ms));
        let ordered = Ordered { asker, order, hops, until_ms, stage: Stage::Waiting, lacks: None };
        anchoring.ordered.insert(number, ordered);
        self.go_on_with(now, number, step);
    }

    fn found(&mut self, now: Now, request: RequestId, step: &mut Step) -> Option<AnchorReply> {
        if self.strong.anchor.is_some() && !self.strong.status.membership.voters.is_empty() {
            return Some(Ok(()));
        }
        let others = self.strong.roster.iter().flat_map(|signed| &signed.roster.members);
        let mut others = others.map(|seated| seated.peer).filter(|peer| *peer != self.peer);
        let linked = self.links.values().find(|link| link.is_anchor).map(|link| link.peer);
        if let Some(peer) = linked.or_else(|| others.next()) {
            return Some(Err(AnchorError::Founded(peer)));
        }
        let anchor = self.strong.anchor.unwrap_or_else(|| {
            let anchor = self.draw_anchor(now);
            self.seat(anchor, step);
            anchor
        });
        let member = Member { peer: self.peer, addresses: self.membership.listening() };
        self.change_group(Cause::Found(request), Change::Found(BTreeMap::from([(anchor, member)])), step);
        None
    }

    /// This node is that anchor from now on.
    pub(super) fn seat(&mut self, anchor: AnchorId, step: &mut Step) {
        self.enter_group(anchor, step);
        step.asks.push(Ask::Open(anchor));
    }

    /// A number that no anchor has had: among so many nobody draws the same twice.
    pub(super) fn draw_anchor(&self, now: Now) -> AnchorId {
        let seed = self.draw(now, "tidelock 2026-11-21 number of an anchor", self.id.as_bytes());
        let drawn = *seed.first_chunk().expect("there are 32 bytes");
        AnchorId(u64::from_be_bytes(drawn) >> (64 - AnchorId::BITS))
    }

    /// Bytes that nobody can guess who does not know this node's own secret.
    pub(super) fn draw(&self, now: Now, what: &str, of: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(what);
        hasher.update(&self.config.key.to_seed());
        hasher.update(of);
        hasher.update(&now.unix_ms.to_be_bytes());
        hasher.update(&now.entropy.to_be_bytes());
        *hasher.finalize().as_bytes()
    }

    pub(super) fn change_group(&mut self, cause: Cause, change: Change, step: &mut Step) {
        let id = self.strong.requests.next_id();
        let until_ms = self.mono_ms + 2 * CHANGED_WITHIN_MS;
        self.strong.anchoring.changing.insert(id, (cause, until_ms));
        if !matches!(change, Change::Transfer(_)) {
            let index = self.strong.status.membership_index;
            self.strong.anchoring.changed = Some((index, until_ms));
        }
        tracing::info!(?change, "the group of anchors is to change");
        step.asks.push(Ask::Administer { id, change, within_ms: CHANGED_WITHIN_MS });
    }

    /// Whether the leader may begin a change: the last one is made and seen.
    pub(super) fn may_change_group(&mut self) -> bool {
        let now_ms = self.mono_ms;
        let status = &self.strong.status;
        let anchoring = &mut self.strong.anchoring;
        anchoring.changing.retain(|_, (_, until_ms)| now_ms < *until_ms);
        let is_seen = |(before, until_ms): &mut (Option<LogIndex>, u64)| {
            status.membership_index > *before || now_ms >= *until_ms
        };
        anchoring.changed.take_if(is_seen);
        let is_agreed = status.membership_index.is_some() && status.membership_index <= status.committed;
        let is_free = anchoring.changing.is_empty() && anchoring.changed.is_none();
        is_free && is_agreed && status.membership.voters.len() == 1
    }

    /// What became of a change of the group.
    pub(super) fn administered(
        &mut self,
        id: GroupRequestId,
        result: Option<Result<(), NotDone>>,
        step: &mut Step,
    ) {
        let Some((cause, _)) = self.strong.anchoring.changing.remove(&id) else { return };
        if result != Some(Ok(())) {
            tracing::info!(?result, "the group of anchors did not change");
            (self.strong.anchoring.changed, self.strong.anchoring.adding) = (None, None);
        }
        let number = match (cause, &result) {
            (Cause::Found(request), _) => {
                let reply = result.map_or(Err(AnchorError::Unknown), |done| done.map_err(AnchorError::from));
                return step.governed.push((request, reply));
            }
            (Cause::Tending, Some(Ok(()))) => return,
            (Cause::Tending, _) => return self.strong.anchoring.tending.rest(self.mono_ms),
            (Cause::Order(number), _) => number,
        };
        let Some(ordered) = self.strong.anchoring.ordered.get_mut(&number) else { return };
        ordered.stage = Stage::Waiting;
        let is_transfer = matches!(ordered.order, AnchorOrder::Transfer(_));
        match result {
            Some(Ok(())) if is_transfer => self.end_order(number, Ok(()), step),
            // Whoever leads now does it, and what may be done is looked at again.
            Some(Ok(()) | Err(NotDone::NotLeader { .. } | NotDone::NoLeader)) | None => {}
            Some(Err(reason)) => self.end_order(number, Err(reason.into()), step),
        }
    }

    pub(super) fn end_order(&mut self, number: u64, reply: AnchorReply, step: &mut Step) {
        if let Some(ordered) = self.strong.anchoring.ordered.remove(&number) {
            answer(ordered.asker, reply, step);
        }
    }

    /// Whoever an order was handed on to says what came of it.
    pub(crate) fn governed(&mut self, session: SessionId, number: u64, reply: AnchorReply, step: &mut Step) {
        let Some(ordered) = self.strong.anchoring.ordered.get_mut(&number) else { return };
        if ordered.stage != Stage::HandedOn(session) {
            return; // it was given up
        }
        match reply {
            Err(AnchorError::Not(reason @ (NotDone::NotLeader { .. } | NotDone::NoLeader))) => {
                (ordered.stage, ordered.lacks) = (Stage::Waiting, Some(reason));
            }
            Ok(()) if matches!(ordered.asker, Asker::OfKeyspace(_)) => ordered.stage = Stage::Done,
            reply => self.end_order(number, reply, step),
        }
    }

    /// Goes on with what is ordered, and answers what takes too long.
    pub(super) fn tick_governed(&mut self, now: Now, step: &mut Step) {
        let numbers: Vec<u64> = self.strong.anchoring.ordered.keys().copied().collect();
        for number in numbers {
            let Some(ordered) = self.strong.anchoring.ordered.get_mut(&number) else { continue };
            if let Stage::HandedOn(session) = ordered.stage
                && !self.links.contains_key(&session)
            {
                // What was changed before shows when it is looked at again.
                ordered.stage = Stage::Waiting;
            }
            if now.mono_ms < ordered.until_ms {
                self.go_on_with(now, number, step);
                continue;
            }
            let reply = match (ordered.stage, ordered.lacks.take()) {
                (Stage::Waiting, lacks) => lacks.unwrap_or(NotDone::NoLeader).into(),
                _ => AnchorError::Unknown,
            };
            self.end_order(number, Err(reply), step);
        }
    }

    /// The next step of an order: here if this anchor leads, or by whoever does.
    fn go_on_with(&mut self, now: Now, number: u64, step: &mut Step) {
        let Some(ordered) = self.strong.anchoring.ordered.get(&number) else { return };
        if let AnchorOrder::MakeStrong(name) = &ordered.order
            && self.mode(self.id_of(name)).is_some_and(|mode| mode.epoch().is_strong())
        {
            return self.end_order(number, Ok(()), step);
        }
        if ordered.stage != Stage::Waiting {
            return;
        }
        let (order, asker) = (ordered.order.clone(), ordered.asker);
        if order == self.strong.status.leader.map_or(AnchorOrder::Found, AnchorOrder::Transfer) {
            return self.end_order(number, Ok(()), step);
        }
        if !self.strong.leads() {
            return self.hand_order_on(now, number, asker, step);
        }
        if let AnchorOrder::MakeStrong(name) = &order {
            return self.lead_making(now, number, name, step);
        }
        let next = if self.may_change_group() {
            self.next_of(now, &order)
        } else {
            Next::Wait("another change of the group is under way".to_owned())
        };
        let Some(ordered) = self.strong.anchoring.ordered.get_mut(&number) else { return };
        match next {
            Next::Done(reply) => self.end_order(number, reply, step),
            Next::Wait(reason) => ordered.lacks = Some(NotDone::Refused { reason }),
            Next::Propose(command) => self.propose_alone(&command, step),
            Next::Change(change) => {
                ordered.stage = Stage::Changing;
                self.change_group(Cause::Order(number), change, step);
            }
        }
    }

    /// Hands an order on to the leader, or to an anchor that may know it.
    fn hand_order_on(&mut self, now: Now, number: u64, asker: Asker, step: &mut Step) {
        let Some(ordered) = self.strong.anchoring.ordered.get_mut(&number) else { return };
        let from = match asker {
            Asker::Client(_) | Asker::OfKeyspace(_) => None,
            Asker::Peer(session, _) => Some(session),
        };
        let leads = |leader: Option<AnchorId>, seat: Option<AnchorId>| leader.is_some() && leader == seat;
        let known = self.strong.status.leader;
        let anchors = self.links.iter().filter(|(session, link)| link.is_anchor && Some(**session) != from);
        let best = anchors.max_by_key(|(session, link)| {
            (
                leads(known, link.seat.seat),
                leads(link.seat.leader, link.seat.seat),
                std::cmp::Reverse(**session),
            )
        });
        let Some((session, _)) = best.filter(|_| ordered.hops < HOPS_MAX) else {
            ordered.lacks.get_or_insert(NotDone::NoLeader);
            return;
        };
        ordered.stage = Stage::HandedOn(*session);
        let (hops, order) = (ordered.hops + 1, ordered.order.clone());
        let within_ms = ordered.until_ms.saturating_sub(now.mono_ms + ANSWERING_MS);
        step.sends.push((*session, Message::Govern { number, hops, within_ms, order }));
    }

    /// What the leader does next for an order.
    fn next_of(&mut self, now: Now, order: &AnchorOrder) -> Next {
        match order {
            AnchorOrder::Found | AnchorOrder::MakeStrong(_) => Next::Done(Ok(())),
            AnchorOrder::Add(peer) => self.next_of_adding(now, *peer),
            AnchorOrder::Remove(anchors) => self.next_of_removing(now, &anchors.iter().copied().collect()),
            AnchorOrder::Transfer(to) => Next::Change(Change::Transfer(*to)),
        }
    }

    fn next_of_adding(&mut self, now: Now, peer: PeerId) -> Next {
        let members = &self.strong.status.membership.members;
        let of_peer = |(anchor, member): &(&AnchorId, &Member)| {
            member.peer == peer && !self.is_gone(**anchor, now.mono_ms)
        };
        if let Some((anchor, _)) = members.iter().find(of_peer) {
            let is_here = self.strong.anchor == Some(*anchor) || self.link_of(*anchor, peer).is_some();
            return if is_here { Next::Done(Ok(())) } else { Next::Wait(format!("{peer} has not come yet")) };
        }
        let Some(link) = self.links.values().find(|link| link.peer == peer && link.card.is_some()) else {
            return Next::Wait(format!("{peer} is not connected with the leader"));
        };
        if link.seat.is_unwilling || !link.takes_any_keyspace {
            return refuse(format!(
                "{peer} does not want to be an anchor, or does not replicate all keyspaces"
            ));
        }
        if link.seat.seat.is_some() {
            return Next::Wait(format!("{peer} believes that it is another anchor"));
        }
        if self.strong.known.wanted.is_some() {
            return Next::Propose(Command::WantVoters(None));
        }
        match self.invite(now, peer) {
            Some(change) => Next::Change(change),
            None => refuse(format!("{peer} has just gone")),
        }
    }

    fn next_of_removing(&mut self, now: Now, going: &BTreeSet<AnchorId>) -> Next {
        let membership = self.strong.status.membership.clone();
        let Some(voters) = membership.voters.first() else { return refuse("there is no group") };
        if let Some(learner) =
            going.iter().find(|it| membership.members.contains_key(it) && !voters.contains(it))
        {
            return Next::Change(Change::RemoveLearner(*learner));
        }
        let old: Vec<AnchorId> = going.intersection(voters).copied().collect();
        if old.is_empty() {
            return Next::Done(Ok(()));
        }
        let rest = replaced(voters, &old, &[]);
        if rest.is_empty() {
            return refuse("no anchor would be left, and with it no strong keyspace");
        }
        let next = if rest.len().is_multiple_of(2) {
            let Some(new) = self.ready_learners().into_iter().find(|it| !going.contains(it)) else {
                return self.next_of_replacing(now, rest.len());
            };
            replaced(&rest, &[], &[new])
        } else {
            rest
        };
        if let Err(reason) = self.keeps_majorities(&next) {
            return Next::Wait(reason);
        }
        if let Some(own) = self.strong.anchor.filter(|own| old.contains(own)) {
            let here = |anchor: &&AnchorId| {
                let member = membership.members.get(anchor);
                **anchor != own && member.is_some_and(|member| self.link_of(**anchor, member.peer).is_some())
            };
            return match next.iter().filter(|anchor| voters.contains(anchor)).find(here) {
                Some(to) => Next::Change(Change::Transfer(*to)),
                None => Next::Wait("no other voter is connected that could lead".to_owned()),
            };
        }
        let number = u8::try_from(next.len()).unwrap_or(u8::MAX);
        if next.len() < voters.len() && self.voters_wanted() > next.len() {
            return Next::Propose(Command::WantVoters(Some(number)));
        }
        Next::Change(Change::SetVoters(next))
    }

    /// Somebody has to take the place of a voter first.
    fn next_of_replacing(&mut self, now: Now, rest: usize) -> Next {
        let membership = &self.strong.status.membership;
        let coming = membership
            .members
            .iter()
            .find(|(anchor, _)| !membership.is_voter(**anchor) && !self.is_gone(**anchor, now.mono_ms));
        if let Some((_, member)) = coming {
            return Next::Wait(format!("{} has not caught up yet to take its place", member.peer));
        }
        match self.candidates(now.mono_ms).first().and_then(|(peer, _)| self.invite(now, *peer)) {
            Some(change) => Next::Change(change),
            None => refuse(format!(
                "{rest} voters survive no more failures than one fewer, and no connected peer could take the place; \
                 connect one, or remove two"
            )),
        }
    }
}
