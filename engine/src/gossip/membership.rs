//! Who talks to whom: a few active links, and more known peers to replace them.
//!
//! A small cluster is fully connected. In a larger one every node keeps 5 to 8 links at random and passes on
//! what peers it knows, so that the graph stays connected whoever leaves. Records say which keyspaces a peer
//! replicates if these are few, so that those who share one find each other among many who do not.
//! Source: Leitao, Pereira, Rodrigues, "HyParView" (DSN 2007); we exchange records in place of random walks.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{KeyspaceId, PeerId};
use crate::message::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, HINTS_MAX, KeyspaceHint, Message, PEER_RECORDS_MAX, PeerRecord,
};
use crate::ports::{Address, SessionId, Target};
use crate::replica::{Now, Replica, Step};

/// Below so many links a node looks for more.
pub(crate) const ACTIVE_MIN: usize = 5;

/// Above so many it lets one go.
pub(crate) const ACTIVE_MAX: usize = 8;

/// The peers that a node remembers.
const KNOWN_MAX: usize = 64;

/// The peers that the operator can name, at most; more are ignored.
const SEEDS_MAX: usize = 1_024;

/// How long a dial is given before another peer is tried, in milliseconds.
const DIAL_MS: u64 = 10_000;

/// How long a peer that turned us away is left alone, in milliseconds.
const TURNED_AWAY_MS: u64 = 30_000;

/// The dials that are under way at once.
const DIALS_MAX: usize = 3;

/// How often records are passed on, in milliseconds.
const SHUFFLE_MS: u64 = 10_000;

/// A keyspace with fewer neighbours than this looks for more.
const NEIGHBOURS_MIN: usize = 3;

/// How often one more peer is tried for the sake of such a keyspace, in milliseconds, if none is known to have it.
const EXPLORE_MS: u64 = 20_000;

/// How often a peer is dialled that is known to have such a keyspace, in milliseconds.
const SEEK_MS: u64 = 1_000;

/// How often it is looked which keyspaces have few neighbours, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// Known peers that are kept for having a keyspace with few neighbours, at most: those who only say so must not
/// displace all others.
const SOUGHT_MAX: usize = KNOWN_MAX / 2;

#[derive(Clone, Debug, Default)]
struct Known {
    addresses: Vec<Address>,
    /// The keyspaces that it replicates, as far as is known.
    keyspaces: BTreeSet<KeyspaceHint>,
    /// When somebody was last connected with it, on our monotonic clock; may be before its start.
    seen_ms: i64,
    /// Not to be dialled before this.
    rest_until_ms: u64,
    /// A dial of ours that is under way, since when.
    dialling: Option<(Target, u64)>,
}

/// The peers that a node knows.
#[derive(Debug)]
pub(crate) struct Membership {
    local: PeerId,
    listening: Vec<Address>,
    known: BTreeMap<PeerId, Known>,
    seeds: Vec<(Target, u64)>,
    shuffled_ms: u64,
    explored_ms: u64,
    sought_ms: u64,
    looked_ms: Option<u64>,
    /// The keyspaces here with few neighbours.
    lacking: BTreeSet<KeyspaceHint>,
}

impl Membership {
    pub(crate) fn new(local: PeerId) -> Self {
        let (listening, known, seeds) = (Vec::new(), BTreeMap::new(), Vec::new());
        let lacking = BTreeSet::new();
        let (shuffled_ms, explored_ms, sought_ms, looked_ms) = (0, 0, 0, None);
        Self { local, listening, known, seeds, shuffled_ms, explored_ms, sought_ms, looked_ms, lacking }
    }

    pub(crate) fn listen(&mut self, addresses: Vec<Address>) {
        self.listening = addresses;
    }

    pub(crate) fn listening(&self) -> Vec<Address> {
        self.listening.iter().take(ADDRESSES_MAX).cloned().collect()
    }

    /// Keeps connected with a peer that the operator named.
    pub(crate) fn add_seed(&mut self, target: Target, step: &mut Step) {
        let is_new = self.seeds.iter().all(|(seed, _)| *seed != target);
        if target.peer == Some(self.local) || (is_new && self.seeds.len() >= SEEDS_MAX) {
            return;
        }
        if is_new {
            self.seeds.push((target.clone(), 0));
        }
        // Whoever names a peer again wants it tried now.
        step.connects.push(target);
    }

    /// Whether the operator named a target.
    pub(crate) fn is_seed(&self, target: &Target) -> bool {
        self.seeds.iter().any(|(seed, _)| seed == target)
    }

    /// Where a peer may be found, the likeliest first.
    pub(crate) fn addresses_of(&self, peer: PeerId) -> Vec<Address> {
        self.known.get(&peer).map(|known| known.addresses.clone()).unwrap_or_default()
    }

    /// A peer said hello.
    pub(crate) fn met(&mut self, now: Now, peer: PeerId, addresses: impl Iterator<Item = Address>) {
        let known = self.known.entry(peer).or_default();
        known.seen_ms = signed(now.mono_ms);
        known.rest_until_ms = 0;
        for address in addresses {
            // The newest address that the peer itself named, or was reached at, is the likeliest to work.
            known.addresses.retain(|other| *other != address);
            known.addresses.insert(0, address);
        }
        known.addresses.retain(|address| address.len() <= ADDRESS_BYTES_MAX);
        known.addresses.truncate(ADDRESSES_MAX);
        self.forget_surplus();
    }

    /// Takes in what another peer knows.
    pub(crate) fn heard(&mut self, now: Now, records: Vec<PeerRecord>) {
        for PeerRecord { peer, addresses, age_s, keyspaces } in records {
            if peer == self.local {
                continue;
            }
            let seen_ms = signed(now.mono_ms).saturating_sub(signed(age_s.saturating_mul(1_000)));
            let known = self.known.entry(peer).or_insert_with(|| Known { seen_ms, ..Known::default() });
            // Who met it later knows better.
            if !keyspaces.is_empty() && (known.keyspaces.is_empty() || seen_ms > known.seen_ms) {
                known.keyspaces = keyspaces.into_iter().collect();
            }
            known.seen_ms = known.seen_ms.max(seen_ms);
            for address in addresses {
                // What others say comes behind what the peer said.
                if known.addresses.len() < ADDRESSES_MAX && !known.addresses.contains(&address) {
                    known.addresses.push(address);
                }
            }
        }
        self.forget_surplus();
    }

    /// A peer that we are connected with replicates these keyspaces, or more than are remembered.
    fn offers(&mut self, peer: PeerId, keyspaces: impl ExactSizeIterator<Item = KeyspaceId>) {
        if let Some(known) = self.known.get_mut(&peer) {
            let are_few = keyspaces.len() <= HINTS_MAX;
            let hints = keyspaces.filter(|_| are_few).map(KeyspaceHint::of);
            known.keyspaces = hints.collect();
        }
    }

    /// A session with a peer ended.
    pub(crate) fn lost(&mut self, now: Now, peer: PeerId) {
        if let Some(known) = self.known.get_mut(&peer) {
            known.seen_ms = signed(now.mono_ms);
            // The transport dials again by itself; it is given the time of a new dial.
            if let Some((_, since)) = &mut known.dialling {
                *since = now.mono_ms;
            }
        }
    }

    /// A peer does not want us, or we do not want it: leave it alone for a while, also if the operator named it.
    pub(crate) fn turned_away(&mut self, now_ms: u64, peer: PeerId, address: &str, step: &mut Step) {
        let until = now_ms + TURNED_AWAY_MS;
        let known = self.known.entry(peer).or_default();
        known.rest_until_ms = until;
        if let Some((target, _)) = known.dialling.take() {
            step.disconnects.push(target);
        }
        for (seed, rest_until_ms) in &mut self.seeds {
            if seed.peer == Some(peer) || seed.addresses.iter().any(|of_seed| of_seed == address) {
                *rest_until_ms = until;
                step.disconnects.push(seed.clone());
            }
        }
    }

    fn forget_surplus(&mut self) {
        while self.known.len() > KNOWN_MAX {
            let is_sought = |known: &Known| !known.keyspaces.is_disjoint(&self.lacking);
            let are_kept = self.known.values().filter(|known| is_sought(known)).count() <= SOUGHT_MAX;
            let idle = self.known.iter().filter(|(_, known)| known.dialling.is_none());
            let oldest = idle.min_by_key(|(_, known)| (are_kept && is_sought(known), known.seen_ms));
            let Some(oldest) = oldest.map(|(peer, _)| *peer) else {
                return;
            };
            self.known.remove(&oldest);
        }
    }

    fn records(&self, now: Now) -> Vec<PeerRecord> {
        let mut known: Vec<(&PeerId, &Known)> =
            self.known.iter().filter(|(_, known)| !known.addresses.is_empty()).collect();
        known.sort_by_key(|(_, known)| std::cmp::Reverse(known.seen_ms));
        let record = |(peer, known): (&PeerId, &Known)| PeerRecord {
            peer: *peer,
            addresses: known.addresses.clone(),
            keyspaces: known.keyspaces.iter().copied().collect(),
            age_s: u64::try_from(signed(now.mono_ms).saturating_sub(known.seen_ms)).unwrap_or(0) / 1_000,
        };
        known.into_iter().take(PEER_RECORDS_MAX).map(record).collect()
    }

    /// Keeps the number of links up; one more is looked for if a keyspace lacks neighbours.
    fn tick(&mut self, now: Now, linked: &[PeerId], step: &mut Step) {
        for peer in linked {
            if let Some(known) = self.known.get_mut(peer) {
                known.seen_ms = signed(now.mono_ms);
            }
        }
        // A node that was turned away and has neighbours enough does not come back.
        for (seed, rest_until_ms) in self.seeds.iter_mut().filter(|_| linked.len() < ACTIVE_MIN) {
            if *rest_until_ms > 0 && now.mono_ms >= *rest_until_ms {
                *rest_until_ms = 0;
                step.connects.push(seed.clone());
            }
        }
        for (peer, known) in &mut self.known {
            let is_linked = linked.contains(peer);
            let is_over = |(_, since): &mut (Target, u64)| !is_linked && now.mono_ms >= *since + DIAL_MS;
            if let Some((target, _)) = known.dialling.take_if(is_over) {
                // What the operator has named too is dialled on: to us it is one target, and never given up.
                if !self.seeds.iter().any(|(seed, rest_until_ms)| *seed == target && *rest_until_ms == 0) {
                    step.disconnects.push(target);
                }
                known.rest_until_ms = now.mono_ms + TURNED_AWAY_MS;
            }
        }
        self.dial(now, linked, step);
    }

    /// Dials as many as are wanted. Who has a keyspace with few neighbours comes first.
    fn dial(&mut self, now: Now, linked: &[PeerId], step: &mut Step) {
        let under_way =
            self.known.iter().filter(|(peer, known)| known.dialling.is_some() && !linked.contains(peer));
        let under_way = under_way.count();
        let free = self.known.iter().filter(|(peer, known)| {
            let is_free = known.dialling.is_none() && now.mono_ms >= known.rest_until_ms;
            is_free && !known.addresses.is_empty() && !linked.contains(peer)
        });
        let (mut sought, mut others): (Vec<PeerId>, Vec<PeerId>) = (Vec::new(), Vec::new());
        for (peer, known) in free {
            let is_sought = !known.keyspaces.is_disjoint(&self.lacking);
            if is_sought { sought.push(*peer) } else { others.push(*peer) }
        }
        let mut wanted = ACTIVE_MIN.saturating_sub(linked.len() + under_way);
        if wanted == 0 && !sought.is_empty() && now.mono_ms >= self.sought_ms + SEEK_MS {
            self.sought_ms = now.mono_ms;
            wanted = 1;
        } else if wanted == 0 && !self.lacking.is_empty() && now.mono_ms >= self.explored_ms + EXPLORE_MS {
            self.explored_ms = now.mono_ms;
            wanted = 1;
        }
        for n in 0..DIALS_MAX.saturating_sub(under_way).min(wanted) {
            let candidates = if sought.is_empty() { &mut others } else { &mut sought };
            let Some(index) = pick(now.entropy, n, candidates.len()) else { break };
            let peer = candidates.swap_remove(index);
            let known = self.known.get_mut(&peer).expect("it is a candidate");
            let target = Target { peer: Some(peer), addresses: known.addresses.clone() };
            known.dialling = Some((target.clone(), now.mono_ms));
            step.connects.push(target);
        }
    }
}

impl Replica {
    /// A session was greeted: tell the peer whom we know, and let somebody go if we have too many.
    pub(crate) fn neighbours_changed(&mut self, now: Now, session: SessionId, step: &mut Step) {
        self.pass_on_records(now, session, step);
        // Only who was greeted counts: to let go of one that was not would leave as many as there are.
        let greeted = self.links.iter().filter(|(other, link)| **other != session && link.card.is_some());
        let others: Vec<SessionId> = greeted.map(|(other, _)| *other).collect();
        if others.len() >= ACTIVE_MAX {
            // Rather one that no keyspace would miss.
            let spare: Vec<SessionId> =
                others.iter().copied().filter(|other| self.is_spare(*other)).collect();
            let guests = others.iter().copied().filter(|other| !self.links[other].is_anchor).collect();
            let choices = [spare, guests, others].into_iter().find(|choices| !choices.is_empty());
            let choices = choices.unwrap_or_default();
            let index = pick(now.entropy, 0, choices.len()).expect("there are others");
            self.counters.count("neighbours_let_go");
            self.refuse(choices[index], "enough neighbours; try the peers that were named", step);
        }
    }

    /// Whether every keyspace of a link has neighbours enough without it.
    fn is_spare(&self, session: SessionId) -> bool {
        let link = &self.links[&session];
        !link.is_anchor && link.shared.keys().all(|id| self.neighbours(*id) > NEIGHBOURS_MIN)
    }

    fn neighbours(&self, id: KeyspaceId) -> usize {
        self.links.values().filter(|link| link.shares(id)).count()
    }

    /// Remembers which keyspaces the peers have that we are connected with, and how long a keyspace has had no
    /// neighbour, and which have few.
    fn look_at_neighbours(&mut self, now: Now) {
        for link in self.links.values().filter(|link| link.card.is_some() && !link.takes_any_keyspace) {
            self.membership.offers(link.peer, link.offered.iter().copied());
        }
        let mut counts: BTreeMap<KeyspaceId, usize> = BTreeMap::new();
        for id in self.links.values().flat_map(|link| link.shared.keys()) {
            *counts.entry(*id).or_default() += 1;
        }
        self.membership.lacking.clear();
        for (id, keyspace) in &mut self.keyspaces {
            let count = counts.get(id).copied().unwrap_or(0);
            keyspace.alone_since_ms = (count == 0).then(|| keyspace.alone_since_ms.unwrap_or(now.mono_ms));
            if count < NEIGHBOURS_MIN {
                self.membership.lacking.insert(KeyspaceHint::of(*id));
            }
        }
    }

    fn pass_on_records(&mut self, now: Now, session: SessionId, step: &mut Step) {
        let records = self.membership.records(now);
        if !records.is_empty() {
            step.sends.push((session, Message::Peers(records)));
        }
    }

    /// What is due: dials to known peers, and passing on whom we know.
    pub(crate) fn tick_membership(&mut self, now: Now, step: &mut Step) {
        let linked: Vec<PeerId> = self.links.values().map(|link| link.peer).collect();
        if self.membership.looked_ms.is_none_or(|looked| now.mono_ms >= looked + LOOK_MS) {
            self.membership.looked_ms = Some(now.mono_ms);
            self.look_at_neighbours(now);
        }
        self.membership.tick(now, &linked, step);
        if now.mono_ms < self.membership.shuffled_ms + SHUFFLE_MS {
            return;
        }
        self.membership.shuffled_ms = now.mono_ms;
        let greeted = self.links.iter().filter(|(_, link)| link.card.is_some());
        let sessions: Vec<SessionId> = greeted.map(|(session, _)| *session).collect();
        if let Some(index) = pick(now.entropy, 1, sessions.len()) {
            self.pass_on_records(now, sessions[index], step);
        }
    }
}

/// The `n`-th choice that `entropy` makes among `count` things.
fn pick(entropy: u64, n: usize, count: usize) -> Option<usize> {
    let turned = entropy.rotate_left(u32::try_from(n * 17 % 64).unwrap_or(0));
    let index = turned.checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(index).ok()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
