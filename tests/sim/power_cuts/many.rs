//! Many disks at once, on several threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use super::{CutReport, NAME, play};
use crate::trace::Telling;
use crate::verdict::{Failure, caught};

/// Plays so many disks from a seed on, and tells of each what it came to.
pub fn play_many(
    first_seed: u64,
    disks: u64,
    threads: usize,
    mut tell: impl FnMut(Result<CutReport, Failure>),
) {
    let next = AtomicU64::new(0);
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                let turn = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|disk| *disk < disks);
                while let Some(disk) = turn() {
                    let seed = first_seed.wrapping_add(disk);
                    if sender.send(caught(NAME, seed, || play(seed, Telling::Nothing))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        receiver.iter().for_each(&mut tell);
    });
}
