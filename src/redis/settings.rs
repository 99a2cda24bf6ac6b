//! CONFIG: the parameters of Redis that clients and tools ask for, answered with what is true of this node.
//!
//! None but that of keyspace notifications can be set here: the settings of a node stand in its config file, which it
//! reads when it starts.

use super::call::Arguments;
use super::config::RedisConfig;
use super::errors;
use super::glob;
use super::introspection::help;
use super::reply::Reply;
use super::state::Shared;
use crate::pubsub::PubSub;

/// A parameter and its value.
type Parameter = (&'static str, String);

/// Which keyspace notifications are told.
const NOTIFY: &str = "notify-keyspace-events";

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set notify-keyspace-events. The other settings stand in the node's config file.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Refused: the node does not write its config file.",
    "HELP",
    "    Print this help.",
];

const REWRITE: Reply = errors::constant("ERR Rewriting config file: a node does not write its config file");

/// `GET pattern ... | SET parameter value ... | RESETSTAT | REWRITE | HELP`
pub(super) fn config(shared: &Shared, pubsub: &PubSub, mut arguments: Arguments) -> Reply {
    let subcommand = arguments.take();
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    let is_right = match name.as_str() {
        "get" => arguments.len() >= 1,
        "set" => arguments.len() >= 2,
        "resetstat" | "rewrite" | "help" => arguments.len() == 0,
        _ => return errors::unknown_subcommand("CONFIG", &subcommand),
    };
    if !is_right {
        return errors::arity(&format!("config|{name}"));
    }
    match name.as_str() {
        "get" => get(&parameters(shared, pubsub), arguments.as_slice()),
        "set" => set(&parameters(shared, pubsub), pubsub, arguments.as_slice()),
        "resetstat" => {
            shared.reset_figures();
            Reply::OK
        }
        "rewrite" => REWRITE,
        _ => help(HELP),
    }
}

/// A parameter that is named in full is called as it was named.
fn get(parameters: &[Parameter], patterns: &[Vec<u8>]) -> Reply {
    let found = parameters.iter().filter_map(|(name, value)| {
        let named = patterns.iter().find(|pattern| pattern.eq_ignore_ascii_case(name.as_bytes()));
        let is_wanted = |pattern: &Vec<u8>| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        let name = match named {
            Some(named) => Reply::Bulk(named.clone()),
            None if patterns.iter().any(is_wanted) => Reply::text(*name),
            None => return None,
        };
        Some((name, Reply::text(value.clone())))
    });
    Reply::Map(found.collect())
}

/// Sets all that is given, or nothing. Which notifications are told is all that can be set; for the rest it says why not.
fn set(parameters: &[Parameter], pubsub: &PubSub, given: &[Vec<u8>]) -> Reply {
    if !given.len().is_multiple_of(2) {
        return errors::SYNTAX;
    }
    let is_settable = |name: &[u8]| name.eq_ignore_ascii_case(NOTIFY.as_bytes());
    let Some(refused) = given.chunks_exact(2).find(|pair| !is_settable(&pair[0])) else {
        // Redis refuses a parameter that is given twice.
        return match given {
            [_, letters] if pubsub.notify_of(letters) => Reply::OK,
            [..] if given.len() > 2 => failed(NOTIFY, "duplicate parameter"),
            _ => failed(NOTIFY, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        };
    };
    let name = errors::text(&refused[0], 64);
    if parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
        failed(&name, "can't set immutable config")
    } else {
        Reply::error(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))
    }
}

fn failed(name: &str, why: &str) -> Reply {
    Reply::error(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

/// All parameters, by name. What a parameter stands for in Redis and is not here has the value that says so.
fn parameters(shared: &Shared, pubsub: &PubSub) -> Vec<Parameter> {
    let RedisConfig {
        address, bulk_bytes_max, clients_max, client_output_bytes_max, input_bytes_max, ..
    } = &shared.config;
    let text = str::to_owned;
    vec![
        // Every write is in the log before it is acknowledged, unless the client asks otherwise.
        ("appendfsync", text("always")),
        ("appendonly", text("yes")),
        ("bind", address.ip().to_string()),
        (
            "client-output-buffer-limit",
            format!("normal {client_output_bytes_max} 0 0 slave 0 0 0 pubsub {client_output_bytes_max} 0 0"),
        ),
        ("client-query-buffer-limit", input_bytes_max.to_string()),
        ("cluster-enabled", text("no")),
        // As many as there are numbers; keyspaces are bounded by what a node may hold.
        ("databases", (1_u64 << 32).to_string()),
        ("io-threads", text("1")),
        ("lazyfree-lazy-user-del", text("no")),
        ("loglevel", text("notice")),
        ("maxclients", clients_max.to_string()),
        ("maxmemory", text("0")),
        ("maxmemory-policy", text("noeviction")),
        (NOTIFY, pubsub.notified_of()),
        ("port", shared.port.to_string()),
        ("protected-mode", text("no")),
        ("proto-max-bulk-len", bulk_bytes_max.to_string()),
        ("replica-read-only", text("no")),
        // Whether there is one or not: nothing tells the password.
        ("requirepass", String::new()),
        ("save", String::new()),
        ("slowlog-log-slower-than", text("-1")),
        ("slowlog-max-len", text("0")),
        ("tcp-keepalive", text("0")),
        ("timeout", text("0")),
    ]
}

#[cfg(test)]
mod tests {
    use tidelock_engine::id::PeerId;

    use super::*;

    #[test]
    fn parameters_are_in_order_and_there_once() {
        let shared = Shared::new(RedisConfig::default(), 1);
        let pubsub = PubSub::new(PeerId::from_public_key([1; 32]), None);
        assert!(parameters(&shared, &pubsub).is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
