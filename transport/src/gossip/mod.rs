//! Best-effort messages between the members of a cluster, on libp2p's gossipsub.
//!
//! What a node publishes in a few milliseconds travels as one *envelope*: numbered, signed by its author, and
//! known by the hash of its bytes, so that equal messages all arrive and a forged copy can never stand in front
//! of the true one. Whoever forwards an envelope has checked it. Nothing is repeated, stored or acknowledged:
//! what does not fit is dropped and counted, and nothing here can hold up a lane.
//!
//! ```text
//! handle -- publish --> post (outbox) --> station -- seal --> behaviour -> handler -> stream
//! handle <-- heard --- post (inbox) <--- station <- authors <- behaviour <- handler <- stream
//! ```
//! | file | idea |
//! |---|---|
//! | `envelope` | the bytes: author, session, number, messages, signature |
//! | `pace` | how much a second of anything |
//! | `order` | envelopes of one author in their order, each once |
//! | `authors` | whom to believe, and how much of each |
//! | `post` | the queues between the handle and the swarm's task |
//! | `station` | when to send, and what becomes of what arrives |
//! | `behaviour`, `handler` | gossipsub on the one connection per peer that is up |

mod authors;
mod behaviour;
mod envelope;
mod handler;
mod order;
mod pace;
mod post;
mod station;

pub use self::envelope::MESSAGE_BYTES_MAX;
pub use self::post::{GossipError, GossipFigures, Heard};

pub(crate) use self::behaviour::Gossip;
pub(crate) use self::post::Post;
pub(crate) use self::station::Station;
