//! Whom to stay connected with: the wanted targets, when each is dialled next, and what went wrong last.
//!
//! Pure: the time is passed in, the dials are values, and the jitter comes from a seed. The swarm's task
//! tells it what became of each dial and which peers are up. A target is dialled while its peer is not
//! connected, with a pause that doubles with every failure and is drawn from its upper half, so that peers
//! that lost each other at the same moment do not meet in step again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::Target;

use crate::address;
use crate::status::{TargetState, TargetStatus};

/// How many targets are kept; further ones are refused and logged.
const TARGETS_MAX: usize = 1024;

/// How many addresses of one target are used; the best come first.
const ADDRESSES_MAX: usize = 16;

/// A connection that lasted this long starts the backoff anew.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A dial to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) target: Target,
    /// Who must answer.
    pub(crate) peer: Option<PeerId>,
    /// All of a known peer's addresses, or the one to try.
    pub(crate) addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
pub(crate) struct Dialer {
    targets: BTreeMap<Target, Entry>,
    connected: BTreeMap<PeerId, Instant>,
    backoff_min: Duration,
    backoff_max: Duration,
    is_online: bool,
    random: u64,
}

#[derive(Debug)]
struct Entry {
    /// Who must be there, by the target or by its addresses.
    named: Option<PeerId>,
    /// That, or who was there last.
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    /// Which address is tried next while the peer is unknown.
    next_address: usize,
    state: EntryState,
    failures: u32,
    last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    Waiting(Instant),
    /// Decided, and for a moment without a connection id.
    Starting,
    Dialing(ConnectionId),
    Connected,
    Unusable,
}

impl Entry {
    fn new(target: &Target, now: Instant) -> Self {
        let (mut peer, mut addresses, mut last_error) = (target.peer, Vec::new(), None);
        for text in target.addresses.iter().take(ADDRESSES_MAX) {
            match address::parse(text) {
                Err(error) => last_error = Some(error.to_string()),
                Ok(parsed) => match (peer, parsed.peer) {
                    (Some(wanted), Some(named)) if wanted != named => {
                        last_error = Some(format!("address {text} names another peer than {wanted}"));
                    }
                    (_, named) => {
                        peer = peer.or(named);
                        addresses.push(parsed.address);
                    }
                },
            }
        }
        let state = if addresses.is_empty() { EntryState::Unusable } else { EntryState::Waiting(now) };
        if addresses.is_empty() && last_error.is_none() {
            last_error = Some("the target has no address".to_owned());
        }
        Self { named: peer, peer, addresses, next_address: 0, state, failures: 0, last_error }
    }
}

impl Dialer {
    pub(crate) fn new(backoff_min: Duration, backoff_max: Duration, seed: u64) -> Self {
        // Zero is the one state that the generator below never leaves.
        let random = seed | 1;
        let (targets, connected) = (BTreeMap::new(), BTreeMap::new());
        Self { targets, connected, backoff_min, backoff_max, is_online: true, random }
    }

    /// Wants a target. Wanting it again tries it at once.
    pub(crate) fn want(&mut self, target: Target, now: Instant) {
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&target) {
            tracing::warn!(?target, "not dialled: {TARGETS_MAX} targets are wanted already");
            return;
        }
        let entry = self.targets.entry(target).or_insert_with_key(|target| Entry::new(target, now));
        match entry.state {
            EntryState::Waiting(_) => entry.state = EntryState::Waiting(now),
            EntryState::Unusable => tracing::warn!(error = ?entry.last_error, "target cannot be dialled"),
            _ => {}
        }
    }

    /// Stops wanting a target. Answers its peer, if no other target wants that peer.
    pub(crate) fn unwant(&mut self, target: &Target) -> Option<PeerId> {
        let peer = self.targets.remove(target)?.peer?;
        let is_wanted = self.targets.values().any(|entry| entry.peer == Some(peer));
        (!is_wanted).then_some(peer)
    }

    /// Stops or starts dialling altogether; when it starts, everything is tried at once.
    pub(crate) fn set_online(&mut self, is_online: bool, now: Instant) {
        self.is_online = is_online;
        for entry in self.targets.values_mut() {
            if let EntryState::Waiting(until) = &mut entry.state {
                entry.failures = 0;
                *until = now;
            }
        }
    }

    /// The dials that are due. Each must be answered with [`Dialer::started`] or [`Dialer::failed_to_start`].
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Dial> {
        let mut dials = Vec::new();
        if !self.is_online {
            return dials;
        }
        for (target, entry) in &mut self.targets {
            if !matches!(entry.state, EntryState::Waiting(until) if until <= now) {
                continue;
            }
            if entry.peer.is_some_and(|peer| self.connected.contains_key(&peer)) {
                entry.state = EntryState::Connected;
                continue;
            }
            let addresses = match entry.peer {
                Some(_) => entry.addresses.clone(),
                None => entry.addresses.get(entry.next_address).cloned().into_iter().collect(),
            };
            entry.state = EntryState::Starting;
            dials.push(Dial { target: target.clone(), peer: entry.peer, addresses });
        }
        dials
    }

    /// When the next dial is due, if nothing else happens.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waits = self.targets.values().filter_map(|entry| match entry.state {
            EntryState::Waiting(until) => Some(until),
            _ => None,
        });
        waits.min().filter(|_| self.is_online)
    }

    pub(crate) fn started(&mut self, target: &Target, connection: ConnectionId) {
        if let Some(entry) = self.targets.get_mut(target) {
            entry.state = EntryState::Dialing(connection);
        }
    }

    pub(crate) fn failed_to_start(&mut self, target: &Target, reason: &str, now: Instant) {
        let pause = |dialer: &mut Self, failures| dialer.pause(failures);
        self.fail_where(|key, _| key == target, reason, now, pause);
    }

    /// A peer answered a dial. False when nobody wants the connection any more.
    pub(crate) fn answered(&mut self, connection: ConnectionId, peer: PeerId) -> bool {
        let mut is_wanted = false;
        for entry in self.targets.values_mut() {
            if entry.state == EntryState::Dialing(connection) {
                entry.peer = Some(peer);
            }
            is_wanted |= entry.peer == Some(peer);
        }
        is_wanted
    }

    /// A dial failed, or its connection ended before a lane opened.
    pub(crate) fn failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        reason: &str,
        now: Instant,
    ) {
        if peer.is_some_and(|peer| self.connected.contains_key(&peer)) {
            // The dial was the twin of a connection that stands.
            for entry in
                self.targets.values_mut().filter(|entry| entry.state == EntryState::Dialing(connection))
            {
                entry.peer = peer;
                entry.state = EntryState::Connected;
            }
            return;
        }
        for entry in self.targets.values_mut().filter(|entry| entry.state == EntryState::Dialing(connection))
        {
            entry.peer = entry.peer.or(peer);
        }
        let pause = |dialer: &mut Self, failures| dialer.pause(failures);
        self.fail_where(|_, entry| entry.state == EntryState::Dialing(connection), reason, now, pause);
    }

    /// Another peer than the wanted one answered a dial. Who was only found there by an earlier dial is
    /// forgotten, so that the address is tried again for itself.
    pub(crate) fn answered_by_another(&mut self, connection: ConnectionId, reason: &str, now: Instant) {
        for entry in self.targets.values_mut().filter(|entry| entry.state == EntryState::Dialing(connection))
        {
            entry.peer = entry.named;
        }
        self.failed(connection, None, reason, now);
    }

    /// A lane to a peer opened.
    pub(crate) fn peer_up(&mut self, peer: PeerId, now: Instant) {
        self.connected.insert(peer, now);
        for entry in self.targets.values_mut() {
            if entry.peer == Some(peer) && entry.state != EntryState::Unusable {
                entry.state = EntryState::Connected;
            }
        }
    }

    /// The connection to a peer ended.
    pub(crate) fn peer_down(&mut self, peer: PeerId, reason: &str, now: Instant) {
        let Some(since) = self.connected.remove(&peer) else { return };
        let is_stable = now.duration_since(since) >= STABLE_AFTER;
        let pause = |dialer: &mut Self, failures| dialer.pause(if is_stable { 0 } else { failures });
        let is_its =
            |_: &Target, entry: &Entry| entry.peer == Some(peer) && entry.state == EntryState::Connected;
        if is_stable {
            self.targets
                .values_mut()
                .filter(|entry| entry.peer == Some(peer))
                .for_each(|entry| entry.failures = 0);
        }
        self.fail_where(is_its, reason, now, pause);
    }

    /// How every target is doing.
    pub(crate) fn status(&self, now: Instant) -> Vec<TargetStatus> {
        let status = |(target, entry): (&Target, &Entry)| TargetStatus {
            target: target.clone(),
            peer: entry.peer,
            state: match entry.state {
                EntryState::Connected => TargetState::Connected,
                EntryState::Unusable => TargetState::Unusable,
                EntryState::Starting | EntryState::Dialing(_) => TargetState::Dialing,
                EntryState::Waiting(_) if !self.is_online => TargetState::Offline,
                EntryState::Waiting(until) => TargetState::Waiting(until.saturating_duration_since(now)),
            },
            failures: entry.failures,
            last_error: entry.last_error.clone(),
        };
        self.targets.iter().map(status).collect()
    }

    #[cfg(test)]
    fn state_of(&self, target: &Target) -> EntryState {
        self.targets[target].state
    }

    fn fail_where(
        &mut self,
        is_failed: impl Fn(&Target, &Entry) -> bool,
        reason: &str,
        now: Instant,
        pause: impl Fn(&mut Self, u32) -> Duration,
    ) {
        let failed = self.targets.iter().filter(|(target, entry)| is_failed(target, entry));
        for target in failed.map(|(target, _)| target.clone()).collect::<Vec<_>>() {
            let failures = self.targets.get(&target).map_or(0, |entry| entry.failures);
            let pause = pause(self, failures);
            let Some(entry) = self.targets.get_mut(&target) else { continue };
            tracing::debug!(?target, reason, ?pause, "target is not connected");
            entry.last_error = Some(reason.to_owned());
            // An unknown peer's addresses are tried one after another; only then comes the pause.
            entry.next_address = (entry.next_address + 1) % entry.addresses.len().max(1);
            let is_round_over = entry.peer.is_some() || entry.next_address == 0;
            entry.failures = entry.failures.saturating_add(u32::from(is_round_over));
            entry.state = EntryState::Waiting(if is_round_over { now + pause } else { now });
        }
    }

    /// The pause after so many failures: from the upper half of `backoff_min * 2^failures`, within the
    /// maximum.
    fn pause(&mut self, failures: u32) -> Duration {
        let doubled = self.backoff_min.saturating_mul(1 << failures.min(20));
        let full = doubled.min(self.backoff_max);
        // xorshift64, Marsaglia 2003: enough to keep peers out of step.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random % 1000).expect("below 1000");
        full / 2 + full / 2 * share / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn peer(n: u8) -> PeerId {
        PeerId::from_public_key([n; 32])
    }

    fn target(peer: Option<PeerId>, addresses: &[&str]) -> Target {
        Target { peer, addresses: addresses.iter().map(|text| (*text).to_owned()).collect() }
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn start(dialer: &mut Dialer, now: Instant, connection: usize) -> Dial {
        let dials = dialer.due(now);
        assert_eq!(dials.len(), 1);
        dialer.started(&dials[0].target, id(connection));
        assert!(dialer.due(now).is_empty());
        dials[0].clone()
    }

    #[test]
    fn pause_doubles_with_jitter_up_to_its_maximum() {
        let (mut dialer, mut now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        let wanted = target(Some(peer(1)), &["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"]);
        dialer.want(wanted.clone(), now);
        let mut full = MIN;
        for attempt in 0..12 {
            let dial = start(&mut dialer, now, attempt);
            assert_eq!(dial.addresses.len(), 2, "a known peer's addresses are dialled together");
            dialer.failed(id(attempt), Some(peer(1)), "refused", now);
            let next = dialer.next_due().expect("it is dialled again");
            let pause = next - now;
            assert!(pause >= full / 2 && pause <= full, "{attempt}: {pause:?} of {full:?}");
            assert!(dialer.due(now + pause.mul_f64(0.99)).is_empty());
            (now, full) = (next, (full * 2).min(MAX));
        }
        let status = dialer.status(now).remove(0);
        assert_eq!((status.failures, status.last_error.as_deref()), (12, Some("refused")));
        dialer.want(wanted, now);
        assert_eq!(dialer.due(now).len(), 1, "wanting it again tries at once");
    }

    #[test]
    fn unknown_peer_is_tried_at_each_address_and_remembered() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        let wanted = target(None, &["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]);
        dialer.want(wanted.clone(), now);
        assert_eq!(start(&mut dialer, now, 1).addresses[0].to_string(), "/ip4/127.0.0.1/tcp/1");
        dialer.failed(id(1), None, "refused", now);
        assert_eq!(start(&mut dialer, now, 2).addresses[0].to_string(), "/ip4/127.0.0.1/tcp/2");
        assert!(dialer.answered(id(2), peer(9)));
        dialer.peer_up(peer(9), now);
        assert_eq!(dialer.state_of(&wanted), EntryState::Connected);
        dialer.peer_down(peer(9), "lost", now + STABLE_AFTER);
        assert_eq!(start(&mut dialer, now + STABLE_AFTER + MIN, 3).peer, Some(peer(9)));
        assert_eq!(dialer.unwant(&wanted), Some(peer(9)));
        assert!(!dialer.answered(id(3), peer(9)), "nobody wants it any more");
    }

    #[test]
    fn peer_that_was_only_found_there_is_forgotten_when_another_answers() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        let (found, named) =
            (target(None, &["/ip4/127.0.0.1/tcp/1"]), target(Some(peer(1)), &["/ip4/127.0.0.1/tcp/2"]));
        for (wanted, first, after) in [(found, Some(peer(2)), None), (named, Some(peer(1)), Some(peer(1)))] {
            dialer.want(wanted.clone(), now);
            let dial = start(&mut dialer, now, 1);
            if dial.peer.is_none() {
                dialer.answered(id(1), peer(2));
            }
            dialer.failed(id(1), None, "lost", now);
            assert_eq!(start(&mut dialer, now + MAX, 2).peer, first);
            dialer.answered_by_another(id(2), "another answered", now);
            assert_eq!(start(&mut dialer, now + MAX, 3).peer, after);
            dialer.unwant(&wanted);
        }
    }

    #[test]
    fn suffix_of_an_address_names_the_peer_and_must_agree() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        let suffixed = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer(1));
        dialer.want(target(None, &[&suffixed]), now);
        let dial = start(&mut dialer, now, 1);
        assert_eq!(
            (dial.peer, dial.addresses[0].to_string().as_str()),
            (Some(peer(1)), "/ip4/127.0.0.1/tcp/1")
        );
        let wrong = target(Some(peer(2)), &[&suffixed]);
        dialer.want(wrong.clone(), now);
        assert!(dialer.due(now).is_empty());
        let status =
            dialer.status(now).into_iter().find(|status| status.target == wrong).expect("it is listed");
        assert_eq!(status.state, TargetState::Unusable);
        assert!(status.last_error.is_some_and(|error| error.contains("names another peer")));
    }

    #[test]
    fn connected_peer_is_not_dialled_and_two_targets_share_it() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        let (one, two) =
            (target(Some(peer(1)), &["/ip4/127.0.0.1/tcp/1"]), target(None, &["/ip4/127.0.0.1/tcp/1"]));
        dialer.peer_up(peer(1), now);
        dialer.want(one.clone(), now);
        assert!(dialer.due(now).is_empty());
        assert_eq!(dialer.state_of(&one), EntryState::Connected);
        dialer.want(two.clone(), now);
        start(&mut dialer, now, 1);
        dialer.failed(id(1), Some(peer(1)), "duplicate", now);
        assert_eq!(dialer.state_of(&two), EntryState::Connected);
        assert_eq!(dialer.unwant(&one), None, "the other target wants the peer too");
        assert_eq!(dialer.unwant(&two), Some(peer(1)));
    }

    #[test]
    fn offline_dials_nothing_and_online_dials_at_once() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        dialer.want(target(Some(peer(1)), &["/ip4/127.0.0.1/tcp/1"]), now);
        for attempt in 0..5 {
            start(&mut dialer, now + MAX * u32::try_from(attempt).expect("small"), attempt);
            dialer.failed(id(attempt), None, "refused", now);
        }
        dialer.set_online(false, now);
        assert!(dialer.due(now + MAX).is_empty() && dialer.next_due().is_none());
        assert_eq!(dialer.status(now)[0].state, TargetState::Offline);
        dialer.set_online(true, now);
        assert_eq!(dialer.due(now).len(), 1);
    }

    #[test]
    fn targets_are_bounded_and_an_empty_one_is_unusable() {
        let (mut dialer, now) = (Dialer::new(MIN, MAX, 7), Instant::now());
        for n in 0..=TARGETS_MAX {
            dialer.want(target(None, &[&format!("/ip4/127.0.0.1/tcp/{n}")]), now);
        }
        assert_eq!(dialer.status(now).len(), TARGETS_MAX);
        let mut dialer = Dialer::new(MIN, MAX, 7);
        dialer.want(target(None, &[]), now);
        assert_eq!(dialer.status(now)[0].state, TargetState::Unusable);
    }
}
