//! What a replica knows of one peer in one session.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AuthorCard, KeyspaceId, PeerId, ReplicaId};
use crate::ports::Address;

/// A session with a peer.
#[derive(Debug)]
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) peer: PeerId,
    /// The remote address of the connection.
    pub(crate) address: Address,
    /// Whether we dialled, so that the address can be dialled again.
    pub(crate) is_dialer: bool,
    /// The peer's card, once it has said hello.
    pub(crate) card: Option<AuthorCard>,
    /// Whether the peer takes in keyspaces that it does not know.
    pub(crate) takes_any_keyspace: bool,
    /// The keyspaces that both replicate.
    pub(crate) shared: BTreeMap<KeyspaceId, Shared>,
    /// The authors whose cards were sent in this session.
    pub(crate) cards_sent: BTreeSet<ReplicaId>,
    /// Whether the peer's queue is full: it is told of heads when there is room again.
    pub(crate) is_congested: bool,
    /// Confirmations that the peer waits for: per keyspace the highest seq of its own.
    pub(crate) to_confirm: BTreeMap<KeyspaceId, u64>,
}

/// A keyspace that we share with the peer of a link.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Whether fresh frames are pushed on this link, both ways.
    pub(crate) is_eager: bool,
    /// Up to which change of heads the peer was told.
    pub(crate) announced: u64,
    /// Heads of the peer that were beyond ours when we heard of them.
    pub(crate) news: BTreeMap<ReplicaId, u64>,
    /// When the oldest of the news came in.
    pub(crate) news_since_ms: u64,
    /// Authors whose frames this peer sends and we refuse.
    pub(crate) refused: BTreeSet<ReplicaId>,
    /// The heads that the last summary to the peer named, and when it was sent.
    pub(crate) summary_sent: Option<(u128, u64)>,
    /// Whether the peer's last summary named heads that were ours then.
    pub(crate) is_in_sync: bool,
    /// Summaries in a row that differed although the peer had been told of all heads.
    pub(crate) unexplained: u32,
}

impl Link {
    pub(crate) fn new(peer: PeerId, address: Address, is_dialer: bool) -> Self {
        Self {
            peer,
            address,
            is_dialer,
            card: None,
            takes_any_keyspace: false,
            shared: BTreeMap::new(),
            cards_sent: BTreeSet::new(),
            is_congested: false,
            to_confirm: BTreeMap::new(),
        }
    }

    /// Whether both replicate a keyspace.
    pub(crate) fn shares(&self, keyspace: KeyspaceId) -> bool {
        self.shared.contains_key(&keyspace)
    }
}
