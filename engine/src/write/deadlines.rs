//! Deadlines of keys: setting them, taking them away, and what is left under a key whose deadline is past.

use super::{Author, ExpireIf, Outcome, WriteError};
use crate::bounds::check_key;
use crate::causality::Dot;
use crate::crdt::KeyView;
use crate::op::{Op, RowRef};
use crate::ports::Rows;
use crate::row::Kind;

impl Author<'_, '_> {
    /// Removes what is left under a key that has expired, or that is not there but for its deadlines: what is written
    /// now is a new key.
    pub(super) fn bury(&mut self, key: &[u8]) -> Result<(), WriteError> {
        let keyspace = self.frame.header().keyspace;
        if !self.draft.has_deadlines(keyspace) {
            return Ok(());
        }
        let view = KeyView::read_all(self.draft, keyspace, key)?;
        let is_gone = view.visible().is_none() || view.is_expired(self.draft.expiry_of(keyspace));
        if !view.deadlines.is_empty() && is_gone {
            self.delete(key)?;
        }
        Ok(())
    }

    /// Sets the deadline of a key that is there. One that is past already removes it.
    pub(super) fn expire(
        &mut self,
        key: &[u8],
        deadline_ms: u64,
        only: Option<ExpireIf>,
    ) -> Result<Outcome, WriteError> {
        check_key(key)?;
        let view = self.view(key)?;
        let applies = only.is_none_or(|only| only.holds(view.deadline_ms, deadline_ms));
        if view.visible().is_none() || !applies {
            return Ok(Outcome::Changed(0));
        }
        let expiry = self.draft.expiry_of(self.frame.header().keyspace);
        let now = expiry.max(self.frame.header().stamp().hlc);
        if deadline_ms <= now.unix_ms() {
            self.delete(key)?;
            return Ok(Outcome::Changed(1));
        }
        let (_, observed) = self.observe(key, Kind::Deadline, &[])?;
        self.push_on(Op::Expire { key: key.to_vec(), deadline_ms, observed }, Some(true))?;
        Ok(Outcome::Changed(1))
    }

    /// Takes the deadline of a key away.
    pub(super) fn persist(&mut self, key: &[u8]) -> Result<Outcome, WriteError> {
        check_key(key)?;
        let view = self.view(key)?;
        self.remove_deadlines(key, &view.deadlines)?;
        Ok(Outcome::Changed(u64::from(view.deadline_ms.is_some())))
    }

    pub(super) fn remove_deadlines(&mut self, key: &[u8], deadlines: &[Dot]) -> Result<(), WriteError> {
        if deadlines.is_empty() {
            return Ok(());
        }
        let rows = self.references(deadlines).into_iter();
        let rows = rows.map(|dot| RowRef { kind: Kind::Deadline, subkey: Vec::new(), dot }).collect();
        self.push(Op::Delete { key: key.to_vec(), rows, slots: Vec::new() })?;
        Ok(())
    }
}

impl ExpireIf {
    /// A key without a deadline lives for ever, and so longer than any.
    fn holds(self, before_ms: Option<u64>, after_ms: u64) -> bool {
        match self {
            Self::HasNone => before_ms.is_none(),
            Self::HasOne => before_ms.is_some(),
            Self::Later => before_ms.is_some_and(|before_ms| after_ms > before_ms),
            Self::HasLater => before_ms.is_some_and(|before_ms| after_ms < before_ms),
            Self::Sooner => before_ms.is_none_or(|before_ms| after_ms < before_ms),
        }
    }
}
