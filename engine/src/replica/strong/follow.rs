//! What a node that makes no strong frames does: it learns the mode from its peers, and keeps what came too late.
//!
//! A guest takes the record of the highest epoch that it hears of, and an anchor takes none: what it hears only fences
//! it, until its own log has come so far. Operations of an epoch that has ended, and that its frontier does not name, are
//! the *outbox*. They are not stored for that: they are what the log holds, and they stay in it.

use crate::causality::Dot;
use crate::gossip::Link;
use crate::id::{Epoch, KeyspaceId, KeyspaceName, ReplicaId};
use crate::message::{Message, ModeNews};
use crate::mode::{Mode, ModeRecord};
use crate::ports::{AnchorId, Log, LoggedFrame, ReadError, SessionId};
use crate::replica::{Replica, Step};

/// The records that one message tells at most.
const RECORDS_PER_MESSAGE: usize = 64;

impl Replica {
    /// Tells a peer of all strong epochs, after its hello.
    pub(crate) fn tell_modes(&self, session: SessionId, step: &mut Step) {
        let all: Vec<KeyspaceId> = self.strong.modes.keys().copied().collect();
        self.tell_modes_of(&[session], &all, step);
    }

    /// Tells all peers of what changed.
    pub(super) fn tell_of_modes(&mut self, step: &mut Step) {
        let untold: Vec<KeyspaceId> = std::mem::take(&mut self.strong.untold).into_iter().collect();
        let greeted = self.links.iter().filter(|(_, link)| link.card.is_some());
        let sessions: Vec<SessionId> = greeted.map(|(session, _)| *session).collect();
        if !untold.is_empty() {
            self.tell_modes_of(&sessions, &untold, step);
        }
    }

    fn tell_modes_of(&self, sessions: &[SessionId], ids: &[KeyspaceId], step: &mut Step) {
        let news: Vec<ModeNews> = ids
            .iter()
            .filter_map(|id| {
                let (name, mode) = self.strong.modes.get(id)?;
                Some(ModeNews { name: name.clone(), record: mode.record()?.clone() })
            })
            .collect();
        for session in sessions {
            let pieces = news.chunks(RECORDS_PER_MESSAGE);
            step.sends.extend(pieces.map(|records| (*session, Message::Modes(records.to_vec()))));
        }
    }

    /// A peer tells of strong epochs.
    pub(crate) fn modes_heard(&mut self, session: SessionId, news: Vec<ModeNews>, step: &mut Step) {
        for ModeNews { name, record } in news {
            if self.may_take_in(&name) && self.is_mode_genuine(session, &name, &record, step) {
                self.mode_heard(session, &name, &record, step);
            }
        }
    }

    /// Whether what a peer tells is news, and the group says so.
    fn is_mode_genuine(
        &mut self,
        session: SessionId,
        name: &KeyspaceName,
        record: &ModeRecord,
        step: &mut Step,
    ) -> bool {
        let id = self.id_of(name);
        let is_news = self.mode(id).is_none_or(|mode| mode.epoch() < record.epoch);
        let Some(peer) = self.links.get(&session).map(|link| link.peer).filter(|_| is_news) else {
            return false;
        };
        if !record.is_valid() || !record.is_genuine((self.config.cluster, id)) {
            self.refuse_group(peer, record.signature.group);
            return false;
        }
        self.is_of_group(peer, record.signature.group, step)
    }

    fn mode_heard(&mut self, session: SessionId, name: &KeyspaceName, record: &ModeRecord, step: &mut Step) {
        let id = self.id_of(name);
        // What was written in this turn is in the epoch that ends.
        self.seal(id, step);
        if self.strong.anchor.is_some() {
            if self.change_mode(id, Some(name), |mode| mode.hear(record.epoch)) {
                self.counters.count("fences_heard");
            }
            return;
        }
        if self.change_mode(id, Some(name), |mode| mode.adopt(record)) {
            tracing::info!(keyspace = %name, epoch = record.epoch.0, "a keyspace is strong");
            self.counters.count("modes_adopted");
            self.know_card(record.card);
            self.end_transfers_of(id, step);
            self.strong.untold.insert(id);
            if self.open_keyspace(name, step).is_ok() {
                // What could not be taken before is news again.
                self.hear_again(session, id);
            }
        }
    }

    /// This node is that anchor from now on, and comes to strong epochs by its own log.
    pub(super) fn enter_group(&mut self, anchor: AnchorId, step: &mut Step) {
        if self.strong.anchor.replace(anchor) == Some(anchor) {
            return;
        }
        self.strong.remember(step);
        let ids: Vec<KeyspaceId> = self.strong.modes.keys().copied().collect();
        for id in ids {
            self.end_transfers_of(id, step);
            self.change_mode(id, None, |mode| {
                mode.enter_group();
                true
            });
        }
    }

    /// The epoch of a keyspace, as far as this node has come.
    pub(crate) fn epoch_of(&self, id: KeyspaceId) -> Epoch {
        self.mode(id).map(Mode::epoch).unwrap_or_default()
    }

    /// Whether frames of an author up to a seq may be applied here when they come from a peer.
    pub(crate) fn takes(&self, id: KeyspaceId, author: ReplicaId) -> u64 {
        self.mode(id).map_or(u64::MAX, |mode| mode.takes(author))
    }

    /// The authors of whom more is applied here than any epoch has taken in: the last operation of each, and the seq up to
    /// which it is.
    pub(super) fn outbox_heads(&self, id: KeyspaceId) -> Vec<(Dot, u64)> {
        let Some((keyspace, record)) = self.keyspaces.get(&id).zip(self.mode(id).and_then(Mode::record))
        else {
            return Vec::new();
        };
        let strong = record.card.replica();
        let heads = keyspace.heads.iter().filter(|(author, _)| *author != strong);
        let beyond = heads.map(|(author, head)| (Dot::new(author, head.seq), record.frontier_of(author)));
        beyond.filter(|(last, after)| last.seq > *after).collect()
    }

    /// Whether an operation is in the outbox: its frame must stay in the log until an epoch has taken it in.
    pub(crate) fn is_in_outbox(&self, id: KeyspaceId, dot: Dot) -> bool {
        let record = self.mode(id).and_then(Mode::record);
        record.is_some_and(|record| {
            record.card.replica() != dot.replica && dot.seq > record.frontier_of(dot.replica)
        })
    }

    /// The number of operations in the outbox of a keyspace.
    pub fn outbox_operations(&self, id: KeyspaceId) -> u64 {
        self.outbox_heads(id).iter().map(|(last, after)| last.seq - after).sum()
    }

    /// The frames in the outbox of a keyspace, in this node's commit order, up to about so many bytes but at least one if
    /// there is any.
    ///
    /// # Errors
    /// The log could not be read.
    pub fn outbox(
        &self,
        log: &dyn Log,
        id: KeyspaceId,
        bytes_max: usize,
    ) -> Result<Vec<LoggedFrame>, ReadError> {
        let after = self.outbox_heads(id);
        let after: Vec<Dot> = after.into_iter().map(|(last, after)| Dot::new(last.replica, after)).collect();
        if after.is_empty() { Ok(Vec::new()) } else { log.missing(id, &after, bytes_max) }
    }

    /// A peer's heads are told again, since they were not looked at before.
    fn hear_again(&mut self, session: SessionId, id: KeyspaceId) {
        let shared = self.links.get_mut(&session).and_then(|link: &mut Link| link.shared.get_mut(&id));
        if let Some(shared) = shared {
            shared.fruitless = 0;
        }
    }
}
