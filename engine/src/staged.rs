//! State that waits in the log until all of it is there.
//!
//! What is taken over and does not fit memory is written to the log piece by piece and changes nothing, until the
//! last piece says that it is complete. Then the rows are made from it; a crash in between goes on where it was.

use serde::{Deserialize, Serialize};

use crate::bounded::list;
use crate::id::{KeyspaceId, ReplicaId};
use crate::install::{LISTED_HEADS_MAX, ListedHead, Malformed, RowList};
use crate::message::FrameBytes;
use crate::ports::LogPosition;
use crate::{causality::Head, message::FRAMES_MAX};

/// The version of the record's format.
const STAGED_VERSION: u8 = 1;

/// A piece of state that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Where the log stood when the first piece was written: what the pieces that belong together have in common.
    pub since: LogPosition,
    /// What it holds.
    pub piece: Piece,
}

/// What a piece holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Rows: what each is to hold, or that it goes. A slot merges with the one that is here.
    Rows(RowList),
    /// Frames that the source committed meanwhile, in its order.
    Frames(#[serde(deserialize_with = "list::<FRAMES_MAX, _, _>")] Vec<FrameBytes>),
    /// There are no more. The heads that the rows stand at then, of the authors whose heads that changes.
    End(#[serde(deserialize_with = "list::<LISTED_HEADS_MAX, _, _>")] Vec<ListedHead>),
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u8,
    keyspace: KeyspaceId,
    since: u64,
    piece: Piece,
}

impl Piece {
    /// The last piece.
    pub fn end(heads: &[(ReplicaId, Head)]) -> Self {
        Self::End(heads.iter().map(|(author, head)| ListedHead::new(*author, *head)).collect())
    }
}

impl Staged {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Self { keyspace, since, piece } = self.clone();
        let record = Record { version: STAGED_VERSION, keyspace, since: since.0, piece };
        postcard::to_stdvec(&record).expect("writing to memory cannot fail")
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong. The rows of a piece are checked when they are read from it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: Record = match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => record,
            _ => return Err(Malformed("record of staged state")),
        };
        if record.version != STAGED_VERSION {
            return Err(Malformed("version of a record of staged state"));
        }
        let Record { keyspace, since, piece, .. } = record;
        Ok(Self { keyspace, since: LogPosition(since), piece })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Dot;
    use crate::id::FrameId;
    use crate::row::{Kind, Payload, RowId};

    fn pieces() -> Vec<Piece> {
        let author = ReplicaId::from_bytes([2; 16]);
        let row =
            RowId { key: b"s".to_vec(), kind: Kind::Set, subkey: b"e".to_vec(), dot: Dot::new(author, 3) };
        let rows = [(&row, Some(&Payload::Member)), (&row, None)];
        vec![
            Piece::Rows(RowList::new(rows)),
            Piece::Frames(vec![FrameBytes(vec![1, 2, 3])]),
            Piece::end(&[(author, Head { seq: 4, frame: FrameId::of(b"f") })]),
            Piece::end(&[]),
        ]
    }

    #[test]
    fn pieces_are_read_as_they_were_written_and_no_others() {
        for piece in pieces() {
            let staged = Staged { keyspace: KeyspaceId::from_bytes([9; 16]), since: LogPosition(258), piece };
            let bytes = staged.encode();
            assert_eq!(Staged::decode(&bytes), Ok(staged));
            for length in 0..bytes.len() {
                assert!(Staged::decode(&bytes[..length]).is_err(), "{length}");
            }
            let newer = [&[2], &bytes[1..]].concat();
            assert_eq!(Staged::decode(&newer), Err(Malformed("version of a record of staged state")));
        }
    }

    #[test]
    fn record_has_golden_bytes() {
        let keyspace = KeyspaceId::from_bytes([9; 16]);
        let piece = Piece::Frames(vec![FrameBytes(vec![1, 2, 3])]);
        let bytes = Staged { keyspace, since: LogPosition(5), piece }.encode();
        assert_eq!(bytes, [&[1][..], &[9; 16], &[5, 1, 1, 3, 1, 2, 3]].concat());
    }
}
