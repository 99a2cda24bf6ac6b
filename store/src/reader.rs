//! Reading beside the store, from any thread.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::id::{AuthorCard, KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{
    Due, KeyspaceState, Log, LogEnd, LogPosition, LogRecord, LoggedFrame, Milestone, ReadError, RowRange,
    Rows, Settings, Visit,
};
use tidelock_engine::row::{Fingerprint, Kind, Payload, RowId};

use crate::log::LogScope;
use crate::published::Published;
use crate::store::Shared;
use crate::view::{View, scan};

/// A handle for reading. Clones are cheap; a read waits for no commit and no writing of rows.
///
/// Every read is of one moment, and a later read never of an earlier one. A scan is read in chunks, each of
/// its own moment: what must fit together is read from one [`Snapshot`].
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// The rows of one moment. It keeps what it can reach from being reclaimed, so drop it soon: after one command
/// or one chunk of a scan.
#[derive(Clone, Debug)]
pub struct Snapshot {
    view: View,
    position: LogPosition,
    partial: Arc<BTreeSet<KeyspaceId>>,
}

/// A keyspace in a few numbers, all of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceSummary {
    /// The fingerprint of its rows.
    pub fingerprint: Fingerprint,
    /// The number of its keys that exist.
    pub keys: u64,
    /// The bytes of its rows, as quotas count them.
    pub bytes: u64,
    /// The hash of its heads.
    pub heads_hash: u128,
    /// The number of replicas that wrote.
    pub authors: usize,
}

/// The figures of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The frames in the log.
    pub log_frames: u64,
    /// The length of `log.redb`, in bytes.
    pub log_bytes: u64,
    /// The length of `rows.redb`, in bytes.
    pub rows_bytes: u64,
    /// The position of the last frame.
    pub position: LogPosition,
    /// Entries that are committed but not in `rows.redb`.
    pub overlay_entries: u64,
    /// What they take in memory, in bytes, about.
    pub overlay_bytes: u64,
    /// The times that either file was synced since the store was opened.
    pub syncs: u64,
    /// The times that rows were written since the store was opened.
    pub materializations: u64,
    /// Whether an earlier failure keeps the store from taking writes.
    pub is_poisoned: bool,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The rows of this moment, for reads that must fit together.
    pub fn snapshot(&self) -> Snapshot {
        let published = self.shared.published();
        let (view, partial) = (published.view(), Arc::clone(&published.partial));
        Snapshot { view, position: published.position, partial }
    }

    /// Whose operations the store's node mints now.
    pub fn replica(&self) -> ReplicaId {
        self.shared.published().card.replica()
    }

    /// The position of the last frame that is visible.
    pub fn position(&self) -> LogPosition {
        self.shared.published().position
    }

    /// The keyspaces that are held here.
    pub fn keyspaces(&self) -> Vec<(KeyspaceId, KeyspaceName)> {
        let names = Arc::clone(&self.shared.published().names);
        names.held().map(|(_, keyspace, name)| (keyspace, name.clone())).collect()
    }

    /// What is remembered of a keyspace, held or not.
    pub fn settings(&self, keyspace: KeyspaceId) -> Settings {
        self.shared.published().names.settings(keyspace)
    }

    /// A keyspace in a few numbers, without looking at its rows; `None` when it is not known here.
    pub fn summary(&self, keyspace: KeyspaceId) -> Option<KeyspaceSummary> {
        let published = self.shared.published();
        let space = published.spaces.get(&keyspace)?;
        Some(KeyspaceSummary {
            fingerprint: space.fingerprint,
            keys: space.keys,
            bytes: space.bytes,
            heads_hash: space.heads.hash(),
            authors: space.heads.len(),
        })
    }

    /// The seq of an author's last operation that is visible; 0 when nothing of it is held.
    pub fn seq(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.shared.published().spaces.get(&keyspace).map_or(0, |space| space.heads.seq(author))
    }

    /// The whole state of a keyspace; copies one entry per author.
    pub fn state(&self, keyspace: KeyspaceId) -> Option<KeyspaceState> {
        self.shared.published().state(keyspace)
    }

    /// The figures of the store.
    ///
    /// # Errors
    /// The disk did not tell the length of a file.
    pub fn stats(&self) -> std::io::Result<Stats> {
        let Shared { log, rows, guard, .. } = &*self.shared;
        let (first, position, generation) = {
            let published = self.shared.published();
            (published.first, published.position, Arc::clone(&published.generation))
        };
        let overlays = || generation.frozen.iter().chain([&generation.active]);
        Ok(Stats {
            log_frames: position.0 + 1 - first.0,
            log_bytes: log.file.size()?,
            rows_bytes: rows.file.size()?,
            position,
            overlay_entries: overlays().map(|overlay| overlay.count() as u64).sum(),
            overlay_bytes: overlays().map(|overlay| overlay.bytes() as u64).sum(),
            syncs: log.file.syncs() + rows.file.syncs(),
            materializations: self.shared.materializations(),
            is_poisoned: guard.is_frozen(),
        })
    }

    /// Reads the log within what is visible now.
    fn in_log<T>(
        &self,
        keyspace: KeyspaceId,
        read: impl Fn(&LogScope<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.beside_truncation(
            |published| {
                let space = published.spaces.get(&keyspace)?;
                let (heads, floor) = (Arc::clone(&space.heads), Arc::clone(&space.floor));
                Some((Arc::clone(&published.names), heads, floor, published.position))
            },
            |scope| {
                let Some((names, heads, floor, last)) = scope else { return Ok(None) };
                let log = &self.shared.log;
                read(&LogScope { log, names: &names, keyspace, heads: &heads, floor: &floor, last }).map(Some)
            },
        )
    }

    /// Reads the log with what is visible now. What was let go of between the two shows as damage: then it is read
    /// again.
    fn beside_truncation<S, T>(
        &self,
        see: impl Fn(&Published) -> S,
        read: impl Fn(S) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let (first, seen) = {
                let published = self.shared.published();
                (published.first, see(&published))
            };
            match read(seen) {
                Err(ReadError::Damaged { .. }) if self.shared.published().first != first => {}
                result => return result,
            }
        }
    }
}

impl Rows for Reader {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.shared.view().row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        scan(|| self.shared.view(), keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.shared.view().members(keyspace, key, kind)
    }

    fn expiry(&self) -> Hlc {
        self.shared.published().expiry
    }

    fn expiry_of(&self, keyspace: KeyspaceId) -> Hlc {
        let published = self.shared.published();
        published.clocks.get(&keyspace).copied().unwrap_or(published.expiry)
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.shared.published().spaces.get(&keyspace).is_some_and(|space| space.has_deadlines)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.shared.view().deadlines(keyspace, after, until_ms, visit)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.shared.view().order(keyspace, key, from, visit)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        Ok(self.shared.published().spaces.get(&keyspace).map_or(0, |space| space.keys))
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        Ok(self.shared.published().spaces.get(&keyspace).map_or(0, |space| space.bytes))
    }
}

impl Log for Reader {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        Ok(self.in_log(keyspace, |log| log.missing(after, bytes_max))?.unwrap_or_default())
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        Ok(self.in_log(keyspace, |log| log.frame_with(dot))?.flatten())
    }

    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        self.beside_truncation(
            |published| (published.first, published.position),
            |(first, last)| {
                let first = position.0.max(first.0);
                let behind = first.saturating_add(count_max as u64);
                self.shared.log.records(first..=last.0.min(behind - 1), usize::MAX)
            },
        )
    }

    fn first(&self) -> LogPosition {
        self.shared.published().first
    }

    fn end(&self) -> LogEnd {
        self.shared.published().end()
    }

    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.shared.published().floor(keyspace, author)
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        Ok(self.shared.published().names.card(replica))
    }

    fn is_dropping(&self, keyspace: KeyspaceId) -> bool {
        self.shared.published().names.is_dropping(keyspace)
    }
}

impl Snapshot {
    /// The position of the last frame that is visible in it.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Whether the rows of a keyspace are those of no version vector, because state is being taken over: they are not
    /// to be shown.
    pub fn is_partial(&self, keyspace: KeyspaceId) -> bool {
        self.partial.contains(&keyspace)
    }

    /// The state of a keyspace as of this moment; `None` when it is not known here. Reads the heads of all authors.
    pub fn state(&self, keyspace: KeyspaceId) -> Result<Option<KeyspaceState>, ReadError> {
        self.view.state(keyspace)
    }
}

impl Rows for Snapshot {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.view.row(keyspace, row)
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.view.scan(keyspace, range, visit)
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.view.members(keyspace, key, kind)
    }

    fn expiry(&self) -> Hlc {
        self.view.expiry()
    }

    fn expiry_of(&self, keyspace: KeyspaceId) -> Hlc {
        self.view.expiry_of(keyspace)
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.view.has_deadlines(keyspace)
    }

    fn deadlines(
        &self,
        keyspace: KeyspaceId,
        after: Option<&Due>,
        until_ms: u64,
        visit: &mut dyn FnMut(Due) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.view.deadlines(keyspace, after, until_ms, visit)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.view.order(keyspace, key, from, visit)
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.view.keys(keyspace)
    }
}
