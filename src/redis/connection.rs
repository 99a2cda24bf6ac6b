//! The commands about the connection itself: PING, ECHO, AUTH, HELLO, RESET, SELECT, CLIENT and TIDE.DURABILITY.

use std::time::{SystemTime, UNIX_EPOCH};

use tidelock_engine::id::KeyspaceName;
use tidelock_engine::ports::Durability;

use super::auth::{self, Credentials};
use super::call::Arguments;
use super::client_commands::set_name;
use super::errors;
use super::info::REDIS_VERSION;
use super::introspection;
use super::reply::{Protocol, Reply};
use super::state::{KEYSPACE_DEFAULT, SessionState};
use super::table::{ALONE, FAST, NONE, Other, QUEUED, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("auth", -2, ALONE, NONE, Run::Other(Other::Auth), "Says the password")),
    spec((
        "client",
        -2,
        QUEUED,
        NONE,
        Run::Other(Other::Client),
        "Tells about the connections, and ends them",
    )),
    spec(("command", -1, QUEUED, NONE, Run::Session(introspection::command), "Lists the commands")),
    spec(("config", -2, QUEUED, NONE, Run::Other(Other::Config), "Tells the settings")),
    spec(("echo", 2, FAST, NONE, Run::Session(echo), "Answers its argument")),
    spec(("hello", -1, ALONE, NONE, Run::Other(Other::Hello), "Chooses the protocol")),
    spec(("info", -1, QUEUED, NONE, Run::Other(Other::Info), "Describes the node as text")),
    spec(("lastsave", 1, FAST, NONE, Run::Other(Other::LastSave), "Tells since when all is saved")),
    spec(("ping", -1, FAST, NONE, Run::Session(ping), "Answers PONG")),
    spec(("quit", -1, ALONE, NONE, Run::Other(Other::Quit), "Closes the connection")),
    spec((
        "reset",
        1,
        FAST,
        NONE,
        Run::Other(Other::Reset),
        "Makes the connection what it was when it began",
    )),
    spec(("select", 2, ALONE, NONE, Run::Other(Other::Select), "Selects a keyspace by number or name")),
    spec((
        "tide.durability",
        -1,
        ALONE,
        NONE,
        Run::Session(durability),
        "Chooses when writes are acknowledged",
    )),
    spec(("time", 1, FAST, NONE, Run::Session(time), "Tells the time of the node's clock")),
    spec(("wait", 3, ALONE, NONE, Run::Other(Other::Wait), "Waits until peers have the writes on disk")),
];

/// A client of RESP2 that listens to something tells replies from messages by their form, so it gets that of a message.
pub(super) fn ping(state: &mut SessionState, mut arguments: Arguments) -> Reply {
    let is_listening = state.subscriptions.is_any() && state.protocol == Protocol::Resp2;
    match arguments.len() {
        0 | 1 if is_listening => {
            Reply::Array(vec![Reply::text("pong"), Reply::Bulk(arguments.next().unwrap_or_default())])
        }
        0 => Reply::Simple("PONG".into()),
        1 => Reply::Bulk(arguments.take()),
        _ => errors::arity("ping"),
    }
}

/// Seconds and microseconds since 1970. A clock before that is told as 1970.
pub(super) fn time(_: &mut SessionState, _: Arguments) -> Reply {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let parts = [since.as_secs().to_string(), since.subsec_micros().to_string()];
    Reply::Array(parts.into_iter().map(Reply::text).collect())
}

pub(super) fn echo(_: &mut SessionState, mut arguments: Arguments) -> Reply {
    Reply::Bulk(arguments.take())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing is changed unless all of it is right. The password is
/// judged by `let_in`, after all else.
pub(super) fn hello(
    state: &mut SessionState,
    mut arguments: Arguments,
    let_in: impl FnOnce(&mut SessionState, &Credentials) -> Result<(), Reply>,
) -> Reply {
    let mut protocol = state.protocol;
    if let Some(version) = arguments.next() {
        protocol = match errors::integer(&version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return errors::constant("NOPROTO unsupported protocol version"),
            Err(_) => return errors::constant("ERR Protocol version is not an integer or out of range"),
        };
    }
    let (mut name, mut credentials) = (None, None);
    while let Some(option) = arguments.next() {
        if option.eq_ignore_ascii_case(b"auth") && arguments.len() >= 2 {
            credentials = Some(Credentials::named(arguments.take(), arguments.take()));
        } else if option.eq_ignore_ascii_case(b"setname") && arguments.len() >= 1 {
            name = arguments.next();
        } else {
            let option = errors::text(&option, 64);
            return Reply::error(format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    let let_in = match credentials {
        Some(credentials) => let_in(state, &credentials),
        None if state.is_authenticated => Ok(()),
        None => Err(auth::HELLO_REQUIRED),
    };
    if let Err(refused) = let_in {
        return refused;
    }
    if let Some(name) = name
        && let refused @ Reply::Error(_) = set_name(state, name)
    {
        return refused;
    }
    state.protocol = protocol;
    greeting(state)
}

fn greeting(state: &SessionState) -> Reply {
    let version = if state.protocol == Protocol::Resp3 { 3 } else { 2 };
    Reply::Map(vec![
        (Reply::text("server"), Reply::text("tidelock")),
        (Reply::text("version"), Reply::text(REDIS_VERSION)),
        (Reply::text("proto"), Reply::Integer(version)),
        (Reply::text("id"), Reply::count(state.id)),
        (Reply::text("mode"), Reply::text("standalone")),
        (Reply::text("role"), Reply::text("master")),
        (Reply::text("modules"), Reply::Array(Vec::new())),
    ])
}

/// The keyspace that SELECT means: a number is `default` or `db<n>`, anything else a name.
pub(super) fn keyspace(argument: Vec<u8>) -> Result<KeyspaceName, Reply> {
    let text =
        String::from_utf8(argument).map_err(|_| errors::constant("ERR a keyspace name is UTF-8 text"))?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let name = match text.parse::<u32>() {
        Ok(0) if is_number => KEYSPACE_DEFAULT.to_owned(),
        Ok(number) if is_number => format!("db{number}"),
        Err(_) if is_number => return Err(errors::constant("ERR DB index is out of range")),
        _ => text,
    };
    KeyspaceName::try_from(name).map_err(|error| Reply::error(format!("ERR {error}")))
}

/// `TIDE.DURABILITY [durable|buffered]`: without an argument it answers what is chosen.
pub(super) fn durability(state: &mut SessionState, mut arguments: Arguments) -> Reply {
    if arguments.len() > 1 {
        return errors::arity("tide.durability");
    }
    let Some(level) = arguments.next() else {
        return Reply::text(match state.durability {
            Durability::Durable => "durable",
            Durability::Buffered => "buffered",
        });
    };
    state.durability = match level.to_ascii_lowercase().as_slice() {
        b"durable" => Durability::Durable,
        b"buffered" => Durability::Buffered,
        _ => return errors::constant("ERR the durability is durable or buffered"),
    };
    Reply::OK
}
