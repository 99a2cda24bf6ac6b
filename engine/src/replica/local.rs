//! What clients ask for: requests made into operations of our own, and confirmations.

use std::collections::BTreeSet;

use crate::bounds::BoundError;
use crate::causality::{Head, VersionVector};
use crate::draft::Draft;
use crate::evaluation::{Evaluation, Rules};
use crate::frame::{FrameBuilder, FrameStart};
use crate::id::{FrameId, KeyspaceId, KeyspaceName, PeerId};
use crate::message::{KEYSPACES_MAX, Message};
use crate::mode::Mode;
use crate::ports::{Choice, KeyspaceState};
use crate::replica::keyspace::Keyspace;
use crate::replica::{Now, Replica, Replicate, Step, View};
use crate::request::{
    Action, ActionError, ActionReply, Atomicity, Request, RequestError, RequestId, RequestReply,
};
use crate::write::{Author, WriteError};

/// A client that waits for peers to have our writes on disk.
#[derive(Debug)]
pub(super) struct Confirming {
    keyspace: KeyspaceId,
    seq: u64,
    confirmed: BTreeSet<PeerId>,
    asked_ms: u64,
}

/// How often a peer that has not confirmed is asked again, in milliseconds: it may have come later, or the
/// message may not have fitted its queue.
const CONFIRM_AGAIN_MS: u64 = 1_000;

impl Replica {
    /// Executes a request against the draft.
    pub(super) fn request(
        &mut self,
        now: Now,
        request: &Request,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> RequestReply {
        self.answers.begin_request();
        let id = KeyspaceId::of(self.config.cluster, &request.keyspace);
        if !request.actions.iter().all(Action::is_query) {
            if let Some(reason) = self.refusal() {
                return Err(RequestError::ReadOnly(reason));
            }
            if self.orders.is_leaving(id) {
                return Err(RequestError::Leaving(request.keyspace.clone()));
            }
            if !self.is_open(id) {
                return Err(RequestError::SwitchInProgress(request.keyspace.clone()));
            }
            self.open_keyspace(&request.keyspace, step)?;
            step.durability = step.durability.max(Some(request.durability));
        } else if !self.may_replicate(&request.keyspace) {
            return Err(RequestError::NotReplicated(request.keyspace.clone()));
        }
        if self.keyspaces.get(&id).is_some_and(|keyspace| keyspace.is_partial) {
            return Err(RequestError::Loading(request.keyspace.clone()));
        }
        let mut together =
            |actions: &[Action]| self.together(now, (id, request.atomicity), actions, view, step);
        if request.atomicity != Atomicity::Each {
            return together(&request.actions);
        }
        let one = |action| match together(std::slice::from_ref(action)) {
            Ok(mut replies) => replies.pop().expect("one reply for one action"),
            Err(RequestError::Action { source, .. }) => Err(source),
            Err(_) => unreachable!("actions fail by themselves"),
        };
        Ok(request.actions.iter().map(one).collect())
    }

    /// Executes actions so that their writes are one frame with whatever of this turn is in it already. If
    /// they do not fit behind it, that is sealed and they start a new frame.
    fn together(
        &mut self,
        now: Now,
        (id, atomicity): (KeyspaceId, Atomicity),
        actions: &[Action],
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> RequestReply {
        if actions.iter().all(Action::is_query) {
            return Ok(actions.iter().map(|action| self.query(action, view.draft, id)).collect());
        }
        let mut frame = self.take_frame(now, id);
        let (before, is_first) = (frame.size(), frame.is_empty());
        let mark = view.draft.mark();
        let (quota_bytes, conditional) = (self.quota(id), self.conditional(id));
        let Keyspace { name, heads, .. } = &self.keyspaces[&id];
        let author = Author { draft: &mut *view.draft, frame: &mut frame, heads };
        let rules = Rules { keyspace: name, quota_bytes, conditional };
        let mut evaluation = Evaluation { author, rules, answers: &mut self.answers };
        let replies: Vec<_> = actions.iter().map(|action| evaluation.run(action)).collect();
        let failed = replies.iter().position(Result::is_err).filter(|_| atomicity == Atomicity::AllOrNothing);
        if failed.is_none() && frame.is_within_bounds() {
            view.draft.keep(mark);
            self.put_frame(id, frame);
            return Ok(replies);
        }
        view.draft.take_back(mark);
        let (bytes, ops) = frame.size();
        frame.truncate(before);
        self.put_frame(id, frame);
        if let Some((index, Err(source))) =
            failed.and_then(|index| replies.into_iter().enumerate().nth(index))
        {
            return Err(RequestError::Action { index, source });
        }
        if is_first {
            let source = WriteError::Bound(BoundError::Batch { bytes, ops }).into();
            return Err(RequestError::Action { index: 0, source });
        }
        self.seal(id, step);
        self.together(now, (id, atomicity), actions, view, step)
    }

    pub(super) fn query(
        &mut self,
        action: &Action,
        draft: &Draft<'_>,
        id: KeyspaceId,
    ) -> Result<ActionReply, ActionError> {
        let Action::Query(query) = action else { unreachable!("what writes is evaluated into a frame") };
        self.answers.answer(draft, id, query).map(ActionReply::Answer)
    }

    /// Makes a keyspace known, if it may be, and tells peers of it.
    pub(crate) fn open_keyspace(&mut self, name: &KeyspaceName, step: &mut Step) -> Result<(), RequestError> {
        let id = KeyspaceId::of(self.config.cluster, name);
        if self.keyspaces.contains_key(&id) {
            return Ok(());
        }
        if !self.may_replicate(name) {
            return Err(RequestError::NotReplicated(name.clone()));
        }
        if self.keyspaces.len() >= KEYSPACES_MAX {
            return Err(RequestError::TooManyKeyspaces(KEYSPACES_MAX));
        }
        let is_partial = self.orders.settings(id).is_behind(self.id, 0);
        let state = KeyspaceState { is_partial, ..KeyspaceState::default() };
        self.keyspaces.insert(id, Keyspace::new(name.clone(), &state, self.id));
        step.keyspaces.push(name.clone());
        self.tell_of_keyspace(id, name, step);
        Ok(())
    }

    /// Whether this node replicates a keyspace of this name.
    pub(crate) fn may_replicate(&self, name: &KeyspaceName) -> bool {
        match (self.orders.choice(self.id_of(name)), &self.config.replicate) {
            (Some(Choice::Join), _) | (None, Replicate::All) => true,
            (Some(Choice::Leave), _) => false,
            (None, Replicate::Only(names)) => names.contains(name),
        }
    }

    /// Signs the frame in the making, if there is one with operations.
    pub(crate) fn seal(&mut self, id: KeyspaceId, step: &mut Step) {
        let Some(keyspace) = self.keyspaces.get_mut(&id) else { return };
        let Some(frame) = keyspace.open.take().filter(|frame| !frame.is_empty()) else { return };
        let frame = frame.seal(&self.config.key);
        if frame.header().previous == FrameId::NONE {
            step.cards.push(self.card);
        }
        keyspace.advance(self.id, Head { seq: frame.header().last(), frame: frame.id() });
        keyspace.undeclared = VersionVector::default();
        self.note_retirements(&frame);
        self.note_resets(&frame);
        self.touched.insert(id);
        self.counters.count("frames_made");
        self.counters.add("operations_made", u64::from(frame.header().count));
        self.fresh.push((frame.clone(), None));
        step.frames.push(frame);
    }

    /// The frame in the making, or a new one; the keyspace must be open.
    pub(super) fn take_frame(&mut self, now: Now, id: KeyspaceId) -> FrameBuilder {
        let epoch = self.mode(id).map(Mode::epoch).unwrap_or_default();
        let keyspace = self.keyspaces.get_mut(&id).expect("the keyspace was opened");
        if let Some(frame) = keyspace.open.take() {
            return frame;
        }
        let head = keyspace.heads.get(self.id);
        let start = FrameStart {
            keyspace: id,
            epoch,
            author: self.id,
            first: head.map_or(1, |head| head.seq + 1),
            previous: head.map_or(FrameId::NONE, |head| head.frame),
            hlc: self.clock.tick(now.unix_ms),
        };
        FrameBuilder::new(start, &keyspace.undeclared)
    }

    /// Puts back what [`Replica::take_frame`] gave.
    pub(super) fn put_frame(&mut self, id: KeyspaceId, frame: FrameBuilder) {
        let keyspace = self.keyspaces.get_mut(&id).expect("the keyspace was opened");
        keyspace.open = Some(frame);
    }

    /// Asks every peer of a keyspace to say when our writes are on its disk.
    pub(super) fn confirm(&mut self, id: RequestId, name: &KeyspaceName, step: &mut Step) {
        let keyspace = KeyspaceId::of(self.config.cluster, name);
        let Some(state) = self.keyspaces.get(&keyspace) else {
            step.confirmations.push((id, 0));
            return;
        };
        let unsealed = state.open.as_ref().map_or(0, |frame| frame.size().1 as u64);
        let seq = state.heads.seq(self.id) + unsealed;
        let confirming = Confirming { keyspace, seq, confirmed: BTreeSet::new(), asked_ms: self.mono_ms };
        self.ask_to_confirm(&confirming, step);
        self.confirms.insert(id, confirming);
        step.confirmations.push((id, 0));
    }

    fn ask_to_confirm(&self, confirming: &Confirming, step: &mut Step) {
        let Confirming { keyspace, seq, ref confirmed, .. } = *confirming;
        let asked = self.links.iter().filter(|(_, link)| {
            link.shares(keyspace) && !link.is_congested && !confirmed.contains(&link.peer)
        });
        step.sends.extend(asked.map(|(session, _)| (*session, Message::Confirm { keyspace, seq })));
    }

    /// Asks again whoever has not confirmed.
    pub(super) fn tick_confirms(&mut self, now: Now, step: &mut Step) {
        let mut confirms = std::mem::take(&mut self.confirms);
        for confirming in confirms.values_mut() {
            if now.mono_ms >= confirming.asked_ms + CONFIRM_AGAIN_MS {
                confirming.asked_ms = now.mono_ms;
                self.ask_to_confirm(confirming, step);
            }
        }
        self.confirms = confirms;
    }

    /// A peer has our writes up to `seq` on disk.
    pub(crate) fn confirmed(&mut self, peer: PeerId, keyspace: KeyspaceId, seq: u64, step: &mut Step) {
        for (id, confirming) in &mut self.confirms {
            if confirming.keyspace == keyspace && confirming.seq <= seq && confirming.confirmed.insert(peer) {
                step.confirmations.push((*id, confirming.confirmed.len()));
            }
        }
    }
}
