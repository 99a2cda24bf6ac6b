//! What may not grow: the buffers, tables and files of every node, whoever feeds them.
//!
//! Buffers are looked at after every turn, files when the nodes have settled. Those of early frames, evidence,
//! links, keyspaces and the overlay were proven by lifting each in the code once.

use tidelock_engine::message::KEYSPACES_MAX;
use tidelock_engine::ports::Log;
use tidelock_engine::replica::{EARLY_BYTES_MAX, EARLY_FRAMES_MAX, EVIDENCE_MAX, Report};

use crate::ledger::Violation;
use crate::node::Node;
use crate::store::{MATERIALIZE, SimStore};

/// The greeted sessions of a node: DESIGN.md, section 6.
const LINKS_MAX: usize = 8;

/// The peers that are remembered with the reason why they were refused.
const REFUSALS_MAX: usize = 64;

/// The entries of one turn's commit at most: eight messages of peers, or a few requests, of small writes.
const TURN_ENTRIES_MAX: u64 = 4_000;

/// The bytes of one such entry, about.
const ENTRY_BYTES_MAX: u64 = 1_000;

/// The bytes of files that a byte of frames may take: frames are small here, and rows have pages of their own.
const FILE_BYTES_PER_FRAME_BYTE: u64 = 40;

/// The bytes that two files of redb take with nothing in them, and what they grow by at a time, about.
const FILES_BASE_BYTES: u64 = 4 << 20;

/// A node with so many keyspaces is looked at after every other turn, with twice as many after every third.
const KEYSPACES_PER_LOOK: u64 = 50;

/// A bound of what a node reports of itself.
pub type Bound = fn(&Report) -> Result<(), String>;

/// All of them, by what they say.
pub const BOUNDS: [(&str, Bound); 5] = [
    ("frames that wait for others are bounded", early_frames_are_bounded),
    ("evidence is bounded", evidence_is_bounded),
    ("links are bounded", links_are_bounded),
    ("refusals are bounded", refusals_are_bounded),
    ("keyspaces are bounded", keyspaces_are_bounded),
];

/// Checks every buffer and table of a running node after its `turn`-th turn. A report of thousands of keyspaces
/// is long, so that such a node is looked at less often.
///
/// # Errors
/// One of them has outgrown its bound.
pub fn check_buffers(node: &mut Node, turn: u64) -> Result<(), Violation> {
    if !turn.is_multiple_of(1 + node.reported_keyspaces / KEYSPACES_PER_LOOK) {
        return Ok(());
    }
    let report = node.driver().replica().report();
    node.reported_keyspaces = report.keyspaces.len() as u64;
    for (name, holds) in BOUNDS {
        holds(&report).map_err(|detail| Violation::new(name, detail))?;
    }
    overlay_is_bounded(node.driver().store())
        .map_err(|detail| Violation::new("the overlay is bounded", detail))
}

fn early_frames_are_bounded(report: &Report) -> Result<(), String> {
    at_most("frames", report.early.0, EARLY_FRAMES_MAX)?;
    at_most("bytes", report.early.1, EARLY_BYTES_MAX)
}

fn evidence_is_bounded(report: &Report) -> Result<(), String> {
    at_most("proofs", report.evidence.len(), EVIDENCE_MAX)
}

fn links_are_bounded(report: &Report) -> Result<(), String> {
    at_most("links", report.links.len(), LINKS_MAX)
}

fn refusals_are_bounded(report: &Report) -> Result<(), String> {
    at_most("refusals", report.refusals.len(), REFUSALS_MAX)
}

fn keyspaces_are_bounded(report: &Report) -> Result<(), String> {
    at_most("keyspaces", report.keyspaces.len(), KEYSPACES_MAX)
}

/// A commit waits for the rows to be written when the overlay is full; what it then adds comes on top.
fn overlay_is_bounded(store: &SimStore) -> Result<(), String> {
    let Some(store) = store.redb() else { return Ok(()) };
    // A disk without power says nothing; what cannot be read for other reasons is found where rows are read.
    let Ok(stats) = store.reader().stats() else { return Ok(()) };
    let entries = (MATERIALIZE.wait_at * MATERIALIZE.entries) as u64 + TURN_ENTRIES_MAX;
    at_most("entries", stats.overlay_entries, entries)?;
    at_most("bytes", stats.overlay_bytes, entries * ENTRY_BYTES_MAX)
}

/// Files grow with what was committed, and with nothing else.
///
/// # Errors
/// They are larger than that, or cannot be measured.
pub fn files_are_bounded(node: &Node) -> Result<(), Violation> {
    let of = |detail: String| Violation::new("files grow with what was committed", detail);
    let store = node.driver().store();
    let Some(redb) = store.redb() else { return Ok(()) };
    let stats = redb.reader().stats().map_err(|error| of(error.to_string()))?;
    let last = store.records_from(stats.position, 1).map_err(|error| of(error.to_string()))?.pop();
    let committed = last.map_or(0, |last| last.total_bytes);
    let files = stats.log_bytes + stats.rows_bytes;
    at_most("bytes of files", files, FILES_BASE_BYTES + FILE_BYTES_PER_FRAME_BYTE * committed).map_err(of)
}

fn at_most<T: Copy + PartialOrd + std::fmt::Display>(what: &str, is: T, bound: T) -> Result<(), String> {
    if is <= bound { Ok(()) } else { Err(format!("{is} {what}, at most {bound} are allowed")) }
}
