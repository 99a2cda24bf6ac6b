//! What is no message, or not now, or not here: whoever hears it hangs up.

use tidelock_engine::id::ClusterId;
use tidelock_engine::message::{FrameBytes, Message, PROTOCOL_VERSION};
use tidelock_engine::ports::SessionId;

use super::forging::Forger;
use super::{Behaviour, Hostile};
use crate::world::{NOTES, keyspace_id};

impl Hostile {
    /// Begins a session as nobody may; answers whether it did.
    pub(super) fn greet_badly(&mut self, session: SessionId) -> bool {
        let mut hello = self.hello();
        let message = match self.random.below(12) {
            0 => Message::Graft { keyspace: keyspace_id(NOTES) },
            1 => {
                hello.protocol = PROTOCOL_VERSION + 1;
                Message::Hello(hello)
            }
            2 => {
                hello.cluster = ClusterId::named("another world");
                Message::Hello(hello)
            }
            3 => {
                hello.card.public_key[0] ^= 1;
                Message::Hello(hello)
            }
            _ => return false,
        };
        self.tally.count(Behaviour::SendsGarbage.name());
        self.tally.count("bad greetings");
        self.say(session, &message);
        true
    }

    /// Says something in the middle of a session that ends it.
    pub(super) fn send_garbage(&mut self, session: SessionId) {
        let bytes = match self.random.below(6) {
            0 => (0..=self.random.below(200)).map(|_| self.random.next().to_le_bytes()[0]).collect(),
            1 => Message::Hello(self.hello()).encode(),
            2 => announced_list(),
            3 => {
                let mut whole = self.badly_signed();
                whole.truncate(self.random.below(whole.len()));
                whole
            }
            4 => Message::Push { cards: Vec::new(), frames: vec![FrameBytes(vec![1, 2, 3])] }.encode(),
            _ => self.badly_signed(),
        };
        self.tally.count(Behaviour::SendsGarbage.name());
        self.utter(session, bytes);
    }

    /// A frame of ours in which a bit of a value or of the signature is another.
    fn badly_signed(&mut self) -> Vec<u8> {
        let mut forger = Forger::new(&self.key, super::REPLICAS_MAX);
        // It is nobody's next frame, so that a bit that happens to mean nothing does no harm either.
        forger.next = 1_000_000;
        let mut bytes = forger.set("evil-garbage", "value").bytes().to_vec();
        let at = bytes.len() - 1 - self.random.below(66);
        bytes[at] ^= 1 << self.random.below(8);
        Message::Push { cards: vec![forger.card], frames: vec![FrameBytes(bytes)] }.encode()
    }
}

/// A few bytes that announce heads by the billion.
fn announced_list() -> Vec<u8> {
    let heads = Message::Heads { keyspace: keyspace_id(NOTES), entries: Vec::new() }.encode();
    let mut bytes = heads[..heads.len() - 1].to_vec();
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    bytes
}
