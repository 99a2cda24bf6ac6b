//! The command line: what may be said ([`args`]), and the commands that act on a running node through its
//! Redis port ([`commands`]). Those that run a node or look at its files are executed by the binary.

pub mod args;
mod client;
pub mod commands;
mod escape;
mod json;
pub mod table;
mod text;
mod value;
mod watching;

#[cfg(test)]
mod tests;

pub use args::{
    CheckArgs, Cli, ClientCommand, Command, DemoArgs, IdArgs, KeyspacesArg, NodeArgs, RedisArg, RunArgs,
};
pub use client::ClientError;
pub use commands::execute;
