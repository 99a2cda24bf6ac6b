//! One line on a terminal that says how far something is.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(100);

/// The line. It is shown on stderr if that is a terminal, from a tenth of a second on, and goes when this is dropped.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    changed: Instant,
    is_shown: bool,
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), changed: Instant::now(), is_shown: false }
    }
}

impl ProgressLine {
    /// Shows a text, unless another one was shown a moment ago.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if self.is_terminal && self.changed.elapsed() >= EVERY {
            (self.changed, self.is_shown) = (Instant::now(), true);
            // A terminal that is gone wants no progress.
            let _ = write!(io::stderr(), "\r\x1b[K{}", text());
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A number of bytes as people read it.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (unit, shift) = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0).unwrap_or(("B", 0));
    if shift == 0 {
        return format!("{bytes} {unit}");
    }
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        let cases = [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_048_575, "1023.9 KiB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }
}
