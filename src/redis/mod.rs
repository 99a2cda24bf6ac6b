//! The Redis port: any Redis client reads and writes the keyspaces of this node.
//!
//! A burst of commands travels so: [`decoder`](Decoder) (bytes to commands), `table` (which command), the
//! families `strings`, `sets`, `sorted_sets`, `hashes`, `keys`, `expiry`, `edits`, `copies`, `conditional` (commands to actions),
//! `burst` (actions to the node, answers
//! back), [`reply`](Reply) (answers to bytes), `output` (bytes to the socket). `session` decides which commands
//! go that way and which, such as those of `connection`, `channels`, `documents` and `tide`, are answered at once; `client` is the loop
//! around it; `server` accepts. What the port needs from the node is [`Backend`].

mod asking;
mod auth;
mod backend;
mod budget;
mod burst;
mod call;
mod channels;
mod client;
mod client_commands;
mod clients;
mod conditional;
mod config;
mod connection;
mod copies;
mod cursors;
mod decoder;
mod documents;
mod edits;
mod entry;
mod errors;
mod expiry;
mod glob;
mod groups;
mod hashes;
mod info;
mod inline;
mod introspection;
mod keys;
mod latency;
mod lcs;
mod memory;
mod metrics;
mod moving;
mod naming;
mod objects;
mod outcomes;
mod output;
mod pause;
// Only for the fuzz targets: a session needs a node and a socket, the reading of arguments neither.
mod anchors;
#[doc(hidden)]
pub mod probe;
mod reply;
mod scores;
mod server;
mod session;
mod sets;
mod settings;
mod slow_log;
mod sorted_ranges;
mod sorted_sets;
mod state;
mod stream;
mod strings;
mod strong;
mod subkey_scans;
mod substrings;
mod table;
mod tide;
mod told;
mod tracking;
mod transaction;
mod watched;
mod watching;

#[cfg(test)]
pub(crate) mod tests;

pub use auth::Password;
pub use backend::{Backend, Pieces, Pushed, WatchStream};
pub use config::{PORT_DEFAULT, RedisConfig, RedisConfigError};
pub use decoder::{ARGUMENT_OVERHEAD_BYTES, Command, Decoder, INLINE_BYTES_MAX, ProtocolError, TooLong};
pub use documents::{DocumentAnswer, DocumentCommand, DocumentPlace};
pub(crate) use glob::matches as glob_matches;
pub use metrics::{RedisFigures, RedisObserver};
pub use reply::{Protocol, Reply};
pub use server::{RedisServer, RedisStartError};
