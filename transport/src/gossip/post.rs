//! The queues between whoever publishes and hears, and the swarm's task; and what is counted of both.
//!
//! Both are bounded by bytes. What does not fit is dropped and counted: nobody waits for anybody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tidelock_engine::id::PeerId;
use tokio::sync::Notify;

use super::envelope::{LENGTH_BYTES, MESSAGE_BYTES_MAX, MESSAGES_MAX};

/// What may wait to be sent, in bytes, with [`COST_BYTES`] for each message.
const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// What may wait to be heard, in bytes, with [`COST_BYTES`] for each message.
const INBOX_BYTES_MAX: usize = 16 << 20;

/// What a queued message costs beside its bytes.
const COST_BYTES: usize = 64;

/// Why a message was not taken. It reaches no peer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GossipError {
    /// It is longer than any message may be.
    #[error("a message of {bytes} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// How long it is, in bytes.
        bytes: usize,
    },
    /// More is published than can be sent.
    #[error("{OUTBOX_BYTES_MAX} bytes of messages wait to be sent already")]
    Full,
}

/// A message of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who published it; it has signed for that.
    pub author: PeerId,
    /// The message.
    pub message: Vec<u8>,
}

/// Why messages or envelopes were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    /// Own messages: more were published than can be sent.
    OutboxFull,
    /// Own messages: no peer was there.
    Alone,
    /// Envelopes to a peer that did not take them in time.
    PeerSlow,
    /// Messages of peers: this node did not take them in time.
    InboxFull,
    /// Envelopes: more from one connection than it may bring.
    LinkPace,
    /// Envelopes: more from one author than it may send.
    AuthorPace,
    /// Envelopes: bytes that are none, of another topic, or too many.
    Malformed,
    /// Envelopes: the signature is not the author's.
    Forged,
    /// Envelopes: this node would not let the author in.
    Stranger,
    /// Envelopes: doubled, or overtaken for too long.
    Late,
}

/// The reasons as they are told, in the order of the variants.
const REASONS: [&str; 10] = [
    "outbox_full",
    "alone",
    "peer_slow",
    "inbox_full",
    "link_pace",
    "author_pace",
    "malformed",
    "forged",
    "stranger",
    "late",
];

/// What gossip has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GossipFigures {
    /// Own messages that were sent.
    pub messages_sent: u64,
    /// Envelopes that they were sent in.
    pub envelopes_sent: u64,
    /// Messages of peers that were passed to this node.
    pub messages_heard: u64,
    /// Envelopes that they came in.
    pub envelopes_heard: u64,
    /// What was dropped, by reason: messages for `outbox_full`, `alone` and `inbox_full`, else envelopes.
    pub dropped: Vec<(&'static str, u64)>,
}

#[derive(Debug, Default)]
struct Counters {
    messages_sent: AtomicU64,
    envelopes_sent: AtomicU64,
    messages_heard: AtomicU64,
    envelopes_heard: AtomicU64,
    dropped: [AtomicU64; REASONS.len()],
}

/// The queues of one node.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) topic: String,
    outbox: Mutex<Queue<Vec<u8>>>,
    /// Rung when the outbox begins to hold something.
    pub(crate) published: Notify,
    inbox: Mutex<Queue<Heard>>,
    arrived: Notify,
    is_closed: AtomicBool,
    counters: Counters,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    bytes: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Post {
    pub(crate) fn new(topic: String) -> Arc<Self> {
        Arc::new(Self {
            topic,
            outbox: Mutex::new(Queue { items: VecDeque::new(), bytes: 0 }),
            published: Notify::new(),
            inbox: Mutex::new(Queue { items: VecDeque::new(), bytes: 0 }),
            arrived: Notify::new(),
            is_closed: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    pub(crate) fn publish(&self, message: Vec<u8>) -> Result<(), GossipError> {
        let bytes = message.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(GossipError::TooLarge { bytes });
        }
        let mut outbox = lock(&self.outbox);
        if outbox.bytes + COST_BYTES + bytes > OUTBOX_BYTES_MAX {
            drop(outbox);
            self.note_dropped(Drop::OutboxFull, 1);
            return Err(GossipError::Full);
        }
        outbox.bytes += COST_BYTES + bytes;
        outbox.items.push_back(message);
        let is_first = outbox.items.len() == 1;
        drop(outbox);
        if is_first {
            self.published.notify_one();
        }
        Ok(())
    }

    pub(crate) fn has_published(&self) -> bool {
        !lock(&self.outbox).items.is_empty()
    }

    /// Takes as many messages as fit into one envelope.
    pub(super) fn take_published(&self) -> Vec<Vec<u8>> {
        let mut outbox = lock(&self.outbox);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(message) = outbox.items.front() {
            bytes += LENGTH_BYTES + message.len();
            if taken.len() == MESSAGES_MAX || bytes > LENGTH_BYTES + MESSAGE_BYTES_MAX {
                break;
            }
            let message = outbox.items.pop_front().expect("it is in front");
            outbox.bytes -= COST_BYTES + message.len();
            taken.push(message);
        }
        taken
    }

    /// Queues the messages of an envelope for whoever hears.
    pub(super) fn deliver(&self, author: PeerId, messages: Vec<Vec<u8>>) {
        self.counters.envelopes_heard.fetch_add(1, Ordering::Relaxed);
        let mut inbox = lock(&self.inbox);
        let (mut heard, mut dropped) = (0, 0);
        for message in messages {
            if inbox.bytes + COST_BYTES + message.len() > INBOX_BYTES_MAX {
                dropped += 1;
                continue;
            }
            heard += 1;
            inbox.bytes += COST_BYTES + message.len();
            inbox.items.push_back(Heard { author, message });
        }
        drop(inbox);
        self.counters.messages_heard.fetch_add(heard, Ordering::Relaxed);
        self.note_dropped(Drop::InboxFull, dropped);
        self.arrived.notify_one();
    }

    pub(super) fn note_sent(&self, messages: usize) {
        self.counters.envelopes_sent.fetch_add(1, Ordering::Relaxed);
        self.counters.messages_sent.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn note_dropped(&self, reason: Drop, count: u64) {
        self.counters.dropped[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Nothing will be sent or heard any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// All that waits to be heard, once there is something; `None` when the transport has stopped.
    pub(crate) async fn heard(&self) -> Option<Vec<Heard>> {
        loop {
            let items = {
                let mut inbox = lock(&self.inbox);
                inbox.bytes = 0;
                std::mem::take(&mut inbox.items)
            };
            if !items.is_empty() {
                return Some(items.into());
            }
            if self.is_closed.load(Ordering::Relaxed) {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    pub(crate) fn figures(&self) -> GossipFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { messages_sent, envelopes_sent, messages_heard, envelopes_heard, dropped } =
            &self.counters;
        GossipFigures {
            messages_sent: count(messages_sent),
            envelopes_sent: count(envelopes_sent),
            messages_heard: count(messages_heard),
            envelopes_heard: count(envelopes_heard),
            dropped: REASONS.into_iter().zip(dropped.iter().map(count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(post: &Post, reason: &str) -> u64 {
        post.figures().dropped.iter().find(|(name, _)| *name == reason).expect("a reason").1
    }

    #[test]
    fn outbox_is_bounded_and_says_so() {
        let post = Post::new("t".to_owned());
        let bytes = MESSAGE_BYTES_MAX + 1;
        assert_eq!(post.publish(vec![0; bytes]), Err(GossipError::TooLarge { bytes }));
        let taken = (0..1_000).take_while(|_| post.publish(vec![0; MESSAGE_BYTES_MAX]).is_ok()).count();
        assert_eq!(taken, OUTBOX_BYTES_MAX / (MESSAGE_BYTES_MAX + COST_BYTES));
        assert_eq!(dropped(&post, "outbox_full"), 1);
        assert_eq!(post.take_published().len(), 1, "an envelope holds one of the longest");
        assert_eq!(post.publish(vec![0; MESSAGE_BYTES_MAX]), Ok(()));
    }

    #[test]
    fn envelope_takes_what_fits_in_order() {
        let post = Post::new("t".to_owned());
        for n in 0..=MESSAGES_MAX {
            post.publish(n.to_be_bytes().to_vec()).expect("there is room");
        }
        let first = post.take_published();
        assert_eq!((first.len(), first[1].as_slice()), (MESSAGES_MAX, &1_usize.to_be_bytes()[..]));
        assert_eq!(post.take_published().len(), 1);
        assert!(post.take_published().is_empty());
    }

    #[tokio::test]
    async fn inbox_is_bounded_and_gives_all_at_once() {
        let (post, author) = (Post::new("t".to_owned()), PeerId::from_public_key([1; 32]));
        for _ in 0..300 {
            post.deliver(author, vec![vec![0; MESSAGE_BYTES_MAX]]);
        }
        let fit = INBOX_BYTES_MAX / (MESSAGE_BYTES_MAX + COST_BYTES);
        assert_eq!(post.heard().await.expect("it is open").len(), fit);
        assert_eq!(dropped(&post, "inbox_full"), 300 - fit as u64);
        post.close();
        assert_eq!(post.heard().await, None);
    }
}
