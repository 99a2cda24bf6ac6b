//! Seeds that are written down: those that broke something once, which are played for ever, and those that a
//! hunt has just found.
//!
//! A line is `scenario seed  # what it was`. Empty lines and lines that begin with `#` say nothing.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::trace::Telling;
use crate::verdict::{self, Failure};
use crate::{power_cuts, scenarios};

/// A seed that is played again.
#[derive(Clone, Debug)]
pub struct KeptSeed {
    /// The name of its scenario, or [`power_cuts::NAME`].
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What it was.
    pub note: String,
}

impl KeptSeed {
    /// Plays it.
    ///
    /// # Errors
    /// What broke.
    pub fn play(&self) -> Result<(), Failure> {
        if let Ok(scenario) = scenarios::named(&self.scenario) {
            return verdict::play(scenario, self.seed).map(drop);
        }
        let play = || power_cuts::play(self.seed, Telling::Last);
        verdict::caught(power_cuts::NAME, self.seed, play).map(drop)
    }
}

/// The seeds of a file's text.
///
/// # Errors
/// The first line that is none, or that names a scenario that there is not.
pub fn parse(text: &str) -> Result<Vec<KeptSeed>, String> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| one(line).map_err(|error| format!("line {number}: {error}"))).collect()
}

fn one(line: &str) -> Result<KeptSeed, String> {
    let (named, note) = line.split_once('#').unwrap_or((line, ""));
    let mut words = named.split_whitespace();
    let (Some(name), Some(seed), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!("{line:?} is not `scenario seed  # what it was`"));
    };
    let seed = seed.parse().map_err(|error| format!("{seed:?} is no seed: {error}"))?;
    if name != power_cuts::NAME {
        scenarios::named(name)?;
    }
    Ok(KeptSeed { scenario: name.to_owned(), seed, note: note.trim().to_owned() })
}

/// Appends a seed that failed.
///
/// # Errors
/// As the file's.
pub fn append(file: &Path, failure: &Failure) -> io::Result<()> {
    let line = format!("{} {}  # {}\n", failure.scenario, failure.seed, failure.property());
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let text = "# kept\n\ncrashes 17  # nothing acknowledged is lost\n  power-cuts 3\n";
        let kept = parse(text).expect("it is well formed");
        let kept: Vec<_> = kept.iter().map(|it| (it.scenario.as_str(), it.seed, it.note.as_str())).collect();
        assert_eq!(kept, [("crashes", 17, "nothing acknowledged is lost"), ("power-cuts", 3, "")]);
    }

    #[test]
    fn unknown_scenarios_and_odd_lines_are_refused() {
        for text in ["holidays 3", "crashes", "crashes x", "crashes 1 2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
