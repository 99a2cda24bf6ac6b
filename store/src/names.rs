//! The short numbers that stand for authors and keyspaces in the files of this store.
//!
//! Numbers are given once, in the order of arrival, and never change their meaning: who reads an old snapshot
//! may use newer names. A name appears here only after the commit that made it durable with its first frame.

use std::collections::BTreeMap;

use tidelock_engine::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName, ReplicaId};

/// The authors and keyspaces that the log names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    cluster: ClusterId,
    authors: Vec<(ReplicaId, AuthorCard)>,
    by_replica: BTreeMap<ReplicaId, u32>,
    keyspaces: Vec<(KeyspaceId, KeyspaceName)>,
    by_keyspace: BTreeMap<KeyspaceId, u32>,
}

impl Names {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        let (authors, by_replica) = (Vec::new(), BTreeMap::new());
        Self { cluster, authors, by_replica, keyspaces: Vec::new(), by_keyspace: BTreeMap::new() }
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

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<u32> {
        self.by_keyspace.get(&id).copied()
    }

    /// The keyspaces in order of their numbers, from 0.
    pub(crate) fn keyspaces(&self) -> &[(KeyspaceId, KeyspaceName)] {
        &self.keyspaces
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

    /// Gives numbers to all that have none.
    pub(crate) fn extend(&mut self, cards: &[AuthorCard], keyspaces: &[KeyspaceName]) {
        for card in cards {
            self.add_author(*card);
        }
        for name in keyspaces {
            self.add_keyspace(name.clone());
        }
    }

    /// What was added since there were so many authors and keyspaces.
    pub(crate) fn added_since(&self, (authors, keyspaces): (usize, usize)) -> AddedNames<'_> {
        AddedNames {
            cards: (next(authors)..).zip(self.authors[authors..].iter().map(|(_, card)| card)).collect(),
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
    pub(crate) cards: Vec<(u32, &'a AuthorCard)>,
    pub(crate) keyspaces: Vec<(u32, &'a KeyspaceName)>,
}

fn next(count: usize) -> u32 {
    u32::try_from(count).expect("a store has fewer than 2^32 authors and keyspaces")
}
