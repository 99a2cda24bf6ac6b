//! When to send what was published, and what becomes of what arrives. Runs in the swarm's task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::gossipsub::{MessageAcceptance, MessageId, PublishError};
use libp2p::identity::Keypair;
use tidelock_engine::id::PeerId;

use super::authors::{Authors, BYTES_PER_SECOND, Judged};
use super::behaviour::Gossip;
use super::envelope::{Envelope, encode_body, signed_bytes};
use super::pace::Pace;
use super::post::{Drop, Post};

/// How often an envelope is sent at most. The first message after a pause goes at once; what is published in
/// the time after it goes together, so that the price of an envelope is shared.
const SEND_EVERY: Duration = Duration::from_millis(5);

/// What is sent at once, as time at the pace of bytes.
const BURST: Duration = Duration::from_millis(250);

/// An envelope that gossipsub saw for the first time.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Who brought it.
    pub(crate) from: libp2p::PeerId,
    pub(crate) id: MessageId,
    pub(crate) bytes: Vec<u8>,
}

/// One node's sending and judging.
pub(crate) struct Station {
    post: Arc<Post>,
    key: Keypair,
    local: PeerId,
    session: u64,
    number: u64,
    sent_at: Option<Instant>,
    bytes: Pace,
    authors: Authors,
}

impl Station {
    pub(crate) fn new(post: Arc<Post>, key: Keypair, local: PeerId, session: u64) -> Self {
        let authors = Authors::new(post.topic.clone());
        let bytes = Pace::new(BYTES_PER_SECOND / 2, BURST, Instant::now());
        Self { post, key, local, session, number: 0, sent_at: None, bytes, authors }
    }

    /// Sends what is due, and delivers what waited in vain for what should come before it.
    pub(crate) fn work(&mut self, now: Instant, gossip: &mut Gossip) {
        if self.send_at().is_some_and(|at| at <= now) {
            self.send(now, gossip);
        }
        let mut deliveries = Vec::new();
        self.authors.give_up(now, &mut deliveries);
        deliveries.into_iter().for_each(|(author, messages)| self.post.deliver(author, messages));
    }

    /// When there is something to do, if nothing happens before.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        [self.send_at(), self.authors.next_due()].into_iter().flatten().min()
    }

    /// Judges what arrived, delivers it, and lets gossipsub pass it on or not.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        incoming: &Incoming,
        may_enter: impl FnOnce(PeerId) -> bool,
        gossip: &mut Gossip,
    ) {
        let judged = self.judge(now, &incoming.bytes, may_enter);
        let acceptance = match judged {
            Judged::Passed => MessageAcceptance::Accept,
            Judged::Ignored(_) => MessageAcceptance::Ignore,
            Judged::Rejected(_) => MessageAcceptance::Reject,
        };
        if let Judged::Ignored(reason) | Judged::Rejected(reason) = judged {
            self.post.note_dropped(reason, 1);
        }
        gossip.judged(incoming, acceptance);
    }

    fn judge(&mut self, now: Instant, bytes: &[u8], may_enter: impl FnOnce(PeerId) -> bool) -> Judged {
        let Some(envelope) = Envelope::decode(bytes) else { return Judged::Rejected(Drop::Malformed) };
        if envelope.author == self.local {
            // Our own come back when gossipsub has forgotten them; of an earlier session, from whoever kept one.
            return Judged::Ignored(Drop::Late);
        }
        if !may_enter(envelope.author) {
            return Judged::Ignored(Drop::Stranger);
        }
        let mut deliveries = Vec::new();
        let judged = self.authors.judge(now, &envelope, bytes.len(), &mut deliveries);
        deliveries.into_iter().for_each(|(author, messages)| self.post.deliver(author, messages));
        judged
    }

    fn send_at(&self) -> Option<Instant> {
        if !self.post.has_published() {
            return None;
        }
        let after_last = self.sent_at.map(|at| at + SEND_EVERY);
        Some(after_last.map_or(self.bytes.ready_at(), |at| at.max(self.bytes.ready_at())))
    }

    fn send(&mut self, now: Instant, gossip: &mut Gossip) {
        let messages = self.post.take_published();
        let mut bytes = encode_body(self.local, self.session, self.number, &messages);
        let signature = self.key.sign(&signed_bytes(&self.post.topic, &bytes));
        bytes.extend(signature.expect("an ed25519 key signs anything"));
        let length = bytes.len();
        match gossip.publish(bytes) {
            Ok(()) => {
                self.post.note_sent(messages.len());
                self.bytes.spend(now, length);
            }
            Err(PublishError::NoPeersSubscribedToTopic) => {
                // The number is free for the next one, so that nobody waits for this.
                self.post.note_dropped(Drop::Alone, messages.len() as u64);
                return;
            }
            Err(PublishError::AllQueuesFull(peers)) => self.post.note_dropped(Drop::PeerSlow, peers as u64),
            Err(error) => tracing::error!(%error, "an envelope was not sent"),
        }
        self.number += 1;
        self.sent_at = Some(now);
    }
}
