//! The short numbers that stand for authors and keyspaces in the files of this store.
//!
//! Numbers are given once, in the order of arrival, and never change their meaning: who reads an old snapshot
//! may use newer names. A name appears here only after the commit that made it durable with its first frame.
//! A keyspace that was left keeps its number, for what of it is still there, and for when it is joined again.

use std::collections::BTreeMap;

use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, ReplicaId};
use tidelock_engine::ports::{Choice, Settings};

use crate::blocks::{AUTHORS_PER_BLOCK, block_of};

/// What is there of a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of it.
    #[default]
    Held,
    /// Rows and records that nobody reads any more: it was left.
    Dropping,
    /// Nothing.
    Dropped,
}

/// What is remembered of a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) fate: Fate,
    pub(crate) settings: Settings,
}

/// The authors and keyspaces that the log names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cluster: ClusterId,
    authors: Vec<(ReplicaId, AuthorCard)>,
    by_replica: BTreeMap<ReplicaId, u32>,
    keyspaces: Vec<(KeyspaceId, KeyspaceName)>,
    by_keyspace: BTreeMap<KeyspaceId, u32>,
    /// By number, of the keyspaces of which there is something to remember.
    remembered: BTreeMap<u32, Remembered>,
}

impl Names {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        let (authors, by_replica) = (Vec::new(), BTreeMap::new());
        let (keyspaces, by_keyspace, remembered) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { cluster, authors, by_replica, keyspaces, by_keyspace, remembered }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The number of an author, if there is a card of it.
    pub(crate) fn author(&self, replica: ReplicaId) -> Option<u32> {
        self.by_replica.get(&replica).copied()
    }

    pub(crate) fn replica(&self, author: u32) -> Option<ReplicaId> {
        Some(self.authors.get(usize::try_from(author).ok()?)?.0)
    }

    pub(crate) fn card(&self, replica: ReplicaId) -> Option<AuthorCard> {
        let author = usize::try_from(self.author(replica)?).ok()?;
        Some(self.authors[author].1)
    }

    /// The authors of a block, in order of their numbers; the last block has room for more.
    pub(crate) fn block(&self, block: u32) -> &[(ReplicaId, AuthorCard)] {
        self.authors.chunks(AUTHORS_PER_BLOCK as usize).nth(block as usize).unwrap_or_default()
    }

    /// The block that the next author begins; `None` if there is room in the last one.
    pub(crate) fn next_block(&self) -> Option<u32> {
        let number = next(self.authors.len());
        number.is_multiple_of(AUTHORS_PER_BLOCK).then(|| block_of(number))
    }

    /// The number of a keyspace that is held.
    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<u32> {
        self.by_keyspace.get(&id).copied().filter(|number| self.is_held(*number))
    }

    /// The keyspaces in order of their numbers, from 0, also those that were left.
    pub(crate) fn keyspaces(&self) -> &[(KeyspaceId, KeyspaceName)] {
        &self.keyspaces
    }

    /// The keyspaces that are held, with their numbers.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u32, KeyspaceId, &KeyspaceName)> {
        let numbered = (0..).zip(&self.keyspaces).map(|(number, (id, name))| (number, *id, name));
        numbered.filter(|(number, ..)| self.is_held(*number))
    }

    pub(crate) fn is_held(&self, number: u32) -> bool {
        self.remembered(number).fate == Fate::Held
    }

    /// The keyspaces that were left and of which something is still there.
    pub(crate) fn dropping(&self) -> Vec<(u32, KeyspaceId)> {
        let left = self.remembered.iter().filter(|(_, of)| of.fate == Fate::Dropping);
        let numbers = left.map(|(number, _)| *number);
        numbers.filter_map(|number| Some((number, self.keyspaces.get(number as usize)?.0))).collect()
    }

    pub(crate) fn is_dropping(&self, id: KeyspaceId) -> bool {
        let number = self.by_keyspace.get(&id).copied();
        number.is_some_and(|number| self.remembered(number).fate == Fate::Dropping)
    }

    /// What is remembered of a keyspace.
    pub(crate) fn remembered(&self, number: u32) -> Remembered {
        self.remembered.get(&number).copied().unwrap_or_default()
    }

    pub(crate) fn settings(&self, id: KeyspaceId) -> Settings {
        let number = self.by_keyspace.get(&id).copied();
        number.map(|number| self.remembered(number).settings).unwrap_or_default()
    }

    /// What is remembered of all keyspaces of which there is something.
    pub(crate) fn all_settings(&self) -> BTreeMap<KeyspaceName, Settings> {
        let named = |(number, of): (&u32, &Remembered)| {
            let (_, name) = self.keyspaces.get(*number as usize)?;
            Some((name.clone(), of.settings))
        };
        self.remembered.iter().filter_map(named).collect()
    }

    /// Takes in what is remembered of a keyspace that has a number.
    pub(crate) fn remember(&mut self, number: u32, remembered: Remembered) {
        self.remembered.insert(number, remembered);
    }

    /// Takes in what the engine has settled for a keyspace: one that is left is held no more. Answers its number.
    pub(crate) fn settle(&mut self, name: &KeyspaceName, settings: Settings) -> u32 {
        self.add_keyspace(name.clone());
        let number = self.by_keyspace[&KeyspaceId::of(self.cluster, name)];
        let was = self.remembered(number).fate;
        let is_left = settings.choice == Some(Choice::Leave) && was == Fate::Held;
        self.remember(number, Remembered { fate: if is_left { Fate::Dropping } else { was }, settings });
        number
    }

    /// Holds a keyspace from now on that is new, or was left before and dropped. Answers its number, if it was not
    /// held before.
    pub(crate) fn hold(&mut self, name: &KeyspaceName) -> Option<u32> {
        if let Some(number) = self.add_keyspace(name.clone()) {
            return Some(number);
        }
        let number = self.by_keyspace[&KeyspaceId::of(self.cluster, name)];
        let Remembered { fate, settings } = self.remembered(number);
        assert!(fate != Fate::Dropping, "a keyspace is joined again when all of it was dropped");
        self.remember(number, Remembered { fate: Fate::Held, settings });
        (fate == Fate::Dropped).then_some(number)
    }

    /// Gives the next number to an author; `None` if it has one.
    pub(crate) fn add_author(&mut self, card: AuthorCard) -> Option<u32> {
        let replica = card.replica();
        if self.by_replica.contains_key(&replica) {
            return None;
        }
        let number = next(self.authors.len());
        self.authors.push((replica, card));
        self.by_replica.insert(replica, number);
        Some(number)
    }

    /// Gives the next number to a keyspace; `None` if it has one.
    pub(crate) fn add_keyspace(&mut self, name: KeyspaceName) -> Option<u32> {
        let id = KeyspaceId::of(self.cluster, &name);
        if self.by_keyspace.contains_key(&id) {
            return None;
        }
        let number = next(self.keyspaces.len());
        self.keyspaces.push((id, name));
        self.by_keyspace.insert(id, number);
        Some(number)
    }

    /// What was added since there were so many authors and keyspaces.
    pub(crate) fn added_since(&self, (authors, keyspaces): (usize, usize)) -> AddedNames<'_> {
        let blocks = match self.authors.len() {
            count if count > authors => block_of(next(authors))..block_of(next(count - 1)) + 1,
            _ => 0..0,
        };
        AddedNames {
            blocks: blocks.map(|block| (block, self.block(block))).collect(),
            keyspaces: (next(keyspaces)..)
                .zip(self.keyspaces[keyspaces..].iter().map(|(_, name)| name))
                .collect(),
        }
    }

    /// The number of authors and of keyspaces.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.authors.len(), self.keyspaces.len())
    }
}

/// Names that are not in the log yet.
#[derive(Debug, Default)]
pub(crate) struct AddedNames<'a> {
    /// The blocks of authors that have new ones, whole.
    pub(crate) blocks: Vec<(u32, &'a [(ReplicaId, AuthorCard)])>,
    pub(crate) keyspaces: Vec<(u32, &'a KeyspaceName)>,
}

fn next(count: usize) -> u32 {
    u32::try_from(count).expect("a store has fewer than 2^32 authors and keyspaces")
}
