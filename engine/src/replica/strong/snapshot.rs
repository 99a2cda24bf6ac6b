//! Snapshots for the group of anchors: the modes, and how far the log was applied. Rows are not in them: who takes one
//! over follows, and gets its rows from peers like anybody.

use serde::{Deserialize, Serialize};

use super::{Ask, Strong};
use crate::bounded::list;
use crate::group_key::GroupSecret;
use crate::id::KeyspaceName;
use crate::message::KEYSPACES_MAX;
use crate::mode::{Mode, Standing};
use crate::ports::{Durability, LogIndex, Token};
use crate::replica::{Replica, Step};

/// The version of a snapshot's bytes.
const SNAPSHOT_VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u8,
    applied: LogIndex,
    /// How the group is known, and how many voters it is to have.
    secret: Option<GroupSecret>,
    wanted: Option<u8>,
    #[serde(deserialize_with = "list::<KEYSPACES_MAX, _, _>")]
    modes: Vec<SnapshotMode>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotMode {
    name: KeyspaceName,
    #[serde(with = "serde_bytes")]
    mode: Vec<u8>,
}

impl Strong {
    pub(super) fn applied_at_least(&self, index: LogIndex) -> bool {
        self.applied.max(self.status.applied) >= Some(index)
    }
}

impl Replica {
    /// The modes as they are, now that the log is applied so far.
    pub(super) fn build_snapshot(&self, applied: Option<LogIndex>) -> Vec<u8> {
        let modes = self.strong.modes.values();
        let modes = modes.map(|(name, mode)| SnapshotMode { name: name.clone(), mode: mode.encode() });
        let applied = applied.unwrap_or_default();
        let (secret, wanted) = (self.strong.known.secret.clone(), self.strong.known.wanted);
        let modes = modes.collect();
        let snapshot = Snapshot { version: SNAPSHOT_VERSION, applied, secret, wanted, modes };
        postcard::to_stdvec(&snapshot).expect("writing to memory cannot fail")
    }

    /// Takes over a snapshot, whole or not at all. What is behind it was not seen here, so every strong keyspace is
    /// followed from then on.
    pub(super) fn install_snapshot(
        &mut self,
        token: Token,
        (bytes, record): (&[u8], Vec<u8>),
        step: &mut Step,
    ) {
        let result = read_snapshot(bytes).map(|(Snapshot { applied, secret, wanted, .. }, modes)| {
            let known = &mut self.strong.known;
            known.key = secret.as_ref().map(GroupSecret::key).or(known.key);
            (known.secret, known.wanted) = (secret, wanted);
            self.strong.remember(step);
            self.strong.applied = Some(applied);
            self.strong.missed.clear();
            for (name, mode) in modes {
                let id = self.id_of(&name);
                self.seal(id, step);
                self.change_mode(id, Some(&name), |own| {
                    *own = mode;
                    own.stand(Standing::Behind { missed: applied });
                    true
                });
                if self.open_keyspace(&name, step).is_err() {
                    self.counters.count("strong_keyspaces_not_here");
                }
                self.strong.untold.insert(id);
            }
            step.raft_applied = Some(record);
            step.durability = Some(Durability::Durable);
        });
        step.asks.push(Ask::Installed { token, result });
    }
}

fn read_snapshot(bytes: &[u8]) -> Result<(Snapshot, Vec<(KeyspaceName, Mode)>), String> {
    let (mut snapshot, rest) =
        postcard::take_from_bytes::<Snapshot>(bytes).map_err(|error| error.to_string())?;
    if snapshot.version != SNAPSHOT_VERSION || !rest.is_empty() {
        return Err(format!(
            "a snapshot of version {}, and here {SNAPSHOT_VERSION} is known",
            snapshot.version
        ));
    }
    let modes = std::mem::take(&mut snapshot.modes)
        .into_iter()
        .map(|SnapshotMode { name, mode }| Ok((name, Mode::decode(&mode)?)));
    let modes = modes.collect::<Result<_, crate::mode::ModeError>>().map_err(|error| error.to_string())?;
    Ok((snapshot, modes))
}
