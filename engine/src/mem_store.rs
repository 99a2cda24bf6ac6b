//! A store in memory: what the durable store must behave like, for tests and for simulations at scale.
//!
//! It keeps rows as one dot store per keyspace, and the frames in commit order. It is never durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::causality::{Dot, Head, Hlc};
use crate::crdt::DotStore;
use crate::draft::Changes;
use crate::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, ReplicaId};
use crate::ports::{
    Batch, CommitError, Durability, Fork, KeyspaceState, Log, LogPosition, LoggedFrame, ReadError, Recovered,
    RowRange, Rows, Store, Visit,
};
use crate::row::{Kind, Payload, RowId};

/// A store in memory.
#[derive(Clone, Debug)]
pub struct MemStore {
    cluster: ClusterId,
    card: AuthorCard,
    keyspaces: BTreeMap<KeyspaceName, KeyspaceId>,
    states: BTreeMap<KeyspaceId, KeyspaceState>,
    rows: BTreeMap<KeyspaceId, DotStore>,
    cards: BTreeMap<ReplicaId, AuthorCard>,
    log: Vec<Arc<[u8]>>,
    index: BTreeMap<(KeyspaceId, ReplicaId, u64), LogPosition>,
    clock: Hlc,
    fork: Option<Fork>,
}

impl MemStore {
    /// An empty store of the replica that `card` proves.
    pub fn new(cluster: ClusterId, card: AuthorCard) -> Self {
        Self {
            cluster,
            card,
            keyspaces: BTreeMap::new(),
            states: BTreeMap::new(),
            rows: BTreeMap::new(),
            cards: BTreeMap::new(),
            log: Vec::new(),
            index: BTreeMap::new(),
            clock: Hlc::default(),
            fork: None,
        }
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
        let index = usize::try_from(position.0 - 1).expect("the log is in memory");
        LoggedFrame { position, bytes: self.log[index].clone() }
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

    fn keys(&self, keyspace: KeyspaceId) -> Result<u64, ReadError> {
        self.rows.get(&keyspace).map_or(Ok(0), |rows| rows.keys(keyspace))
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
        let from = (keyspace, dot.replica, dot.seq);
        let next = self.index.range(from..=(keyspace, dot.replica, u64::MAX)).next();
        Ok(next.map(|(_, position)| self.logged(*position)))
    }

    fn frames_from(&self, position: LogPosition, count_max: usize) -> Result<Vec<LoggedFrame>, ReadError> {
        let positions = position.0.max(1)..=self.log.len() as u64;
        Ok(positions.take(count_max).map(|position| self.logged(LogPosition(position))).collect())
    }

    fn card(&self, replica: ReplicaId) -> Result<Option<AuthorCard>, ReadError> {
        Ok(self.cards.get(&replica).copied())
    }
}

impl Store for MemStore {
    fn recovered(&self) -> Recovered {
        let state = |id: &KeyspaceId| self.states.get(id).cloned().unwrap_or_default();
        Recovered {
            card: self.card,
            keyspaces: self.keyspaces.iter().map(|(name, id)| (name.clone(), state(id))).collect(),
            clock: self.clock,
            position: LogPosition(self.log.len() as u64),
            fork: self.fork,
        }
    }

    fn commit(&mut self, batch: &Batch, _: Durability) -> Result<LogPosition, CommitError> {
        for name in &batch.keyspaces {
            self.keyspaces.insert(name.clone(), KeyspaceId::of(self.cluster, name));
        }
        self.cards.extend(batch.cards.iter().map(|card| (card.replica(), *card)));
        let mut applied: BTreeMap<KeyspaceId, Vec<Dot>> = BTreeMap::new();
        for frame in &batch.frames {
            let header = frame.header();
            self.log.push(frame.bytes().clone());
            let position = LogPosition(self.log.len() as u64);
            self.index.insert((header.keyspace, header.author, header.last()), position);
            let head = Head { seq: header.last(), frame: frame.id() };
            self.states.entry(header.keyspace).or_default().heads.advance(header.author, head);
            applied.entry(header.keyspace).or_default().push(header.last_dot());
        }
        for (keyspace, changes) in batch.changes.clone().by_keyspace() {
            let rows = self.rows.entry(keyspace).or_default();
            rows.commit(changes, applied.remove(&keyspace).unwrap_or_default());
            self.states.entry(keyspace).or_default().fingerprint = rows.fingerprint();
        }
        for (keyspace, dots) in applied {
            self.rows.entry(keyspace).or_default().commit(Changes::default(), dots);
        }
        self.clock = self.clock.max(batch.clock);
        Ok(LogPosition(self.log.len() as u64))
    }

    fn sync(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    fn keep_fork(&mut self, fork: &Fork) -> Result<(), CommitError> {
        self.fork = Some(*fork);
        Ok(())
    }

    fn rejoin(&mut self, card: &AuthorCard) -> Result<(), CommitError> {
        (self.card, self.fork) = (*card, None);
        Ok(())
    }
}
