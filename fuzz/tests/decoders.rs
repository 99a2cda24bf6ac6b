//! Every decoder on stable: a seeded loop over changed encodings and structures, bounded by their number.
//!
//! In the gate it takes about a minute. `FUZZ_EXECUTIONS=100` makes a hundred times as many; round n is the same
//! on every machine. A failure prints its input and the command that plays its round again.

use std::fmt::Write;
use std::thread;

use tidelock_fuzz::mutate::{Random, Source};
use tidelock_fuzz::{TARGETS, Target, Verdict, find};

/// The longest input that is printed, in bytes; a longer one is made again from its round.
const PRINTED_BYTES_MAX: usize = 4 << 10;

/// Runs so many rounds of a target; `percent` of the inputs must decode, or only the refusing was tried.
fn fuzz(name: &str, executions: u64, percent: u64) {
    let target = find(name).expect("the target is in the table");
    let source = Source::of(target);
    let executions = executions * times();
    let decoded: u64 = (0..executions).map(|round| u64::from(run(target, &source, round))).sum();
    println!("{name}: {executions} executions, {decoded} decoded");
    assert!(decoded * 100 >= executions * percent, "{name}: only {decoded} of {executions} decoded");
}

fn times() -> u64 {
    std::env::var("FUZZ_EXECUTIONS").ok().map_or(1, |text| text.parse().expect("FUZZ_EXECUTIONS is a number"))
}

/// One round; whether its input decoded.
fn run(target: &'static Target, source: &Source, round: u64) -> bool {
    let input = source.input(&mut Random::of_round(target.name, round));
    let failing = Failing { name: target.name, round, input };
    (target.run)(&failing.input) == Verdict::Decoded
}

/// Says how to play a round again, should it fail.
struct Failing {
    name: &'static str,
    round: u64,
    input: Vec<u8>,
}

impl Drop for Failing {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let Self { name, round, input } = self;
        eprintln!("round {round} of {name} failed on {} bytes; play it again with:", input.len());
        eprintln!(
            "  FUZZ_ROUND={name}:{round} cargo test -p tidelock-fuzz --test decoders round -- --nocapture"
        );
        if input.len() <= PRINTED_BYTES_MAX {
            let hex = input.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("writing to memory cannot fail");
                hex
            });
            eprintln!("  its input: {hex}");
        }
    }
}

#[test]
fn frames_of_any_bytes_are_sound_or_refused() {
    fuzz("frame", 300_000, 15);
}

#[test]
fn signed_frames_are_taken_exactly_when_sound() {
    fuzz("signed_frame", 60_000, 15);
}

#[test]
fn messages_of_any_bytes_are_sound_or_refused() {
    fuzz("message", 300_000, 15);
}

#[test]
fn built_messages_are_taken_exactly_when_within_bounds() {
    fuzz("built_message", 60_000, 50);
}

#[test]
fn payloads_of_any_bytes_are_read_or_refused() {
    fuzz("payload", 300_000, 30);
}

#[test]
fn entries_of_commands_are_read_in_one_form_or_refused() {
    fuzz("entry_of_commands", 100_000, 10);
}

#[test]
fn replies_are_read_in_one_form_or_refused() {
    fuzz("reply", 100_000, 10);
}

#[test]
fn sealed_entries_are_read_back_or_refused() {
    fuzz("entry", 150_000, 30);
}

#[test]
fn pipelines_in_pieces_are_the_commands_of_the_whole() {
    fuzz("pipeline", 150_000, 30);
}

#[test]
fn commands_of_any_arguments_are_understood_or_refused() {
    fuzz("command", 150_000, 15);
}

#[test]
fn answers_of_any_bytes_are_read_or_refused() {
    fuzz("answer", 150_000, 15);
}

#[test]
fn requests_of_any_text_are_understood_or_refused() {
    fuzz("request", 150_000, 5);
}

#[test]
fn configurations_of_any_text_are_read_or_refused() {
    fuzz("config", 30_000, 10);
}

#[test]
fn chunks_of_documents_are_measured_or_refused() {
    fuzz("chunk", 60_000, 10);
}

#[test]
fn envelopes_are_read_where_they_lie() {
    fuzz("envelope", 100_000, 10);
}

#[test]
fn letters_are_their_bytes() {
    fuzz("letter", 100_000, 10);
}

#[test]
fn streams_in_pieces_are_the_messages_of_the_whole() {
    fuzz("stream", 150_000, 15);
}

#[test]
fn replica_stays_sound_whatever_it_is_told() {
    fuzz("replica", 6_000, 10);
}

/// Plays one round again, named by `FUZZ_ROUND=target:round`; without it, the first of each target.
#[test]
fn round_can_be_played_again() {
    let named = std::env::var("FUZZ_ROUND").ok();
    let named = named.as_deref().map(|text| text.split_once(':').expect("FUZZ_ROUND is target:round"));
    for target in TARGETS.iter().filter(|target| named.is_none_or(|(name, _)| target.name == name)) {
        let round = named.map_or(0, |(_, round)| round.parse().expect("a round is a number"));
        let source = Source::of(target);
        let inputs = [(); 2].map(|()| source.input(&mut Random::of_round(target.name, round)));
        assert_eq!(inputs[0], inputs[1], "a round gives one input");
        println!("{}:{round}: decoded {}", target.name, run(target, &source, round));
    }
}
