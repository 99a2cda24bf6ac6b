//! What the engine needs from the world: a store, and a transport. Nothing else reaches it.

mod order;
mod range;
mod store;
mod transport;

pub use order::{HEIGHT_MAX, Milestone, Place};
pub use range::{After, RowRange, Within};
pub use store::{
    Batch, Choice, CommitError, Conditional, Due, Durability, Fork, KeyspaceState, Log, LogEnd, LogEntry,
    LogPosition, LogRecord, LoggedFrame, ReadError, Recovered, Rows, Settings, Store, Visit, Written,
};
pub use transport::{Address, MESSAGE_BYTES_MAX, SendError, SessionId, Target, Transport, TransportEvent};
