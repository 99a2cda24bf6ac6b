//! LATENCY: how long commands take, as a histogram of each.
//!
//! Spikes of single events are not recorded, as in a Redis whose `latency-monitor-threshold` is 0.

use super::call::Arguments;
use super::errors;
use super::introspection::help;
use super::metrics::{Calls, Since};
use super::reply::Reply;
use super::state::Shared;
use super::table::{NONE, Other, QUEUED, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] =
    &[spec(("latency", -2, QUEUED, NONE, Run::Other(Other::Latency), "Tells how long commands take"))];

const HELP: &[&str] = &[
    "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return where to look for what takes long.",
    "GRAPH <event>",
    "    Refused: no events are recorded.",
    "HISTORY <event>",
    "    Return nothing: no events are recorded.",
    "LATEST",
    "    Return nothing: no events are recorded.",
    "RESET [<event> ...]",
    "    Return 0: there is nothing to reset.",
    "HISTOGRAM [COMMAND ...]",
    "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
    "    If no commands are specified then all histograms are replied.",
    "HELP",
    "    Print this help.",
];

const DOCTOR: &str = "Single events are not recorded. LATENCY HISTOGRAM and INFO commandstats tell how long commands take, \
                      SLOWLOG GET which took long, and /metrics of the HTTP port where the time goes.\n";

/// `DOCTOR | GRAPH event | HISTORY event | LATEST | RESET [event ...] | HISTOGRAM [command ...] | HELP`
pub(super) fn latency(shared: &Shared, mut arguments: Arguments) -> Reply {
    let subcommand = arguments.take();
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    match (name.as_str(), arguments.len()) {
        ("doctor", 0) => Reply::Verbatim(DOCTOR.to_owned()),
        ("graph", 1) => {
            let event = errors::text(&arguments.take(), 64);
            Reply::error(format!("ERR No samples available for event '{event}'"))
        }
        ("history", 1) | ("latest", 0) => Reply::Array(Vec::new()),
        ("reset", _) => Reply::Integer(0),
        ("histogram", _) => histogram(shared, arguments.as_slice()),
        ("help", 0) => help(HELP),
        ("doctor" | "graph" | "history" | "latest" | "help", _) => errors::arity(&format!("latency|{name}")),
        _ => errors::unknown_subcommand("LATENCY", &subcommand),
    }
}

/// The commands that were executed, or those named of them.
fn histogram(shared: &Shared, names: &[Vec<u8>]) -> Reply {
    let since: Since = shared.since.lock().expect("no holder of the lock panics").clone();
    let calls = since.calls_of(shared);
    let shown = |(name, calls): &(&'static str, Calls)| (Reply::text(*name), distribution(calls));
    Reply::Map(if names.is_empty() {
        calls.iter().filter(|(_, calls)| calls.count > 0).map(shown).collect()
    } else {
        let found = names.iter().filter_map(|wanted| {
            let is_wanted = |(name, calls): &&(&'static str, Calls)| {
                calls.count > 0 && wanted.eq_ignore_ascii_case(name.as_bytes())
            };
            calls.iter().find(is_wanted)
        });
        found.map(shown).collect()
    })
}

/// How many calls took up to each bound, which are powers of two, in microseconds: those that any call is between.
fn distribution(calls: &Calls) -> Reply {
    let mut sum = 0;
    let steps =
        calls.by_duration.iter().enumerate().filter(|(_, count)| **count > 0).map(|(power, count)| {
            sum += count;
            (Reply::Integer(1 << power), Reply::count(sum))
        });
    Reply::Map(vec![
        (Reply::text("calls"), Reply::count(calls.count)),
        (Reply::text("histogram_usec"), Reply::Map(steps.collect())),
    ])
}
