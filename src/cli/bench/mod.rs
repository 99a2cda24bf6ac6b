//! `bench`: gives a running node commands as many clients do, and tells how fast it answers.
//!
//! All keys begin with a prefix of their own, which no other run has, and are removed in the end.

mod load;
mod report;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use load::{Load, Prefix};
use report::{Measured, Report};

use super::client::{self, Client, ClientError};
use super::client_args::{BenchArgs, BenchCommand};
use super::commands::print;
use super::progress::ProgressLine;
use super::text::Style;

/// The keys that are written before they are read, or removed, with one command.
const KEYS_A_COMMAND: u32 = 500;

/// The bytes of values in one command that writes keys before they are read, unless one value is longer.
const BYTES_A_COMMAND: u32 = 1 << 20;

/// Measures, and prints what was found. An interrupt ends it early, with what was measured until then.
pub(super) fn bench(args: &BenchArgs, style: Style, out: &mut dyn Write) -> Result<(), ClientError> {
    let prefix = Prefix::new()?;
    measure(args, &prefix, &interruption(&prefix), style, out)
}

fn measure(
    args: &BenchArgs,
    prefix: &Prefix,
    stop: &AtomicBool,
    style: Style,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let measured = measure_all(args, prefix, stop);
    // What was written goes also when the measuring failed.
    let left = if args.keep { Ok(()) } else { remove(args, prefix) };
    let report = Report { args, prefix, measured: measured?, is_removed: !args.keep && left.is_ok() };
    print(out, &if args.node.json { report.json() + "\n" } else { report.text(style) })?;
    left.map_err(|error| ClientError::Bench(format!("keys that begin with {prefix} are left: {error}")))?;
    report.refusals().map_or(Ok(()), |text| Err(ClientError::Bench(text)))
}

fn measure_all(args: &BenchArgs, prefix: &Prefix, stop: &AtomicBool) -> Result<Vec<Measured>, ClientError> {
    let mut measured = Vec::new();
    for command in &args.commands {
        if *command == BenchCommand::Get {
            prepare(args, prefix, stop)?;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        measured.push(Load::new(args, *command, prefix, stop).run()?);
    }
    Ok(measured)
}

/// Writes all keys that are read.
fn prepare(args: &BenchArgs, prefix: &Prefix, stop: &AtomicBool) -> Result<(), ClientError> {
    let mut client = Client::connect(&args.node)?;
    let mut line = ProgressLine::default();
    let value = load::value(args.size);
    let at_once = (BYTES_A_COMMAND / args.size).clamp(1, KEYS_A_COMMAND);
    for first in (0..args.keys).step_by(at_once as usize) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        line.show(|| format!("get: {first} of {} keys written", args.keys));
        let keys =
            (first..args.keys).take(at_once as usize).map(|number| prefix.key(BenchCommand::Set, number));
        let pairs = keys.flat_map(|key| [key, value.clone()]);
        let command: Vec<Vec<u8>> = std::iter::once(b"MSET".to_vec()).chain(pairs).collect();
        client.send(&command)?;
        client.next()?;
    }
    Ok(())
}

/// Removes all that may have been written.
fn remove(args: &BenchArgs, prefix: &Prefix) -> Result<(), ClientError> {
    let mut client = Client::connect(&args.node)?;
    let mut line = ProgressLine::default();
    let has = |command| args.commands.contains(&command);
    let kinds = [
        (BenchCommand::Set, args.keys, has(BenchCommand::Set) || has(BenchCommand::Get)),
        (BenchCommand::Incr, args.keys, has(BenchCommand::Incr)),
        (BenchCommand::Sadd, 1, has(BenchCommand::Sadd)),
    ];
    for (kind, keys, _) in kinds.into_iter().filter(|(_, _, is_written)| *is_written) {
        for first in (0..keys).step_by(KEYS_A_COMMAND as usize) {
            line.show(|| format!("removing what was written: {first} of {keys} keys"));
            let keys = (first..keys).take(KEYS_A_COMMAND as usize).map(|number| prefix.key(kind, number));
            let command: Vec<Vec<u8>> = std::iter::once(b"DEL".to_vec()).chain(keys).collect();
            client.send(&command)?;
            client.next()?;
        }
    }
    Ok(())
}

/// Becomes true at the first interrupt; the second ends the program, and says what it leaves.
fn interruption(prefix: &Prefix) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let (is_set, prefix) = (stop.clone(), prefix.clone());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Without a runtime an interrupt ends the program at once, as it does any other.
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            for _ in 0..2 {
                if tokio::signal::ctrl_c().await.is_err() {
                    return;
                }
                if is_set.swap(true, Ordering::Relaxed) {
                    eprintln!("tidelock: keys that begin with {prefix} may be left");
                    std::process::exit(INTERRUPTED);
                }
            }
        });
    });
    stop
}

/// The status of a program that an interrupt ended, as shells tell it.
const INTERRUPTED: i32 = 130;
