//! What the network keeps of nodes and of the connections between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{SessionId, Target, TransportEvent};

/// One side of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: usize,
    pub(super) session: SessionId,
    /// When the last thing that is on its way arrives here.
    pub(super) last_at_us: u64,
    /// The messages on their way to this side or waiting there, and their bytes.
    pub(super) queued: usize,
    pub(super) queued_bytes: usize,
    /// The told messages on their way to this side or waiting there.
    pub(super) told: usize,
    /// When the last that was told of each class arrives here.
    pub(super) told_at_us: [u64; 3],
    /// Whether this side still hears of the session.
    pub(super) is_open: bool,
    /// Whether the connection broke: nothing arrives here any more but the news of it.
    pub(super) is_deaf: bool,
    /// Whether this side was told that the queue towards the other one is full.
    pub(super) is_refused: bool,
    /// What waits behind a partition.
    pub(super) held: Vec<TransportEvent>,
    pub(super) held_since_us: Option<u64>,
}

impl End {
    pub(super) const fn new(node: usize, session: SessionId) -> Self {
        Self {
            node,
            session,
            last_at_us: 0,
            queued: 0,
            queued_bytes: 0,
            told: 0,
            told_at_us: [0; 3],
            is_open: true,
            is_deaf: false,
            is_refused: false,
            held: Vec::new(),
            held_since_us: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
}

impl Connection {
    pub(super) fn side_of(&self, node: usize) -> Option<usize> {
        self.ends.iter().position(|end| end.node == node)
    }
}

/// A node as the network sees it.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) peer: PeerId,
    pub(super) address: String,
    pub(super) is_up: bool,
    /// With whom it wants to be connected, and when it dials next.
    pub(super) wishes: BTreeMap<Target, u64>,
    /// With whom it talks.
    pub(super) talking: BTreeSet<PeerId>,
    pub(super) inbox: VecDeque<TransportEvent>,
    pub(super) connections: BTreeSet<u64>,
}

impl Station {
    pub(super) fn new(peer: PeerId, address: String) -> Self {
        let (wishes, inbox, connections) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        Self { peer, address, is_up: false, wishes, talking: BTreeSet::new(), inbox, connections }
    }
}

/// What was sent, whether it arrived or not.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// All messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The messages that were told.
    pub told: u64,
    /// Their bytes.
    pub told_bytes: u64,
    /// The most messages that were queued on one session in one direction.
    pub queued_max: usize,
    /// The most bytes.
    pub queued_bytes_max: usize,
    /// The messages by variant, if they are wanted.
    pub by_name: Option<BTreeMap<&'static str, u64>>,
    /// Their bytes, if the messages are wanted.
    pub bytes_by_name: BTreeMap<&'static str, u64>,
}

impl Traffic {
    pub(super) fn queued(&mut self, messages: usize, bytes: usize) {
        self.queued_max = self.queued_max.max(messages);
        self.queued_bytes_max = self.queued_bytes_max.max(bytes);
    }

    pub(super) fn count(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        if let Some(by_name) = &mut self.by_name {
            let name = message_name(message);
            *by_name.entry(name).or_default() += 1;
            *self.bytes_by_name.entry(name).or_default() += message.len() as u64;
        }
    }
}

/// The names of the variants, in the order in which [`Message`](tidelock_engine::message::Message) has them.
const NAMES: [&str; 29] = [
    "hello",
    "goodbye",
    "keyspaces",
    "peers",
    "summary",
    "heads",
    "want",
    "answer",
    "push",
    "prune",
    "graft",
    "confirm",
    "confirmed",
    "held",
    "take",
    "taken",
    "compare",
    "compared",
    "tail",
    "tailed",
    "end take",
    "below",
    "left",
    "vouch",
    "vouched",
    "modes",
    "at",
    "ask",
    "told",
];

/// The variant of an encoded message, which is its first byte. What follows may be malformed.
pub fn message_name(bytes: &[u8]) -> &'static str {
    let first = bytes.first().map_or(usize::MAX, |first| usize::from(*first));
    NAMES.get(first).copied().unwrap_or("malformed")
}

/// Whether nothing but the connection that it comes by proves what a message says, and it is believed. What is signed, and
/// what is only a question, is damaged as a member could that means harm.
pub(super) fn rests_on_the_connection(message: &[u8]) -> bool {
    matches!(message_name(message), "at" | "ask" | "told")
}

#[cfg(test)]
mod tests {
    use tidelock_engine::id::KeyspaceId;
    use tidelock_engine::message::Message;

    use super::*;

    #[test]
    fn first_byte_of_a_message_tells_its_variant() {
        let keyspace = KeyspaceId::from_bytes([1; 16]);
        let goodbye = Message::Goodbye { reason: String::new() };
        let (cards, frames) = (Vec::new(), Vec::new());
        let messages = [
            (goodbye, "goodbye"),
            (Message::Summary { keyspace, heads: [0; 16], fingerprint: [0; 16] }, "summary"),
            (Message::Push { cards, frames }, "push"),
            (Message::Confirmed { keyspace, seq: 1 }, "confirmed"),
            (Message::Below { keyspace }, "below"),
            (Message::Told { number: 1, reply: Vec::new() }, "told"),
            (Message::Vouched { keyspace, number: 1, held: Vec::new() }, "vouched"),
        ];
        for (message, name) in messages {
            assert_eq!(message_name(&message.encode()), name);
        }
        assert_eq!(message_name(&[]), "malformed");
        assert_eq!(message_name(&[200]), "malformed");
    }
}
