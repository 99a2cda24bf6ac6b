//! Messages as bytes, and the bounds of texts in them.

use thiserror::Error;

use super::{ADDRESS_BYTES_MAX, Message, REASON_BYTES_MAX};
use crate::ports::{Address, MESSAGE_BYTES_MAX};
use crate::replica::AnchorOrder;
use crate::roster::{ANCHORS_MAX, is_bounded};

/// Why bytes are not a message. The session is ended with this as the reason.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes; at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The bytes are not a message, or a list in it is longer than allowed.
    #[error("malformed message")]
    Malformed,
    /// A text in it is longer than allowed.
    #[error("message with too long {0}")]
    Bound(&'static str),
}

impl Message {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("writing to memory cannot fail")
    }

    /// Whether it leaves at once, before what was committed is on disk: it says nothing of what its sender has
    /// written. An answer of an anchor rests on what a majority has on disk. What is asked of one, and the answers, come
    /// behind the hello that leaves with them.
    pub(crate) fn waits_for_no_disk(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::Ask { .. } | Self::Told { .. })
    }

    /// Reads a message and checks its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLong(bytes.len()));
        }
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((message, [])) => message.check().map(|()| message),
            _ => Err(MessageError::Malformed),
        }
    }

    /// The bounds of texts; those of lists were kept while decoding.
    fn check(&self) -> Result<(), MessageError> {
        let bound = |is_within: bool, what| if is_within { Ok(()) } else { Err(MessageError::Bound(what)) };
        match self {
            Self::Hello(hello) => bound(are_bounded(&hello.addresses), "addresses"),
            Self::Goodbye { reason } => bound(reason.len() <= REASON_BYTES_MAX, "reasons"),
            Self::Peers(records) => {
                bound(records.iter().all(|record| are_bounded(&record.addresses)), "addresses")
            }
            Self::Anchors(news) => bound(news.roster.iter().all(is_bounded), "addresses"),
            Self::Invite(invite) => bound(is_bounded(&invite.roster), "addresses"),
            Self::Govern { order: AnchorOrder::Remove(anchors), .. } => {
                bound(anchors.len() <= ANCHORS_MAX, "lists of anchors")
            }
            Self::Governed { reply: Err(error), .. } => {
                bound(error.to_string().len() <= REASON_BYTES_MAX, "reasons")
            }
            Self::Compare { asks, .. } => {
                bound(asks.iter().all(|ask| ask.range.is_valid()), "or disordered ranges")
            }
            Self::Compared { parts, .. } => {
                bound(parts.iter().all(|part| part.range.is_valid()), "or disordered ranges")
            }
            Self::Keyspaces(_)
            | Self::Heads { .. }
            | Self::Want { .. }
            | Self::Answer { .. }
            | Self::Push { .. }
            | Self::Summary { .. }
            | Self::Prune { .. }
            | Self::Graft { .. }
            | Self::Confirm { .. }
            | Self::Confirmed { .. }
            | Self::Held { .. }
            | Self::Take { .. }
            | Self::Taken { .. }
            | Self::Tail { .. }
            | Self::Tailed { .. }
            | Self::EndTake { .. }
            | Self::Below { .. }
            | Self::Left(_)
            | Self::Modes(_)
            | Self::At { .. }
            | Self::Ask { .. }
            | Self::Told { .. }
            | Self::Govern { .. }
            | Self::Governed { .. }
            | Self::Vouch { .. }
            | Self::Vouched { .. } => Ok(()),
        }
    }
}

fn are_bounded(addresses: &[Address]) -> bool {
    addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX)
}
