//! What clients ask of strong keyspaces: proposed, awaited and answered in a later turn, or handed on to an anchor.
//!
//! What writes or decides becomes an operation with an id, and those of one turn become one entry. What only reads waits
//! until this anchor has applied what was acknowledged before it came, unless less is good enough for whoever asks. All
//! that waits has a bound in time: a write that was proposed by then may be done all the same, and is said to be unknown;
//! everything else is certainly not done.

use std::collections::BTreeMap;
use std::fmt;

use super::forward::Forwarded;
use super::outcomes;
use super::{Ask, CommandReply};
use crate::command::{ClientId, Command, Entry, Execute, OperationId};
use crate::frame::Frame;
use crate::id::{KeyspaceId, KeyspaceName};
use crate::message::Message;
use crate::mode::Mode;
use crate::ports::{LogIndex, NotDone, Outcome, ReadError, RequestId as GroupRequestId, Rows, SessionId};
use crate::replica::{Now, Replica, Step, View};
use crate::request::{Action, Request, RequestError, RequestId, RequestReply, decode_reply, encode_reply};
use crate::write::{Executed, executed};

/// The requests that are open at most.
const OPEN_MAX: usize = 1 << 16;

/// How long a request waits unless whoever asks says otherwise, in milliseconds.
const WITHIN_MS: u64 = 5_000;

/// How long a request waits at most, in milliseconds.
pub(super) const WITHIN_MS_MAX: u64 = 60_000;

/// How much of what was acknowledged a read must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// All that was acknowledged before it was asked for, anywhere.
    #[default]
    Linearizable,
    /// At least what the keyspace held at this revision, and what this node has beside.
    Revision(u64),
    /// What this node has.
    Stale,
}

/// On what terms something is asked of a strong keyspace. An eventual one takes no notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What its reads must see, if it only reads.
    pub freshness: Freshness,
    /// Which operation it is, if it writes: the client's name and its number. Drawn, if the client does not count.
    pub operation: Option<(ClientId, u64)>,
    /// How long it may take, in milliseconds; a minute at most.
    pub within_ms: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self { freshness: Freshness::default(), operation: None, within_ms: WITHIN_MS }
    }
}

/// What a read saw that was not linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The revision up to which all that is committed was seen: the number of the last strong operation.
    pub revision: u64,
    /// How long ago that was made, in milliseconds, by this node's clock. What was committed since was not seen.
    pub age_ms: u64,
    /// The operations seen beside that, which no epoch has taken in: they were written here, or heard of, in the epoch
    /// before.
    pub tentative: u64,
}

/// An operation is named in texts by its epoch, client and number.
impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.epoch.0)?;
        self.client.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{}", self.number)
    }
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A client of this node.
    Client(RequestId),
    /// A peer, which gave it this number.
    Peer(SessionId, u64),
}

/// A write that waits for what becomes of its operation.
#[derive(Clone, Debug)]
struct Writing {
    waiter: Waiter,
    keyspace: KeyspaceName,
    operation: OperationId,
    until_ms: u64,
}

/// A read that waits for its moment.
#[derive(Clone, Debug)]
struct Reading {
    waiter: Waiter,
    request: Request,
    until_ms: u64,
}

/// What is open of what clients asked for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// This node's name as a client, for as long as it runs, and its last number.
    own: Option<(ClientId, u64)>,
    last_id: u64,
    /// Writes of this turn, to be proposed.
    gathered: Vec<(Writing, Command)>,
    /// Reads of this turn, to wait for a barrier.
    reading: Vec<Reading>,
    proposed: BTreeMap<GroupRequestId, Vec<Writing>>,
    barriers: BTreeMap<GroupRequestId, Vec<Reading>>,
    /// Writes that are committed, and whose outcome comes with a frame.
    outcomes: Vec<Writing>,
    /// Reads that wait for a revision.
    revisions: Vec<(u64, Reading)>,
    pub(super) forwarded: Forwarded,
}

impl Requests {
    /// A name for something that the group is asked for.
    pub(super) fn next_id(&mut self) -> GroupRequestId {
        self.last_id += 1;
        GroupRequestId(self.last_id)
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = Waiter> + '_ {
        let writing = self.gathered.iter().map(|(writing, _)| writing);
        let writing = writing.chain(self.proposed.values().flatten()).chain(&self.outcomes);
        let reading = self.reading.iter().chain(self.barriers.values().flatten());
        let reading = reading.chain(self.revisions.iter().map(|(_, reading)| reading));
        writing.map(|writing| writing.waiter).chain(reading.map(|reading| reading.waiter))
    }
}

impl Writing {
    /// Nobody here knows whether it was done.
    fn unknown(&self) -> RequestError {
        RequestError::Unknown(self.operation.to_string())
    }
}

impl Replica {
    /// Takes in a request, and answers it now or later.
    pub(crate) fn take_request(
        &mut self,
        now: Now,
        waiter: Waiter,
        (request, terms): (Request, Terms),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let id = self.id_of(&request.keyspace);
        let is_strong = self.mode(id).is_some_and(|mode| mode.epoch().is_strong());
        let reply = match waiter {
            _ if is_strong => self.strong_request(now, waiter, (request, terms), view, step),
            Waiter::Client(_) => Some(self.request(now, &request, view, step)),
            Waiter::Peer(..) => Some(Err(self.not_yet(&request.keyspace))),
        };
        if let Some(reply) = reply {
            reply_to(waiter, reply, step);
        }
    }

    /// Certainly not done, and worth another try.
    pub(super) fn not_yet(&self, keyspace: &KeyspaceName) -> RequestError {
        let reason = match (self.strong.anchor, self.mode(self.id_of(keyspace))) {
            (Some(_), Some(mode)) if mode.epoch().is_strong() => "this anchor is catching up",
            (Some(_), _) => "this anchor has not come to the epoch in which it is strong",
            (None, _) => "no anchor is connected",
        };
        RequestError::TryAgain { keyspace: keyspace.clone(), reason: reason.to_owned() }
    }

    fn strong_request(
        &mut self,
        now: Now,
        waiter: Waiter,
        (request, terms): (Request, Terms),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Option<RequestReply> {
        let id = self.id_of(&request.keyspace);
        let is_query = request.actions.iter().all(Action::is_query);
        let until_ms = now.mono_ms.saturating_add(terms.within_ms.min(WITHIN_MS_MAX));
        if let Some(reason) = &self.failed {
            return Some(Err(RequestError::ReadOnly(reason.clone())));
        }
        if is_query && terms.freshness == Freshness::Stale {
            return Some(self.read_labelled(now, waiter, &request, view, step));
        }
        if self.strong.requests.waiters().count() >= OPEN_MAX {
            let reason = "too many requests are open".to_owned();
            return Some(Err(RequestError::TryAgain { keyspace: request.keyspace, reason }));
        }
        if let (true, Freshness::Revision(revision)) = (is_query, terms.freshness) {
            if self.revision(id) >= revision {
                return Some(self.read_labelled(now, waiter, &request, view, step));
            }
            self.strong.requests.revisions.push((revision, Reading { waiter, request, until_ms }));
            return None;
        }
        if self.strong.anchor.is_none() {
            return self.hand_on(now, waiter, (request, terms), is_query, step).err().map(Err);
        }
        if !self.mode(id).is_some_and(Mode::is_exact) {
            return Some(Err(self.not_yet(&request.keyspace)));
        }
        if is_query {
            self.strong.requests.reading.push(Reading { waiter, request, until_ms });
            return None;
        }
        self.gather(now, (waiter, until_ms), request, terms.operation);
        None
    }

    /// The number of the last strong operation that was applied.
    pub(crate) fn revision(&self, id: KeyspaceId) -> u64 {
        let author = self.mode(id).and_then(Mode::author);
        self.keyspaces.get(&id).zip(author).map_or(0, |(keyspace, author)| keyspace.heads.seq(author))
    }

    /// What a read of a strong keyspace sees here now.
    pub fn label(&self, now: Now, id: KeyspaceId) -> Label {
        let clock = self.mode(id).map_or(0, |mode| mode.clock().unix_ms());
        let tentative = self.outbox_heads(id).iter().map(|(last, after)| last.seq - after).sum();
        Label { revision: self.revision(id), age_ms: now.unix_ms.saturating_sub(clock), tentative }
    }

    fn read_labelled(
        &mut self,
        now: Now,
        waiter: Waiter,
        request: &Request,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> RequestReply {
        let id = self.id_of(&request.keyspace);
        if let Waiter::Client(client) = waiter {
            step.labels.push((client, self.label(now, id)));
        }
        self.read(request, view)
    }

    /// Answers what only reads from the rows as they are.
    fn read(&mut self, request: &Request, view: &mut View<'_, '_>) -> RequestReply {
        let id = self.id_of(&request.keyspace);
        match self.keyspaces.get(&id) {
            None => return Err(RequestError::NotReplicated(request.keyspace.clone())),
            Some(keyspace) if keyspace.is_partial => {
                return Err(RequestError::Loading(request.keyspace.clone()));
            }
            Some(_) => {}
        }
        self.answers.begin_request();
        Ok(request.actions.iter().map(|action| self.query(action, view.draft, id)).collect())
    }

    /// Makes an operation of what writes or decides, to be proposed with the others of this turn.
    fn gather(
        &mut self,
        now: Now,
        (waiter, until_ms): (Waiter, u64),
        request: Request,
        named: Option<(ClientId, u64)>,
    ) {
        let Request { keyspace, actions, atomicity, .. } = request;
        let id = self.id_of(&keyspace);
        let operation = self.operation(now, id, named);
        let hlc = self.clock.tick(now.unix_ms);
        let command = Command::Execute(Execute { keyspace: id, operation, hlc, actions, atomicity });
        let writing = Writing { waiter, keyspace, operation, until_ms };
        self.strong.requests.gathered.push((writing, command));
    }

    pub(super) fn operation(
        &mut self,
        now: Now,
        id: KeyspaceId,
        named: Option<(ClientId, u64)>,
    ) -> OperationId {
        let epoch = self.mode(id).map(Mode::epoch).unwrap_or_default();
        let (client, number) = named.unwrap_or_else(|| {
            let (client, last) = self.strong.requests.own.unwrap_or_else(|| (self.draw_client(now), 0));
            *self.strong.requests.own.insert((client, last + 1))
        });
        OperationId { epoch, client, number }
    }

    /// A name that nobody else has, nor this node when it ran before.
    fn draw_client(&self, now: Now) -> ClientId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.id.as_bytes());
        hasher.update(&now.unix_ms.to_be_bytes());
        hasher.update(&now.entropy.to_be_bytes());
        ClientId(*hasher.finalize().as_bytes().first_chunk().expect("a blake3 hash has 32 bytes"))
    }

    /// Proposes the writes of this turn, in as few entries as hold them, and asks for one barrier for its reads.
    pub(super) fn propose_gathered(&mut self, step: &mut Step) {
        let (mut entry, mut of_entry) = (Entry::default(), Vec::new());
        for (writing, command) in std::mem::take(&mut self.strong.requests.gathered) {
            let mut pushed = entry.push(&command);
            if let Ok(false) = pushed {
                self.propose(std::mem::take(&mut entry), std::mem::take(&mut of_entry), step);
                pushed = entry.push(&command);
            }
            match pushed {
                Ok(_) => of_entry.push(writing),
                Err(error) => {
                    let (keyspace, reason) = (writing.keyspace.clone(), error.to_string());
                    reply_to(writing.waiter, Err(RequestError::TooLarge { keyspace, reason }), step);
                }
            }
        }
        if !entry.is_empty() {
            self.propose(entry, of_entry, step);
        }
        let reading = std::mem::take(&mut self.strong.requests.reading);
        if !reading.is_empty() {
            let id = self.strong.requests.next_id();
            let within_ms = self.longest(reading.iter().map(|reading| reading.until_ms));
            self.strong.requests.barriers.insert(id, reading);
            step.asks.push(Ask::Barrier { id, within_ms });
        }
    }

    fn propose(&mut self, entry: Entry, writing: Vec<Writing>, step: &mut Step) {
        let id = self.strong.requests.next_id();
        let within_ms = self.longest(writing.iter().map(|writing| writing.until_ms));
        self.strong.requests.proposed.insert(id, writing);
        step.asks.push(Ask::Propose { id, entry: entry.into_bytes(), within_ms });
    }

    /// Who may wait less long is answered by this replica.
    fn longest(&self, until_ms: impl Iterator<Item = u64>) -> u64 {
        until_ms.max().unwrap_or(0).saturating_sub(self.mono_ms)
    }

    /// What became of an entry.
    pub(super) fn proposed(&mut self, id: GroupRequestId, outcome: Outcome, step: &mut Step) {
        let Some(writing) = self.strong.requests.proposed.remove(&id) else {
            return self.mode_proposed(id, &outcome, step);
        };
        match outcome {
            Outcome::Done { reply, .. } => {
                let executed = CommandReply::decode_all(&reply);
                let mut executed = executed.into_iter();
                for writing in writing {
                    match executed.next() {
                        Some(CommandReply::Following) => self.strong.requests.outcomes.push(writing),
                        executed => reply_to(writing.waiter, said(&writing, executed), step),
                    }
                }
            }
            Outcome::Not(reason) => writing
                .into_iter()
                .for_each(|writing| reply_to(writing.waiter, Err(not_done(writing.keyspace, &reason)), step)),
            Outcome::Unknown => {
                writing
                    .into_iter()
                    .for_each(|writing| reply_to(writing.waiter, Err(writing.unknown()), step));
            }
        }
    }

    /// A barrier was passed: all that was acknowledged before the reads came is applied here, or nobody knows.
    pub(super) fn passed(
        &mut self,
        id: GroupRequestId,
        result: &Result<LogIndex, NotDone>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        for Reading { waiter, request, .. } in self.strong.requests.barriers.remove(&id).into_iter().flatten()
        {
            let is_exact = self.mode(self.id_of(&request.keyspace)).is_some_and(Mode::is_exact);
            let reply = match result {
                // What a following anchor has applied says nothing of what the entries say.
                Ok(index) if is_exact && self.strong.applied_at_least(*index) => self.read(&request, view),
                Ok(_) => Err(self.not_yet(&request.keyspace)),
                Err(reason) => Err(not_done(request.keyspace, reason)),
            };
            reply_to(waiter, reply, step);
        }
    }

    /// Reads that waited for a revision, which is there now.
    pub(super) fn answer_revisions(&mut self, view: &mut View<'_, '_>, step: &mut Step) {
        let waiting = std::mem::take(&mut self.strong.requests.revisions);
        let (ready, waiting) = waiting.into_iter().partition(|(revision, reading)| {
            self.revision(self.id_of(&reading.request.keyspace)) >= *revision
        });
        self.strong.requests.revisions = waiting;
        let ready: Vec<(u64, Reading)> = ready;
        for (_, Reading { waiter, request, .. }) in ready {
            let reply = self.read(&request, view);
            reply_to(waiter, reply, step);
        }
    }

    /// A frame came that tells what became of operations.
    pub(super) fn answer_outcomes(&mut self, frame: &Frame, step: &mut Step) {
        if self.strong.requests.outcomes.is_empty() {
            return;
        }
        let epoch = frame.header().epoch;
        for writing in std::mem::take(&mut self.strong.requests.outcomes) {
            let is_of_keyspace = self.id_of(&writing.keyspace) == frame.header().keyspace;
            let found = outcomes::in_frame(frame, &writing.operation);
            match found.filter(|_| is_of_keyspace && writing.operation.epoch == epoch) {
                Some(result) => {
                    reply_to(writing.waiter, said(&writing, Some(CommandReply::Done(result))), step);
                }
                None => self.strong.requests.outcomes.push(writing),
            }
        }
    }

    /// What became of an operation, as the rows tell it; none if they do not.
    ///
    /// # Errors
    /// The rows could not be read.
    pub fn outcome(
        &self,
        rows: &dyn Rows,
        keyspace: &KeyspaceName,
        operation: &OperationId,
    ) -> Result<Option<RequestReply>, ReadError> {
        let OperationId { client, number, .. } = *operation;
        Ok(match executed(rows, self.id_of(keyspace), (client, number))? {
            Executed::Done { result, .. } => Some(reply_of(&outcomes::reply(result))),
            Executed::FellOut | Executed::Not => None,
        })
    }

    /// What has waited too long is answered.
    pub(crate) fn tick_requests(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        let requests = &mut self.strong.requests;
        let mut late = Vec::new();
        let of_proposals = requests.proposed.values_mut();
        for writing in of_proposals.chain([&mut requests.outcomes]) {
            late.extend(writing.extract_if(.., |writing| now_ms >= writing.until_ms));
        }
        let mut late_reads = Vec::new();
        for reading in requests.barriers.values_mut() {
            late_reads.extend(reading.extract_if(.., |reading| now_ms >= reading.until_ms));
        }
        let revisions = requests.revisions.extract_if(.., |(_, reading)| now_ms >= reading.until_ms);
        late_reads.extend(revisions.map(|(_, reading)| reading));
        late.into_iter().for_each(|writing| reply_to(writing.waiter, Err(writing.unknown()), step));
        for Reading { waiter, request, .. } in late_reads {
            let error = not_done(request.keyspace, &NotDone::NoLeader);
            reply_to(waiter, Err(error), step);
        }
        self.tick_forwarded(step);
    }
}

pub(super) fn reply_to(waiter: Waiter, reply: RequestReply, step: &mut Step) {
    match waiter {
        Waiter::Client(id) => step.replies.push((id, reply)),
        Waiter::Peer(session, number) => {
            step.sends.push((session, Message::Told { number, reply: encode_reply(&reply) }));
        }
    }
}

/// What executing an operation said.
fn said(writing: &Writing, executed: Option<CommandReply>) -> RequestReply {
    match executed {
        Some(CommandReply::Done(result)) => reply_of(&result),
        Some(CommandReply::EpochClosed) => Err(RequestError::EpochClosed(writing.keyspace.clone())),
        _ => Err(writing.unknown()),
    }
}

fn reply_of(result: &[u8]) -> RequestReply {
    decode_reply(result).unwrap_or(Err(RequestError::Untold))
}

fn not_done(keyspace: KeyspaceName, reason: &NotDone) -> RequestError {
    match reason {
        NotDone::NoLeader | NotDone::NotLeader { .. } => RequestError::NoLeader(reason.to_string()),
        _ => RequestError::TryAgain { keyspace, reason: reason.to_string() },
    }
}
