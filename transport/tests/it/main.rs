//! Real nodes on loopback: who is let in, what arrives, in which order, and what ends a connection.

mod loopback_admission;
mod loopback_gossip;
mod loopback_peers;
mod loopback_streams;
mod loopback_talk;
mod world;
