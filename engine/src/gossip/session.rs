//! The life of a session: hello, what follows from it, the messages in between, and the end.
//!
//! Nothing but a hello is looked at before the hello. A peer that breaks a rule is told why and let go.

use std::collections::BTreeSet;

use crate::gossip::Link;
use crate::gossip::link::Shared;
use crate::id::{KeyspaceId, KeyspaceName, PeerId};
use crate::message::{Hello, KEYSPACES_MAX, Message, PROTOCOL_VERSION, REASON_BYTES_MAX};
use crate::ports::{Choice, SessionId, TransportEvent};
use crate::replica::{Now, Replica, Replicate, Step, View};

/// The peers that are remembered with the reason why they and we did not get past the hello.
const REFUSALS_MAX: usize = 64;

impl Replica {
    pub(crate) fn network(
        &mut self,
        now: Now,
        event: TransportEvent,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        match event {
            TransportEvent::Up { peer, session, address, is_dialer } => {
                self.links.insert(session, Link::new(peer, address, is_dialer));
                let hello = Message::Hello(self.hello());
                step.sends.push((session, hello));
                self.tell_of_left(session, step);
            }
            TransportEvent::Message { session, bytes } => {
                if !self.links.contains_key(&session) {
                    return; // we ended it; what was on its way means nothing any more
                }
                match Message::decode(&bytes) {
                    Ok(message) => self.message(now, session, message, view, step),
                    Err(error) => {
                        self.counters.count("refused_malformed_messages");
                        self.refuse(session, &error.to_string(), step);
                    }
                }
            }
            TransportEvent::Drained { session } => self.drained(session, step),
            TransportEvent::Down { session, .. } => self.forget(now, session, step),
            // Consensus hears of these; gossip has its sessions.
            TransportEvent::Told { .. } | TransportEvent::Untold { .. } => {}
        }
    }

    fn message(
        &mut self,
        now: Now,
        session: SessionId,
        message: Message,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let is_greeted = self.links[&session].card.is_some();
        match message {
            Message::Hello(hello) if !is_greeted => self.greeted(now, session, hello, step),
            Message::Goodbye { reason } => self.goodbye(now, session, &reason, step),
            Message::Hello(_) => self.refuse(session, "a second hello", step),
            _ if !is_greeted => self.refuse(session, "a message before the hello", step),
            Message::Keyspaces(names) => self.keyspaces_heard(session, names, step),
            Message::Peers(records) => self.membership.heard(now, records),
            Message::Summary { keyspace, heads, fingerprint } => {
                let theirs = (u128::from_be_bytes(heads), u128::from_be_bytes(fingerprint));
                self.summary(session, keyspace, theirs, step);
            }
            Message::Heads { keyspace, entries } => self.heads(now, session, keyspace, &entries, step),
            Message::Want { keyspace, after } => self.want(session, keyspace, &after, view, step),
            Message::Answer { keyspace, cards, frames, has_more } => {
                self.answer(now, session, keyspace, has_more, (cards, frames), view, step);
            }
            Message::Push { cards, frames } => self.pushed(now, session, (cards, frames), view, step),
            Message::Held { keyspace, held } => self.held(session, keyspace, &held),
            Message::Below { keyspace } => self.below(session, keyspace),
            Message::Left(ids) => ids.into_iter().for_each(|id| self.peer_left(session, id)),
            Message::Vouch { keyspace, number } => self.vouch(session, keyspace, number, step),
            Message::Vouched { keyspace, number, held } => self.vouched(session, keyspace, number, &held),
            message @ (Message::Take { .. }
            | Message::Taken { .. }
            | Message::Compare { .. }
            | Message::Compared { .. }
            | Message::Tail { .. }
            | Message::Tailed { .. }
            | Message::EndTake { .. }) => self.transfer(now, session, message, view, step),
            Message::Modes(records) => self.modes_heard(session, records, step),
            Message::Anchors(news) => self.anchors_heard(session, news, step),
            Message::Invite(invite) => self.invited(session, invite, step),
            Message::Govern { number, hops, within_ms, order } => {
                self.order_handed_on(now, (session, number), (order, hops, within_ms), step);
            }
            Message::Governed { number, reply } => self.governed(session, number, reply, step),
            Message::At { keyspace, begin, cut, fingerprint } => {
                self.stands_at(session, keyspace, (begin, cut), fingerprint);
            }
            Message::Ask { number, operation, within_ms, is_last, request } => {
                let asked = (number, &request[..]);
                self.asked(now, (session, is_last), asked, (operation, within_ms), view, step);
            }
            Message::Told { number, reply } => self.told(session, number, &reply, step),
            Message::Prune { keyspace } => self.pruned(session, keyspace, step),
            Message::Graft { keyspace } => self.grafted(session, keyspace, step),
            Message::Confirm { keyspace, seq } => {
                if let Some(link) = self.links.get_mut(&session).filter(|link| link.shares(keyspace)) {
                    let wanted = link.to_confirm.entry(keyspace).or_default();
                    *wanted = seq.max(*wanted);
                }
            }
            Message::Confirmed { keyspace, seq } => {
                let peer = self.links[&session].peer;
                self.confirmed(peer, keyspace, seq, step);
            }
        }
    }

    fn hello(&self) -> Hello {
        // What is replicated is told of before anything is written in it.
        let mut keyspaces: BTreeSet<KeyspaceName> =
            self.keyspaces().map(|(_, keyspace)| keyspace.name.clone()).collect();
        if let Replicate::Only(names) = &self.config().replicate {
            keyspaces.extend(names.iter().filter(|name| self.may_replicate(name)).cloned());
        }
        let keyspaces = keyspaces.into_iter().take(KEYSPACES_MAX).collect();
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster: self.config().cluster,
            card: self.card(),
            keyspaces,
            takes_any_keyspace: self.config().replicate == Replicate::All,
            addresses: self.membership.listening(),
        }
    }

    fn greeted(&mut self, now: Now, session: SessionId, hello: Hello, step: &mut Step) {
        if hello.protocol != PROTOCOL_VERSION {
            let (ours, theirs) = (PROTOCOL_VERSION, hello.protocol);
            self.counters.count("refused_protocol_version");
            return self.refuse(session, &format!("protocol version {theirs}, and here it is {ours}"), step);
        }
        if hello.cluster != self.config().cluster {
            self.counters.count("refused_other_cluster");
            return self.refuse(session, "the peer is in another cluster", step);
        }
        let own = self.id();
        let link = self.links.get_mut(&session).expect("the message came in it");
        if hello.card.public_key != *link.peer.public_key() {
            self.counters.count("refused_wrong_card");
            return self.refuse(session, "the card is not the peer's", step);
        }
        if hello.card.replica() == own {
            self.counters.count("refused_clone");
            return self.refuse(session, "the peer uses this node's replica", step);
        }
        link.card = Some(hello.card);
        link.takes_any_keyspace = hello.takes_any_keyspace;
        link.greeted_ms = now.mono_ms;
        let (peer, address, is_dialer) = (link.peer, link.address.clone(), link.is_dialer);
        self.refusals.remove(&peer);
        let dialled = is_dialer.then_some(address);
        self.membership.met(now, peer, hello.addresses.into_iter().chain(dialled));
        tracing::info!(%peer, "peer connected");
        // The modes come before anything of the keyspaces, so that what is strong is not taken for something else.
        self.tell_modes(session, step);
        self.tell_anchors(session, step);
        self.keyspaces_heard(session, hello.keyspaces, step);
        // What we have and the peer did not name: it takes it in, or it does not replicate it.
        if hello.takes_any_keyspace {
            let ours: Vec<KeyspaceId> = self.keyspaces().map(|(id, _)| id).collect();
            for keyspace in ours {
                self.share(session, keyspace, step);
            }
        }
        self.neighbours_changed(now, session, step);
    }

    fn keyspaces_heard(&mut self, session: SessionId, names: Vec<KeyspaceName>, step: &mut Step) {
        for name in names {
            let keyspace = self.id_of(&name);
            self.links.get_mut(&session).expect("the session is up").offer(keyspace);
            if self.may_take_in(&name) && self.open_keyspace(&name, step).is_ok() {
                self.share(session, keyspace, step);
            }
        }
    }

    /// The peer does not replicate a keyspace any more: nothing of it is told, awaited or kept for it.
    fn peer_left(&mut self, session: SessionId, id: KeyspaceId) {
        if self.keyspaces.contains_key(&id) {
            self.end_transfer(session, id);
        }
        let Some(link) = self.links.get_mut(&session) else { return };
        link.decline(id);
        link.unshare(id);
        let peer = link.peer;
        self.holdings.forget(peer, id);
        self.orders.forget_voucher(session, Some(id));
        if let Some(keyspace) = self.keyspaces.get_mut(&id) {
            keyspace.awaited.retain(|_, (from, _)| *from != session);
        }
    }

    /// Tells a peer of the keyspaces that were left here, if it would take us for somebody who takes in all.
    pub(crate) fn tell_of_left(&self, session: SessionId, step: &mut Step) {
        if self.config().replicate != Replicate::All {
            return;
        }
        let left: Vec<KeyspaceId> = self.orders.chosen(Choice::Leave).map(|(id, _)| id).collect();
        if !left.is_empty() {
            step.sends.push((session, Message::Left(left)));
        }
    }

    /// A peer syncs a keyspace with us that it does not share, as far as we know: a message was lost. Either we
    /// replicate it, and so does the peer, or the peer must be told that we do not.
    pub(crate) fn mend_share(&mut self, session: SessionId, id: KeyspaceId, step: &mut Step) {
        let Some(link) = self.links.get_mut(&session).filter(|link| !link.shares(id)) else { return };
        if self.keyspaces.contains_key(&id) {
            link.offer(id);
            self.share(session, id, step);
        } else {
            step.sends.push((session, Message::Left(vec![id])));
        }
    }

    /// Starts to sync a keyspace on a link, if that was not done before.
    fn share(&mut self, session: SessionId, keyspace: KeyspaceId, step: &mut Step) {
        let link = self.links.get_mut(&session).expect("the session is up");
        if link.card.is_some() && !link.shares(keyspace) && !link.declined.contains(&keyspace) {
            link.shared.insert(keyspace, Shared { is_eager: true, ..Shared::default() });
            self.summarize(session, keyspace, step);
        }
    }

    /// Tells every peer that may want it of a keyspace that is new here.
    pub(crate) fn tell_of_keyspace(&mut self, keyspace: KeyspaceId, name: &KeyspaceName, step: &mut Step) {
        // A peer that has not greeted us yet may have our hello already, which did not name this keyspace.
        let others = self.links.iter().filter(|(_, link)| !link.shares(keyspace));
        let sessions: Vec<(SessionId, bool)> =
            others.map(|(session, link)| (*session, link.takes(keyspace))).collect();
        for (session, takes_it) in sessions {
            step.sends.push((session, Message::Keyspaces(vec![name.clone()])));
            if takes_it {
                self.share(session, keyspace, step);
            }
        }
    }

    /// Ends a session, telling the peer and the log why.
    pub(crate) fn refuse(&mut self, session: SessionId, reason: &str, step: &mut Step) {
        let Some(link) = self.links.remove(&session) else { return };
        tracing::warn!(peer = %link.peer, reason, "session refused");
        if link.card.is_none() {
            self.note_refusal(link.peer, reason);
        }
        self.membership.turned_away(self.mono_ms, link.peer, &link.address, step);
        self.forget_transfers(session);
        self.forget_frames_of(session);
        self.forget_requests_of(session, step);
        self.orders.forget_voucher(session, None);
        let told = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        step.sends.push((session, Message::Goodbye { reason: told }));
        step.closes.push((session, reason.to_owned()));
    }

    fn goodbye(&mut self, now: Now, session: SessionId, reason: &str, step: &mut Step) {
        let link = &self.links[&session];
        tracing::warn!(peer = %link.peer, reason, "the peer ended the session");
        self.counters.count("goodbyes");
        let (peer, is_greeted) = (link.peer, link.card.is_some());
        self.membership.turned_away(now.mono_ms, peer, &link.address, step);
        if !is_greeted {
            self.note_refusal(peer, &format!("the peer said: {reason}"));
        }
        self.forget(now, session, step);
        step.closes.push((session, format!("the peer said: {reason}")));
    }

    /// Remembers that a peer and we did not get past the hello, for the operator.
    fn note_refusal(&mut self, peer: PeerId, reason: &str) {
        if self.refusals.len() < REFUSALS_MAX || self.refusals.contains_key(&peer) {
            self.refusals.insert(peer, reason.to_owned());
        }
    }

    /// Takes in that a session is over.
    pub(crate) fn forget(&mut self, now: Now, session: SessionId, step: &mut Step) {
        if let Some(link) = self.links.remove(&session) {
            self.membership.lost(now, link.peer);
        }
        self.forget_transfers(session);
        self.forget_frames_of(session);
        self.forget_requests_of(session, step);
        self.orders.forget_voucher(session, None);
    }
}
