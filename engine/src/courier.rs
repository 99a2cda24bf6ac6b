//! Between the turns of a node and its group of anchors: what the group wants of a turn goes into the next one, and what
//! a turn wants of the group is passed on once it is committed.
//!
//! What the group says to others leaves at once. It waits for no commit: what must be durable before it is said, the
//! group says after it was told so.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::id::PeerId;
use crate::ports::{
    AnchorId, Consensus, DriverError, LogIndex, Output, Role, Status, Term, Transport, TransportEvent,
};
use crate::replica::{Ask, Heard, Input};

/// Opens the group on this node's log, as that anchor; none where a node cannot take part in one.
pub type OpenGroup = Box<dyn FnMut(AnchorId) -> Box<dyn Consensus + Send> + Send>;

/// Carries between the turns of a node and its group, if the node is an anchor.
pub struct Courier {
    open: OpenGroup,
    group: Option<Box<dyn Consensus + Send>>,
    circle: Circle,
    /// How the group stood when the replica was last told, and how it stands since, if only the log has gone on.
    told_status: Standing,
    quiet: Option<Status>,
}

/// What of a status is news by itself: its term, who leads, what this anchor is, and which membership is the newest.
type Standing = (Term, Option<AnchorId>, Role, Option<LogIndex>);

/// With whom the group talks.
#[derive(Default)]
struct Circle {
    /// The members that the own log knows, and that were told of beside it.
    own: Known,
    told: Known,
    talks_with: BTreeSet<PeerId>,
    /// Whether others are known than when that was made of them.
    is_other: bool,
}

/// Members, and the place in the log of whoever knows them.
type Known = (Option<LogIndex>, BTreeSet<PeerId>);

impl Circle {
    /// The own log says who the members are.
    fn know(&mut self, status: &Status) {
        if status.membership_index != self.own.0 {
            let members = status.membership.members.values().map(|member| member.peer);
            self.own = (status.membership_index, members.collect());
            self.is_other = true;
        }
    }

    /// Somebody else says so.
    fn hear(&mut self, told: Known) {
        (self.told, self.is_other) = (told, true);
    }

    fn forget(&mut self) {
        (self.own, self.told) = Default::default();
        self.is_other = true;
    }

    /// Says with whom the group talks, if these are others now. What was told counts until the own log is as new.
    fn talk(&mut self, transport: &mut impl Transport) {
        if !std::mem::take(&mut self.is_other) {
            return;
        }
        let told = (self.told.0 > self.own.0).then_some(&self.told.1);
        let peers: BTreeSet<PeerId> = self.own.1.iter().chain(told.into_iter().flatten()).copied().collect();
        if peers != self.talks_with {
            transport.talk_with(peers.clone());
            self.talks_with = peers;
        }
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("is_open", &self.group.is_some()).finish_non_exhaustive()
    }
}

impl Courier {
    /// A courier that opens groups so. The group is open at once if this node is an anchor already.
    pub fn new(mut open: OpenGroup, anchor: Option<AnchorId>) -> Self {
        let group = anchor.map(&mut open);
        Self { open, group, circle: Circle::default(), told_status: Standing::default(), quiet: None }
    }

    /// The group takes no part from now on, as after a crash.
    pub fn close(&mut self) {
        self.group = None;
        self.circle.forget();
        (self.told_status, self.quiet) = Default::default();
    }

    /// The group takes part again, on what the log holds now.
    pub fn reopen(&mut self, anchor: Option<AnchorId>) {
        self.close();
        self.group = anchor.map(&mut self.open);
    }

    /// Before a turn: hands to the group what its members told, and adds to the inputs what it wants of the turn.
    ///
    /// That the log has gone on is no reason for a turn: it is told with other news, or when one `is_due` anyway.
    pub fn collect(&mut self, inputs: &mut Vec<Input>, transport: &mut impl Transport, is_due: bool) {
        self.circle.talk(transport);
        let Some(group) = &mut self.group else { return };
        inputs.retain(|input| match input {
            Input::Network(TransportEvent::Told { from, bytes }) => {
                group.received(*from, bytes);
                false
            }
            Input::Network(TransportEvent::Untold { peer }) => {
                group.disconnected(*peer);
                false
            }
            _ => true,
        });
        for output in group.poll() {
            let heard = match output {
                Output::Send { to, class, bytes } => {
                    if let Err(message) = transport.tell(to, class, bytes) {
                        group.untold(&message);
                    }
                    continue;
                }
                Output::Administered { id, result } => Heard::Administered { id, result },
                Output::Write { token, writes } => Heard::Write { token, writes },
                Output::Apply { token, entries, record } => Heard::Apply { token, entries, record },
                Output::Proposed { id, outcome } => Heard::Proposed { id, outcome },
                Output::Barrier { id, result } => Heard::Barrier { id, result },
                Output::BuildSnapshot { token, applied } => Heard::BuildSnapshot { token, applied },
                Output::InstallSnapshot { token, bytes, record } => {
                    Heard::InstallSnapshot { token, bytes, record }
                }
                Output::Status(status) => {
                    self.circle.know(&status);
                    let standing = (status.term, status.leader, status.role, status.membership_index);
                    if standing == self.told_status {
                        self.quiet = Some(status);
                        continue;
                    }
                    (self.told_status, self.quiet) = (standing, None);
                    Heard::Status(status)
                }
                Output::Stopped { reason } => Heard::Stopped { reason },
            };
            inputs.push(Input::Consensus(heard));
        }
        if is_due || !inputs.is_empty() {
            inputs.extend(self.quiet.take().map(|status| Input::Consensus(Heard::Status(status))));
        }
        self.circle.talk(transport);
    }

    /// After a turn: passes on what it wants of the group.
    pub fn deliver(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            match (ask, &mut self.group) {
                (Ask::Open(anchor), _) => self.reopen(Some(anchor)),
                (Ask::Close, _) => self.close(),
                (Ask::Introduce { index, members }, Some(group)) => {
                    self.circle.hear((Some(index), members.values().map(|member| member.peer).collect()));
                    group.introduce(index, members);
                }
                (ask, Some(group)) => pass_on(&mut **group, ask),
                (_, None) => {}
            }
        }
    }
}

fn pass_on(group: &mut dyn Consensus, ask: Ask) {
    match ask {
        Ask::Open(_) | Ask::Close | Ask::Introduce { .. } => unreachable!("the courier does it"),
        Ask::Administer { id, change, within_ms } => {
            group.administer(id, change, Duration::from_millis(within_ms));
        }
        Ask::Propose { id, entry, within_ms } => group.propose(id, entry, Duration::from_millis(within_ms)),
        Ask::Barrier { id, within_ms } => group.barrier(id, Duration::from_millis(within_ms)),
        Ask::Written { token, result } => group.written(token, result.map_err(DriverError)),
        Ask::Applied { token, result } => group.applied(token, result.map_err(DriverError)),
        Ask::SnapshotBuilt { token, bytes } => group.snapshot_built(token, Ok(bytes)),
        Ask::Installed { token, result } => group.installed(token, result.map_err(DriverError)),
    }
}
