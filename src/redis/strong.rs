//! The commands about strong keyspaces: their mode, how fresh reads of a connection are and what they saw, what became
//! of an operation, and what no epoch has taken in.

use tidelock_engine::command::{OperationId, OperationIdError};
use tidelock_engine::id::KeyspaceName;
use tidelock_engine::replica::{Freshness, Label, Order};

use super::backend::Backend;
use super::call::Arguments;
use super::connection;
use super::errors;
use super::outcomes;
use super::reply::Reply;
use super::session::Session;
use super::state::SessionState;
use super::stream::Stream;
use super::table::{ALONE, FAST, NONE, Other, Run, Spec, spec};
use crate::node::OperationOutcome;

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec((
        "readonly",
        1,
        FAST,
        NONE,
        Run::Session(read_stale),
        "Lets reads of strong keyspaces answer what this node has",
    )),
    spec((
        "readwrite",
        1,
        FAST,
        NONE,
        Run::Session(read_all),
        "Lets reads of strong keyspaces see all that was acknowledged",
    )),
    spec((
        "tide.as",
        -4,
        ALONE,
        NONE,
        Run::Other(Other::As),
        "Names the operation that a command is, so that it is done once",
    )),
    spec((
        "tide.label",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Label),
        "Tells what the last read of a strong keyspace saw, if not everything",
    )),
    spec((
        "tide.mode",
        -2,
        ALONE,
        NONE,
        Run::Other(Other::Mode),
        "Shows the mode of a keyspace, or makes it strong",
    )),
    spec((
        "tide.outbox",
        -2,
        ALONE,
        NONE,
        Run::Other(Other::Outbox),
        "Lists what was written before a keyspace became strong and is not in it",
    )),
    spec((
        "tide.outcome",
        -3,
        ALONE,
        NONE,
        Run::Other(Other::Outcome),
        "Tells what became of an operation on a strong keyspace, or makes that final",
    )),
    spec((
        "tide.read",
        -1,
        FAST,
        NONE,
        Run::Session(read),
        "Chooses what reads of strong keyspaces must see",
    )),
    spec((
        "tide.revision",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Revision),
        "Tells up to which revision of a strong keyspace this node is",
    )),
    spec((
        "tide.snapshot",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Snapshot),
        "Begins a snapshot of strong keyspaces; TIDE.NEXT reads it",
    )),
];

/// The operations that TIDE.OUTBOX lists if it is not told how many.
const OUTBOX_COUNT: usize = 100;

/// The operations that it lists at most, and the bytes of the frames that it looks for them in, about.
const OUTBOX_COUNT_MAX: usize = 10_000;
const OUTBOX_BYTES_MAX: usize = 8 << 20;

fn read_stale(state: &mut SessionState, _: Arguments) -> Reply {
    state.freshness = Freshness::Stale;
    Reply::OK
}

fn read_all(state: &mut SessionState, _: Arguments) -> Reply {
    state.freshness = Freshness::Linearizable;
    Reply::OK
}

/// `TIDE.READ [LINEARIZABLE | STALE | AFTER revision]`: without an argument it answers what is chosen.
#[expect(clippy::needless_pass_by_value, reason = "a row of the command table")]
fn read(state: &mut SessionState, arguments: Arguments) -> Reply {
    state.freshness = match arguments.as_slice() {
        [] => {
            return match state.freshness {
                Freshness::Linearizable => Reply::text("linearizable"),
                Freshness::Stale => Reply::text("stale"),
                Freshness::Revision(revision) => Reply::text(format!("after {revision}")),
            };
        }
        [word] if is(word, "linearizable") => Freshness::Linearizable,
        [word] if is(word, "stale") => Freshness::Stale,
        [word, revision] if is(word, "after") => {
            let revision = errors::integer(revision).map(u64::try_from);
            let Ok(Ok(revision)) = revision else { return errors::NOT_AN_INTEGER };
            Freshness::Revision(revision)
        }
        _ => return errors::SYNTAX,
    };
    Reply::OK
}

impl<B: Backend> Session<B> {
    /// Answers a command about strong keyspaces.
    pub(super) async fn about_strong(&mut self, what: Other, arguments: Arguments) -> Result<Reply, Reply> {
        match what {
            Other::Label => Ok(self.burst.label().map_or(Reply::Null, label)),
            Other::Mode => mode(&self.backend, &arguments).await,
            Other::Outbox => outbox(&self.backend, &arguments).await,
            Other::Outcome => outcome(&self.backend, arguments).await,
            Other::Revision => self.revision(arguments).await,
            Other::Snapshot => {
                let keyspaces = wanted_snapshot(&arguments)?;
                self.pieces = Stream::begin(self.backend.snapshot(&keyspaces).await)?;
                Ok(Reply::OK)
            }
            _ => unreachable!("it is about something else"),
        }
    }

    /// `TIDE.REVISION [keyspace]`: what a stale read would see now, as TIDE.LABEL tells it.
    async fn revision(&mut self, mut arguments: Arguments) -> Result<Reply, Reply> {
        let keyspace = match (arguments.next(), arguments.len()) {
            (None, _) => self.state.keyspace.clone(),
            (Some(name), 0) => connection::keyspace(name)?,
            _ => return Err(errors::arity("tide.revision")),
        };
        let label = self.backend.label(&keyspace).await.map_err(|error| errors::request(&error))?;
        label.map(|label| Reply::count(label.revision)).ok_or_else(|| errors::is_eventual(&keyspace))
    }
}

/// `TIDE.MODE keyspace [STRONG|EVENTUAL]`: the keyspace, and whether it is to be strong.
pub(super) fn wanted_mode(arguments: &Arguments) -> Result<(KeyspaceName, Option<bool>), Reply> {
    let (name, is_strong) = match arguments.as_slice() {
        [name] => (name, None),
        [name, word] if is(word, "strong") => (name, Some(true)),
        [name, word] if is(word, "eventual") => (name, Some(false)),
        _ => return Err(errors::SYNTAX),
    };
    Ok((connection::keyspace(name.clone())?, is_strong))
}

/// Without a mode it answers which one it is, and the epoch.
async fn mode<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Reply, Reply> {
    let (keyspace, wanted) = wanted_mode(arguments)?;
    let mode = backend.mode(&keyspace);
    match wanted {
        None => Ok(Reply::Array(vec![Reply::text(mode.word()), Reply::count(mode.epoch.0)])),
        Some(false) if mode.epoch.is_strong() => Err(errors::constant(
            "ERR making a strong keyspace eventual is not possible yet; it is strong as before",
        )),
        Some(false) => Ok(Reply::OK),
        Some(true) => {
            let done = backend.order(keyspace, Order::MakeStrong).await;
            done.map_or_else(|error| Err(errors::keyspace(&error)), |()| Ok(Reply::OK))
        }
    }
}

/// `TIDE.OUTBOX keyspace [COUNT count]`: the keyspace, and how many operations are listed.
pub(super) fn wanted_outbox(arguments: &Arguments) -> Result<(KeyspaceName, usize), Reply> {
    let (name, count) = match arguments.as_slice() {
        [name] => (name, OUTBOX_COUNT),
        [name, word, count] if is(word, "count") => {
            let count = usize::try_from(errors::integer(count)?).map_err(|_| errors::SYNTAX)?;
            (name, count.min(OUTBOX_COUNT_MAX))
        }
        _ => return Err(errors::SYNTAX),
    };
    Ok((connection::keyspace(name.clone())?, count))
}

async fn outbox<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Reply, Reply> {
    let (keyspace, count) = wanted_outbox(arguments)?;
    let outbox = backend.outbox(&keyspace, OUTBOX_BYTES_MAX).await.map_err(refused)?;
    Ok(outcomes::outbox(&outbox, count))
}

/// `TIDE.SNAPSHOT [keyspace ...]`: of all strong keyspaces, if none is named.
pub(super) fn wanted_snapshot(arguments: &Arguments) -> Result<Vec<KeyspaceName>, Reply> {
    arguments.as_slice().iter().map(|name| connection::keyspace(name.clone())).collect()
}

/// `TIDE.OUTCOME keyspace id [FINAL]`: the keyspace, the operation, and whether what is answered must be final.
pub(super) fn wanted_outcome(mut arguments: Arguments) -> Result<(KeyspaceName, OperationId, bool), Reply> {
    let keyspace = connection::keyspace(arguments.take())?;
    let id = String::from_utf8(arguments.take()).map_err(|_| OperationIdError);
    let id = id.and_then(|id| id.parse()).map_err(|error| Reply::error(format!("ERR {error}")))?;
    match arguments.as_slice() {
        [] => Ok((keyspace, id, false)),
        [word] if is(word, "final") => Ok((keyspace, id, true)),
        _ => Err(errors::SYNTAX),
    }
}

async fn outcome<B: Backend>(backend: &B, arguments: Arguments) -> Result<Reply, Reply> {
    let (keyspace, id, is_final) = wanted_outcome(arguments)?;
    let outcome =
        if is_final { backend.settle(&keyspace, id).await } else { backend.outcome(&keyspace, id).await };
    let outcome = outcome.map_err(|error| errors::request(&error))?;
    let (word, reply) = match outcome {
        OperationOutcome::Done(reply) => ("done", outcomes::replies(reply)),
        OperationOutcome::Never => ("never", Reply::Null),
        OperationOutcome::Forgotten => ("forgotten", Reply::Null),
        OperationOutcome::Unknown => ("unknown", Reply::Null),
    };
    Ok(Reply::Array(vec![Reply::text(word), reply]))
}

/// What a read saw that was not linearizable: the revision, its age in milliseconds, and how many tentative operations.
fn label(label: Label) -> Reply {
    let Label { revision, age_ms, tentative } = label;
    Reply::Map(vec![
        (Reply::text("revision"), Reply::count(revision)),
        (Reply::text("age_ms"), Reply::count(age_ms)),
        (Reply::text("tentative"), Reply::count(tentative)),
    ])
}

/// A sentence of the backend that says why not.
#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
fn refused(reason: String) -> Reply {
    Reply::error(format!("ERR {reason}"))
}

fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}
