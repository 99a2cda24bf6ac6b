//! Strong keyspaces: what the anchors' log says is done here, and what clients ask of it is proposed, awaited, or
//! handed on to an anchor.
//!
//! The group that agrees on the log is fed and polled by whoever drives the replica: its news come in as [`Heard`], and
//! what the replica wants of it goes out as [`Ask`], after the commit like everything else. A keyspace without a mode
//! has nothing to do with any of this.

mod anchors;
mod answering;
mod catching_up;
mod execute;
mod follow;
mod forward;
mod growth;
mod making;
mod naming;
mod news;
mod open;
mod outcomes;
mod proposing;
mod readable;
mod reply;
mod report;
mod requests;
mod seat;
mod snapshot;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};

pub use self::anchors::{AnchorError, AnchorOrder, AnchorReply};
pub(crate) use self::answering::Waiter;
pub(crate) use self::making::Making;
pub use self::reply::CommandReply;
pub use self::report::{AnchorReport, GroupReport};
pub(crate) use self::requests::Requests;
pub use self::requests::{Freshness, Label, Terms};
pub use self::seat::OtherGroup;
use crate::causality::Dot;
use crate::command::Command;
use crate::id::{AuthorCard, ClusterId, KeyspaceId, KeyspaceName};
use crate::mode::Mode;
use crate::ports::{
    AnchorId, Change, Committed, LogIndex, Member, NotDone, Outcome, RaftWrite, Recovered,
    RequestId as GroupRequestId, Role, Status, Token,
};
use crate::replica::{Now, Replica, Step, View};
use crate::roster::SignedRoster;

/// What the group of anchors says to its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This node is that anchor from now on. Remembered by the store.
    Anchor(AnchorId),
    /// How the group stands.
    Status(Status),
    /// These are to be made durable in the log of the group. Answered by [`Ask::Written`].
    Write {
        /// For the answer.
        token: Token,
        /// What to write, in order.
        writes: Vec<RaftWrite>,
    },
    /// These entries are to be applied, and the store remembers `record` with what they changed. Answered by
    /// [`Ask::Applied`].
    Apply {
        /// For the answer.
        token: Token,
        /// The entries, without gaps.
        entries: Vec<Committed>,
        /// How far the log is applied then.
        record: Vec<u8>,
    },
    /// What became of an [`Ask::Propose`].
    Proposed {
        /// Which.
        id: GroupRequestId,
        /// What.
        outcome: Outcome,
    },
    /// What became of an [`Ask::Barrier`].
    Barrier {
        /// Which.
        id: GroupRequestId,
        /// The entry that is applied, at least.
        result: Result<LogIndex, NotDone>,
    },
    /// A snapshot is to be made of the state as it is. Answered by [`Ask::SnapshotBuilt`].
    BuildSnapshot {
        /// For the answer.
        token: Token,
        /// The last entry that is applied there; none if none ever was. The replica knows of none before its start.
        applied: Option<LogIndex>,
    },
    /// A snapshot of another anchor takes the place of entries that are there no more. Answered by [`Ask::Installed`].
    InstallSnapshot {
        /// For the answer.
        token: Token,
        /// What the other anchor built.
        bytes: Vec<u8>,
        /// How far the log is applied then.
        record: Vec<u8>,
    },
    /// What became of an [`Ask::Administer`].
    Administered {
        /// Which.
        id: GroupRequestId,
        /// Done, certainly not done, or none: nobody knows.
        result: Option<Result<(), NotDone>>,
    },
    /// The group takes no part any more until the process starts again.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What a replica wants of the group of anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Take part in the group as this anchor from now on.
    Open(AnchorId),
    /// Take part in the group no more.
    Close,
    /// Know these members, as of a place in the group's log that the own one may not have come to.
    Introduce {
        /// The place.
        index: LogIndex,
        /// The members.
        members: BTreeMap<AnchorId, Member>,
    },
    /// Change the group.
    Administer {
        /// For [`Heard::Administered`].
        id: GroupRequestId,
        /// How.
        change: Change,
        /// Within which time, in milliseconds.
        within_ms: u64,
    },
    /// Propose an entry.
    Propose {
        /// For [`Heard::Proposed`].
        id: GroupRequestId,
        /// The entry.
        entry: Vec<u8>,
        /// Within which time, in milliseconds.
        within_ms: u64,
    },
    /// Tell from when on a read sees all that was acknowledged before now.
    Barrier {
        /// For [`Heard::Barrier`].
        id: GroupRequestId,
        /// Within which time, in milliseconds.
        within_ms: u64,
    },
    /// Writes to the log of the group are durable, or are not, and the group must stop.
    Written {
        /// Of which [`Heard::Write`].
        token: Token,
        /// Why they are not.
        result: Result<(), String>,
    },
    /// Entries were applied and committed, each with this reply; or could not be, and the group must stop.
    Applied {
        /// Of which [`Heard::Apply`].
        token: Token,
        /// The replies, or why there are none.
        result: Result<Vec<Vec<u8>>, String>,
    },
    /// A snapshot.
    SnapshotBuilt {
        /// Of which [`Heard::BuildSnapshot`].
        token: Token,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A snapshot was taken over and committed, or could not be.
    Installed {
        /// Of which [`Heard::InstallSnapshot`].
        token: Token,
        /// Why it was not.
        result: Result<(), String>,
    },
}

impl Ask {
    /// What is said in its place if the turn could not be committed.
    pub(crate) fn uncommitted(&self, reason: &str) -> Option<Self> {
        let reason = reason.to_owned();
        match *self {
            Self::Written { token, .. } => Some(Self::Written { token, result: Err(reason) }),
            Self::Applied { token, .. } => Some(Self::Applied { token, result: Err(reason) }),
            Self::Installed { token, .. } => Some(Self::Installed { token, result: Err(reason) }),
            Self::Open(_)
            | Self::Close
            | Self::Introduce { .. }
            | Self::Administer { .. }
            | Self::Propose { .. }
            | Self::Barrier { .. }
            | Self::SnapshotBuilt { .. } => None,
        }
    }
}

/// What a replica knows of strong keyspaces.
#[derive(Debug, Default)]
pub(crate) struct Strong {
    /// The modes that are not the first one, and of what they are.
    pub(super) modes: BTreeMap<KeyspaceId, (KeyspaceName, Mode)>,
    /// Those that changed in this turn.
    changed: BTreeSet<KeyspaceId>,
    /// Those of which peers are to be told.
    untold: BTreeSet<KeyspaceId>,
    /// Which anchor this node is, if it is one.
    pub(super) anchor: Option<AnchorId>,
    /// How the group is known.
    known: seat::KnownGroup,
    /// Its newest members that are known.
    roster: Option<SignedRoster>,
    telling: news::Telling,
    /// The last group that was told of and is not this one.
    pub(super) other_group: Option<OtherGroup>,
    /// Why the group takes no part any more on this node.
    stopped: Option<String>,
    /// When the group last said how it stands.
    stood_ms: u64,
    /// How the group stands.
    pub(super) status: Status,
    /// The last entry that was applied since the start.
    applied: Option<LogIndex>,
    /// Commands of keyspaces that this anchor follows, in the order of the log, until their frames come.
    missed: BTreeMap<KeyspaceId, catching_up::Missed>,
    pub(super) requests: Requests,
    pub(super) making: BTreeMap<KeyspaceId, Making>,
    anchoring: anchors::Anchoring,
    sweeps: sweep::Sweeps,
}

impl Strong {
    /// What a replica begins with; and why nothing may be written anywhere, if the mode of a keyspace is not known here.
    pub(super) fn recover(recovered: &Recovered, cluster: ClusterId) -> (Self, Option<String>) {
        let (mut modes, mut failed) = (BTreeMap::new(), None);
        let seat = recovered.anchor.as_deref().map_or(Ok(Default::default()), seat::decode);
        let (anchor, mut known) = seat.unwrap_or_else(|error| {
            failed = Some(format!("whether this node is an anchor is not known: {error}"));
            Default::default()
        });
        for (name, bytes) in &recovered.modes {
            match Mode::decode(bytes) {
                Ok(mut mode) => {
                    if anchor.is_none() {
                        mode.leave_group();
                    }
                    modes.insert(KeyspaceId::of(cluster, name), (name.clone(), mode));
                }
                Err(error) => failed = Some(format!("the mode of keyspace {name} is not known: {error}")),
            }
        }
        // A copy has forgotten which anchor it was copied from, and not which group it follows.
        let mut records = modes.values().filter_map(|(_, mode): &(_, Mode)| mode.record());
        known.key = known.key.or_else(|| records.next().map(|record| record.signature.group));
        (Self { modes, anchor, known, ..Self::default() }, failed)
    }

    /// Goes on after a failure, from what the store holds: whoever waits goes on waiting, and is answered in time.
    pub(super) fn go_on(&mut self, before: Self) {
        (self.requests, self.making, self.anchoring) = (before.requests, before.making, before.anchoring);
    }

    /// This node is no anchor any more: what it knew as one, its store has forgotten.
    pub(super) fn leave_group(&mut self) {
        (self.anchor, self.status, self.applied) = (None, Status::default(), None);
        (self.known.secret, self.known.wanted) = (None, None);
        self.anchoring.forget_changes();
        self.missed.clear();
        self.requests.forwarded_are_lost();
        self.modes.values_mut().for_each(|(_, mode)| mode.leave_group());
        self.changed.extend(self.modes.keys());
    }

    /// What proves the authors of strong frames.
    pub(super) fn cards(&self) -> impl Iterator<Item = AuthorCard> + '_ {
        self.modes.values().filter_map(|(_, mode)| mode.record()).map(|record| record.card)
    }

    pub(super) fn mode(&self, id: KeyspaceId) -> Option<&Mode> {
        self.modes.get(&id).map(|(_, mode)| mode)
    }

    /// Whether this anchor leads the group.
    fn leads(&self) -> bool {
        self.anchor.is_some() && self.status.role == Role::Leader
    }
}

impl Replica {
    /// The mode of a keyspace; none while it is in its first epoch and nothing ends that.
    pub fn mode(&self, id: KeyspaceId) -> Option<&Mode> {
        self.strong.mode(id)
    }

    /// The modes that are not the first one, and those that are about to end.
    pub fn modes(&self) -> impl Iterator<Item = (&KeyspaceName, &Mode)> {
        self.strong.modes.values().map(|(name, mode)| (name, mode))
    }

    /// Which anchor this node is, if it is one.
    pub fn anchor(&self) -> Option<AnchorId> {
        self.strong.anchor
    }

    /// How the group of anchors stands, as far as this node takes part in it.
    pub fn group(&self) -> &Status {
        &self.strong.status
    }

    /// Whether this node may make operations of its own in a keyspace.
    pub(crate) fn is_open(&self, id: KeyspaceId) -> bool {
        self.mode(id).is_none_or(Mode::is_open)
    }

    /// At the beginning of a turn: by what clock the keys of strong keyspaces expire.
    pub(super) fn begin_strong(&self, view: &mut View<'_, '_>) {
        for (id, (_, mode)) in self.strong.modes.iter().filter(|(_, (_, mode))| mode.epoch().is_strong()) {
            view.draft.set_clock(*id, mode.clock());
        }
    }

    /// Takes in what the group says.
    pub(super) fn heard(&mut self, now: Now, heard: Heard, view: &mut View<'_, '_>, step: &mut Step) {
        if self.strong.anchor.is_none() && !matches!(heard, Heard::Anchor(_)) {
            return; // the group has removed this node in the same turn
        }
        match heard {
            Heard::Anchor(anchor) => self.enter_group(anchor, step),
            Heard::Status(status) => {
                self.group_stands(status);
                if self.strong.leads() && self.strong.known.secret.is_none() {
                    self.name_group(now, step);
                }
            }
            Heard::Write { token, writes } => {
                step.raft.extend(writes);
                step.asks.push(Ask::Written { token, result: Ok(()) });
            }
            Heard::Apply { token, entries, record } => {
                self.apply_entries(now, token, (entries, record), view, step);
            }
            Heard::Proposed { id, outcome } => self.proposed(id, &outcome, step),
            Heard::Barrier { id, result } => self.passed(id, &result, view, step),
            Heard::Administered { id, result } => self.administered(id, result, step),
            Heard::BuildSnapshot { token, applied } => {
                step.asks.push(Ask::SnapshotBuilt { token, bytes: self.build_snapshot(applied) });
            }
            Heard::InstallSnapshot { token, bytes, record } => {
                self.install_snapshot(token, (&bytes, record), step);
            }
            Heard::Stopped { reason } => {
                tracing::error!(reason, "the group of anchors has stopped on this node");
                self.strong.status = Status::default();
                self.strong.anchoring.forget_changes();
                self.strong.stopped = Some(reason);
            }
        }
    }

    /// How the group stands now.
    fn group_stands(&mut self, status: Status) {
        let before = std::mem::replace(&mut self.strong.status, status);
        let status = &self.strong.status;
        if status.term > before.term {
            self.counters.add("anchor_terms", status.term.0 - before.term.0);
        }
        if status.leader.is_some() && status.leader != before.leader {
            self.counters.count("anchor_leaders");
        }
        self.strong.stood_ms = self.mono_ms;
        self.strong.stopped = None;
    }

    /// What was to be asked of the group was not, because the turn could not be committed.
    pub(crate) fn not_asked(&mut self, asks: Vec<Ask>, reason: &str) -> Step {
        let mut step = Step::default();
        let not = || NotDone::Refused { reason: reason.to_owned() };
        for ask in asks {
            match ask {
                Ask::Propose { id, .. } => self.proposed(id, &Outcome::Not(not()), &mut step),
                Ask::Barrier { id, .. } => self.not_passed(id, &not(), &mut step),
                Ask::Administer { id, .. } => self.administered(id, Some(Err(not())), &mut step),
                _ => {}
            }
        }
        step
    }

    /// Changes the mode of a keyspace by `change`, which answers whether it had an effect.
    fn change_mode(
        &mut self,
        id: KeyspaceId,
        name: Option<&KeyspaceName>,
        change: impl FnOnce(&mut Mode) -> bool,
    ) -> bool {
        let known = self.strong.modes.get(&id).cloned();
        let Some(name) = name.cloned().or_else(|| known.as_ref().map(|(name, _)| name.clone())) else {
            return false;
        };
        let mut mode = known.map(|(_, mode)| mode).unwrap_or_default();
        let is_changed = change(&mut mode);
        if is_changed {
            self.strong.modes.insert(id, (name, mode));
            self.strong.changed.insert(id);
        }
        is_changed
    }

    /// Whether this replica has applied exactly what is committed in a strong epoch.
    fn is_at_committed(&self, id: KeyspaceId) -> bool {
        let Some((keyspace, mode)) = self.keyspaces.get(&id).zip(self.mode(id)) else { return false };
        let Some((record, author)) = mode.record().zip(mode.author()) else { return false };
        let heads = keyspace.heads.iter().map(|(author, head)| Dot::new(author, head.seq));
        heads.filter(|dot| dot.replica != author).eq(record.frontier.iter().copied())
    }

    /// At the end of a turn: what changed is remembered and told, and what was gathered is proposed if it need not wait.
    pub(super) fn finish_strong(&mut self, view: &mut View<'_, '_>, step: &mut Step) {
        self.answer_revisions(view, step);
        self.propose_gathered(step);
        self.ask_for_barrier(step);
        for id in std::mem::take(&mut self.strong.changed) {
            let (name, mode) = &self.strong.modes[&id];
            step.modes.push((name.clone(), mode.encode()));
        }
        self.tell_of_modes(step);
    }
}

/// What is proposed as one entry.
fn entry_of(commands: &[Command]) -> Vec<u8> {
    crate::command::encode_entry(commands)
}
