//! What a client sent in one go, on its way to the node and back.
//!
//! Reads alone are answered beside the event loop. With a write among them, all commands go through one turn in
//! their order, so that reads see the writes before them and one commit serves all. Replies keep the order of
//! the commands.
//!
//! In a strong keyspace all commands go through the loop, and from there to the anchors. What is handed over together
//! may happen there in any order, so whatever comes behind a write waits for it, unless both fit into one request.

use std::ops::Range;

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::read::{Answer, Query, QueryError};
use tidelock_engine::replica::{Label, Terms};
use tidelock_engine::request::{
    Action, ActionError, ActionReply, Atomicity, Decided, Decision, Request, RequestError, RequestReply,
};

use super::backend::Backend;
use super::call::{Arguments, Call, Given, Shape};
use super::errors;
use super::keys::too_long;
use super::output::Output;
use super::reply::{Protocol, Reply};
use super::state::{Replies, SessionState};
use super::transaction::{Part, Transaction};
use super::watched::Watched;
use crate::named::{Name, put_name};
use crate::node::Replied;
use crate::pubsub::PubSub;

/// The actions of one burst. More are executed, but not in one turn.
const ACTIONS_MAX: usize = 16_384;

/// The reads of a burst with writes. Their answers are all made before the first is sent, unlike those of a
/// burst of reads alone.
const READS_BESIDE_WRITES_MAX: usize = 128;

/// The answers of a burst of reads alone that are made before the first of them is sent, in bytes. No budget counts
/// them while a client that does not read is waited for, so they are few.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;

/// The bytes of the commands that one request on a strong keyspace is made of: what it writes must fit into one frame, or
/// none of it is done.
const STRONG_REQUEST_BYTES_MAX: usize = 256 << 10;

/// The actions of such a request.
const STRONG_REQUEST_ACTIONS_MAX: usize = 1_024;

/// A command about messages. It is done when its reply is written, so that whoever hears of it finds what was
/// committed before.
pub(super) struct Later {
    pub(super) run: fn(&PubSub, Arguments) -> Reply,
    pub(super) arguments: Arguments,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

impl Later {
    fn reply(self, pubsub: &PubSub) -> Reply {
        (self.run)(pubsub, self.arguments)
    }
}

/// What becomes one reply.
#[derive(Debug)]
enum Entry {
    Ready(Reply),
    Later(Later),
    Call {
        request: usize,
        shape: Shape,
        actions: usize,
    },
    Batch {
        request: usize,
        actions: usize,
        parts: Vec<Part>,
    },
    /// A batch that is done only if the keys that were watched are as they were.
    Watched {
        request: usize,
        parts: Vec<Part>,
    },
}

/// Commands that were understood and not yet executed.
#[derive(Debug, Default)]
pub(super) struct Burst {
    requests: Vec<(Request, Terms)>,
    entries: Vec<Entry>,
    actions: usize,
    reads: usize,
    /// The bytes of the commands that the last request is made of.
    bytes: usize,
    /// Whether it goes through the event loop: it writes, or is of a strong keyspace.
    is_for_loop: bool,
    has_strong: bool,
    has_long_read: bool,
    /// What the last read of a strong keyspace saw, if that was less than all that was acknowledged.
    label: Option<Label>,
}

impl Burst {
    /// Adds an answer that is known already.
    pub(super) fn ready(&mut self, reply: Reply) {
        self.entries.push(Entry::Ready(reply));
    }

    /// Adds what is done when its turn to be answered comes.
    pub(super) fn later(&mut self, later: Later) {
        self.entries.push(Entry::Later(later));
    }

    /// Whether what is here must be executed before the call is added: reads of unknown length do not go
    /// together with writes, and all is bounded.
    pub(super) fn must_flush_before(&self, call: &Call, is_strong: bool) -> bool {
        let is_long = call.shape.is_long();
        let is_for_loop = call.is_write() || is_strong;
        let meets_long_read = if is_for_loop { self.has_long_read } else { is_long && self.is_for_loop };
        let is_alone = is_long && is_strong;
        let reads = self.reads + if call.is_write() { 0 } else { call.len() };
        meets_long_read
            || (is_alone && self.actions > 0)
            || ((self.is_for_loop || is_for_loop) && reads > READS_BESIDE_WRITES_MAX)
            || (self.actions > 0 && self.actions + call.len() > ACTIONS_MAX)
    }

    /// Adds a command of this many bytes. Consecutive ones on the same keyspace go into one request.
    pub(super) fn call(&mut self, state: &SessionState, (call, bytes): (Call, usize), is_strong: bool) {
        let actions = call.len();
        self.actions += actions;
        self.has_strong |= is_strong;
        self.is_for_loop |= is_strong || call.is_write();
        if !call.is_write() {
            self.reads += actions;
            self.has_long_read |= call.shape.is_long();
        }
        let atomicity = if call.is_whole() { Atomicity::AllOrNothing } else { Atomicity::Each };
        let has_room = |last: &Request| {
            !is_strong
                || (self.bytes + bytes <= STRONG_REQUEST_BYTES_MAX
                    && last.actions.len() + actions <= STRONG_REQUEST_ACTIONS_MAX)
        };
        let may_join = self.requests.last().is_some_and(|(last, terms)| {
            atomicity == Atomicity::Each
                && last.atomicity == Atomicity::Each
                && last.durability == state.durability
                && last.keyspace == state.keyspace
                && terms.freshness == state.freshness
                && terms.operation.is_none()
                && state.named.is_none()
                && has_room(last)
        });
        if !may_join {
            self.request(state, atomicity);
        }
        self.bytes += bytes;
        let request = self.requests.len() - 1;
        let (call_actions, shape) = call.into_parts();
        self.requests[request].0.actions.extend(call_actions);
        self.entries.push(Entry::Call { request, shape, actions });
        if let Some((name, mark)) = state.named {
            self.name_last(name, mark);
        }
    }

    /// The last request is an operation of this name.
    fn name_last(&mut self, name: Name, mark: u64) {
        if let Some((request, terms)) = self.requests.last_mut() {
            put_name((request, terms), name, mark);
        }
    }

    /// Takes the answer back that was added last.
    pub(super) fn take_ready(&mut self) -> Reply {
        match self.entries.pop() {
            Some(Entry::Ready(reply)) => reply,
            other => unreachable!("an answer was added, not {other:?}"),
        }
    }

    /// Adds all that a transaction queued.
    pub(super) fn batch(
        &mut self,
        state: &SessionState,
        (transaction, watched): (Transaction, Watched),
        is_strong: bool,
    ) {
        let (mut actions, parts, mark) = transaction.into_parts();
        self.actions += actions.len();
        let is_watched = !watched.is_empty();
        if is_watched {
            let conditions = watched.into_conditions();
            let decision = Decision { conditions, actions, ..Decision::default() };
            actions = vec![Action::Decide(Box::new(decision))];
        }
        self.has_strong |= is_strong;
        self.is_for_loop |= is_strong || !actions.iter().all(Action::is_query);
        self.request(state, Atomicity::Together);
        let request = self.requests.len() - 1;
        self.entries.push(if is_watched {
            Entry::Watched { request, parts }
        } else {
            Entry::Batch { request, actions: actions.len(), parts }
        });
        self.requests[request].0.actions = actions;
        if let Some((name, _)) = state.named {
            self.name_last(name, mark);
        }
    }

    fn request(&mut self, state: &SessionState, atomicity: Atomicity) {
        let (keyspace, durability) = (state.keyspace.clone(), state.durability);
        let request = Request { keyspace, actions: Vec::new(), atomicity, durability };
        self.requests.push((request, Terms { freshness: state.freshness, ..Terms::default() }));
        self.bytes = 0;
    }

    /// Remembers what a read of a strong keyspace saw that went another way.
    pub(super) fn saw(&mut self, label: Option<Label>) {
        self.label = label;
    }

    /// What the last read of a strong keyspace saw, if that was less than all that was acknowledged.
    pub(super) fn label(&self) -> Option<Label> {
        self.label
    }

    /// Executes what is here and writes the replies, if the client wants any.
    pub(super) async fn flush<B: Backend>(
        &mut self,
        backend: &B,
        (protocol, replies): (Protocol, Replies),
        out: &mut Output<'_>,
    ) {
        let mut answers = self.execute(backend, out.bytes_max()).await;
        let mut given = Vec::new();
        for entry in self.entries.drain(..) {
            // Nobody reads the rest. What others hear of is told all the same.
            if out.failure().is_some() && matches!(entry, Entry::Ready(_) | Entry::Call { .. }) {
                continue;
            }
            let reply = answers.reply(entry, &mut given, backend.pubsub());
            if !replies.is_muted() {
                out.push(&reply, protocol);
                out.relieve().await;
                // Nobody reads what else there is.
                if out.failure().is_some() {
                    break;
                }
            }
        }
    }

    /// Executes what is here, which has one reply.
    pub(super) async fn only<B: Backend>(&mut self, backend: &B, bytes_max: usize) -> Reply {
        let mut answers = self.execute(backend, bytes_max).await;
        let entry = self.entries.pop().expect("something was added");
        answers.reply(entry, &mut Vec::new(), backend.pubsub())
    }

    async fn execute<'a, B: Backend>(&mut self, backend: &'a B, bytes_max: usize) -> Answers<'a, B> {
        let requests = std::mem::take(&mut self.requests);
        let answers = if self.has_strong {
            Answers::committed(self.submit_in_order(backend, requests).await)
        } else if self.is_for_loop {
            Answers::committed(backend.submit_on(requests).await.replies)
        } else {
            let runs = requests.into_iter().map(|(request, _)| ReadRun::new(request)).collect();
            Answers::Read { backend, bytes_max, runs }
        };
        (self.actions, self.reads) = (0, 0);
        (self.is_for_loop, self.has_strong, self.has_long_read) = (false, false, false);
        answers
    }

    /// Hands over together what may happen in any order: requests on different keyspaces, or that only read.
    async fn submit_in_order<B: Backend>(
        &mut self,
        backend: &B,
        requests: Vec<(Request, Terms)>,
    ) -> Vec<RequestReply> {
        let (mut replies, mut together) = (Vec::with_capacity(requests.len()), Vec::new());
        for (request, terms) in requests {
            if together.iter().any(|(before, _)| must_follow(&request, before)) {
                self.submit_together(backend, &mut together, &mut replies).await;
            }
            together.push((request, terms));
        }
        self.submit_together(backend, &mut together, &mut replies).await;
        replies
    }

    async fn submit_together<B: Backend>(
        &mut self,
        backend: &B,
        together: &mut Vec<(Request, Terms)>,
        replies: &mut Vec<RequestReply>,
    ) {
        let Replied { replies: more, label } = backend.submit_on(std::mem::take(together)).await;
        self.label = label;
        replies.extend(more);
    }
}

/// Whether a request must not happen before another one that came before it.
fn must_follow(request: &Request, before: &Request) -> bool {
    let only_reads = |request: &Request| request.actions.iter().all(Action::is_query);
    request.keyspace == before.keyspace && !(only_reads(request) && only_reads(before))
}

/// Where the replies of a burst come from.
enum Answers<'a, B> {
    /// From the replies of the event loop.
    Committed(Vec<Result<std::vec::IntoIter<Given>, RequestError>>),
    /// From snapshots, as far as the client reads.
    Read { backend: &'a B, bytes_max: usize, runs: Vec<ReadRun> },
}

impl<B: Backend> Answers<'_, B> {
    fn committed(replies: Vec<Result<Vec<Given>, RequestError>>) -> Self {
        Self::Committed(replies.into_iter().map(|reply| reply.map(Vec::into_iter)).collect())
    }

    fn reply(&mut self, entry: Entry, given: &mut Vec<Given>, pubsub: &PubSub) -> Reply {
        match entry {
            Entry::Ready(reply) => reply,
            Entry::Later(later) => later.reply(pubsub),
            Entry::Call { request, shape, actions } => {
                self.take(request, actions, given).map_or_else(|error| error, |()| shape.reply(given))
            }
            Entry::Batch { request, actions, parts } => {
                let mut all = Vec::with_capacity(actions);
                if let Err(error) = self.take(request, actions, &mut all) {
                    return error;
                }
                batch_reply(parts, all, given, pubsub)
            }
            Entry::Watched { request, parts } => {
                if let Err(error) = self.take(request, 1, given) {
                    return error;
                }
                match given.pop() {
                    Some(Ok(ActionReply::Decided(Decided { given: Some(all), .. }))) => {
                        batch_reply(parts, all, given, pubsub)
                    }
                    Some(Ok(_)) => Reply::NullArray,
                    Some(Err(ActionError::NeedsStrong(keyspace))) => errors::needs_strong("WATCH", &keyspace),
                    Some(Err(error)) => errors::action(&error),
                    None => unreachable!("there is one reply per action"),
                }
            }
        }
    }

    /// Moves what the next actions of a request gave to `given`.
    fn take(&mut self, request: usize, actions: usize, given: &mut Vec<Given>) -> Result<(), Reply> {
        match self {
            Self::Committed(replies) => {
                let reply = replies.get_mut(request).expect("there is one reply per request");
                let reply = reply.as_mut().map_err(|error| errors::request(error))?;
                given.extend(reply.take(actions));
                assert_eq!(given.len(), actions, "there is one reply per action");
                Ok(())
            }
            Self::Read { backend, bytes_max, runs } => {
                runs[request].take(*backend, *bytes_max, actions, given)
            }
        }
    }
}

/// The answers of the commands of a batch.
fn batch_reply(parts: Vec<Part>, all: Vec<Given>, given: &mut Vec<Given>, pubsub: &PubSub) -> Reply {
    let mut all = all.into_iter();
    let replies = parts.into_iter().map(|part| match part {
        Part::Ready(reply) => reply,
        Part::Later(later) => later.reply(pubsub),
        Part::Call { shape, actions } => {
            for part in all.by_ref().take(actions) {
                match part {
                    Ok(ActionReply::Whole(parts)) => given.extend(parts.into_iter().map(Ok)),
                    part => given.push(part),
                }
            }
            shape.reply(given)
        }
    });
    Reply::Array(replies.collect())
}

/// The reads of one request, of which some are answered.
#[derive(Debug)]
struct ReadRun {
    keyspace: KeyspaceName,
    queries: Vec<Query>,
    next: usize,
    answers: std::vec::IntoIter<Result<Answer, QueryError>>,
}

impl ReadRun {
    fn new(request: Request) -> Self {
        let queries = request.actions.into_iter().map(|action| match action {
            Action::Query(query) => query,
            Action::Write(_) | Action::Decide(_) | Action::Whole(_) => {
                unreachable!("a burst with a write goes through the event loop")
            }
        });
        Self {
            keyspace: request.keyspace,
            queries: queries.collect(),
            next: 0,
            answers: Vec::new().into_iter(),
        }
    }

    /// All actions of a command are answered from one snapshot, within the bound; those of a burst, too, as far as they
    /// are read ahead.
    fn take<B: Backend>(
        &mut self,
        backend: &B,
        bytes_max: usize,
        actions: usize,
        given: &mut Vec<Given>,
    ) -> Result<(), Reply> {
        let next = self.next;
        self.next += actions;
        if self.answers.len() < actions {
            self.read(backend, next..self.queries.len(), READ_AHEAD_BYTES_MAX.min(bytes_max))?;
        }
        if self.answers.len() < actions {
            self.read(backend, next..self.next, bytes_max)?;
        }
        if self.answers.len() < actions {
            self.answers = Vec::new().into_iter();
            return Err(too_long(bytes_max));
        }
        let answers = self.answers.by_ref().take(actions);
        given.extend(answers.map(|answer| answer.map(ActionReply::Answer).map_err(ActionError::Query)));
        Ok(())
    }

    /// Answers the queries of this range, or the first of them, from one snapshot.
    fn read<B: Backend>(&mut self, backend: &B, range: Range<usize>, bytes_max: usize) -> Result<(), Reply> {
        let answers = backend.read(&self.keyspace, &self.queries[range], bytes_max);
        self.answers = answers.map_err(|error| errors::request(&error))?.into_iter();
        Ok(())
    }
}
