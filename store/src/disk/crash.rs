//! What a power cut leaves of a file: an image that remembers what was synced and what was written since.
//!
//! The model is a page cache over a disk that writes 512-byte sectors whole: at the cut, every sector is in
//! the state that it had after some prefix of the unsynced writes, each sector after its own. That covers
//! writes that were kept, lost, reordered against each other, and torn. The length is one such sector.

/// The bytes that a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// A small deterministic generator (splitmix64); a test's or the simulator's seed decides everything.
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0. The bias is far below what a test could see.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// The bytes of one file.
///
/// Invariant: `current` is `synced` with `unsynced` done to it in order.
#[derive(Debug, Default)]
pub(super) struct Image {
    current: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Image {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    /// A file with the same bytes, all of them on disk.
    pub(super) fn copied(&self) -> Self {
        Self { current: self.current.clone(), synced: self.current.clone(), unsynced: Vec::new() }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.current, offset, bytes);
        self.unsynced.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn resize(&mut self, length: usize) {
        self.current.resize(length, 0);
        self.unsynced.push(Change::Resize(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { offset, bytes } => overwrite(&mut self.synced, offset, &bytes),
                Change::Resize(length) => self.synced.resize(length, 0),
            }
        }
    }

    /// Rot: one bit turns, on the disk and in the cache.
    pub(super) fn flip_bit(&mut self, byte: usize, bit: u8) {
        self.current[byte] ^= 1 << bit;
        if let Some(synced) = self.synced.get_mut(byte) {
            *synced ^= 1 << bit;
        }
    }

    /// The power is cut. One cut in four loses all that was not synced and one keeps all of it, because these
    /// two corners are what a state per sector would hardly ever draw.
    pub(super) fn cut_power(&mut self, dice: &mut Dice) {
        let changes = std::mem::take(&mut self.unsynced);
        let is_resized = changes.iter().any(|change| matches!(change, Change::Resize(_)));
        let count = changes.len() as u64;
        let fate = dice.below(4);
        let mut prefix = || match fate {
            0 => 0,
            1 => count,
            _ => dice.below(count + 1),
        };
        let length_prefix = prefix();
        let mut prefixes = std::collections::BTreeMap::new();
        let mut length = self.synced.len();
        let mut written = Vec::new();
        for (index, change) in (0..).zip(changes) {
            match change {
                Change::Resize(to) if index < length_prefix => {
                    length = to;
                    self.synced.resize(to.max(self.synced.len()), 0);
                    self.synced[to..].fill(0);
                }
                Change::Resize(_) => {}
                Change::Write { offset, bytes } => {
                    if index < length_prefix {
                        length = length.max(offset + bytes.len());
                    }
                    for (sector, offset, piece) in sectors(offset, &bytes) {
                        if index < *prefixes.entry(sector).or_insert_with(&mut prefix) {
                            overwrite(&mut self.synced, offset, piece);
                        }
                    }
                    written.push(offset..offset + bytes.len());
                }
            }
        }
        self.synced.resize(length, 0);
        self.forget_cache(&written, is_resized);
    }

    /// Makes `current` what `synced` is. They differ only where something was written, if no size was changed;
    /// files are large and cuts are many, so only that is copied.
    fn forget_cache(&mut self, written: &[std::ops::Range<usize>], is_resized: bool) {
        if is_resized || self.current.len() != self.synced.len() {
            self.current.clone_from(&self.synced);
            return;
        }
        for range in written {
            self.current[range.clone()].copy_from_slice(&self.synced[range.clone()]);
        }
    }

    /// The process ends, the machine does not: what was written stays.
    pub(super) fn keep_all(&mut self) {
        self.sync();
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// The pieces of a write: number of the sector, offset in the file, bytes.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (u64, usize, &[u8])> {
    let sector_bytes = usize::try_from(SECTOR_BYTES).expect("a sector is small");
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, behind) = rest.split_at(rest.len().min(sector_bytes - at % sector_bytes));
        let item = ((at / sector_bytes) as u64, at, piece);
        (at, rest) = (at + piece.len(), behind);
        Some(item)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::default();
        image.write(0, &[1; 2048]);
        image.sync();
        image
    }

    #[test]
    fn synced_bytes_survive_every_cut() {
        for seed in 0..100 {
            let mut image = image();
            image.cut_power(&mut Dice::new(seed));
            assert_eq!(image.bytes(), [1; 2048]);
        }
    }

    #[test]
    fn unsynced_write_is_torn_at_sectors_and_only_there() {
        let mut torn = 0;
        for seed in 0..100 {
            let mut image = image();
            image.write(0, &[2; 2048]);
            image.cut_power(&mut Dice::new(seed));
            let sectors: Vec<_> = image.bytes().chunks(512).collect();
            assert!(sectors.iter().all(|sector| **sector == [1; 512] || **sector == [2; 512]));
            torn += usize::from(sectors.windows(2).any(|pair| pair[0] != pair[1]));
        }
        assert!(torn >= 20, "only {torn} of 100 cuts tore the write");
    }

    #[test]
    fn later_write_may_survive_an_earlier_one() {
        let reordered = (0..100).filter(|seed| {
            let mut image = image();
            image.write(0, &[2; 512]);
            image.write(1024, &[3; 512]);
            image.cut_power(&mut Dice::new(*seed));
            image.bytes()[0] == 1 && image.bytes()[1024] == 3
        });
        assert!(reordered.count() > 0);
    }

    #[test]
    fn growth_that_was_not_synced_may_be_lost() {
        let lengths: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| {
                let mut image = image();
                image.resize(4096);
                image.cut_power(&mut Dice::new(seed));
                image.bytes().len()
            })
            .collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [2048, 4096]);
    }
}
