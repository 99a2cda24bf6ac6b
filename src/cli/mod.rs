//! The command line: what may be said ([`args`]), and the commands that act on a running node through its
//! Redis port ([`commands`]). Those that run a node or look at its files are executed by the binary.

pub mod args;
mod bench;
mod client;
pub mod client_args;
pub mod commands;
mod compaction;
mod completing;
mod escape;
mod files;
mod import;
mod json;
mod listening;
mod password;
pub mod progress;
mod snapshot;
pub mod table;
mod text;
mod top;
mod value;
mod watching;

#[cfg(test)]
mod tests;

pub use args::{
    CheckArgs, Cli, Command, CompactArgs, DemoArgs, IdArgs, KeyspacesArg, PortArg, RestoreArgs, RunArgs,
    SnapshotCommand,
};
pub use client::ClientError;
pub use client_args::{BenchArgs, BenchCommand, ClientCommand, KeyspaceCommand, NodeArgs, TopArgs};
pub use commands::execute;
pub use compaction::compact;
pub use completing::completions;
pub(crate) use escape::line as escape_line;
pub(crate) use files::{as_json as backup_json, describe as describe_backup};
pub(crate) use snapshot::snapshot;

/// Reads one answer off the front of `bytes`, as a client does; its length, unless it is an error or none. Only
/// for the fuzz targets: a client needs a socket.
#[doc(hidden)]
pub fn answer_length(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    value::read(&mut rest).ok().map(|_| bytes.len() - rest.len())
}
