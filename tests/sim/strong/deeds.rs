//! What clients ask of strong keyspaces, and what it must come to: cells of two registers each, so that what happens to
//! both at once shows.

use tidelock_engine::condition::Condition;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::{Answer, Query};
use tidelock_engine::request::{Action, ActionError, ActionReply, Atomicity, Decision, Request};
use tidelock_engine::write::Outcome;

use crate::linearizable::Asked;
use crate::random::Random;
use crate::words::{delete, increment, set};
use crate::world::named;

/// What a cell holds: two registers, and `None` for a key that is not there.
pub type Cell = [Option<i64>; 2];

/// One thing that a client asks of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// `GET` of a register.
    Get(usize),
    /// Both registers, as they are at one moment.
    GetBoth,
    /// `SET` of a register.
    Put(usize, i64),
    /// Both at once.
    PutBoth(i64, i64),
    /// `SET NX`.
    PutNew(usize, i64),
    /// Sets a register if it holds this.
    Swap(usize, Option<i64>, i64),
    /// `INCRBY`.
    Add(usize, i64),
    /// `DEL`.
    Delete(usize),
}

/// What a deed answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What was read.
    Values(Cell),
    /// What a register held.
    Value(Option<i64>),
    /// It is set.
    Done,
    /// Whether it was done.
    Did(bool),
    /// The sum.
    Sum(i64),
}

/// A deed, and what it answered if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered(pub Deed, pub Option<Told>);

impl Asked for Answered {
    type State = Cell;

    fn step(&self, state: &Cell) -> Option<Cell> {
        let Self(deed, told) = self;
        let (left, given) = deed.apply(*state);
        told.is_none_or(|told| told == given).then_some(left)
    }
}

impl Deed {
    /// A random one. `fresh` is a value that no other deed writes, and `seen` what the client last saw in the cell.
    pub(crate) fn random(random: &mut Random, fresh: i64, seen: Cell) -> Self {
        let register = random.below(2);
        match random.below(16) {
            0..3 => Self::Get(register),
            3 => Self::GetBoth,
            4..6 => Self::Put(register, fresh),
            6 => Self::PutBoth(fresh, -fresh),
            7 => Self::PutNew(register, fresh),
            8..11 => Self::Swap(register, seen[register], fresh),
            11..14 => Self::Add(register, 1 << random.below(5)),
            _ => Self::Delete(register),
        }
    }

    /// What a client knows of a cell that it was told this of.
    pub(crate) fn seen(self, told: Told, mut seen: Cell) -> Cell {
        match (self, told) {
            (_, Told::Values(values)) => return values,
            (Self::Get(register), Told::Value(value)) => seen[register] = value,
            (Self::Add(register, _), Told::Sum(sum)) => seen[register] = Some(sum),
            (Self::Put(register, value), _)
            | (Self::PutNew(register, value) | Self::Swap(register, _, value), Told::Did(true)) => {
                seen[register] = Some(value);
            }
            (Self::Delete(register), _) => seen[register] = None,
            (Self::PutBoth(first, second), _) => seen = [Some(first), Some(second)],
            _ => {}
        }
        seen
    }

    /// Whether it only reads.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Get(_) | Self::GetBoth)
    }

    /// What it leaves of a cell, and what it answers.
    pub fn apply(self, mut cell: Cell) -> (Cell, Told) {
        let told = match self {
            Self::Get(register) => Told::Value(cell[register]),
            Self::GetBoth => Told::Values(cell),
            Self::Put(register, value) => {
                cell[register] = Some(value);
                Told::Done
            }
            Self::PutBoth(first, second) => {
                cell = [Some(first), Some(second)];
                Told::Done
            }
            Self::PutNew(register, value) => {
                let is_new = cell[register].is_none();
                cell[register] = cell[register].or(Some(value));
                Told::Did(is_new)
            }
            Self::Swap(register, holds, value) => {
                let is_so = cell[register] == holds;
                if is_so {
                    cell[register] = Some(value);
                }
                Told::Did(is_so)
            }
            Self::Add(register, by) => {
                let sum = cell[register].unwrap_or(0) + by;
                cell[register] = Some(sum);
                Told::Sum(sum)
            }
            Self::Delete(register) => Told::Did(cell[register].take().is_some()),
        };
        (cell, told)
    }

    /// The request for it.
    pub fn request(self, keyspace: &str, cell: u8) -> Request {
        let key = |register: usize| format!("c{cell}-{register}");
        let decide = |condition, write| {
            let (conditions, actions) = (vec![condition], vec![Action::Write(write)]);
            vec![Action::Decide(Box::new(Decision { conditions, actions, ..Decision::default() }))]
        };
        let put = |register, value: i64| set(&key(register), &value.to_string());
        let get = |register| Action::Query(Query::Get(key(register).into()));
        let actions = match self {
            Self::Get(register) => vec![get(register)],
            Self::GetBoth => vec![get(0), get(1)],
            Self::Put(register, value) => vec![Action::Write(put(register, value))],
            Self::PutBoth(first, second) => [put(0, first), put(1, second)].map(Action::Write).to_vec(),
            Self::PutNew(register, value) => {
                decide(Condition::Missing(key(register).into()), put(register, value))
            }
            Self::Swap(register, holds, value) => {
                let value_then = holds.map(|value| value.to_string().into_bytes());
                let holds = Condition::Equals { key: key(register).into(), value: value_then };
                decide(holds, put(register, value))
            }
            Self::Add(register, by) => vec![Action::Write(increment(&key(register), by))],
            Self::Delete(register) => vec![Action::Write(delete(&key(register)))],
        };
        let (atomicity, durability) = (Atomicity::AllOrNothing, Durability::Durable);
        Request { keyspace: named(keyspace), actions, atomicity, durability }
    }

    /// What was answered.
    ///
    /// # Errors
    /// It is nothing that this answers.
    pub(crate) fn told(self, replies: &[Result<ActionReply, ActionError>]) -> Result<Told, String> {
        let wrong = || format!("{self:?} was answered {replies:?}");
        let given: Vec<&ActionReply> =
            replies.iter().map(|reply| reply.as_ref().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        Ok(match (self, &given[..]) {
            (Self::Get(_), [ActionReply::Answer(Answer::Value(value))]) => {
                Told::Value(number(value.as_deref()))
            }
            (
                Self::GetBoth,
                [ActionReply::Answer(Answer::Value(first)), ActionReply::Answer(Answer::Value(second))],
            ) => Told::Values([number(first.as_deref()), number(second.as_deref())]),
            (Self::Put(..), [ActionReply::Outcome(Outcome::Done)])
            | (
                Self::PutBoth(..),
                [ActionReply::Outcome(Outcome::Done), ActionReply::Outcome(Outcome::Done)],
            ) => Told::Done,
            (Self::PutNew(..) | Self::Swap(..), [ActionReply::Decided(decided)]) => {
                Told::Did(decided.given.is_some())
            }
            (Self::Add(..), [ActionReply::Outcome(Outcome::Number(sum))]) => Told::Sum(*sum),
            (Self::Delete(_), [ActionReply::Outcome(Outcome::Changed(count))]) => Told::Did(*count > 0),
            _ => return Err(wrong()),
        })
    }
}

fn number(value: Option<&[u8]>) -> Option<i64> {
    let text = std::str::from_utf8(value?).expect("clients write numbers");
    Some(text.parse().expect("clients write numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linearizable::{Event, UNKNOWN, Verdict, check};

    type Happened = Event<u8, Answered>;

    fn judged(events: &[Happened]) -> Verdict<u8> {
        check(&[None, None], events)
    }

    fn event(called: u64, returned: u64, deed: Deed, told: Told) -> Happened {
        let told = (returned != UNKNOWN).then_some(told);
        Event { called, returned, cell: 0, asked: Answered(deed, told) }
    }

    /// A history that real cells gave, of operations that overlap.
    fn honest(seed: u64, operations: u64, lost: u32) -> Vec<Happened> {
        let mut random = Random::new(seed);
        let mut cell = Cell::default();
        let happen = |number: u64| {
            let at = number * 10;
            let (called, returned) = (at.saturating_sub(random.next() % 40), at + 1 + random.next() % 40);
            let fresh = i64::try_from(100 * (number + 1)).expect("it is small");
            let deed = Deed::random(&mut random, fresh, cell);
            let told;
            (cell, told) = deed.apply(cell);
            let is_lost = !deed.is_read() && random.chance(lost);
            event(called, if is_lost { UNKNOWN } else { returned }, deed, told)
        };
        (0..operations).map(happen).collect()
    }

    #[test]
    fn twenty_thousand_operations_on_one_cell_are_checked() {
        assert_eq!(judged(&honest(1, 20_000, 10)), Verdict::Linearizable);
    }

    #[test]
    fn what_could_have_happened_is_accepted() {
        let put = |called, returned| event(called, returned, Deed::Put(0, 7), Told::Done);
        let read = |called, returned, value| event(called, returned, Deed::Get(0), Told::Value(value));
        assert_eq!(judged(&[put(0, 9), read(1, 2, None), read(3, 4, Some(7))]), Verdict::Linearizable);
        // Unknown: seen, or never.
        assert_eq!(judged(&[put(0, UNKNOWN), read(1, 2, None), read(3, 4, Some(7))]), Verdict::Linearizable);
        assert_eq!(judged(&[put(0, UNKNOWN), read(1, 2, None), read(3, 4, None)]), Verdict::Linearizable);
    }

    #[test]
    fn what_could_not_have_happened_is_refused() {
        let read = |called, returned, cell| event(called, returned, Deed::GetBoth, Told::Values(cell));
        let one = |called, returned, deed, told| event(called, returned, deed, told);
        let bad = [
            // A stale read.
            vec![one(0, 1, Deed::Put(0, 7), Told::Done), read(2, 3, [None, None])],
            // Seen, and then not seen.
            vec![
                one(0, 9, Deed::Put(0, 7), Told::Done),
                read(1, 2, [Some(7), None]),
                read(3, 4, [None, None]),
            ],
            // Half of what was done at once.
            vec![one(0, 9, Deed::PutBoth(7, 8), Told::Done), read(1, 2, [Some(7), None])],
            // A lost write.
            vec![one(0, 1, Deed::Add(0, 1), Told::Sum(1)), one(2, 3, Deed::Add(0, 1), Told::Sum(1))],
            // A write that happened twice.
            vec![one(0, UNKNOWN, Deed::Add(0, 1), Told::Sum(1)), read(5, 6, [Some(2), None])],
            // Two that were both the first.
            vec![
                one(0, 5, Deed::PutNew(0, 7), Told::Did(true)),
                one(1, 6, Deed::PutNew(0, 8), Told::Did(true)),
            ],
            // Two that swapped the same value.
            vec![
                one(0, 5, Deed::Swap(0, None, 1), Told::Did(true)),
                one(1, 6, Deed::Swap(0, None, 2), Told::Did(true)),
            ],
            // A key that is deleted twice.
            vec![
                one(0, 1, Deed::Put(1, 7), Told::Done),
                one(2, 5, Deed::Delete(1), Told::Did(true)),
                one(3, 6, Deed::Delete(1), Told::Did(true)),
            ],
            // Something from before it was asked for.
            vec![read(0, 1, [Some(7), None]), one(2, 3, Deed::Put(0, 7), Told::Done)],
        ];
        for events in bad {
            assert!(matches!(judged(&events), Verdict::Not { .. }), "{events:?}");
        }
    }

    #[test]
    fn one_wrong_answer_among_thousands_is_found() {
        for seed in 0..20 {
            let mut events = honest(seed, 2_000, 0);
            let wrong = events[1_000..].iter_mut().find(|event| event.asked.0.is_read());
            wrong.expect("there is one").asked = Answered(Deed::Get(0), Some(Told::Value(Some(-7))));
            assert!(matches!(judged(&events), Verdict::Not { .. }), "{seed}");
        }
    }
}
