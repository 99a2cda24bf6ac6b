//! MEMORY: what a key takes, about, and what is known of the process.

use tidelock_engine::read::{Answer, ENTRY_ROWS_MAX, Entry, EntryRow, Query, SortedRange};
use tidelock_engine::request::{Action, ActionReply};
use tidelock_engine::row::Kind;
use tidelock_engine::score::SCORE_BYTES;

use super::call::{Arguments, Call, Given, Shape};
use super::errors;
use super::info::process_bytes;
use super::introspection::help;
use super::reply::Reply;
use super::table::{READ, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] =
    &[spec(("memory", -2, READ, (2, 2, 1), Run::Data(memory), "Tells how many bytes a key takes"))];

/// What a counter slot takes, in bytes, and what a deadline does: as much as they count for in a quota.
const SLOT_BYTES: usize = 40;
const DEADLINE_BYTES: usize = 8;

const HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return where to look for what takes memory.",
    "MALLOC-STATS",
    "    Refused: the allocator is not asked.",
    "PURGE",
    "    Do nothing: the allocator is not asked.",
    "STATS",
    "    Return what the process holds, and the keys of the selected keyspace.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return the bytes that the key and its value count for in a quota. Of a large key",
    "    some rows are read, and the rest is taken to be like them.",
    "HELP",
    "    Print this help.",
];

const DOCTOR: &str = "A node keeps its data on the disk and not in memory. INFO memory tells what the process holds, MEMORY \
                      USAGE what a key counts for in a quota, and TIDE.KEYSPACES what each keyspace holds.\n";

/// `DOCTOR | MALLOC-STATS | PURGE | STATS | USAGE key [SAMPLES count] | HELP`
fn memory(mut arguments: Arguments) -> Result<Call, Reply> {
    let subcommand = arguments.take();
    let name = errors::text(&subcommand, 16).to_ascii_lowercase();
    match (name.as_str(), arguments.len()) {
        ("usage", 1..) => usage(arguments),
        ("doctor", 0) => Err(Reply::Verbatim(DOCTOR.to_owned())),
        ("purge", 0) => Err(Reply::OK),
        ("stats", 0) => Ok(Call::query(Query::Size, Shape::of_one(stats, false))),
        ("malloc-stats", 0) => {
            Err(errors::constant("ERR MEMORY MALLOC-STATS is not supported: the allocator is not asked"))
        }
        ("help", 0) => Err(help(HELP)),
        ("usage" | "doctor" | "purge" | "stats" | "malloc-stats" | "help", _) => {
            Err(errors::arity(&format!("memory|{name}")))
        }
        _ => Err(errors::unknown_subcommand("MEMORY", &subcommand)),
    }
}

/// Those fields of Redis that mean something here, in its order. What the kernel does not tell is left out.
#[expect(clippy::needless_pass_by_value, reason = "it is what a command makes its answer by")]
fn stats(reply: ActionReply) -> Reply {
    let ActionReply::Answer(Answer::Count(keys)) = reply else { unreachable!("the keys were counted") };
    let peak = process_bytes("VmHWM:").map(|bytes| (Reply::text("peak.allocated"), Reply::count(bytes)));
    let total = process_bytes("VmRSS:").map(|bytes| (Reply::text("total.allocated"), Reply::count(bytes)));
    let keys = (Reply::text("keys.count"), Reply::count(keys));
    Reply::Map(peak.into_iter().chain(total).chain([keys]).collect())
}

/// `USAGE key [SAMPLES count]`: as many rows are read as one answer lists, whatever the count.
fn usage(mut arguments: Arguments) -> Result<Call, Reply> {
    let key = arguments.key()?;
    while let Some(option) = arguments.next() {
        let samples = arguments.next().filter(|_| option.eq_ignore_ascii_case(b"samples"));
        if errors::integer(&samples.ok_or(errors::SYNTAX)?)? < 0 {
            return Err(errors::SYNTAX);
        }
    }
    let length = key.len();
    let queries = [
        Query::Entry(key.clone()),
        Query::Chunks(key.clone()),
        Query::Cardinality(key.clone()),
        Query::FieldCount(key.clone()),
        Query::SortedCount(key, SortedRange::ALL),
    ];
    let made = move |given: &mut Vec<Given>| told(length, given);
    Ok(Call::each(queries.into_iter().map(Action::Query), Shape::made(made, true)))
}

/// Of the questions behind the first, those that are not about the key's kind have no answer.
fn told(key_bytes: usize, given: &mut Vec<Given>) -> Reply {
    let mut given = given.drain(..);
    let entry = match given.next().expect("the rows of the key were asked for") {
        Ok(ActionReply::Answer(Answer::Entry(entry))) => entry,
        Ok(other) => unreachable!("the rows of a key were asked for, not {other:?}"),
        Err(error) => return errors::action(&error),
    };
    if entry.visible.is_none() {
        return Reply::Null;
    }
    let (mut chunks, mut rows) = (0, entry.rows.len() as u64);
    for answer in given {
        match answer {
            Ok(ActionReply::Answer(Answer::Chunks(list))) => {
                chunks = list.iter().map(|(_, chunk)| chunk.len() as u64).sum();
            }
            Ok(ActionReply::Answer(Answer::Count(count))) if entry.is_truncated => rows = rows.max(count),
            _ => {}
        }
    }
    Reply::count(of_rows(key_bytes, &entry, rows) + chunks)
}

/// The bytes of the rows, if those that were listed are like all of them.
fn of_rows(key_bytes: usize, entry: &Entry, rows: u64) -> u64 {
    let listed: u64 = entry.rows.iter().map(|row| (key_bytes + of_row(row)) as u64).sum();
    if entry.is_truncated { listed.saturating_mul(rows) / ENTRY_ROWS_MAX as u64 } else { listed }
}

fn of_row(row: &EntryRow) -> usize {
    let value = match row.kind {
        Kind::Sorted => SCORE_BYTES,
        _ => row.value.as_ref().map_or(0, Vec::len),
    };
    let slot = row.slot.map_or(0, |_| SLOT_BYTES);
    let deadline = row.deadline_ms.map_or(0, |_| DEADLINE_BYTES);
    row.subkey.len() + value + slot + deadline
}
