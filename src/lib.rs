//! Replicated data that keeps working when the network does not.
//!
//! A [`Node`] holds a durable copy of the keyspaces it replicates. It reads and writes them locally, offline if
//! need be, and syncs with its peers whenever it can; peers that have met hold the same. Start with
//! [`Node::open`], take a [`Keyspace`], and in it a register, counter, set, map or document.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tidelock::{Batch, Node, NodeConfig};
//!
//! let folder = tempfile::tempdir()?;
//! let config = NodeConfig { listen: Vec::new(), ..NodeConfig::at(folder.path()) };
//! let node = Node::open(config).await?;
//! let shop = node.keyspace("shop")?;
//! shop.batch(Batch::new().add("on-offer", "apples").increment("stock", 40)).await?;
//! assert_eq!(shop.counter("stock").get()?, 40);
//! assert!(shop.set("on-offer").contains("apples")?);
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The map of the house
//! | module | what happens there |
//! |---|---|
//! | [`node`] | a running node: opening, the event loop, shutting down, reports |
//! | [`keyspace`] | the typed handles |
//! | [`document`] | documents: their handle, and the worker that calls automerge |
//! | [`watch`] | changes as they happen |
//! | [`pubsub`] | messages between the clients of all peers |
//! | [`config`], [`identity`], [`status`] | how a node is set up, its key, what it says of itself |
//! | [`backup`], [`export`], [`snapshot`] | copies of a node, of what a keyspace shows, and of strong keyspaces |
//! | [`compaction`] | giving back what the files do not use |
//! | [`redis`] | the Redis port |
//! | [`http`] | the HTTP port |
//! | [`app`], [`cli`], [`daemon`], [`demo`] | the program `tidelock` |

pub mod app;
pub mod backup;
pub mod cli;
pub mod compaction;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod document;
pub mod export;
pub mod http;
pub mod identity;
pub mod keyspace;
mod named;
pub mod node;
pub mod pubsub;
pub mod redis;
pub mod snapshot;
pub mod status;
pub mod watch;
mod watch_hub;

/// What documents are made of; a program that uses them needs this very version.
pub use automerge;
pub use config::NodeConfig;
pub use document::Document;
pub use keyspace::{Batch, Keyspace, Strong, StrongError};
pub use node::Node;
pub use tidelock_engine::id::{KeyspaceName, PeerId, ReplicaId};
pub use tidelock_engine::read::SortedRange;
pub use tidelock_engine::score::Score;
pub use watch_hub::Watch;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
