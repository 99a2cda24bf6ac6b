//! Histories of the cells: what was asked of them, for the search that tells whether a history is linearizable.

use crate::linearizable;
use crate::machine::{Action, Answer};

/// What was asked of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To change it. The answer, unless it is unknown.
    Change(Action, Option<Answer>),
    /// To read it, and what was read.
    Read(i64),
}

/// One operation.
pub(crate) type Event = linearizable::Event<u8, Asked>;

/// What a check found.
pub(crate) type Verdict = linearizable::Verdict<u8>;

impl linearizable::Asked for Asked {
    type State = i64;

    fn step(&self, value: &i64) -> Option<i64> {
        match self {
            Self::Read(read) => (read == value).then_some(*value),
            Self::Change(action, answer) => {
                let (new, given) = action.apply(*value);
                answer.is_none_or(|answer| answer == given).then_some(new)
            }
        }
    }
}

/// Checks a history whose cells all began at 0.
pub(crate) fn check(events: &[Event]) -> Verdict {
    linearizable::check(&0, events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Random;

    fn event(called: u64, returned: u64, asked: Asked) -> Event {
        Event { called, returned, cell: 0, asked }
    }

    fn put(called: u64, returned: u64, value: i64) -> Event {
        event(called, returned, Asked::Change(Action::Put(value), Some(Answer::Put)))
    }

    fn read(called: u64, returned: u64, value: i64) -> Event {
        event(called, returned, Asked::Read(value))
    }

    #[test]
    fn what_could_have_happened_is_accepted() {
        assert_eq!(check(&[put(0, 1, 7), read(2, 3, 7)]), Verdict::Linearizable);
        // Both at once: either order.
        assert_eq!(check(&[put(0, 9, 7), read(1, 2, 0), read(3, 4, 7)]), Verdict::Linearizable);
        // Unknown: seen, or never.
        assert_eq!(check(&[put(0, u64::MAX, 7), read(1, 2, 0), read(3, 4, 7)]), Verdict::Linearizable);
        assert_eq!(check(&[put(0, u64::MAX, 7), read(1, 2, 0), read(3, 4, 0)]), Verdict::Linearizable);
    }

    #[test]
    fn what_could_not_have_happened_is_refused() {
        // A stale read.
        assert_ne!(check(&[put(0, 1, 7), read(2, 3, 0)]), Verdict::Linearizable);
        // Seen, and then not seen.
        assert_ne!(check(&[put(0, 9, 7), read(1, 2, 7), read(3, 4, 0)]), Verdict::Linearizable);
        // A lost write.
        let add = |called, returned, sum| {
            event(called, returned, Asked::Change(Action::Add(1), Some(Answer::Sum(sum))))
        };
        assert_ne!(check(&[add(0, 1, 1), add(2, 3, 1)]), Verdict::Linearizable);
        // A write that happened twice.
        assert_ne!(check(&[add(0, u64::MAX, 1), read(5, 6, 2)]), Verdict::Linearizable);
        // Two swaps that both won.
        let swap = |called, returned| {
            event(called, returned, Asked::Change(Action::Swap(0, 1), Some(Answer::Swapped(true))))
        };
        assert_ne!(check(&[swap(0, 5), swap(1, 6)]), Verdict::Linearizable);
        // Something from before it was asked for.
        assert_ne!(check(&[read(0, 1, 7), put(2, 3, 7)]), Verdict::Linearizable);
    }

    /// A history that a real register gave, of operations that overlap.
    fn honest(seed: u64, operations: usize, lost_percent: u64) -> Vec<Event> {
        let mut random = Random(seed);
        let mut value = 0;
        (0..operations as u64)
            .map(|number| {
                let at = number * 10;
                let (called, returned) = (at.saturating_sub(random.below(40)), at + 1 + random.below(40));
                let action = match random.below(4) {
                    0 => None,
                    1 => Some(Action::Put(i64::try_from(random.below(4)).expect("it is ours"))),
                    2 => Some(Action::Add(1)),
                    _ => Some(Action::Swap(i64::try_from(random.below(4)).expect("it is ours"), 2)),
                };
                let Some(action) = action else { return event(called, returned, Asked::Read(value)) };
                let answer;
                (value, answer) = action.apply(value);
                // The answer of some is lost, but they happened.
                if random.percent(lost_percent) {
                    event(called, u64::MAX, Asked::Change(action, None))
                } else {
                    event(called, returned, Asked::Change(action, Some(answer)))
                }
            })
            .collect()
    }

    #[test]
    fn twenty_thousand_operations_of_one_cell_are_checked() {
        assert_eq!(check(&honest(1, 20_000, 1)), Verdict::Linearizable);
    }

    #[test]
    fn one_wrong_answer_among_thousands_is_found() {
        let mut found = 0;
        for seed in 0..20 {
            let mut events = honest(seed, 2000, 0);
            let at = 1000 + usize::try_from(Random(seed).below(500)).expect("it is ours");
            let wrong = events[at..]
                .iter_mut()
                .find(|event| matches!(event.asked, Asked::Read(_)))
                .expect("it is ours");
            wrong.asked = Asked::Read(-1);
            found += usize::from(matches!(check(&events), Verdict::Not { .. }));
        }
        assert_eq!(found, 20);
    }
}
