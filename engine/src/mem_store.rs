//! A store in memory: what the durable store must behave like, for tests and for simulations at scale.
//!
//! It keeps rows as one dot store per keyspace, and the frames in commit order. It is never durable.

mod raft;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use self::raft::RaftMemory;
use crate::causality::{Dot, Head, Hlc, VersionVector};
use crate::crdt::DotStore;
use crate::draft::Changes;
use crate::frame::Frame;
use crate::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, ReplicaId};
use crate::install::Install;
use crate::ports::{
    Batch, Choice, CommitError, Durability, Fork, KeyspaceState, Log, LogEnd, LogEntry, LogPosition,
    LogRecord, LoggedFrame, Milestone, RaftLog, ReadError, Recovered, RowRange, Rows, Settings, Store, Visit,
};
use crate::row::{Kind, Payload, RowId};

/// A store in memory.
#[derive(Clone, Debug)]
pub struct MemStore {
    cluster: ClusterId,
    card: AuthorCard,
    keyspaces: BTreeMap<KeyspaceName, KeyspaceId>,
    settings: BTreeMap<KeyspaceName, Settings>,
    modes: BTreeMap<KeyspaceName, Vec<u8>>,
    states: BTreeMap<KeyspaceId, KeyspaceState>,
    rows: BTreeMap<KeyspaceId, DotStore>,
    bytes: BTreeMap<KeyspaceId, u64>,
    cards: BTreeMap<ReplicaId, AuthorCard>,
    log: VecDeque<LogRecord>,
    first: LogPosition,
    floors: BTreeMap<KeyspaceId, VersionVector>,
    index: BTreeMap<(KeyspaceId, ReplicaId, u64), LogPosition>,
    clock: Hlc,
    expiry: Hlc,
    /// The keyspaces in which there ever was a deadline.
    deadlines: BTreeSet<KeyspaceId>,
    fork: Option<Fork>,
    anchor: Option<Vec<u8>>,
    raft: RaftMemory,
    is_full: bool,
}

impl MemStore {
    /// An empty store of the replica that `card` proves.
    pub fn new(cluster: ClusterId, card: AuthorCard) -> Self {
        Self {
            cluster,
            card,
            keyspaces: BTreeMap::new(),
            settings: BTreeMap::new(),
            modes: BTreeMap::new(),
            states: BTreeMap::new(),
            rows: BTreeMap::new(),
            bytes: BTreeMap::new(),
            cards: BTreeMap::new(),
            log: VecDeque::new(),
            first: LogPosition(1),
            floors: BTreeMap::new(),
            index: BTreeMap::new(),
            clock: Hlc::default(),
            expiry: Hlc::default(),
            deadlines: BTreeSet::new(),
            fork: None,
            anchor: None,
            raft: RaftMemory::default(),
            is_full: false,
        }
    }

    /// Whether it takes nothing from now on, like a disk that is full.
    pub fn fill(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// The log of the Raft group, for reading beside this store. A clone of the store has a log of its own.
    pub fn raft_log(&self) -> Arc<dyn RaftLog> {
        self.raft.log()
    }

    /// The rows of a keyspace under their version vector, if anything was ever written there.
    pub fn dot_store(&self, keyspace: KeyspaceId) -> Option<&DotStore> {
        self.rows.get(&keyspace)
    }

    /// The seq of an author's last applied operation; 0 without one.
    pub fn seq(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.states.get(&keyspace).map_or(0, |state| state.heads.seq(author))
    }

    fn logged(&self, position: LogPosition) -> LoggedFrame {
        let index = usize::try_from(position.0 - self.first.0).expect("the log is in memory");
        match &self.log[index].entry {
            LogEntry::Frame(bytes) => LoggedFrame { position, bytes: bytes.clone() },
            LogEntry::Install(_) | LogEntry::Staged(_) | LogEntry::Dropped => {
                unreachable!("the index leads to frames")
            }
        }
    }

    fn last(&self) -> LogPosition {
        LogPosition(self.first.0 + self.log.len() as u64 - 1)
    }

    fn log(&mut self, entry: LogEntry, clock: Hlc) -> LogPosition {
        let total_bytes = self.log.back().map_or(0, |last| last.total_bytes) + entry.bytes().len() as u64;
        let position = LogPosition(self.last().0 + 1);
        self.log.push_back(LogRecord { position, clock, total_bytes, entry });
        position
    }

    fn log_frame(&mut self, frame: &Frame, clock: Hlc) {
        let header = frame.header();
        let position = self.log(LogEntry::Frame(frame.bytes().clone()), clock);
        self.index.insert((header.keyspace, header.author, header.last()), position);
        self.states
            .entry(header.keyspace)
            .or_default()
            .heads
            .advance(header.author, Head { seq: header.last(), frame: frame.id() });
    }

    fn log_install(&mut self, install: &Install, clock: Hlc) {
        self.log(LogEntry::Install(install.encode().into()), clock);
        let state = self.states.entry(install.keyspace).or_default();
        state.is_partial = install.heads.is_none();
        for (author, head) in install.heads.iter().flatten() {
            state.heads.advance(*author, *head);
            self.floors.entry(install.keyspace).or_default().raise(Dot::new(*author, head.seq));
        }
    }
}

impl MemStore {
    /// Takes in that a keyspace is there from now on.
    fn open_keyspace(&mut self, name: &KeyspaceName) {
        let id = KeyspaceId::of(self.cluster, name);
        let settings = self.settings.get(name).copied().unwrap_or_default();
        let is_new = self.keyspaces.insert(name.clone(), id).is_none();
        if is_new && settings.is_behind(self.card.replica(), 0) {
            self.states.entry(id).or_default().is_partial = true;
        }
    }

    /// Drops all of a keyspace.
    fn drop_keyspace(&mut self, name: &KeyspaceName) {
        let Some(id) = self.keyspaces.remove(name) else { return };
        self.states.remove(&id);
        self.rows.remove(&id);
        self.bytes.remove(&id);
        self.floors.remove(&id);
        self.index.retain(|(of, ..), _| *of != id);
        for record in &mut self.log {
            if record.entry.keyspace() == Some(id) {
                record.entry = LogEntry::Dropped;
            }
        }
    }
}

impl Rows for MemStore {
    fn row(&self, keyspace: KeyspaceId, row: &RowId) -> Result<Option<Payload>, ReadError> {
        self.rows.get(&keyspace).map_or(Ok(None), |rows| rows.row(keyspace, row))
    }

    fn scan(&self, keyspace: KeyspaceId, range: &RowRange, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        self.rows.get(&keyspace).map_or(Ok(()), |rows| rows.scan(keyspace, range, visit))
    }

    fn members(&self, keyspace: KeyspaceId, key: &[u8], kind: Kind) -> Result<u64, ReadError> {
        self.rows.get(&keyspace).map_or(Ok(0), |rows| rows.members(keyspace, key, kind))
    }

    fn expiry(&self) -> Hlc {
        self.expiry
    }

    fn has_deadlines(&self, keyspace: KeyspaceId) -> bool {
        self.deadlines.contains(&keyspace)
    }

    fn order(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        from: &Milestone,
        visit: &mut dyn FnMut(Milestone, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.rows.get(&keyspace).map_or(Ok(()), |rows| rows.order(keyspace, key, from, visit))
    }

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.rows.get(&keyspace).map_or(Ok(0), |rows| rows.keys(keyspace))
    }

    fn bytes(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        Ok(self.bytes.get(&keyspace).copied().unwrap_or(0))
    }
}

impl Log for MemStore {
    fn missing(
        &self,
        keyspace: KeyspaceId,
        after: &[Dot],
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        let mut positions: Vec<LogPosition> = after
            .iter()
            .filter(|dot| dot.seq >= self.floor(keyspace, dot.replica))
            .flat_map(|dot| {
                let from = (keyspace, dot.replica, dot.seq + 1);
                self.index.range(from..=(keyspace, dot.replica, u64::MAX)).map(|(_, position)| *position)
            })
            .collect();
        positions.sort_unstable();
        let mut bytes = 0;
        let frames = positions.into_iter().map(|position| self.logged(position));
        Ok(frames
            .take_while(|frame| {
                let is_first = bytes == 0;
                bytes += frame.bytes.len();
                is_first || bytes <= bytes_max
            })
            .collect())
    }

    fn frame_with(&self, keyspace: KeyspaceId, dot: Dot) -> Result<Option<LoggedFrame>, ReadError> {
        if dot.seq <= self.floor(keyspace, dot.replica) {
            return Ok(None);
        }
        let from = (keyspace, dot.replica, dot.seq);
        let next = self.index.range(from..=(keyspace, dot.replica, u64::MAX)).next();
        Ok(next.map(|(_, position)| self.logged(*position)))
    }

    fn records_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LogRecord>, ReadError> {
        let skipped = usize::try_from(position.0.saturating_sub(self.first.0)).expect("the log is in memory");
        Ok(self.log.iter().skip(skipped).take(count_max).cloned().collect())
    }

    fn first(&self) -> LogPosition {
        self.first
    }

    fn end(&self) -> LogEnd {
        let total_bytes = self.log.back().map_or(0, |last| last.total_bytes);
        LogEnd { position: self.last(), total_bytes }
    }

    fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.floors.get(&keyspace).map_or(0, |floor| floor.get(author))
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        Ok(self.cards.get(&replica).copied())
    }

    /// It is all dropped at once.
    fn is_dropping(&self, _: KeyspaceId) -> bool {
        false
    }
}

impl Store for MemStore {
    fn recovered(&self) -> Recovered {
        let state = |id: &KeyspaceId| self.states.get(id).cloned().unwrap_or_default();
        Recovered {
            card: self.card,
            keyspaces: self.keyspaces.iter().map(|(name, id)| (name.clone(), state(id))).collect(),
            settings: self.settings.clone(),
            modes: self.modes.clone(),
            anchor: self.anchor.clone(),
            clock: self.clock,
            expiry: self.expiry,
            position: self.last(),
            fork: self.fork,
        }
    }

    fn commit(&mut self, batch: &Batch, _: Durability) -> Result<LogPosition, CommitError> {
        if self.is_full {
            return Err(CommitError::Full { file: "memory" });
        }
        for (name, settings) in &batch.settings {
            self.settings.insert(name.clone(), *settings);
            if settings.choice == Some(Choice::Leave) {
                self.drop_keyspace(name);
            }
        }
        batch.keyspaces.iter().for_each(|name| self.open_keyspace(name));
        self.modes.extend(batch.modes.iter().cloned());
        self.raft.write(batch);
        self.anchor = batch.anchor.clone().or(self.anchor.take());
        self.cards.extend(batch.cards.iter().map(|card| (card.replica(), *card)));
        let mut applied: BTreeMap<KeyspaceId, Vec<Dot>> = BTreeMap::new();
        self.clock = self.clock.max(batch.clock);
        self.expiry = batch.expiry.unwrap_or(self.expiry);
        let deadlines = batch.changes.rows.keys().filter(|(_, row)| row.kind == Kind::Deadline);
        self.deadlines.extend(deadlines.map(|(keyspace, _)| *keyspace));
        for staged in &batch.staged {
            self.log(LogEntry::Staged(staged.encode().into()), self.clock);
        }
        let mut installs = batch.installs.iter().peekable();
        for (number, frame) in batch.frames.iter().enumerate() {
            while let Some((_, install)) = installs.next_if(|(before, _)| *before <= number) {
                self.log_install(install, self.clock);
            }
            self.log_frame(frame, self.clock);
            applied.entry(frame.header().keyspace).or_default().push(frame.header().last_dot());
        }
        installs.for_each(|(_, install)| self.log_install(install, self.clock));
        for (_, install) in &batch.installs {
            let heads = install.heads.iter().flatten();
            let dots = heads.map(|(author, head)| Dot::new(*author, head.seq));
            applied.entry(install.keyspace).or_default().extend(dots);
        }
        for (keyspace, delta) in &batch.changes.deltas {
            let bytes = self.bytes.entry(*keyspace).or_default();
            *bytes = bytes.saturating_add_signed(delta.bytes);
        }
        for (keyspace, changes) in batch.changes.clone().by_keyspace() {
            let rows = self.rows.entry(keyspace).or_default();
            rows.commit(changes, applied.remove(&keyspace).unwrap_or_default());
            self.states.entry(keyspace).or_default().fingerprint = rows.fingerprint();
        }
        for (keyspace, dots) in applied {
            self.rows.entry(keyspace).or_default().commit(Changes::default(), dots);
        }
        Ok(self.last())
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    fn truncate(&mut self, until: LogPosition) {
        while self.log.len() > 1 && self.first <= until {
            let record = self.log.pop_front().expect("there are two");
            self.first = LogPosition(self.first.0 + 1);
            if let LogEntry::Frame(bytes) = &record.entry {
                let header = Frame::decode(bytes).expect("it was committed").header().clone();
                self.index.remove(&(header.keyspace, header.author, header.last()));
                self.floors.entry(header.keyspace).or_default().raise(header.last_dot());
            }
        }
    }

    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError> {
        self.fork = Some(*fork);
        Ok(())
    }

    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError> {
        (self.card, self.fork) = (*card, None);
        self.anchor = None;
        self.raft.forget();
        Ok(())
    }
}
