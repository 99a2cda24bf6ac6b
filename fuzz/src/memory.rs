//! Memory while an input is decoded: the most that is live at a time, measured and bounded.
//!
//! This crate brings a counting allocator along, so that whatever links it can measure. Counted is what the
//! current thread asks for, in bytes; a list that grows counts as old and new, as it is while it is copied.

use std::fmt;

/// How much memory the decoding of an input may hold at its peak, beyond the input itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// For any input, in bytes: the first pieces of lists, tables, the text of an error.
    pub base: usize,
    /// For each byte of the input, in bytes: what is two bytes on the wire is more in memory.
    pub per_byte: usize,
    /// For all that, in bytes, however long the input is.
    pub max: usize,
}

/// More memory was held than the bound allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The bytes of the input.
    pub input: usize,
    /// The bytes that were live at the peak.
    pub peak: usize,
    /// The bytes that may have been.
    pub bound: usize,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, peak, bound } = self;
        write!(f, "an input of {input} bytes made us hold {peak} bytes; at most {bound} are allowed")
    }
}

impl Bound {
    /// What an input of `input` bytes may make us hold, in bytes.
    pub const fn of(&self, input: usize) -> usize {
        let bytes = self.base.saturating_add(self.per_byte.saturating_mul(input));
        if bytes < self.max { bytes } else { self.max }
    }

    /// Decodes an input of `input` bytes and checks what was held meanwhile.
    ///
    /// # Errors
    /// [`Exceeded`]: the bound was not kept.
    pub fn check<T>(&self, input: usize, decode: impl FnOnce() -> T) -> Result<T, Exceeded> {
        let mut decoded = None;
        let info = allocation_counter::measure(|| decoded = Some(decode()));
        let (peak, bound) = (usize::try_from(info.bytes_max).unwrap_or(usize::MAX), self.of(input));
        if peak > bound {
            return Err(Exceeded { input, peak, bound });
        }
        Ok(decoded.expect("it ran"))
    }

    /// As [`Bound::check`]; beyond the bound it is our bug, and panics.
    pub fn hold<T>(&self, input: usize, decode: impl FnOnce() -> T) -> T {
        self.check(input, decode).unwrap_or_else(|exceeded| panic!("{exceeded}"))
    }
}
