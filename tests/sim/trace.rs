//! What happened: a hash of everything, and the last events of each node for whoever reads a failure.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// The last events that are kept for each node.
const KEPT_MAX: usize = 24;

/// The history of one world.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    /// Per node the last events; kept only if `tells`.
    kept: Vec<VecDeque<String>>,
    tells: bool,
}

impl Trace {
    /// An empty history; with `tells` the last events are kept as text, which costs time.
    pub const fn new(tells: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, steps: 0, kept: Vec::new(), tells }
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

    /// Takes bytes into the hash. Source: Fowler, Noll, Vo, FNV-1a (RFC draft), eight bytes at a time.
    pub fn absorb(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.absorb_number(u64::from_le_bytes(word));
        }
        self.absorb_number(bytes.len() as u64);
    }

    /// Takes a number into the hash.
    pub fn absorb_number(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// Something happened to a node. The text is made only if somebody will read it.
    pub fn note(&mut self, at_us: u64, node: usize, what: impl FnOnce() -> String) {
        if !self.tells {
            return;
        }
        while self.kept.len() <= node {
            self.kept.push(VecDeque::new());
        }
        let kept = &mut self.kept[node];
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(format!("{:>10.3} ms  {}", millis(at_us), what()));
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

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn millis(us: u64) -> f64 {
    us as f64 / 1_000.0
}
