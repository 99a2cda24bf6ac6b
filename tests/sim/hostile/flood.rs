//! Too much of what is allowed: every message that can be said often, said often.

use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};
use tidelock_engine::message::{HeadEntry, Message, PEER_RECORDS_MAX, PeerRecord, WantEntry};
use tidelock_engine::ports::SessionId;

use super::{Behaviour, Hostile};
use crate::world::{NOTES, keyspace_id, named};

/// The messages of one flood.
const MESSAGES: (u64, u64) = (10, 50);

/// The keyspaces that random floods invent. A story invents as many as there can be.
const KEYSPACES: usize = 40;

impl Hostile {
    /// Sends one kind of message many times.
    pub(super) fn flood(&mut self, session: SessionId) {
        let kind = self.random.below(8);
        let count = self.random.between(MESSAGES.0, MESSAGES.1);
        self.tally.count(Behaviour::Floods.name());
        for _ in 0..count {
            let message = self.drop_in_the_flood(kind);
            self.tally.count("messages of floods");
            self.say(session, &message);
        }
    }

    fn drop_in_the_flood(&mut self, kind: usize) -> Message {
        let keyspace = keyspace_id(NOTES);
        let random = &mut self.random;
        let entropy = random.next();
        let half = entropy.to_be_bytes();
        match kind {
            0 => {
                let after = self.promises.authors().map(|author| WantEntry { author, after: 0 }).collect();
                Message::Want { keyspace, after }
            }
            1 => {
                let head = |n: u64| HeadEntry { author: nobody(entropy ^ n), seq: 1 + n, frame: half };
                Message::Heads { keyspace, entries: (0..20).map(head).collect() }
            }
            2 => {
                let name = |_| -> KeyspaceName { named(&format!("evil-{}", random.below(KEYSPACES))) };
                Message::Keyspaces((0..3).map(name).collect())
            }
            3 => {
                let record = |n: usize| nowhere(entropy ^ n as u64);
                Message::Peers((0..PEER_RECORDS_MAX).map(record).collect())
            }
            4 => Message::Prune { keyspace },
            5 => Message::Graft { keyspace },
            6 => Message::Confirm { keyspace, seq: entropy },
            _ => {
                let hash = (u128::from(entropy) << 64 | u128::from(!entropy)).to_be_bytes();
                Message::Summary { keyspace, heads: hash, fingerprint: hash }
            }
        }
    }
}

/// An author that there is not.
pub(super) fn nobody(number: u64) -> ReplicaId {
    ReplicaId::from_bytes((u128::from(number) << 64 | 0xbad).to_be_bytes())
}

/// A peer that there is not.
pub(super) fn nowhere(number: u64) -> PeerRecord {
    let mut key = [0xbd; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let addresses = vec![format!("nowhere/{number:x}")];
    PeerRecord { peer: PeerId::from_public_key(key), addresses, age_s: 0, keyspaces: Vec::new() }
}
