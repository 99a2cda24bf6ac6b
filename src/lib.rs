//! Replicated data that keeps working when the network does not.

pub mod app;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod identity;
pub mod keyspace;
pub mod node;
pub mod redis;
pub mod status;
pub mod watch;
mod watch_hub;

pub use config::NodeConfig;
pub use keyspace::Keyspace;
pub use node::Node;
pub use watch_hub::Watch;
