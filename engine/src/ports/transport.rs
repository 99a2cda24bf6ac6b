//! The network as the engine sees it: ordered, bounded message streams to peers, which come and go.
//!
//! A *session* is one life of one stream. When a stream breaks, its session is over for good and a new one
//! begins; what was on its way may be lost. So a message can never be delivered out of its session's order,
//! and the engine starts each session with a hello.
//!
//! Beside the sessions runs the *talk* of consensus: messages to a peer, not to a session, which may be lost and are
//! said again by whoever said them. In return a late one never waits behind a large one.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::id::PeerId;
use crate::ports::MessageClass;

/// The largest message, in bytes: one frame with the largest value and the longest header, and its envelope.
pub const MESSAGE_BYTES_MAX: usize = 19 << 20;

/// Names one life of one stream with a peer. Never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Where a peer can be reached: a multiaddress in its text form.
pub type Address = String;

/// Whom to stay connected with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Who must answer there; `None` when only an address is known.
    pub peer: Option<PeerId>,
    /// Where to try, the best first.
    pub addresses: Vec<Address>,
}

/// What the network tells the engine. For one session: `Up`, then any of `Message` and `Drained`, then `Down`. For the
/// talk with one peer: any of `Told` and `Untold`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// A stream with `peer` works. There is at most one session per peer at a time.
    Up {
        /// Who is at the other end; proven by the handshake.
        peer: PeerId,
        /// The new session.
        session: SessionId,
        /// The remote address of the connection.
        address: Address,
        /// Whether this side dialled, so that `address` can be dialled again.
        is_dialer: bool,
    },
    /// A whole message arrived, at most [`MESSAGE_BYTES_MAX`] long.
    Message {
        /// The session it came in.
        session: SessionId,
        /// The message as the peer sent it.
        bytes: Vec<u8>,
    },
    /// A send was refused as [`SendError::Full`] before; now at least half of the queue is free.
    Drained {
        /// The session that can take messages again.
        session: SessionId,
    },
    /// The session is over. Nothing that is sent in it from now on arrives.
    Down {
        /// The session that ended.
        session: SessionId,
        /// Why, for the log and the status.
        reason: String,
    },
    /// A peer with whom we talk said something: whole, at most [`MESSAGE_BYTES_MAX`] long, and each class in the order
    /// in which it was told.
    Told {
        /// Who said it; proven by the handshake.
        from: PeerId,
        /// The message as the peer told it.
        bytes: Vec<u8>,
    },
    /// The stream of the talk with a peer ended, perhaps at once, because the peer does not want it. What was told and
    /// not answered is lost; what is told from now on takes the next stream.
    Untold {
        /// With whom.
        peer: PeerId,
    },
}

/// Why a message was not taken. Nothing of it was sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The session is over or was never there.
    #[error("no such session")]
    NotUp,
    /// The peer takes messages more slowly than they are made; wait for [`TransportEvent::Drained`].
    #[error("the peer's queue is full")]
    Full,
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("message longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
}

/// The sending half of the network. Implemented on libp2p by the transport crate, and by test worlds.
///
/// No method waits. What arrives comes as [`TransportEvent`]s, which whoever drives the engine feeds to it.
pub trait Transport {
    /// Queues a message on a session, behind all that was queued there before.
    ///
    /// # Errors
    /// See [`SendError`]; the message was not queued.
    fn send(&mut self, session: SessionId, message: Vec<u8>) -> Result<(), SendError>;

    /// Ends a session after what is queued on it was sent, or a bounded time later.
    fn close(&mut self, session: SessionId, reason: &str);

    /// Keeps a connection to the target: dials, and dials again with backoff, until [`Transport::disconnect`].
    fn connect(&mut self, target: Target);

    /// Stops keeping a connection to a target that was given to [`Transport::connect`].
    fn disconnect(&mut self, target: &Target);

    /// Tells a peer something, if we talk with it. Messages of one class arrive in order, and those of a more urgent
    /// class overtake the others, even one that is half sent.
    ///
    /// It is lost when the stream ends, which [`TransportEvent::Untold`] says.
    ///
    /// # Errors
    /// The message, which is certainly not sent: without a stream to the peer, with more told than it takes, or when it
    /// is longer than [`MESSAGE_BYTES_MAX`]. That is counted.
    fn tell(&mut self, to: PeerId, class: MessageClass, message: Vec<u8>) -> Result<(), Vec<u8>>;

    /// With whom we talk from now on, instead of before: the anchors. A talk needs both sides to want it; a peer that
    /// only one side wants is refused and counted. No connection is made for it, that is [`Transport::connect`]'s.
    fn talk_with(&mut self, peers: BTreeSet<PeerId>);
}
