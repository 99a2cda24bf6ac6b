//! A keyspace in memory: rows under a version vector, as a state-based and an operation-based CRDT.
//!
//! The memory store, the property laws and the check of a store on disk stand on it. It is not on the data
//! path of a durable store, which never holds a keyspace whole.
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018); the DottedDB paper (SRDS 2017).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crdts::{CmRDT, CvRDT};
use thiserror::Error;

use crate::apply::apply_frame;
use crate::causality::{Dot, Hlc, VersionVector};
use crate::draft::{Changes, Draft};
use crate::frame::Frame;
use crate::id::KeyspaceId;
use crate::ports::{ReadError, RowRange, Rows, Visit};
use crate::row::{Fingerprint, Kind, Payload, RowId};

/// The rows of one keyspace and the version vector that they are a function of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DotStore {
    vector: VersionVector,
    rows: BTreeMap<RowId, Payload>,
    members: BTreeMap<(Vec<u8>, Kind), u64>,
    fingerprint: Fingerprint,
    keys: u64,
}

/// Why a frame may not be applied to a dot store yet, or any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CausalityError {
    /// The author's earlier frames, or others that the frame depends on, are missing.
    #[error("{0} is missing")]
    Missing(Dot),
    /// The frame was applied before.
    #[error("{0} was applied before")]
    Duplicate(Dot),
}

impl DotStore {
    /// What has been applied.
    pub fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// All rows in order.
    pub fn rows(&self) -> &BTreeMap<RowId, Payload> {
        &self.rows
    }

    /// The fingerprint of the rows.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Takes in changes that were drafted over these rows, and the frames they came from.
    pub fn commit(&mut self, changes: Changes, applied: impl IntoIterator<Item = Dot>) {
        for ((_, row), change) in changes.rows {
            match change.after {
                Some(after) => self.rows.insert(row, after),
                None => self.rows.remove(&row),
            };
        }
        for ((_, key, kind), count) in changes.members {
            match count {
                0 => self.members.remove(&(key, kind)),
                _ => self.members.insert((key, kind), count),
            };
        }
        for delta in changes.deltas.into_values() {
            self.fingerprint = self.fingerprint.plus(delta.fingerprint);
            self.keys = self.keys.checked_add_signed(delta.keys).expect("no more keys go than there were");
        }
        applied.into_iter().for_each(|dot| self.vector.raise(dot));
    }

    /// Whether a frame holds its author's next operation and all that it requires was applied.
    pub fn may_apply(&self, frame: &Frame) -> Result<(), CausalityError> {
        let header = frame.header();
        if self.vector.covers(header.last_dot()) {
            return Err(CausalityError::Duplicate(header.last_dot()));
        }
        let before = Dot::new(header.author, header.first - 1);
        let mut required = std::iter::once(before).chain(frame.requirements());
        required.find(|dot| !self.vector.covers(*dot)).map_or(Ok(()), |dot| Err(CausalityError::Missing(dot)))
    }

    /// The state merge, for replicas of any age. For a row on one side only: (1) its dot is covered by the
    /// other side's vector, so it was removed there: drop it; (2) it is not, so the other side has not seen
    /// it: keep it. Slots on both sides merge.
    fn merged_rows(&self, other: &Self) -> BTreeMap<RowId, Payload> {
        let mine = self.rows.iter().filter_map(|(row, payload)| match (payload, other.rows.get(row)) {
            (Payload::Slot(mine), Some(Payload::Slot(theirs))) => {
                Some((row.clone(), Payload::Slot(mine.merged(*theirs))))
            }
            (_, Some(_)) => Some((row.clone(), payload.clone())),
            (_, None) => (!other.vector.covers(row.dot)).then(|| (row.clone(), payload.clone())),
        });
        let theirs = other.rows.iter().filter(|(row, _)| !self.rows.contains_key(row));
        let adopted = theirs.filter(|(row, _)| !self.vector.covers(row.dot));
        mine.chain(adopted.map(|(row, payload)| (row.clone(), payload.clone()))).collect()
    }

    /// A dot store whose derived figures are computed from its rows.
    pub fn from_rows(vector: VersionVector, rows: BTreeMap<RowId, Payload>) -> Self {
        let mut store = Self { vector, ..Self::default() };
        let mut live_key: Option<&[u8]> = None;
        let mut group: Option<(&[u8], Kind, &[u8])> = None;
        for (row, payload) in &rows {
            store.fingerprint.insert(row, payload);
            if payload.is_live() && live_key != Some(&row.key) {
                live_key = Some(&row.key);
                store.keys += 1;
            }
            let this = (&row.key[..], row.kind, &row.subkey[..]);
            if row.kind.has_members() && group != Some(this) {
                *store.members.entry((row.key.clone(), row.kind)).or_default() += 1;
            }
            group = Some(this);
        }
        store.rows = rows;
        store
    }
}

impl Rows for DotStore {
    fn row(&self, _: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        Ok(self.rows.get(row).cloned())
    }

    fn scan(&self, _: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let in_range = self.rows.range(range.first()..).take_while(|(row, _)| range.contains(row));
        for (row, payload) in in_range {
            if let ControlFlow::Break(()) = visit(row.clone(), payload.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn members(&self, _: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        Ok(self.members.get(&(key.to_vec(), kind)).copied().unwrap_or(0))
    }

    /// Nothing of it has expired: a state has no clock.
    fn expiry(&self) -> Hlc {
        Hlc::default()
    }

    fn keys(&self, _: KeyspaceId) -> Result<u64, ReadError> {
        Ok(self.keys)
    }
}

impl CvRDT for DotStore {
    type Validation = std::convert::Infallible;

    fn validate_merge(&self, _: &Self) -> Result<(), Self::Validation> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        let rows = self.merged_rows(&other);
        self.vector.join(&other.vector);
        *self = Self::from_rows(std::mem::take(&mut self.vector), rows);
    }
}

impl CmRDT for DotStore {
    type Op = Frame;
    type Validation = CausalityError;

    fn validate_op(&self, frame: &Frame) -> Result<(), CausalityError> {
        self.may_apply(frame)
    }

    /// Applies a frame that [`DotStore::may_apply`]; a duplicate or an early one changes nothing.
    fn apply(&mut self, frame: Frame) {
        if self.may_apply(&frame).is_ok() {
            let mut draft = Draft::over(self);
            apply_frame(&mut draft, &frame, self.vector.get(frame.header().author))
                .expect("reading memory cannot fail");
            let changes = draft.into_changes();
            self.commit(changes, [frame.header().last_dot()]);
        }
    }
}
