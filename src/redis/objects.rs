//! OBJECT: what Redis tells about how a value is kept. Here it is kept otherwise, so the names are those that a client
//! expects of such a value. DEBUG is refused: it is for the developers of Redis.

use tidelock_engine::crdt::{VisibleKind, integer};
use tidelock_engine::read::{Answer, Query, SortedRange};
use tidelock_engine::request::{Action, ActionReply};

use super::call::{Arguments, Call, Given, Shape};
use super::errors;
use super::introspection::help;
use super::reply::Reply;
use super::state::SessionState;
use super::table::{ALONE, NONE, READ, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("debug", -2, ALONE, NONE, Run::Session(debug), "Is refused")),
    spec(("object", -2, READ, (2, 2, 1), Run::Data(object), "Tells how Redis would keep a value")),
];

/// The longest string that Redis keeps together with its header, in bytes.
const EMBEDDED_BYTES_MAX: usize = 44;

/// The most fields that Redis keeps as a list.
const LISTED_FIELDS_MAX: u64 = 128;

/// The most members of a sorted set that Redis keeps as a list.
const LISTED_MEMBERS_MAX: u64 = 128;

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the name that Redis has for how it keeps such a value.",
    "FREQ <key>",
    "    Refused: how often a key is read is not counted.",
    "IDLETIME <key>",
    "    Return 0: when a key was read last is not kept.",
    "REFCOUNT <key>",
    "    Return 1.",
    "HELP",
    "    Print this help.",
];

const NO_FREQUENCY: Reply = errors::constant(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
     between policies at runtime LRU and LFU data will take some time to adjust.",
);

fn debug(_: &mut SessionState, _: Arguments) -> Reply {
    errors::constant("ERR DEBUG command not allowed.")
}

/// `OBJECT ENCODING|FREQ|IDLETIME|REFCOUNT key`
fn object(mut arguments: Arguments) -> Result<Call, Reply> {
    let subcommand = arguments.take();
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    let show: fn(&mut Vec<Given>) -> Result<Reply, Reply> = match name.as_str() {
        "encoding" => encoding,
        "freq" => |given| Ok(kind(given)?.map_or(Reply::Null, |_| NO_FREQUENCY)),
        "idletime" => |given| Ok(kind(given)?.map_or(Reply::Null, |_| Reply::Integer(0))),
        "refcount" => |given| Ok(kind(given)?.map_or(Reply::Null, |_| Reply::Integer(1))),
        "help" if arguments.len() == 0 => return Err(help(HELP)),
        "help" => return Err(errors::arity("object|help")),
        _ => return Err(errors::unknown_subcommand("OBJECT", &subcommand)),
    };
    if arguments.len() != 1 {
        return Err(errors::arity(&format!("object|{name}")));
    }
    let key = arguments.key()?;
    let queries = [
        Query::Kind(key.clone()),
        Query::Get(key.clone()),
        Query::FieldCount(key.clone()),
        Query::SortedCount(key, SortedRange::ALL),
    ];
    let shape = Shape::made(move |given| show(given).unwrap_or_else(|refused| refused), true);
    Ok(Call::each(queries.into_iter().map(Action::Query), shape))
}

/// What the key holds: the first that was asked.
fn kind(given: &mut Vec<Given>) -> Result<Option<VisibleKind>, Reply> {
    match given.drain(..).next() {
        Some(Ok(ActionReply::Answer(Answer::Kind(kind)))) => Ok(kind),
        Some(Err(error)) => Err(errors::action(&error)),
        _ => unreachable!("the kind was asked for"),
    }
}

fn encoding(given: &mut Vec<Given>) -> Result<Reply, Reply> {
    let (members, fields, value) = (given.pop(), given.pop(), given.pop());
    let name = match kind(given)? {
        None => return Ok(Reply::Null),
        Some(VisibleKind::Counter) => "int",
        Some(VisibleKind::Register) => match value {
            Some(Ok(ActionReply::Answer(Answer::Value(Some(value))))) => match value {
                value if integer(&value).is_some() => "int",
                value if value.len() <= EMBEDDED_BYTES_MAX => "embstr",
                _ => "raw",
            },
            _ => "raw",
        },
        Some(VisibleKind::Map) => match fields {
            Some(Ok(ActionReply::Answer(Answer::Count(count)))) if count <= LISTED_FIELDS_MAX => "listpack",
            _ => "hashtable",
        },
        Some(VisibleKind::Sorted) => match members {
            Some(Ok(ActionReply::Answer(Answer::Count(count)))) if count <= LISTED_MEMBERS_MAX => "listpack",
            _ => "skiplist",
        },
        Some(VisibleKind::Set) => "hashtable",
        Some(VisibleKind::Document) => "raw",
    };
    Ok(Reply::text(name))
}
