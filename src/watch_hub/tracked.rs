//! What a turn did to keys of which clients keep copies.

use std::ops::ControlFlow;

use tidelock_engine::causality::Hlc;
use tidelock_engine::draft::Changes;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::{Due, ReadError, Rows};

use super::WatchHub;

impl WatchHub {
    /// Tells who has read a key of which a row changed, or which is not to be seen any more because it expired: it may be
    /// removed later.
    pub(super) fn invalidate(&mut self, changes: &Changes) {
        let tracking = self.pubsub.tracking();
        let since_ms = std::mem::replace(&mut self.expiry, self.reader.expiry()).unix_ms();
        if !tracking.is_on() {
            return;
        }
        let names = self.reader.keyspaces();
        let keys = changes.rows.keys().filter_map(|(keyspace, row)| {
            let (_, name) = names.iter().find(|(id, _)| id == keyspace)?;
            Some((name, row.key.as_slice()))
        });
        tracking.changed(keys);
        let snapshot = self.reader.snapshot();
        let mut expired: Vec<(&KeyspaceName, Vec<u8>)> = Vec::new();
        let expiries = &mut self.expiries;
        let found = names.iter().filter(|(id, _)| snapshot.has_deadlines(*id)).try_for_each(|(id, name)| {
            let (until, of_node) = (snapshot.expiry_of(*id), snapshot.expiry());
            let since_ms = if until == of_node {
                since_ms
            } else {
                expiries.insert(*id, until).map_or(since_ms, Hlc::unix_ms)
            };
            if until.unix_ms() <= since_ms {
                return Ok(());
            }
            let after = Due { unix_ms: since_ms, key: Vec::new() };
            snapshot.deadlines(*id, Some(&after), until.unix_ms(), &mut |due| {
                expired.push((name, due.key));
                ControlFlow::Continue(())
            })
        });
        match found {
            Ok(()) => tracking.changed(expired.iter().map(|(name, key)| (*name, key.as_slice()))),
            Err(error) => self.give_up_tracked(&error),
        }
    }

    /// Tells all who keep copies that none is good.
    pub(crate) fn invalidate_all(&self) {
        self.pubsub.tracking().changed_all();
    }

    fn give_up_tracked(&self, error: &ReadError) {
        tracing::error!(%error, "cannot look for expired keys of which clients keep copies");
        self.invalidate_all();
    }
}
