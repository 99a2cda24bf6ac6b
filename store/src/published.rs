//! What readers see: one moment, and everything that changes together with it.
//!
//! A commit prepares its entries beside the readers and then publishes: moment, position, names and the states
//! of keyspaces change under one short lock. Nothing of a commit that failed is ever published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelock_engine::causality::{Dot, Head, Heads, Hlc, VersionVector};
use tidelock_engine::draft::Changes;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{AuthorCard, KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::mode::Mode;
use tidelock_engine::ports::{Batch, Due, Fork, KeyspaceState, LogEnd, LogPosition};
use tidelock_engine::row::{Fingerprint, Payload};

use crate::blocks::{authors_of_heads, block_of, floors_value, heads_block_of, heads_value};
use crate::key;
use crate::log::Entry;
use crate::mark::Reached;
use crate::names::Names;
use crate::overlay::{EntryValue, Moment};
use crate::raft::RaftBounds;
use crate::schema::{SpaceState, floors_key, seal, state_value};
use crate::view::{Generation, View};

/// The state of a keyspace in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) keys: u64,
    /// The bytes of its rows, as quotas count them.
    pub(crate) bytes: u64,
    /// Whether state is being taken over.
    pub(crate) is_partial: bool,
    /// Whether there was any deadline since the store was opened.
    pub(crate) has_deadlines: bool,
    /// Shared with readers; a commit copies them only while one holds them.
    pub(crate) heads: Arc<Heads>,
    /// Per author the seq up to which its frames may be missing from the log.
    pub(crate) floor: Arc<VersionVector>,
}

/// All that readers see.
#[derive(Debug)]
pub(crate) struct Published {
    /// Whose operations the store writes.
    pub(crate) card: AuthorCard,
    /// That its replica has two histories, if it was found out.
    pub(crate) fork: Option<Fork>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) moment: Moment,
    pub(crate) position: LogPosition,
    /// The bytes of all records of the log, up to its end.
    pub(crate) total_bytes: u64,
    /// The position of the first record of the log that is held.
    pub(crate) first: LogPosition,
    /// The highest clock of any batch.
    pub(crate) clock: Hlc,
    /// What has a deadline up to this moment has expired.
    pub(crate) expiry: Hlc,
    pub(crate) names: Arc<Names>,
    /// The keyspaces whose rows are those of no version vector.
    pub(crate) partial: Arc<BTreeSet<KeyspaceId>>,
    /// One for each keyspace of `names` that is held.
    pub(crate) spaces: BTreeMap<KeyspaceId, Space>,
    /// What the engine remembers of the modes of keyspaces.
    pub(crate) modes: BTreeMap<KeyspaceName, Vec<u8>>,
    /// By which clocks the keys of strong keyspaces expire: the only thing of modes that is looked at here.
    pub(crate) clocks: Arc<BTreeMap<KeyspaceId, Hlc>>,
    /// What it remembers of this store's membership in the Raft group.
    pub(crate) anchor: Option<Vec<u8>>,
    pub(crate) raft: RaftBounds,
}

/// A record whose effects a commit holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Recorded<'a> {
    Frame(&'a Frame),
    Install(&'a Install),
}

/// What a commit changes of [`Published`], and the entries that go with it.
#[derive(Debug)]
pub(crate) struct Update {
    /// Entries of `rows.redb`, sealed.
    pub(crate) entries: Vec<(Vec<u8>, EntryValue)>,
    /// The states of the keyspaces that changed.
    states: BTreeMap<KeyspaceId, SpaceState>,
    /// The new heads.
    heads: BTreeMap<(KeyspaceId, ReplicaId), Head>,
    /// The floors that rise.
    pub(crate) floors: BTreeMap<(KeyspaceId, ReplicaId), u64>,
    /// The keyspaces with a new deadline.
    expiring: BTreeSet<KeyspaceId>,
}

impl Update {
    /// What a commit of `records` changes, whose effects are `changes`, and which leads to `states`. `names`
    /// holds the new names too. The entries of heads are not there yet: see [`Update::put_heads`].
    pub(crate) fn new<'a>(
        names: &Names,
        records: impl IntoIterator<Item = Recorded<'a>>,
        changes: &Changes,
        states: BTreeMap<KeyspaceId, SpaceState>,
    ) -> Self {
        let mut update = Self {
            entries: Vec::new(),
            states,
            heads: BTreeMap::new(),
            floors: BTreeMap::new(),
            expiring: BTreeSet::new(),
        };
        for record in records {
            update.take_in(record);
        }
        for (keyspace, state) in &update.states {
            let key = key::state(number(names, *keyspace));
            put(&mut update.entries, key, state_value(*state));
        }
        for ((keyspace, key, kind), members) in &changes.members {
            let key = key::members(number(names, *keyspace), key, *kind);
            match members {
                0 => update.entries.push((key, None)),
                _ => put(&mut update.entries, key, members.to_be_bytes().to_vec()),
            }
        }
        for ((keyspace, key, milestone), count) in &changes.order {
            let key = key::order(number(names, *keyspace), key, milestone);
            match count {
                None => update.entries.push((key, None)),
                Some(count) => put(&mut update.entries, key, key::order_value(milestone.height, *count)),
            }
        }
        for ((keyspace_id, row), change) in &changes.rows {
            let (keyspace, author) = (number(names, *keyspace_id), author_number(names, row.dot.replica));
            let due = |payload: &Payload| match payload {
                Payload::Deadline(unix_ms) => {
                    let due = Due { unix_ms: *unix_ms, key: row.key.clone() };
                    Some(key::deadline(keyspace, &due, author, row.dot.seq))
                }
                _ => None,
            };
            if let Some(key) = change.before.as_ref().and_then(due) {
                update.entries.push((key, None));
            }
            if let Some(key) = change.after.as_ref().and_then(due) {
                put(&mut update.entries, key, Vec::new());
                update.expiring.insert(*keyspace_id);
            }
            let key = key::row(keyspace, row, author);
            match &change.after {
                Some(payload) => {
                    let mut value = Vec::new();
                    payload.encode_into(&mut value);
                    put(&mut update.entries, key, value);
                }
                // A row that came and went within the batch was never anywhere.
                None if change.before.is_none() => {}
                None => update.entries.push((key, None)),
            }
        }
        update
    }

    /// Adds the blocks in which heads change. The other heads in them are as the commit before published them.
    pub(crate) fn put_heads(&mut self, published: &Published, names: &Names) {
        for (key, value) in published.heads_after(names, self.heads.keys().copied(), &self.heads) {
            put(&mut self.entries, key, value);
        }
    }
}

impl Update {
    fn take_in(&mut self, record: Recorded<'_>) {
        match record {
            Recorded::Frame(frame) => {
                let header = frame.header();
                let head = Head { seq: header.last(), frame: frame.id() };
                self.heads.insert((header.keyspace, header.author), head);
            }
            Recorded::Install(install) => {
                let keyspace = install.keyspace;
                self.states.entry(keyspace).or_default().is_partial = install.heads.is_none();
                for (author, head) in install.heads.iter().flatten() {
                    self.heads.insert((keyspace, *author), *head);
                    self.floors.insert((keyspace, *author), head.seq);
                }
            }
        }
    }
}

impl Published {
    pub(crate) fn view(&self) -> View {
        let (generation, names) = (Arc::clone(&self.generation), Arc::clone(&self.names));
        View { generation, moment: self.moment, names, expiry: self.expiry, clocks: Arc::clone(&self.clocks) }
    }

    pub(crate) fn state(&self, keyspace: KeyspaceId) -> Option<KeyspaceState> {
        let Space { fingerprint, heads, is_partial, .. } = self.spaces.get(&keyspace)?;
        let (fingerprint, is_partial) = (*fingerprint, *is_partial);
        Some(KeyspaceState { fingerprint, heads: Heads::clone(heads), is_partial })
    }

    /// The keyspaces whose state is being taken over.
    pub(crate) fn partial_spaces(&self) -> BTreeSet<KeyspaceId> {
        let partial = self.spaces.iter().filter(|(_, space)| space.is_partial);
        partial.map(|(keyspace, _)| *keyspace).collect()
    }

    /// Where the log ends.
    pub(crate) fn end(&self) -> LogEnd {
        LogEnd { position: self.position, total_bytes: self.total_bytes }
    }

    /// How far the log goes, as `log.mark` counts it.
    pub(crate) fn reached(&self) -> Reached {
        Reached { position: self.position, raft_commits: self.raft.commits }
    }

    /// Takes in what a batch has for the engine to remember.
    pub(crate) fn remember(&mut self, batch: &Batch) {
        if !batch.modes.is_empty() {
            let clocks = batch.modes.iter().filter_map(|(name, mode)| self.clock_of(name, mode));
            let clocks: Vec<(KeyspaceId, Hlc)> = clocks.collect();
            Arc::make_mut(&mut self.clocks).extend(clocks);
        }
        self.modes.extend(batch.modes.iter().cloned());
        self.anchor = batch.anchor.clone().or(self.anchor.take());
    }

    /// Finds the clocks of all strong keyspaces.
    pub(crate) fn find_clocks(&mut self) {
        let clocks = self.modes.iter().filter_map(|(name, mode)| self.clock_of(name, mode));
        self.clocks = Arc::new(clocks.collect());
    }

    /// The clock of a keyspace if its mode is a strong one. One that does not decode is for the engine to refuse.
    fn clock_of(&self, name: &KeyspaceName, mode: &[u8]) -> Option<(KeyspaceId, Hlc)> {
        let mode = Mode::decode(mode).ok().filter(|mode| mode.epoch().is_strong())?;
        Some((KeyspaceId::of(self.names.cluster(), name), mode.clock()))
    }

    /// The seq up to which an author's frames may be missing.
    pub(crate) fn floor(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.spaces.get(&keyspace).map_or(0, |space| space.floor.get(author))
    }

    /// The blocks in which floors rise, as entries of the log. One that is higher already stays so.
    pub(crate) fn floors_after(
        &self,
        names: &Names,
        raised: &BTreeMap<(KeyspaceId, ReplicaId), u64>,
    ) -> Vec<Entry> {
        let blocks: BTreeSet<(KeyspaceId, u32)> = raised
            .keys()
            .map(|(keyspace, author)| (*keyspace, block_of(author_number(names, *author))))
            .collect();
        let floors = |(keyspace, block)| {
            let floor = |author| {
                let raised = raised.get(&(keyspace, author)).copied().unwrap_or(0);
                raised.max(self.floor(keyspace, author))
            };
            let floors: Vec<u64> = names.block(block).iter().map(|(author, _)| floor(*author)).collect();
            (floors_key(number(names, keyspace), block), floors_value(&floors))
        };
        blocks.into_iter().map(floors).collect()
    }

    /// The blocks of the heads of these authors, as entries of the rows, once `newer` ones are published.
    pub(crate) fn heads_after(
        &self,
        names: &Names,
        authors: impl IntoIterator<Item = (KeyspaceId, ReplicaId)>,
        newer: &BTreeMap<(KeyspaceId, ReplicaId), Head>,
    ) -> Vec<Entry> {
        let authors = authors.into_iter();
        let blocks: BTreeSet<(KeyspaceId, u32)> = authors
            .map(|(keyspace, author)| (keyspace, heads_block_of(author_number(names, author))))
            .collect();
        let heads = |(keyspace, block)| {
            let published = self.spaces.get(&keyspace).map(|space| &*space.heads);
            let head = |number| {
                let author = names.replica(number)?;
                let head = newer.get(&(keyspace, author)).copied();
                Some((number, head.or_else(|| published?.get(author))?))
            };
            let heads: Vec<(u32, Head)> =
                authors_of_heads(block).into_iter().flatten().filter_map(head).collect();
            (key::heads_of(number(names, keyspace), block), heads_value(&heads))
        };
        blocks.into_iter().map(heads).collect()
    }

    /// The seq of an author's last applied operation; 0 without one.
    pub(crate) fn seq(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.spaces.get(&keyspace).map_or(0, |space| space.heads.seq(author))
    }

    /// The states of the keyspaces that `changes` or `installs` touch, after the changes.
    pub(crate) fn states_after<'a>(
        &self,
        changes: &Changes,
        installs: impl IntoIterator<Item = &'a Install>,
    ) -> BTreeMap<KeyspaceId, SpaceState> {
        let of = |keyspace| {
            let space = self.spaces.get(&keyspace);
            space.map_or_else(SpaceState::default, |space| {
                let Space { fingerprint, keys, bytes, is_partial, .. } = *space;
                SpaceState { fingerprint, keys, bytes, is_partial }
            })
        };
        let installed = installs.into_iter().map(|install| (install.keyspace, of(install.keyspace)));
        let mut states: BTreeMap<KeyspaceId, SpaceState> = installed.collect();
        for (keyspace, delta) in &changes.deltas {
            let state = states.entry(*keyspace).or_insert_with(|| of(*keyspace));
            // A key that was never counted cannot cease to be; `check` would show it if it did.
            state.keys = state.keys.saturating_add_signed(delta.keys);
            state.bytes = state.bytes.saturating_add_signed(delta.bytes);
            state.fingerprint = state.fingerprint.plus(delta.fingerprint);
        }
        states
    }

    /// Makes a commit visible whose entries are in the active overlay, at the next moment.
    pub(crate) fn publish(&mut self, update: Update, names: Option<Names>, end: LogEnd, clock: Hlc) {
        self.moment += 1;
        (self.position, self.total_bytes) = (end.position, end.total_bytes);
        self.clock = self.clock.max(clock);
        if let Some(names) = names {
            for (_, keyspace, _) in names.held() {
                self.spaces.entry(keyspace).or_default();
            }
            self.spaces.retain(|keyspace, _| names.keyspace(*keyspace).is_some());
            if self.partial.iter().any(|keyspace| !self.spaces.contains_key(keyspace)) {
                self.partial = Arc::new(self.partial_spaces());
            }
            self.names = Arc::new(names);
        }
        for (keyspace, SpaceState { fingerprint, keys, bytes, is_partial }) in update.states {
            let space = self.spaces.entry(keyspace).or_default();
            (space.fingerprint, space.keys, space.bytes) = (fingerprint, keys, bytes);
            space.is_partial = is_partial;
            if is_partial != self.partial.contains(&keyspace) {
                let partial = Arc::make_mut(&mut self.partial);
                if is_partial {
                    partial.insert(keyspace)
                } else {
                    partial.remove(&keyspace)
                };
            }
        }
        self.raise_floors(&update.floors);
        for keyspace in update.expiring {
            self.spaces.entry(keyspace).or_default().has_deadlines = true;
        }
        for ((keyspace, author), head) in update.heads {
            let space = self.spaces.entry(keyspace).or_default();
            Arc::make_mut(&mut space.heads).advance(author, head);
        }
    }
}

impl Published {
    /// Takes in that frames may be missing from now on.
    pub(crate) fn raise_floors(&mut self, floors: &BTreeMap<(KeyspaceId, ReplicaId), u64>) {
        for ((keyspace, author), seq) in floors {
            let space = self.spaces.entry(*keyspace).or_default();
            Arc::make_mut(&mut space.floor).raise(Dot::new(*author, *seq));
        }
    }
}

/// The records of a batch, in their order.
pub(crate) fn recorded(batch: &Batch) -> Vec<Recorded<'_>> {
    let mut installs = batch.installs.iter().peekable();
    let mut records = Vec::with_capacity(batch.frames.len() + batch.installs.len());
    for (number, frame) in batch.frames.iter().enumerate() {
        while let Some((_, install)) = installs.next_if(|(before, _)| *before <= number) {
            records.push(Recorded::Install(install));
        }
        records.push(Recorded::Frame(frame));
    }
    records.extend(installs.map(|(_, install)| Recorded::Install(install)));
    records
}

fn put(entries: &mut Vec<(Vec<u8>, EntryValue)>, key: Vec<u8>, value: Vec<u8>) {
    let sealed = seal(&key, value);
    entries.push((key, Some(sealed.into())));
}

/// The engine names a keyspace before it writes to it.
pub(crate) fn number(names: &Names, keyspace: KeyspaceId) -> u32 {
    names.keyspace(keyspace).expect("a batch names its new keyspaces")
}

/// A row's author had a frame here, and its card came with that frame.
pub(crate) fn author_number(names: &Names, replica: ReplicaId) -> u32 {
    names.author(replica).expect("a batch holds the cards of its new authors")
}
