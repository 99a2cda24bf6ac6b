//! Rows that differ although the heads are equal: a defect, or an author with two histories.
//!
//! It must not be, so the rule by which state merges cannot heal it: each side would take the other's rows for
//! removed and drop them. The ranges are compared as in a transfer, and rows are judged only where nothing but a
//! divergence explains them: the side that lacks a row had applied all that the other had. The fewer take what the
//! more have; among equally many, or if an author is known to have two histories, all keep everything. What was done
//! is reported row by row.
//!
//! Whose rows do not even have their own fingerprint has a damaged file. It neither repairs others nor is it
//! repaired from here: the next opening finds the damage and makes the rows again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::causality::VersionVector;
use crate::id::{KeyspaceId, PeerId};
use crate::install::Install;
use crate::message::Message;
use crate::ports::SessionId;
use crate::ranges::Range;
use crate::replica::{Replica, Step, View};
use crate::row::{Payload, RowId};

use super::sink::{Failure, Sink, Way, bytes};

/// How long after one attempt the next may begin, in milliseconds.
const AGAIN_MS: u64 = 10_000;

/// The peers that are remembered to differ; more change nothing.
const PEERS_MAX: usize = 64;

/// The rows that are remembered to have been repaired, the last ones.
const REPAIRED_MAX: usize = 16;

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It was missing here.
    Added,
    /// It held something else here.
    Replaced,
    /// It was here alone.
    Removed,
}

/// What is known of peers with equal heads and other rows.
#[derive(Debug, Default)]
pub(crate) struct Divergence {
    peers: BTreeSet<PeerId>,
    next_ms: u64,
    /// Whether the rows here do not have their own fingerprint.
    pub(crate) is_damaged: bool,
    /// The rows that were repaired last, and how.
    pub(crate) repaired: VecDeque<(RowId, Repair)>,
}

impl Divergence {
    /// Takes in whether a peer with equal heads had other rows.
    pub(crate) fn compared(&mut self, peer: PeerId, differs: bool) {
        if !differs {
            self.peers.remove(&peer);
        } else if self.peers.len() < PEERS_MAX {
            self.peers.insert(peer);
        }
    }

    /// Whether a peer with equal heads had other rows when it said so last.
    pub(crate) fn is_found(&self) -> bool {
        !self.peers.is_empty() || self.is_damaged
    }
}

/// Rows of both sides in a range that differs.
pub(super) struct Differing {
    pub(super) mine: Vec<(RowId, Payload)>,
    pub(super) theirs: BTreeMap<RowId, Payload>,
}

impl Replica {
    /// Begins repairs that are due.
    pub(super) fn tick_repairs(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let due = self.keyspaces.iter().filter(|(_, keyspace)| {
            let Divergence { next_ms, is_damaged, .. } = keyspace.divergence;
            let is_free = keyspace.sink.is_none() && !keyspace.is_partial && !is_damaged;
            is_free && keyspace.divergence.is_found() && now_ms >= next_ms
        });
        let due: Vec<KeyspaceId> = due.map(|(id, _)| *id).collect();
        for id in due {
            let Some((session, takes_theirs)) = self.whom_to_compare_with(id) else { continue };
            let keyspace = self.keyspaces.get_mut(&id).expect("it is due");
            keyspace.divergence.next_ms = now_ms + AGAIN_MS;
            // What is wrong may be in the rows and not in what was noted when they were written.
            keyspace.ranges = None;
            keyspace.sink = Some(Sink::new(session, Way::Repair { takes_theirs }, now_ms));
            self.counters.count("repairs_begun");
            step.sends.push((session, Message::Take { keyspace: id }));
        }
    }

    /// A peer with our heads and other rows, unless more peers have ours; and whether most of all neighbours have
    /// those. What differs because an author has two histories is no defect: nobody's share of it is to go, so all
    /// keep everything.
    fn whom_to_compare_with(&self, id: KeyspaceId) -> Option<(SessionId, bool)> {
        let (heads, ours) = self.keyspaces[&id].last_committed()?;
        let mut votes: BTreeMap<u128, BTreeMap<PeerId, SessionId>> = BTreeMap::new();
        let mut everybody = BTreeSet::from([self.peer()]);
        for (session, link) in &self.links {
            let Some(shared) = link.shared.get(&id) else { continue };
            everybody.insert(link.peer);
            if let Some((_, fingerprint)) = shared.summary_heard.filter(|(at, _)| *at == heads) {
                votes.entry(fingerprint).or_default().insert(link.peer, *session);
            }
        }
        let agree = 1 + votes.remove(&ours.to_bits()).map_or(0, |peers| peers.len());
        let most = votes.into_values().max_by_key(BTreeMap::len)?;
        let session = *most.values().next()?;
        let has_forks = self.has_forks(id);
        let has_majority = 2 * most.len() > everybody.len();
        (has_forks || most.len() >= agree).then_some((session, !has_forks && has_majority))
    }

    /// Whether the rows have the fingerprint that was noted as they were written.
    pub(super) fn check_own_rows(&mut self, id: KeyspaceId, view: &View<'_, '_>) -> Result<(), Failure> {
        let keyspace = self.keyspaces.get_mut(&id).expect("looked up before");
        let index = keyspace.ranges.as_mut().expect("looked up before");
        let found = index.print(view.draft, id, &Range::default())?.fingerprint;
        if found == keyspace.fingerprint {
            return Ok(());
        }
        keyspace.divergence.is_damaged = true;
        Err(Failure::Damaged)
    }

    /// What is to become of rows that differ, as far as that can be said.
    ///
    /// Cases, for a row on one side only: (1) the other side had not applied all that this one had: it may have
    /// come or gone since; (2) it had: without a defect both would have the row, or none.
    pub(super) fn repairs_of(
        &self,
        id: KeyspaceId,
        their_vector: &VersionVector,
        takes_theirs: bool,
        differing: Differing,
    ) -> Vec<(RowId, Option<Payload>)> {
        let Differing { mine, mut theirs } = differing;
        let vector = self.keyspaces[&id].heads.vector();
        let has_ours = vector.iter().all(|dot| their_vector.covers(dot));
        let is_equal = has_ours && their_vector.iter().all(|dot| vector.covers(dot));
        let mut changes = Vec::new();
        for (row, payload) in mine {
            match theirs.remove(&row) {
                Some(other) if other == payload || !is_equal => {}
                Some(other) if takes_theirs || bytes(&other) > bytes(&payload) => {
                    changes.push((row, Some(other)));
                }
                None if takes_theirs && is_equal => changes.push((row, None)),
                _ => {}
            }
        }
        let missing = theirs.into_iter().filter(|(row, _)| has_ours && vector.covers(row.dot));
        changes.extend(missing.map(|(row, payload)| (row, Some(payload))));
        changes
    }

    /// Makes rows what they were judged to be.
    pub(super) fn repair(
        &mut self,
        id: KeyspaceId,
        sink: &Sink,
        rows: Vec<(RowId, Option<Payload>)>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mut done = Vec::with_capacity(rows.len());
        for (row, payload) in &rows {
            let repair = match (payload, crate::ports::Rows::row(view.draft, id, row)?) {
                (None, _) => Repair::Removed,
                (_, None) => Repair::Added,
                (_, Some(_)) => Repair::Replaced,
            };
            done.push((row.clone(), repair));
        }
        self.install(Install { keyspace: id, rows, heads: Some(Vec::new()) }, &sink.cards, view, step)?;
        self.counters.add("rows_repaired", done.len() as u64);
        let keyspace = self.keyspaces.get_mut(&id).expect("looked up before");
        // Who takes state from here cannot learn of this from the frames that follow.
        keyspace.generation += 1;
        keyspace.look_for_spent_slots();
        for (row, repair) in done {
            tracing::error!(keyspace = %keyspace.name, ?row, ?repair, "a row differed under equal heads");
            if keyspace.divergence.repaired.len() == REPAIRED_MAX {
                keyspace.divergence.repaired.pop_front();
            }
            keyspace.divergence.repaired.push_back((row, repair));
        }
        Ok(())
    }
}
