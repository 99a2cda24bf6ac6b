//! Is a history linearizable: could its operations have happened one after the other, each at some moment between its
//! call and its return, and have given these answers?
//!
//! Cells are independent, so each is checked alone (Herlihy and Wing 1990, locality). An operation whose outcome is
//! unknown may have happened at any moment after its call, or never. The search is Wing and Gong's (1993), with the
//! states that were tried remembered (Lowe 2017): at each step any operation may come next that was called before the
//! earliest return among those that are left.
//!
//! What is remembered is which operations are done: a position up to which all are, and a few beyond it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::machine::{Action, Answer};

/// What was asked of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To change it. The answer, unless it is unknown.
    Change(Action, Option<Answer>),
    /// To read it, and what was read.
    Read(i64),
}

/// One operation: from its call to its return, in any unit that only grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// When it was called.
    pub(crate) called: u64,
    /// When it returned; `u64::MAX` if its outcome is unknown.
    pub(crate) returned: u64,
    /// The cell.
    pub(crate) cell: u8,
    /// What was asked.
    pub(crate) asked: Asked,
}

/// How many states of a search are looked at before it is given up.
const STATES_MAX: usize = 300_000;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is linearizable.
    Linearizable,
    /// It is not: no order explains more than this many operations of this cell.
    Not {
        /// The cell.
        cell: u8,
        /// The most operations that any order explains.
        explained: usize,
        /// The operations of that cell.
        of: usize,
    },
    /// The search was given up.
    TooLarge {
        /// The cell.
        cell: u8,
    },
}

/// Checks a history whose cells all began at 0.
pub(crate) fn check(events: &[Event]) -> Verdict {
    let mut cells: BTreeMap<u8, Vec<Event>> = BTreeMap::new();
    for event in events {
        cells.entry(event.cell).or_default().push(*event);
    }
    for (cell, mut events) in cells {
        events.sort_by_key(|event| event.called);
        match Search::new(&events).run() {
            Verdict::Linearizable => (),
            Verdict::Not { explained, of, .. } => return Verdict::Not { cell, explained, of },
            Verdict::TooLarge { .. } => return Verdict::TooLarge { cell },
        }
    }
    Verdict::Linearizable
}

/// What an operation leaves, if its answer is the one it would get here.
fn step(asked: Asked, value: i64) -> Option<i64> {
    match asked {
        Asked::Read(read) => (read == value).then_some(value),
        Asked::Change(action, answer) => {
            let (new, given) = action.apply(value);
            answer.is_none_or(|answer| answer == given).then_some(new)
        }
    }
}

/// Which operations are done: of those that returned all below a position and these beyond it, and of those that did
/// not, these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Done {
    below: usize,
    beyond: BTreeSet<usize>,
    open: BTreeSet<usize>,
}

impl Done {
    fn with(&self, next: Next) -> Self {
        let mut done = self.clone();
        match next {
            Next::Returned(at) => {
                done.beyond.insert(at);
                while done.beyond.remove(&done.below) {
                    done.below += 1;
                }
            }
            Next::Open(at) => {
                done.open.insert(at);
            }
        }
        done
    }
}

/// An operation that comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// One that returned.
    Returned(usize),
    /// One whose outcome is unknown.
    Open(usize),
}

/// A state on the path, and what is still to be tried from it.
struct Frame {
    done: Done,
    value: i64,
    /// Those that returned, the one to try first at the end.
    returned: Vec<usize>,
    /// The place among those whose outcome is unknown, tried after all that returned.
    open: usize,
    /// What comes next was called at or before this.
    limit: u64,
}

struct Search {
    returned: Vec<Event>,
    open: Vec<Event>,
    seen: HashSet<(Done, i64)>,
    best: usize,
}

impl Search {
    fn new(events: &[Event]) -> Self {
        let (open, returned) = events.iter().partition(|event| event.returned == u64::MAX);
        Self { returned, open, seen: HashSet::new(), best: 0 }
    }

    fn run(mut self) -> Verdict {
        let mut path = vec![self.frame(Done::default(), 0)];
        while let Some(frame) = path.last_mut() {
            if frame.done.below == self.returned.len() {
                return Verdict::Linearizable;
            }
            if self.seen.len() > STATES_MAX {
                return Verdict::TooLarge { cell: 0 };
            }
            let Some((next, value)) = try_next(&self.returned, &self.open, frame) else {
                path.pop();
                continue;
            };
            let done = frame.done.with(next);
            self.best = self.best.max(done.below + done.beyond.len());
            if self.seen.insert((done.clone(), value)) {
                path.push(self.frame(done, value));
            }
        }
        Verdict::Not { cell: 0, explained: self.best, of: self.returned.len() }
    }

    fn frame(&self, done: Done, value: i64) -> Frame {
        let mut limit = u64::MAX;
        let mut returned = Vec::new();
        for (at, event) in self.returned.iter().enumerate().skip(done.below) {
            if event.called > limit {
                break;
            }
            if !done.beyond.contains(&at) {
                limit = limit.min(event.returned);
                returned.push(at);
            }
        }
        returned.retain(|at| self.returned[*at].called <= limit);
        returned.sort_by_key(|at| std::cmp::Reverse(self.returned[*at].returned));
        Frame { done, value, returned, open: 0, limit }
    }
}

/// The next operation that gives its answer here, and what it leaves.
fn try_next(returned: &[Event], open: &[Event], frame: &mut Frame) -> Option<(Next, i64)> {
    while let Some(at) = frame.returned.pop() {
        if let Some(value) = step(returned[at].asked, frame.value) {
            return Some((Next::Returned(at), value));
        }
    }
    while let Some(event) = open.get(frame.open).filter(|event| event.called <= frame.limit) {
        let at = frame.open;
        frame.open += 1;
        // One that changes nothing need not happen.
        let value = step(event.asked, frame.value).filter(|value| *value != frame.value);
        if let Some(value) = value.filter(|_| !frame.done.open.contains(&at)) {
            return Some((Next::Open(at), value));
        }
    }
    None
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
