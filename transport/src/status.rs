//! What the transport tells about itself: peers, targets, refusals. Plain values, copied out when asked for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{Address, MessageClass, Target};

/// What has moved over a link, and what a peer told about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) frames_sent: u64,
    pub(crate) frames_received: u64,
    pub(crate) sends_refused_full: u64,
    pub(crate) queued_bytes_out: usize,
    pub(crate) queued_bytes_in: usize,
    pub(crate) rtt: Option<Duration>,
    pub(crate) agent: Option<String>,
    pub(crate) listen_addresses: Vec<Address>,
}

/// A connected peer: one with at least one open lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is; proven by the handshake.
    pub peer: PeerId,
    /// The remote address of the connection.
    pub address: Address,
    /// Whether this side dialled, so that `address` can be dialled again.
    pub is_dialer: bool,
    /// What the peer says it is, such as `tidelock/0.1.0`; `None` until it has said so.
    pub agent: Option<String>,
    /// Where the peer says it listens; at most 16.
    pub listen_addresses: Vec<Address>,
    /// The last round trip of a ping; `None` before the first one.
    pub rtt: Option<Duration>,
    /// How long the connection has stood.
    pub connected_for: Duration,
    /// What waits to be sent, in bytes, with 64 bytes per frame for its place.
    pub queued_bytes_out: usize,
    /// What waits to be taken by the engine, in bytes, with 64 bytes per event for its place.
    pub queued_bytes_in: usize,
    /// Bytes written to the streams of the lanes, with the frames' headers.
    pub bytes_sent: u64,
    /// Bytes read from the streams of the lanes, with the frames' headers.
    pub bytes_received: u64,
    /// Frames handed to the streams.
    pub frames_sent: u64,
    /// Frames that arrived.
    pub frames_received: u64,
    /// Sends that were refused because the queue was full.
    pub sends_refused_full: u64,
}

/// How a target is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetState {
    /// Its peer is connected, over whichever address and whoever dialled.
    Connected,
    /// A dial is under way.
    Dialing,
    /// The next dial comes after this time.
    Waiting(Duration),
    /// The node is offline; it dials when it is back.
    Offline,
    /// No address of the target can be used; it is never dialled.
    Unusable,
}

/// A target that was given to `connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// The target, as it was given.
    pub target: Target,
    /// Who is there: as given, as an address says, or as it turned out.
    pub peer: Option<PeerId>,
    /// How it is doing.
    pub state: TargetState,
    /// Attempts that failed since the last connection that lasted.
    pub failures: u32,
    /// Why the last attempt failed or the last connection ended.
    pub last_error: Option<String>,
}

/// Connections that were not admitted, by peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub peer: PeerId,
    /// How often we refused the peer.
    pub by_us: u64,
    /// How often the peer closed a connection of ours before a stream opened, since it last let us in.
    pub by_peer: u64,
    /// The last address.
    pub address: Address,
    /// The last reason.
    pub reason: String,
}

/// What the talks with all peers did since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TalkFigures {
    /// Heartbeats, votes and answers.
    pub heartbeat: ClassFigures,
    /// Entries and proposals.
    pub append: ClassFigures,
    /// Pieces of snapshots.
    pub snapshot: ClassFigures,
    /// Streams that were opened by peers with whom we do not talk.
    pub streams_refused: u64,
    /// Streams that were ended because what came in them broke the rules.
    pub streams_misused: u64,
}

/// What was told and heard of one class of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Messages that were handed to a stream as a whole.
    pub messages_sent: u64,
    /// Bytes of messages that were handed to a stream.
    pub bytes_sent: u64,
    /// Messages that arrived as a whole.
    pub messages_received: u64,
    /// Bytes of messages that arrived.
    pub bytes_received: u64,
    /// Messages that were told and never handed to a stream as a whole: there was none, it ended, or its queue was full.
    pub messages_lost: u64,
}

impl TalkFigures {
    /// The figures of one class.
    pub fn of(&self, class: MessageClass) -> &ClassFigures {
        match class {
            MessageClass::Heartbeat => &self.heartbeat,
            MessageClass::Append => &self.append,
            MessageClass::Snapshot => &self.snapshot,
        }
    }

    pub(crate) fn of_mut(&mut self, class: MessageClass) -> &mut ClassFigures {
        match class {
            MessageClass::Heartbeat => &mut self.heartbeat,
            MessageClass::Append => &mut self.append,
            MessageClass::Snapshot => &mut self.snapshot,
        }
    }
}

/// The figures of all talks, counted where it happens.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<TalkFigures>);

impl Totals {
    pub(crate) fn change(&self, change: impl FnOnce(&mut TalkFigures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn lose(&self, class: MessageClass, messages: usize) {
        self.change(|figures| figures.of_mut(class).messages_lost += messages as u64);
    }

    pub(crate) fn figures(&self) -> TalkFigures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
