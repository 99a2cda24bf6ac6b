//! A message with its channel, and its bytes on the way to peers.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind of channel: 0 plain, 1 sharded |
//! | 4 | length of the channel's name, big-endian |
//! | any | the channel's name |
//! | the rest | the message |
//!
//! Who published it is told by the transport, which has checked it.

use tidelock_engine::id::PeerId;

/// What a name stands for: Redis keeps these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// A channel.
    Plain,
    /// A channel of the sharded commands.
    Sharded,
    /// A pattern for channels. Nothing is published to one.
    Pattern,
}

/// A message on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub(crate) space: Space,
    /// The channel.
    pub channel: Vec<u8>,
    /// The message.
    pub payload: Vec<u8>,
    /// The node that published it.
    pub author: PeerId,
}

impl Letter {
    /// What a letter has beside channel and message, in bytes.
    pub(super) const OVERHEAD_BYTES: usize = 5;

    pub(crate) fn is_sharded(&self) -> bool {
        self.space == Space::Sharded
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.channel.len()).expect("letters are bounded far below");
        let mut bytes = Vec::with_capacity(Self::OVERHEAD_BYTES + self.channel.len() + self.payload.len());
        bytes.push(u8::from(self.is_sharded()));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.channel);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads what a peer published; `None` if it is no letter. There is a bound on its length before.
    pub(crate) fn decode(author: PeerId, bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let space = match kind {
            0 => Space::Plain,
            1 => Space::Sharded,
            _ => return None,
        };
        let (length, rest) = rest.split_first_chunk()?;
        let (channel, payload) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Self { space, channel: channel.to_vec(), payload: payload.to_vec(), author })
    }
}
