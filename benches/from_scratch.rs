//! An empty replica fetches 100,000 entries from one that has them: CPU of both, messages, bytes.
//!
//! Against iroh-docs 0.101, whose own figure was measured on the machine of reference/performance.md, section 7
//! (100,000 entries, two replicas in memory, thread CPU of both together: 9.4 to 10.6 s, 25.1 MB in one
//! message). It is a constant here: to compare on another machine, measure iroh-docs there.
//! Ours is durable on both sides where it says redb; the gate is on that. Rows are written within the measurement.

mod measure;

use std::time::Duration;

use measure::figures::{Figure, Target, print};
use measure::pair::{Pair, mem_store, redb_store};
use measure::work::{BATCH, sets};
use measure::{thread_cpu, thread_cpu_since};
use tidelock_engine::ports::{CommitError, Store};
use tidelock_store::RedbStore;

/// What iroh-docs takes, in seconds of CPU.
const IROH_DOCS_S: f64 = 10.0;

const ENTRIES: usize = 100_000;

fn main() {
    println!("{ENTRIES} entries of 16 + 64 bytes from scratch, thread CPU of both nodes");
    println!(
        "{:<36} {:>8} {:>10} {:>9} {:>9} {:>11} {:>8}",
        "stores, operations per frame", "CPU s", "storage s", "messages", "MB", "largest KB", "legs"
    );
    run("memory, 100", BATCH, || [mem_store(1), mem_store(2)], |_| Ok(()));
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let [frames_of_100, frames_of_1] = &directories;
    let stores = |directory: &tempfile::TempDir| {
        [1, 2].map(|number| redb_store(&directory.path().join(number.to_string()), number))
    };
    let batched = run("redb on disk, 100", BATCH, || stores(frames_of_100), RedbStore::flush);
    run("memory, 1 (one signature each)", 1, || [mem_store(1), mem_store(2)], |_| Ok(()));
    let single = run("redb on disk, 1 (one signature each)", 1, || stores(frames_of_1), RedbStore::flush);
    let (gate, goal) = (Target::AtLeast(10.0), Target::AtLeast(20.0));
    let figure = |what, cpu: Duration| Figure {
        what,
        value: IROH_DOCS_S / cpu.as_secs_f64(),
        unit: "times less CPU than iroh-docs, 10 s",
        gate,
        goal,
    };
    print(&[
        figure("100,000 entries from scratch, frames of 100", batched),
        figure("100,000 entries from scratch, frames of 1", single),
    ]);
}

/// Syncs a new node with a full one, prints the figures and answers the CPU time.
fn run<S: Store>(
    what: &str,
    batch: usize,
    stores: impl FnOnce() -> [S; 2],
    flush: impl Fn(&S) -> Result<(), CommitError>,
) -> Duration {
    let mut pair = Pair::new(stores());
    for start in (0..ENTRIES).step_by(batch) {
        pair.write(0, sets(start..start + batch, 0));
    }
    flush(pair.nodes[0].store()).expect("the disk takes everything");
    pair.take_traffic();
    let (before, unstored_before) = (pair.cpu(), unstored(&pair));
    pair.connect();
    let start = thread_cpu();
    flush(pair.nodes[1].store()).expect("the disk takes everything");
    let flushing = thread_cpu_since(start);
    pair.assert_equal();
    let cpu = pair.cpu().saturating_sub(before) + flushing;
    let storage = cpu.saturating_sub(unstored(&pair).saturating_sub(unstored_before));
    let traffic = pair.take_traffic();
    let count = |bytes: usize, unit: f64| measure::number(bytes) / unit;
    println!(
        "{what:<36} {:>8.3} {:>10.3} {:>9} {:>9.2} {:>11.0} {:>8}",
        cpu.as_secs_f64(),
        storage.as_secs_f64(),
        traffic.messages.len(),
        count(traffic.bytes(), 1e6),
        count(traffic.largest(), 1024.0),
        traffic.legs
    );
    println!("    {}", traffic.summary());
    cpu
}

fn unstored<S: Store>(pair: &Pair<S>) -> Duration {
    pair.nodes.iter().map(measure::pair::Node::cpu_before_storage).sum()
}
