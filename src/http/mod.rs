//! The HTTP port: how the node is, for operators, and its keyspaces, for programs.
//!
//! `server` accepts and bounds connections, `guard` says who may ask, `routes` which path leads where; `health` answers
//! for orchestrators and people, `metrics` names what `prometheus` writes; `api` is what
//! programs use. Every error is a `problem`.

mod api;
mod config;
mod guard;
mod health;
mod held;
mod metrics;
mod patient;
mod problem;
mod prometheus;
mod routes;
mod server;
mod state;

#[doc(hidden)]
pub use api::probe;
pub use config::{HTTP_PORT_DEFAULT, HttpConfig, HttpConfigError, Token};
pub use prometheus::Prometheus;
pub use server::{HttpServer, HttpStartError};
