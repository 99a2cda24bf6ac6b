//! Which connection to a peer stays, when both sides dial at once or a peer comes back. Pure; no clock, no
//! I/O.
//!
//! One side decides: the peer with the lower id is the *arbiter*. It keeps the first connection that is
//! established on its side and denies all others, until the kept one ends or is old enough to be the leftover
//! of a peer that restarted. The other side keeps every connection as a candidate and adopts the one on which
//! a lane opens; a connection that was denied can never open one, because the arbiter made no handler for it.
//!
//! So there is one decider and no tie-break race, nothing moves from one connection to another, and no frame
//! is lost or delivered twice. "The lower peer's dial wins" would need such a move whenever the other
//! connection came first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelock_engine::id::PeerId;

/// What is to be done with a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<C> {
    /// Keep it: as the chosen one on the arbiter's side, as a candidate on the other.
    Admit,
    /// Keep it and give up the older one, whose peer has restarted.
    Replace(C),
    /// Refuse it; another connection to this peer is being kept.
    Deny,
}

/// The choices of one node. `C` names a connection.
#[derive(Debug)]
pub(crate) struct Arbiter<C> {
    local: PeerId,
    replace_after: Duration,
    chosen: BTreeMap<PeerId, (C, Instant)>,
}

impl<C: Copy + Eq> Arbiter<C> {
    pub(crate) fn new(local: PeerId, replace_after: Duration) -> Self {
        Self { local, replace_after, chosen: BTreeMap::new() }
    }

    pub(crate) fn chosen(&self, peer: PeerId) -> Option<C> {
        self.chosen.get(&peer).map(|(connection, _)| *connection)
    }

    /// A connection was established on this side.
    pub(crate) fn established(&mut self, peer: PeerId, new: C, is_dialer: bool, now: Instant) -> Verdict<C> {
        if self.local >= peer {
            return Verdict::Admit;
        }
        let verdict = match self.chosen.get(&peer) {
            None => Verdict::Admit,
            // Our own dial says nothing about a restart of the peer; its dial does, if it cannot be the twin
            // of a connection that was being established at the same time.
            Some((old, since)) if !is_dialer && now.duration_since(*since) >= self.replace_after => {
                Verdict::Replace(*old)
            }
            Some(_) => Verdict::Deny,
        };
        if verdict != Verdict::Deny {
            self.chosen.insert(peer, (new, now));
        }
        verdict
    }

    /// A lane opened on a connection that was admitted. Answers the older connection to give up, if any.
    pub(crate) fn lane_opened(&mut self, peer: PeerId, connection: C, now: Instant) -> Option<C> {
        if self.local < peer {
            return None;
        }
        // The arbiter has decided for this one, so an older one is over at its end.
        let old = self.chosen.insert(peer, (connection, now));
        old.map(|(old, _)| old).filter(|old| *old != connection)
    }

    /// A connection ended, or is about to.
    pub(crate) fn closed(&mut self, peer: PeerId, connection: C) {
        if self.chosen(peer) == Some(connection) {
            self.chosen.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const REPLACE_AFTER: Duration = Duration::from_secs(12);

    fn peer(low_or_high: usize) -> PeerId {
        PeerId::from_public_key([u8::try_from(low_or_high).expect("0 or 1"); 32])
    }

    #[test]
    fn arbiter_keeps_the_first_and_denies_its_twin() {
        let (now, mut arbiter) = (Instant::now(), Arbiter::new(peer(0), REPLACE_AFTER));
        assert_eq!(arbiter.established(peer(1), 1, true, now), Verdict::Admit);
        assert_eq!(arbiter.established(peer(1), 2, false, now), Verdict::Deny);
        assert_eq!(arbiter.established(peer(1), 3, true, now + 2 * REPLACE_AFTER), Verdict::Deny);
        assert_eq!(arbiter.established(peer(1), 4, false, now + REPLACE_AFTER), Verdict::Replace(1));
        arbiter.closed(peer(1), 1);
        assert_eq!(arbiter.chosen(peer(1)), Some(4));
        arbiter.closed(peer(1), 4);
        assert_eq!(arbiter.established(peer(1), 5, true, now), Verdict::Admit);
    }

    #[test]
    fn other_side_adopts_the_connection_where_a_lane_opens() {
        let (now, mut other) = (Instant::now(), Arbiter::new(peer(1), REPLACE_AFTER));
        for connection in [1, 2] {
            assert_eq!(other.established(peer(0), connection, true, now), Verdict::Admit);
        }
        assert_eq!(other.lane_opened(peer(0), 2, now), None);
        assert_eq!(other.lane_opened(peer(0), 1, now), Some(2));
        other.closed(peer(0), 2);
        assert_eq!(other.chosen(peer(0)), Some(1));
    }

    /// One connection of the model, as each side (0 is the arbiter) sees it.
    #[derive(Clone, Copy, Debug, Default)]
    struct Wire {
        dialer: usize,
        /// The side has been told that the connection is established.
        is_established: [bool; 2],
        is_alive: [bool; 2],
        has_lane: [bool; 2],
    }

    /// Two nodes, their arbiters, and every connection there ever was. Each step delivers one thing to one
    /// side, so that both sides learn of everything in any order.
    struct Model {
        now: Instant,
        arbiters: [Arbiter<usize>; 2],
        wires: Vec<Wire>,
    }

    impl Model {
        fn new() -> Self {
            let arbiters = [0, 1].map(|side| Arbiter::new(peer(side), REPLACE_AFTER));
            Self { now: Instant::now(), arbiters, wires: Vec::new() }
        }

        fn dial(&mut self, dialer: usize) {
            self.wires.push(Wire { dialer, ..Wire::default() });
        }

        fn end(&mut self, side: usize, wire: usize) {
            self.wires[wire].is_alive[side] = false;
            self.arbiters[side].closed(peer(1 - side), wire);
        }

        /// The process of one side starts anew: its connections are gone, and it remembers nothing.
        fn restart(&mut self, side: usize) {
            self.arbiters[side] = Arbiter::new(peer(side), REPLACE_AFTER);
            for wire in &mut self.wires {
                wire.is_established[side] = true;
                wire.is_alive[side] = false;
            }
        }

        fn establish(&mut self, side: usize, wire: usize) -> bool {
            if self.wires[wire].is_established[side] {
                return false;
            }
            self.wires[wire].is_established[side] = true;
            let is_dialer = self.wires[wire].dialer == side;
            match self.arbiters[side].established(peer(1 - side), wire, is_dialer, self.now) {
                Verdict::Deny => return true,
                Verdict::Replace(old) => self.end(side, old),
                Verdict::Admit => {}
            }
            self.wires[wire].is_alive[side] = true;
            true
        }

        /// A lane opens on a side when both sides have made a handler, which the other may have given up
        /// since.
        fn open_lane(&mut self, side: usize, wire: usize) -> bool {
            let state = self.wires[wire];
            let other_is_there = state.is_alive[1 - side] || state.has_lane[1 - side];
            if !state.is_alive[side] || state.has_lane[side] || !other_is_there {
                return false;
            }
            self.wires[wire].has_lane[side] = true;
            if let Some(old) = self.arbiters[side].lane_opened(peer(1 - side), wire, self.now) {
                self.end(side, old);
            }
            true
        }

        /// The end of a connection reaches the other side.
        fn hear_end(&mut self, side: usize, wire: usize) -> bool {
            let state = self.wires[wire];
            let is_over = state.is_established[1 - side] && !state.is_alive[1 - side];
            if !state.is_alive[side] || !is_over {
                return false;
            }
            self.end(side, wire);
            true
        }

        fn alive(&self, side: usize) -> BTreeSet<usize> {
            (0..self.wires.len()).filter(|wire| self.wires[*wire].is_alive[side]).collect()
        }

        /// Delivers everything that is on its way; redials as the backoff would, until the peers are
        /// connected.
        fn settle(&mut self) {
            for round in 0..10 {
                let mut is_moving = true;
                while is_moving {
                    is_moving = false;
                    for (side, wire) in (0..self.wires.len()).flat_map(|wire| [(0, wire), (1, wire)]) {
                        is_moving |= self.establish(side, wire);
                        is_moving |= self.open_lane(side, wire);
                        is_moving |= self.hear_end(side, wire);
                    }
                }
                if !self.alive(0).is_empty() && !self.alive(1).is_empty() {
                    return;
                }
                self.now += REPLACE_AFTER;
                self.dial(round % 2);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Dials from both sides, restarts of both sides and any order of what the sides learn, several of
        /// each in flight at once; then everything is delivered.
        #[test]
        fn peers_always_settle_on_one_connection(
            steps in prop::collection::vec((0_usize..7, 0_usize..2, 0_usize..8), 0..40),
        ) {
            let mut model = Model::new();
            for (kind, side, number) in steps {
                let wire = number.min(model.wires.len().saturating_sub(1));
                match kind {
                    0 => model.dial(side),
                    1 if number == 0 => model.restart(side),
                    2 if number == 0 => model.now += REPLACE_AFTER,
                    _ if model.wires.is_empty() => {}
                    3 | 4 => { model.establish(side, wire); }
                    5 => { model.open_lane(side, wire); }
                    6 => { model.hear_end(side, wire); }
                    _ => {}
                }
                prop_assert!(model.alive(0).len() <= 1, "the arbiter keeps one at a time");
            }
            model.settle();
            prop_assert_eq!(model.alive(0).len(), 1);
            prop_assert_eq!(model.alive(0), model.alive(1));
            let kept = model.alive(0).first().copied();
            prop_assert_eq!(model.arbiters[0].chosen(peer(1)), kept);
            prop_assert_eq!(model.arbiters[1].chosen(peer(0)), kept);
        }
    }
}
