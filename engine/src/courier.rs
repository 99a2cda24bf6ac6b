//! Between the turns of a node and its group of anchors: what the group wants of a turn goes into the next one, and what
//! a turn wants of the group is passed on once it is committed.
//!
//! What the group says to others leaves at once. It waits for no commit: what must be durable before it is said, the
//! group says after it was told so.

use std::fmt;
use std::time::Duration;

use crate::ports::{Consensus, DriverError, NotDone, Output, RequestId, Transport, TransportEvent};
use crate::replica::{Ask, Heard, Input};

/// How a change of the group ended: done, certainly not done, or nobody knows.
pub type Administered = (RequestId, Option<Result<(), NotDone>>);

/// Carries between the turns of a node and its group.
pub struct Courier {
    group: Box<dyn Consensus + Send>,
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Courier")
    }
}

impl Courier {
    /// A courier of this group.
    pub fn new(group: Box<dyn Consensus + Send>) -> Self {
        Self { group }
    }

    /// The group, for what its operator asks of it.
    pub fn group(&mut self) -> &mut dyn Consensus {
        &mut *self.group
    }

    /// Before a turn: hands to the group what its members told, and adds to the inputs what it wants of the turn. Answers
    /// how changes of the group ended.
    pub fn collect(&mut self, inputs: &mut Vec<Input>, transport: &mut impl Transport) -> Vec<Administered> {
        let mut administered = Vec::new();
        inputs.retain_mut(|input| match input {
            Input::Network(TransportEvent::Told { from, bytes }) => {
                self.group.received(*from, bytes);
                false
            }
            Input::Network(TransportEvent::Untold { peer }) => {
                self.group.disconnected(*peer);
                false
            }
            _ => true,
        });
        for output in self.group.poll() {
            let heard = match output {
                Output::Send { to, class, bytes } => {
                    transport.tell(to, class, bytes);
                    continue;
                }
                Output::Administered { id, result } => {
                    administered.push((id, result));
                    continue;
                }
                Output::Write { token, writes } => Heard::Write { token, writes },
                Output::Apply { token, entries, record } => Heard::Apply { token, entries, record },
                Output::Proposed { id, outcome } => Heard::Proposed { id, outcome },
                Output::Barrier { id, result } => Heard::Barrier { id, result },
                Output::BuildSnapshot { token } => Heard::BuildSnapshot { token },
                Output::InstallSnapshot { token, bytes, record } => {
                    Heard::InstallSnapshot { token, bytes, record }
                }
                Output::Status(status) => Heard::Status(status),
                Output::Stopped { reason } => Heard::Stopped { reason },
            };
            inputs.push(Input::Consensus(heard));
        }
        administered
    }

    /// After a turn: passes on what it wants of the group.
    pub fn deliver(&mut self, asks: Vec<Ask>) {
        let group = &mut *self.group;
        for ask in asks {
            match ask {
                Ask::Propose { id, entry, within_ms } => {
                    group.propose(id, entry, Duration::from_millis(within_ms));
                }
                Ask::Barrier { id, within_ms } => group.barrier(id, Duration::from_millis(within_ms)),
                Ask::Written { token, result } => group.written(token, result.map_err(DriverError)),
                Ask::Applied { token, result } => group.applied(token, result.map_err(DriverError)),
                Ask::SnapshotBuilt { token, bytes } => group.snapshot_built(token, Ok(bytes)),
                Ask::Installed { token, result } => group.installed(token, result.map_err(DriverError)),
            }
        }
    }
}
