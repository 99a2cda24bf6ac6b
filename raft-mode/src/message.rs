//! What anchors say to each other, as bytes.
//!
//! | request | asks | answer |
//! |---|---|---|
//! | `Append` | append these entries behind that one; without entries: I lead | `Appended` |
//! | `Vote`, `PreVote` | vote for me; would you vote for me | `Voted` |
//! | `Transfer` | I lead, that one is to take over | `Transferred` |
//! | `ReadIndex` | from where on is a read linearizable | `Index` |
//! | `Forward` | append this command | `Forwarded` |
//! | `Chunk` | a piece of a snapshot; an empty one asks what is missing | `Want`, `Installed` |
//!
//! Every message is one frame of the transport and names its group, both anchors and the request. A request also
//! names the life of the process that made it, and its answer repeats it: an answer that was on its way while the
//! process started again, and that would by number fit another request, is not taken for that one's.

use serde::{Deserialize, Serialize};
use tidelock_engine::ports::{MESSAGE_BYTES_MAX, MessageClass, NotDone};

use crate::types::{self, Types};
use crate::wire::{self, Applied, Bounded, DecodeError, Entry, LogId, NUMBER_MAX, Vote};

/// The entries of one message, at most.
pub(crate) const ENTRIES_MAX: usize = 1024;

/// The bytes of a snapshot in one message, at most.
pub(crate) const CHUNK_BYTES_MAX: usize = 256 << 10;

/// The bytes of a snapshot, at most.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = 64 << 20;

/// The bytes of a reply to a command, at most.
pub(crate) const REPLY_BYTES_MAX: usize = 18 << 20;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// The group.
    pub(crate) group: u64,
    /// The anchor that sends it.
    pub(crate) from: u64,
    /// The anchor that it is for.
    pub(crate) to: u64,
    /// The life of the process that asks, drawn at random when it began.
    pub(crate) life: u64,
    /// The number of the request in that life.
    pub(crate) request: u64,
    /// What is asked or answered.
    pub(crate) body: Body,
}

/// What is asked or answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    Append(Append),
    Vote(VoteRequest),
    PreVote(VoteRequest),
    /// The one that is to lead takes over; all others no longer hold on to the leader's lease.
    Transfer {
        vote: Vote,
        to: u64,
        last: Option<LogId>,
    },
    ReadIndex {
        within_ms: u32,
    },
    Forward {
        within_ms: u32,
        command: types::Command,
    },
    Chunk(Chunk),
    Appended(Appended),
    Voted {
        vote: Vote,
        is_granted: bool,
        last: Option<LogId>,
    },
    Transferred(Transferred),
    Index(Result<u64, NotDone>),
    Forwarded(Forwarded),
    Want {
        offset: u64,
    },
    Installed {
        vote: Vote,
    },
}

/// Entries, and up to where the log is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: Vote,
    pub(crate) previous: Option<LogId>,
    pub(crate) commit: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
}

/// A vote that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteRequest {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    /// The leader asked for this election, so its lease does not stand against it.
    pub(crate) is_transfer: bool,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) vote: Vote,
    /// What the snapshot covers.
    pub(crate) covers: Applied,
    /// blake3 of the whole.
    pub(crate) hash: [u8; 32],
    /// The length of the whole, in bytes.
    pub(crate) total: u64,
    /// Where this piece begins.
    pub(crate) offset: u64,
    #[serde(with = "serde_bytes")]
    pub(crate) bytes: Vec<u8>,
}

/// What became of entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Appended {
    Success,
    Partial(Option<LogId>),
    Conflict,
    HigherVote(Vote),
}

/// What became of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transferred {
    Taken,
    VoteChanged { expected: Vote, actual: Vote },
    NotFlushed { expected: Option<LogId>, actual: Option<LogId> },
}

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forwarded {
    Done {
        index: u64,
        #[serde(with = "serde_bytes")]
        reply: Vec<u8>,
    },
    Not(NotDone),
    Unknown,
}

impl Bounded for Frame {
    fn is_bounded(&self) -> bool {
        self.from < NUMBER_MAX && self.to < NUMBER_MAX && self.body.is_bounded()
    }
}

impl Bounded for Body {
    fn is_bounded(&self) -> bool {
        match self {
            Self::Append(append) => append.is_bounded(),
            Self::Vote(request) | Self::PreVote(request) => {
                request.vote.is_bounded() && request.last.is_bounded()
            }
            Self::Transfer { vote, to, last } => vote.is_bounded() && *to < NUMBER_MAX && last.is_bounded(),
            Self::Voted { vote, last, .. } => vote.is_bounded() && last.is_bounded(),
            Self::Chunk(chunk) => chunk.is_bounded(),
            Self::Appended(Appended::Partial(id)) => id.is_bounded(),
            Self::Appended(Appended::HigherVote(vote)) | Self::Installed { vote } => vote.is_bounded(),
            Self::Transferred(Transferred::VoteChanged { expected, actual }) => {
                expected.is_bounded() && actual.is_bounded()
            }
            Self::Transferred(Transferred::NotFlushed { expected, actual }) => {
                expected.is_bounded() && actual.is_bounded()
            }
            Self::Index(Ok(index)) => *index < NUMBER_MAX,
            Self::Forwarded(Forwarded::Done { index, reply }) => {
                *index < NUMBER_MAX && reply.len() <= REPLY_BYTES_MAX
            }
            Self::Want { offset } => *offset <= SNAPSHOT_BYTES_MAX as u64,
            Self::ReadIndex { .. }
            | Self::Forward { .. }
            | Self::Index(Err(_))
            | Self::Appended(Appended::Success | Appended::Conflict)
            | Self::Transferred(Transferred::Taken)
            | Self::Forwarded(Forwarded::Not(_) | Forwarded::Unknown) => true,
        }
    }
}

impl Bounded for Append {
    /// Entries follow each other and `previous` without a gap, in terms that never fall and never pass the leader's.
    fn is_bounded(&self) -> bool {
        let mut before = self.previous;
        let is_chain = self.entries.iter().all(|entry| {
            let follows = match before {
                Some(before) => {
                    before.index.checked_add(1) == Some(entry.id.index) && entry.id.term >= before.term
                }
                None => entry.id.index == 0,
            };
            before = Some(entry.id);
            follows && entry.id.term <= self.vote.term
        });
        self.vote.is_bounded()
            && self.previous.is_bounded()
            && self.previous.is_none_or(|id| id.term <= self.vote.term)
            && self.commit.is_bounded()
            && self.commit.is_none_or(|id| id.term <= self.vote.term)
            && self.entries.len() <= ENTRIES_MAX
            && self.entries.iter().all(Bounded::is_bounded)
            && is_chain
    }
}

impl Bounded for Chunk {
    fn is_bounded(&self) -> bool {
        let end = self.offset.checked_add(self.bytes.len() as u64);
        self.vote.is_bounded()
            && self.covers.is_bounded()
            && self.covers.last.is_none_or(|id| id.term <= self.vote.term)
            && self.covers.membership_id <= self.covers.last
            && self.bytes.len() <= CHUNK_BYTES_MAX
            && self.total <= SNAPSHOT_BYTES_MAX as u64
            && end.is_some_and(|end| end <= self.total)
    }
}

impl Body {
    /// Whether it answers a request.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Append(_)
            | Self::Vote(_)
            | Self::PreVote(_)
            | Self::Transfer { .. }
            | Self::ReadIndex { .. }
            | Self::Forward { .. }
            | Self::Chunk(_) => false,
            Self::Appended(_)
            | Self::Voted { .. }
            | Self::Transferred(_)
            | Self::Index(_)
            | Self::Forwarded(_)
            | Self::Want { .. }
            | Self::Installed { .. } => true,
        }
    }

    /// How urgent it is.
    pub(crate) fn class(&self) -> MessageClass {
        match self {
            Self::Append(append) if !append.entries.is_empty() => MessageClass::Append,
            Self::Forward { .. } => MessageClass::Append,
            Self::Chunk(_) => MessageClass::Snapshot,
            _ => MessageClass::Heartbeat,
        }
    }

    /// Whom the sender says to vote for or to follow, if it must be the sender itself.
    pub(crate) fn claims(&self) -> Option<&Vote> {
        match self {
            Self::Append(Append { vote, .. })
            | Self::Chunk(Chunk { vote, .. })
            | Self::Transfer { vote, .. } => Some(vote),
            Self::Vote(request) | Self::PreVote(request) => Some(&request.vote),
            _ => None,
        }
    }
}

impl Frame {
    /// The frame as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// The frame of bytes from anybody.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::OutOfBounds);
        }
        wire::decode(bytes)
    }
}

impl From<openraft::raft::AppendEntriesRequest<Types>> for Append {
    fn from(request: openraft::raft::AppendEntriesRequest<Types>) -> Self {
        Self {
            vote: request.vote.into(),
            previous: request.prev_log_id.map(LogId::from),
            commit: request.leader_commit.map(LogId::from),
            entries: request.entries.iter().map(Entry::from).collect(),
        }
    }
}

impl From<Append> for openraft::raft::AppendEntriesRequest<Types> {
    fn from(append: Append) -> Self {
        Self {
            vote: append.vote.into(),
            prev_log_id: append.previous.map(types::LogId::from),
            leader_commit: append.commit.map(types::LogId::from),
            entries: append.entries.into_iter().map(types::Entry::from).collect(),
        }
    }
}

impl From<openraft::raft::AppendEntriesResponse<Types>> for Appended {
    fn from(response: openraft::raft::AppendEntriesResponse<Types>) -> Self {
        use openraft::raft::AppendEntriesResponse as Response;
        match response {
            Response::Success => Self::Success,
            Response::PartialSuccess(id) => Self::Partial(id.map(LogId::from)),
            Response::Conflict => Self::Conflict,
            Response::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<Appended> for openraft::raft::AppendEntriesResponse<Types> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::Success => Self::Success,
            Appended::Partial(id) => Self::PartialSuccess(id.map(types::LogId::from)),
            Appended::Conflict => Self::Conflict,
            Appended::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<openraft::raft::VoteRequest<Types>> for VoteRequest {
    fn from(request: openraft::raft::VoteRequest<Types>) -> Self {
        Self {
            vote: request.vote.into(),
            last: request.last_log_id.map(LogId::from),
            is_transfer: request.leadership_transfer,
        }
    }
}

impl From<VoteRequest> for openraft::raft::VoteRequest<Types> {
    fn from(request: VoteRequest) -> Self {
        Self {
            vote: request.vote.into(),
            last_log_id: request.last.map(types::LogId::from),
            leadership_transfer: request.is_transfer,
        }
    }
}

#[cfg(test)]
#[path = "golden.rs"]
mod golden;
