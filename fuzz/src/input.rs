//! Reads structures from bytes: every input gives one, and small changes of the bytes change it a little.
//!
//! When the bytes are used up, numbers are 0 and lists end. Numbers and texts are drawn near what decoders
//! find hard: limits, repetitions, names that are known, and now and then something too long.

use arbitrary::Unstructured;

/// Bytes that structures are read from.
#[derive(Debug)]
pub struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    /// Reads from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Whether all bytes were read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// A number below `bound`, which is 1 to 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Whether something happens that happens once in so many times, up to 256.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of the things.
    pub fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }

    /// So many bytes, zeros behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        self.0.arbitrary().unwrap_or([0; N])
    }

    /// At most this many bytes, up to 255.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let length = self.below(max + 1).min(self.0.len());
        self.0.bytes(length).unwrap_or_default()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    /// A list whose length is drawn below `bound`.
    pub fn list<T>(&mut self, bound: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.below(bound);
        (0..length).map(|_| one(self)).collect()
    }

    /// A number: mostly small, at times at an end of its range, at times anything.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=191 => u64::from(byte % 6),
            192..=207 => u64::from(self.byte()),
            208..=215 => u64::MAX,
            216..=223 => u64::MAX - u64::from(self.byte() % 4),
            224..=231 => u64::from(u32::MAX) + u64::from(self.byte() % 4),
            _ => u64::from_le_bytes(self.array()),
        }
    }

    /// A signed number: mostly small, at times an end of its range.
    pub fn signed(&mut self) -> i128 {
        match self.byte() {
            byte @ 0..=223 => i128::from(byte) - 100,
            224..=231 => i128::MAX,
            232..=239 => i128::MIN,
            _ => i128::from_le_bytes(self.array()),
        }
    }

    /// A text from a small vocabulary, or any short one; one in 256 is `long` bytes long, or one longer.
    pub fn text(&mut self, words: &[&str], long: usize) -> Vec<u8> {
        match self.byte() {
            255 => vec![b'x'; long + self.below(2)],
            200..=254 => self.bytes(12).to_vec(),
            byte => words[usize::from(byte) % words.len()].as_bytes().to_vec(),
        }
    }
}
