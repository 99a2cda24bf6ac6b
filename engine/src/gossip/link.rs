//! What a replica knows of one peer in one session.

use std::collections::{BTreeMap, BTreeSet};

use crate::causality::Dot;
use crate::id::{AuthorCard, KeyspaceId, PeerId, ReplicaId};
use crate::message::KEYSPACES_MAX;
use crate::ports::Address;
use crate::roster::AnchorNews;

/// The authors of which one link has news at most; more are announced again later.
const NEWS_MAX: usize = 1 << 16;

/// A head of a peer that is beyond ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    /// The seq that the peer has.
    pub(crate) seq: u64,
    /// Since when we know that the peer has more than we.
    pub(crate) since_ms: u64,
}

/// A session with a peer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else of the peer")]
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
    /// The keyspaces that the peer said it replicates; at most [`KEYSPACES_MAX`].
    pub(crate) offered: BTreeSet<KeyspaceId>,
    /// Those that it does not, although it may take in others; at most [`KEYSPACES_MAX`].
    pub(crate) declined: BTreeSet<KeyspaceId>,
    /// The keyspaces that both replicate.
    pub(crate) shared: BTreeMap<KeyspaceId, Shared>,
    /// The authors whose cards were sent in this session.
    pub(crate) cards_sent: BTreeSet<ReplicaId>,
    /// Whether the peer's queue is full: it may miss messages, and is told of all heads when there is room.
    pub(crate) is_congested: bool,
    /// The bytes of frames that the peer was answered in this turn.
    pub(crate) answered_bytes: usize,
    /// Confirmations that the peer waits for: per keyspace the highest seq of its own.
    pub(crate) to_confirm: BTreeMap<KeyspaceId, u64>,
    /// Whether the peer says that it is an anchor.
    pub(crate) is_anchor: bool,
    /// What the peer says of itself as an anchor.
    pub(crate) seat: AnchorNews,
    /// When it said hello, on our monotonic clock.
    pub(crate) greeted_ms: u64,
}

/// A keyspace that we share with the peer of a link.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Whether fresh frames are pushed on this link, both ways.
    pub(crate) is_eager: bool,
    /// Up to which change of heads the peer was told.
    pub(crate) announced: u64,
    /// Heads of the peer that are beyond ours; at most [`NEWS_MAX`].
    pub(crate) news: BTreeMap<ReplicaId, News>,
    /// Answers in a row that brought nothing of what was asked for.
    pub(crate) fruitless: u32,
    /// Whether the peer has asked for frames; an answer that did not fit its queue is to be asked for again.
    pub(crate) has_asked: bool,
    /// Authors of whom this peer has shown another history, and where it was last asked for it.
    pub(crate) forked: BTreeMap<ReplicaId, u64>,
    /// The heads that the last summary to the peer named, and when it was sent.
    pub(crate) summary_sent: Option<(u128, u64)>,
    /// The heads and the fingerprint that the peer's last summary named.
    pub(crate) summary_heard: Option<(u128, u128)>,
    /// Whether the peer's last summary named heads that were ours then.
    pub(crate) is_in_sync: bool,
    /// Up to which change of heads the peer was told what is held here, and when.
    pub(crate) held_told: u64,
    pub(crate) held_told_ms: u64,
    /// Since when it is known that the peer lets go of what is lacking here; see `transfer`.
    pub(crate) below_since_ms: Option<u64>,
    /// Summaries in a row that differed although the peer had been told of all heads.
    pub(crate) unexplained: u32,
}

impl Shared {
    /// Takes in that the peer has an author's operations up to `seq`, which is beyond what `applied` here.
    pub(crate) fn hear(&mut self, author: ReplicaId, seq: u64, applied: u64, now_ms: u64) {
        let has_room = self.news.len() < NEWS_MAX;
        match self.news.get_mut(&author) {
            Some(news) if news.seq > applied => news.seq = news.seq.max(seq),
            Some(news) => *news = News { seq, since_ms: now_ms },
            None if has_room => {
                self.news.insert(author, News { seq, since_ms: now_ms });
            }
            None => {}
        }
    }

    /// Whether the peer has this operation, as far as its news say.
    pub(crate) fn has_told_of(&self, dot: Dot) -> bool {
        self.news.get(&dot.replica).is_some_and(|news| news.seq >= dot.seq)
    }
}

impl Link {
    pub(crate) fn new(peer: PeerId, address: Address, is_dialer: bool) -> Self {
        Self {
            peer,
            address,
            is_dialer,
            card: None,
            takes_any_keyspace: false,
            offered: BTreeSet::new(),
            declined: BTreeSet::new(),
            shared: BTreeMap::new(),
            cards_sent: BTreeSet::new(),
            is_congested: false,
            answered_bytes: 0,
            to_confirm: BTreeMap::new(),
            is_anchor: false,
            seat: AnchorNews::default(),
            greeted_ms: 0,
        }
    }

    /// The peer says that it replicates a keyspace.
    pub(crate) fn offer(&mut self, id: KeyspaceId) {
        self.declined.remove(&id);
        if self.offered.len() < KEYSPACES_MAX {
            self.offered.insert(id);
        }
    }

    /// The peer says that it does not.
    pub(crate) fn decline(&mut self, id: KeyspaceId) {
        self.offered.remove(&id);
        if self.declined.len() < KEYSPACES_MAX {
            self.declined.insert(id);
        }
    }

    /// Whether the peer replicates a keyspace, or would if it heard of it.
    pub(crate) fn takes(&self, id: KeyspaceId) -> bool {
        self.offered.contains(&id) || self.takes_any_keyspace && !self.declined.contains(&id)
    }

    /// One of both does not replicate a keyspace any more.
    pub(crate) fn unshare(&mut self, id: KeyspaceId) {
        self.shared.remove(&id);
        self.to_confirm.remove(&id);
    }

    /// Whether both replicate a keyspace.
    pub(crate) fn shares(&self, keyspace: KeyspaceId) -> bool {
        self.shared.contains_key(&keyspace)
    }
}
