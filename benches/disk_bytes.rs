//! What a set element takes on disk beyond its own bytes: 100,000 elements of 16 bytes in one set.
//!
//! The causal metadata is what a row says beyond its element: its dot, the key it belongs to and a checksum.
//! It is read back from `rows.redb` itself. The files are larger: pages that are not full, and the log, which
//! holds each operation once more until it is truncated.
//! Against xredis-crdt: 88 B per element in memory and in its RDB file (DESIGN.md, section 11).

mod measure;

use std::path::Path;

use measure::figures::{Figure, Target, print};
use measure::number;
use measure::pair::{Node, redb_store};
use measure::work::{KEY_BYTES, add};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableStats};
use tidelock_store::schema::{LOG_FILE, ROWS_FILE};

const ELEMENTS: usize = 100_000;

/// The adds of one turn, and so of one frame.
const BATCH_ADDS: usize = 1_000;

/// The first byte of the keys of rows, as `tidelock_store::schema` says.
const ROW_TAG: u8 = 4;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

/// What a file holds.
struct Content {
    /// Keys and values of rows, or of everything in the log.
    entry_bytes: u64,
    entries: usize,
    stats: TableStats,
    file_bytes: u64,
}

fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::new(1, redb_store(directory.path(), 1));
    let all: Vec<usize> = (0..ELEMENTS).collect();
    all.chunks(BATCH_ADDS).for_each(|some| node.write(0, some.iter().copied().map(add).collect()));
    node.store().flush().expect("the disk takes everything");
    drop(node);
    let rows = content(&directory.path().join(ROWS_FILE), |key| key.first() == Some(&ROW_TAG));
    assert_eq!(rows.entries, ELEMENTS, "one row per element");
    let log = content(&directory.path().join(LOG_FILE), |_| true);
    println!("bytes per element of {KEY_BYTES} B, {ELEMENTS} elements under the key `set`");
    println!("{:<28} {:>10} {:>10}", "", ROWS_FILE, LOG_FILE);
    let line = |what, of: fn(&Content) -> u64| {
        println!("{what:<28} {:>10.1} {:>10.1}", each(of(&rows)), each(of(&log)));
    };
    line("keys and values", |content| content.entry_bytes);
    line("in pages, with their heads", |content| {
        content.stats.stored_bytes() + content.stats.metadata_bytes()
    });
    line("pages, with what is free", |content| {
        content.stats.stored_bytes() + content.stats.metadata_bytes() + content.stats.fragmented_bytes()
    });
    line("file", |content| content.file_bytes);
    let metadata = each(rows.entry_bytes) - number(KEY_BYTES);
    println!("\nagainst xredis-crdt, 88 B: {:.1} times less", 88.0 / metadata);
    print(&[Figure {
        what: "causal metadata per set element on disk, in its row",
        value: metadata,
        unit: "B",
        gate: Target::AtMost(32.0),
        goal: Target::AtMost(24.0),
    }]);
}

fn content(path: &Path, is_counted: impl Fn(&[u8]) -> bool) -> Content {
    let database = redb::Database::open(path).expect("the file was closed");
    let transaction = database.begin_read().expect("the file is sound");
    let table = transaction.open_table(ENTRIES).expect("the table is there");
    let (mut entry_bytes, mut entries) = (0, 0);
    for item in table.iter().expect("the file is sound") {
        let (key, value) = item.expect("the file is sound");
        if is_counted(key.value()) {
            entry_bytes += (key.value().len() + value.value().len()) as u64;
            entries += 1;
        }
    }
    let stats = redb::ReadableTableMetadata::stats(&table).expect("the file is sound");
    let file_bytes = path.metadata().expect("the file is there").len();
    Content { entry_bytes, entries, stats, file_bytes }
}

fn each(bytes: u64) -> f64 {
    number(usize::try_from(bytes).expect("it fits")) / number(ELEMENTS)
}
