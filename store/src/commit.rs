//! One commit: append to the log (one sync if it is to be durable), add the entries to the overlay beside the readers,
//! publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelock_engine::id::{KeyspaceId, ReplicaId};
use tidelock_engine::ports::{ANCHOR_BYTES_MAX, Batch, CommitError, Durability, LogPosition, MODE_BYTES_MAX};

use crate::log::{LogWrite, NewRecord};
use crate::mark::Reached;
use crate::names::{Names, Remembered};
use crate::published::{Published, Recorded, author_number, number, recorded};
use crate::raft::RaftChange;
use crate::schema::SpaceState;
use crate::store::Shared;

impl Shared {
    pub(crate) fn commit(&self, batch: &Batch, durability: Durability) -> Result<LogPosition, CommitError> {
        self.guard.check()?;
        if batch.is_empty() {
            return Ok(self.published().position);
        }
        let recorded = recorded(batch);
        if !recorded.is_empty() {
            self.wait_for_room()?;
        }
        let mut writer = self.writer();
        let (old_names, end, clock_before, own, mut states) = {
            let published = self.published();
            let installs = batch.installs.iter().map(|(_, install)| install);
            let states = published.states_after(&batch.changes, installs);
            let names = Arc::clone(&published.names);
            (names, published.end(), published.clock, published.card.replica(), states)
        };
        let clock = clock_before.max(batch.clock);
        let mut settled = BTreeMap::new();
        let new_names = names_something(batch).then(|| {
            let mut names = Names::clone(&old_names);
            settled = settle(&mut names, batch, own, &mut states);
            names
        });
        let names = new_names.as_ref().unwrap_or(&old_names);
        let update = self.update(names, recorded.iter().copied(), &batch.changes, states);
        let numbered = recorded.into_iter().map(|record| match record {
            Recorded::Frame(frame) => {
                let header = frame.header();
                NewRecord::Frame(number(names, header.keyspace), author_number(names, header.author), frame)
            }
            Recorded::Install(install) => NewRecord::Install(install),
        });
        let staged = batch.staged.iter().map(NewRecord::Staged);
        let (floors, raft, becomes_strong) = {
            let published = self.published();
            let floors = published.floors_after(names, &update.floors);
            (floors, RaftChange::new(published.raft, batch), becomes_strong(&published, batch))
        };
        let raft_after = raft.as_ref().map_or_else(|| self.published().raft, RaftChange::bounds);
        let write = LogWrite {
            names: names.added_since(old_names.counts()),
            settings: settled.into_iter().collect(),
            modes: &batch.modes,
            records: staged.chain(numbered).collect(),
            floors,
            end,
            clock,
            is_later: clock > clock_before,
            expiry: batch.expiry,
            raft,
            becomes_strong,
        };
        let is_durable = batch.durability(durability) == Durability::Durable;
        let durability = if is_durable { redb::Durability::Immediate } else { redb::Durability::None };
        let end = self.log.append(durability, write, &mut writer.copy)?;
        if is_durable {
            let reached = Reached { position: end.position, raft_commits: raft_after.commits };
            self.mark.set(reached);
            writer.is_synced(reached);
        } else {
            writer.log_is_unsynced = true;
            writer.owes_sync |= !batch.is_repeatable(own);
        }
        self.make_visible(update, |published, update| {
            published.expiry = batch.expiry.unwrap_or(published.expiry);
            published.raft = raft_after;
            published.remember(batch);
            published.publish(update, new_names, end, clock);
        });
        Ok(end.position)
    }
}

fn names_something(batch: &Batch) -> bool {
    !batch.keyspaces.is_empty() || !batch.cards.is_empty() || !batch.settings.is_empty()
}

/// Whether a batch is the first that writes what only some versions of tidelock know. What is too long is our bug.
fn becomes_strong(published: &Published, batch: &Batch) -> bool {
    assert!(batch.modes.iter().all(|(_, mode)| mode.len() <= MODE_BYTES_MAX), "a mode is too long");
    assert!(batch.anchor.iter().all(|anchor| anchor.len() <= ANCHOR_BYTES_MAX), "an anchor is too long");
    let is_strong = published.raft.commits > 0 || !published.modes.is_empty();
    !is_strong && (batch.is_of_raft() || !batch.modes.is_empty())
}

/// Takes new authors and keyspaces into the names, and what is remembered of keyspaces; answers what of that is new.
/// A keyspace that is joined again has a state from the beginning if its own operations are to come from a peer.
fn settle(
    names: &mut Names,
    batch: &Batch,
    own: ReplicaId,
    states: &mut BTreeMap<KeyspaceId, SpaceState>,
) -> BTreeMap<u32, Remembered> {
    let mut touched = BTreeSet::new();
    for card in &batch.cards {
        names.add_author(*card);
    }
    for (name, settings) in &batch.settings {
        touched.insert(names.settle(name, *settings));
    }
    for name in &batch.keyspaces {
        let Some(number) = names.hold(name) else { continue };
        let (keyspace, _) = names.keyspaces()[number as usize];
        if names.remembered(number) != Remembered::default() {
            touched.insert(number);
        }
        if names.settings(keyspace).is_behind(own, 0) {
            states.entry(keyspace).or_default().is_partial = true;
        }
    }
    touched.into_iter().map(|number| (number, names.remembered(number))).collect()
}
