//! Copying and renaming a key: what one key shows becomes all that another one holds, until the same deadline.
//!
//! It is done as a removal and a write of what is read here, so what others write to either key at the same time
//! survives where they wrote it. It fits into one frame or is refused.

use std::ops::ControlFlow;

use super::combine::Gathered;
use super::{Author, Outcome, ScoreRule, Ttl, WriteError};
use crate::bounds::{BoundError, OP_BYTES_MAX, check_key};
use crate::crdt::VisibleKind;
use crate::op::Op;
use crate::ports::{RowRange, Rows, Within};
use crate::read::{Answer, Pair, Query, Scored, SortedPage};
use crate::row::Kind;

/// What a key shows, read whole.
enum Shown {
    Text(Vec<u8>),
    Elements(Vec<Vec<u8>>),
    Fields(Vec<Pair>),
    Chunks(Vec<Vec<u8>>),
    Scored(Vec<Scored>),
}

impl Author<'_, '_> {
    /// Answers whether there was anything to copy.
    pub(super) fn copy(&mut self, from: &[u8], to: &[u8], is_move: bool) -> Result<Outcome, WriteError> {
        check_key(from)?;
        check_key(to)?;
        let view = self.view(from)?;
        let Some(visible) = view.visible() else { return Ok(Outcome::Changed(0)) };
        if from == to {
            return Ok(Outcome::Changed(1));
        }
        let shown = self.shown(from, visible)?;
        // A register observes all that it replaces; the others would leave what is of another kind.
        if !matches!(shown, Shown::Text(_)) {
            self.delete(to)?;
        }
        // A register gets its deadline with its value, in as few operations as a large one may be in a frame with.
        let (ttl, deadline_ms) = match (&shown, view.deadline_ms) {
            (Shown::Text(_), Some(deadline_ms)) => (Ttl::Until(deadline_ms), None),
            (_, deadline_ms) => (Ttl::None, deadline_ms),
        };
        match shown {
            Shown::Text(value) => drop(self.set(to, &value, ttl)?),
            Shown::Elements(elements) => drop(self.add(to, &elements)?),
            Shown::Fields(fields) => drop(self.put(to, &fields)?),
            Shown::Scored(members) => drop(self.score(to, &members, ScoreRule::default())?),
            Shown::Chunks(chunks) => {
                for chunk in chunks {
                    self.push(Op::Change { key: to.to_vec(), chunk, observed: Vec::new() })?;
                }
            }
        }
        if let Some(deadline_ms) = deadline_ms {
            self.expire(to, deadline_ms, None)?;
        }
        if is_move {
            self.delete(from)?;
        }
        Ok(Outcome::Changed(1))
    }

    fn shown(&self, key: &[u8], visible: VisibleKind) -> Result<Shown, WriteError> {
        Ok(match visible {
            VisibleKind::Register | VisibleKind::Counter => match self.ask(&Query::Get(key.to_vec()))? {
                Answer::Value(Some(value)) => Shown::Text(value),
                other => unreachable!("a key that shows a value does not answer {other:?}"),
            },
            VisibleKind::Set => {
                let mut gathered = Gathered::default();
                self.visit_elements(key, &mut |element| gathered.take(element))?;
                Shown::Elements(gathered.into_elements()?)
            }
            VisibleKind::Map => {
                self.check_size(key, Kind::Map)?;
                match self.ask(&Query::Fields(key.to_vec()))? {
                    Answer::Pairs(fields) => Shown::Fields(fields),
                    other => unreachable!("a map does not answer {other:?}"),
                }
            }
            VisibleKind::Sorted => {
                self.check_size(key, Kind::Sorted)?;
                match self.ask(&Query::Sorted(SortedPage::all(key.to_vec())))? {
                    Answer::Scored(members) => Shown::Scored(members),
                    other => unreachable!("a sorted set does not answer {other:?}"),
                }
            }
            VisibleKind::Document => {
                self.check_size(key, Kind::Document)?;
                match self.ask(&Query::Chunks(key.to_vec()))? {
                    Answer::Chunks(chunks) => {
                        Shown::Chunks(chunks.into_iter().map(|(_, chunk)| chunk).collect())
                    }
                    other => unreachable!("a document does not answer {other:?}"),
                }
            }
        })
    }

    /// Refuses what no frame holds before all of it is in memory.
    fn check_size(&self, key: &[u8], kind: Kind) -> Result<(), WriteError> {
        let (mut bytes, mut rows) = (0, 0);
        let range = RowRange::all(Within::Kind(key.to_vec(), kind));
        self.draft.scan(self.frame.header().keyspace, &range, &mut |row, payload| {
            bytes += row.subkey.len() + payload.bytes();
            rows += 1;
            if bytes > OP_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if bytes > OP_BYTES_MAX {
            return Err(BoundError::Batch { bytes, ops: rows }.into());
        }
        Ok(())
    }
}
