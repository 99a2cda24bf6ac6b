//! Requests and what they are answered as bytes: for a peer that does not decide itself, and for those who ask again.
//!
//! A reply that comes from elsewhere is made of the same words as one from here: every error keeps its kind and what it
//! names, but for what a disk said, which keeps its text.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::nested::Given;
use super::{ActionReply, Request, RequestError, RequestReply};
use crate::bounds::COMMANDS_MAX;
use crate::ports::COMMAND_BYTES_MAX;
use crate::wire::{self, WireError};

/// The version of the bytes of requests and replies that this code reads and writes.
const VERSION: u8 = 1;

/// The longest request or reply, in bytes, so that a message has room for it.
pub const REPLY_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// A request cannot be asked of another node: it is too long, says too many things, or has decisions in each other more
/// than [`DECISION_DEPTH_MAX`](super::DECISION_DEPTH_MAX) deep. Nothing was done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the request is longer than {REPLY_BYTES_MAX} bytes, or says too many things at once")]
pub struct RequestTooLong;

impl Request {
    /// The request as bytes, of at most [`REPLY_BYTES_MAX`].
    ///
    /// # Errors
    /// [`RequestTooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, RequestTooLong> {
        let bytes = wire::encode(VERSION, self);
        // What nobody could read is better known here.
        Self::decode(&bytes).map(|_| bytes).map_err(|_| RequestTooLong)
    }

    /// The request that all of `bytes` are.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(VERSION, bytes, REPLY_BYTES_MAX)
    }
}

/// A reply as bytes, of at most [`REPLY_BYTES_MAX`]. In place of one that is longer, or that holds too many things, they
/// say [`RequestError::Untold`].
pub fn encode_reply(reply: &RequestReply) -> Vec<u8> {
    let bytes = wire::encode(VERSION, reply);
    if bytes.len() <= SURE_BYTES || decode_reply(&bytes).is_ok() {
        return bytes;
    }
    let untold: RequestReply = Err(RequestError::Untold);
    wire::encode(VERSION, &untold)
}

/// A reply of so many bytes is not too long, whatever it holds.
const SURE_BYTES: usize = 64 << 10;

/// The reply that all of `bytes` are.
///
/// # Errors
/// See [`WireError`].
pub fn decode_reply(bytes: &[u8]) -> Result<RequestReply, WireError> {
    let reply: Result<Given<ActionReply>, RequestError> = wire::decode(VERSION, bytes, REPLY_BYTES_MAX)?;
    Ok(reply.map(|Given(given)| given))
}

/// The replies of the commands of one entry, each as bytes, as the bytes that applying it replies: at most
/// [`REPLY_BYTES_MAX`]. What does not fit says [`RequestError::Untold`].
pub fn encode_replies(replies: Vec<Vec<u8>>) -> Vec<u8> {
    let untold = encode_reply(&Err(RequestError::Untold));
    let mut room = REPLY_BYTES_MAX - COMMANDS_MAX * (untold.len() + LENGTH_BYTES) - LENGTH_BYTES;
    let fits = |reply: Vec<u8>| match room.checked_sub(reply.len()) {
        Some(less) => {
            room = less;
            reply
        }
        None => untold.clone(),
    };
    wire::encode(VERSION, &Replies(replies.into_iter().map(fits).collect()))
}

/// The replies of the commands of one entry, each as bytes.
///
/// # Errors
/// See [`WireError`].
pub fn decode_replies(bytes: &[u8]) -> Result<Vec<Vec<u8>>, WireError> {
    wire::decode(VERSION, bytes, REPLY_BYTES_MAX).map(|Replies(replies)| replies)
}

/// A version, or a length of what fits into a reply, in bytes at most.
const LENGTH_BYTES: usize = 4;

#[derive(Serialize, Deserialize)]
struct Replies(#[serde(with = "crate::bounded::byte_strings")] Vec<Vec<u8>>);
