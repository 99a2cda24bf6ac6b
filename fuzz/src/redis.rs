//! The Redis port: what clients send, in any pieces; what commands ask for; and what a node answers.

use tidelock::cli;
use tidelock::redis::{Decoder, INLINE_BYTES_MAX, Protocol, ProtocolError, RedisConfig, Reply, probe};

use crate::Verdict;
use crate::input::Input;
use crate::memory::Bound;
use crate::resp::{self, Commands};

/// A word of a line is two bytes and 32 in memory; a list that grows is there twice.
pub const BOUND: Bound = Bound { base: 8 << 10, per_byte: 96, max: 4 * (64 << 20) };

/// Besides the arguments, the longest answer that needs no node: the list of all commands.
pub const COMMAND_BOUND: Bound = Bound { base: 128 << 10, ..BOUND };

/// An answer's item is three bytes at least, and 32 in memory.
pub const ANSWER_BOUND: Bound = Bound { base: 16 << 10, per_byte: 48, max: 1 << 30 };

/// A pipeline in any pieces, with any limits: the same commands and the same error as seen whole.
pub fn pipeline(data: &[u8]) -> Verdict {
    let mut input = Input::new(data);
    let config = limits(&mut input);
    let steps: [u8; 4] = input.array();
    let bytes = input.rest();
    let (mut expected, error) = resp::commands(&config, bytes);
    let decoded = BOUND.hold(bytes.len(), || decode(&config, bytes, steps));
    assert_eq!(decoded, (expected.clone(), error), "in steps of {steps:?} of {}", bytes.escape_ascii());
    expected.retain(|arguments| !arguments.is_empty());
    if expected.is_empty() {
        return Verdict::Refused;
    }
    let mut again = Vec::new();
    expected.iter().for_each(|arguments| resp::encode(arguments, &mut again));
    let config = RedisConfig::default();
    assert_eq!(decode(&config, &again, [0; 4]), (expected, None), "its own encoding");
    Verdict::Decoded
}

/// The default limits, or some that are met soon.
fn limits(input: &mut Input<'_>) -> RedisConfig {
    let byte = input.byte();
    if byte < 128 {
        return RedisConfig::default();
    }
    RedisConfig {
        bulk_bytes_max: usize::from(byte % 16) + 1,
        array_elements_max: usize::from(byte % 5) + 1,
        command_bytes_max: usize::from(byte),
        ..RedisConfig::default()
    }
}

/// Feeds the bytes in steps of these lengths in turn, 0 standing for all at once.
fn decode(config: &RedisConfig, mut bytes: &[u8], steps: [u8; 4]) -> (Commands, Option<ProtocolError>) {
    let held_max = config.command_bytes_max + INLINE_BYTES_MAX + 2;
    let (mut decoder, mut commands) = (Decoder::new(config), Commands::new());
    for step in steps.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let step = if *step == 0 { bytes.len() } else { usize::from(*step).min(bytes.len()) };
        let (mut now, later) = bytes.split_at(step);
        loop {
            match decoder.decode(&mut now) {
                Ok(Some(command)) => {
                    assert!(command.bytes <= config.command_bytes_max);
                    assert_eq!(command.arguments.is_empty(), command.too_long.is_some());
                    commands.push(command.arguments);
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
        assert!(now.is_empty(), "all that came is taken");
        assert!(decoder.held_bytes() <= held_max, "{} bytes are held", decoder.held_bytes());
        bytes = later;
    }
    (commands, None)
}

/// A line that somebody typed, understood as far as a command is without a node.
pub fn command(data: &[u8]) -> Verdict {
    let (commands, _) = resp::commands(&RedisConfig::default(), data);
    let mut verdict = Verdict::Refused;
    for arguments in commands {
        let bytes = arguments.iter().map(Vec::len).sum();
        if COMMAND_BOUND.hold(bytes, || probe::is_understood(arguments)) {
            verdict = Verdict::Decoded;
        }
    }
    verdict
}

/// What a node answers, as a client of the command line reads it: any bytes, and any answer in both protocols.
pub fn answer(data: &[u8]) -> Verdict {
    let read = ANSWER_BOUND.hold(data.len(), || cli::answer_length(data));
    assert!(read.is_none_or(|length| (1..=data.len()).contains(&length)));
    let mut input = Input::new(data);
    let reply = any_reply(&mut input, 3);
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut bytes = Vec::new();
        reply.encode_into(protocol, &mut bytes);
        let read = ANSWER_BOUND.hold(bytes.len(), || cli::answer_length(&bytes));
        assert_eq!(read, Some(bytes.len()), "{reply:?} in {protocol:?}");
    }
    if read.is_some() { Verdict::Decoded } else { Verdict::Refused }
}

/// An answer that is no error, as deep as said.
fn any_reply(input: &mut Input<'_>, depth: usize) -> Reply {
    let text = |input: &mut Input<'_>| String::from_utf8_lossy(input.bytes(20)).into_owned();
    let list = |input: &mut Input<'_>| input.list(4, |input| any_reply(input, depth - 1));
    match input.below(if depth == 0 { 8 } else { 13 }) {
        0 => Reply::Simple(text(input).into()),
        1 => Reply::Integer(i64::from_le_bytes(input.array())),
        2 => Reply::Bulk(input.bytes(40).to_vec()),
        3 => Reply::Verbatim(text(input)),
        4 => Reply::Null,
        5 => Reply::NullArray,
        6 => Reply::Boolean(input.once_in(2)),
        7 => Reply::Double(f64::from_le_bytes(input.array())),
        8 => Reply::Array(list(input)),
        9 => Reply::Set(list(input)),
        10 => Reply::Push(list(input)),
        kind => {
            let pair = |input: &mut Input<'_>| (any_reply(input, depth - 1), any_reply(input, depth - 1));
            let pairs = input.list(3, pair);
            if kind == 11 { Reply::Map(pairs) } else { Reply::Pairs(pairs) }
        }
    }
}
