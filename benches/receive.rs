//! Receiving operations from a peer, up to the point where storage begins: in CPU time per operation.
//!
//! What is gated is the whole way that a pushed message takes through a turn of the receiver, less its commit:
//! message and frame decoded, chain and dependencies judged, signature verified, operations applied to the
//! draft. It reads the rows that are there from a store of 100,000 in memory, which is a part of the cost that
//! belongs to storage. Then the parts by themselves, on empty rows. Frames hold 100 operations.

mod measure;

use std::time::Duration;

use measure::figures::{Figure, Target, print};
use measure::pair::{Pair, card, mem_store};
use measure::work::{BATCH, add, sets};
use measure::{Dice, median, micros_each, thread_cpu, thread_cpu_since};
use tidelock_engine::apply::apply_frame;
use tidelock_engine::draft::Draft;
use tidelock_engine::frame::Frame;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{Log, LogPosition};
use tidelock_engine::write::Write;

const ROUNDS: usize = 5;

/// The frames of one round.
const FRAMES: usize = 200;

/// The keys that are overwritten, and the members of the set that is added to.
const KEYS: usize = 100_000;

fn main() {
    let mut fresh = 0;
    let mut dice = Dice(3);
    let mut next = |kind: Kind| -> Vec<Write> {
        match kind {
            Kind::Fresh => {
                fresh += BATCH;
                sets(KEYS + fresh..KEYS + fresh + BATCH, 0)
            }
            Kind::Overwrite => sets((0..BATCH).map(|_| dice.below(KEYS)).collect::<Vec<_>>(), fresh),
            Kind::Add => (0..BATCH).map(|_| add(dice.below(KEYS))).collect(),
        }
    };
    let mut pair = Pair::new([mem_store(1), mem_store(2)]);
    for start in (0..KEYS).step_by(BATCH) {
        pair.write(0, sets(start..start + BATCH, 0));
    }
    pair.connect();
    let kinds = [Kind::Fresh, Kind::Overwrite, Kind::Add];
    let mut costs: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (kind, costs) in kinds.into_iter().zip(&mut costs) {
            costs.push(round(&mut pair, || next(kind)));
        }
    }
    pair.assert_equal();
    let medians = costs.map(median);
    println!(
        "microseconds of CPU per operation before storage, batches of {BATCH}, medians of {ROUNDS} rounds"
    );
    println!("  SET of a fresh key   {:.2}", medians[0]);
    println!("  SET over a value     {:.2}", medians[1]);
    println!("  SADD of a member     {:.2}", medians[2]);
    let sum = parts(pair.nodes[1].store());
    let (gate, goal) = (Target::AtMost(2.0), Target::AtMost(1.0));
    let figure = |what, value| Figure { what, value, unit: "us CPU per operation", gate, goal };
    print(&[
        figure("decode, verify, apply a SET on empty rows", sum),
        figure("a turn with a SET of a fresh key, less its commit", medians[0]),
        figure("a turn with a SET over a value, less its commit", medians[1]),
    ]);
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Fresh,
    Overwrite,
    Add,
}

/// Receives some frames, one message each.
fn round(pair: &mut Pair<MemStore>, mut writes: impl FnMut() -> Vec<Write>) -> f64 {
    let before = pair.nodes[1].cpu_before_storage();
    for _ in 0..FRAMES {
        pair.write(0, writes());
        pair.exchange();
    }
    let traffic = pair.take_traffic();
    let pushes = traffic.messages.iter().filter(|(_, name, _)| *name == "Push").count();
    assert!(pushes >= FRAMES, "{}", traffic.summary());
    micros_each(pair.nodes[1].cpu_before_storage().saturating_sub(before), FRAMES * BATCH)
}

/// Prints what the parts cost for the first frames of the log, which set fresh keys, and answers their sum.
fn parts(store: &MemStore) -> f64 {
    let logged = store.records_from(LogPosition(1), FRAMES).expect("memory can be read");
    let card = card(1);
    let empty = mem_store(3);
    let each = |took: Duration| micros_each(took, FRAMES * BATCH);
    let (decoding, frames) = timed(|| {
        let frames = logged.iter().map(|frame| Frame::decode(frame.bytes()).expect("a frame"));
        frames.collect::<Vec<Frame>>()
    });
    let (verifying, ()) =
        timed(|| frames.iter().for_each(|frame| frame.verify(&card).expect("it was signed")));
    let (applying, changed) = timed(|| {
        let one = |frame| {
            let mut draft = Draft::over(&empty);
            apply_frame(&mut draft, frame, frame.header().first - 1).expect("memory can be read");
            draft.into_changes().rows.len()
        };
        frames.iter().map(one).sum::<usize>()
    });
    assert_eq!(changed, FRAMES * BATCH, "every operation added a row");
    println!("of which, on empty rows:");
    println!("  Frame::decode        {:.2}", each(decoding));
    println!("  Frame::verify        {:.2}", each(verifying));
    println!("  apply_frame          {:.2}", each(applying));
    each(decoding + verifying + applying)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = thread_cpu();
    let result = work();
    (thread_cpu_since(start), result)
}
