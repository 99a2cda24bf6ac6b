//! COMMAND: the command table, for clients that ask for it.

use super::call::Arguments;
use super::errors;
use super::glob;
use super::groups::{self, CATEGORIES};
use super::reply::Reply;
use super::state::SessionState;
use super::table::{COMMANDS, Spec};

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, details for all commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full command.",
    "HELP",
    "    Print this help.",
];

/// `COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...] | GETKEYS command ... | GETKEYSANDFLAGS command ... | HELP]`.
pub(super) fn command(_: &mut SessionState, mut arguments: Arguments) -> Reply {
    let Some(subcommand) = arguments.next() else {
        return Reply::Array(COMMANDS.iter().copied().map(info).collect());
    };
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    match name.as_str() {
        "count" | "help" if arguments.len() > 0 => errors::arity(&format!("command|{name}")),
        "getkeys" | "getkeysandflags" if arguments.len() < 2 => errors::arity(&format!("command|{name}")),
        "count" => Reply::count(COMMANDS.len()),
        "help" => help(HELP),
        "list" => list(arguments).unwrap_or(errors::SYNTAX),
        "getkeys" => keys(&arguments, |_, key, _| Reply::Bulk(key)),
        "getkeysandflags" => keys(&arguments, |spec, key, is_first| {
            let flags = groups::key_flags(spec, is_first);
            Reply::Array(vec![Reply::Bulk(key), flag_set(flags)])
        }),
        "info" if arguments.len() == 0 => Reply::Array(COMMANDS.iter().copied().map(info).collect()),
        "info" => {
            let names = arguments.as_slice().iter();
            Reply::Array(names.map(|name| Spec::find(name).map_or(Reply::Null, info)).collect())
        }
        "docs" if arguments.len() == 0 => Reply::Map(COMMANDS.iter().copied().map(docs).collect()),
        "docs" => {
            Reply::Map(arguments.as_slice().iter().filter_map(|name| Spec::find(name)).map(docs).collect())
        }
        _ => errors::unknown_subcommand("COMMAND", &subcommand),
    }
}

/// What a HELP subcommand answers.
pub(super) fn help(lines: &[&'static str]) -> Reply {
    Reply::Array(lines.iter().map(|line| Reply::Simple((*line).into())).collect())
}

/// The names of all commands, or of those that a filter lets through. `None`: there is no such filter.
fn list(mut arguments: Arguments) -> Option<Reply> {
    type Filter = Box<dyn Fn(&Spec) -> bool>;
    let filter: Filter = match arguments.len() {
        0 => Box::new(|_| true),
        3 if arguments.take().eq_ignore_ascii_case(b"filterby") => {
            let by = arguments.take().to_ascii_lowercase();
            let value = arguments.take();
            match by.as_slice() {
                // There are no modules.
                b"module" => Box::new(|_| false),
                b"aclcat" => {
                    let category = errors::text(&value, 64).to_ascii_lowercase();
                    Box::new(move |spec| {
                        CATEGORIES.contains(&category.as_str()) && groups::is_in_category(spec, &category)
                    })
                }
                b"pattern" => {
                    let pattern = value.to_ascii_lowercase();
                    Box::new(move |spec| glob::matches(&pattern, spec.name.as_bytes()))
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    let found = COMMANDS.iter().filter(|spec| filter(spec));
    Some(Reply::Array(found.map(|spec| Reply::text(spec.name)).collect()))
}

/// The keys of a command that is given in full, each as `show` makes it of the command, the key and whether it is the first.
fn keys(arguments: &Arguments, show: impl Fn(&Spec, Vec<u8>, bool) -> Reply) -> Reply {
    let given = arguments.as_slice();
    let Some(spec) = Spec::find(&given[0]) else {
        return errors::constant("ERR Invalid command specified");
    };
    if spec.keys.0 == 0 && !is_counted(spec) {
        return errors::constant("ERR The command has no key arguments");
    }
    if !spec.takes(given.len()) {
        return errors::constant("ERR Invalid number of arguments specified for command");
    }
    match places(spec, given) {
        Some(places) => {
            let keys = places.enumerate().map(|(nth, place)| show(spec, given[place].clone(), nth == 0));
            Reply::Array(keys.collect())
        }
        None => errors::constant("ERR Invalid arguments specified for command"),
    }
}

fn is_counted(spec: &Spec) -> bool {
    spec.flags.contains(&"movablekeys")
}

/// Where the keys of a command are among its words, if it has any and they can be told.
pub(super) fn places(spec: &Spec, given: &[Vec<u8>]) -> Option<Places> {
    match spec.keys {
        _ if is_counted(spec) => counted(given),
        (0, ..) => None,
        keys => ranged(keys, given.len()),
    }
}

type Places = std::iter::StepBy<std::ops::RangeInclusive<usize>>;

/// From the first key to the last, as the table has them.
fn ranged((first, last, step): (i64, i64, i64), count: usize) -> Option<Places> {
    let first = usize::try_from(first).ok()?;
    let last = match usize::try_from(last) {
        Ok(last) => last,
        Err(_) => count.checked_sub(usize::try_from(last.unsigned_abs()).ok()?)?,
    };
    (last < count).then(|| (first..=last).step_by(usize::try_from(step).unwrap_or(1).max(1)))
}

/// Behind their number, which is the first argument.
fn counted(given: &[Vec<u8>]) -> Option<Places> {
    let count = usize::try_from(errors::integer(given.get(1)?).ok()?).ok()?;
    let end = count.checked_add(2)?;
    (count > 0 && end <= given.len()).then(|| (2..=count + 1).step_by(1))
}

/// Name, arity, flags, places of the keys and categories; the last three, which Redis adds, are empty.
fn info(spec: &Spec) -> Reply {
    let (first, last, step) = spec.keys;
    let categories = CATEGORIES.iter().filter(|category| groups::is_in_category(spec, category));
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Integer(spec.arity),
        flag_set(spec.flags),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(categories.map(|category| Reply::Simple(format!("@{category}").into())).collect()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn flag_set(flags: &[&'static str]) -> Reply {
    Reply::Set(flags.iter().map(|flag| Reply::Simple((*flag).into())).collect())
}

fn docs(spec: &Spec) -> (Reply, Reply) {
    let docs = vec![
        (Reply::text("summary"), Reply::text(spec.summary)),
        (Reply::text("group"), Reply::text(groups::group(spec))),
    ];
    (Reply::text(spec.name), Reply::Map(docs))
}
