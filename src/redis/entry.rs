//! TIDE.ENTRY and TIDE.CONFLICTS: everything that concurrent writes left under a key.

use tidelock_engine::read::{Entry, EntryRow};
use tidelock_engine::row::Kind;

use super::reply::Reply;

/// A map of `kind`, `value`, `rows` and `truncated`.
pub(super) fn entry(entry: Entry) -> Reply {
    let kind = entry.visible.map(|kind| Reply::text(kind.to_string()));
    Reply::Map(vec![
        (Reply::text("kind"), kind.unwrap_or(Reply::Null)),
        (Reply::text("value"), Reply::optional(entry.value)),
        (Reply::text("rows"), Reply::Array(entry.rows.iter().map(row).collect())),
        (Reply::text("truncated"), Reply::Boolean(entry.is_truncated)),
    ])
}

/// The rows that lost, each as in [`entry`].
pub(super) fn conflicts(entry: &Entry) -> Reply {
    Reply::Array(entry.conflicts().map(row).collect())
}

/// Every row has the same fields; those that its kind does not have are null. The sums of a counter's slot may
/// need more than 64 bits, so they are text.
fn row(row: &EntryRow) -> Reply {
    let slot = row.slot.map_or(Reply::Null, |slot| {
        Reply::Map(vec![
            (Reply::text("top"), Reply::count(slot.top)),
            (Reply::text("sum"), Reply::text(slot.sum.to_string())),
            (Reply::text("base_top"), Reply::count(slot.base_top)),
            (Reply::text("base_sum"), Reply::text(slot.base_sum.to_string())),
        ])
    });
    let deadline = row.deadline_ms.map(|unix_ms| unix_ms.to_string().into_bytes());
    Reply::Map(vec![
        (Reply::text("kind"), Reply::text(kind_name(row.kind))),
        (Reply::text("subkey"), Reply::Bulk(row.subkey.clone())),
        (Reply::text("author"), Reply::text(row.dot.replica.to_string())),
        (Reply::text("seq"), Reply::count(row.dot.seq)),
        (Reply::text("epoch"), row.stamp.map_or(Reply::Null, |stamp| Reply::count(stamp.epoch.0))),
        (Reply::text("unix_ms"), row.stamp.map_or(Reply::Null, |stamp| Reply::count(stamp.hlc.unix_ms()))),
        // That of a deadline is the moment, in Unix milliseconds.
        (Reply::text("value"), Reply::optional(row.value.clone().or(deadline))),
        (Reply::text("slot"), slot),
        (Reply::text("visible"), Reply::Boolean(row.is_visible)),
    ])
}

/// The name of a row's kind.
pub(super) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Register => "register",
        Kind::Counter => "counter",
        Kind::Set => "set",
        Kind::Map => "map",
        Kind::Document => "document",
        Kind::Retired => "retired",
        Kind::Deadline => "deadline",
        Kind::Sorted => "sorted",
        Kind::Outcome => "outcome",
    }
}
