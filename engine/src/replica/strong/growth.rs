//! What the leader of the anchors does by itself: it invites peers until there are as many anchors as are wanted, lets
//! them vote once they have caught up, and replaces those that have forgotten what they were.
//!
//! The number of voters stays odd, so two learners are promoted together, and nobody is promoted who does not make the
//! frames of every strong keyspace itself: each change leaves a majority that does. Learners that do not come are let
//! go. All of this is seen anew at each tick: nothing is remembered that a new leader would miss.

use std::collections::{BTreeMap, BTreeSet};

use super::anchors::Cause;
use super::{Ask, entry_of};
use crate::command::{Command, Execute};
use crate::gossip::Link;
use crate::group_key::{GroupSecret, Statement};
use crate::id::{KeyspaceId, PeerId, ReplicaId};
use crate::message::Message;
use crate::mode::Mode;
use crate::ports::{AnchorId, Change, Member, SessionId};
use crate::replica::{Now, Replica, Step};
use crate::request::Atomicity;
use crate::roster::Invite;

/// How long a peer is connected before it is invited, in milliseconds.
const CONNECTED_MS: u64 = 2_000;

/// How long a connected peer must say that it is not the anchor that it was, in milliseconds.
const GONE_MS: u64 = 3_000;

/// How long a learner may be away, or not come at all, in milliseconds.
const AWAY_MS: u64 = 60_000;

/// How often something is said or tried again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// How long a proposal of the leader may take, in milliseconds.
const PROPOSED_WITHIN_MS: u64 = 5_000;

/// How long a keyspace is left alone between two nudges at most, in milliseconds.
const NUDGED_MS_MAX: u64 = 60_000;

/// What a leader has seen since it leads.
#[derive(Debug, Default)]
pub(super) struct Tending {
    /// The learners that it has invited, and which replica each was.
    invited: BTreeMap<AnchorId, ReplicaId>,
    /// The keyspaces that some member follows.
    nudging: BTreeMap<KeyspaceId, Nudging>,
    /// Since when a member is not what it should be.
    amiss: BTreeMap<AnchorId, u64>,
    /// When it last did each thing that it does again and again.
    named_ms: Option<u64>,
    told_ms: Option<u64>,
    rest_until_ms: u64,
}

/// The members that follow a keyspace, each in its session, and whether its heads were those of this node.
type Followers = BTreeMap<(AnchorId, SessionId), bool>;

/// How often a keyspace is nudged that some member follows.
#[derive(Debug, Default)]
struct Nudging {
    followers: Followers,
    due_ms: u64,
    wait_ms: u64,
}

impl Nudging {
    /// Whether the keyspace is nudged now: a moment after another member follows or one has come to have all of it for
    /// the first time, and then ever more rarely, for there may be members that cannot go on.
    fn is_due(&mut self, followers: Followers, now_ms: u64) -> bool {
        let had = std::mem::replace(&mut self.followers, followers);
        let mut is_news = false;
        for (follower, has_all) in &mut self.followers {
            let before = had.get(follower).copied();
            is_news |= before.is_none_or(|had_all| *has_all && !had_all);
            *has_all |= before.unwrap_or(false);
        }
        if is_news {
            (self.wait_ms, self.due_ms) = (AGAIN_MS, now_ms + AGAIN_MS);
        }
        let is_due = now_ms >= self.due_ms;
        if is_due {
            self.wait_ms = (2 * self.wait_ms).min(NUDGED_MS_MAX);
            self.due_ms = now_ms + self.wait_ms;
        }
        is_due
    }
}

impl Tending {
    /// A change was refused: it is not tried again at once.
    pub(super) fn rest(&mut self, now_ms: u64) {
        self.rest_until_ms = now_ms + AGAIN_MS;
    }
}

fn is_due(last_ms: &mut Option<u64>, now_ms: u64, every_ms: u64) -> bool {
    let is_due = last_ms.is_none_or(|last| now_ms >= last + every_ms);
    if is_due {
        *last_ms = Some(now_ms);
    }
    is_due
}

impl Replica {
    /// What is due for whoever leads.
    pub(super) fn tend_group(&mut self, now: Now, step: &mut Step) {
        if !self.strong.leads() {
            self.strong.anchoring.tending = Tending::default();
            return;
        }
        let Some(secret) = self.strong.known.secret.clone() else { return self.name_group(now, step) };
        self.look_at_members(now.mono_ms);
        self.invite_again(now.mono_ms, &secret, step);
        self.nudge_followers(now, step);
        if now.mono_ms < self.strong.anchoring.tending.rest_until_ms || !self.may_change_group() {
            return;
        }
        if let Some(change) = self.next_change(now) {
            self.change_group(Cause::Tending, change, step);
        }
    }

    /// Proposes the key of the group, until there is one.
    pub(super) fn name_group(&mut self, now: Now, step: &mut Step) {
        if is_due(&mut self.strong.anchoring.tending.named_ms, now.mono_ms, PROPOSED_WITHIN_MS) {
            let seed = self.draw(now, "tidelock 2026-11-21 secret of a group of anchors", &[]);
            self.propose_alone(&Command::NameGroup(GroupSecret::from(seed)), step);
        }
    }

    /// Proposes something whose outcome the log alone tells.
    pub(super) fn propose_alone(&mut self, command: &Command, step: &mut Step) {
        let (id, entry) = (self.strong.requests.next_id(), entry_of(std::slice::from_ref(command)));
        step.asks.push(Ask::Propose { id, entry, within_ms: PROPOSED_WITHIN_MS });
    }

    /// The link with a member that says that it is that anchor.
    pub(super) fn link_of(&self, anchor: AnchorId, peer: PeerId) -> Option<&Link> {
        self.session_of(anchor, peer).map(|(_, link)| link)
    }

    fn session_of(&self, anchor: AnchorId, peer: PeerId) -> Option<(SessionId, &Link)> {
        let is = |link: &Link| link.peer == peer && link.card.is_some() && link.seat.seat == Some(anchor);
        self.links.iter().find(|(_, link)| is(link)).map(|(session, link)| (*session, link))
    }

    fn is_here(&self, anchor: AnchorId, member: &Member) -> bool {
        self.strong.anchor == Some(anchor) || self.link_of(anchor, member.peer).is_some()
    }

    /// Whether a member makes the frames of a keyspace itself, as far as is known.
    pub(super) fn makes(&self, anchor: AnchorId, id: KeyspaceId) -> bool {
        let member = self.strong.status.membership.members.get(&anchor);
        member.is_some_and(|member| self.makes_of((anchor, member.peer), id))
    }

    /// The same, of an anchor whose peer is known.
    pub(super) fn makes_of(&self, (anchor, peer): (AnchorId, PeerId), id: KeyspaceId) -> bool {
        if self.strong.anchor == Some(anchor) {
            return self.mode(id).is_some_and(Mode::is_exact);
        }
        self.link_of(anchor, peer).is_some_and(|link| link.seat.exact.contains(&id))
    }

    /// The learners that could vote now.
    pub(super) fn ready_learners(&self) -> Vec<AnchorId> {
        let membership = &self.strong.status.membership;
        let learners = membership.members.iter().filter(|(anchor, _)| !membership.is_voter(**anchor));
        let is_ready = |(anchor, member): &(&AnchorId, &Member)| {
            let is_well = self.link_of(**anchor, member.peer).is_some_and(|link| !link.is_congested);
            is_well && self.strong_keyspaces().all(|(id, _)| self.makes(**anchor, id))
        };
        learners.filter(is_ready).map(|(anchor, _)| *anchor).collect()
    }

    /// The peers that could be anchors, those that are connected for longest first.
    pub(super) fn candidates(&self, now_ms: u64) -> Vec<(PeerId, SessionId)> {
        let members = &self.strong.status.membership.members;
        let is_member = |peer: PeerId| {
            members.iter().any(|(anchor, member)| member.peer == peer && !self.is_gone(*anchor, now_ms))
        };
        let fit = self.links.iter().filter(|(_, link)| {
            let is_well = link.card.is_some() && !link.is_congested && link.takes_any_keyspace;
            let is_free = link.seat.seat.is_none() && !link.seat.is_unwilling && !is_member(link.peer);
            is_well && is_free && now_ms >= link.greeted_ms + CONNECTED_MS
        });
        let mut fit: Vec<_> = fit.map(|(session, link)| (link.greeted_ms, link.peer, *session)).collect();
        fit.sort_unstable();
        fit.into_iter().map(|(_, peer, session)| (peer, session)).collect()
    }

    /// Notes since when members are not what they should be.
    fn look_at_members(&mut self, now_ms: u64) {
        let membership = &self.strong.status.membership;
        let members = &membership.members;
        let amiss: BTreeSet<AnchorId> = members
            .iter()
            .filter(|(anchor, member)| !self.is_here(**anchor, member))
            .map(|it| *it.0)
            .collect();
        let tending = &mut self.strong.anchoring.tending;
        tending.amiss.retain(|anchor, _| amiss.contains(anchor));
        for anchor in amiss {
            tending.amiss.entry(anchor).or_insert(now_ms);
        }
        // Who has come and says later that it is none has forgotten what it was.
        let adding = self.strong.anchoring.adding;
        tending.invited.retain(|anchor, _| {
            tending.amiss.contains_key(anchor) || adding == Some(*anchor) && !members.contains_key(anchor)
        });
    }

    fn amiss_for(&self, anchor: AnchorId, now_ms: u64) -> u64 {
        self.strong.anchoring.tending.amiss.get(&anchor).map_or(0, |since| now_ms.saturating_sub(*since))
    }

    /// Whether a member has forgotten what it was: its peer is connected and says so.
    pub(super) fn is_gone(&self, anchor: AnchorId, now_ms: u64) -> bool {
        let Some(member) = self.strong.status.membership.members.get(&anchor) else { return true };
        let is_invited = self.strong.anchoring.tending.invited.contains_key(&anchor);
        let says_so = self.links.values().any(|link| {
            link.peer == member.peer && link.card.is_some() && now_ms >= link.greeted_ms + CONNECTED_MS
        });
        !is_invited && says_so && self.amiss_for(anchor, now_ms) >= GONE_MS
    }

    /// Says to learners that have not come yet what they are.
    fn invite_again(&mut self, now_ms: u64, secret: &GroupSecret, step: &mut Step) {
        let Some(signed) = self.strong.roster.clone() else { return };
        if !is_due(&mut self.strong.anchoring.tending.told_ms, now_ms, AGAIN_MS) {
            return;
        }
        let index = signed.roster.index;
        for (anchor, replica) in self.strong.anchoring.tending.invited.clone() {
            let Some(seated) = signed.roster.get(anchor) else { continue };
            let is_it = |link: &Link| {
                let is_free = link.peer == seated.peer && link.seat.seat.is_none();
                is_free && link.card.is_some_and(|card| card.replica() == replica)
            };
            let Some((session, _)) = self.links.iter().find(|(_, link)| is_it(link)) else { continue };
            let statement = Statement::Invitation { anchor, replica, index };
            let signature = secret.sign(self.config.cluster, &statement);
            let invite = Invite { anchor, replica, signature, roster: signed.clone() };
            step.sends.push((*session, Message::Invite(invite)));
        }
    }

    /// The connected members that have said what they make, and do not make the frames of a keyspace.
    fn followers_of(&self, id: KeyspaceId) -> Followers {
        let members = self.strong.status.membership.members.iter();
        let linked = members.filter_map(|(anchor, member)| {
            let (session, link) = self.session_of(*anchor, member.peer)?;
            let has_all = link.shared.get(&id).is_some_and(|shared| shared.is_in_sync);
            (!link.seat.exact.contains(&id)).then_some(((*anchor, session), has_all))
        });
        linked.collect()
    }

    /// A member that follows a keyspace, and has all of it, makes its frames itself from the next one on. Where nobody
    /// writes, the leader makes one that changes nothing.
    fn nudge_followers(&mut self, now: Now, step: &mut Step) {
        let own = self.strong_keyspaces().filter(|(_, mode)| mode.is_exact()).map(|(id, _)| id);
        let followed = own.map(|id| (id, self.followers_of(id))).filter(|(_, by)| !by.is_empty());
        let followed: BTreeMap<KeyspaceId, Followers> = followed.collect();
        let nudging = &mut self.strong.anchoring.tending.nudging;
        nudging.retain(|id, _| followed.contains_key(id));
        let due = followed.into_iter().filter_map(|(id, followers)| {
            nudging.entry(id).or_default().is_due(followers, now.mono_ms).then_some(id)
        });
        let nudged: Vec<KeyspaceId> = due.collect();
        for keyspace in nudged {
            let operation = self.operation(now, keyspace, None, 1);
            // Nobody waits for it.
            self.strong.requests.names.close(&operation, 1);
            let hlc = self.clock.tick(now.unix_ms);
            let (actions, atomicity) = (Vec::new(), Atomicity::Together);
            let execute = Execute { keyspace, operation, hlc, actions, atomicity };
            self.propose_alone(&Command::Execute(execute), step);
        }
    }

    /// How many voters there are to be.
    pub(super) fn voters_wanted(&self) -> usize {
        let target = self.config.anchors_target;
        self.strong.known.wanted.map_or(target, |wanted| target.min(usize::from(wanted)))
    }

    /// What is to be changed next, if anything is.
    fn next_change(&mut self, now: Now) -> Option<Change> {
        let now_ms = now.mono_ms;
        let membership = self.strong.status.membership.clone();
        let voters = membership.voters.first()?.clone();
        let ready = self.ready_learners();
        let gone: Vec<AnchorId> = voters.iter().copied().filter(|it| self.is_gone(*it, now_ms)).collect();
        if let (Some(old), Some(new)) = (gone.first(), ready.first()) {
            let changed = replaced(&voters, &[*old], &[*new]);
            return self.keeps_majorities(&changed).is_ok().then_some(Change::SetVoters(changed));
        }
        let are_well = voters.iter().all(|anchor| self.is_here(*anchor, &membership.members[anchor]));
        let missing = if voters.len().is_multiple_of(2) { 1 } else { 2 };
        if are_well && ready.len() >= missing {
            let changed = replaced(&voters, &[], &ready[..missing]);
            return self.keeps_majorities(&changed).is_ok().then_some(Change::SetVoters(changed));
        }
        let learners = membership.members.keys().filter(|anchor| !voters.contains(anchor));
        let mut lost =
            learners.filter(|it| self.is_gone(**it, now_ms) || self.amiss_for(**it, now_ms) >= AWAY_MS);
        if let Some(lost) = lost.next() {
            return Some(Change::RemoveLearner(*lost));
        }
        let wanted = self.voters_wanted();
        if membership.members.len() - gone.len() >= wanted {
            return None;
        }
        let (peer, _) = self.candidates(now_ms).first().copied()?;
        self.invite(now, peer)
    }

    /// The change that makes a connected peer a learner. It is invited once that is agreed on.
    pub(super) fn invite(&mut self, now: Now, peer: PeerId) -> Option<Change> {
        let link = self.links.values().find(|link| link.peer == peer)?;
        let replica = link.card?.replica();
        let addresses = self.membership.addresses_of(peer);
        let anchor = self.draw_anchor(now);
        self.strong.anchoring.adding = Some(anchor);
        self.strong.anchoring.tending.invited.insert(anchor, replica);
        Some(Change::AddLearner(anchor, Member { peer, addresses }))
    }

    /// Whether these voters would have a majority that makes the frames, in every strong keyspace.
    pub(super) fn keeps_majorities(&self, voters: &BTreeSet<AnchorId>) -> Result<(), String> {
        for (id, _) in self.strong_keyspaces() {
            let makers = voters.iter().filter(|anchor| self.makes(**anchor, id)).count();
            if makers * 2 <= voters.len() {
                let (name, number) = (&self.strong.modes[&id].0, voters.len());
                return Err(format!("only {makers} of these {number} have all of keyspace {name}"));
            }
        }
        Ok(())
    }
}

/// Voters without some and with others.
pub(super) fn replaced(
    voters: &BTreeSet<AnchorId>,
    old: &[AnchorId],
    new: &[AnchorId],
) -> BTreeSet<AnchorId> {
    voters.iter().filter(|anchor| !old.contains(anchor)).chain(new).copied().collect()
}
