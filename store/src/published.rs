//! What readers see: one moment, and everything that changes together with it.
//!
//! A commit prepares its entries beside the readers and then publishes: moment, position, names and the states
//! of keyspaces change under one short lock. Nothing of a commit that failed is ever published.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelock_engine::causality::{Head, Heads, Hlc};
use tidelock_engine::draft::Changes;
use tidelock_engine::frame::Frame;
use tidelock_engine::id::{AuthorCard, KeyspaceId, ReplicaId};
use tidelock_engine::ports::{Fork, KeyspaceState, LogPosition};
use tidelock_engine::row::Fingerprint;

use crate::key;
use crate::names::Names;
use crate::overlay::{EntryValue, Moment};
use crate::schema::{head_value, seal, state_value};
use crate::view::{Generation, View};

/// The state of a keyspace in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) keys: u64,
    /// Shared with readers; a commit copies them only while one holds them.
    pub(crate) heads: Arc<Heads>,
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
    /// The highest clock of any batch.
    pub(crate) clock: Hlc,
    pub(crate) names: Arc<Names>,
    /// One for each keyspace of `names`.
    pub(crate) spaces: BTreeMap<KeyspaceId, Space>,
}

/// What a commit changes of [`Published`], and the entries that go with it.
#[derive(Debug)]
pub(crate) struct Update {
    /// Entries of `rows.redb`, sealed.
    pub(crate) entries: Vec<(Vec<u8>, EntryValue)>,
    /// Fingerprint and keys of the keyspaces that changed.
    states: BTreeMap<KeyspaceId, (Fingerprint, u64)>,
    /// The new heads.
    heads: BTreeMap<(KeyspaceId, ReplicaId), Head>,
}

impl Update {
    /// What a commit of `frames` changes, whose effects are `changes`, and which leads to `states`. `names`
    /// holds the new names too.
    pub(crate) fn new(
        names: &Names,
        frames: &[Frame],
        changes: &Changes,
        states: BTreeMap<KeyspaceId, (Fingerprint, u64)>,
    ) -> Self {
        let mut update = Self { entries: Vec::new(), states, heads: BTreeMap::new() };
        for frame in frames {
            let header = frame.header();
            let head = Head { seq: header.last(), frame: frame.id() };
            update.heads.insert((header.keyspace, header.author), head);
        }
        for (keyspace, (fingerprint, keys)) in &update.states {
            let key = key::state(number(names, *keyspace));
            put(&mut update.entries, key, state_value(*fingerprint, *keys));
        }
        for ((keyspace, author), head) in &update.heads {
            let key = key::head(number(names, *keyspace), author_number(names, *author));
            put(&mut update.entries, key, head_value(*head));
        }
        for ((keyspace, key, kind), members) in &changes.members {
            let key = key::members(number(names, *keyspace), key, *kind);
            match members {
                0 => update.entries.push((key, None)),
                _ => put(&mut update.entries, key, members.to_be_bytes().to_vec()),
            }
        }
        for ((keyspace, row), change) in &changes.rows {
            let key = key::row(number(names, *keyspace), row, author_number(names, row.dot.replica));
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
}

impl Published {
    pub(crate) fn view(&self) -> View {
        View { generation: Arc::clone(&self.generation), moment: self.moment, names: Arc::clone(&self.names) }
    }

    pub(crate) fn state(&self, keyspace: KeyspaceId) -> Option<KeyspaceState> {
        let Space { fingerprint, heads, .. } = self.spaces.get(&keyspace)?;
        Some(KeyspaceState { fingerprint: *fingerprint, heads: Heads::clone(heads) })
    }

    /// The seq of an author's last applied operation; 0 without one.
    pub(crate) fn seq(&self, keyspace: KeyspaceId, author: ReplicaId) -> u64 {
        self.spaces.get(&keyspace).map_or(0, |space| space.heads.seq(author))
    }

    /// Fingerprint and keys of the keyspaces that `changes` touch, after them.
    pub(crate) fn states_after(&self, changes: &Changes) -> BTreeMap<KeyspaceId, (Fingerprint, u64)> {
        let deltas = changes.deltas.iter().map(|(keyspace, delta)| {
            let space = self.spaces.get(keyspace);
            let (fingerprint, keys) =
                space.map_or_else(Default::default, |space| (space.fingerprint, space.keys));
            // A key that was never counted cannot cease to be; `check` would show it if it did.
            let keys = keys.saturating_add_signed(delta.keys);
            (*keyspace, (fingerprint.plus(delta.fingerprint), keys))
        });
        deltas.collect()
    }

    /// Makes a commit visible whose entries are in the active overlay, at the next moment.
    pub(crate) fn publish(
        &mut self,
        update: Update,
        names: Option<Names>,
        position: LogPosition,
        clock: Hlc,
    ) {
        self.moment += 1;
        self.position = position;
        self.clock = self.clock.max(clock);
        if let Some(names) = names {
            for (keyspace, _) in &names.keyspaces()[self.spaces.len()..] {
                self.spaces.entry(*keyspace).or_default();
            }
            self.names = Arc::new(names);
        }
        for (keyspace, (fingerprint, keys)) in update.states {
            let space = self.spaces.entry(keyspace).or_default();
            (space.fingerprint, space.keys) = (fingerprint, keys);
        }
        for ((keyspace, author), head) in update.heads {
            let space = self.spaces.entry(keyspace).or_default();
            Arc::make_mut(&mut space.heads).advance(author, head);
        }
    }
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
