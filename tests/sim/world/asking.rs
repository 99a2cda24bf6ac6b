//! What the clients of a turn ask for, what they find, and what it must come to.

use std::collections::BTreeMap;

use tidelock_engine::id::KeyspaceId;
use tidelock_engine::ports::Durability;
use tidelock_engine::replica::Input;
use tidelock_engine::request::{Action, ActionError, ActionReply, Decided, Request, RequestError, RequestId};
use tidelock_engine::turn::TurnOutcome;
use tidelock_engine::write::{Outcome, Write};

use super::{Scrutiny, World};
use crate::matching::Asked;
use crate::sight::Clocks;
use crate::specification::Reads;

/// What is known of a node before a turn.
#[derive(Debug)]
pub(super) struct Before {
    /// What stands where the first request of the turn comes, if nothing else comes before it.
    pub(super) reads: Option<Reads>,
    /// By this clock keys have expired, in Unix milliseconds.
    pub(super) shown_ms: u64,
    /// The clock at which the turn begins, in Unix milliseconds.
    pub(super) now_ms: u64,
    /// Whether requests are all there is.
    pub(super) is_alone: bool,
}

/// The requests of a turn.
pub(super) fn requests(inputs: &[Input]) -> Vec<(RequestId, Request)> {
    let request = |input: &Input| match input {
        Input::Request(id, request) => Some((*id, request.clone())),
        _ => None,
    };
    inputs.iter().filter_map(request).collect()
}

/// The writes of an action that was done, each with what it did; `None` where nobody knows whether it was done.
fn writes_of(action: Action, reply: Option<&ActionReply>, into: &mut Vec<(Write, Option<Outcome>)>) {
    match (action, reply) {
        (Action::Write(write), None) => into.push((write, None)),
        (Action::Write(write), Some(ActionReply::Outcome(outcome))) => {
            into.push((write, Some(outcome.clone())));
        }
        (Action::Decide(decision), None) => {
            decision.actions.into_iter().for_each(|action| writes_of(action, None, into));
        }
        (Action::Decide(decision), Some(ActionReply::Decided(Decided { given: Some(given), .. }))) => {
            for (action, reply) in decision.actions.into_iter().zip(given) {
                reply.iter().for_each(|reply| writes_of(action.clone(), Some(reply), into));
            }
        }
        (Action::Whole(actions), None) => {
            actions.into_iter().for_each(|action| writes_of(action, None, into));
        }
        (Action::Whole(actions), Some(ActionReply::Whole(given))) => {
            let actions = actions.into_iter().zip(given);
            actions.for_each(|(action, reply)| writes_of(action, Some(reply), into));
        }
        _ => {}
    }
}

/// Whether what a write does is computed from what is read.
fn is_computed(write: &Write) -> bool {
    matches!(
        write,
        Write::Edit { .. }
            | Write::AddToField { .. }
            | Write::Score { .. }
            | Write::AddToScore { .. }
            | Write::UnscoreRange { .. }
            | Write::PopScored { .. }
            | Write::StoreRange { .. }
            | Write::Pop { .. }
            | Write::Copy { .. }
            | Write::Combine { .. }
    )
}

/// What a write that was answered came to: nothing, if it found nothing to change.
fn effect(write: Write, outcome: &Outcome) -> Option<Write> {
    match (write, outcome) {
        (Write::Combine { into, how, keys }, _) => Some(Write::Combine { into, how, keys }),
        (
            Write::Remove { .. }
            | Write::Unset { .. }
            | Write::Unscore { .. }
            | Write::UnscoreRange { .. }
            | Write::Delete { .. }
            | Write::Retire { .. }
            | Write::Expire { .. }
            | Write::Persist { .. }
            | Write::Copy { .. },
            Outcome::Changed(0),
        )
        | (Write::AddToScore { .. }, Outcome::Score(None)) => None,
        (Write::PopScored { .. }, Outcome::ScoredMembers(members)) if members.is_empty() => None,
        (Write::Pop { key, .. }, Outcome::Elements(elements)) => {
            let elements = elements.clone();
            (!elements.is_empty()).then_some(Write::Remove { key, elements })
        }
        (write, _) => Some(write),
    }
}

/// Whether a write was acknowledged as durable, and with it all that was committed before.
pub(super) fn is_promised(requests: &[(RequestId, Request)], outcome: &TurnOutcome) -> bool {
    let is_write = |reply: &Result<ActionReply, ActionError>| match reply {
        Ok(ActionReply::Outcome(_) | ActionReply::Whole(_)) => true,
        Ok(ActionReply::Decided(decided)) => decided.given.is_some(),
        _ => false,
    };
    requests.iter().zip(&outcome.replies).any(|((_, request), (_, reply))| {
        let is_done = reply.as_ref().is_ok_and(|replies| replies.iter().any(is_write));
        is_done && request.durability == Durability::Durable
    })
}

impl World {
    /// What is known of a node before a turn.
    pub(super) fn before(&mut self, index: usize, inputs: &[Input], now_ms: u64) -> Before {
        let reads = self.expected_before(index, inputs);
        let node = &mut self.nodes[index];
        node.clock_highest_ms = node.clock_highest_ms.max(now_ms);
        let is_alone = inputs.iter().all(|input| matches!(input, Input::Request(..)));
        Before { reads, shown_ms: node.clock_kept_ms(), now_ms, is_alone }
    }

    /// What the first request of a turn must find, if nothing else comes before it.
    fn expected_before(&mut self, index: usize, inputs: &[Input]) -> Option<Reads> {
        let Some(Input::Request(_, request)) = inputs.first() else { return None };
        // What a liar wrote, nobody was told.
        let is_unknown = self.ledger.is_hostile() && request.actions.first().is_some_and(Action::is_query);
        if self.scrutiny == Scrutiny::Logs || is_unknown {
            return None;
        }
        let keyspace = KeyspaceId::of(self.nodes[index].config.cluster, &request.keyspace);
        let applied = self.nodes[index].known.get(&keyspace);
        if applied.is_some_and(|applied| applied.is_partial) {
            // The turn may begin with the last of the state that is taken over.
            return None;
        }
        let applied = applied.map(|applied| applied.ops.clone());
        Some(self.ledger.space(keyspace).story.reads(&applied.unwrap_or_default()))
    }

    /// The clocks of a turn that is over.
    pub(super) fn clocks(&self, index: usize, before: &Before) -> Clocks {
        let shown_ms = self.nodes[index].clock_kept_ms();
        Clocks { shown_ms, removed_ms: shown_ms.max(before.shown_ms), set_ms: shown_ms }
    }

    /// What the clients of a turn asked for and may expect to find, by keyspace.
    pub(super) fn asked(
        &mut self,
        index: usize,
        requests: Vec<(RequestId, Request)>,
        outcome: &TurnOutcome,
        is_alone: bool,
    ) -> BTreeMap<KeyspaceId, Asked> {
        let mut asked: BTreeMap<KeyspaceId, Asked> = BTreeMap::new();
        let is_lost = outcome.replies.iter().any(|(_, reply)| matches!(reply, Err(RequestError::Commit(_))));
        for ((_, request), (_, reply)) in requests.into_iter().zip(&outcome.replies) {
            let keyspace = KeyspaceId::of(self.nodes[index].config.cluster, &request.keyspace);
            let of = asked.entry(keyspace).or_default();
            let mut writes = Vec::new();
            for (number, action) in request.actions.into_iter().enumerate() {
                let is_write = matches!(action, Action::Write(_));
                let before = writes.len();
                match reply {
                    Ok(replies) => {
                        replies[number].iter().for_each(|reply| {
                            writes_of(action.clone(), Some(reply), &mut writes);
                        });
                    }
                    Err(RequestError::Commit(_)) => writes_of(action, None, &mut writes),
                    Err(_) => {}
                }
                if !is_write && writes.len() > before {
                    self.tally.count("decisions that were taken");
                }
                if is_write || writes.len() > before {
                    self.tally.count(if writes.len() > before { "writes" } else { "refused writes" });
                }
            }
            for (write, outcome) in writes {
                if is_computed(&write) {
                    self.tally.count("computed writes");
                }
                let is_of_range = matches!(write, Write::UnscoreRange { .. } | Write::StoreRange { .. });
                if is_of_range && matches!(outcome, Some(Outcome::Changed(1..))) {
                    self.tally.count("ranges of sorted sets that were taken");
                }
                match outcome {
                    None => of.push(write, false),
                    Some(outcome) => {
                        // Whether it removed what was there, only the moment tells.
                        let is_empty = matches!(write, Write::Combine { .. } | Write::StoreRange { .. })
                            && outcome == Outcome::Changed(0);
                        let is_certain = is_alone || !is_empty;
                        effect(write, &outcome).into_iter().for_each(|write| of.push(write, is_certain));
                    }
                }
            }
        }
        if is_lost {
            self.tally.count("turns that were not committed");
            self.nodes[index].limbo = asked;
            return BTreeMap::new();
        }
        asked
    }
}
