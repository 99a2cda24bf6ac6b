//! State that is taken over from a peer whose log no longer holds the frames: rows, and the heads they stand at.
//!
//! A replica that was away for longer than its peers keep their logs learns rows in place of frames. What it takes
//! over is one record of its log, or several of which the last one ends it, so that rows are made again from the
//! log as always. What an author's frames were that were learned in this way is known to nobody here: they are
//! below the floor.
//! Source: the state merge of `DotStore`, and "Efficient State-Based CRDTs by Delta-Mutation" (Almeida et al.).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounded::list;
use crate::bounds::{check_key, check_subkey, check_value};
use crate::causality::{Dot, Head};
use crate::id::{FrameId, KeyspaceId, ReplicaId};
use crate::row::{Kind, Payload, RowId};

/// The version of the record's format.
const INSTALL_VERSION: u8 = 1;

/// The rows of one list at most; a record is far smaller.
pub const LISTED_ROWS_MAX: usize = 1 << 18;

/// The authors whose heads one record or message names at most.
pub const LISTED_HEADS_MAX: usize = 1 << 18;

/// State that is taken over, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The rows that change, in their order: what each holds from now on, or that it goes.
    pub rows: Vec<(RowId, Option<Payload>)>,
    /// With the last part: the heads that the rows stand at now, of the authors whose heads that changes. Before
    /// it the rows are those of no version vector, and are not to be read.
    pub heads: Option<Vec<(ReplicaId, Head)>>,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Rows as they are written in messages and records; replicas are indexes into a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowList {
    #[serde(deserialize_with = "list::<LISTED_ROWS_MAX, _, _>")]
    replicas: Vec<ReplicaId>,
    #[serde(deserialize_with = "list::<LISTED_ROWS_MAX, _, _>")]
    rows: Vec<ListedRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListedRow {
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    kind: Kind,
    #[serde(with = "serde_bytes")]
    subkey: Vec<u8>,
    replica: u32,
    seq: u64,
    payload: Option<serde_bytes::ByteBuf>,
}

/// The head of an author, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedHead {
    author: ReplicaId,
    seq: u64,
    frame: FrameId,
}

impl ListedHead {
    pub(crate) fn new(author: ReplicaId, head: Head) -> Self {
        Self { author, seq: head.seq, frame: head.frame }
    }

    /// The author and its head.
    pub fn read(self) -> (ReplicaId, Head) {
        (self.author, Head { seq: self.seq, frame: self.frame })
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u8,
    keyspace: KeyspaceId,
    rows: RowList,
    has_heads: bool,
    #[serde(deserialize_with = "list::<LISTED_HEADS_MAX, _, _>")]
    heads: Vec<ListedHead>,
}

impl RowList {
    /// The rows, each with its payload or without.
    pub fn new<'a>(rows: impl IntoIterator<Item = (&'a RowId, Option<&'a Payload>)>) -> Self {
        let mut written = Self::default();
        let mut indexes = std::collections::BTreeMap::new();
        for (row, payload) in rows {
            let replica = *indexes.entry(row.dot.replica).or_insert_with(|| {
                written.replicas.push(row.dot.replica);
                u32::try_from(written.replicas.len() - 1).expect("fewer replicas than rows")
            });
            let payload = payload.map(|payload| {
                let mut bytes = Vec::new();
                payload.encode_into(&mut bytes);
                serde_bytes::ByteBuf::from(bytes)
            });
            let (key, kind, subkey, seq) = (row.key.clone(), row.kind, row.subkey.clone(), row.dot.seq);
            written.rows.push(ListedRow { key, kind, subkey, replica, seq, payload });
        }
        written
    }

    /// About how long it is as a message, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let of_row = |row: &ListedRow| {
            32 + row.key.len() + row.subkey.len() + row.payload.as_ref().map_or(0, |payload| payload.len())
        };
        self.replicas.len() * 16 + self.rows.iter().map(of_row).sum::<usize>()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads the rows and checks their bounds, and that they are in order of key, kind and subkey.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn read(self) -> Result<Vec<(RowId, Option<Payload>)>, Malformed> {
        let replicas = self.replicas;
        let mut rows: Vec<(RowId, Option<Payload>)> = Vec::with_capacity(self.rows.len());
        for ListedRow { key, kind, subkey, replica, seq, payload } in self.rows {
            let replica = *replicas.get(replica as usize).ok_or(Malformed("replica of a row"))?;
            let is_bounded = check_key(&key).is_ok() && check_subkey(&subkey).is_ok();
            if !is_bounded || seq == 0 || (!kind.has_subkey() && !subkey.is_empty()) {
                return Err(Malformed("row"));
            }
            let payload = payload.map(|bytes| Payload::decode(kind, &bytes)).transpose();
            let payload = payload.map_err(|_| Malformed("payload of a row"))?;
            if let Some(Payload::Value { value, .. } | Payload::Chunk(value)) = &payload
                && check_value(value).is_err()
            {
                return Err(Malformed("payload of a row"));
            }
            let row = RowId { key, kind, subkey, dot: Dot::new(replica, seq) };
            if rows.last().is_some_and(|(last, _)| group(last) > group(&row)) {
                return Err(Malformed("order of rows"));
            }
            rows.push((row, payload));
        }
        Ok(rows)
    }
}

fn group(row: &RowId) -> (&[u8], Kind, &[u8]) {
    (&row.key, row.kind, &row.subkey)
}

impl Install {
    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let heads = self.heads.iter().flatten();
        let heads = heads.map(|(author, head)| ListedHead::new(*author, *head));
        let record = Record {
            version: INSTALL_VERSION,
            keyspace: self.keyspace,
            rows: RowList::new(self.rows.iter().map(|(row, payload)| (row, payload.as_ref()))),
            has_heads: self.heads.is_some(),
            heads: heads.collect(),
        };
        postcard::to_stdvec(&record).expect("writing to memory cannot fail")
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: Record = match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => record,
            _ => return Err(Malformed("record of state")),
        };
        if record.version != INSTALL_VERSION {
            return Err(Malformed("version of a record of state"));
        }
        let heads = record.heads.into_iter();
        let heads: Vec<(ReplicaId, Head)> = heads.map(ListedHead::read).collect();
        if heads.iter().any(|(_, head)| head.seq == 0) {
            return Err(Malformed("head"));
        }
        Ok(Self {
            keyspace: record.keyspace,
            rows: record.rows.read()?,
            heads: record.has_heads.then_some(heads),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{Hlc, Stamp};
    use crate::id::Epoch;
    use crate::row::Slot;

    fn row(key: &str, kind: Kind, subkey: &str, replica: u8, seq: u64) -> RowId {
        let dot = Dot::new(ReplicaId::from_bytes([replica; 16]), seq);
        RowId { key: key.into(), kind, subkey: subkey.into(), dot }
    }

    fn install() -> Install {
        let stamp = Stamp { epoch: Epoch(0), hlc: Hlc::at(7) };
        let value = Payload::Value { stamp, value: b"v".to_vec() };
        Install {
            keyspace: KeyspaceId::from_bytes([9; 16]),
            rows: vec![
                (row("a", Kind::Register, "", 1, 1), Some(value)),
                (row("a", Kind::Counter, "", 2, 5), Some(Payload::Slot(Slot::default().raised(5, -3)))),
                (row("s", Kind::Set, "e", 1, 2), Some(Payload::Member)),
                (row("s", Kind::Set, "f", 2, 9), None),
            ],
            heads: Some(vec![(ReplicaId::from_bytes([1; 16]), Head { seq: 4, frame: FrameId::of(b"f") })]),
        }
    }

    #[test]
    fn install_is_read_as_it_was_written() {
        for heads in [install().heads, Some(Vec::new()), None] {
            let install = Install { heads, ..install() };
            assert_eq!(Install::decode(&install.encode()), Ok(install));
        }
    }

    #[test]
    fn install_that_breaks_a_rule_is_refused() {
        let bytes = install().encode();
        for length in 0..bytes.len() {
            assert!(Install::decode(&bytes[..length]).is_err(), "{length}");
        }
        let mut version = bytes.clone();
        version[0] = 2;
        assert_eq!(Install::decode(&version), Err(Malformed("version of a record of state")));
        let nothing = Head { seq: 0, frame: FrameId::NONE };
        let headless = Install { heads: Some(vec![(ReplicaId::from_bytes([1; 16]), nothing)]), ..install() };
        assert_eq!(Install::decode(&headless.encode()), Err(Malformed("head")));
        let broken = |change: fn(&mut Vec<(RowId, Option<Payload>)>)| {
            let mut install = install();
            change(&mut install.rows);
            Install::decode(&install.encode())
        };
        assert_eq!(broken(|rows| rows.reverse()), Err(Malformed("order of rows")));
        assert_eq!(broken(|rows| rows[0].0.dot.seq = 0), Err(Malformed("row")));
        assert_eq!(broken(|rows| rows[0].0.subkey = b"x".to_vec()), Err(Malformed("row")));
        assert_eq!(broken(|rows| rows[0].0.key = vec![0; 70_000]), Err(Malformed("row")));
        assert_eq!(broken(|rows| rows[1].1 = Some(Payload::Member)), Err(Malformed("payload of a row")));
    }
}
