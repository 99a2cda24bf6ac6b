//! The sync protocol: who talks to whom, and how frames and news of them travel.
//!
//! Fresh frames are pushed along a tree of links per keyspace; the other links carry news of heads; whoever
//! learns of frames it lacks pulls them. Each file adds its part of the protocol to the replica.
//! Sources: Leitao, Pereira, Rodrigues, "HyParView" and "Epidemic Broadcast Trees" (both 2007).

mod broadcast;
mod holdings;
mod link;
mod membership;
mod pull;
mod session;
mod transfer;

pub(crate) use holdings::Holdings;
pub(crate) use link::Link;
pub(crate) use membership::Membership;
pub use transfer::Repair;
pub(crate) use transfer::{Divergence, Sink, Sources, Staging};
