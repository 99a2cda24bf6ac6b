//! What the engine needs from the world: a store, a transport, and consensus. Nothing else reaches it.

mod consensus;
mod deadlines;
mod order;
mod range;
mod store;
mod transport;

pub use consensus::{
    AnchorId, COMMAND_BYTES_MAX, Change, Committed, CommittedPayload, Consensus, DriverError, GroupId,
    LogIndex, Member, Membership, MessageClass, NotDone, Outcome, Output, RaftLog, RaftLogState, RaftWrite,
    RequestId, Role, Status, Term, Token,
};
pub use deadlines::{Due, scan_deadlines};
pub use order::{HEIGHT_MAX, Milestone, Place};
pub use range::{After, RowRange, Within};
pub use store::{
    ANCHOR_BYTES_MAX, Batch, Choice, CommitError, Conditional, Durability, Fork, KeyspaceState, Log, LogEnd,
    LogEntry, LogPosition, LogRecord, LoggedFrame, MODE_BYTES_MAX, ReadError, Recovered, Rows, Settings,
    Store, Visit, Written,
};
pub use transport::{Address, MESSAGE_BYTES_MAX, SendError, SessionId, Target, Transport, TransportEvent};
