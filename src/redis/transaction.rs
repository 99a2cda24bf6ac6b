//! What MULTI has queued until EXEC.
//!
//! All of it becomes one request that nobody sees half done. As in Redis, a command that fails when executed
//! leaves the others alone, and one that cannot even be queued lets EXEC refuse them all.

use tidelock_engine::request::Action;

use super::burst::Later;
use super::call::{Arguments, Call, Shape};
use super::reply::Reply;
use super::table::{ALL, FAST, NONE, Other, Run, Spec, spec};
use super::told::Told;
use crate::named::mark_of;

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("discard", 1, FAST, NONE, Run::Other(Other::Discard), "Forgets the queued commands")),
    spec(("exec", 1, FAST, NONE, Run::Other(Other::Exec), "Executes the queued commands as one batch")),
    spec(("unwatch", 1, FAST, NONE, Run::Other(Other::UnwatchKeys), "Forgets the watched keys")),
    spec(("watch", -2, FAST, ALL, Run::Other(Other::WatchKeys), "Lets EXEC do nothing if keys were changed")),
    spec(("multi", 1, FAST, NONE, Run::Other(Other::Multi), "Begins to queue commands")),
];

/// One queued command.
#[derive(Debug)]
pub(super) enum Part {
    /// Its answer is known already.
    Ready(Reply),
    /// Its answer has this shape and needs what this many actions give.
    Call { shape: Shape, actions: usize },
    /// It is done when the others are.
    Later(Later),
}

/// What MULTI has queued.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    parts: Vec<Part>,
    actions: Vec<Action>,
    told: Vec<Told>,
    /// The keys that are read, if the client keeps copies.
    remembered: Vec<Vec<u8>>,
    bytes: usize,
    /// What it is for, by the words of the commands that were queued.
    mark: u64,
    is_spoilt: bool,
}

impl Transaction {
    /// The bytes of the queued commands, as they count towards the limits.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// How many commands are queued.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether a command could not be queued.
    pub(super) fn is_spoilt(&self) -> bool {
        self.is_spoilt
    }

    /// Remembers that a command could not be queued. What was queued is of no use any more.
    pub(super) fn spoil(&mut self) {
        *self = Self { is_spoilt: true, ..Self::default() };
    }

    /// Takes in the words of a command that is queued.
    pub(super) fn mark(&mut self, name: &str, arguments: &[Vec<u8>]) {
        let before = self.mark.to_be_bytes();
        let words = [&before[..], name.as_bytes()].into_iter();
        self.mark = mark_of(words.chain(arguments.iter().map(Vec::as_slice)));
    }

    /// Queues a command of this many bytes.
    pub(super) fn queue(&mut self, call: Call, bytes: usize) {
        if !self.is_spoilt {
            let (is_whole, actions) = (call.is_whole(), call.len());
            let (call_actions, shape) = call.into_parts();
            if is_whole {
                self.actions.push(Action::Whole(call_actions.collect()));
                self.parts.push(Part::Call { shape, actions: 1 });
            } else {
                self.actions.extend(call_actions);
                self.parts.push(Part::Call { shape, actions });
            }
            self.bytes += bytes;
        }
    }

    /// Queues an answer that is known already.
    pub(super) fn queue_ready(&mut self, reply: Reply, bytes: usize) {
        if !self.is_spoilt {
            self.parts.push(Part::Ready(reply));
            self.bytes += bytes;
        }
    }

    /// Queues what is answered once all else is done.
    pub(super) fn queue_told(&mut self, what: Other, arguments: Arguments, bytes: usize) {
        if !self.is_spoilt {
            self.told.push(Told { place: self.parts.len(), what, arguments });
            self.queue_ready(Reply::Null, bytes);
        }
    }

    /// Keeps keys until they are about to be read.
    pub(super) fn remember<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        self.remembered.extend(keys.map(<[u8]>::to_vec));
    }

    /// Takes the keys that are about to be read.
    pub(super) fn take_remembered(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.remembered)
    }

    /// Takes what is answered once all else is done.
    pub(super) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Whether something is answered once all else is done.
    pub(super) fn tells(&self) -> bool {
        !self.told.is_empty()
    }

    /// Whether a command may write.
    pub(super) fn has_write(&self) -> bool {
        !self.actions.iter().all(Action::is_query)
    }

    /// Queues what is done when the others are.
    pub(super) fn queue_later(&mut self, later: Later, bytes: usize) {
        if !self.is_spoilt {
            self.parts.push(Part::Later(later));
            self.bytes += bytes;
        }
    }

    /// The actions of all commands, how their answers are made, and what the transaction is for.
    pub(super) fn into_parts(self) -> (Vec<Action>, Vec<Part>, u64) {
        (self.actions, self.parts, self.mark)
    }
}
