//! The modes of keyspaces, known beside the event loop.
//!
//! They say what may be answered there: from the rows of a strong keyspace nothing may, for a read of it has to wait for
//! the anchors. The loop publishes a mode after the commit that changed it and before it answers anybody in the new one,
//! so whoever was answered finds it here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use tidelock_engine::id::{Epoch, KeyspaceName, ReplicaId};
use tidelock_engine::mode::Mode;
use tidelock_engine::replica::Replica;

/// The mode of a keyspace, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceMode {
    /// The epoch: even is eventual, odd is strong.
    pub epoch: Epoch,
    /// Whether the epoch is about to end, and nothing is written here until it has.
    pub is_switching: bool,
    /// Whether this node is an anchor that has applied what is committed in a strong epoch, and nothing else.
    pub is_exact: bool,
    /// Whose the operations of a strong epoch are, on whichever node they are executed.
    pub author: Option<ReplicaId>,
}

impl KeyspaceMode {
    /// The mode in a word: `eventual`, `strong` or `switching`.
    pub fn word(&self) -> &'static str {
        match self {
            Self { is_switching: true, .. } => "switching",
            Self { epoch, .. } if epoch.is_strong() => "strong",
            Self { .. } => "eventual",
        }
    }
}

/// What the loop has published.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    /// Whether there is any that is not the first one: most nodes need not look further.
    is_any: AtomicBool,
    of: RwLock<BTreeMap<KeyspaceName, KeyspaceMode>>,
}

impl Modes {
    /// Those that a replica knows.
    pub(super) fn of(replica: &Replica) -> Self {
        let modes = Self::default();
        modes.publish_all(replica);
        modes
    }

    /// The mode of a keyspace.
    pub(crate) fn get(&self, keyspace: &KeyspaceName) -> KeyspaceMode {
        if !self.is_any.load(Ordering::Acquire) {
            return KeyspaceMode::default();
        }
        let of = self.of.read().unwrap_or_else(PoisonError::into_inner);
        of.get(keyspace).copied().unwrap_or_default()
    }

    /// Whether a keyspace is strong.
    pub(crate) fn is_strong(&self, keyspace: &KeyspaceName) -> bool {
        self.get(keyspace).epoch.is_strong()
    }

    /// The keyspaces that are strong.
    pub(crate) fn strong(&self) -> Vec<KeyspaceName> {
        let of = self.of.read().unwrap_or_else(PoisonError::into_inner);
        of.iter().filter(|(_, mode)| mode.epoch.is_strong()).map(|(name, _)| name.clone()).collect()
    }

    /// Publishes all modes that a replica knows.
    pub(super) fn publish_all(&self, replica: &Replica) {
        let modes = replica.modes().map(|(name, mode)| (name.clone(), of(mode))).collect();
        self.change(|published| *published = modes);
    }

    /// Publishes those of some keyspaces, as far as they are others than before: most changes are of what no reader
    /// looks at.
    pub(super) fn publish(&self, replica: &Replica, keyspaces: &[KeyspaceName]) {
        for name in keyspaces {
            let mode = replica.mode(replica.id_of(name)).map(of).unwrap_or_default();
            if self.get(name) != mode {
                self.change(|published| {
                    published.insert(name.clone(), mode);
                });
            }
        }
    }

    /// A keyspace is in another epoch, as no node makes it yet.
    #[cfg(test)]
    pub(crate) fn end(&self, keyspace: &KeyspaceName) {
        let ended = KeyspaceMode { epoch: Epoch(2), ..KeyspaceMode::default() };
        self.change(|published| {
            published.insert(keyspace.clone(), ended);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<KeyspaceName, KeyspaceMode>)) {
        let mut published = self.of.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut published);
        self.is_any.store(!published.is_empty(), Ordering::Release);
    }
}

fn of(mode: &Mode) -> KeyspaceMode {
    KeyspaceMode {
        epoch: mode.epoch(),
        is_switching: mode.is_fenced(),
        is_exact: mode.is_exact(),
        author: mode.author(),
    }
}
