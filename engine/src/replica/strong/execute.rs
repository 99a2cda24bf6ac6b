//! Executing what the anchors' log says: commands become strong frames, the same ones on every anchor that stands
//! exactly at what is committed, byte for byte.
//!
//! What goes in is the entry, its place, the rows, and the clock that the frames before have left; nothing of this node
//! does: no clock, no quota, no setting. An anchor that stands elsewhere *follows*: it keeps the commands in memory, as
//! far as there is room, takes the frames that others make, and goes on by itself once it stands where they stand.

use std::collections::{BTreeMap, VecDeque};
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
use crate::id::{Epoch, FrameId, KeyspaceId};
use crate::mode::{Mode, Standing};
use crate::ports::{Committed, CommittedPayload, Conditional, Durability, LogIndex, ReadError, Rows, Token};
use crate::replica::{Now, Replica, Step, View};
use crate::request::{Atomicity, RequestError, RequestReply, encode_reply};
use crate::wire::WireError;
use crate::write::{Author, Executed, WriteError, executed};

/// The entries that are kept in memory for a keyspace that is followed; those before them are waited for.
const MISSED_ENTRIES_MAX: usize = 1_024;

/// As many bytes of them, in memory about as much again.
const MISSED_BYTES_MAX: usize = 32 << 20;

/// Removing stops when a frame has so many bytes; the rest is for another command.
const REMOVING_BYTES_MAX: usize = 256 << 10;

/// The keys that one command lets expire at most. More delays what comes behind it.
const EXPIRED_MAX: usize = 1_000;

/// Commands of a keyspace that this anchor follows, by their place in the log.
#[derive(Debug)]
pub(super) struct Missed {
    /// The last entry that is not here and was not executed.
    lacking: LogIndex,
    /// Places, what the entries say, and how long they are.
    entries: VecDeque<(LogIndex, Vec<Command>, usize)>,
    bytes: usize,
    /// The entry of the last strong frame that came.
    at: Option<LogIndex>,
}

/// An entry of the log that says something.
#[derive(Clone, Copy)]
struct Entry<'a> {
    index: LogIndex,
    commands: &'a [Command],
    /// How long it is, in bytes.
    bytes: usize,
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
        let mut done = Step::default();
        let mark = view.draft.mark();
        let apply = |entry: &Committed| self.apply_entry(now, entry, view, &mut done);
        match entries.iter().map(apply).collect::<Result<Vec<_>, String>>() {
            Ok(replies) => {
                view.draft.keep(mark);
                step.absorb(done);
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
        let entry = Entry { index: entry.index, commands: &commands, bytes: bytes.len() };
        let executed = self.execute(now, entry, view, step);
        executed.map(|executed| CommandReply::encode_all(&executed)).map_err(|error| error.to_string())
    }

    /// Executes the commands of one entry: those of one keyspace become one frame, or more if one would be too large.
    fn execute(
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
                    let result = self.execute_one(now, &mut frame, (entry.index, command), view, step);
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

    fn execute_one(
        &mut self,
        now: Now,
        frame: &mut FrameBuilder,
        (index, command): (LogIndex, &Command),
        view: &mut View<'_, '_>,
        step: &mut Step,
    ) -> Result<CommandReply, ReadError> {
        let id = frame.header().keyspace;
        match command {
            Command::Execute(execute) => {
                let OperationId { client, number, .. } = execute.operation;
                match executed(view.draft, id, (client, number))? {
                    Executed::Done { result, .. } => Ok(CommandReply::Done(outcomes::reply(result))),
                    Executed::FellOut => Ok(CommandReply::FellOut),
                    Executed::Not => self.execute_new(now, frame, (index, execute), view, step),
                }
            }
            Command::Expire { until, .. } => {
                self.remove(now, frame, view, step, |author| expire_until(author, *until))
            }
            // What this entry does itself stays, so that the rest of it can be executed later.
            Command::ForgetOutcomes { until, .. } if *until >= frame.header().hlc => {
                Ok(CommandReply::Removed)
            }
            Command::ForgetOutcomes { until, .. } => {
                self.remove(now, frame, view, step, |author| Ok(author.forget_outcomes(*until)?))
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
        view: &mut View<'_, '_>,
        step: &mut Step,
        act: impl Fn(&mut Author<'_, '_>) -> Result<(), WriteError>,
    ) -> Result<CommandReply, ReadError> {
        if !frame.is_empty() {
            self.renew(now, frame, step);
        }
        let removed = act(&mut self.author(frame, view.draft));
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
    fn noted(&mut self, frame: &Frame) {
        let (id, hlc) = (frame.header().keyspace, frame.header().hlc);
        self.touch(id);
        self.note_retirements(frame);
        self.note_resets(frame);
        self.change_mode(id, None, |mode| {
            mode.advance_clock(hlc);
            true
        });
    }

    fn missed(&mut self, id: KeyspaceId) -> &mut Missed {
        let lacking = match self.mode(id).and_then(Mode::standing) {
            Some(Standing::Behind { missed }) => missed,
            Some(Standing::Exact) | None => LogIndex(0),
        };
        let begin = || Missed { lacking, entries: VecDeque::new(), bytes: 0, at: None };
        self.strong.missed.entry(id).or_insert_with(begin)
    }

    /// Remembers a command of a keyspace that is followed.
    fn miss(&mut self, id: KeyspaceId, Entry { index, commands, bytes }: Entry<'_>) {
        let missed = self.missed(id);
        if missed.entries.back().is_some_and(|(last, ..)| *last == index) {
            return;
        }
        missed.entries.push_back((index, commands.to_vec(), bytes));
        missed.bytes += bytes;
        while missed.entries.len() > MISSED_ENTRIES_MAX || missed.bytes > MISSED_BYTES_MAX {
            let Some((lost, _, bytes)) = missed.entries.pop_front() else { break };
            (missed.lacking, missed.bytes) = (lost, missed.bytes - bytes);
        }
        self.change_mode(id, None, |mode| {
            mode.stand(Standing::Behind { missed: index });
            true
        });
    }

    /// A strong frame came from a peer and was applied: whoever waits for an operation in it is answered, the clock goes
    /// on, and an anchor may stand where those stand who make the frames.
    pub(crate) fn followed(&mut self, now: Now, frame: &Frame, view: &mut View<'_, '_>, step: &mut Step) {
        let id = frame.header().keyspace;
        if self.mode(id).and_then(Mode::author) != Some(frame.header().author) {
            return;
        }
        self.noted(frame);
        view.draft.set_clock(id, self.mode(id).map_or(Hlc::default(), Mode::clock));
        self.answer_outcomes(frame, step);
        if let Some(Standing::Behind { .. }) = self.mode(id).and_then(Mode::standing) {
            let missed = self.missed(id);
            missed.at = missed.at.max(outcomes::index_of(frame));
            self.catch_up(now, id, view, step);
        }
    }

    /// Goes on by itself where this anchor stands exactly at what is committed and has every command from the entry on
    /// of which the last frame is. That entry is executed again: there may be more of it, and what was executed is not
    /// executed twice.
    fn catch_up(&mut self, now: Now, id: KeyspaceId, view: &mut View<'_, '_>, step: &mut Step) {
        let is_complete = |missed: &Missed| missed.at.is_some_and(|at| at > missed.lacking);
        if !self.is_at_committed(id) || !self.strong.missed.get(&id).is_some_and(is_complete) {
            return;
        }
        let Some(Missed { entries, at, .. }) = self.strong.missed.remove(&id) else { return };
        self.change_mode(id, None, |mode| {
            mode.stand(Standing::Exact);
            true
        });
        self.counters.count("caught_up");
        for (index, commands, bytes) in entries.into_iter().filter(|(index, ..)| Some(*index) >= at) {
            let of_keyspace: Vec<Command> = commands
                .into_iter()
                .filter(|command| place_of(command).is_some_and(|of| of.0 == id))
                .collect();
            let entry = Entry { index, commands: &of_keyspace, bytes };
            if let Err(error) = self.execute(now, entry, view, step) {
                // Nothing of it was taken in; the others' frames are waited for.
                tracing::error!(%error, "cannot execute what was missed");
                step.absorb(self.commit_failed(&error.to_string()));
                return;
            }
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
