//! The key of a group of anchors: what it says to others, it signs, and nobody else can say it.
//!
//! The founder draws the secret and says it in the group's log, so every anchor has it, and a signature says that some
//! anchor vouches for something, not which. Signing takes no random choice: all anchors that say the same make the same
//! bytes. A node takes the first key that it hears of for its cluster's, and from then on nothing that another one
//! signed. So a member that is no anchor can neither fence a keyspace nor invent members.
//!
//! What remains: an anchor that lies, and a member that a new node hears before it hears any anchor.

use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::causality::Dot;
use crate::frame::SigningKey;
use crate::id::{AuthorCard, ClusterId, Epoch, KeyspaceId, ReplicaId};
use crate::ports::{AnchorId, LogIndex};
use crate::roster::Roster;

/// What comes before everything that is signed, so that no signature says something else elsewhere.
const CONTEXT: &[u8] = b"tidelock anchors 1";

/// The secret key of a group. Its anchors have it, and nobody else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "[u8; 32]", into = "[u8; 32]")]
pub struct GroupSecret(SigningKey);

impl From<[u8; 32]> for GroupSecret {
    fn from(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_seed(seed))
    }
}

impl From<GroupSecret> for [u8; 32] {
    fn from(secret: GroupSecret) -> Self {
        secret.0.to_seed()
    }
}

impl PartialEq for GroupSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_seed() == other.0.to_seed()
    }
}

impl Eq for GroupSecret {}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSecret")
    }
}

/// The name of a group: its public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey([u8; 32]);

/// A group is named in texts by the first bytes of its key.
impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// That a group says something. What it says stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSignature {
    /// Which group.
    pub group: GroupKey,
    /// An ed25519 signature, in two halves.
    halves: [[u8; 32]; 2],
}

/// What a group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Statement<'a> {
    /// A strong epoch of a keyspace has begun so.
    Mode {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The epoch.
        epoch: Epoch,
        /// Where the one before it ended.
        frontier: &'a [Dot],
        /// The place of the entry that began it.
        index: LogIndex,
        /// What proves the author of its frames.
        card: AuthorCard,
    },
    /// These are its members.
    Members(&'a Roster),
    /// This store is one of its anchors.
    Invitation {
        /// Under this number.
        anchor: AnchorId,
        /// The store's replica. A store that was wiped is another one.
        replica: ReplicaId,
        /// The place of the members among which it is.
        index: LogIndex,
    },
}

impl Statement<'_> {
    fn bytes(&self, cluster: ClusterId) -> Vec<u8> {
        let start = [CONTEXT, cluster.as_bytes()].concat();
        postcard::to_extend(self, start).expect("writing to memory cannot fail")
    }
}

impl GroupSecret {
    /// The group's name.
    pub fn key(&self) -> GroupKey {
        GroupKey(*self.0.peer().public_key())
    }

    /// Says something in the name of the group.
    pub fn sign(&self, cluster: ClusterId, statement: &Statement<'_>) -> GroupSignature {
        let signature = self.0.sign(&statement.bytes(cluster));
        let mut halves = [[0; 32]; 2];
        let (first, second) = signature.split_at(32);
        halves[0].copy_from_slice(first);
        halves[1].copy_from_slice(second);
        GroupSignature { group: self.key(), halves }
    }
}

impl GroupSignature {
    /// Whether the group that it names says this.
    pub fn is_for(&self, cluster: ClusterId, statement: &Statement<'_>) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&self.group.0) else { return false };
        let [r, s] = self.halves;
        key.verify_strict(&statement.bytes(cluster), &Signature::from_components(r, s)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_for_one_statement_of_one_group_in_one_cluster() {
        let (one, other) = (GroupSecret::from([1; 32]), GroupSecret::from([2; 32]));
        let (here, there) = (ClusterId::named("here"), ClusterId::named("there"));
        let invitation = |number| Statement::Invitation {
            anchor: AnchorId(number),
            replica: ReplicaId::from_bytes([3; 16]),
            index: LogIndex(4),
        };
        let signature = one.sign(here, &invitation(1));
        assert!(signature.is_for(here, &invitation(1)));
        assert_eq!(signature, one.sign(here, &invitation(1)), "the same bytes again");
        assert!(!signature.is_for(there, &invitation(1)));
        assert!(!signature.is_for(here, &invitation(2)));
        let claimed = GroupSignature { group: one.key(), ..other.sign(here, &invitation(1)) };
        assert!(!claimed.is_for(here, &invitation(1)));
        assert_eq!(format!("{one:?}"), "GroupSecret");
    }
}
