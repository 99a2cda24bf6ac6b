//! What the simulated anchors agree on: some cells of numbers, and the outcome of every operation by its id.
//!
//! An operation that is proposed twice under one id is executed once; the second time answers the first outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of an operation: its client, and its number there.
pub(crate) type OperationId = (u64, u64);

/// What an operation does with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Set it.
    Put(i64),
    /// Add to it, and tell the sum.
    Add(i64),
    /// Set it if it has this value, and tell whether it had.
    Swap(i64, i64),
}

/// An operation, as it is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// Its name.
    pub(crate) id: OperationId,
    /// The cell.
    pub(crate) cell: u8,
    /// What to do.
    pub(crate) action: Action,
}

impl Operation {
    /// The command that proposes it.
    pub(crate) fn command(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("it is ours")
    }
}

/// What an operation answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was set.
    Put,
    /// The sum.
    Sum(i64),
    /// Whether it was set.
    Swapped(bool),
}

/// The cells and the outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The cells; one that is not there is 0.
    pub(crate) cells: BTreeMap<u8, i64>,
    /// The outcome of every operation that was executed.
    pub(crate) outcomes: BTreeMap<OperationId, Answer>,
    /// A hash over everything that was applied, in order.
    pub(crate) history: u64,
    /// To break it on purpose: execute an operation as often as it is proposed.
    pub(crate) forgets_outcomes: bool,
}

impl Action {
    /// What it makes of a value, and what it answers.
    pub(crate) fn apply(self, value: i64) -> (i64, Answer) {
        match self {
            Self::Put(new) => (new, Answer::Put),
            Self::Add(by) => (value.wrapping_add(by), Answer::Sum(value.wrapping_add(by))),
            Self::Swap(old, new) if old == value => (new, Answer::Swapped(true)),
            Self::Swap(..) => (value, Answer::Swapped(false)),
        }
    }
}

impl Machine {
    /// Applies a command and answers it.
    pub(crate) fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        for byte in command {
            self.history = (self.history ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let Ok(operation) = postcard::from_bytes::<Operation>(command) else { return Vec::new() };
        let known = self.outcomes.get(&operation.id).copied().filter(|_| !self.forgets_outcomes);
        let answer = known.unwrap_or_else(|| {
            let cell = self.cells.entry(operation.cell).or_default();
            let (value, answer) = operation.action.apply(*cell);
            *cell = value;
            answer
        });
        self.outcomes.insert(operation.id, answer);
        postcard::to_stdvec(&answer).expect("it is ours")
    }
}
