//! What the tests of real processes share: starting nodes, talking to them, and ending them.

mod client;
mod process;

pub use client::Client;
pub use process::{Node, Options, eventually, run};
