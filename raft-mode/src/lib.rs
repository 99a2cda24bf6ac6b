//! Strong keyspaces: a Raft group of the cluster's anchors decides the order of their commands.
//!
//! A [`Group`] drives openraft and is driven itself: it is fed what arrived and what became durable, and polled for
//! what is to be written, applied and sent ([`Consensus`](tidelock_engine::ports::Consensus)). It writes no byte and
//! opens no connection, and no openraft type leaves this crate. Commands and snapshots are bytes to it; what they mean
//! is the engine's. Nothing is acknowledged before the driver has reported it durable.
//!
//! ```text
//!            received, propose, barrier, administer            written, applied, installed
//!                           |                                              |
//!   driver  ----------------v----------------------------------------------v-------------  driver
//!            inbound   proposals   reads   admin           outbox (outputs, who waits)
//!               |          |         |       |              ^         ^          ^
//!               +----------+---- openraft ---+--------> log_store  machine  network
//! ```
//!
//! - `runtime`: tokio, so that a group's tasks end with it and one seed is one history;
//! - `wire`, `message`: every byte that is stored or sent, and its bounds;
//! - `log_store`, `machine`, `network`: the three things openraft is built on, as outputs and reports;
//! - `inbound`, `proposals`, `reads`, `snapshot`, `admin`: what is asked of a group;
//! - `rounds`: what a leader appends together.

mod admin;
mod applied;
mod counters;
mod directory;
mod group;
mod inbound;
mod log_store;
mod machine;
mod mem_log;
mod message;
mod network;
mod outbox;
mod proposals;
mod reads;
mod rounds;
mod runtime;
mod settings;
mod shared;
mod snapshot;
mod status;
// Only for tests of stores: they are to be found where the store is.
#[doc(hidden)]
pub mod suite;
mod types;
mod wire;

pub use counters::{GroupCounts, Refused};
pub use group::{Group, Opening};
pub use mem_log::MemRaftLog;
pub use settings::{Settings, SettingsError};
