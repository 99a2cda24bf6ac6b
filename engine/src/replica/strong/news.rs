//! Who the anchors are, as peers tell each other: the signed members with the highest place in the log count.
//!
//! Guests connect to anchors by it and hand on to them. An anchor that was away learns by it who may speak to it, and
//! one that was removed that it is none any more.

use std::collections::BTreeSet;

use super::{Ask, Strong};
use crate::group_key::Statement;
use crate::id::{KeyspaceId, PeerId};
use crate::message::Message;
use crate::mode::Mode;
use crate::ports::{AnchorId, LogIndex, RaftWrite, SessionId, Target};
use crate::replica::{Now, Replica, Replicate, Step};
use crate::roster::{AnchorNews, Invite, Roster, Seated, SignedRoster};

/// How often an anchor whose log does not know the newest members is told of them again, in milliseconds.
const INTRODUCED_EVERY_MS: u64 = 1_000;

/// What was told, and whom this node keeps connected with for it.
#[derive(Debug, Default)]
pub(super) struct Telling {
    told: AnchorNews,
    introduced_ms: Option<u64>,
    met: BTreeSet<Target>,
}

impl Strong {
    /// The place of the newest members that are known.
    pub(super) fn roster_index(&self) -> Option<LogIndex> {
        self.roster.as_ref().map(|signed| signed.roster.index)
    }
}

impl Replica {
    /// The strong keyspaces, and whether this anchor makes their frames itself.
    pub(super) fn strong_keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Mode)> + '_ {
        let modes = self.strong.modes.iter().map(|(id, (_, mode))| (*id, mode));
        modes.filter(|(_, mode)| mode.epoch().is_strong())
    }

    fn news(&self) -> AnchorNews {
        let exact = self.strong_keyspaces().filter(|(_, mode)| mode.is_exact()).map(|(id, _)| id);
        AnchorNews {
            seat: self.strong.anchor,
            is_unwilling: self.config.anchors_target == 0,
            leader: self.strong.status.leader,
            exact: exact.collect(),
            roster: self.strong.roster.clone(),
        }
    }

    /// Tells a peer, after its hello. What says nothing is not said.
    pub(crate) fn tell_anchors(&self, session: SessionId, step: &mut Step) {
        let news = self.news();
        if news != AnchorNews::default() {
            step.sends.push((session, Message::Anchors(news)));
        }
    }

    /// Tells all peers of what changed.
    fn tell_of_anchors(&mut self, step: &mut Step) {
        let news = self.news();
        if news == self.strong.telling.told {
            return;
        }
        let greeted = self.links.iter().filter(|(_, link)| link.card.is_some());
        step.sends.extend(greeted.map(|(session, _)| (*session, Message::Anchors(news.clone()))));
        self.strong.telling.told = news;
    }

    /// A peer tells what it is to the group.
    pub(crate) fn anchors_heard(&mut self, session: SessionId, mut news: AnchorNews, step: &mut Step) {
        let roster = news.roster.take();
        let Some(link) = self.links.get_mut(&session) else { return };
        let peer = link.peer;
        link.is_anchor = news.seat.is_some();
        link.seat = news;
        if let Some(signed) = roster {
            self.roster_heard(peer, signed, step);
        }
    }

    /// Takes in members that a peer tells of, if they are news.
    fn roster_heard(&mut self, peer: PeerId, signed: SignedRoster, step: &mut Step) {
        let is_ours = self.strong.known.key == Some(signed.group());
        if is_ours && self.strong.roster_index() >= Some(signed.roster.index) {
            return;
        }
        if !signed.is_genuine(self.config.cluster) {
            return self.refuse_group(peer, signed.group());
        }
        if self.is_of_group(peer, signed.group(), step) {
            self.take_roster(signed, step);
        }
    }

    fn take_roster(&mut self, signed: SignedRoster, step: &mut Step) {
        if self.strong.roster_index() >= Some(signed.roster.index) {
            return;
        }
        let index = signed.roster.index;
        let of_us = |anchor: &AnchorId| signed.roster.get(*anchor).is_some_and(|at| at.peer == self.peer);
        let is_removed = self.strong.anchor.is_some_and(|anchor| !of_us(&anchor));
        self.strong.roster = Some(signed);
        if is_removed && Some(index) > self.strong.known.since {
            self.leave_anchors(index, step);
        }
        self.strong.telling.introduced_ms = None;
        self.meet_anchors(step);
    }

    /// Keeps connected with the anchors, wherever they are to be found.
    fn meet_anchors(&mut self, step: &mut Step) {
        let members = self.strong.roster.iter().flat_map(|signed| &signed.roster.members);
        let others = members.filter(|seated| seated.peer != self.peer && !seated.addresses.is_empty());
        let wanted: BTreeSet<Target> = others
            .map(|seated| Target { peer: Some(seated.peer), addresses: seated.addresses.clone() })
            .collect();
        let before = std::mem::replace(&mut self.strong.telling.met, wanted.clone());
        step.connects.extend(wanted.difference(&before).cloned());
        let left = before.difference(&wanted).filter(|target| !self.membership.is_seed(target));
        step.disconnects.extend(left.cloned());
    }

    /// Signs the members that the own log has agreed on, if nobody has told of them yet.
    fn refresh_roster(&mut self, step: &mut Step) {
        let status = &self.strong.status;
        let Some(index) = status.membership_index.filter(|index| Some(*index) <= status.committed) else {
            return;
        };
        let Some(secret) = self.strong.known.secret.as_ref().filter(|_| self.strong.anchor.is_some()) else {
            return;
        };
        if self.strong.roster_index() >= Some(index) {
            return;
        }
        let membership = &status.membership;
        let seated = |(anchor, member): (&AnchorId, &crate::ports::Member)| Seated {
            anchor: *anchor,
            peer: member.peer,
            addresses: member.addresses.clone(),
            is_voter: membership.is_voter(*anchor),
        };
        let roster = Roster { index, members: membership.members.iter().map(seated).collect() };
        let signature = secret.sign(self.config.cluster, &Statement::Members(&roster));
        self.take_roster(SignedRoster { roster, signature }, step);
    }

    /// Tells the own group of members that its log does not know yet.
    fn introduce(&mut self, step: &mut Step) {
        let Some(signed) = self.strong.roster.as_ref().filter(|_| self.strong.anchor.is_some()) else {
            return;
        };
        let is_news = Some(signed.roster.index) > self.strong.status.membership_index;
        let is_due = |at: u64| self.mono_ms >= at + INTRODUCED_EVERY_MS;
        if is_news && self.strong.telling.introduced_ms.is_none_or(is_due) {
            let (index, members) = (signed.roster.index, signed.roster.members());
            step.asks.push(Ask::Introduce { index, members });
            self.strong.telling.introduced_ms = Some(self.mono_ms);
        }
    }

    /// The group asks this node to be one of its anchors.
    pub(crate) fn invited(&mut self, session: SessionId, invite: Invite, step: &mut Step) {
        let Some(peer) = self.links.get(&session).map(|link| link.peer) else { return };
        let Invite { anchor, replica, ref roster, .. } = invite;
        let is_ours = replica == self.id && roster.roster.get(anchor).is_some_and(|at| at.peer == self.peer);
        // What was said before this node was removed means nothing any more.
        let is_news = Some(roster.roster.index) > self.strong.known.since;
        let is_willing = self.config.anchors_target > 0 && self.config.replicate == Replicate::All;
        if self.strong.anchor.is_some() || !is_ours || !is_news || !is_willing {
            return;
        }
        if !invite.is_genuine(self.config.cluster) {
            return self.refuse_group(peer, invite.signature.group);
        }
        if !self.is_of_group(peer, invite.signature.group, step) {
            return;
        }
        tracing::info!(%anchor, "this node becomes an anchor");
        self.counters.count("invitations_taken");
        self.strong.known.since = Some(roster.roster.index);
        self.seat(anchor, step);
        self.take_roster(invite.roster, step);
        self.introduce(step);
        self.tell_of_anchors(step);
    }

    /// This node is no anchor any more: it forgets the group's log, and follows.
    fn leave_anchors(&mut self, index: LogIndex, step: &mut Step) {
        tracing::warn!("the group has removed this node; it is an anchor no more");
        self.counters.count("seats_lost");
        let ids: Vec<KeyspaceId> = self.strong.modes.keys().copied().collect();
        for id in ids {
            self.change_mode(id, None, |mode| {
                mode.leave_group();
                true
            });
        }
        let strong = &mut self.strong;
        (strong.anchor, strong.applied) = (None, None);
        (strong.known.secret, strong.known.wanted, strong.known.since) = (None, None, Some(index));
        strong.status = crate::ports::Status::default();
        strong.missed.clear();
        strong.anchoring.forget_changes();
        strong.remember(step);
        step.raft.push(RaftWrite::Forget);
        step.asks.push(Ask::Close);
    }

    /// What is due, for every node.
    pub(crate) fn tick_anchors(&mut self, now: Now, step: &mut Step) {
        self.refresh_roster(step);
        self.introduce(step);
        self.tick_governed(now, step);
        self.tend_group(now, step);
        self.tell_of_anchors(step);
    }
}
