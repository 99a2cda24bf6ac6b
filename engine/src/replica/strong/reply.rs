//! What executing the commands of one entry replied, as bytes that the group carries back to whoever proposed it.

use serde::{Deserialize, Serialize};

use crate::bounded::list;
use crate::command::COMMANDS_MAX;

/// What came of one command of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandReply {
    /// It is done, now or before, and this was the reply: a [`RequestReply`](crate::request::RequestReply) as bytes.
    Done(#[serde(with = "serde_bytes")] Vec<u8>),
    /// What had expired or was too old is removed, as far as it fitted into one frame.
    Removed,
    /// It was meant for another epoch, and did nothing.
    EpochClosed,
    /// It was done, or not: its client has executed so many since that nobody knows. It did nothing now.
    FellOut,
    /// This anchor does not stand where the log does, and learns of the outcome with the frame.
    Following,
    /// It changed the mode or the group, or did not, because it did not fit it.
    Mode(bool),
}

impl CommandReply {
    pub(super) fn encode_all(executed: &[Self]) -> Vec<u8> {
        postcard::to_stdvec(executed).expect("writing to memory cannot fail")
    }

    /// Reads what [`CommandReply::encode_all`] wrote; nothing if it is something else.
    pub(super) fn decode_all(bytes: &[u8]) -> Vec<Self> {
        postcard::from_bytes::<Replies>(bytes).map(|replies| replies.0).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Replies(#[serde(deserialize_with = "list::<COMMANDS_MAX, _, _>")] Vec<CommandReply>);
