//! Edits: a value is read, changed and written whole, as one register.
//!
//! So they merge as any two writes do: a later one has seen the earlier, and of true concurrents one is read and the
//! others stay as conflicts. Nothing is added up; that is what counters are for.

use super::{Addend, Author, Decimal, Edit, Outcome, Ttl, WriteError};
use crate::bounds::{BoundError, REQUEST_ANSWER_BYTES_MAX, VALUE_BYTES_MAX, check_key, check_subkey};
use crate::crdt::integer;
use crate::read::{Answer, Query, QueryError, answer};

impl Author<'_, '_> {
    pub(super) fn edit(&mut self, key: &[u8], edit: &Edit) -> Result<Outcome, WriteError> {
        check_key(key)?;
        let before = self.text(&Query::Get(key.to_vec()))?;
        let mut value = before.clone().unwrap_or_default();
        let outcome = match edit {
            Edit::Append(bytes) => {
                replace(&mut value, before.as_ref().map_or(0, Vec::len), bytes)?;
                Outcome::Length(value.len() as u64)
            }
            Edit::Splice { bytes, .. } if bytes.is_empty() => return Ok(Outcome::Length(value.len() as u64)),
            Edit::Splice { offset, bytes } => {
                replace(&mut value, place(*offset), bytes)?;
                Outcome::Length(value.len() as u64)
            }
            Edit::Bit { offset, is_set } => {
                let (at, mask) = (place(offset / 8), 0x80 >> (offset % 8));
                let byte = value.get(at).copied().unwrap_or(0);
                replace(&mut value, at, &[if *is_set { byte | mask } else { byte & !mask }])?;
                Outcome::Bit(byte & mask != 0)
            }
            Edit::Add(by) => {
                value = sum(before.as_deref(), *by, WriteError::NotANumber)?;
                Outcome::Value(value.clone())
            }
        };
        self.set(key, &value, Ttl::Keep)?;
        Ok(outcome)
    }

    pub(super) fn add_to_field(
        &mut self,
        key: &[u8],
        field: &[u8],
        by: Addend,
    ) -> Result<Outcome, WriteError> {
        check_key(key)?;
        check_subkey(field)?;
        let before = self.text(&Query::Field(key.to_vec(), field.to_vec()))?;
        let (value, outcome) = match by {
            Addend::Integer(by) => {
                let number = before.as_deref().map_or(Some(0), integer);
                let number = number.ok_or(WriteError::FieldNotAnInteger)?;
                let number = number.checked_add(by).ok_or(WriteError::Overflow)?;
                (number.to_string().into_bytes(), Outcome::Number(number))
            }
            Addend::Decimal(by) => {
                let value = sum(before.as_deref(), by, WriteError::FieldNotANumber)?;
                (value.clone(), Outcome::Value(value))
            }
        };
        self.put(key, &[(field.to_vec(), value)])?;
        Ok(outcome)
    }

    /// What a key or field holds, if there is something.
    fn text(&self, query: &Query) -> Result<Option<Vec<u8>>, WriteError> {
        match self.ask(query)? {
            Answer::Value(value) => Ok(value),
            other => unreachable!("{query:?} does not answer {other:?}"),
        }
    }

    /// Answers a query as it is before the write.
    pub(super) fn ask(&self, query: &Query) -> Result<Answer, WriteError> {
        answer(self.draft, self.frame.header().keyspace, query).map_err(|error| match error {
            QueryError::WrongKind { found } => WriteError::WrongKind { found },
            QueryError::Read(error) => error.into(),
            QueryError::TooLong => BoundError::Batch { bytes: REQUEST_ANSWER_BYTES_MAX, ops: 1 }.into(),
            other => unreachable!("no write asks what is answered by {other}"),
        })
    }
}

/// An offset, in bytes; what no value reaches is all the same.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Puts bytes in place of those from `at` on, after zeros if the value is shorter.
fn replace(value: &mut Vec<u8>, at: usize, bytes: &[u8]) -> Result<(), BoundError> {
    let end = at.saturating_add(bytes.len());
    if end > VALUE_BYTES_MAX {
        return Err(BoundError::Value(end));
    }
    if value.len() < end {
        value.resize(end, 0);
    }
    value[at..end].copy_from_slice(bytes);
    Ok(())
}

fn sum(before: Option<&[u8]>, by: Decimal, refusal: WriteError) -> Result<Vec<u8>, WriteError> {
    let before = Decimal::parse(before.unwrap_or(b"0")).ok_or(refusal)?;
    let sum = before.plus(by).ok_or(WriteError::Infinite)?;
    Ok(sum.to_string().into_bytes())
}
