//! What openraft is made of here: its type parameters, and the names of the types that follow from them.
//!
//! There is one instantiation of [`openraft::Raft`], by [`Raft`]; everything generic is compiled once, in this crate.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use openraft::alias;
use openraft::impls::leader_id_std::LeaderId;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{AnchorId, LogIndex, Member, Membership};

use crate::machine::Machine;
use crate::runtime::Runtime;

/// A command, as bytes. Cheap to clone: it is in the log, on its way to every other anchor and about to be applied.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Arc<[u8]>);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What applying a command replied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

/// A [`Member`] as openraft carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) public_key: [u8; 32],
    pub(crate) addresses: Vec<String>,
}

impl From<Member> for Seat {
    fn from(member: Member) -> Self {
        Self { public_key: *member.peer.public_key(), addresses: member.addresses }
    }
}

impl From<Seat> for Member {
    fn from(seat: Seat) -> Self {
        Self { peer: PeerId::from_public_key(seat.public_key), addresses: seat.addresses }
    }
}

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Seat,
        LeaderId = LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = Runtime,
);

/// A group's Raft.
pub(crate) type Raft = openraft::Raft<Types, Machine>;
/// An entry of the log.
pub(crate) type Entry = alias::EntryOf<Types>;
/// What an entry says.
pub(crate) type Payload = openraft::EntryPayload<Command, u64, Seat>;
/// Term and index of an entry: with one leader per term they say all.
pub(crate) type LogId = alias::LogIdOf<Types>;
/// Whom an anchor follows or voted for, and in which term.
pub(crate) type Vote = alias::VoteOf<Types>;
/// A membership and where it is in the log.
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
/// What a snapshot covers.
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
/// The bytes of a snapshot. Cheap to clone: it is sent to several anchors at once.
pub(crate) type SnapshotBytes = Arc<[u8]>;
/// A snapshot.
pub(crate) type Snapshot = alias::SnapshotOf<Types, SnapshotBytes>;

/// A log id of its two numbers.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The membership as the engine knows it.
pub(crate) fn membership(raft: &openraft::Membership<u64, Seat>) -> Membership {
    let anchors = |ids: &std::collections::BTreeSet<u64>| ids.iter().copied().map(AnchorId).collect();
    let members: BTreeMap<AnchorId, Member> =
        raft.nodes().map(|(id, seat)| (AnchorId(*id), seat.clone().into())).collect();
    Membership { voters: raft.get_joint_config().iter().map(anchors).collect(), members }
}

/// The index of a log id, as the engine knows it.
pub(crate) fn index(id: Option<&LogId>) -> Option<LogIndex> {
    id.map(|id| LogIndex(id.index))
}
