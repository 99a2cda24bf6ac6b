//! Replicas that were retired: their operator says that they will never write again.
//!
//! A retirement is an operation, and stays as a row, so whoever has the rows of a keyspace knows whom it concerns.
//! It lets others do what only the retired one could: remove its counter slots once they are spent. Who said it
//! begins at once; all others wait, so that mostly one removes what all could.
//!
//! Nothing else of an author goes. Its entry in the version vector says which rows were removed and which were never
//! seen, its card proves frames that somebody may hold yet, and its live slots are what it counted.
//!
//! A retired replica that lives on harms nobody: its frames are applied like any others. It takes no more writes as
//! soon as it learns of it, for what it counts in a slot that was removed is lost, and its operator lets it rejoin.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::frame::Frame;
use crate::id::{KeyspaceId, ReplicaId};
use crate::op::Op;
use crate::ports::{ReadError, RowRange, Rows, Within};
use crate::replica::{Replica, View};
use crate::row::{Kind, RETIRED_KEY};

/// After how long others remove slots that who retired their owner has left, in milliseconds, and up to as much
/// later, by replica.
const FOLDED_BY_OTHERS_MS: u64 = 60_000;

/// The replicas that were retired in a keyspace, and by whom: by this one, if by several.
#[derive(Debug, Default)]
pub(crate) struct Retired(BTreeMap<ReplicaId, ReplicaId>);

impl Retired {
    /// What the rows say.
    pub(super) fn read(rows: &dyn Rows, id: KeyspaceId, own: ReplicaId) -> Result<Self, ReadError> {
        let mut retired = Self::default();
        let within = Within::Kind(RETIRED_KEY.to_vec(), Kind::Retired);
        rows.scan(id, &RowRange::all(within), &mut |row, _| {
            if let Ok(replica) = row.subkey.try_into() {
                retired.insert(ReplicaId::from_bytes(replica), row.dot.replica, own);
            }
            ControlFlow::Continue(())
        })?;
        Ok(retired)
    }

    fn insert(&mut self, replica: ReplicaId, by: ReplicaId, own: ReplicaId) {
        let known = self.0.entry(replica).or_insert(by);
        if by == own {
            *known = own;
        }
    }

    /// After how long `own` may remove a slot of `owner` that is spent, in milliseconds; never if that writes on.
    pub(super) fn folded_after_ms(&self, owner: ReplicaId, own: ReplicaId) -> Option<u64> {
        if owner == own {
            return Some(0);
        }
        // An id is a hash, so its end is as good as drawn at random.
        let [.., a, b] = *own.as_bytes();
        let spread = u64::from(u16::from_be_bytes([a, b])) % FOLDED_BY_OTHERS_MS;
        self.0.get(&owner).map(|by| if *by == own { 0 } else { FOLDED_BY_OTHERS_MS + spread })
    }

    fn others_than(&self, own: ReplicaId) -> bool {
        self.0.keys().any(|replica| *replica != own)
    }
}

impl Replica {
    /// Reads who was retired where that is not known: after a start, and when state was taken over.
    pub(super) fn learn_retirements(&mut self, view: &View<'_, '_>) {
        let own = self.id;
        for (id, keyspace) in self.keyspaces.iter_mut().filter(|(_, keyspace)| keyspace.retired.is_none()) {
            match Retired::read(view.draft, *id, own) {
                Ok(retired) => {
                    if let Some(by) = retired.0.get(&own) {
                        self.retired_by = Some((*id, *by));
                    }
                    if retired.others_than(own) {
                        keyspace.spent.look_again();
                    }
                    keyspace.retired = Some(retired);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read which replicas were retired");
                    self.counters.count("retirements_not_read");
                }
            }
        }
    }

    /// Takes in whom a frame retires. Where that is not known of earlier ones, it is read with them.
    pub(super) fn note_retirements(&mut self, frame: &Frame) {
        let header = frame.header();
        let keyspace = self.keyspaces.get_mut(&header.keyspace).expect("it was applied there");
        let Some(retired) = &mut keyspace.retired else { return };
        for op in frame.ops() {
            let Op::Retire { last } = op else { continue };
            let Some(dot) = header.dot(*last) else { continue };
            retired.insert(dot.replica, header.author, self.id);
            keyspace.spent.look_again();
            if dot.replica == self.id {
                tracing::warn!(replica = %self.id, "this replica was retired; it takes no more writes");
                self.retired_by = Some((header.keyspace, header.author));
            }
        }
    }

    /// Whether this replica takes no writes until it rejoins: it has two histories, or it was retired.
    pub fn must_rejoin(&self) -> bool {
        self.fork.is_some() || self.retired_by.is_some()
    }
}
