//! What goes into a step, and what comes out of it.

use crate::causality::Hlc;
use crate::command::OperationId;
use crate::draft::Draft;
use crate::frame::Frame;
use crate::id::{AuthorCard, KeyspaceName};
use crate::install::Install;
use crate::message::Message;
use crate::ports::{
    Address, Durability, Log, LogPosition, RaftWrite, SessionId, Settings, Target, TransportEvent,
};
use crate::replica::{AnchorOrder, AnchorReply, Ask, Heard, Label, Order, OrderReply, Terms};
use crate::request::{Request, RequestId, RequestReply};
use crate::staged::Staged;

/// The moment of a step, and randomness for its choices. The engine has no clock and no dice of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, in Unix milliseconds. It may jump.
    pub unix_ms: u64,
    /// A clock that only moves forward, in milliseconds since any fixed moment.
    pub mono_ms: u64,
    /// Fresh random bits.
    pub entropy: u64,
}

/// What happens to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client asks for something.
    Request(RequestId, Request),
    /// The same, and on what terms, if the keyspace is strong.
    RequestOn(RequestId, Request, Terms),
    /// The group of anchors has news.
    Consensus(Heard),
    /// A client wants to know how many peers have this replica's writes in a keyspace on disk. Answered by
    /// [`Step::confirmations`] as they come in, until [`Input::Forget`].
    Confirm(RequestId, KeyspaceName),
    /// The operator orders something of a keyspace. Answered by [`Step::orders`], now or in a later turn.
    Order(RequestId, KeyspaceName, Order),
    /// The operator orders something of the group of anchors. Answered by [`Step::governed`].
    Govern(RequestId, AnchorOrder),
    /// Nobody waits for these confirmations any more.
    Forget(RequestId),
    /// The network has news.
    Network(TransportEvent),
    /// A message could not be queued: the session's peer is slow.
    Congested(SessionId),
    /// The node listens on these addresses.
    Listening(Vec<Address>),
    /// The operator names a peer to keep connected with.
    Connect(Target),
    /// Time passes; at least every 100 ms while there are peers.
    Tick,
}

/// What a step reads, and the rows that the turn has changed so far.
pub struct View<'a, 'b> {
    /// The rows, with the turn's earlier changes.
    pub draft: &'a mut Draft<'b>,
    /// The committed frames.
    pub log: &'a dyn Log,
}

impl std::fmt::Debug for View<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("draft", &self.draft).finish_non_exhaustive()
    }
}

/// What a step wants done, in this order: committed, then sent, then answered.
#[derive(Debug, Default)]
pub struct Step {
    /// Keyspaces that are new here.
    pub keyspaces: Vec<KeyspaceName>,
    /// What is remembered of keyspaces from now on.
    pub settings: Vec<(KeyspaceName, Settings)>,
    /// What is remembered of the modes of keyspaces from now on.
    pub modes: Vec<(KeyspaceName, Vec<u8>)>,
    /// Which anchor this node is from now on.
    pub anchor: Option<Vec<u8>>,
    /// What is written to the log of the anchors, in order.
    pub raft: Vec<RaftWrite>,
    /// How far the log of the anchors is applied from now on.
    pub raft_applied: Option<Vec<u8>>,
    /// What the group of anchors is to be told or asked for, after the commit.
    pub asks: Vec<Ask>,
    /// What reads saw that were not linearizable.
    pub labels: Vec<(RequestId, Label)>,
    /// Cards of authors that are new here.
    pub cards: Vec<AuthorCard>,
    /// Frames that were made or applied.
    pub frames: Vec<Frame>,
    /// State that was taken over, each with the number of frames of this step before it.
    pub installs: Vec<(usize, Install)>,
    /// State that is to wait in the log.
    pub staged: Vec<Staged>,
    /// Up to where records of the log are needed no more.
    pub truncate: Option<LogPosition>,
    /// What has a deadline up to this moment has expired.
    pub expiry: Option<Hlc>,
    /// The highest durability that a request of this step asked for.
    pub durability: Option<Durability>,
    /// Messages.
    pub sends: Vec<(SessionId, Message)>,
    /// Sessions to end once their messages are sent, with the reason.
    pub closes: Vec<(SessionId, String)>,
    /// Whom to keep connected with from now on.
    pub connects: Vec<Target>,
    /// With whom no longer.
    pub disconnects: Vec<Target>,
    /// Answers to requests, and what each rests on.
    pub replies: Vec<(RequestId, RequestReply, Basis)>,
    /// How many peers have confirmed so far.
    pub confirmations: Vec<(RequestId, usize)>,
    /// How orders ended.
    pub orders: Vec<(RequestId, OrderReply)>,
    /// How orders of the group of anchors ended.
    pub governed: Vec<(RequestId, AnchorReply)>,
}

/// What an answer rests on: whether it holds if the turn cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What the turn commits, and the rows with that.
    Commit,
    /// The rows of this strong keyspace, with what the turn changes in them. Another anchor may be asked.
    Rows(KeyspaceName),
    /// What an operation did here. A majority of the anchors has it; but if the turn cannot be committed, this node has
    /// not, and its outcome is asked for.
    Executed(OperationId),
    /// What the group of anchors said, or another node, or that nothing was begun: it holds in any case.
    Told,
}

impl Step {
    /// Adds what a later step wants done.
    pub fn absorb(&mut self, later: Self) {
        self.keyspaces.extend(later.keyspaces);
        self.settings.extend(later.settings);
        // The newest mode of a keyspace comes last, and stands.
        self.modes.extend(later.modes);
        self.anchor = later.anchor.or(self.anchor.take());
        self.raft.extend(later.raft);
        self.raft_applied = later.raft_applied.or(self.raft_applied.take());
        self.asks.extend(later.asks);
        self.labels.extend(later.labels);
        self.cards.extend(later.cards);
        let before = self.frames.len();
        self.installs.extend(later.installs.into_iter().map(|(number, install)| (before + number, install)));
        self.frames.extend(later.frames);
        self.staged.extend(later.staged);
        self.expiry = later.expiry.or(self.expiry);
        self.truncate = self.truncate.max(later.truncate);
        self.durability = self.durability.max(later.durability);
        self.sends.extend(later.sends);
        self.closes.extend(later.closes);
        self.connects.extend(later.connects);
        self.disconnects.extend(later.disconnects);
        self.replies.extend(later.replies);
        self.confirmations.extend(later.confirmations);
        self.orders.extend(later.orders);
        self.governed.extend(later.governed);
    }
}
