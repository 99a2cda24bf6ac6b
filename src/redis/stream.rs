//! TIDE.NEXT: something long, read by its client piece by piece.
//!
//! The client asks for each piece, so one that is slow holds up nobody, and one that goes away ends it.

use std::fmt;

use super::backend::Pieces;
use super::errors;
use super::reply::Reply;

/// Small pieces are put together up to so many bytes: each takes a round trip.
const PIECE_BYTES: usize = 64 << 10;

/// The longest piece that a client is given, in bytes.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// What a client reads.
#[derive(Default)]
pub(super) struct Stream {
    pieces: Option<Pieces>,
    /// What was made and not read yet.
    rest: Vec<u8>,
    /// Why there will be no more behind that.
    failure: Option<String>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("is_open", &self.pieces.is_some()).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn begin(pieces: Result<Pieces, String>) -> Result<Self, Reply> {
        let pieces = pieces.map_err(|error| Reply::error(format!("ERR {error}")))?;
        Ok(Self { pieces: Some(pieces), ..Self::default() })
    }

    /// The bytes that wait to be read.
    pub(super) fn held_bytes(&self) -> usize {
        self.rest.len()
    }

    /// The next piece, or nothing at the end. After an error there is no more.
    pub(super) fn next_piece(&mut self) -> Result<Reply, Reply> {
        let Some(pieces) = &mut self.pieces else {
            return Err(errors::constant(
                "ERR nothing was begun; TIDE.BACKUP, TIDE.EXPORT or TIDE.SNAPSHOT first",
            ));
        };
        while self.failure.is_none() && self.rest.len() < PIECE_BYTES {
            match pieces.next() {
                Some(Ok(piece)) => self.rest.extend(piece),
                Some(Err(error)) => {
                    self.failure = Some(error);
                    break;
                }
                None => break,
            }
        }
        if self.rest.is_empty() {
            self.pieces = None;
            return match self.failure.take() {
                Some(error) => Err(Reply::error(format!("ERR {error}"))),
                None => Ok(Reply::Null),
            };
        }
        let behind = self.rest.split_off(self.rest.len().min(PIECE_BYTES_MAX));
        Ok(Reply::Bulk(std::mem::replace(&mut self.rest, behind)))
    }
}
