//! A draft as rows: what it changed, and beside that what is below.

use std::ops::ControlFlow;

use super::{Draft, RowChange, group};
use crate::causality::Hlc;
use crate::id::KeyspaceId;
use crate::ports::{Due, Milestone, ReadError, RowRange, Rows, Visit, scan_deadlines};
use crate::row::{Kind, Payload, RowId};

impl Rows for Draft<'_> {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        // The map is keyed by owned rows; the clone of a key is small beside the read it saves.
        match self.changes.rows.get(&(keyspace, row.clone())) {
            Some(change) => Ok(change.after.clone()),
            None => self.below.row(keyspace, row),
        }
    }

    /// A row below is shown as it was changed, at its place. A row that is only here comes before the first
    /// row below of a later group, so that groups stay in order.
    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        if self.changes.rows.is_empty() {
            return self.below.scan(keyspace, range, visit);
        }
        let mut added = self
            .changed(keyspace, range)
            .filter_map(|(row, change)| {
                Some((row, change.after.as_ref().filter(|_| change.before.is_none())?))
            })
            .peekable();
        let mut flow = ControlFlow::Continue(());
        self.below.scan(keyspace, range, &mut |row, payload| {
            while let Some((new, payload)) = added.next_if(|(new, _)| group(new) < group(&row)) {
                flow = visit(new.clone(), payload.clone());
                flow?;
            }
            flow = match self.changes.rows.get(&(keyspace, row.clone())) {
                Some(RowChange { after: None, .. }) => ControlFlow::Continue(()),
                Some(RowChange { after: Some(after), .. }) => visit(row, after.clone()),
                None => visit(row, payload),
            };
            flow
        })?;
        for (new, payload) in added {
            if flow.is_break() {
                break;
            }
            flow = visit(new.clone(), payload.clone());
        }
        Ok(())
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        match self.changes.members.get(&(keyspace, key.to_vec(), kind)) {
            Some(count) => Ok(*count),
            None => self.hot_key.members(self.below, keyspace, key, kind),
        }
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if self.changes.order.is_empty() {
            return self.below.order(keyspace, key, from, visit);
        }
        self.changed_order(keyspace, key, from, visit)
    }

    fn expiry(&self) -> Hlc {
        self.expiry
    }

    fn expiry_of(&self, keyspace: KeyspaceId) -> Hlc {
        self.clocks.get(&keyspace).copied().unwrap_or(self.expiry)
    }

    /// Where none was changed here, the rows below have them in order.
    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if self.deadlines.contains(&keyspace) {
            return scan_deadlines(self, keyspace, (after, until_ms), visit);
        }
        self.below.deadlines(keyspace, after, until_ms, visit)
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.deadlines.contains(&keyspace) || self.below.has_deadlines(keyspace)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        let delta = self.changes.deltas.get(&keyspace).map_or(0, |delta| delta.keys);
        Ok(self.below.keys(keyspace)?.saturating_add_signed(delta))
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        let delta = self.changes.deltas.get(&keyspace).map_or(0, |delta| delta.bytes);
        Ok(self.below.bytes(keyspace)?.saturating_add_signed(delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that keep their deadlines in order, and are too many to be gone through.
    struct Many;

    impl Rows for Many {
        fn row(&self, _: KeyspaceId, _: &RowId) -> Result<Option<Payload>, ReadError> {
            Ok(None)
        }

        fn scan(&self, _: KeyspaceId, _: &RowRange, _: &mut Visit<'_>) -> Result<(), ReadError> {
            panic!("all rows are gone through")
        }

        fn members(&self, _: KeyspaceId, _: &[u8], _: Kind) -> Result<u64, ReadError> {
            Ok(0)
        }

        fn expiry(&self) -> Hlc {
            Hlc::default()
        }

        fn deadlines(
            &self,
            _: KeyspaceId,
            _: Option<&Due>,
            _: u64,
            visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
        ) -> Result<(), ReadError> {
            let _ = visit(Due { unix_ms: 5, key: b"k".to_vec() });
            Ok(())
        }

        fn order(
            &self,
            _: KeyspaceId,
            _: &[u8],
            _: &Milestone,
            _: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
        ) -> Result<(), ReadError> {
            Ok(())
        }

        fn keys(&self, _: KeyspaceId) -> Result<u64, ReadError> {
            Ok(0)
        }
    }

    /// Whoever looked for what is due went through the whole keyspace, in every turn in which something was.
    #[test]
    fn deadlines_are_asked_of_the_rows_below_where_none_was_changed() {
        let keyspace = KeyspaceId::from_bytes([1; 16]);
        let draft = Draft::over(&Many);
        let mut due = Vec::new();
        let looked = draft.deadlines(keyspace, None, u64::MAX, &mut |deadline| {
            due.push(deadline.unix_ms);
            ControlFlow::Continue(())
        });
        looked.expect("they can be read");
        assert_eq!(due, [5]);
    }
}
