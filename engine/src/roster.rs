//! What anchors tell of their group, and what every peer says of itself to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounded::list;
use crate::group_key::{GroupKey, GroupSignature, Statement};
use crate::id::{ClusterId, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use crate::message::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, KEYSPACES_MAX};
use crate::mode::ModeRecord;
use crate::ports::{Address, AnchorId, LogIndex, Member};

/// The members that a group has at most.
pub const ANCHORS_MAX: usize = 64;

/// How a strong epoch of a keyspace began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeNews {
    /// The keyspace.
    pub name: KeyspaceName,
    /// How.
    pub record: ModeRecord,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seated {
    /// Its number.
    pub anchor: AnchorId,
    /// Who it must prove to be.
    pub peer: PeerId,
    /// Where it was to be found when it became one.
    #[serde(deserialize_with = "list::<ADDRESSES_MAX, _, _>")]
    pub addresses: Vec<Address>,
    /// Whether it votes.
    pub is_voter: bool,
}

/// The members of a group, as of a place in its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The place. The highest counts.
    pub index: LogIndex,
    /// The members, in the order of their numbers.
    #[serde(deserialize_with = "list::<ANCHORS_MAX, _, _>")]
    pub members: Vec<Seated>,
}

impl Roster {
    /// A member.
    pub fn get(&self, anchor: AnchorId) -> Option<&Seated> {
        self.members.iter().find(|seated| seated.anchor == anchor)
    }

    /// As the group itself knows its members.
    pub fn members(&self) -> BTreeMap<AnchorId, Member> {
        let member = |seated: &Seated| Member { peer: seated.peer, addresses: seated.addresses.clone() };
        self.members.iter().map(|seated| (seated.anchor, member(seated))).collect()
    }
}

/// The members, and that the group says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRoster {
    /// The members.
    pub roster: Roster,
    /// That the group says so.
    pub signature: GroupSignature,
}

impl SignedRoster {
    /// Whether it is what its group says in a cluster.
    pub fn is_genuine(&self, cluster: ClusterId) -> bool {
        self.signature.is_for(cluster, &Statement::Members(&self.roster))
    }

    /// The group.
    pub fn group(&self) -> GroupKey {
        self.signature.group
    }
}

/// What a peer says of itself and of the group. What was never said is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorNews {
    /// Which anchor it is, if it is one.
    pub seat: Option<AnchorId>,
    /// Whether it never wants to be one.
    pub is_unwilling: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<AnchorId>,
    /// The strong keyspaces whose frames it makes itself.
    #[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")]
    pub exact: Vec<KeyspaceId>,
    /// The newest members that it knows of.
    pub roster: Option<SignedRoster>,
}

/// Asks a node to be an anchor from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Its number.
    pub anchor: AnchorId,
    /// Its replica, as of when it was chosen.
    pub replica: ReplicaId,
    /// That the group says so.
    pub signature: GroupSignature,
    /// The members, of which it is one.
    pub roster: SignedRoster,
}

impl Invite {
    /// Whether it is what the group says in a cluster.
    pub fn is_genuine(&self, cluster: ClusterId) -> bool {
        let (anchor, replica, index) = (self.anchor, self.replica, self.roster.roster.index);
        let is_one_group = self.signature.group == self.roster.group();
        let says_so = || self.signature.is_for(cluster, &Statement::Invitation { anchor, replica, index });
        is_one_group && says_so() && self.roster.is_genuine(cluster)
    }
}

/// Whether the addresses of a roster are bounded.
pub(crate) fn is_bounded(roster: &SignedRoster) -> bool {
    let mut addresses = roster.roster.members.iter().flat_map(|seated| &seated.addresses);
    addresses.all(|address| address.len() <= ADDRESS_BYTES_MAX)
}
