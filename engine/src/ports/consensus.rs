//! Consensus as the engine sees it: one group of anchors agrees on a log of commands.
//!
//! Whoever drives the engine feeds a [`Consensus`] with what arrived and what became durable, and polls it for what
//! is to be written, applied and sent. It never waits, writes no byte and opens no connection itself: what it wants
//! to be durable rides in the commit of the node's turn, so Raft shares its group commit with everything else, and
//! what it wants to say rides in the node's connections. Bytes that only consensus understands stay bytes here.
//!
//! Indexes start at 0, as openraft counts them. Times are given as what remains, so that no two clocks are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::PeerId;
use crate::ports::{Address, ReadError};

/// The longest command, in bytes: an operation with the largest key and value, and its envelope.
pub const COMMAND_BYTES_MAX: usize = 17 << 20;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A Raft group. A cluster has one today; the name is in every message and row so that it may have more.
    GroupId
}
number! {
    /// An anchor of a group: one store's membership, for the life of that store.
    ///
    /// Never used twice. A store that lost its disk has forgotten its votes; under its old id it would vote again
    /// in a term it voted in, and two leaders could be elected.
    AnchorId
}
impl AnchorId {
    /// The bits of the highest number: every JSON reader takes it for a whole number, and nothing overflows.
    pub const BITS: u32 = 48;
}

number! {
    /// A term of office: it has at most one leader.
    Term
}
number! {
    /// A position in the log of a group, from 0.
    LogIndex
}
number! {
    /// The driver's own name for something it asked for; the answer carries it. To be unique among what is open.
    RequestId
}
number! {
    /// The group's name for something that the driver must make durable; the driver's report carries it.
    Token
}

/// Where an anchor is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it must prove to be.
    pub peer: PeerId,
    /// Where to try, the best first.
    pub addresses: Vec<Address>,
}

/// Who is in a group, and who votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The voters: one set, or the old and the new one while the group passes from one to the other and needs a
    /// majority of both. Empty before the group was founded, as far as this anchor knows.
    pub voters: Vec<BTreeSet<AnchorId>>,
    /// All members, learners too.
    pub members: BTreeMap<AnchorId, Member>,
}

impl Membership {
    /// Whether an anchor votes, by either set.
    pub fn is_voter(&self, anchor: AnchorId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&anchor))
    }

    /// Whether the group is between two sets of voters.
    pub fn is_joint(&self) -> bool {
        self.voters.len() > 1
    }
}

/// One change to what is durable of a group. They are to be made in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaftWrite {
    /// Put an entry at an index. What is there was truncated before.
    Append {
        /// Where; one above the last entry.
        index: LogIndex,
        /// The entry.
        bytes: Vec<u8>,
    },
    /// Remove the entries from an index on.
    Truncate {
        /// The first to go.
        from: LogIndex,
    },
    /// Remove the entries up to an index and remember what the last of them was.
    Purge {
        /// The last to go. It may be above the last entry: then the log is empty and goes on behind it.
        until: LogIndex,
        /// What [`RaftLogState::purged`] is from now on.
        record: Vec<u8>,
    },
    /// What [`RaftLogState::vote`] is from now on. Losing one that was reported durable elects two leaders.
    Vote(Vec<u8>),
    /// Forget all of the group, how far it is applied too: this node is no anchor any more, and may become another one.
    /// The last write of a turn.
    Forget,
}

/// What a committed entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedPayload {
    /// Nothing: a leader began its term.
    Blank,
    /// A command, as it was proposed.
    Command(Vec<u8>),
    /// The group has these members from here on.
    Membership(Membership),
}

/// An entry that a majority has on disk. It never changes and is never taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place; entries come without gaps.
    pub index: LogIndex,
    /// The term of the leader that appended it.
    pub term: Term,
    /// What it says.
    pub payload: CommittedPayload,
}

/// How urgent a message is. A transport sends the first class first, and never lets a later one hold it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageClass {
    /// Small, and late it costs an election: heartbeats, votes, read indexes, and every answer.
    Heartbeat,
    /// Entries and proposals.
    Append,
    /// Pieces of snapshots.
    Snapshot,
}

impl MessageClass {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Heartbeat, Self::Append, Self::Snapshot];

    /// Its place in [`MessageClass::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why something was certainly not done: nothing was appended, and trying again is safe.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NotDone {
    /// No leader was found in time that a majority still follows.
    #[error("no leader in time, nothing was appended; the group may have lost its majority")]
    NoLeader,
    /// Another anchor leads, and this request is one that only the leader takes.
    #[error("not the leader, nothing was appended; ask {leader:?}")]
    NotLeader {
        /// Who leads, as far as is known here.
        leader: Option<AnchorId>,
    },
    /// Too much is open already.
    #[error("too many requests are open, nothing was appended; try again later")]
    Busy,
    /// The command is longer than [`COMMAND_BYTES_MAX`].
    #[error("command of {bytes} bytes, at most {COMMAND_BYTES_MAX} are allowed; nothing was appended")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// This anchor's group has stopped; see [`Output::Stopped`].
    #[error("this anchor has stopped; nothing was appended")]
    Stopped,
    /// The change would leave the group unsafe or is not possible now.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A majority has it on disk and it is applied here.
    Done {
        /// Where in the log.
        index: LogIndex,
        /// What applying it replied.
        reply: Vec<u8>,
    },
    /// It was not appended and never will be.
    Not(NotDone),
    /// It may be done, now, later, or never. Ask for the outcome of the operation; do not blindly repeat it.
    Unknown,
}

/// What an anchor is in its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It receives the log and does not vote, or is no member at all.
    #[default]
    Learner,
    /// It votes and follows.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// What an anchor knows of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The highest term seen.
    pub term: Term,
    /// Who leads it, if known.
    pub leader: Option<AnchorId>,
    /// What this anchor is.
    pub role: Role,
    /// The newest membership in the log, committed or not.
    pub membership: Membership,
    /// Where that membership stands in the log.
    pub membership_index: Option<LogIndex>,
    /// The last entry of the log.
    pub last: Option<LogIndex>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry applied.
    pub applied: Option<LogIndex>,
    /// The last entry that the newest snapshot covers.
    pub snapshot: Option<LogIndex>,
    /// The last entry that was purged.
    pub purged: Option<LogIndex>,
    /// For a leader: how long ago a majority last answered it.
    pub quorum_ack_age: Option<Duration>,
}

/// What the group wants of its driver. One poll's outputs are to be carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make these durable, then say [`Consensus::written`]. Nothing is acknowledged to anybody before that.
    Write {
        /// For the report.
        token: Token,
        /// What to write, in order.
        writes: Vec<RaftWrite>,
    },
    /// Apply these, make what they changed durable together with `record`, then say [`Consensus::applied`].
    Apply {
        /// For the report.
        token: Token,
        /// The entries, bounded by count and bytes.
        entries: Vec<Committed>,
        /// What [`RaftLogState::applied`] is from that commit on.
        record: Vec<u8>,
    },
    /// Send this to a member. It may be lost.
    Send {
        /// To whom.
        to: PeerId,
        /// How urgent it is.
        class: MessageClass,
        /// The message.
        bytes: Vec<u8>,
    },
    /// What became of a proposal.
    Proposed {
        /// Which.
        id: RequestId,
        /// What.
        outcome: Outcome,
    },
    /// A read that began before the barrier was asked for may be served from what is applied here: this index, at
    /// least, is. Or it may not be served.
    Barrier {
        /// Which.
        id: RequestId,
        /// The read index.
        result: Result<LogIndex, NotDone>,
    },
    /// What became of a change of the group.
    Administered {
        /// Which.
        id: RequestId,
        /// Done, certainly not done, or `None`: unknown. Changes can be repeated.
        result: Option<Result<(), NotDone>>,
    },
    /// Make a snapshot of the state as of the outputs before this one, then say [`Consensus::snapshot_built`].
    BuildSnapshot {
        /// For the report.
        token: Token,
        /// The last entry that is applied there, before the start or since; none if none ever was.
        applied: Option<LogIndex>,
    },
    /// Put this snapshot in place of the state, durably together with `record`, then say [`Consensus::installed`].
    InstallSnapshot {
        /// For the report.
        token: Token,
        /// The snapshot, as another anchor built it.
        bytes: Vec<u8>,
        /// What [`RaftLogState::applied`] is from that commit on.
        record: Vec<u8>,
    },
    /// Something in the status changed. Only the newest is kept for a poll.
    Status(Status),
    /// The group has stopped for good, and takes no part until the process starts again: what it wrote or read did
    /// not hold. It acknowledged nothing that was not durable.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// A change of the group. The leader alone takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make the group, with these voters. Once in its life, at one anchor, whose log is empty.
    Found(BTreeMap<AnchorId, Member>),
    /// Let an anchor receive the log. It does not vote.
    AddLearner(AnchorId, Member),
    /// Make these the voters, through a joint membership. Those added must be learners that are caught up; those
    /// removed are members no more.
    SetVoters(BTreeSet<AnchorId>),
    /// Remove a learner.
    RemoveLearner(AnchorId),
    /// Let another voter lead. Until it does, nothing is appended.
    Transfer(AnchorId),
    /// Ask for a snapshot, behind which the log is purged. Any anchor takes this one.
    Snapshot,
}

/// Why the driver could not do what an output asked for. The group stops.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct DriverError(pub String);

/// One Raft group, fed and polled by one driver. No method waits.
pub trait Consensus {
    /// Takes a message that a peer sent; `from` is who the connection proved to be.
    ///
    /// A message that does not decode, that names another group or anchor, or whose sender is not the member it says
    /// it is, is refused and counted.
    fn received(&mut self, from: PeerId, message: &[u8]);

    /// Says that what was sent to a peer and not answered is lost, so that nobody waits for it.
    fn disconnected(&mut self, peer: PeerId);

    /// Says that a message was certainly not sent to a peer, so that nobody waits for its answer.
    fn untold(&mut self, message: &[u8]);

    /// Tells of members that this anchor's own log may not know yet, as of a membership at `index` of the group's log.
    ///
    /// For an anchor that was just added, or was away while the others were replaced: without it, it would refuse
    /// those who could bring it up to date. The caller vouches for it, and says it again after every start: it is not
    /// stored here, and forgotten when the own log is as new.
    fn introduce(&mut self, index: LogIndex, members: BTreeMap<AnchorId, Member>);

    /// Proposes a command, here or through whoever leads, and answers [`Output::Proposed`] within the time, of which a
    /// minute counts at most, as for barriers and changes.
    ///
    /// Proposals that are open at once are appended in any order.
    fn propose(&mut self, id: RequestId, command: Vec<u8>, within: Duration);

    /// Asks from when on a read is linearizable, and answers [`Output::Barrier`] within the time.
    fn barrier(&mut self, id: RequestId, within: Duration);

    /// Asks for a change of the group, and answers [`Output::Administered`] within the time.
    fn administer(&mut self, id: RequestId, change: Change, within: Duration);

    /// Says that an [`Output::Write`] is durable, or failed. A failure stops the group: after a failed sync nobody
    /// knows what is on the disk.
    fn written(&mut self, token: Token, result: Result<(), DriverError>);

    /// Says that an [`Output::Apply`] is durable, with one reply for each entry, or failed.
    fn applied(&mut self, token: Token, result: Result<Vec<Vec<u8>>, DriverError>);

    /// Hands over what an [`Output::BuildSnapshot`] asked for. After a failure the log stays longer.
    fn snapshot_built(&mut self, token: Token, result: Result<Vec<u8>, DriverError>);

    /// Says that an [`Output::InstallSnapshot`] is durable, or failed.
    fn installed(&mut self, token: Token, result: Result<(), DriverError>);

    /// What there is to do now. Empty until the driver is woken again.
    fn poll(&mut self) -> Vec<Output>;
}

/// What is durable of a group beside its entries. The bytes are the group's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftLogState {
    /// The last [`RaftWrite::Vote`].
    pub vote: Option<Vec<u8>>,
    /// The record of the last [`RaftWrite::Purge`].
    pub purged: Option<Vec<u8>>,
    /// The record of the last [`Output::Apply`] or [`Output::InstallSnapshot`].
    pub applied: Option<Vec<u8>>,
    /// The index of the last entry, if there is any.
    pub last: Option<LogIndex>,
}

/// The log of one group, for reading. Written only by [`RaftWrite`]s; read from any thread, beside them.
///
/// It shows at least what was reported durable. The group itself remembers what it asked to be written since.
pub trait RaftLog: Send + Sync {
    /// What is there, read once when the group opens.
    ///
    /// # Errors
    /// See [`ReadError`]; the group stops.
    fn state(&self) -> Result<RaftLogState, ReadError>;

    /// The entries from `from` on and below `until`, without a gap: as many as fit into `bytes_max`, and at least one
    /// if there is one at `from`.
    ///
    /// # Errors
    /// See [`ReadError`]; the group stops.
    fn entries(&self, from: LogIndex, until: LogIndex, bytes_max: usize) -> Result<Vec<Vec<u8>>, ReadError>;
}
