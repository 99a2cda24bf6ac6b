//! Anti-entropy: compare a hash, then heads, then fetch the frames that are missing.
//!
//! An answer is cut to a bounded size and carries frames in the sender's commit order, which is causal; the
//! asker asks again from where it then stands. So a pull has no state at the sender, and may stop anywhere.
//! Equal heads must mean equal fingerprints: every summary is also the convergence check.
//! Source for sending in order, so that a cut leaves no gap: van Renesse et al., "Efficient Reconciliation and
//! Flow Control for Anti-Entropy Protocols" (LADIS 2008), Scuttlebutt.

use std::collections::BTreeSet;

use crate::causality::{Dot, VersionVector};
use crate::frame::Frame;
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

/// How often changed state is summarized to each peer, in milliseconds.
const SUMMARY_AFTER_MS: u64 = 1_000;

/// How often unchanged state is, in milliseconds.
const SUMMARY_AGAIN_MS: u64 = 10_000;

/// Summaries that may differ in a row before all heads are told again.
const UNEXPLAINED_MAX: u32 = 3;

impl Replica {
    /// Sends the hash of our heads, and the fingerprint that belongs to it.
    pub(crate) fn summarize(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        let Some((heads, fingerprint)) = self.keyspace(keyspace).and_then(Keyspace::last_committed) else {
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
        let Some(keyspace) = self.keyspace_mut(id) else { return };
        let at_heads = keyspace.fingerprint_at(heads);
        let is_diverged = at_heads.is_some_and(|ours| ours.to_bits() != fingerprint);
        if is_diverged {
            keyspace.is_diverged = true;
            tracing::error!(keyspace = %keyspace.name, "a peer with equal heads has other rows");
        }
        let is_in_sync = keyspace.heads.hash() == heads;
        self.counters.count(if is_diverged { "checks_diverged" } else { "checks" });
        let link = self.links.get_mut(&session).expect("the message came in it");
        let Some(shared) = link.shared.get_mut(&id) else { return };
        shared.is_in_sync = is_in_sync;
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
            match keyspace.heads.get(entry.author) {
                Some(head) if head.seq == entry.seq && !head.frame.as_bytes().starts_with(&entry.frame) => {
                    forked.push(WantEntry { author: entry.author, after: entry.seq - 1 });
                }
                Some(head) if head.seq >= entry.seq => {}
                _ => news.push((entry.author, entry.seq)),
            }
        }
        let link = self.links.get_mut(&session).expect("the message came in it");
        let Some(shared) = link.shared.get_mut(&id) else { return };
        forked.retain(|entry| shared.refused.insert(entry.author));
        if shared.news.is_empty() {
            shared.news_since_ms = now.mono_ms;
        }
        shared.news.extend(news);
        let is_eager = shared.is_eager;
        if !forked.is_empty() {
            // Fetch the other history once, as evidence.
            step.sends.push((session, Message::Want { keyspace: id, after: forked }));
        }
        if is_eager {
            self.pull(now, session, id, step);
        }
    }

    /// Asks a peer for the frames that it has and we lack, unless another was asked for them just now.
    pub(crate) fn pull(&mut self, now: Now, session: SessionId, id: KeyspaceId, step: &mut Step) {
        let Some(keyspace) = self.keyspace(id) else { return };
        let Some(shared) = self.links.get(&session).and_then(|link| link.shared.get(&id)) else { return };
        let is_free = |author: &ReplicaId| match keyspace.awaited.get(author) {
            Some((from, until)) => *from == session || *until <= now.mono_ms,
            None => true,
        };
        let after: Vec<WantEntry> = shared
            .news
            .iter()
            .filter(|(author, seq)| keyspace.heads.seq(**author) < **seq && !shared.refused.contains(*author))
            .filter(|(author, _)| **author != self.id() && is_free(author))
            .map(|(author, _)| WantEntry { author: *author, after: keyspace.heads.seq(*author) })
            .take(HEADS_MAX)
            .collect();
        if after.is_empty() {
            return;
        }
        let keyspace = self.keyspace_mut(id).expect("it was there");
        for entry in &after {
            keyspace.awaited.insert(entry.author, (session, now.mono_ms + AWAIT_MS));
        }
        self.counters.count("pulls");
        step.sends.push((session, Message::Want { keyspace: id, after }));
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
        let Some(keyspace) = self.keyspace(id).filter(|_| self.links[&session].shares(id)) else { return };
        let dots: Vec<Dot> = after.iter().map(|entry| Dot::new(entry.author, entry.after)).collect();
        let held = match view.log.missing(id, &dots, ANSWER_BYTES_MAX) {
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
        let frames = held.iter().map(|held| FrameBytes(held.bytes.to_vec())).collect();
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
        let receipt = match self.receive(now, session, frames, view, step) {
            Ok(receipt) => receipt,
            Err(error) => {
                self.counters.count("refused_frames");
                return self.refuse(session, &error.to_string(), step);
            }
        };
        let tally = receipt.keyspaces.get(&id).copied().unwrap_or_default();
        let Some(keyspace) = self.keyspace_mut(id) else { return };
        keyspace.awaited.retain(|_, (from, _)| *from != session);
        let is_progress = tally.applied > 0;
        let link = self.links.get_mut(&session).expect("the message came in it");
        let Some(shared) = link.shared.get_mut(&id) else { return };
        if !is_progress {
            // The peer has nothing that helps, now: its next heads are news again.
            shared.news.clear();
        }
        tracing::debug!(?tally, has_more, "answer taken in");
        self.settle_news(session, id);
        self.pull(now, session, id, step);
    }

    /// A frame came early: fetch what it waits for from whoever sent it.
    pub(crate) fn close_gap(&mut self, now: Now, session: SessionId, id: KeyspaceId, step: &mut Step) {
        let waiting = self.early_requirements(id);
        let Some(shared) = self.links.get_mut(&session).and_then(|link| link.shared.get_mut(&id)) else {
            return;
        };
        for dot in waiting {
            let seq = shared.news.entry(dot.replica).or_default();
            *seq = dot.seq.max(*seq);
        }
        self.counters.count("gaps");
        self.pull(now, session, id, step);
    }

    /// What is due: heads to lazy links, pulls of news that the tree did not bring, summaries.
    pub(crate) fn tick_links(&mut self, now: Now, step: &mut Step) {
        let links = self.links.iter().filter(|(_, link)| !link.is_congested);
        let due: Vec<(SessionId, KeyspaceId)> =
            links.flat_map(|(session, link)| link.shared.keys().map(|id| (*session, *id))).collect();
        for (session, id) in due {
            self.settle_news(session, id);
            let shared = &self.links[&session].shared[&id];
            let (has_news, since) = (!shared.news.is_empty(), shared.news_since_ms);
            if has_news && now.mono_ms >= since + GRAFT_AFTER_MS {
                self.graft(session, id, step);
                self.pull(now, session, id, step);
            }
            self.announce(session, id, step);
            if self.is_summary_due(now, session, id) {
                self.summarize(session, id, step);
            }
        }
    }

    fn is_summary_due(&self, now: Now, session: SessionId, id: KeyspaceId) -> bool {
        let Some((heads, _)) = self.keyspace(id).and_then(Keyspace::last_committed) else {
            return false;
        };
        match self.links[&session].shared[&id].summary_sent {
            None => true,
            Some((told, at)) => {
                let after = if told == heads { SUMMARY_AGAIN_MS } else { SUMMARY_AFTER_MS };
                now.mono_ms >= at + after
            }
        }
    }

    /// Drops news that are none any more.
    fn settle_news(&mut self, session: SessionId, id: KeyspaceId) {
        let Some(link) = self.links.get_mut(&session) else { return };
        let Some(mut shared) = link.shared.remove(&id) else { return };
        if let Some(keyspace) = self.keyspace(id) {
            shared.news.retain(|author, seq| keyspace.heads.seq(*author) < *seq);
        }
        self.links.get_mut(&session).expect("it was there").shared.insert(id, shared);
    }

    pub(crate) fn card_known(&self, author: ReplicaId, log: &dyn Log) -> Option<AuthorCard> {
        self.card_cached(author).or_else(|| log.card(author).ok().flatten())
    }
}
