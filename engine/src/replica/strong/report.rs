//! What a node reports of the group of anchors, for status and metrics.

use super::OtherGroup;
use crate::group_key::GroupKey;
use crate::id::{KeyspaceName, PeerId};
use crate::ports::{Address, AnchorId, Status};
use crate::replica::Replica;
use crate::roster::Seated;

/// A leader that no majority has answered for so long, in milliseconds, leads nobody.
const QUORUM_MS: u64 = 3_000;

/// The group of anchors, as far as a node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupReport {
    /// Its name, once it is known.
    pub key: Option<GroupKey>,
    /// Which of its anchors the node is, if it is one.
    pub seat: Option<AnchorId>,
    /// How it stands, for an anchor.
    pub status: Status,
    /// Who leads.
    pub leader: Option<AnchorId>,
    /// How long ago a majority last answered this anchor, in milliseconds, if it leads.
    pub quorum_ack_ms: Option<u64>,
    /// Whether a majority of the voters agrees on what is written now, as far as is known.
    pub has_quorum: bool,
    /// Its members, by their numbers.
    pub anchors: Vec<AnchorReport>,
    /// The strong keyspaces of which fewer than a majority of the voters are known to have all.
    pub thin: Vec<KeyspaceName>,
    /// A group that is not this one, of which a peer has told.
    pub other: Option<OtherGroup>,
    /// Why the node takes no part in it until it starts again, if it does not.
    pub stopped: Option<String>,
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else of the anchor")]
pub struct AnchorReport {
    /// Its number.
    pub anchor: AnchorId,
    /// Who it is.
    pub peer: PeerId,
    /// Where it was to be found when it became one.
    pub addresses: Vec<Address>,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it is connected and says that it is that anchor.
    pub is_here: bool,
    /// Whether it makes the frames of all strong keyspaces, as far as is known.
    pub is_exact: bool,
    /// How long ago it was connected last, in milliseconds, if it was since the start.
    pub heard_ms: Option<u64>,
}

impl Replica {
    /// Who leads: as the own group says, or else as an anchor does.
    fn leader(&self) -> Option<AnchorId> {
        let told = self.links.values().filter(|link| link.is_anchor).filter_map(|link| link.seat.leader);
        self.strong.status.leader.filter(|_| self.strong.anchor.is_some()).or_else(|| told.max())
    }

    /// How long ago a majority last answered this anchor. What the group said of that grows older.
    fn quorum_ack_ms(&self) -> Option<u64> {
        let since_ms = self.mono_ms.saturating_sub(self.strong.stood_ms);
        let age = self.strong.status.quorum_ack_age.filter(|_| self.strong.leads())?;
        if self.strong.status.membership.voters.iter().all(|voters| voters.len() == 1) {
            return Some(0); // it is the majority, and has nobody to ask
        }
        Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX).saturating_add(since_ms))
    }

    /// The group of anchors; none as long as nothing is known of one.
    pub(crate) fn group_report(&self) -> Option<GroupReport> {
        let strong = &self.strong;
        let is_known = strong.anchor.is_some() || strong.known.key.is_some();
        is_known.then(|| GroupReport {
            key: strong.known.key,
            seat: strong.anchor,
            status: strong.status.clone(),
            leader: self.leader(),
            quorum_ack_ms: self.quorum_ack_ms(),
            has_quorum: self.leader().is_some() && self.quorum_ack_ms().is_none_or(|ms| ms < QUORUM_MS),
            anchors: self.anchor_reports(),
            thin: self.thin_keyspaces(),
            other: strong.other_group,
            stopped: strong.stopped.clone(),
        })
    }

    fn anchor_reports(&self) -> Vec<AnchorReport> {
        let membership = &self.strong.status.membership;
        let of_log = membership.members.iter().map(|(anchor, member)| Seated {
            anchor: *anchor,
            peer: member.peer,
            addresses: member.addresses.clone(),
            is_voter: membership.is_voter(*anchor),
        });
        let of_log: Vec<Seated> = of_log.collect();
        let is_of_log = self.strong.anchor.is_some() && !of_log.is_empty();
        let told = || self.strong.roster.as_ref().map(|signed| signed.roster.members.clone());
        let seated = if is_of_log { of_log } else { told().unwrap_or_default() };
        let (leader, seen) = (self.leader(), self.holdings.seen(self.mono_ms));
        let report = |Seated { anchor, peer, addresses, is_voter }| {
            let is_own = self.strong.anchor == Some(anchor);
            let is_here = is_own || self.link_of(anchor, peer).is_some();
            let heard = seen.iter().find(|(of, _)| *of == peer).map(|(_, ms)| *ms);
            AnchorReport {
                anchor,
                peer,
                addresses,
                is_voter,
                is_leader: leader == Some(anchor),
                is_here,
                is_exact: self.strong_keyspaces().all(|(id, _)| self.makes_of((anchor, peer), id)),
                heard_ms: if is_here { Some(0) } else { heard },
            }
        };
        seated.into_iter().map(report).collect()
    }

    /// The strong keyspaces that would not outlive the loss of an anchor that has all of them, as the leader knows it.
    fn thin_keyspaces(&self) -> Vec<KeyspaceName> {
        let Some(voters) = self.strong.status.membership.voters.first().filter(|_| self.strong.leads())
        else {
            return Vec::new();
        };
        let thin = self.strong_keyspaces().filter(|(id, _)| {
            voters.iter().filter(|anchor| self.makes(**anchor, *id)).count() * 2 <= voters.len()
        });
        thin.map(|(id, _)| self.strong.modes[&id].0.clone()).collect()
    }
}
