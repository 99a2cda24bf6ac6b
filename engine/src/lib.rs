//! The pure core of tidelock: causality, data types, the sync protocol, and the ports to the world.
//!
//! Nothing here has a clock, a thread, a socket or a disk. A [`replica::Replica`] takes inputs and gives back
//! values: what to commit, to send and to answer; [`turn::Driver`] does these in the one right order over the
//! [`ports`]. State is rows under a version vector ([`row`], [`causality`]); operations ([`op`]) travel in
//! signed frames ([`frame`]) and change rows in [`apply`] only.
//!
//! Imports go leftwards: id < causality, score < row, op < frame, install < ports < order < draft < apply, ranges < crdt < read, write <
//! condition < request < command < mode, evaluation < message < replica, gossip < turn, courier.

pub mod apply;
mod bounded;
pub mod bounds;
pub mod causality;
pub mod command;
pub mod condition;
pub mod courier;
pub mod crdt;
mod dice;
pub mod draft;
pub mod evaluation;
pub mod frame;
mod gossip;
pub mod group_key;
pub mod id;
pub mod install;
pub mod mem_store;
pub mod message;
pub mod mode;
pub mod op;
pub mod order;
pub mod ports;
pub mod ranges;
pub mod read;
pub mod replica;
pub mod request;
pub mod roster;
pub mod row;
pub mod score;
pub mod staged;
pub mod turn;
pub mod wire;
pub mod write;
