//! Every decoder of tidelock, fed with what nobody should send.
//!
//! Each target takes bytes, decodes them as the product does, and asserts more than that it did not panic: what
//! decodes is sound by an oracle of its own, encodes to the same bytes or to bytes that decode to the same, and
//! needed no more memory than its bound. Some targets read structures from the bytes instead, sign or seal them
//! so that signature and checksum pass, and know whether a decoder must take them.
//!
//! The same functions are run by libFuzzer (`fuzz_targets/`) and by a plain seeded loop on stable
//! (`tests/decoders.rs`). Nothing here reads a clock or the system's randomness: an input is a history.

pub mod commands;
pub mod config;
pub mod corpus;
pub mod document;
pub mod forge;
pub mod frame;
pub mod http;
pub mod input;
pub mod letters;
pub mod memory;
pub mod message;
pub mod mutate;
pub mod redis;
pub mod replica;
pub mod resp;
pub mod row;
pub mod sound;
pub mod stream;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken, and all that must hold of it does.
    Decoded,
    /// It was refused, as it must be.
    Refused,
}

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, which is also that of the libFuzzer target.
    pub name: &'static str,
    /// Decodes an input and asserts what must hold.
    pub run: fn(&[u8]) -> Verdict,
    /// Inputs to begin with, most of which decode.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Words that are worth putting into an input.
    pub words: &'static [&'static str],
}

const fn target(name: &'static str, run: fn(&[u8]) -> Verdict, corpus: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, corpus, words: &[] }
}

/// All targets.
pub static TARGETS: [Target; 18] = [
    target("frame", frame::frame, corpus::frames),
    target("signed_frame", frame::signed_frame, corpus::structures),
    target("message", message::message, corpus::messages),
    target("built_message", message::built_message, corpus::structures),
    target("payload", row::payload, corpus::payloads),
    target("entry", row::entry, corpus::structures),
    Target { words: corpus::RESP_WORDS, ..target("pipeline", redis::pipeline, corpus::pipelines) },
    Target { words: corpus::COMMAND_WORDS, ..target("command", redis::command, corpus::commands) },
    Target { words: corpus::RESP_WORDS, ..target("answer", redis::answer, corpus::answers) },
    Target { words: corpus::CONFIG_WORDS, ..target("config", config::config, corpus::configs) },
    Target { words: corpus::REQUEST_WORDS, ..target("request", http::request, corpus::requests) },
    target("chunk", document::chunk, document::corpus),
    target("envelope", letters::envelope, letters::envelopes),
    target("letter", letters::letter, letters::letters),
    target("entry_of_commands", commands::entry_of_commands, commands::entries),
    target("reply", commands::reply, commands::replies),
    target("stream", stream::stream, corpus::structures),
    target("replica", replica::replica, corpus::structures),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What a fuzz target's file holds: libFuzzer's entry when cargo-fuzz builds it, else a program that replays the
/// inputs in the files it is given.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            let target = $crate::find($name).expect("the target is in the table");
            (target.run)(data);
        });

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            let target = $crate::find($name).expect("the target is in the table");
            for path in std::env::args_os().skip(1) {
                let data = std::fs::read(&path)?;
                println!("{}: {:?}", path.display(), (target.run)(&data));
            }
            Ok(())
        }
    };
}
