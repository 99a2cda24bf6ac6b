//! Anti-entropy: compare a hash, then heads, then fetch the frames that are missing.
//!
//! An answer is cut to a bounded size and carries frames in the sender's commit order, which is causal; the
//! asker asks again from where it then stands. So a pull has no state at the sender, and may stop anywhere.
//! Equal heads must mean equal fingerprints: every summary is also the convergence check.
//! Source for sending in order, so that a cut leaves no gap: van Renesse et al., "Efficient Reconciliation and
//! Flow Control for Anti-Entropy Protocols" (LADIS 2008), Scuttlebutt.

use std::collections::{BTreeMap, BTreeSet};

use crate::causality::{Dot, VersionVector};
use crate::frame::Frame;
use crate::gossip::link::{News, Shared};
use crate::id::{AuthorCard, KeyspaceId, ReplicaId};
use crate::message::{FrameBytes, HEADS_MAX, HeadEntry, Message, WantEntry};
use crate::ports::{Log, SessionId};
use crate::replica::{Keyspace, Now, Replica, Step, View};

/// The frames of one answer, in bytes, unless one frame is larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long news of a lazy link wait for the frames to come along the tree, in milliseconds. Shorter pulls
/// what was on its way, longer heals a broken tree more slowly.
const GRAFT_AFTER_MS: u64 = 200;

/// How long frames that were asked for are awaited before another peer is asked, in milliseconds.
const AWAIT_MS: u64 = 5_000;

/// How long before the same peer is asked again, in milliseconds. It may be sending them, over a slow link.
const AWAIT_SAME_MS: u64 = 60_000;

/// How often state is summarized to a peer that stands elsewhere, in milliseconds.
const SUMMARY_AFTER_MS: u64 = 1_000;

/// How often it is to a peer that stood where we stand, in milliseconds.
const SUMMARY_AGAIN_MS: u64 = 10_000;

/// Summaries that may differ in a row before all heads are told again.
const UNEXPLAINED_MAX: u32 = 3;

/// Answers that may bring nothing in a row before the peer's news are taken for what they are.
const FRUITLESS_MAX: u32 = 10;

/// The frames that one peer is answered in one turn, in bytes. It may ask again.
const ANSWERED_BYTES_MAX: usize = 8 << 20;

impl Replica {
    /// Sends the hash of our heads, and the fingerprint that belongs to it.
    pub(crate) fn summarize(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        let whole = self.keyspace(keyspace).filter(|keyspace| !keyspace.is_partial);
        let Some((heads, fingerprint)) = whole.and_then(Keyspace::last_committed) else {
            return;
        };
        let at = self.mono_ms;
        let (heads_bytes, fingerprint) = (heads.to_be_bytes(), fingerprint.to_bits().to_be_bytes());
        step.sends.push((session, Message::Summary { keyspace, heads: heads_bytes, fingerprint }));
        let shared = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&keyspace));
        if let Some(shared) = shared {
            shared.summary_sent = Some((heads, at));
        }
    }

    /// Cases: (1) the peer stands where we stood at a recent commit, and its rows must be what ours were;
    /// (2) it stands elsewhere, and is told of the heads that it has not heard of.
    pub(crate) fn summary(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        (heads, fingerprint): (u128, u128),
        step: &mut Step,
    ) {
        self.mend_share(session, id, step);
        let Some(keyspace) = self.keyspace_mut(id) else { return };
        let at_heads = keyspace.fingerprint_at(heads);
        let is_diverged = at_heads.is_some_and(|ours| ours.to_bits() != fingerprint);
        if is_diverged {
            tracing::error!(keyspace = %keyspace.name, "a peer with equal heads has other rows");
        }
        let is_in_sync = keyspace.heads.hash() == heads;
        self.counters.count(if is_diverged { "checks_diverged" } else { "checks" });
        let link = self.links.get_mut(&session).expect("the message came in it");
        if at_heads.is_some()
            && let Some(keyspace) = self.keyspaces.get_mut(&id)
        {
            keyspace.divergence.compared(link.peer, is_diverged);
        }
        let Some(shared) = link.shared.get_mut(&id) else { return };
        (shared.is_in_sync, shared.summary_heard) = (is_in_sync, Some((heads, fingerprint)));
        shared.unexplained = if is_in_sync { 0 } else { shared.unexplained + 1 };
        if shared.unexplained > UNEXPLAINED_MAX {
            (shared.announced, shared.unexplained) = (0, 0);
        }
        if !is_in_sync {
            self.announce(session, id, step);
        }
    }

    /// Tells a peer of the heads that changed since it was last told.
    pub(crate) fn announce(&mut self, session: SessionId, id: KeyspaceId, step: &mut Step) {
        let Some(keyspace) = self.keyspace(id) else { return };
        let changes = keyspace.changes();
        let Some(shared) = self.links.get(&session).and_then(|link| link.shared.get(&id)) else { return };
        for entries in keyspace.heads_since(shared.announced) {
            step.sends.push((session, Message::Heads { keyspace: id, entries }));
        }
        let link = self.links.get_mut(&session).expect("it was there");
        link.shared.get_mut(&id).expect("it was there").announced = changes;
    }

    /// Takes in heads of a peer: those beyond ours are news.
    pub(crate) fn heads(
        &mut self,
        now: Now,
        session: SessionId,
        id: KeyspaceId,
        entries: &[HeadEntry],
        step: &mut Step,
    ) {
        let Some(keyspace) = self.keyspace(id) else { return };
        let mut forked = Vec::new();
        let mut news = Vec::new();
        for entry in entries {
            let applied = keyspace.heads.seq(entry.author);
            match keyspace.heads.get(entry.author) {
                Some(head) if head.seq == entry.seq && !head.frame.as_bytes().starts_with(&entry.frame) => {
                    forked.push((entry.seq, WantEntry { author: entry.author, after: entry.seq - 1 }));
                }
                _ if applied >= entry.seq => {}
                // Somebody has written in our name.
                _ if entry.author == self.id() => {
                    forked.push((entry.seq, WantEntry { author: entry.author, after: applied }));
                }
                _ => news.push((entry.author, entry.seq, applied)),
            }
        }
        let link = self.links.get_mut(&session).expect("the message came in it");
        let Some(shared) = link.shared.get_mut(&id) else { return };
        forked.retain(|(seq, entry)| shared.forked.insert(entry.author, *seq) != Some(*seq));
        for (author, seq, applied) in news {
            shared.hear(author, seq, applied, now.mono_ms);
        }
        let is_eager = shared.is_eager;
        if !forked.is_empty() {
            // Fetch the other history once, as evidence.
            let after = forked.into_iter().map(|(_, entry)| entry).collect();
            step.sends.push((session, Message::Want { keyspace: id, after }));
        }
        if is_eager {
            self.pull(now, session, id, step);
        }
    }

    /// Asks a peer for the frames that it has and we lack, unless somebody was asked for them just now. On a
    /// lazy link the frames are given time to come along the tree. Answers whether anything was asked for.
    pub(crate) fn pull(&mut self, now: Now, session: SessionId, id: KeyspaceId, step: &mut Step) -> bool {
        let Some(keyspace) = self.keyspace(id).filter(|_| !self.takes_over(id)) else { return false };
        // Who lets go of what is lacking has the state in its place, which is taken over soon.
        let shared = self.links.get(&session).and_then(|link| link.shared.get(&id));
        let Some(shared) = shared.filter(|shared| shared.below_since_ms.is_none()) else { return false };
        let is_free = |author: &ReplicaId| {
            keyspace.awaited.get(author).is_none_or(|(from, asked_ms)| {
                let patience = if *from == session { AWAIT_SAME_MS } else { AWAIT_MS };
                now.mono_ms >= asked_ms + patience
            })
        };
        let after: Vec<WantEntry> = shared
            .news
            .iter()
            .filter(|(_, news)| shared.is_eager || now.mono_ms >= news.since_ms + GRAFT_AFTER_MS)
            .filter(|(author, news)| keyspace.heads.seq(**author) < news.seq && is_free(author))
            .filter(|(author, _)| **author != self.id())
            .filter(|(author, _)| keyspace.heads.seq(**author) < self.takes(id, **author))
            .map(|(author, _)| WantEntry { author: *author, after: keyspace.heads.seq(*author) })
            .take(HEADS_MAX)
            .collect();
        if after.is_empty() {
            return false;
        }
        let keyspace = self.keyspace_mut(id).expect("it was there");
        for entry in &after {
            keyspace.awaited.insert(entry.author, (session, now.mono_ms));
        }
        self.counters.count("pulls");
        step.sends.push((session, Message::Want { keyspace: id, after }));
        true
    }

    /// Answers with the frames that a peer lacks, as far as one message goes.
    pub(crate) fn want(
        &mut self,
        session: SessionId,
        id: KeyspaceId,
        after: &[WantEntry],
        view: &View<'_, '_>,
        step: &mut Step,
    ) {
        let link = self.links.get_mut(&session).expect("the message came in it");
        let Some(shared) = link.shared.get_mut(&id) else { return };
        shared.has_asked = true;
        let link = &self.links[&session];
        let Some(keyspace) = self.keyspace(id) else { return };
        if link.answered_bytes > ANSWERED_BYTES_MAX || link.is_congested {
            let (cards, frames) = (Vec::new(), Vec::new());
            step.sends.push((session, Message::Answer { keyspace: id, cards, frames, has_more: true }));
            return;
        }
        // Each author once, and none of which we have no more: the log is asked for nothing in vain.
        let mut lacking: BTreeMap<ReplicaId, u64> = BTreeMap::new();
        for entry in after.iter().filter(|entry| entry.after < keyspace.heads.seq(entry.author)) {
            let least = lacking.entry(entry.author).or_insert(entry.after);
            *least = entry.after.min(*least);
        }
        // Of these the frames are here no more.
        let before = lacking.len();
        lacking.retain(|author, after| view.log.floor(id, *author) <= *after);
        if lacking.len() < before {
            step.sends.push((session, Message::Below { keyspace: id }));
        }
        let dots: Vec<Dot> = lacking.iter().map(|(author, after)| Dot::new(*author, *after)).collect();
        // What lies before a damaged frame is still worth having: then the frames go one by one.
        let one_by_one = |_| view.log.missing(id, &dots, 1);
        let held = match view.log.missing(id, &dots, ANSWER_BYTES_MAX).or_else(one_by_one) {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(%error, "cannot read the log for a peer");
                self.counters.count("answers_failed");
                return;
            }
        };
        let last: Vec<Dot> = held.iter().filter_map(|held| Frame::peek(&held.bytes)).collect();
        let sent: VersionVector = dots.iter().chain(&last).copied().collect();
        let has_more = dots.iter().any(|dot| sent.get(dot.replica) < keyspace.heads.seq(dot.replica));
        let authors: BTreeSet<ReplicaId> = last.iter().map(|dot| dot.replica).collect();
        let cards = authors.into_iter().filter_map(|author| self.card_known(author, view.log)).collect();
        self.counters.add("frames_answered", held.len() as u64);
        let link = self.links.get_mut(&session).expect("the message came in it");
        link.answered_bytes += held.iter().map(|held| held.bytes.len()).sum::<usize>();
        let mut frames: Vec<FrameBytes> = held.iter().map(|held| FrameBytes(held.bytes.to_vec())).collect();
        let room = ANSWER_BYTES_MAX.saturating_sub(held.iter().map(|held| held.bytes.len()).sum());
        frames.extend(self.other_histories(id, &lacking, room));
        step.sends.push((session, Message::Answer { keyspace: id, cards, frames, has_more }));
    }

    /// Takes in what was asked for, and asks for more as long as it brings something.
    #[expect(clippy::too_many_arguments, reason = "one message's fields, taken apart by the dispatcher")]
    pub(crate) fn answer(
        &mut self,
        now: Now,
        session: SessionId,
        id: KeyspaceId,
        has_more: bool,
        frames: (Vec<AuthorCard>, Vec<FrameBytes>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let Some(receipt) = self.receive(now, session, frames, view, step) else { return };
        let tally = receipt.get(&id).cloned().unwrap_or_default();
        let Some(keyspace) = self.keyspace_mut(id) else { return };
        keyspace.awaited.retain(|_, (from, _)| *from != session);
        tracing::debug!(?tally, has_more, "answer taken in");
        self.hear_missing(now, session, id, &tally.missing);
        self.settle_news(session, id);
        let shared = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&id));
        let Some(shared) = shared else { return };
        if tally.applied > 0 {
            shared.fruitless = 0;
            self.pull(now, session, id, step);
            return;
        }
        // Cases: (1) what came waits for what another peer was asked for, or the peer could not answer now: ask
        // again when time has passed; (2) it has nothing that helps: its next heads are news again.
        shared.fruitless += 1;
        let is_worth_asking = has_more || !tally.missing.is_empty();
        if !is_worth_asking || shared.fruitless > FRUITLESS_MAX {
            (shared.fruitless, shared.news) = (0, BTreeMap::new());
        }
        self.pull_from_others(now, session, id, step);
    }

    /// A peer was asked in vain: whoever else has news is asked before it is asked again. Otherwise a peer that
    /// answers with nothing just before the others' turn comes, and has news again, would keep them from it.
    fn pull_from_others(&mut self, now: Now, vain: SessionId, id: KeyspaceId, step: &mut Step) {
        let others: Vec<SessionId> = self.links.keys().copied().filter(|other| *other != vain).collect();
        for other in others {
            self.pull(now, other, id, step);
        }
    }

    /// The peer sent frames that could not be applied: fetch from it what they require.
    pub(crate) fn close_gap(
        &mut self,
        now: Now,
        session: SessionId,
        id: KeyspaceId,
        missing: &BTreeMap<ReplicaId, u64>,
        step: &mut Step,
    ) {
        self.counters.count("gaps");
        self.hear_missing(now, session, id, missing);
        self.pull(now, session, id, step);
    }

    fn hear_missing(
        &mut self,
        now: Now,
        session: SessionId,
        id: KeyspaceId,
        missing: &BTreeMap<ReplicaId, u64>,
    ) {
        let Some(keyspace) = self.keyspaces.get(&id) else { return };
        let shared = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&id));
        let Some(shared) = shared else { return };
        for (author, seq) in missing {
            let applied = keyspace.heads.seq(*author);
            if applied < *seq {
                shared.hear(*author, *seq, applied, now.mono_ms);
            }
        }
    }

    /// What is due: heads to lazy links, pulls of news that the tree did not bring, summaries.
    pub(crate) fn tick_links(&mut self, now: Now, step: &mut Step) {
        for (session, id) in self.due(now) {
            self.settle_news(session, id);
            let shared = &self.links[&session].shared[&id];
            let is_due = |news: &News| now.mono_ms >= news.since_ms + GRAFT_AFTER_MS;
            if shared.news.values().any(is_due) && self.pull(now, session, id, step) {
                self.graft(session, id, step);
            }
            self.announce(session, id, step);
            let shared = &self.links[&session].shared[&id];
            if self.keyspace(id).is_some_and(|keyspace| is_summary_due(now, keyspace, shared)) {
                self.summarize(session, id, step);
            }
        }
    }

    /// The few keyspaces of all links for which something may be due.
    fn due(&self, now: Now) -> Vec<(SessionId, KeyspaceId)> {
        let mut due = Vec::new();
        for (session, link) in self.links.iter().filter(|(_, link)| !link.is_congested) {
            for (id, shared) in &link.shared {
                let Some(keyspace) = self.keyspace(*id) else { continue };
                let is_behind = !shared.news.is_empty() || shared.announced < keyspace.changes();
                if is_behind || is_summary_due(now, keyspace, shared) {
                    due.push((*session, *id));
                }
            }
        }
        due
    }

    /// Drops news that are none any more.
    fn settle_news(&mut self, session: SessionId, id: KeyspaceId) {
        let Some(link) = self.links.get_mut(&session) else { return };
        let Some(mut shared) = link.shared.remove(&id) else { return };
        if let Some(keyspace) = self.keyspace(id) {
            shared.news.retain(|author, news| keyspace.heads.seq(*author) < news.seq);
        }
        self.links.get_mut(&session).expect("it was there").shared.insert(id, shared);
    }

    pub(crate) fn card_known(&self, author: ReplicaId, log: &dyn Log) -> Option<AuthorCard> {
        self.card_cached(author).or_else(|| log.card(author).ok().flatten())
    }
}

fn is_summary_due(now: Now, keyspace: &Keyspace, shared: &Shared) -> bool {
    let Some((heads, _)) = keyspace.last_committed() else { return false };
    shared.summary_sent.is_none_or(|(told, at)| {
        let is_quiet = told == heads && shared.is_in_sync;
        now.mono_ms >= at + if is_quiet { SUMMARY_AGAIN_MS } else { SUMMARY_AFTER_MS }
    })
}
