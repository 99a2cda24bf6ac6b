//! What the tests of real processes share: starting nodes, talking to them, and ending them.

mod client;
mod ended;
mod foreign;
pub(crate) mod guard;
pub(crate) mod http;
mod node;
mod redis;
pub(crate) mod schema;

pub(crate) use client::Client;
pub(crate) use ended::{refused, succeeded};
pub(crate) use foreign::Language;
pub(crate) use node::{DEADLINE, Node, Options, eventually, output, run};
pub(crate) use redis::RedisServer;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidelock");
