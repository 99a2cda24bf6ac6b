//! Is a history linearizable: could its operations have happened one after the other, each at some moment between its
//! call and its return, and have given these answers?
//!
//! Cells are independent, so each is checked alone (Herlihy and Wing 1990, locality); what one operation reads or writes
//! at once is in one cell. An operation whose outcome is unknown may have happened at any moment after its call, or never.
//! The search is Wing and Gong's (1993), with the states that were tried remembered (Lowe 2017): at each step any
//! operation may come next that was called before the earliest return among those that are left.
//!
//! What is remembered is which operations are done: a position up to which all are, and a few beyond it. This file stands
//! alone, so that the tests of other crates take it in by its path.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

/// What is asked of a cell, and what was answered.
pub trait Asked {
    /// What a cell holds.
    type State: Clone + Eq + Hash;

    /// What is left behind in a cell; `None` if this is not what would be answered there. An operation whose outcome is
    /// unknown answers anything.
    fn step(&self, state: &Self::State) -> Option<Self::State>;
}

/// One operation: from its call to its return, in any unit that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Event<C, A> {
    /// When it was called.
    pub called: u64,
    /// When it returned; [`UNKNOWN`] if its outcome is unknown.
    pub returned: u64,
    /// The cell.
    pub cell: C,
    /// What was asked.
    pub asked: A,
}

/// When what has no outcome returned.
pub const UNKNOWN: u64 = u64::MAX;

/// How many states of a search are looked at before it is given up.
const STATES_MAX: usize = 300_000;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<C> {
    /// It is linearizable.
    Linearizable,
    /// It is not: no order explains more than this many operations of this cell.
    Not {
        /// The cell.
        cell: C,
        /// The most operations that any order explains.
        explained: usize,
        /// The operations of that cell whose outcome is known.
        of: usize,
    },
    /// The search was given up.
    TooLarge {
        /// The cell.
        cell: C,
    },
}

/// Checks a history whose cells all began in this state.
pub fn check<C: Ord + Copy, A: Asked + Clone>(begin: &A::State, events: &[Event<C, A>]) -> Verdict<C> {
    let mut cells: BTreeMap<C, Vec<Event<C, A>>> = BTreeMap::new();
    for event in events {
        cells.entry(event.cell).or_default().push(event.clone());
    }
    for (cell, mut events) in cells {
        events.sort_by_key(|event| event.called);
        match Search::new(events).run(begin, cell) {
            Verdict::Linearizable => (),
            found => return found,
        }
    }
    Verdict::Linearizable
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
struct Frame<S> {
    done: Done,
    state: S,
    /// Those that returned, the one to try first at the end.
    returned: Vec<usize>,
    /// The place among those whose outcome is unknown, tried after all that returned.
    open: usize,
    /// What comes next was called at or before this.
    limit: u64,
}

struct Search<C, A: Asked> {
    returned: Vec<Event<C, A>>,
    open: Vec<Event<C, A>>,
    seen: HashSet<(Done, A::State)>,
    best: usize,
}

impl<C: Copy, A: Asked> Search<C, A> {
    fn new(events: Vec<Event<C, A>>) -> Self {
        let (open, returned) = events.into_iter().partition(|event| event.returned == UNKNOWN);
        Self { returned, open, seen: HashSet::new(), best: 0 }
    }

    fn run(mut self, begin: &A::State, cell: C) -> Verdict<C> {
        let mut path = vec![self.frame(Done::default(), begin.clone())];
        while let Some(frame) = path.last_mut() {
            if frame.done.below == self.returned.len() {
                return Verdict::Linearizable;
            }
            if self.seen.len() > STATES_MAX {
                return Verdict::TooLarge { cell };
            }
            let Some((next, state)) = try_next(&self.returned, &self.open, frame) else {
                path.pop();
                continue;
            };
            let done = frame.done.with(next);
            self.best = self.best.max(done.below + done.beyond.len());
            if self.seen.insert((done.clone(), state.clone())) {
                path.push(self.frame(done, state));
            }
        }
        Verdict::Not { cell, explained: self.best, of: self.returned.len() }
    }

    fn frame(&self, done: Done, state: A::State) -> Frame<A::State> {
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
        Frame { done, state, returned, open: 0, limit }
    }
}

/// The next operation that gives its answer here, and what it leaves.
fn try_next<C, A: Asked>(
    returned: &[Event<C, A>],
    open: &[Event<C, A>],
    frame: &mut Frame<A::State>,
) -> Option<(Next, A::State)> {
    while let Some(at) = frame.returned.pop() {
        if let Some(state) = returned[at].asked.step(&frame.state) {
            return Some((Next::Returned(at), state));
        }
    }
    while let Some(event) = open.get(frame.open).filter(|event| event.called <= frame.limit) {
        let at = frame.open;
        frame.open += 1;
        // One that changes nothing need not happen.
        let state = event.asked.step(&frame.state).filter(|state| *state != frame.state);
        if let Some(state) = state.filter(|_| !frame.done.open.contains(&at)) {
            return Some((Next::Open(at), state));
        }
    }
    None
}
