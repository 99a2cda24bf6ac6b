//! Where the scans of clients stand.
//!
//! A Redis cursor is a number, and a scan by key order stands at a key, so the keys are kept here under random-
//! looking numbers, for all connections alike: clients with a pool continue on any of them. The table is
//! bounded. Cursors that were already continued go first, so a scan that goes on does not push others out;
//! a cursor that is gone is an error, never a scan with holes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// The cursors that are kept.
const CURSORS_MAX: usize = 1 << 16;

/// The bytes of keys that are kept.
const CURSOR_BYTES_MAX: usize = 16 << 20;

/// What is scanned. A cursor of one scan is unknown to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    Keys,
    Elements,
    Fields,
    Scores,
}

#[derive(Debug)]
pub(super) struct Cursors {
    keys: HashMap<u64, (Scanned, Vec<u8>)>,
    bytes: usize,
    next: u64,
    /// In order of their making; some may be gone.
    fresh: VecDeque<u64>,
    continued: VecDeque<u64>,
    count_max: usize,
}

impl Cursors {
    /// The first number is random, so that a cursor of before a restart is unknown and not another scan's.
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::new(),
            bytes: 0,
            next: RandomState::new().hash_one(()) >> 2 | 1,
            fresh: VecDeque::new(),
            continued: VecDeque::new(),
            count_max: CURSORS_MAX,
        }
    }

    /// The key, element, field or member behind which a cursor's scan goes on. It may be asked for again, as clients retry.
    pub(super) fn position(&mut self, what: Scanned, cursor: u64) -> Option<Vec<u8>> {
        let (_, key) = self.keys.get(&cursor).filter(|(scanned, _)| *scanned == what)?.clone();
        if !self.continued.contains(&cursor) {
            self.continued.push_back(cursor);
            self.trim();
        }
        Some(key)
    }

    /// A cursor that goes on behind `key`. It is never 0.
    pub(super) fn insert(&mut self, what: Scanned, key: Vec<u8>) -> u64 {
        let cursor = self.next;
        self.next += 1;
        self.bytes += key.len();
        self.keys.insert(cursor, (what, key));
        self.fresh.push_back(cursor);
        self.trim();
        cursor
    }

    fn trim(&mut self) {
        while self.continued.len() > CONTINUED_MAX || self.is_over() {
            let Some(oldest) = self.continued.pop_front().or_else(|| self.fresh.pop_front()) else { return };
            if let Some((_, key)) = self.keys.remove(&oldest) {
                self.bytes -= key.len();
            }
        }
        // Continued cursors that were removed remain in the order of the fresh ones; they are dropped when
        // they come to the front or are half of it.
        if self.fresh.len() > 2 * self.keys.len() + CONTINUED_MAX {
            self.fresh.retain(|cursor| self.keys.contains_key(cursor));
        }
    }

    fn is_over(&self) -> bool {
        self.keys.len() > self.count_max || self.bytes > CURSOR_BYTES_MAX
    }
}

/// The continued cursors that are kept for clients that ask again.
const CONTINUED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_that_was_not_continued_outlives_a_long_scan() {
        let mut cursors = Cursors::new();
        let waiting = cursors.insert(Scanned::Keys, b"waiting".to_vec());
        let mut going = cursors.insert(Scanned::Keys, b"going".to_vec());
        for step in 0..CURSORS_MAX + 10 {
            assert!(cursors.position(Scanned::Keys, going).is_some(), "step {step}");
            assert!(cursors.position(Scanned::Keys, going).is_some(), "asked again at step {step}");
            going = cursors.insert(Scanned::Keys, step.to_string().into_bytes());
        }
        assert_eq!(cursors.position(Scanned::Keys, waiting), Some(b"waiting".to_vec()));
        assert!(cursors.keys.len() <= CONTINUED_MAX + 2, "{}", cursors.keys.len());
        assert!(cursors.fresh.len() <= 4 * CONTINUED_MAX, "{}", cursors.fresh.len());
    }

    #[test]
    fn table_is_bounded_by_number_and_by_bytes() {
        let mut cursors = Cursors::new();
        cursors.count_max = 10;
        let first = cursors.insert(Scanned::Keys, b"first".to_vec());
        let more = [(); 9].map(|()| cursors.insert(Scanned::Keys, Vec::new()));
        assert!(more.is_sorted() && more[0] > first);
        assert_eq!(cursors.keys.get(&first), Some(&(Scanned::Keys, b"first".to_vec())));
        cursors.insert(Scanned::Keys, Vec::new());
        assert_eq!((cursors.position(Scanned::Keys, first), cursors.keys.len()), (None, 10));
        cursors.insert(Scanned::Keys, vec![0; CURSOR_BYTES_MAX + 1]);
        assert_eq!((cursors.bytes, cursors.keys.len()), (0, 0));
    }
}
