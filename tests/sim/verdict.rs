//! One seed played and judged: what it came to, or what broke, whether that was a property or a panic of the
//! code under test.
//!
//! A panic ends only its own history: it is caught, its message and place are kept, and nothing is printed
//! while it happens, so that many histories can be played beside each other.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::power_cuts;
use crate::scenario::{Outcome, Scenario};
use crate::trace::Telling;

thread_local! {
    /// Whether this thread plays a history.
    static IS_PLAYING: Cell<bool> = const { Cell::new(false) };
    /// The message and place of the last panic in it.
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// A seed that showed that something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What was said.
    pub message: String,
    /// Where in the source it was said.
    pub place: String,
}

impl Failure {
    /// What broke, in a few words: the property, or where the code panicked and what it said first.
    pub fn property(&self) -> String {
        match self.message.split_once(" does not hold") {
            Some((property, _)) if !property.contains('\n') => property.to_owned(),
            _ => format!("panic at {}: {}", self.place, self.first_line()),
        }
    }

    /// The first line of what was said.
    pub fn first_line(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The command that plays it again.
    pub fn replay(&self) -> String {
        let option = if self.scenario == power_cuts::NAME { "" } else { "--scenario " };
        format!("cargo sim {option}{} --seed {}", self.scenario, self.seed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: Vec<&str> = self.message.lines().take(2).map(str::trim).collect();
        write!(f, "{} {}: {} [{}]", self.scenario, self.seed, line.join(": "), self.place)
    }
}

/// Plays a seed without telling anything; if it fails, plays it again for the last events of each node.
///
/// # Errors
/// What broke.
pub fn play(scenario: &Scenario, seed: u64) -> Result<Outcome, Failure> {
    play_telling(scenario, seed, Telling::Nothing)
        .map_err(|failure| play_telling(scenario, seed, Telling::Last).err().unwrap_or(failure))
}

/// Plays a seed.
///
/// # Errors
/// What broke.
pub fn play_telling(scenario: &Scenario, seed: u64, telling: Telling) -> Result<Outcome, Failure> {
    caught(scenario.name, seed, || scenario.play_telling(seed, telling))
}

/// Does something that may panic, in the name of a scenario and a seed.
///
/// # Errors
/// The panic.
pub fn caught<T>(scenario: &str, seed: u64, play: impl FnOnce() -> T) -> Result<T, Failure> {
    HOOK.call_once(keep_panics);
    IS_PLAYING.set(true);
    let result = catch_unwind(AssertUnwindSafe(play));
    IS_PLAYING.set(false);
    result.map_err(|_| {
        let (message, place) = LAST_PANIC.take().unwrap_or_default();
        Failure { scenario: scenario.to_owned(), seed, message, place }
    })
}

/// Panics of threads that play are kept; all others are printed as ever.
fn keep_panics() {
    let print = take_hook();
    set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if IS_PLAYING.get() {
            let message = panic.payload_as_str().unwrap_or("a panic without words").to_owned();
            let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
            LAST_PANIC.set(Some((message, place.unwrap_or_default())));
        } else {
            print(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_is_kept_with_its_words_and_its_place() {
        let failure = caught("some", 7, || panic!("the {} broke", "glass")).expect_err("it panics");
        assert_eq!((failure.first_line(), failure.seed), ("the glass broke", 7));
        assert!(failure.place.contains("verdict.rs"), "{}", failure.place);
        assert!(failure.property().starts_with("panic at "), "{}", failure.property());
        assert_eq!(caught("some", 8, || 3), Ok(3));
    }

    #[test]
    fn violation_is_named_by_its_property() {
        let message = "replicas converge does not hold at a (step 3)\n  not within 5 ms".to_owned();
        let failure = Failure { scenario: "some".to_owned(), seed: 1, message, place: String::new() };
        assert_eq!(failure.property(), "replicas converge");
    }
}
