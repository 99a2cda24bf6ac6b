//! What was said once is said again, to anybody, in any session.

use tidelock_engine::message::Message;
use tidelock_engine::ports::{SessionId, Transport};

use super::{Behaviour, Hostile};
use crate::random::Random;

/// The messages that are remembered.
const RECORDED_MAX: usize = 300;

/// Messages that were heard and said.
#[derive(Debug, Default)]
pub(super) struct Recording(Vec<Vec<u8>>);

impl Recording {
    /// Remembers a message; of many, a random selection of old and new ones.
    pub(super) fn take(&mut self, bytes: &[u8], random: &mut Random) {
        if matches!(Message::decode(bytes), Ok(Message::Hello(_) | Message::Goodbye { .. })) {
            return;
        }
        if self.0.len() < RECORDED_MAX {
            self.0.push(bytes.to_vec());
        } else {
            let at = random.below(RECORDED_MAX);
            self.0[at] = bytes.to_vec();
        }
    }
}

impl Hostile {
    /// Says a few old things.
    pub(super) fn replay(&mut self, session: SessionId) {
        for _ in 0..=self.random.below(5) {
            if self.recording.0.is_empty() {
                return;
            }
            let bytes = self.random.pick(&self.recording.0).clone();
            self.tally.count(Behaviour::Replays.name());
            let _ = self.wire.send(session, bytes);
        }
    }
}
