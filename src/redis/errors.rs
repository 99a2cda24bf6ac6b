//! The errors that clients see. The first word is for programs, the rest for people.
//!
//! `ERR` and `WRONGTYPE` mean what they mean in Redis: nothing was done. `CONSISTENCY`: not on an eventual
//! keyspace. `TRYAGAIN`, `NOLEADER`, `READONLY`: certainly not executed. `UNKNOWN`: not acknowledged, but it may have been
//! executed; in a strong keyspace the next word is the operation that `TIDE.OUTCOME` is asked for. `FORGOTTEN`, `NEVER`: an
//! operation that its client named did nothing now, and never will.

use std::fmt::Write;

use tidelock_engine::bounds::BoundError;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::read::QueryError;
use tidelock_engine::replica::OrderError;
use tidelock_engine::request::{ActionError, RequestError};
use tidelock_engine::write::WriteError;

use super::reply::Reply;
use crate::node::{KeyspaceError, RejoinError};

/// As Redis says it.
pub(super) const NO_CLUSTER: Reply = constant("ERR This instance has cluster support disabled");
pub(super) const NOT_AN_INTEGER: Reply = constant("ERR value is not an integer or out of range");
pub(super) const SYNTAX: Reply = constant("ERR syntax error");
pub(super) const WRONG_TYPE: Reply =
    constant("WRONGTYPE Operation against a key holding the wrong kind of value");
const OVERFLOW: Reply = constant("ERR increment or decrement would overflow");

/// The unknown name and arguments are shown to this length, as in Redis.
const SHOWN_BYTES_MAX: usize = 128;

pub(super) const fn constant(text: &'static str) -> Reply {
    Reply::Error(std::borrow::Cow::Borrowed(text))
}

pub(super) fn action(error: &ActionError) -> Reply {
    match error {
        ActionError::Write(WriteError::WrongKind { .. })
        | ActionError::Query(QueryError::WrongKind { .. }) => WRONG_TYPE,
        ActionError::Write(WriteError::NotAnInteger) => NOT_AN_INTEGER,
        ActionError::Write(WriteError::Overflow) => OVERFLOW,
        ActionError::NeedsStrong(keyspace) => needs_strong("the command", keyspace),
        ActionError::Write(WriteError::OverQuota { .. }) => Reply::error(format!("OOM {error}")),
        ActionError::Unknown(operation) => unknown(operation),
        ActionError::Forgotten(operation) => forgotten(operation),
        ActionError::Untold => Reply::error(format!("UNKNOWN {error}")),
        ActionError::TryAgain(text) => Reply::error(format!("TRYAGAIN {text}")),
        ActionError::NoLeader(text) => Reply::error(format!("NOLEADER {text}")),
        other => Reply::error(format!("ERR {other}")),
    }
}

/// A command that only a total order can make true, in a keyspace that has none.
pub(super) fn needs_strong(command: &str, keyspace: &KeyspaceName) -> Reply {
    Reply::error(format!("CONSISTENCY {command} needs a strong keyspace (TIDE.MODE {keyspace} strong)"))
}

/// A command about what only a strong keyspace has.
pub(super) fn is_eventual(keyspace: &KeyspaceName) -> Reply {
    Reply::error(format!("ERR keyspace {keyspace} is eventual, and only a strong one has revisions"))
}

pub(super) fn request(error: &RequestError) -> Reply {
    match error {
        RequestError::Action { source, .. } => action(source),
        RequestError::Untold => Reply::error(format!("UNKNOWN {error}")),
        RequestError::Commit(text) => Reply::error(format!("UNKNOWN {text}")),
        RequestError::Loading(_) => Reply::error(format!("LOADING {error}")),
        RequestError::Closed
        | RequestError::Leaving(_)
        | RequestError::SwitchInProgress(_)
        | RequestError::EpochClosed(_)
        | RequestError::TryAgain { .. } => Reply::error(format!("TRYAGAIN {error}")),
        RequestError::NoLeader(text) => Reply::error(format!("NOLEADER {text}")),
        RequestError::Unknown(operation) => unknown(operation),
        RequestError::Forgotten(operation) => forgotten(operation),
        RequestError::Never => Reply::error(format!("NEVER {error}")),
        RequestError::ReadOnly(text) => Reply::error(format!("READONLY {text}")),
        other => Reply::error(format!("ERR {other}")),
    }
}

/// The operation is the second word, for programs.
fn unknown(operation: &str) -> Reply {
    Reply::error(format!(
        "UNKNOWN {operation} may or may not have been executed, once; TIDE.OUTCOME tells when that is known"
    ))
}

/// So it is here.
fn forgotten(operation: &str) -> Reply {
    Reply::error(format!(
        "FORGOTTEN {operation} was executed before or not, which nobody knows any more; it did nothing now, and never will"
    ))
}

pub(super) fn keyspace(error: &KeyspaceError) -> Reply {
    let word = match error {
        KeyspaceError::Order(OrderError::Dropping(_) | OrderError::Closed | OrderError::NotNow(_)) => {
            "TRYAGAIN"
        }
        KeyspaceError::Order(OrderError::NoLeader(_)) => "NOLEADER",
        KeyspaceError::Order(OrderError::Loading(_)) => "LOADING",
        KeyspaceError::Order(OrderError::ReadOnly(_)) => "READONLY",
        KeyspaceError::Order(OrderError::Commit(_) | OrderError::Unfinished)
        | KeyspaceError::Rejoin(RejoinError::Commit(_)) => "UNKNOWN",
        _ => "ERR",
    };
    Reply::error(format!("{word} {error}"))
}

pub(super) fn bound(error: &BoundError) -> Reply {
    Reply::error(format!("ERR {error}"))
}

/// `name` is in lower case; a subcommand is written `client|setname`.
pub(super) fn arity(name: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{name}' command"))
}

pub(super) fn unknown_command(arguments: &[Vec<u8>]) -> Reply {
    let mut shown = String::new();
    for argument in arguments.iter().skip(1) {
        if shown.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let argument = text(argument, SHOWN_BYTES_MAX - shown.len());
        write!(shown, "'{argument}' ").expect("writing to memory cannot fail");
    }
    let name = arguments.first().map(|name| text(name, SHOWN_BYTES_MAX)).unwrap_or_default();
    Reply::error(format!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Reply {
    let subcommand = text(subcommand, SHOWN_BYTES_MAX);
    Reply::error(format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
}

/// The beginning of an argument, as text.
pub(super) fn text(bytes: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)]).into_owned()
}

/// A number as an argument.
pub(super) fn integer(argument: &[u8]) -> Result<i64, Reply> {
    tidelock_engine::crdt::integer(argument).ok_or(NOT_AN_INTEGER)
}
