//! What clients ask of strong keyspaces: executed here, or handed on to an anchor that can.
//!
//! What writes or decides becomes an operation with an id. What only reads waits until this anchor has applied what was
//! acknowledged before it came, unless less is good enough for whoever asks. All that waits has a bound in time.

use std::collections::BTreeMap;
use std::fmt;

use super::Ask;
use super::answering::{Parted, Waiter, not_done};
use super::forward::Forwarded;
use super::naming::Names;
use super::open::Open;
use super::proposing::Writings;
use crate::command::{ClientId, OperationId};
use crate::id::{KeyspaceId, KeyspaceName};
use crate::mode::Mode;
use crate::ports::{LogIndex, NotDone, RequestId as GroupRequestId, Rows as _};
use crate::replica::{Basis, Now, Replica, Step, View};
use crate::request::{Action, ActionError, Request, RequestError, RequestReply};
use crate::write::WriteError;

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

/// On what terms something is asked of a strong keyspace. An eventual one refuses to name operations, and takes no notice of
/// the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What its reads must see, if it only reads.
    pub freshness: Freshness,
    /// Which operation it is, if it writes: the client's name and its number. Drawn, if the client does not count. Of
    /// several actions that do not belong together each is an operation, and this the first of as many numbers.
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
    pub(super) names: Names,
    pub(super) open: Open,
    last_id: u64,
    pub(super) parted: Parted,
    pub(super) writings: Writings,
    /// Reads of this turn, to wait for a barrier.
    reading: Vec<Reading>,
    barriers: BTreeMap<GroupRequestId, Vec<Reading>>,
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

    /// All sessions are over.
    pub(crate) fn forwarded_are_lost(&mut self) {
        self.forwarded.abandon();
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
        let is_strong = self.mode(id).is_some_and(|mode| mode.latest().is_strong());
        // Whoever names a revision has seen that it is strong.
        let is_seen = matches!(terms.freshness, Freshness::Revision(1..)) && request.is_query();
        if is_strong || is_seen {
            return self.strong_request(now, waiter, (request, terms), view, step);
        }
        let reply = match waiter {
            // Nothing of it would be remembered, so a second try would do it twice.
            Waiter::Client(_) if terms.operation.is_some() && self.is_open(id) => {
                let source = ActionError::NeedsStrong(request.keyspace.clone());
                Err(RequestError::Action { index: 0, source })
            }
            Waiter::Client(_) => self.request(now, &request, view, step),
            Waiter::Peer { .. } | Waiter::Part(..) => Err(self.not_yet(&request.keyspace)),
        };
        self.reply_to(waiter, reply, Basis::Commit, step);
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

    /// Whether this anchor stands where the log does, so that it executes entries and answers reads.
    fn executes(&self, id: KeyspaceId) -> bool {
        let is_whole = self.keyspaces.get(&id).is_some_and(|keyspace| !keyspace.is_partial);
        is_whole && self.strong.anchor.is_some() && self.mode(id).is_some_and(Mode::is_exact)
    }

    fn strong_request(
        &mut self,
        now: Now,
        waiter: Waiter,
        (request, terms): (Request, Terms),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let id = self.id_of(&request.keyspace);
        let is_query = request.is_query();
        let until_ms = now.mono_ms.saturating_add(terms.within_ms.min(WITHIN_MS_MAX));
        if let Some(error) = self.refusal_of(&request, &terms) {
            return self.tell(waiter, Err(error), step);
        }
        let is_client = matches!(waiter, Waiter::Client(_));
        if let Some(error) = self.quota_refusal(&request, view).filter(|_| is_client) {
            return self.tell(waiter, Err(error), step);
        }
        self.strong.requests.open.begin(waiter);
        match terms.freshness {
            Freshness::Stale if is_query => self.read_labelled(now, waiter, &request, view, step),
            Freshness::Revision(revision) if is_query && self.revision(id) >= revision => {
                self.read_labelled(now, waiter, &request, view, step);
            }
            Freshness::Revision(revision) if is_query => {
                self.strong.requests.revisions.push((revision, Reading { waiter, request, until_ms }));
            }
            _ if !self.executes(id) => self.hand_on(now, waiter, (request, terms), step),
            _ if is_query => self.strong.requests.reading.push(Reading { waiter, request, until_ms }),
            _ => self.gather(now, (waiter, until_ms), request, terms.operation),
        }
    }

    /// Why a request is not even begun, if it is not.
    fn refusal_of(&self, request: &Request, terms: &Terms) -> Option<RequestError> {
        let keyspace = || request.keyspace.clone();
        if let Some(reason) = &self.failed {
            return Some(RequestError::ReadOnly(reason.clone()));
        }
        if request.is_query() && terms.freshness == Freshness::Stale {
            return None;
        }
        let requests = &self.strong.requests;
        if requests.open.len() >= OPEN_MAX || (!request.is_query() && requests.writings.are_full()) {
            let reason = "too many requests are open".to_owned();
            return Some(RequestError::TryAgain { keyspace: keyspace(), reason });
        }
        let (_, number) = terms.operation?;
        let reason = "there are not so many numbers behind that of the operation".to_owned();
        let has_numbers = number.checked_add(request.actions.len() as u64).is_some();
        (!has_numbers).then(|| RequestError::TooLarge { keyspace: keyspace(), reason })
    }

    /// Why a write of this node's clients is not begun, if this node holds already what it may. The log knows no quota:
    /// what it says is the same on every anchor.
    fn quota_refusal(&self, request: &Request, view: &View<'_, '_>) -> Option<RequestError> {
        let id = self.id_of(&request.keyspace);
        let quota_bytes = self.quota(id)?;
        let index = request.actions.iter().position(Action::may_grow)?;
        let keyspace = request.keyspace.clone();
        match view.draft.bytes(id) {
            Ok(bytes) if bytes < quota_bytes => None,
            Ok(_) => {
                let source = WriteError::OverQuota { keyspace, quota_bytes }.into();
                Some(RequestError::Action { index, source })
            }
            Err(error) => Some(RequestError::TryAgain { keyspace, reason: error.to_string() }),
        }
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
    ) {
        let id = self.id_of(&request.keyspace);
        if let Waiter::Client(client) = waiter {
            step.labels.push((client, self.label(now, id)));
        }
        let reply = self.read(request, view);
        self.reply_to(waiter, reply, Basis::Rows(request.keyspace.clone()), step);
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

    /// Asks for one barrier for the reads of this turn.
    pub(super) fn ask_for_barrier(&mut self, step: &mut Step) {
        let reading = std::mem::take(&mut self.strong.requests.reading);
        if !reading.is_empty() {
            let id = self.strong.requests.next_id();
            let within_ms = self.longest(reading.iter().map(|reading| reading.until_ms));
            self.strong.requests.barriers.insert(id, reading);
            step.asks.push(Ask::Barrier { id, within_ms });
        }
    }

    /// Who may wait less long is answered by this replica.
    pub(super) fn longest(&self, until_ms: impl Iterator<Item = u64>) -> u64 {
        until_ms.max().unwrap_or(0).saturating_sub(self.mono_ms)
    }

    /// A barrier was passed: all that was acknowledged before the reads came is applied here, or nobody knows.
    pub(super) fn passed(
        &mut self,
        id: GroupRequestId,
        result: &Result<LogIndex, NotDone>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let index = match result {
            Ok(index) => *index,
            Err(reason) => return self.not_passed(id, reason, step),
        };
        for Reading { waiter, request, .. } in self.strong.requests.barriers.remove(&id).into_iter().flatten()
        {
            // What a following anchor has applied says nothing of what the entries say.
            let is_here = self.executes(self.id_of(&request.keyspace));
            let reply = if is_here && self.strong.applied_at_least(index) {
                self.read(&request, view)
            } else {
                Err(self.not_yet(&request.keyspace))
            };
            self.reply_to(waiter, reply, Basis::Rows(request.keyspace), step);
        }
    }

    /// Nobody knows what was acknowledged before the reads came.
    pub(super) fn not_passed(&mut self, id: GroupRequestId, reason: &NotDone, step: &mut Step) {
        for Reading { waiter, request, .. } in self.strong.requests.barriers.remove(&id).into_iter().flatten()
        {
            self.tell(waiter, Err(not_done(request.keyspace, reason)), step);
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
            self.reply_to(waiter, reply, Basis::Rows(request.keyspace), step);
        }
    }

    /// What has waited too long is answered.
    pub(crate) fn tick_requests(&mut self, step: &mut Step) {
        let now_ms = self.mono_ms;
        self.tick_writings(step);
        let mut late = Vec::new();
        for reading in self.strong.requests.barriers.values_mut() {
            late.extend(reading.extract_if(.., |reading| now_ms >= reading.until_ms));
        }
        let is_late = |(_, reading): &mut (u64, Reading)| now_ms >= reading.until_ms;
        let revisions = self.strong.requests.revisions.extract_if(.., is_late);
        late.extend(revisions.map(|(_, reading)| reading));
        for Reading { waiter, request, .. } in late {
            self.tell(waiter, Err(not_done(request.keyspace, &NotDone::NoLeader)), step);
        }
        self.tick_forwarded(step);
    }
}
