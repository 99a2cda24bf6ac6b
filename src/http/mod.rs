//! The HTTP port: how the node is, for operators.
//!
//! `server` accepts and bounds connections, `guard` says who may ask, `routes` which path leads where; `health` answers
//! for orchestrators and people. Every error is a `problem`.

mod config;
mod guard;
mod health;
mod held;
mod patient;
mod problem;
mod routes;
mod server;
mod state;

pub use config::{HTTP_PORT_DEFAULT, HttpConfig, HttpConfigError, Token};
pub use server::{HttpServer, HttpStartError};
