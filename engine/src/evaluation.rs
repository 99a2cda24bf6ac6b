//! The evaluation of actions against the rows of one moment: writes become operations of the frame in the making,
//! queries are answered, and decisions are both.
//!
//! An action that fails leaves neither rows nor operations behind.

use crate::bounds::{REQUEST_ANSWER_BYTES_MAX, TURN_ANSWER_BYTES_MAX};
use crate::id::{KeyspaceId, KeyspaceName};
use crate::ports::{Conditional, Rows};
use crate::read::{Answer, Query, answer};
use crate::request::{Action, ActionError, ActionReply, DECISION_DEPTH_MAX, Decided, Decision};
use crate::write::{Author, Write, WriteError};

/// What the queries of a turn have answered. All of it is in memory until the turn was committed.
#[derive(Debug, Default)]
pub struct AnswerBudget {
    of_request: usize,
    of_turn: usize,
}

impl AnswerBudget {
    /// A turn begins: nothing is in memory.
    pub fn begin_turn(&mut self) {
        self.of_turn = 0;
    }

    /// A request of the turn begins.
    pub fn begin_request(&mut self) {
        self.of_request = 0;
    }

    /// The last answer may go beyond the bound: it is one value, or one collection.
    fn check(&self) -> Result<(), ActionError> {
        let is_spent = self.of_request >= REQUEST_ANSWER_BYTES_MAX || self.of_turn >= TURN_ANSWER_BYTES_MAX;
        if is_spent { Err(ActionError::TooMuch) } else { Ok(()) }
    }

    fn spend(&mut self, bytes: usize) {
        self.of_request += bytes;
        self.of_turn += bytes;
    }

    /// Answers a query, if there is room for its answer.
    ///
    /// # Errors
    /// [`ActionError`]: the answers before it were too long, or it has no answer.
    pub fn answer(
        &mut self,
        rows: &dyn Rows,
        keyspace: KeyspaceId,
        query: &Query,
    ) -> Result<Answer, ActionError> {
        self.check()?;
        let answer = answer(rows, keyspace, query)?;
        self.spend(answer.bytes());
        Ok(answer)
    }
}

/// What the operator allows of a keyspace.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The keyspace.
    pub keyspace: &'a KeyspaceName,
    /// What it may hold, in bytes, if that is limited.
    pub quota_bytes: Option<u64>,
    /// What is done with decisions.
    pub conditional: Conditional,
}

/// Evaluates actions of one author in one keyspace, in order.
#[derive(Debug)]
pub struct Evaluation<'a, 'b> {
    /// What makes operations of writes.
    pub author: Author<'a, 'b>,
    /// What is allowed.
    pub rules: Rules<'a>,
    /// What may be answered.
    pub answers: &'a mut AnswerBudget,
}

impl Evaluation<'_, '_> {
    /// Evaluates one action.
    ///
    /// # Errors
    /// [`ActionError`]: nothing of it was done.
    pub fn run(&mut self, action: &Action) -> Result<ActionReply, ActionError> {
        self.run_at(action, 0)
    }

    fn run_at(&mut self, action: &Action, depth: usize) -> Result<ActionReply, ActionError> {
        match action {
            Action::Query(query) => self.query(query).map(ActionReply::Answer),
            Action::Write(write) => self.write(write),
            Action::Decide(decision) => self.decide(decision, depth + 1).map(ActionReply::Decided),
            Action::Whole(actions) => self.whole(actions, depth + 1).map(ActionReply::Whole),
        }
    }

    fn whole(&mut self, actions: &[Action], depth: usize) -> Result<Vec<ActionReply>, ActionError> {
        if depth > DECISION_DEPTH_MAX {
            return Err(ActionError::TooDeep);
        }
        self.tried(|this| actions.iter().map(|action| this.run_at(action, depth)).collect())
    }

    fn query(&mut self, query: &Query) -> Result<Answer, ActionError> {
        self.answers.answer(self.author.draft, self.author.frame.header().keyspace, query)
    }

    fn write(&mut self, write: &Write) -> Result<ActionReply, ActionError> {
        let keyspace = self.author.frame.header().keyspace;
        let quota = self.rules.quota_bytes.filter(|_| !write.is_removal());
        let bytes_before = match quota {
            Some(_) => self.author.draft.bytes(keyspace).map_err(WriteError::from)?,
            None => 0,
        };
        let name = self.rules.keyspace;
        self.tried(|this| {
            let outcome = this.author.write(write)?;
            let Some(quota_bytes) = quota else { return Ok(ActionReply::Outcome(outcome)) };
            let bytes = this.author.draft.bytes(keyspace).map_err(WriteError::from)?;
            // What shrinks, or stays as it is, may be written also beyond the quota: peers may have filled it.
            if bytes <= quota_bytes || bytes <= bytes_before {
                return Ok(ActionReply::Outcome(outcome));
            }
            Err(WriteError::OverQuota { keyspace: name.clone(), quota_bytes }.into())
        })
    }

    fn decide(&mut self, decision: &Decision, depth: usize) -> Result<Decided, ActionError> {
        if self.rules.conditional == Conditional::Strong {
            return Err(ActionError::NeedsStrong(self.rules.keyspace.clone()));
        }
        if depth > DECISION_DEPTH_MAX {
            return Err(ActionError::TooDeep);
        }
        let answers = decision.reads.iter().map(|query| self.query(query)).collect::<Result<_, _>>()?;
        let keyspace = self.author.frame.header().keyspace;
        for condition in &decision.conditions {
            if !condition.holds(self.author.draft, keyspace)? {
                return Ok(Decided { answers, given: None });
            }
        }
        let given = self.tried(|this| {
            let run = |action: &Action| match this.run_at(action, depth) {
                Err(error) if decision.is_whole => Err(error),
                reply => Ok(reply),
            };
            decision.actions.iter().map(run).collect()
        })?;
        Ok(Decided { answers, given: Some(given) })
    }

    /// Takes back what was done if it fails.
    fn tried<T>(
        &mut self,
        attempt: impl FnOnce(&mut Self) -> Result<T, ActionError>,
    ) -> Result<T, ActionError> {
        let before = self.author.frame.size();
        let mark = self.author.draft.mark();
        let done = attempt(self);
        if done.is_ok() {
            self.author.draft.keep(mark);
        } else {
            self.author.draft.take_back(mark);
            self.author.frame.truncate(before);
        }
        done
    }
}
