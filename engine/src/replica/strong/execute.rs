//! Executing what the anchors' log says: commands become strong frames, the same ones on every anchor that stands
//! exactly at what is committed, byte for byte.
//!
//! What goes in is the entry, its place, the rows, and the clock that the frames before have left; nothing of this node
//! does: no clock, no quota, no setting. Each frame says of which entry it is: what comes before that was executed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::outcomes;
use super::readable::readable_reply;
use super::{Ask, CommandReply};
use crate::bounds::BoundError;
use crate::causality::{Head, Hlc, VersionVector};
use crate::command::{Command, CommandError, Execute, OperationId, decode_entry};
use crate::crdt::KeyView;
use crate::draft::Draft;
use crate::evaluation::{AnswerBudget, Evaluation, Rules};
use crate::frame::{Frame, FrameBuilder, FrameStart};
use crate::id::{ClientId, Epoch, FrameId, KeyspaceId};
use crate::mode::Mode;
use crate::ports::{Committed, CommittedPayload, Conditional, Durability, LogIndex, ReadError, Rows, Token};
use crate::replica::{Now, Replica, Step, View};
use crate::request::{Atomicity, RequestError, RequestReply, encode_reply};
use crate::wire::WireError;
use crate::write::{Author, Executed, WriteError, executed};

/// Removing stops when a frame has so many bytes; the rest is for another command.
const REMOVING_BYTES_MAX: usize = 256 << 10;

/// In whose name things are removed, so that each strong frame says of which entry it is.
const SWEEPER: ClientId = ClientId([0; 16]);

/// The keys that one command lets expire at most. More delays what comes behind it.
const EXPIRED_MAX: usize = 1_000;

/// An entry of the log that says something.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) index: LogIndex,
    pub(super) commands: &'a [Command],
    /// Whether there is one command in it: what removes comes in an entry of its own, so that none is executed in part.
    pub(super) is_alone: bool,
    /// How long it is, in bytes.
    pub(super) bytes: usize,
}

impl Replica {
    /// Applies entries, and answers for all of them, or stops the group if the rows cannot be read: what one anchor
    /// alone did otherwise would make it another.
    pub(super) fn apply_entries(
        &mut self,
        now: Now,
        token: Token,
        (entries, record): (Vec<Committed>, Vec<u8>),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) {
        let open: Vec<KeyspaceId> = self.keyspaces.keys().copied().collect();
        open.into_iter().for_each(|id| self.seal(id, step));
        let (mut done, mut executed) = (Step::default(), Vec::new());
        let mark = view.draft.mark();
        let apply = |entry: &Committed| self.apply_entry(now, entry, view, &mut done, &mut executed);
        match entries.iter().map(apply).collect::<Result<Vec<_>, String>>() {
            Ok(replies) => {
                view.draft.keep(mark);
                step.absorb(done);
                for (operation, reply) in executed {
                    self.answer_executed(&operation, reply, step);
                }
                step.raft_applied = Some(record);
                // A majority has the entries on disk: what is lost here is applied again.
                step.durability = step.durability.max(Some(Durability::Buffered));
                step.asks.push(Ask::Applied { token, result: Ok(replies) });
            }
            Err(reason) => {
                view.draft.take_back(mark);
                tracing::error!(reason, "cannot apply what the group agreed on");
                step.absorb(self.commit_failed(&reason));
                step.asks.push(Ask::Applied { token, result: Err(reason) });
            }
        }
    }

    fn apply_entry(
        &mut self,
        now: Now,
        entry: &Committed,
        view: &mut View<'_, '_>,
        step: &mut Step,
        done: &mut Vec<((KeyspaceId, OperationId), CommandReply)>,
    ) -> Result<Vec<u8>, String> {
        self.strong.applied = Some(entry.index);
        let CommittedPayload::Command(bytes) = &entry.payload else { return Ok(Vec::new()) };
        let commands = match decode_entry(bytes) {
            Ok(commands) => commands,
            Err(error @ CommandError::Wire(WireError::Version { .. })) => return Err(error.to_string()),
            Err(error) => {
                // It is the same to every anchor.
                tracing::error!(%error, index = %entry.index, "an entry of the log means nothing");
                self.counters.count("entries_malformed");
                return Ok(Vec::new());
            }
        };
        self.counters.count("entries_applied");
        let is_alone = commands.len() == 1;
        let entry = Entry { index: entry.index, commands: &commands, is_alone, bytes: bytes.len() };
        let executed = self.execute(now, entry, view, step).map_err(|error| error.to_string())?;
        let encoded = CommandReply::encode_all(&executed);
        let operations = commands.iter().zip(executed).filter_map(|(command, reply)| match command {
            Command::Execute(execute) => Some(((execute.keyspace, execute.operation), reply)),
            _ => None,
        });
        done.extend(operations);
        Ok(encoded)
    }

    /// Executes the commands of one entry: those of one keyspace become one frame, or more if one would be too large.
    pub(super) fn execute(
        &mut self,
        now: Now,
        entry: Entry<'_>,
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<Vec<CommandReply>, ReadError> {
        let mut frames: BTreeMap<KeyspaceId, FrameBuilder> = BTreeMap::new();
        let mut executed = Vec::new();
        for command in entry.commands {
            if let Some(reply) = self.change_known(command, step) {
                executed.push(reply);
                continue;
            }
            let Some((id, epoch)) = place_of(command) else {
                let id = self.keyspace_of(command);
                if let Some(frame) = frames.remove(&id) {
                    self.seal_strong(now, id, frame, step);
                }
                executed.push(self.change_epoch(entry.index, command, step));
                continue;
            };
            executed.push(match self.mode(id).filter(|mode| mode.epoch() == epoch && epoch.is_strong()) {
                None => CommandReply::EpochClosed,
                Some(mode) if !mode.is_exact() || !self.keyspaces.contains_key(&id) => {
                    self.miss(id, entry);
                    CommandReply::Following
                }
                Some(_) => {
                    let begun = frames.remove(&id);
                    let mut frame = begun.unwrap_or_else(|| self.begin_frame(id, entry.commands, view.draft));
                    let result =
                        self.execute_one(now, &mut frame, (entry.index, command, entry.is_alone), view, step);
                    frames.insert(id, frame);
                    result?
                }
            });
        }
        for (id, frame) in frames {
            self.seal_strong(now, id, frame, step);
            view.draft.set_clock(id, self.mode(id).map_or(Hlc::default(), Mode::clock));
        }
        Ok(executed)
    }

    /// Executes one command. Of an entry that was executed before, in part or with others behind it, it does again what
    /// is the same when it is done twice, and nothing else.
    fn execute_one(
        &mut self,
        now: Now,
        frame: &mut FrameBuilder,
        (index, command, is_alone): (LogIndex, &Command, bool),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<CommandReply, ReadError> {
        let id = frame.header().keyspace;
        let position = self.mode(id).map(Mode::position).unwrap_or_default();
        match command {
            // It is a name that no client has.
            Command::Execute(execute) if execute.operation.client == SWEEPER => Ok(CommandReply::FellOut),
            Command::Execute(execute) => {
                let OperationId { client, number, .. } = execute.operation;
                match executed(view.draft, id, (client, number))? {
                    Executed::Done { result, .. } => Ok(CommandReply::Done(outcomes::reply(result))),
                    // It was executed in its place, and its outcome was let go since.
                    Executed::Not if index < position => Ok(CommandReply::FellOut),
                    Executed::FellOut => Ok(CommandReply::FellOut),
                    Executed::Not => self.execute_new(now, frame, (index, execute), view, step),
                }
            }
            Command::Expire { .. } | Command::ForgetOutcomes { .. } if index <= position || !is_alone => {
                Ok(CommandReply::Removed)
            }
            // Of a keyspace in which nothing has happened since, all would be let go again and again.
            Command::ForgetOutcomes { until, .. } if *until >= frame.header().hlc => {
                Ok(CommandReply::Removed)
            }
            Command::Expire { until, .. } => {
                self.remove(now, frame, index, view, step, |author| expire_until(author, *until))
            }
            Command::ForgetOutcomes { until, .. } => {
                self.remove(now, frame, index, view, step, |author| Ok(author.forget_outcomes(*until)?))
            }
            _ => unreachable!("it changes no mode"),
        }
    }

    /// Executes an operation that was not executed before, and remembers its outcome with what it did.
    fn execute_new(
        &mut self,
        now: Now,
        frame: &mut FrameBuilder,
        (index, execute): (LogIndex, &Execute),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<CommandReply, ReadError> {
        let id = frame.header().keyspace;
        let OperationId { client, number, .. } = execute.operation;
        let (is_first, before) = (frame.is_empty(), frame.size());
        let mark = view.draft.mark();
        let mut author = self.author(frame, view.draft);
        let name = &self.keyspaces[&id].name;
        let rules = Rules { keyspace: name, quota_bytes: None, conditional: Conditional::Local };
        // If the rows cannot be read, all that the turn did is taken back.
        let reply = readable_reply(evaluate(&mut author, rules, execute))?;
        let result = encode_reply(&reply);
        author.keep_outcome((client, number), index.0, &result)?;
        if frame.is_within_bounds() {
            view.draft.keep(mark);
            return Ok(CommandReply::Done(result));
        }
        view.draft.take_back(mark);
        let (bytes, ops) = frame.size();
        frame.truncate(before);
        if !is_first {
            self.renew(now, frame, step);
            return self.execute_new(now, frame, (index, execute), view, step);
        }
        let source = WriteError::Bound(BoundError::Batch { bytes, ops }).into();
        let result = encode_reply(&Err(RequestError::Action { index: 0, source }));
        let mut author = self.author(frame, view.draft);
        author.keep_outcome((client, number), index.0, &result)?;
        Ok(CommandReply::Done(result))
    }

    /// Removes something, in a frame of its own, which so is within its bounds.
    fn remove(
        &mut self,
        now: Now,
        frame: &mut FrameBuilder,
        index: LogIndex,
        view: &mut View<'_, '_>,
        step: &mut Step,
        act: impl Fn(&mut Author<'_, '_>) -> Result<(), WriteError>,
    ) -> Result<CommandReply, ReadError> {
        if !frame.is_empty() {
            self.renew(now, frame, step);
        }
        let mut author = self.author(frame, view.draft);
        let removed = act(&mut author).and_then(|()| {
            if !author.frame.is_empty() {
                author.keep_outcome((SWEEPER, index.0), index.0, &[])?;
            }
            Ok(())
        });
        self.renew(now, frame, step);
        match removed {
            Ok(()) => Ok(CommandReply::Removed),
            Err(WriteError::Read(error)) => Err(error),
            Err(_) => unreachable!("what is removed was written within its bounds"),
        }
    }

    fn author<'a, 'b>(&'a self, frame: &'a mut FrameBuilder, draft: &'a mut Draft<'b>) -> Author<'a, 'b> {
        let heads = &self.keyspaces[&frame.header().keyspace].heads;
        Author { draft, frame, heads }
    }

    /// A frame for an entry, whose time is the highest of those that its commands say and of the clock before, whether
    /// they turn out to have been executed before or not: so it is the same when the rest of an entry is executed.
    fn begin_frame(&self, id: KeyspaceId, commands: &[Command], draft: &mut Draft<'_>) -> FrameBuilder {
        let mode = self.mode(id).expect("it is strong");
        let of_keyspace = commands.iter().filter(|command| place_of(command) == Some((id, mode.epoch())));
        let hlc = of_keyspace.filter_map(hlc_of).fold(mode.clock(), Hlc::max);
        draft.set_clock(id, hlc);
        self.next_frame(id, hlc)
    }

    fn next_frame(&self, id: KeyspaceId, hlc: Hlc) -> FrameBuilder {
        let mode = self.mode(id).expect("it is strong");
        let author = mode.author().expect("it is strong");
        let head = self.keyspaces[&id].heads.get(author);
        let start = FrameStart {
            keyspace: id,
            epoch: mode.epoch(),
            author,
            first: head.map_or(1, |head| head.seq + 1),
            previous: head.map_or(FrameId::NONE, |head| head.frame),
            hlc,
        };
        // The first frame of an epoch depends on all that the epoch began with, and each other one on the one before.
        let frontier = mode.record().filter(|_| head.is_none()).map(|record| &record.frontier[..]);
        let dependencies: VersionVector = frontier.unwrap_or_default().iter().copied().collect();
        FrameBuilder::new(start, &dependencies)
    }

    /// Signs the frame in the making, and begins the next one of the same time.
    fn renew(&mut self, now: Now, frame: &mut FrameBuilder, step: &mut Step) {
        let (id, hlc) = (frame.header().keyspace, frame.header().hlc);
        let full = std::mem::replace(frame, self.next_frame(id, hlc));
        self.seal_strong(now, id, full, step);
        *frame = self.next_frame(id, hlc);
    }

    /// Signs a strong frame, if there is anything in it, with the key of the epoch.
    fn seal_strong(&mut self, now: Now, id: KeyspaceId, frame: FrameBuilder, step: &mut Step) {
        if frame.is_empty() {
            return;
        }
        let mode = self.mode(id).expect("it is strong");
        let (key, record) = mode.signer().zip(mode.record()).expect("this anchor makes its frames");
        let card = record.card;
        let frame = frame.seal(key);
        let header = frame.header();
        if header.previous == FrameId::NONE {
            step.cards.push(card);
        }
        self.know_card(card);
        let keyspace = self.keyspaces.get_mut(&id).expect("it is executed there");
        keyspace.advance(header.author, Head { seq: header.last(), frame: frame.id() });
        self.clock.observe(now.unix_ms, header.hlc);
        self.counters.count("strong_frames_made");
        self.counters.add("strong_operations_made", u64::from(header.count));
        self.noted(&frame);
        self.fresh.push((frame.clone(), None));
        step.frames.push(frame);
    }

    /// Takes in that a strong frame was made or applied.
    pub(super) fn noted(&mut self, frame: &Frame) {
        let (id, hlc) = (frame.header().keyspace, frame.header().hlc);
        self.touch(id);
        self.note_retirements(frame);
        self.note_resets(frame);
        let index = outcomes::index_of(frame);
        if let Some((_, mode)) = self.strong.modes.get_mut(&id) {
            mode.advance(hlc, index);
            self.strong.changed.insert(id);
        }
    }
}

/// The keyspace and the epoch in which a command does something; none if it changes the mode.
pub(super) fn place_of(command: &Command) -> Option<(KeyspaceId, Epoch)> {
    match command {
        Command::Execute(execute) => Some((execute.keyspace, execute.operation.epoch)),
        Command::Expire { keyspace, epoch, .. } | Command::ForgetOutcomes { keyspace, epoch, .. } => {
            Some((*keyspace, *epoch))
        }
        Command::BeginSeal { .. }
        | Command::Cut { .. }
        | Command::Seal { .. }
        | Command::AbortSeal { .. }
        | Command::NameGroup(_)
        | Command::WantVoters(_) => None,
    }
}

/// The time that a command says, which its frame has at least.
fn hlc_of(command: &Command) -> Option<Hlc> {
    match command {
        Command::Execute(execute) => Some(execute.hlc),
        Command::Expire { until, .. } => Some(*until),
        _ => None,
    }
}

/// Evaluates the actions of an operation. What fails leaves nothing, and where all belong together nothing of the others
/// either.
fn evaluate(author: &mut Author<'_, '_>, rules: Rules<'_>, execute: &Execute) -> RequestReply {
    let before = author.frame.size();
    let mark = author.draft.mark();
    let mut answers = AnswerBudget::default();
    let reborrowed = Author { draft: &mut *author.draft, frame: &mut *author.frame, heads: author.heads };
    let mut evaluation = Evaluation { author: reborrowed, rules, answers: &mut answers };
    let mut replies: Vec<_> = execute.actions.iter().map(|action| evaluation.run(action)).collect();
    let failed = replies.iter().position(Result::is_err);
    match failed.filter(|_| execute.atomicity == Atomicity::AllOrNothing) {
        None => {
            author.draft.keep(mark);
            Ok(replies)
        }
        Some(index) => {
            author.draft.take_back(mark);
            author.frame.truncate(before);
            match replies.swap_remove(index) {
                Err(source) => Err(RequestError::Action { index, source }),
                Ok(_) => unreachable!("it failed"),
            }
        }
    }
}

/// Removes keys whose deadline is at or before a moment, the earliest first.
fn expire_until(author: &mut Author<'_, '_>, until: Hlc) -> Result<(), WriteError> {
    let id = author.frame.header().keyspace;
    let mut due = Vec::new();
    author.draft.deadlines(id, None, until.unix_ms(), &mut |deadline| {
        due.push(deadline);
        if due.len() == EXPIRED_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    for deadline in due {
        if author.frame.size().0 >= REMOVING_BYTES_MAX {
            break;
        }
        if KeyView::read_all(author.draft, id, &deadline.key)?.is_expired(until) {
            author.delete(&deadline.key)?;
        }
    }
    Ok(())
}
