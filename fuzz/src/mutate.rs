//! Inputs without a fuzzer: those of a corpus, changed at random, and structures of random bytes.
//!
//! One seed, one input, on every machine. Every round has a generator of its own, so that one round can be
//! played again without those before it.
//! Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), `SplitMix64`.

/// The longest input that is made, in bytes, unless the corpus has a longer one.
pub const INPUT_BYTES_MAX: usize = 4 << 10;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a round of a target.
    pub fn of_round(target: &str, round: u64) -> Self {
        let name = target.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(name ^ round.wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// One of the things.
    pub fn pick<'a, T: ?Sized>(&mut self, things: &'a [Box<T>]) -> &'a T {
        &things[self.below(things.len())]
    }

    /// So many random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// What inputs are made of.
#[derive(Debug)]
pub struct Source {
    corpus: Vec<Box<[u8]>>,
    words: &'static [&'static str],
}

impl Source {
    /// The source of a target's inputs.
    pub fn of(target: &crate::Target) -> Self {
        Self {
            corpus: (target.corpus)().into_iter().map(Vec::into_boxed_slice).collect(),
            words: target.words,
        }
    }

    /// The input of a round: one in six is as it is in the corpus, one in twelve random, the others changed.
    pub fn input(&self, random: &mut Random) -> Vec<u8> {
        let changes = match random.below(12) {
            0 => {
                let length = random.below(200);
                return random.bytes(length);
            }
            1 | 2 => 0,
            many => 1 + many / 4,
        };
        let mut bytes = random.pick(&self.corpus).to_vec();
        let longest = INPUT_BYTES_MAX.max(bytes.len());
        for _ in 0..changes {
            self.change(random, &mut bytes);
        }
        bytes.truncate(longest);
        bytes
    }

    fn change(&self, random: &mut Random, bytes: &mut Vec<u8>) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(12) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add([1, 0xff, 2, 16][random.below(4)]),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at.min(end)..end)),
            6 => {
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, piece);
            }
            7 => drop(bytes.splice(at..at, long_number(random))),
            8 => {
                // Over what is there: a length that is far too large.
                let number: Vec<u8> = long_number(random).collect();
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number);
            }
            9 => {
                let other = random.pick(&self.corpus);
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            10 if !self.words.is_empty() => {
                let word = self.words[random.below(self.words.len())];
                bytes.splice(at..at, word.bytes());
            }
            _ => {
                let length = random.below(5);
                let noise = random.bytes(length);
                bytes.splice(at..at, noise);
            }
        }
    }
}

/// A number in base 128 that takes up to ten bytes, and perhaps does not end there.
fn long_number(random: &mut Random) -> impl Iterator<Item = u8> + use<> {
    let length = 1 + random.below(10);
    let last = [0x01, 0x00, 0x7f, 0xff][random.below(4)];
    let middle = [0xff, 0x80][random.below(2)];
    (1..length).map(move |_| middle).chain([last])
}
