//! What replicas cost that wrote once: 10,000 authors of one operation each, on disk and in every later write.
//!
//! Their frames are committed as frames of peers are. The bytes are those of keys and values of both files without
//! the rows that they wrote, which are content. The cost of a write is that of a whole turn with its commit: CPU of
//! the thread, and bytes of the frame.
//! Against: one author.

mod measure;

use std::path::Path;
use std::time::Duration;

use measure::figures::{Figure, Target, print};
use measure::pair::{Node, keyspace, keyspace_name, redb_store};
use measure::work::sets;
use measure::{arguments, micros_each, number, thread_cpu, thread_cpu_since};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use tidelock_engine::apply::apply_frame;
use tidelock_engine::causality::{Hlc, VersionVector};
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::{Frame, FrameBuilder, FrameStart, SigningKey};
use tidelock_engine::id::{AuthorCard, Epoch, FrameId};
use tidelock_engine::op::{Element, Op};
use tidelock_engine::ports::{Batch, Durability, Log, LogPosition, Store};
use tidelock_store::RedbStore;
use tidelock_store::schema::{LOG_FILE, ROWS_FILE};

const AUTHORS: usize = 10_000;

/// The frames of one commit.
const BATCH_FRAMES: usize = 100;

/// The writes whose cost is measured, each a turn.
const WRITES: usize = 2_000;

/// The first byte of the keys of rows, and of the counts of members, as `tidelock_store::schema` says.
const CONTENT_TAGS: [u8; 2] = [3, 4];

/// What redb adds to an entry in a leaf: where its key ends, and where its value does.
const OFFSET_BYTES: u64 = 8;

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

/// What a store with so many authors takes.
struct Cost {
    write_cpu: Duration,
    frame_bytes: u64,
    /// Keys and values of both files but for content, before the log is let go of and after it.
    kept_bytes: u64,
    entry_bytes: u64,
    /// The entries that the last figure is of.
    entries: u64,
}

fn main() {
    let authors = arguments().first().copied().unwrap_or(AUTHORS);
    let (one, many) = (cost(1), cost(authors));
    let each = |bytes: fn(&Cost) -> u64| {
        let more = bytes(&many).saturating_sub(bytes(&one));
        number(usize::try_from(more).expect("it fits")) / number(authors - 1)
    };
    println!("{authors} authors of one operation each, against one author");
    println!("  bytes per author, with its frame in the log          {:>8.1}", each(|cost| cost.kept_bytes));
    println!("  bytes per author, once that is let go of             {:>8.1}", each(|cost| cost.entry_bytes));
    let with_offsets = each(|cost| cost.entry_bytes + cost.entries * OFFSET_BYTES);
    println!("  the same with redb's offsets                         {with_offsets:>8.1}");
    println!(
        "  a write, CPU with its commit                         {:>8.1} us, {:.1} us with one author",
        micros_each(many.write_cpu, WRITES),
        micros_each(one.write_cpu, WRITES)
    );
    println!(
        "  a write, bytes of its frame                          {:>8}, {} with one author",
        many.frame_bytes, one.frame_bytes
    );
    print(&[
        Figure {
            what: "keys and values of both files per author that wrote once, with redb's offsets",
            value: with_offsets,
            unit: "B",
            gate: Target::AtMost(100.0),
            goal: Target::AtMost(100.0),
        },
        Figure {
            what: "CPU of a write against one author",
            value: many.write_cpu.as_secs_f64() / one.write_cpu.as_secs_f64(),
            unit: "x",
            gate: Target::AtMost(1.2),
            goal: Target::AtMost(1.0),
        },
    ]);
}

fn cost(authors: usize) -> Cost {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut store = redb_store(directory.path(), 1);
    let frames: Vec<_> = (0..authors).map(frame).collect();
    for some in frames.chunks(BATCH_FRAMES) {
        commit(&mut store, some);
    }
    store.flush().expect("the disk takes everything");
    drop(store);
    let (kept_bytes, _) = bytes_beside_content(directory.path());

    let mut node = Node::new(1, redb_store(directory.path(), 1));
    // The first write names all that the node has seen.
    node.write(0, sets([0], 0));
    let start = thread_cpu();
    for turn in 1..=WRITES {
        node.write(turn as u64, sets([turn % 100], turn));
    }
    let write_cpu = thread_cpu_since(start);
    let end = node.store().end().position;
    let last = node.store().records_from(end, 1).expect("the log can be read");
    let frame_bytes = last[0].bytes().len() as u64;
    drop(node);

    let mut store = redb_store(directory.path(), 1);
    store.truncate(LogPosition(u64::MAX));
    while store.first() < store.end().position {
        store.flush().expect("the disk takes everything");
    }
    store.flush().expect("the disk takes everything");
    drop(store);
    let (entry_bytes, entries) = bytes_beside_content(directory.path());
    Cost { write_cpu, frame_bytes, kept_bytes, entry_bytes, entries }
}

/// The one frame of an author: it adds an element to a set.
fn frame(author: usize) -> (AuthorCard, Frame) {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(author as u64).to_be_bytes());
    let key = SigningKey::from_seed(seed);
    let card = key.card([3; 16]);
    let start = FrameStart {
        keyspace: keyspace(),
        epoch: Epoch(0),
        author: card.replica(),
        first: 1,
        previous: FrameId::NONE,
        hlc: Hlc::at(1_800_000_000_000),
    };
    let mut builder = FrameBuilder::new(start, &VersionVector::default());
    let element = author.to_be_bytes().to_vec();
    builder.push(Op::Add { key: b"set".to_vec(), elements: vec![Element { element, observed: Vec::new() }] });
    (card, builder.seal(&key))
}

fn commit(store: &mut RedbStore, frames: &[(AuthorCard, Frame)]) {
    let mut draft = Draft::over(store);
    for (_, frame) in frames {
        apply_frame(&mut draft, frame, 0).expect("the rows can be read");
    }
    let changes = draft.into_changes();
    let batch = Batch {
        keyspaces: vec![keyspace_name()],
        cards: frames.iter().map(|(card, _)| *card).collect(),
        frames: frames.iter().map(|(_, frame)| frame.clone()).collect(),
        changes,
        ..Batch::default()
    };
    store.commit(&batch, Durability::Durable).expect("the disk takes everything");
}

/// The bytes of keys and values of both files but for content, and the number of these entries.
fn bytes_beside_content(directory: &Path) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    for (file, content) in [(LOG_FILE, &[][..]), (ROWS_FILE, &CONTENT_TAGS[..])] {
        let path = directory.join(file);
        let database = redb::Database::open(path).expect("the file was closed");
        let transaction = database.begin_read().expect("the file is sound");
        let table = transaction.open_table(ENTRIES).expect("the table is there");
        for item in table.iter().expect("the file is sound") {
            let (key, value) = item.expect("the file is sound");
            if !content.contains(&key.value()[0]) {
                bytes += (key.value().len() + value.value().len()) as u64;
                entries += 1;
            }
        }
    }
    (bytes, entries)
}
