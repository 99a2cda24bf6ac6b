//! CONFIG: the parameters of Redis that clients and tools ask for, answered with what is true of this node.
//!
//! What concerns the port alone can be set while the node runs. All else stands in its config file, which it reads when it
//! starts.

use std::collections::BTreeSet;

use super::call::Arguments;
use super::config::RedisConfig;
use super::errors;
use super::glob;
use super::introspection::help;
use super::reply::Reply;
use super::slow_log;
use super::state::Shared;

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern> [<pattern> ...]",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set what can be set while the node runs: slowlog-log-slower-than, slowlog-max-len.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Refused: the node does not write its config file.",
    "HELP",
    "    Print this help.",
];

const REWRITE: Reply = errors::constant("ERR Rewriting config file: a node does not write its config file");

/// `GET pattern ... | SET parameter value ... | RESETSTAT | REWRITE | HELP`
pub(super) fn config(shared: &Shared, mut arguments: Arguments) -> Reply {
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
        "get" => get(shared, arguments.as_slice()),
        "set" => set(shared, arguments.as_slice()),
        "resetstat" => {
            shared.reset_figures();
            Reply::OK
        }
        "rewrite" => REWRITE,
        _ => help(HELP),
    }
}

/// A parameter that is named in full is called as it was named.
fn get(shared: &Shared, patterns: &[Vec<u8>]) -> Reply {
    let found = parameters(shared).into_iter().filter_map(|(name, value)| {
        let named = patterns.iter().find(|pattern| pattern.eq_ignore_ascii_case(name.as_bytes()));
        let is_wanted = |pattern: &Vec<u8>| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        let name = match named {
            Some(named) => Reply::Bulk(named.clone()),
            None if patterns.iter().any(is_wanted) => Reply::text(name),
            None => return None,
        };
        Some((name, Reply::text(value)))
    });
    Reply::Map(found.collect())
}

/// A parameter that can be set while the node runs. It is forgotten when that stops.
#[derive(Clone, Copy, Debug)]
enum Setting {
    SlowerThan(i64),
    SlowEntries(usize),
}

impl Setting {
    const NAMES: [&str; 2] = ["slowlog-log-slower-than", "slowlog-max-len"];

    /// What a value means for a parameter of these names, or why it is wrong.
    fn parse(name: &str, value: &[u8]) -> Result<Self, String> {
        let between = |min: i64, max: i64| {
            let number = errors::integer(value)
                .map_err(|_| "argument couldn't be parsed into an integer".to_owned())?;
            let is_within = (min..=max).contains(&number);
            is_within
                .then_some(number)
                .ok_or_else(|| format!("argument must be between {min} and {max} inclusive"))
        };
        if name == "slowlog-log-slower-than" {
            return Ok(Self::SlowerThan(between(-1, i64::MAX)?));
        }
        let max = i64::try_from(slow_log::ENTRIES_MAX).unwrap_or(i64::MAX);
        Ok(Self::SlowEntries(usize::try_from(between(0, max)?).unwrap_or(0)))
    }

    fn apply(self, shared: &Shared) {
        match self {
            Self::SlowerThan(slower_than_us) => shared.slow_log.set_slower_than_us(slower_than_us),
            Self::SlowEntries(entries_max) => shared.slow_log.set_entries_max(entries_max),
        }
    }
}

/// Sets all of them, or says why not and sets none.
fn set(shared: &Shared, given: &[Vec<u8>]) -> Reply {
    if !given.len().is_multiple_of(2) {
        return errors::SYNTAX;
    }
    let mut settings = Vec::new();
    let mut names = BTreeSet::new();
    let known = parameters(shared);
    for pair in given.chunks(2) {
        let shown = errors::text(&pair[0], 64);
        let name = shown.to_ascii_lowercase();
        let failed = |reason: &str| {
            Reply::error(format!("ERR CONFIG SET failed (possibly related to argument '{shown}') - {reason}"))
        };
        if !known.iter().any(|(known, _)| *known == name) {
            let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{shown}'");
            return Reply::error(text);
        }
        if !Setting::NAMES.contains(&name.as_str()) {
            return failed("can't set immutable config");
        }
        match Setting::parse(&name, &pair[1]) {
            Ok(setting) if names.insert(name) => settings.push(setting),
            Ok(_) => return failed("duplicate parameter"),
            Err(reason) => return failed(&reason),
        }
    }
    settings.into_iter().for_each(|setting| setting.apply(shared));
    Reply::OK
}

/// All parameters, by name. What a parameter stands for in Redis and is not here has the value that says so.
fn parameters(shared: &Shared) -> Vec<(&'static str, String)> {
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
        ("latency-monitor-threshold", text("0")),
        ("lazyfree-lazy-user-del", text("no")),
        ("loglevel", text("notice")),
        ("maxclients", clients_max.to_string()),
        ("maxmemory", text("0")),
        ("maxmemory-policy", text("noeviction")),
        ("notify-keyspace-events", String::new()),
        ("port", shared.port.to_string()),
        ("protected-mode", text("no")),
        ("proto-max-bulk-len", bulk_bytes_max.to_string()),
        ("replica-read-only", text("no")),
        // Whether there is one or not: nothing tells the password.
        ("requirepass", String::new()),
        ("save", String::new()),
        ("slowlog-log-slower-than", shared.slow_log.slower_than_us().to_string()),
        ("slowlog-max-len", shared.slow_log.entries_max().to_string()),
        ("tcp-keepalive", text("0")),
        ("timeout", text("0")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_in_order_and_there_once() {
        let shared = Shared::new(RedisConfig::default(), 1);
        assert!(parameters(&shared).is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
