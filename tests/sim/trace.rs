//! What happened: a hash of everything, and the last events of each node for whoever reads a failure.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// The last events that are kept for each node.
const KEPT_MAX: usize = 24;

/// How much of a history is put into words, which costs time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    Nothing,
    /// The last events of each node are kept for whoever reads a failure.
    Last,
    /// Those are kept, and every event is printed when it happens.
    Everything,
}

/// The history of one world.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    /// Per node the last events.
    kept: Vec<VecDeque<String>>,
    telling: Telling,
}

impl Trace {
    /// An empty history.
    pub const fn new(telling: Telling) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, steps: 0, kept: Vec::new(), telling }
    }

    /// The hash of all that happened so far. Equal histories have equal hashes in every process.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The turns so far.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Counts a turn.
    pub fn step(&mut self) {
        self.steps += 1;
    }

    /// Takes bytes into the hash. Source: Fowler, Noll, Vo, FNV-1a (RFC draft), eight bytes at a time; whole
    /// files in four lanes, because one lane waits for each of its multiplications.
    pub fn absorb(&mut self, bytes: &[u8]) {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [1, 2, 3, 4];
        for block in blocks {
            for (lane, chunk) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
                *lane = mixed(*lane, u64::from_le_bytes(*chunk));
            }
        }
        lanes.into_iter().for_each(|lane| self.absorb_number(lane));
        rest.chunks(8).for_each(|chunk| self.absorb_number(word(chunk)));
        self.absorb_number(bytes.len() as u64);
    }

    /// Takes a number into the hash.
    pub fn absorb_number(&mut self, number: u64) {
        self.hash = mixed(self.hash, number);
    }

    /// Something happened to a node. The text is made only if somebody will read it.
    pub fn note(&mut self, at_us: u64, node: usize, what: impl FnOnce() -> String) {
        if self.telling == Telling::Nothing {
            return;
        }
        let what = what();
        if self.telling == Telling::Everything {
            println!("{:>12.3} ms  node {node}  {what}", millis(at_us));
        }
        while self.kept.len() <= node {
            self.kept.push(VecDeque::new());
        }
        let kept = &mut self.kept[node];
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(format!("{:>10.3} ms  {what}", millis(at_us)));
    }

    /// The last events of a node, a line each.
    pub fn tell(&self, node: usize) -> String {
        let mut told = String::new();
        for line in self.kept.get(node).into_iter().flatten() {
            let _ = writeln!(told, "    {line}");
        }
        told
    }
}

const fn mixed(hash: u64, number: u64) -> u64 {
    (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn millis(us: u64) -> f64 {
    us as f64 / 1_000.0
}
