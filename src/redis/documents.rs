//! TIDE.DOC: documents as JSON where that makes sense, and in automerge's own format where that does.
//!
//! `TIDE.DOC GET key [path]`, `SET key path json`, `PATCH key patch`, `HEADS key`, `SAVE key`, `LOAD key bytes`.
//! Paths are JSON Pointers (RFC 6901), patches JSON Merge Patches (RFC 7396). The worker of documents executes
//! them, so they are not part of a MULTI.

use std::fmt;

use serde_json::Value;
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;
use tidelock_engine::read::QueryError;

use super::backend::Backend;
use super::call::Arguments;
use super::errors;
use super::reply::Reply;
use crate::document::DocumentError;
use crate::keyspace::WriteError;

/// What to do with a document.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentCommand {
    /// The part at a path, as JSON.
    Get(String),
    /// Write the part at a path.
    Set(String, Value),
    /// Change what a patch says.
    Patch(Value),
    /// The changes that no other builds on.
    Heads,
    /// The document in automerge's own format.
    Save,
    /// Merge a saved document into it.
    Load(Vec<u8>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentAnswer {
    /// It was done.
    Done,
    /// Text or bytes, if there is such a document or part.
    Bytes(Option<Vec<u8>>),
    /// Names.
    List(Vec<String>),
}

/// Where a document is, and when a change of it is acknowledged.
#[derive(Clone, Debug)]
pub struct DocumentPlace {
    /// The keyspace.
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Vec<u8>,
    /// When to answer after a change.
    pub durability: Durability,
}

/// Executes `TIDE.DOC` in a keyspace.
pub(super) async fn execute<B: Backend>(
    backend: &B,
    (keyspace, durability): (&KeyspaceName, Durability),
    arguments: Arguments,
) -> Result<Reply, Reply> {
    let (key, command) = parse(arguments)?;
    // A keyspace that no command could use is refused before anything is read or written.
    backend.read(keyspace, &[], usize::MAX).map_err(|error| errors::request(&error))?;
    if backend.mode(keyspace).epoch.is_strong() {
        return Err(errors::constant("ERR documents cannot be read or changed in a strong keyspace yet"));
    }
    let place = DocumentPlace { keyspace: keyspace.clone(), key, durability };
    match backend.document(place, command).await {
        Ok(DocumentAnswer::Done) => Ok(Reply::OK),
        Ok(DocumentAnswer::Bytes(bytes)) => Ok(Reply::optional(bytes)),
        Ok(DocumentAnswer::List(list)) => Ok(Reply::Array(list.into_iter().map(Reply::text).collect())),
        Err(error) => Err(refusal(&error)),
    }
}

fn parse(mut arguments: Arguments) -> Result<(Vec<u8>, DocumentCommand), Reply> {
    let subcommand = arguments.take();
    let name = subcommand.to_ascii_lowercase();
    let counts = match name.as_slice() {
        b"get" => 1..=2,
        b"set" => 3..=3,
        b"patch" | b"load" => 2..=2,
        b"heads" | b"save" => 1..=1,
        _ => return Err(errors::unknown_subcommand("TIDE.DOC", &subcommand)),
    };
    if !counts.contains(&arguments.len()) {
        return Err(errors::arity(&format!("tide.doc|{}", String::from_utf8_lossy(&name))));
    }
    let key = arguments.key()?;
    let command = match name.as_slice() {
        b"get" => DocumentCommand::Get(arguments.next().map(path).transpose()?.unwrap_or_default()),
        b"set" => DocumentCommand::Set(path(arguments.take())?, json(&arguments.take())?),
        b"patch" => DocumentCommand::Patch(json(&arguments.take())?),
        b"heads" => DocumentCommand::Heads,
        b"save" => DocumentCommand::Save,
        _ => DocumentCommand::Load(arguments.take()),
    };
    Ok((key, command))
}

fn path(argument: Vec<u8>) -> Result<String, Reply> {
    String::from_utf8(argument).map_err(|_| errors::constant("ERR the path is not UTF-8"))
}

fn json(argument: &[u8]) -> Result<Value, Reply> {
    serde_json::from_slice(argument).map_err(|error| not_json(&error))
}

fn not_json(error: &impl fmt::Display) -> Reply {
    Reply::error(format!("ERR not JSON: {error}"))
}

fn refusal(error: &DocumentError) -> Reply {
    match error {
        DocumentError::Read(error) if matches!(**error, QueryError::WrongKind { .. }) => errors::WRONG_TYPE,
        DocumentError::Write(error) => match &**error {
            WriteError::Refused(error) => errors::action(error),
            WriteError::Request(error) => errors::request(error),
        },
        DocumentError::Outdated | DocumentError::Incomplete | DocumentError::Closed => {
            Reply::error(format!("TRYAGAIN {error}"))
        }
        DocumentError::Interrupted => Reply::error(format!("UNKNOWN {error}")),
        // An error is one line.
        other => Reply::error(format!("ERR {}", other.to_string().replace(['\r', '\n'], " "))),
    }
}
