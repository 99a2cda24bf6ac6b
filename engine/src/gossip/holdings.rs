//! What peers hold: told now and then, so that a node knows when nobody needs its log any more.
//!
//! A peer tells how far it has each author, as deltas, after it is on its disk there. Nothing depends on it but
//! how long frames are kept: who claims too much or too little costs somebody a transfer of state, or disk.

use std::collections::BTreeMap;

use crate::causality::{Dot, VersionVector};
use crate::id::{KeyspaceId, PeerId, ReplicaId};
use crate::message::{Message, WantEntry};
use crate::ports::SessionId;
use crate::replica::{Keyspace, Replica, Step};

/// How often a peer is told what is held here, in milliseconds.
const HELD_EVERY_MS: u64 = 10_000;

/// The peers of which it is known what they hold, at most.
const PEERS_MAX: usize = 1_024;

/// What peers hold.
#[derive(Debug, Default)]
pub(crate) struct Holdings(BTreeMap<PeerId, Holding>);

#[derive(Debug, Default)]
struct Holding {
    /// When it was last connected, on our monotonic clock.
    seen_ms: u64,
    keyspaces: BTreeMap<KeyspaceId, VersionVector>,
}

impl Holdings {
    /// A peer replicates a keyspace, and is connected.
    pub(crate) fn see(&mut self, peer: PeerId, keyspace: KeyspaceId, now_ms: u64) {
        if self.0.len() < PEERS_MAX || self.0.contains_key(&peer) {
            let holding = self.0.entry(peer).or_default();
            holding.seen_ms = now_ms;
            holding.keyspaces.entry(keyspace).or_default();
        }
    }

    /// A peer tells what it holds.
    fn raise(&mut self, peer: PeerId, keyspace: KeyspaceId, held: &[WantEntry]) {
        let vector = self.0.get_mut(&peer).and_then(|holding| holding.keyspaces.get_mut(&keyspace));
        if let Some(vector) = vector {
            held.iter().for_each(|entry| vector.raise(Dot::new(entry.author, entry.after)));
        }
    }

    /// Up to which seq any peer is known to hold an author's operations.
    pub(crate) fn held_of(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        let vectors = self.0.values().filter_map(|holding| holding.keyspaces.get(&keyspace));
        vectors.map(|vector| vector.get(author)).max().unwrap_or(0)
    }

    /// A keyspace is not replicated here any more.
    pub(crate) fn forget_keyspace(&mut self, keyspace: KeyspaceId) {
        self.0.values_mut().for_each(|holding| drop(holding.keyspaces.remove(&keyspace)));
    }

    /// A peer does not replicate a keyspace any more: nothing is kept for it.
    pub(crate) fn forget(&mut self, peer: PeerId, keyspace: KeyspaceId) {
        if let Some(holding) = self.0.get_mut(&peer) {
            holding.keyspaces.remove(&keyspace);
        }
    }

    /// The peers that replicate something here, and since how many milliseconds each is not connected.
    pub(crate) fn seen(&self, now_ms: u64) -> Vec<(PeerId, u64)> {
        self.0.iter().map(|(peer, holding)| (*peer, now_ms.saturating_sub(holding.seen_ms))).collect()
    }

    /// Forgets the peers that were not seen since.
    pub(crate) fn forget_before(&mut self, ms: u64) {
        self.0.retain(|_, holding| holding.seen_ms >= ms);
    }

    /// A peer that replicates a keyspace and lacks an operation of it, as far as is known.
    pub(crate) fn who_lacks(&self, keyspace: KeyspaceId, dot: Dot) -> Option<PeerId> {
        let lacks =
            |holding: &Holding| holding.keyspaces.get(&keyspace).is_some_and(|vector| !vector.covers(dot));
        self.0.iter().find(|(_, holding)| lacks(holding)).map(|(peer, _)| *peer)
    }

    /// Whether any peer holds an operation.
    pub(crate) fn is_held(&self, keyspace: KeyspaceId, dot: Dot) -> bool {
        let vectors = self.0.values().filter_map(|holding| holding.keyspaces.get(&keyspace));
        vectors.into_iter().any(|vector| vector.covers(dot))
    }
}

impl Replica {
    /// Tells peers what is held here, where that is due.
    pub(crate) fn tick_holdings(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let mut due: Vec<(SessionId, KeyspaceId)> = Vec::new();
        for (session, link) in self.links.iter().filter(|(_, link)| !link.is_congested) {
            for (id, shared) in &link.shared {
                self.holdings.see(link.peer, *id, now_ms);
                let changes = self.keyspaces.get(id).map_or(0, Keyspace::changes);
                if shared.held_told < changes && now_ms >= shared.held_told_ms + HELD_EVERY_MS {
                    due.push((*session, *id));
                }
            }
        }
        for (session, id) in due {
            let keyspace = &self.keyspaces[&id];
            let changes = keyspace.changes();
            let link = self.links.get_mut(&session).expect("it was there");
            let shared = link.shared.get_mut(&id).expect("it was there");
            let since = std::mem::replace(&mut shared.held_told, changes);
            shared.held_told_ms = now_ms;
            for entries in keyspace.heads_since(since) {
                let held = entries.iter().map(|head| WantEntry { author: head.author, after: head.seq });
                let message = Message::Held { keyspace: id, held: held.collect() };
                step.sends.push((session, message));
            }
        }
    }

    /// A peer tells what it holds.
    pub(crate) fn held(&mut self, session: SessionId, keyspace: KeyspaceId, held: &[WantEntry]) {
        let link = &self.links[&session];
        if link.shares(keyspace) {
            let peer = link.peer;
            self.holdings.see(peer, keyspace, self.mono_ms);
            self.holdings.raise(peer, keyspace, held);
        }
    }
}
