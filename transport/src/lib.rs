//! The network of tidelock, on libp2p: one connection per peer, and on it a few long-lived, ordered, bounded
//! streams.
//!
//! This crate implements the engine's [`Transport`](tidelock_engine::ports::Transport) port, and no type of
//! libp2p leaves it. It knows nothing of what the messages mean.
//!
//! # The map
//! Two roads lead through it. **Data** goes from the engine's thread into the queue of a link, and from there
//! the connection's own task writes it; and back the same way:
//! ```text
//! engine -- send ---------> link -> lane_io -> frame -> stream
//! engine <- poll_events --- inbox <- link <- lane_io <- frame <- stream
//! ```
//! **Decisions** are made by the swarm's one task, which sees no data:
//! ```text
//! handle -> shared { admission, dialer } -> swarm_task -> behaviour { gate, limits, links -> arbiter, ... }
//! ```
//! | file | idea |
//! |---|---|
//! | `config`, `lane` | the knobs, and the lanes with their bounds |
//! | `handle`, `status` | what the program calls and what it is told |
//! | `link`, `inbox` | the queues between engine and connections, and the order of events |
//! | `frame`, `lane_io`, `handler`, `upgrade` | bytes, streams, one connection |
//! | `talk` | consensus: its messages in pieces, the urgent ones first, on a lane of its own |
//! | `arbiter`, `links` | which connection to a peer stays |
//! | `admission`, `dialer` | who gets in, and whom we call |
//! | `gossip` | best-effort messages between all peers, beside the lanes |
//! | `shared`, `swarm_task`, `behaviour` | the task that drives libp2p |
//! | `identity`, `address` | keys and addresses in their two forms |
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use tidelock_transport::{Config, Libp2pTransport, SecretKey};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
//! # runtime.block_on(async {
//! let mut config = Config::new(SecretKey::from_seed([7; 32]));
//! config.listen.push("/ip4/127.0.0.1/tcp/0".to_owned());
//! let transport = Libp2pTransport::start(config, Arc::new(|| {})).await.expect("loopback can be bound");
//! assert_eq!(transport.listen_addresses().len(), 1);
//! assert!(transport.poll_events(100).is_empty());
//! transport.shutdown().await;
//! # });
//! ```

mod address;
mod admission;
mod arbiter;
mod behaviour;
mod config;
mod dialer;
mod frame;
mod gossip;
mod handle;
mod handler;
mod identity;
mod inbox;
mod lane;
mod lane_io;
mod link;
mod links;
mod shared;
mod status;
mod swarm_task;
mod talk;
mod upgrade;

pub use address::{AddressError, check_address};
pub use config::{Config, ConfigError};
pub use gossip::{GossipError, GossipFigures, Heard, MESSAGE_BYTES_MAX as GOSSIP_BYTES_MAX};
pub use handle::{GossipHandle, Libp2pTransport, StartError};
pub use identity::SecretKey;
pub use lane::{Lane, LaneConfig};
pub use status::{ClassFigures, PeerStatus, Refusal, TalkFigures, TargetState, TargetStatus};
