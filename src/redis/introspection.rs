//! COMMAND: the command table, for clients that ask for it.

use super::call::Arguments;
use super::errors;
use super::reply::Reply;
use super::state::SessionState;
use super::table::{COMMANDS, Spec};

/// `COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...]]`.
pub(super) fn command(_: &mut SessionState, mut arguments: Arguments) -> Reply {
    let Some(subcommand) = arguments.next() else {
        return Reply::Array(COMMANDS.iter().copied().map(info).collect());
    };
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    match name.as_str() {
        "count" | "list" if arguments.len() > 0 => errors::arity(&format!("command|{name}")),
        "count" => Reply::count(COMMANDS.len()),
        "list" => Reply::Array(COMMANDS.iter().map(|spec| Reply::text(spec.name)).collect()),
        "info" if arguments.len() == 0 => Reply::Array(COMMANDS.iter().copied().map(info).collect()),
        "info" => {
            let names = arguments.as_slice().iter();
            Reply::Array(names.map(|name| Spec::find(name).map_or(Reply::NullArray, info)).collect())
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

/// Name, arity, flags and places of the keys; the last four, which Redis adds, are empty.
fn info(spec: &Spec) -> Reply {
    let (first, last, step) = spec.keys;
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Integer(spec.arity),
        Reply::Set(spec.flags.iter().map(|flag| Reply::Simple((*flag).into())).collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn docs(spec: &Spec) -> (Reply, Reply) {
    let group = if spec.name.starts_with("tide.") { "tidelock" } else { "generic" };
    let docs =
        vec![(Reply::text("summary"), Reply::text(spec.summary)), (Reply::text("group"), Reply::text(group))];
    (Reply::text(spec.name), Reply::Map(docs))
}
