//! The envelopes of one author in the order of their numbers, each at most once. Pure; no clock.
//!
//! Envelopes take several ways, so a later one may come first. It waits a moment for those before it; when they
//! do not come they are given up, and what comes of them later is dropped. An author that starts again begins a
//! session, of which the last few are remembered.
//!
//! Invariant: nothing in `held` is at or below `next`, and what was released is below it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an envelope waits for those before it.
const HOLD: Duration = Duration::from_millis(250);

/// The envelopes of a session that wait at most.
const HELD_MAX: usize = 64;

/// The sessions of an author that are remembered.
const SESSIONS_MAX: usize = 4;

/// How far behind an envelope may be that is still passed on to others, who may lack it.
const LATE_MAX: u64 = 64;

/// What an envelope turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new.
    Fresh,
    /// It was there, or was given up, a moment ago.
    Late,
    /// It is of long ago.
    Stale,
}

/// The sessions of one author, the last used at the end.
#[derive(Debug)]
pub(crate) struct Order<T> {
    sessions: Vec<Session<T>>,
}

#[derive(Debug)]
struct Session<T> {
    id: u64,
    next: u64,
    /// What came early, and when. `None` is an envelope that came and is not wanted.
    held: BTreeMap<u64, (Instant, Option<T>)>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { sessions: Vec::new() }
    }
}

impl<T> Order<T> {
    /// Takes an envelope, or `None` for one that is not wanted, and adds to `out` what is now in order.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        (session, number): (u64, u64),
        item: Option<T>,
        out: &mut Vec<T>,
    ) -> Arrival {
        let session = self.session(session, number);
        if number < session.next {
            return if session.next - number > LATE_MAX { Arrival::Stale } else { Arrival::Late };
        }
        if session.held.contains_key(&number) {
            return Arrival::Late;
        }
        session.held.insert(number, (now, item));
        if session.held.len() > HELD_MAX {
            session.skip_gap();
        }
        session.release(out);
        Arrival::Fresh
    }

    /// Gives up the gaps that were waited for long enough.
    pub(crate) fn give_up(&mut self, now: Instant, out: &mut Vec<T>) {
        for session in &mut self.sessions {
            while session.give_up_at().is_some_and(|at| at <= now) {
                session.skip_gap();
                session.release(out);
            }
        }
    }

    /// When [`Order::give_up`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.sessions.iter().filter_map(Session::give_up_at).min()
    }

    /// The session, made if need be: it begins with the first envelope that is seen of it.
    fn session(&mut self, session: u64, number: u64) -> &mut Session<T> {
        if let Some(index) = self.sessions.iter().position(|known| known.id == session) {
            let known = self.sessions.remove(index);
            self.sessions.push(known);
        } else {
            if self.sessions.len() >= SESSIONS_MAX {
                self.sessions.remove(0);
            }
            self.sessions.push(Session { id: session, next: number, held: BTreeMap::new() });
        }
        self.sessions.last_mut().expect("it was pushed")
    }
}

impl<T> Session<T> {
    fn skip_gap(&mut self) {
        if let Some((first, _)) = self.held.first_key_value() {
            self.next = *first;
        }
    }

    fn release(&mut self, out: &mut Vec<T>) {
        while let Some((_, item)) = self.held.remove(&self.next) {
            out.extend(item);
            self.next = self.next.saturating_add(1);
        }
    }

    /// When the one that has waited for longest has waited long enough.
    fn give_up_at(&self) -> Option<Instant> {
        self.held.values().map(|(since, _)| *since + HOLD).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(order: &mut Order<u64>, now: Instant, session: u64, number: u64) -> (Arrival, Vec<u64>) {
        let mut out = Vec::new();
        let arrival = order.take(now, (session, number), Some(number), &mut out);
        (arrival, out)
    }

    #[test]
    fn early_one_waits_for_the_one_before_and_not_for_ever() {
        let (now, mut order) = (Instant::now(), Order::default());
        assert_eq!(take(&mut order, now, 1, 5), (Arrival::Fresh, vec![5]), "whoever comes late begins here");
        assert_eq!(take(&mut order, now, 1, 7), (Arrival::Fresh, vec![]));
        assert_eq!(take(&mut order, now, 1, 6), (Arrival::Fresh, vec![6, 7]));
        assert_eq!(take(&mut order, now, 1, 9), (Arrival::Fresh, vec![]));
        assert_eq!(order.next_due(), Some(now + HOLD));
        let mut out = Vec::new();
        order.give_up(now + HOLD, &mut out);
        assert_eq!((out, order.next_due()), (vec![9], None));
        assert_eq!(take(&mut order, now, 1, 8), (Arrival::Late, vec![]));
        assert_eq!(take(&mut order, now, 1, 200).0, Arrival::Fresh);
        order.give_up(now + HOLD, &mut Vec::new());
        assert_eq!(take(&mut order, now, 1, 100), (Arrival::Stale, vec![]));
    }

    #[test]
    fn unwanted_one_leaves_no_gap() {
        let (now, mut order) = (Instant::now(), Order::default());
        take(&mut order, now, 1, 0);
        assert_eq!(order.take(now, (1, 1), None, &mut Vec::new()), Arrival::Fresh);
        assert_eq!(take(&mut order, now, 1, 2), (Arrival::Fresh, vec![2]));
    }

    #[test]
    fn new_session_begins_at_once_and_old_ones_are_remembered() {
        let (now, mut order) = (Instant::now(), Order::default());
        for session in 1..=4 {
            assert_eq!(take(&mut order, now, session, 9), (Arrival::Fresh, vec![9]));
        }
        assert_eq!(take(&mut order, now, 1, 3), (Arrival::Late, vec![]));
        take(&mut order, now, 5, 0);
        assert_eq!(take(&mut order, now, 2, 3), (Arrival::Fresh, vec![3]), "it was forgotten for the fifth");
    }

    #[test]
    fn numbers_at_the_end_do_not_overflow() {
        let (now, mut order) = (Instant::now(), Order::default());
        assert_eq!(take(&mut order, now, 1, u64::MAX), (Arrival::Fresh, vec![u64::MAX]));
        // The last number stays the next one, so it may be told twice; nobody gets there.
        assert_eq!(take(&mut order, now, 1, u64::MAX - 1), (Arrival::Late, vec![]));
    }

    proptest! {
        /// Envelopes in any order, doubled and lost, with pauses of any length between.
        #[test]
        fn each_is_released_at_most_once_and_in_order(
            arrivals in prop::collection::vec((0_u64..100, 0_u64..300), 1..300),
        ) {
            let (mut now, mut order, mut out) = (Instant::now(), Order::default(), Vec::new());
            for (number, pause_ms) in arrivals {
                order.take(now, (1, number), Some(number), &mut out);
                prop_assert!(order.sessions[0].held.len() <= HELD_MAX);
                now += Duration::from_millis(pause_ms);
                order.give_up(now, &mut out);
            }
            order.give_up(now + HOLD, &mut out);
            prop_assert!(order.next_due().is_none(), "nothing waits for ever");
            prop_assert!(out.is_sorted_by(|a, b| a < b), "{out:?}");
        }

        /// What is only shuffled within the bound is all there.
        #[test]
        fn nothing_is_lost_that_comes_soon_enough(
            numbers in Just((1_u64..60).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let (now, mut order, mut out) = (Instant::now(), Order::default(), Vec::new());
            order.take(now, (1, 0), Some(0), &mut out);
            for number in numbers {
                order.take(now, (1, number), Some(number), &mut out);
            }
            prop_assert_eq!(out, (0..60).collect::<Vec<_>>());
        }
    }
}
