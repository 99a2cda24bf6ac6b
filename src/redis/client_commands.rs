//! CLIENT: what a client says and asks about itself and the others.
//!
//! Nobody is evicted, so what Redis has for that does nothing. What is said of copies is in `tracking`.

use std::sync::Arc;

use super::call::Arguments;
use super::clients::Client;
use super::errors;
use super::introspection::help;
use super::reply::Reply;
use super::state::{Replies, SessionState, Shared};

const BAD_NAME: Reply =
    errors::constant("ERR Client names cannot contain spaces, newlines or special characters.");

/// The longest name of a client or its library, in bytes: all clients may show theirs in one reply.
const NAME_BYTES_MAX: usize = 1024;

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETNAME",
    "    Return the name of the current connection.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections that are all of ID <id>, ADDR <ip:port>, LADDR <ip:port>, MAXAGE <seconds>,",
    "    TYPE (NORMAL|MASTER|REPLICA|PUBSUB), USER <username>; SKIPME (YES|NO) spares this one (default: yes).",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <id> [<id> ...]]",
    "    Return information about client connections.",
    "NO-EVICT (ON|OFF)",
    "    Do nothing: no client is evicted.",
    "NO-TOUCH (ON|OFF)",
    "    Do nothing: reading a key does not change it.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Let all, or just write, commands of the clients of this port wait for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <value>",
    "    Name the library that the connection uses.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Return 0: no command that blocks can be ended so.",
    "UNPAUSE",
    "    Stop the current client pause.",
    "HELP",
    "    Print this help.",
];

/// The subcommands, as CLIENT LIST shows them, with the least and the greatest number of arguments.
const SUBCOMMANDS: &[(&str, usize, usize)] = &[
    ("client|caching", 1, 1),
    ("client|getname", 0, 0),
    ("client|getredir", 0, 0),
    ("client|help", 0, 0),
    ("client|id", 0, 0),
    ("client|info", 0, 0),
    ("client|kill", 1, usize::MAX),
    ("client|list", 0, usize::MAX),
    ("client|no-evict", 1, 1),
    ("client|no-touch", 1, 1),
    ("client|pause", 1, usize::MAX),
    ("client|reply", 1, 1),
    ("client|setinfo", 2, 2),
    ("client|setname", 1, 1),
    ("client|tracking", 1, usize::MAX),
    ("client|trackinginfo", 0, 0),
    ("client|unblock", 1, 2),
    ("client|unpause", 0, 0),
];

/// What becomes of the client that asked.
#[derive(Debug)]
pub(super) enum Answered {
    Goes(Reply),
    /// It killed itself; it still gets the reply.
    Ends(Reply),
}

/// A subcommand that stands, with the right number of arguments.
pub(super) fn subcommand(arguments: &mut Arguments) -> Result<&'static str, Reply> {
    let given = arguments.take();
    let name = errors::text(&given, 16).to_ascii_lowercase();
    let found = SUBCOMMANDS.iter().find(|(known, ..)| known.strip_prefix("client|") == Some(name.as_str()));
    match found {
        Some((known, min, max)) if (*min..=*max).contains(&arguments.len()) => Ok(known),
        Some((known, ..)) => Err(errors::arity(known)),
        None => Err(errors::unknown_subcommand("CLIENT", &given)),
    }
}

/// Answers a subcommand. The session has shown what it is, so that it finds itself among the others.
pub(super) fn answer(
    (state, client): (&mut SessionState, &Client),
    shared: &Shared,
    (name, mut arguments): (&'static str, Arguments),
) -> Result<Answered, Reply> {
    Ok(Answered::Goes(match name {
        "client|getname" => Reply::optional(state.name.clone()),
        "client|help" => help(HELP),
        "client|id" => Reply::count(state.id),
        "client|info" => Reply::Verbatim(client.line()),
        "client|kill" => return kill(state.id, shared, arguments),
        "client|list" => list(shared, arguments)?,
        "client|no-evict" | "client|no-touch" => match lower(&arguments.take()).as_str() {
            "on" | "off" => Reply::OK,
            _ => return Err(errors::SYNTAX),
        },
        "client|pause" if arguments.len() <= 2 => shared.pause.begin(arguments)?,
        "client|pause" => {
            return Err(errors::constant(
                "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.",
            ));
        }
        "client|reply" => {
            state.replies = match (lower(&arguments.take()).as_str(), state.replies) {
                ("on", _) => Replies::On,
                ("off", _) | ("skip", Replies::Off) => Replies::Off,
                ("skip", _) => Replies::SkipNext,
                _ => return Err(errors::SYNTAX),
            };
            Reply::OK
        }
        "client|setinfo" => set_info(state, &arguments.take(), arguments.take()),
        "client|setname" => set_name(state, arguments.take()),
        "client|unblock" => unblock(arguments)?,
        "client|unpause" => shared.pause.end(),
        _ => unreachable!("the subcommand was looked up"),
    }))
}

/// An empty name takes the name away.
pub(super) fn set_name(state: &mut SessionState, name: Vec<u8>) -> Reply {
    if !name.iter().all(u8::is_ascii_graphic) {
        return BAD_NAME;
    }
    if name.len() > NAME_BYTES_MAX {
        return Reply::error(format!("ERR Client names have at most {NAME_BYTES_MAX} bytes."));
    }
    state.name = (!name.is_empty()).then_some(name);
    Reply::OK
}

fn set_info(state: &mut SessionState, option: &[u8], value: Vec<u8>) -> Reply {
    let option = errors::text(option, 64);
    let place = match option.to_ascii_lowercase().as_str() {
        "lib-name" => &mut state.library.0,
        "lib-ver" => &mut state.library.1,
        _ => return Reply::error(format!("ERR Unrecognized option '{option}'")),
    };
    if !value.iter().all(u8::is_ascii_graphic) {
        let text = format!("ERR {option} cannot contain spaces, newlines or special characters.");
        return Reply::error(text);
    }
    if value.len() > NAME_BYTES_MAX {
        return Reply::error(format!("ERR {option} has at most {NAME_BYTES_MAX} bytes."));
    }
    *place = value;
    Reply::OK
}

/// `LIST [TYPE type | ID id [id ...]]`
fn list(shared: &Shared, mut arguments: Arguments) -> Result<Reply, Reply> {
    let clients = match (arguments.next().map(|option| lower(&option)).as_deref(), arguments.len()) {
        (None, _) => shared.clients.all(),
        (Some("type"), 1) => {
            let kind = Kind::parse(&arguments.take())?;
            shared.clients.all().into_iter().filter(|client| kind.is_of(client)).collect()
        }
        (Some("id"), 1..) => {
            let ids: Result<Vec<i64>, Reply> =
                arguments.as_slice().iter().map(|id| errors::integer(id)).collect();
            let ids = ids.map_err(|_| errors::constant("ERR Invalid client ID"))?;
            let known = |id: i64| u64::try_from(id).ok().and_then(|id| shared.clients.get(id));
            ids.into_iter().filter_map(known).collect()
        }
        _ => return Err(errors::SYNTAX),
    };
    Ok(Reply::Verbatim(clients.iter().map(|client| client.line()).collect()))
}

/// A type of clients.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// They listen to no channel.
    Normal,
    /// They listen to some.
    Listening,
    /// Redis has them, and this node has none.
    None,
}

impl Kind {
    fn parse(kind: &[u8]) -> Result<Self, Reply> {
        match lower(kind).as_str() {
            "normal" => Ok(Self::Normal),
            "pubsub" => Ok(Self::Listening),
            "master" | "slave" | "replica" => Ok(Self::None),
            _ => Err(Reply::error(format!("ERR Unknown client type '{}'", errors::text(kind, 64)))),
        }
    }

    fn is_of(self, client: &Client) -> bool {
        match self {
            Self::Normal => !client.is_listening(),
            Self::Listening => client.is_listening(),
            Self::None => false,
        }
    }
}

/// Which clients are to be killed: those of which all that was said is true.
#[derive(Debug)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    local: Option<String>,
    age_s: Option<u64>,
    kind: Option<Kind>,
    skips_itself: bool,
}

impl Filter {
    fn parse(mut arguments: Arguments) -> Result<Self, Reply> {
        let mut filter =
            Self { id: None, address: None, local: None, age_s: None, kind: None, skips_itself: true };
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or(errors::SYNTAX)?;
            match lower(&option).as_str() {
                "id" => filter.id = Some(positive(&value, "client-id")?),
                "maxage" => filter.age_s = Some(positive(&value, "maxage")?),
                "addr" => filter.address = Some(errors::text(&value, NAME_BYTES_MAX)),
                "laddr" => filter.local = Some(errors::text(&value, NAME_BYTES_MAX)),
                "type" => filter.kind = Some(Kind::parse(&value)?),
                "user" if value == b"default" => {}
                "user" => {
                    let text = format!("ERR No such user '{}'", errors::text(&value, 64));
                    return Err(Reply::error(text));
                }
                "skipme" => {
                    filter.skips_itself = match lower(&value).as_str() {
                        "yes" => true,
                        "no" => false,
                        _ => return Err(errors::SYNTAX),
                    }
                }
                _ => return Err(errors::SYNTAX),
            }
        }
        Ok(filter)
    }

    fn is_met_by(&self, client: &Client) -> bool {
        self.kind.is_none_or(|kind| kind.is_of(client))
            && self.id.is_none_or(|id| id == client.id)
            && self.age_s.is_none_or(|age_s| client.age_s() >= age_s)
            && self.address.as_ref().is_none_or(|address| *address == client.ends.address.to_string())
            && self.local.as_ref().is_none_or(|local| *local == client.ends.local.to_string())
    }
}

fn positive(value: &[u8], what: &str) -> Result<u64, Reply> {
    let number = errors::integer(value).ok().and_then(|number| u64::try_from(number).ok());
    let number = number.filter(|number| *number > 0);
    number.ok_or_else(|| Reply::error(format!("ERR {what} should be greater than 0")))
}

/// `KILL address`, which also kills the client itself, or `KILL option value [option value ...]`.
fn kill(own: u64, shared: &Shared, mut arguments: Arguments) -> Result<Answered, Reply> {
    let is_old = arguments.len() == 1;
    let filter = if is_old {
        let address = errors::text(&arguments.take(), NAME_BYTES_MAX);
        let none = Filter::parse(Arguments::behind_name(Vec::new()))?;
        Filter { address: Some(address), skips_itself: false, ..none }
    } else {
        Filter::parse(arguments)?
    };
    let is_to_die =
        |client: &Arc<Client>| filter.is_met_by(client) && !(filter.skips_itself && client.id == own);
    let dying: Vec<_> = shared.clients.all().into_iter().filter(is_to_die).collect();
    let reply = match (is_old, dying.len()) {
        (true, 0) => return Err(errors::constant("ERR No such client")),
        (true, _) => Reply::OK,
        (false, count) => Reply::count(count),
    };
    let mut is_own = false;
    for client in dying {
        tracing::info!(client = client.id, by = own, "a client is killed");
        if client.id == own {
            is_own = true;
        } else {
            client.kill();
        }
    }
    Ok(if is_own { Answered::Ends(reply) } else { Answered::Goes(reply) })
}

/// `UNBLOCK id [TIMEOUT|ERROR]`
fn unblock(mut arguments: Arguments) -> Result<Reply, Reply> {
    let id = arguments.take();
    if let Some(reason) = arguments.next()
        && !["timeout", "error"].contains(&lower(&reason).as_str())
    {
        return Err(errors::constant("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    errors::integer(&id)?;
    Ok(Reply::Integer(0))
}

fn lower(argument: &[u8]) -> String {
    errors::text(argument, 64).to_ascii_lowercase()
}
