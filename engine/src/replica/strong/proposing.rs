//! Operations on their way into the log: gathered, proposed, awaited and answered.
//!
//! Those that came together become one entry, or several of which each is proposed when the one before it is applied:
//! entries that are open at once stand in the log in any order, and what one client asked for in one go is done in its
//! order. While a few are open, what comes is gathered for the next: each entry costs a round of the group, with a sync
//! on each of its disks, however much it holds. Whoever waits for one that is applied here is answered then: what the
//! group says of it later tells the same.
//! A write that was proposed may be done whatever happens here, and is said to be unknown until it is known; everything
//! else is certainly not done.

use std::collections::{BTreeMap, VecDeque};

use super::answering::{Waiter, not_done, reply_of};
use super::{Ask, CommandReply, outcomes};
use crate::command::{ClientId, Command, Entry, Execute, OperationId};
use crate::frame::Frame;
use crate::id::{KeyspaceId, KeyspaceName};
use crate::ports::{NotDone, Outcome, RequestId as GroupRequestId};
use crate::replica::{Basis, Now, Replica, Step};
use crate::request::{Action, Atomicity, Request, RequestError, RequestReply};

/// The bytes of entries that wait for others before them, at most; one request may go beyond. It is memory.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// The entries that are open before what comes waits for one of them.
const OPEN_MAX: usize = 2;

/// How long it waits for that at most, in milliseconds: an entry that waits for a leader holds up no other.
const GATHERED_MS_MAX: u64 = 20;

/// A write that waits for what becomes of its operation.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    pub(super) waiter: Waiter,
    keyspace: KeyspaceName,
    id: KeyspaceId,
    operation: OperationId,
    until_ms: u64,
}

/// An operation of a keyspace. A client may number those of each by themselves.
type Key = (KeyspaceId, OperationId);

/// What is open of what writes.
#[derive(Debug, Default)]
pub(super) struct Writings {
    /// Those to be proposed next, and how long they are in bytes.
    gathered: Vec<(Writing, Command)>,
    gathered_bytes: usize,
    /// When an entry was proposed last.
    proposed_ms: u64,
    proposed: BTreeMap<GroupRequestId, Proposed>,
    /// In which entry an operation is, and where in it.
    places: BTreeMap<Key, (GroupRequestId, usize)>,
    /// Those that are committed, and whose outcome comes with a frame.
    committed: Vec<Writing>,
}

/// An entry that is proposed.
#[derive(Debug)]
struct Proposed {
    /// One for each of its commands; none that was answered already.
    writing: Vec<Option<Writing>>,
    /// How many were not.
    open: usize,
    /// What is proposed behind it.
    behind: VecDeque<Waiting>,
}

/// An entry that waits for the one before it.
#[derive(Debug)]
struct Waiting {
    entry: Vec<u8>,
    writing: Vec<Writing>,
}

impl Writings {
    /// Whether so much waits that no more is taken.
    pub(super) fn are_full(&self) -> bool {
        let waiting = self.proposed.values().flat_map(|proposed| &proposed.behind);
        let behind = waiting.map(|waiting| waiting.entry.len()).sum::<usize>();
        behind.saturating_add(self.gathered_bytes) >= WAITING_BYTES_MAX
    }

    fn gather(&mut self, writing: Writing, command: Command) {
        let size = postcard::serialize_with_flavor(&command, postcard::ser_flavors::Size::default());
        self.gathered_bytes = self.gathered_bytes.saturating_add(size.unwrap_or(usize::MAX));
        self.gathered.push((writing, command));
    }

    /// Takes what is to be proposed now.
    fn take_gathered(&mut self, now_ms: u64) -> Vec<(Writing, Command)> {
        let waits = self.proposed.len() >= OPEN_MAX && now_ms < self.proposed_ms + GATHERED_MS_MAX;
        if self.gathered.is_empty() {
            // It may have waited too long.
            self.gathered_bytes = 0;
        }
        if waits || self.gathered.is_empty() {
            return Vec::new();
        }
        (self.gathered_bytes, self.proposed_ms) = (0, now_ms);
        std::mem::take(&mut self.gathered)
    }

    /// Takes out what has waited too long: what may be done, and what is certainly not.
    fn take_late(&mut self, now_ms: u64) -> (Vec<Writing>, Vec<Writing>) {
        let is_late = |writing: &Writing| now_ms >= writing.until_ms;
        let (mut unknown, mut not_done) = (Vec::new(), Vec::new());
        for Proposed { writing, open, behind } in self.proposed.values_mut() {
            let before = unknown.len();
            unknown.extend(writing.iter_mut().filter_map(|writing| writing.take_if(|of| is_late(of))));
            *open -= unknown.len() - before;
            behind.retain_mut(|waiting| {
                let is_over = waiting.writing.iter().any(is_late);
                if is_over {
                    not_done.append(&mut waiting.writing);
                }
                !is_over
            });
        }
        not_done.extend(self.gathered.extract_if(.., |(writing, _)| is_late(writing)).map(|(late, _)| late));
        unknown.extend(self.committed.extract_if(.., |writing| is_late(writing)));
        self.forget_places(unknown.iter());
        (unknown, not_done)
    }

    /// An entry is proposed.
    fn begin(&mut self, id: GroupRequestId, writing: Vec<Writing>, behind: VecDeque<Waiting>) {
        for (place, writing) in writing.iter().enumerate() {
            self.places.entry(writing.key()).or_insert((id, place));
        }
        let open = writing.len();
        let writing = writing.into_iter().map(Some).collect();
        self.proposed.insert(id, Proposed { writing, open, behind });
    }

    fn forget_places<'a>(&mut self, writing: impl Iterator<Item = &'a Writing>) {
        for writing in writing {
            self.places.remove(&writing.key());
        }
    }

    /// It is known what became of an entry, or nobody tells: what is still waited for in it, each in its place, and what
    /// comes behind it.
    fn end(&mut self, id: GroupRequestId) -> Option<(Vec<Option<Writing>>, VecDeque<Waiting>)> {
        let Proposed { writing, behind, .. } = self.proposed.remove(&id)?;
        self.forget_places(writing.iter().flatten());
        Some((writing, behind))
    }

    /// An operation was executed: who waits for it; and what comes behind its entry, if nothing else is waited for in that.
    fn take(&mut self, key: &Key) -> Option<(Writing, VecDeque<Waiting>)> {
        let (id, place) = self.places.remove(key)?;
        let proposed = self.proposed.get_mut(&id)?;
        let writing = proposed.writing.get_mut(place)?.take()?;
        proposed.open -= 1;
        let is_over = proposed.open == 0;
        let behind = self.proposed.extract_if(id..=id, |_, _| is_over).next().map(|(_, of)| of.behind);
        Some((writing, behind.unwrap_or_default()))
    }
}

impl Writing {
    fn key(&self) -> Key {
        (self.id, self.operation)
    }

    /// Nobody here knows whether it was done.
    fn unknown(&self) -> RequestError {
        RequestError::Unknown(self.operation.to_string())
    }
}

impl Replica {
    /// Makes operations of what writes or decides, to be proposed with others: one of all actions, or one of each.
    pub(super) fn gather(
        &mut self,
        now: Now,
        (waiter, until_ms): (Waiter, u64),
        request: Request,
        named: Option<(ClientId, u64)>,
    ) {
        let Request { keyspace, actions, atomicity, .. } = request;
        let id = self.id_of(&keyspace);
        let hlc = self.clock.tick(now.unix_ms);
        let add = |this: &mut Self, waiter, named, actions: Vec<Action>| {
            let operation = this.operation(now, id, named, 1);
            let command = Command::Execute(Execute { keyspace: id, operation, hlc, actions, atomicity });
            let writing = Writing { waiter, keyspace: keyspace.clone(), id, operation, until_ms };
            this.strong.requests.writings.gather(writing, command);
        };
        if atomicity != Atomicity::Each || actions.len() == 1 {
            return add(self, waiter, named, actions);
        }
        let waiters = self.strong.requests.parted.part(waiter, actions.len());
        for (number, (waiter, action)) in (0..).zip(waiters.zip(actions)) {
            let named = named.map(|(client, first)| (client, first + number));
            add(self, waiter, named, vec![action]);
        }
    }

    /// Proposes what was gathered, in as few entries as hold it, unless it is to wait.
    pub(super) fn propose_gathered(&mut self, step: &mut Step) {
        let mut chain = VecDeque::new();
        let (mut entry, mut writing) = (Entry::default(), Vec::new());
        let mut finish = |entry: &mut Entry, writing: &mut Vec<Writing>| {
            if !entry.is_empty() {
                let (entry, writing) = (std::mem::take(entry), std::mem::take(writing));
                chain.push_back(Waiting { entry: entry.into_bytes(), writing });
            }
        };
        for (of, command) in self.strong.requests.writings.take_gathered(self.mono_ms) {
            let mut pushed = entry.push(&command);
            if let Ok(false) = pushed {
                finish(&mut entry, &mut writing);
                pushed = entry.push(&command);
            }
            match pushed {
                Ok(_) => writing.push(of),
                Err(error) => {
                    let (keyspace, reason) = (of.keyspace.clone(), error.to_string());
                    self.close(&of, Err(RequestError::TooLarge { keyspace, reason }), step);
                }
            }
        }
        finish(&mut entry, &mut writing);
        self.propose(chain, step);
    }

    /// Proposes the first of some entries; the others follow it.
    fn propose(&mut self, mut chain: VecDeque<Waiting>, step: &mut Step) {
        let Some(Waiting { entry, writing }) = chain.pop_front() else { return };
        let id = self.strong.requests.next_id();
        let within_ms = self.longest(writing.iter().map(|writing| writing.until_ms));
        self.strong.requests.writings.begin(id, writing, chain);
        step.asks.push(Ask::Propose { id, entry, within_ms });
    }

    /// Answers whoever waits for an operation.
    fn close(&mut self, writing: &Writing, reply: RequestReply, step: &mut Step) {
        self.strong.requests.names.close(&writing.operation, 1);
        self.tell(writing.waiter, reply, step);
    }

    /// An operation was executed here, and is committed: whoever waits for it here is answered.
    pub(super) fn answer_executed(&mut self, operation: &Key, executed: CommandReply, step: &mut Step) {
        if executed == CommandReply::Following {
            return; // its frame tells
        }
        let Some((writing, behind)) = self.strong.requests.writings.take(operation) else { return };
        let reply = said(&writing, Some(executed));
        self.strong.requests.names.close(&writing.operation, 1);
        self.reply_to(writing.waiter, reply, Basis::Executed(writing.operation), step);
        self.propose(behind, step);
    }

    /// What became of an entry.
    pub(super) fn proposed(&mut self, id: GroupRequestId, outcome: &Outcome, step: &mut Step) {
        let Some((writing, behind)) = self.strong.requests.writings.end(id) else {
            return self.mode_proposed(id, outcome, step);
        };
        match outcome {
            Outcome::Done { reply, .. } => {
                let mut executed = CommandReply::decode_all(reply).into_iter();
                for writing in writing {
                    match (writing, executed.next()) {
                        (None, _) => {}
                        (Some(writing), Some(CommandReply::Following)) => {
                            self.strong.requests.writings.committed.push(writing);
                        }
                        (Some(writing), executed) => {
                            let reply = said(&writing, executed);
                            self.close(&writing, reply, step);
                        }
                    }
                }
                self.propose(behind, step);
            }
            Outcome::Not(reason) => {
                let behind = behind.into_iter().flat_map(|waiting| waiting.writing);
                self.refuse_all(writing.into_iter().flatten().chain(behind), reason, step);
            }
            Outcome::Unknown => {
                for writing in writing.into_iter().flatten() {
                    let unknown = writing.unknown();
                    self.close(&writing, Err(unknown), step);
                }
                let behind = behind.into_iter().flat_map(|waiting| waiting.writing);
                let reason = "nobody knows what became of what was to be done before it".to_owned();
                self.refuse_all(behind, &NotDone::Refused { reason }, step);
            }
        }
    }

    /// The group tells nothing any more of what was proposed: the frames of others do, or nobody.
    pub(super) fn lose_proposals(&mut self, step: &mut Step) {
        self.strong.requests.writings.places.clear();
        for Proposed { writing, behind, .. } in
            std::mem::take(&mut self.strong.requests.writings.proposed).into_values()
        {
            self.strong.requests.writings.committed.extend(writing.into_iter().flatten());
            let behind = behind.into_iter().flat_map(|waiting| waiting.writing);
            self.refuse_all(behind, &no_anchor(), step);
        }
        let gathered = std::mem::take(&mut self.strong.requests.writings.gathered);
        self.refuse_all(gathered.into_iter().map(|(writing, _)| writing), &no_anchor(), step);
    }

    fn refuse_all(&mut self, writing: impl IntoIterator<Item = Writing>, reason: &NotDone, step: &mut Step) {
        for writing in writing {
            let error = not_done(writing.keyspace.clone(), reason);
            self.close(&writing, Err(error), step);
        }
    }

    /// A frame came that tells what became of operations.
    pub(super) fn answer_outcomes(&mut self, frame: &Frame, step: &mut Step) {
        if self.strong.requests.writings.committed.is_empty() {
            return;
        }
        let header = frame.header();
        for writing in std::mem::take(&mut self.strong.requests.writings.committed) {
            let is_of_keyspace = self.id_of(&writing.keyspace) == header.keyspace;
            let found = outcomes::in_frame(frame, &writing.operation);
            match found.filter(|_| is_of_keyspace && writing.operation.epoch == header.epoch) {
                Some(result) => {
                    let reply = said(&writing, Some(CommandReply::Done(result)));
                    self.close(&writing, reply, step);
                }
                None => self.strong.requests.writings.committed.push(writing),
            }
        }
    }

    /// What has waited too long is answered.
    pub(super) fn tick_writings(&mut self, step: &mut Step) {
        let (unknown, not_done) = self.strong.requests.writings.take_late(self.mono_ms);
        for writing in unknown {
            let error = writing.unknown();
            self.close(&writing, Err(error), step);
        }
        self.refuse_all(not_done, &NotDone::NoLeader, step);
    }
}

/// What executing an operation said.
fn said(writing: &Writing, executed: Option<CommandReply>) -> RequestReply {
    match executed {
        Some(CommandReply::Done(result)) => reply_of(&result),
        Some(CommandReply::EpochClosed) => Err(RequestError::EpochClosed(writing.keyspace.clone())),
        Some(CommandReply::FellOut) => Err(RequestError::Forgotten(writing.operation.to_string())),
        _ => Err(writing.unknown()),
    }
}

fn no_anchor() -> NotDone {
    NotDone::Refused { reason: "this node is no anchor any more".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gathered_and_given_up_takes_no_room_any_more() {
        let mut writings = Writings { gathered_bytes: WAITING_BYTES_MAX, ..Writings::default() };
        assert!(writings.are_full());
        assert!(writings.take_gathered(0).is_empty());
        assert!(!writings.are_full());
    }
}
