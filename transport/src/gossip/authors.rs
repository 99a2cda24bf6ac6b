//! Whom to believe, and how much of each: signatures, the pace of every author, and the order of its envelopes.
//!
//! A signature is checked once for an envelope that is new here, and not for its copies. Nothing is spent in an
//! author's name before that, so nobody can use up what another may send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::identity::ed25519;
use tidelock_engine::id::PeerId;

use super::envelope::Envelope;
use super::order::{Arrival, Order};
use super::pace::Pace;
use super::post::Drop;

/// The authors that are remembered; beyond it the one that was silent for longest is forgotten.
const AUTHORS_MAX: usize = 1_024;

/// The envelopes of one author a second. An author sends at most half of it by itself.
const ENVELOPES_PER_SECOND: u32 = 400;

/// The bytes of one author a second. An author sends at most half of it by itself.
pub(super) const BYTES_PER_SECOND: u32 = 4 << 20;

/// What may come of an author at once, as time at these paces: what a busy node sent evenly comes so to one that was busy.
const BURST: Duration = Duration::from_secs(2);

/// What is to be done with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is to be passed on.
    Passed,
    /// It is not; nobody is to blame.
    Ignored(Drop),
    /// It is not, and who brought it should have known.
    Rejected(Drop),
}

/// Messages of an envelope that are now in order.
pub(super) type Delivery = (PeerId, Vec<Vec<u8>>);

#[derive(Debug)]
struct Author {
    key: ed25519::PublicKey,
    envelopes: Pace,
    bytes: Pace,
    order: Order<Vec<Vec<u8>>>,
    heard_at: Instant,
}

/// Everybody who was heard of.
#[derive(Debug)]
pub(super) struct Authors {
    topic: String,
    authors: BTreeMap<PeerId, Author>,
}

impl Authors {
    pub(super) fn new(topic: String) -> Self {
        Self { topic, authors: BTreeMap::new() }
    }

    /// Judges an envelope that was not seen before, and adds to `out` what is to be delivered.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        envelope: &Envelope<'_>,
        bytes: usize,
        out: &mut Vec<Delivery>,
    ) -> Judged {
        let known = self.authors.get(&envelope.author);
        let has_pace =
            known.is_none_or(|author| author.envelopes.is_ready(now) && author.bytes.is_ready(now));
        // Beyond its pace an author is not worth the check of a signature, so nothing is known of the number.
        if !has_pace {
            return Judged::Ignored(Drop::AuthorPace);
        }
        let key = match known {
            Some(author) => author.key.clone(),
            None => match ed25519::PublicKey::try_from_bytes(envelope.author.public_key()) {
                Ok(key) => key,
                Err(_) => return Judged::Rejected(Drop::Forged),
            },
        };
        if !key.verify(&envelope.signed_bytes(&self.topic), envelope.signature) {
            return Judged::Rejected(Drop::Forged);
        }
        let author = self.author(now, envelope.author, key);
        author.envelopes.spend(now, 1);
        author.bytes.spend(now, bytes);
        let messages = envelope.messages().map(<[u8]>::to_vec).collect();
        let mut released = Vec::new();
        let place = (envelope.session, envelope.number);
        let arrival = author.order.take(now, place, Some(messages), &mut released);
        out.extend(released.into_iter().map(|messages| (envelope.author, messages)));
        match arrival {
            // Others may lack what is late here.
            Arrival::Fresh | Arrival::Late => Judged::Passed,
            Arrival::Stale => Judged::Ignored(Drop::Late),
        }
    }

    /// Adds to `out` what has waited in vain for what should be before it.
    pub(super) fn give_up(&mut self, now: Instant, out: &mut Vec<Delivery>) {
        for (peer, author) in &mut self.authors {
            let mut released = Vec::new();
            author.order.give_up(now, &mut released);
            out.extend(released.into_iter().map(|messages| (*peer, messages)));
        }
    }

    /// When [`Authors::give_up`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.authors.values().filter_map(|author| author.order.next_due()).min()
    }

    fn author(&mut self, now: Instant, peer: PeerId, key: ed25519::PublicKey) -> &mut Author {
        if self.authors.len() >= AUTHORS_MAX && !self.authors.contains_key(&peer) {
            let silent = self.authors.iter().min_by_key(|(_, author)| author.heard_at);
            if let Some(silent) = silent.map(|(peer, _)| *peer) {
                self.authors.remove(&silent);
            }
        }
        let author = self.authors.entry(peer).or_insert_with(|| Author {
            key,
            envelopes: Pace::new(ENVELOPES_PER_SECOND, BURST, now),
            bytes: Pace::new(BYTES_PER_SECOND, BURST, now),
            order: Order::default(),
            heard_at: now,
        });
        author.heard_at = now;
        author
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::{encode_body, signed_bytes};
    use super::*;
    use crate::identity::SecretKey;

    fn sealed(key: u8, topic: &str, number: u64) -> Vec<u8> {
        let key = SecretKey::from_seed([key; 32]);
        let mut bytes = encode_body(key.peer(), 1, number, &[number.to_be_bytes().to_vec()]);
        let signature = key.keypair().sign(&signed_bytes(topic, &bytes)).expect("ed25519 signs");
        bytes.extend(signature);
        bytes
    }

    fn judge(authors: &mut Authors, now: Instant, bytes: &[u8]) -> (Judged, usize) {
        let mut out = Vec::new();
        let envelope = Envelope::decode(bytes).expect("it was sealed");
        (authors.judge(now, &envelope, bytes.len(), &mut out), out.len())
    }

    #[test]
    fn only_the_author_s_own_signature_for_this_topic_passes() {
        let (now, mut authors) = (Instant::now(), Authors::new("t".to_owned()));
        assert_eq!(judge(&mut authors, now, &sealed(1, "t", 0)), (Judged::Passed, 1));
        assert_eq!(judge(&mut authors, now, &sealed(1, "u", 1)), (Judged::Rejected(Drop::Forged), 0));
        let mut renamed = sealed(1, "t", 1);
        renamed[1..33].copy_from_slice(SecretKey::from_seed([2; 32]).peer().public_key());
        assert_eq!(judge(&mut authors, now, &renamed), (Judged::Rejected(Drop::Forged), 0));
        for place in 41..sealed(1, "t", 1).len() {
            let mut turned = sealed(1, "t", 1);
            turned[place] ^= 1;
            let Some(envelope) = Envelope::decode(&turned) else { continue };
            let judged = authors.judge(now, &envelope, turned.len(), &mut Vec::new());
            assert_eq!(judged, Judged::Rejected(Drop::Forged), "bit turned at {place}");
        }
        assert_eq!(authors.authors.len(), 1, "nobody is remembered for a forgery");
    }

    #[test]
    fn author_beyond_its_pace_takes_nothing_from_another() {
        let (now, mut authors) = (Instant::now(), Authors::new("t".to_owned()));
        let passed = (0..1_000).filter(|n| judge(&mut authors, now, &sealed(1, "t", *n)).1 == 1).count();
        assert_eq!(passed, 801, "two seconds' worth");
        assert_eq!(judge(&mut authors, now, &sealed(1, "t", 1_000)).0, Judged::Ignored(Drop::AuthorPace));
        assert_eq!(judge(&mut authors, now, &sealed(2, "t", 0)), (Judged::Passed, 1));
        let later = now + Duration::from_secs(2);
        assert_eq!(judge(&mut authors, later, &sealed(1, "t", 2_000)), (Judged::Passed, 0), "it waits");
        let mut out = Vec::new();
        authors.give_up(later + Duration::from_secs(1), &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn authors_are_bounded() {
        let (now, mut authors) = (Instant::now(), Authors::new("t".to_owned()));
        for n in 0..=u16::try_from(AUTHORS_MAX).expect("small") {
            let key = ed25519::Keypair::generate().public();
            let peer = PeerId::from_public_key(key.to_bytes());
            authors.author(now + Duration::from_millis(u64::from(n)), peer, key);
        }
        assert_eq!(authors.authors.len(), AUTHORS_MAX);
        assert!(authors.authors.values().all(|author| author.heard_at > now), "the oldest went");
    }
}
