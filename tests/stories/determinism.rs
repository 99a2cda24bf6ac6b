//! One seed is one history: twice in one process, and in any other one. Only then a seed replays a failure.
//!
//! What a history is compared by covers all that nodes were told, what every disk held when its power went, and
//! what was counted: [`sim::trace::Trace`].

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use sim::scenario::Scenario;
use sim::scenarios::ALL;

/// The seeds of each scenario that are compared.
const SEEDS: u64 = 2;

/// What another process of this test is told, to print its histories.
const ASKED: &str = "PRINT_HISTORIES";

/// What its lines begin with; the test harness prints others between them.
const MARK: &str = "history of ";

/// The histories of all scenarios, as this process first plays them.
static HERE: LazyLock<Vec<String>> = LazyLock::new(histories);

/// A history in a line.
fn history(scenario: &Scenario, seed: u64) -> String {
    let outcome = scenario.play(seed);
    let (hash, steps, ms, tally) = (outcome.hash, outcome.steps, outcome.simulated_ms, outcome.tally);
    format!("{MARK}{} {seed}: {hash:016x}, {steps} turns, {ms} ms, {tally}", scenario.name)
}

fn histories() -> Vec<String> {
    let of =
        |scenario: &&'static Scenario| (0..SEEDS).map(|seed| history(scenario, seed)).collect::<Vec<_>>();
    ALL.iter().flat_map(of).collect()
}

/// Every scenario is played twice.
#[test]
fn one_seed_is_one_history_and_another_seed_another() {
    let (once, again) = (&*HERE, histories());
    assert_eq!(once.len() as u64, SEEDS * ALL.len() as u64);
    for (once, again) in once.iter().zip(&again) {
        assert_eq!(once, again);
    }
    let hash = |line: &String| line[line.find(": ").expect("a hash follows")..][2..18].to_owned();
    let different: BTreeSet<String> = once.iter().map(hash).collect();
    assert_eq!(different.len(), once.len(), "{once:#?}");
}

/// Another process has other addresses, other keys of its hash maps, another time and another id.
#[test]
fn one_seed_is_one_history_in_every_process() {
    let this = std::env::current_exe().expect("this test is a program");
    let other = Command::new(this)
        .args(["determinism::prints_its_histories_when_asked", "--exact", "--nocapture"])
        .env(ASKED, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test can be started again");
    let here = &*HERE;
    let output = other.wait_with_output().expect("it ends");
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    let there: Vec<&str> = printed.lines().filter_map(|line| line.find(MARK).map(|at| &line[at..])).collect();
    assert_eq!(there.len(), here.len(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    for (here, there) in here.iter().zip(there) {
        assert_eq!(here, there);
    }
}

/// The other process.
#[test]
fn prints_its_histories_when_asked() {
    if std::env::var_os(ASKED).is_some() {
        histories().iter().for_each(|history| println!("{history}"));
    }
}
