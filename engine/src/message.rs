//! What peers say to each other, and the bounds of it.
//!
//! A message is one postcard value; the stream frames it with its length. The first message of a session is a
//! hello from each side; nothing else is looked at before. The order of the variants is the wire format, and
//! changing it takes a new [`PROTOCOL_VERSION`].
//!
//! | message | from, to | answer |
//! |---|---|---|
//! | `Hello` | each, at the start | `Keyspaces`, `Summary` for each common keyspace, or `Goodbye` |
//! | `Goodbye` | who refuses | none; the session ends |
//! | `Keyspaces` | who learns of one | `Summary` for each that is common |
//! | `Peers` | each, now and then | none |
//! | `Summary` | each, now and then | `Heads`, when the hashes differ |
//! | `Heads` | who has news | `Want`, when they are news |
//! | `Want` | who lacks frames | `Answer` |
//! | `Answer` | who was asked | `Want`, when there is more |
//! | `Push` | who applied fresh frames | `Prune`, when they were no news |
//! | `Prune`, `Graft` | who wants fewer, more pushes | none |
//! | `Confirm` | who waits for its write | `Confirmed`, when it is on disk |
//! | `Left` | who has left a keyspace, or is told of one that it does not replicate | none |
//! | `Modes` | each, after the hello and when one changes | none |
//! | `At` | an anchor at a cut | none |
//! | `Ask` | a guest, to an anchor | `Told` |
//! | `Anchors` | each, after the hello and when it changes | none |
//! | `Invite` | the leader of the anchors, until it is followed | `Anchors` |
//! | `Govern` | who was ordered something of the anchors | `Governed` |
//! | `Vouch` | who is to leave a keyspace | `Vouched`, unless the receiver is to leave it too |

mod bytes;

use serde::{Deserialize, Serialize};

pub use self::bytes::MessageError;
use crate::bounded::list;
use crate::id::{
    AuthorCard, ClientId, ClusterId, Epoch, FrameId, KeyspaceId, KeyspaceName, PeerId, ReplicaId,
};
use crate::install::RowList;
use crate::ports::Address;
use crate::ranges::{Edge, Print, Range};
use crate::replica::{AnchorOrder, AnchorReply};
pub use crate::roster::ModeNews;
use crate::roster::{AnchorNews, Invite};

/// The version of the messages that this code speaks. Peers of another one are refused.
pub const PROTOCOL_VERSION: u32 = 1;

/// The keyspaces that one message names at most, and that a node replicates at most.
pub const KEYSPACES_MAX: usize = 4_096;

/// The peer records that one message carries at most.
pub const PEER_RECORDS_MAX: usize = 32;

/// The keyspaces that one peer record names at most; of a peer that replicates more nothing is said.
pub const HINTS_MAX: usize = 16;

/// The addresses of one peer record at most.
pub const ADDRESSES_MAX: usize = 8;

/// The longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// The heads that one message carries at most; more go in several.
pub const HEADS_MAX: usize = 4_096;

/// The frames, and the cards, that one message carries at most.
pub const FRAMES_MAX: usize = 1 << 14;

/// The heads that one message of a transfer of state holds.
pub const STATE_HEADS_MAX: usize = 1 << 17;

/// The ranges that one message compares.
pub const RANGES_MAX: usize = 64;

/// The ranges into which one is split.
pub const PARTS_MAX: usize = 64;

/// The longest reason of a goodbye, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// The first message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the sender speaks.
    pub protocol: u32,
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender's replica.
    pub card: AuthorCard,
    /// The keyspaces that the sender replicates now.
    #[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")]
    pub keyspaces: Vec<KeyspaceName>,
    /// Whether it takes in keyspaces that it does not know yet.
    pub takes_any_keyspace: bool,
    /// Where the sender itself can be dialled.
    #[serde(deserialize_with = "list::<ADDRESSES_MAX, _, _>")]
    pub addresses: Vec<Address>,
}

/// A peer that the sender knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Who.
    pub peer: PeerId,
    /// Where.
    #[serde(deserialize_with = "list::<ADDRESSES_MAX, _, _>")]
    pub addresses: Vec<Address>,
    /// The seconds since somebody was connected with it.
    pub age_s: u64,
    /// The keyspaces that it replicates, if these are few; none where it takes in all, or where that is not known.
    #[serde(deserialize_with = "list::<HINTS_MAX, _, _>")]
    pub keyspaces: Vec<KeyspaceHint>,
}

/// The first bytes of a keyspace's id: enough to find who replicates it, and no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyspaceHint(pub [u8; 8]);

impl KeyspaceHint {
    /// The hint at a keyspace.
    pub fn of(id: KeyspaceId) -> Self {
        Self(*id.as_bytes().first_chunk().expect("an id has 16 bytes"))
    }
}

/// The head of one author, short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadEntry {
    /// Whose.
    pub author: ReplicaId,
    /// The seq of its last operation.
    pub seq: u64,
    /// The first 8 bytes of the id of its last frame.
    pub frame: [u8; 8],
}

/// An author, and the seq up to which the asker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantEntry {
    /// Whose frames.
    pub author: ReplicaId,
    /// Those after this seq.
    pub after: u64,
}

/// The bytes of a frame, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameBytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// The head of an author, as a source of state tells it, with the author's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHead {
    /// The author.
    pub card: AuthorCard,
    /// The seq of its last operation that the state holds.
    pub seq: u64,
    /// The frame that ends there.
    pub frame: FrameId,
}

/// A range of rows that the asker compares with the source's, and what it has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeAsk {
    /// The range.
    pub range: Range,
    /// The asker's rows in it.
    pub print: Print,
}

/// What a source has in a range that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangePart {
    /// The range, as it was asked for.
    pub range: Range,
    /// What it has.
    pub rows: PartRows,
}

/// What a source has in a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartRows {
    /// The same rows as the asker.
    Equal,
    /// Others, in smaller ranges: where each ends, and what is in it.
    Split(#[serde(deserialize_with = "list::<PARTS_MAX, _, _>")] Vec<(Edge, Print)>),
    /// These.
    Rows(RowList),
}

/// What peers say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The start of a session.
    Hello(Hello),
    /// The end of a session, with the reason for the other side.
    Goodbye {
        /// Why.
        reason: String,
    },
    /// Keyspaces that the sender replicates beyond those of its hello.
    Keyspaces(#[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")] Vec<KeyspaceName>),
    /// Peers that the sender knows.
    Peers(#[serde(deserialize_with = "list::<PEER_RECORDS_MAX, _, _>")] Vec<PeerRecord>),
    /// The state of a keyspace in 32 bytes: equal heads must mean equal fingerprints.
    Summary {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The hash of the sender's heads, big endian.
        heads: [u8; 16],
        /// The fingerprint of its rows, big endian.
        fingerprint: [u8; 16],
    },
    /// Heads of the sender: all of them, or those that changed.
    Heads {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The heads.
        #[serde(deserialize_with = "list::<HEADS_MAX, _, _>")]
        entries: Vec<HeadEntry>,
    },
    /// Asks for frames.
    Want {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Of which authors, from where on.
        #[serde(deserialize_with = "list::<HEADS_MAX, _, _>")]
        after: Vec<WantEntry>,
    },
    /// Frames that were asked for, in the sender's commit order.
    Answer {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Cards of authors that were not sent in this session before.
        #[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")]
        cards: Vec<AuthorCard>,
        /// The frames.
        #[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")]
        frames: Vec<FrameBytes>,
        /// Whether the sender has more of what was asked for.
        has_more: bool,
    },
    /// Fresh frames, in the sender's commit order.
    Push {
        /// Cards of authors that were not sent in this session before.
        #[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")]
        cards: Vec<AuthorCard>,
        /// The frames, of any keyspace.
        #[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")]
        frames: Vec<FrameBytes>,
    },
    /// Asks for heads of this keyspace in place of fresh frames.
    Prune {
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// Asks for fresh frames of this keyspace.
    Graft {
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// Asks to be told when the asker's operations up to a seq are on disk.
    Confirm {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The seq of the asker's own replica.
        seq: u64,
    },
    /// The asker's operations up to a seq are on disk here.
    Confirmed {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The seq of the asker's own replica.
        seq: u64,
    },
    /// What the sender has on its disk, or what of it changed.
    Held {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Up to where, of each author.
        #[serde(deserialize_with = "list::<HEADS_MAX, _, _>")]
        held: Vec<WantEntry>,
    },
    /// Asks for the state of a keyspace in place of frames that the receiver does not have any more.
    Take {
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// The state is to be had: where it stands now, and the place in the sender's log from which on its frames lead
    /// to what the ranges hold that follow.
    Taken {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The epoch in which the sender has it.
        epoch: Epoch,
        /// The place in the sender's log.
        position: u64,
        /// The heads.
        #[serde(deserialize_with = "list::<STATE_HEADS_MAX, _, _>")]
        heads: Vec<StateHead>,
    },
    /// Compares ranges of rows.
    Compare {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The ranges.
        #[serde(deserialize_with = "list::<RANGES_MAX, _, _>")]
        asks: Vec<RangeAsk>,
    },
    /// What the sender has in ranges that were asked for; the others are to be asked for again.
    Compared {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The heads that changed since they were told last: what the rows of these ranges may hold.
        #[serde(deserialize_with = "list::<STATE_HEADS_MAX, _, _>")]
        heads: Vec<StateHead>,
        /// The ranges.
        #[serde(deserialize_with = "list::<RANGES_MAX, _, _>")]
        parts: Vec<RangePart>,
    },
    /// Asks for the frames behind a place in the receiver's log.
    Tail {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The place.
        after: u64,
    },
    /// Frames of the keyspace behind a place, in the sender's commit order.
    Tailed {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The heads that changed since they were told last.
        #[serde(deserialize_with = "list::<STATE_HEADS_MAX, _, _>")]
        heads: Vec<StateHead>,
        /// The frames.
        #[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")]
        frames: Vec<FrameBytes>,
        /// The place up to which these are all.
        until: u64,
        /// Whether that is the end.
        is_end: bool,
    },
    /// The transfer of state is over, or cannot go on.
    EndTake {
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// Some of what was asked for is below the sender's floor: it has the state, and not the frames.
    Below {
        /// The keyspace.
        keyspace: KeyspaceId,
    },
    /// The sender does not replicate these keyspaces, whatever it said before.
    Left(#[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")] Vec<KeyspaceId>),
    /// Asks what the receiver has on its disk, because the sender is to leave.
    Vouch {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The sender's own number of this attempt.
        number: u64,
    },
    /// The sender has this on its disk, or more, and is not to leave.
    Vouched {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The number that it was asked with.
        number: u64,
        /// Up to where, of each author; the rest is in other messages.
        #[serde(deserialize_with = "list::<HEADS_MAX, _, _>")]
        held: Vec<WantEntry>,
    },
    /// How strong epochs began, as the anchors say.
    Modes(#[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")] Vec<ModeNews>),
    /// The sender, an anchor, is fenced and stands exactly at a cut, on its disk.
    At {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The place in the anchors' log where the attempt began.
        begin: u64,
        /// The place of the cut.
        cut: u64,
        /// The fingerprint of its rows, big endian.
        fingerprint: [u8; 16],
    },
    /// Asks an anchor to do something in a strong keyspace.
    Ask {
        /// The sender's own number of it.
        number: u64,
        /// Which operation it is, if it writes: the client and its number.
        operation: Option<(ClientId, u64)>,
        /// How long it may take, in milliseconds.
        within_ms: u64,
        /// Whether the receiver must not hand it on.
        is_last: bool,
        /// The request.
        #[serde(with = "serde_bytes")]
        request: Vec<u8>,
    },
    /// What came of something that was asked.
    Told {
        /// The asker's number of it.
        number: u64,
        /// The reply.
        #[serde(with = "serde_bytes")]
        reply: Vec<u8>,
    },
    /// What the sender is to the group of anchors, and what it knows of it.
    Anchors(AnchorNews),
    /// Asks the receiver to be an anchor.
    Invite(Invite),
    /// Hands an operator's order of the group on to an anchor, or from there to its leader.
    Govern {
        /// The sender's own number of it.
        number: u64,
        /// How often it was handed on.
        hops: u8,
        /// How long it may take, in milliseconds.
        within_ms: u64,
        /// The order.
        order: AnchorOrder,
    },
    /// What came of an order of the group.
    Governed {
        /// The asker's number of it.
        number: u64,
        /// What.
        reply: AnchorReply,
    },
}
