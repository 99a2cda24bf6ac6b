//! What a node says about itself: the status that operators and `tidelock status` read.

use std::time::Duration;

use thiserror::Error;
use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::ports::{AnchorId, Conditional};
use tidelock_engine::replica::GroupReport;
pub use tidelock_engine::replica::Kept;

use crate::node::KeyspaceMode;

/// A node as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The name that the operator gave it, if any.
    pub name: Option<String>,
    /// Its version.
    pub version: &'static str,
    /// Who it is to its peers.
    pub peer: PeerId,
    /// Whose operations it mints.
    pub replica: ReplicaId,
    /// The name of its cluster.
    pub cluster: String,
    /// The addresses it listens on.
    pub listen: Vec<String>,
    /// Whether it talks to peers at all; `false` after NETWORK OFFLINE.
    pub is_online: bool,
    /// How long it has been running.
    pub uptime: Duration,
    /// The peers it is connected with now.
    pub peers_connected: usize,
    /// The keyspaces it holds.
    pub keyspaces: usize,
    /// The keys that exist in all of them.
    pub keys: u64,
    /// The frames in its log.
    pub frames: u64,
    /// The log, and who holds it back.
    pub log: LogStatus,
    /// The bytes on disk.
    pub bytes_on_disk: u64,
    /// Named counters since the start, such as `frames_received` and `refused_wrong_signature`.
    pub counters: Vec<(String, u64)>,
    /// Why reads or writes of some keyspace would be refused; empty when the node is ready.
    pub not_ready: Vec<NotReady>,
    /// What an operator should look at, in sentences; empty when all is well.
    pub warnings: Vec<String>,
    /// The group of anchors, if there is one as far as is known.
    pub group: Option<GroupReport>,
}

/// Why a node would refuse reads or writes. The sentences are for people, the words for programs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// State of a keyspace is being fetched from a peer.
    #[error("keyspace {0} is being fetched from a peer")]
    Loading(KeyspaceName),
    /// The node's own replica has two histories, and takes no writes until it rejoins.
    #[error("{0}")]
    Forked(String),
    /// The disk is full; writes are taken again once there is room.
    #[error("{0}")]
    DiskFull(String),
    /// Writes are refused until the node is started again, or rejoins after it was retired.
    #[error("{0}")]
    ReadOnly(String),
    /// No majority of the anchors answers, so strong keyspaces take no writes.
    #[error("no majority of the anchors answers, and keyspaces here are strong")]
    NoQuorum,
    /// The node was shut down.
    #[error("the node is shutting down")]
    Closed,
}

impl NotReady {
    /// The reason in a word: `loading`, `forked`, `disk_full`, `read_only`, `no_quorum` or `closed`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Loading(_) => "loading",
            Self::Forked(_) => "forked",
            Self::DiskFull(_) => "disk_full",
            Self::ReadOnly(_) => "read_only",
            Self::NoQuorum => "no_quorum",
            Self::Closed => "closed",
        }
    }
}

/// The log of a node, as it was when it was last looked for what may go of it: every two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// The bytes of what its records hold; the file that they are in is larger.
    pub bytes: u64,
    /// The position of the oldest record; all before it were let go of.
    pub first: u64,
    /// The age of the oldest record.
    pub age: Duration,
    /// Why the oldest record is kept; nothing keeps it otherwise.
    pub kept: Option<Kept>,
}

impl LogStatus {
    /// Why the oldest record is kept, in a word: `young`, `peer`, `alone` or `read`.
    pub fn kept_word(&self) -> Option<&'static str> {
        self.kept.map(|kept| match kept {
            Kept::Young => "young",
            Kept::For(_) => "peer",
            Kept::Alone => "alone",
            Kept::Outbox => "outbox",
            Kept::Read => "read",
        })
    }

    /// The peer that the oldest record is kept for, if it is kept for one.
    pub fn kept_for(&self) -> Option<PeerId> {
        if let Some(Kept::For(peer)) = self.kept { Some(peer) } else { None }
    }
}

/// A peer that is connected, wanted or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// Who, when it is known.
    pub peer: Option<PeerId>,
    /// Where.
    pub address: String,
    /// `connected`, `connecting` or `refused`, with the reason.
    pub state: String,
    /// The round-trip time.
    pub round_trip: Option<Duration>,
    /// How long it has been connected.
    pub connected_for: Option<Duration>,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: u64,
    /// Bytes that were sent to it since it is connected.
    pub bytes_sent: u64,
    /// Bytes that came from it since it is connected.
    pub bytes_received: u64,
    /// Messages that were sent to it since it is connected.
    pub messages_sent: u64,
    /// Messages that came from it since it is connected.
    pub messages_received: u64,
    /// Whether it takes messages more slowly than they are made.
    pub is_slow: bool,
    /// The keyspaces that both replicate.
    pub keyspaces: usize,
    /// Those of them in which it is known to hold all that this node holds.
    pub keyspaces_in_sync: usize,
}

impl PeerState {
    /// The keyspaces that both replicate in which the peer is not known to hold all that this node holds.
    pub fn keyspaces_behind(&self) -> usize {
        self.keyspaces.saturating_sub(self.keyspaces_in_sync)
    }
}

/// A replica that has written, or this node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Its id.
    pub replica: ReplicaId,
    /// The node that it is, or was, if its card is here.
    pub peer: Option<PeerId>,
    /// Whether it is this node's.
    pub is_own: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// How long ago its node was last connected, if it was since the start.
    pub seen: Option<Duration>,
    /// Where it has written, by name.
    pub keyspaces: Vec<ReplicaKeyspace>,
}

/// What a replica wrote in a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaKeyspace {
    /// The keyspace.
    pub name: KeyspaceName,
    /// The number of its operations that were applied here.
    pub seq: u64,
    /// That it was retired.
    pub retired: Option<Retirement>,
}

/// That a replica was retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// By which replica.
    pub by: ReplicaId,
    /// When, by the clock of that one, in Unix milliseconds.
    pub unix_ms: u64,
    /// Its last operation that was known then. If it has more, it lives.
    pub last: u64,
}

/// A keyspace that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceStatus {
    /// Its name.
    pub name: KeyspaceName,
    /// Its mode, and how it stands there if it is or was strong.
    pub mode: ModeStatus,
    /// The keys that exist.
    pub keys: u64,
    /// The replicas that wrote in it.
    pub authors: usize,
    /// A text that is equal on two peers exactly when their vectors and rows are.
    pub fingerprint: String,
    /// The connected peers that replicate it.
    pub peers: usize,
    /// The bytes of its keys, elements, fields and values, as quotas count them.
    pub bytes: u64,
    /// What it may hold on this node, if that is limited. What comes from peers may be more.
    pub quota_bytes: Option<u64>,
    /// Whether its state is being fetched from a peer, so that it can be neither read nor written.
    pub is_loading: bool,
    /// What is done on this node with commands that decide.
    pub conditional: Conditional,
    /// For how long no connected peer has replicated it, if none does.
    pub alone: Option<Duration>,
    /// Whether a peer with an equal vector showed other rows.
    pub is_diverged: bool,
}

/// The mode of a keyspace, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeStatus {
    /// The mode.
    pub mode: KeyspaceMode,
    /// Where this node stands if it is an anchor and the keyspace is strong: `exact` if it makes the frames itself,
    /// `behind` if it takes those that others make.
    pub standing: Option<&'static str>,
    /// Who leads the anchors, as far as this node is one.
    pub leader: Option<AnchorId>,
    /// The number of the last strong operation here.
    pub revision: u64,
    /// The operations here that were written in an epoch that is over, and that no epoch has taken in.
    pub outbox: u64,
}

/// The figures of a node's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The keys that exist in all keyspaces.
    pub keys: u64,
    /// The frames in the log.
    pub frames: u64,
    /// The bytes of both files.
    pub bytes_on_disk: u64,
}
