//! What clients ask a node for, over and over, and how long each answer took.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{self, Client, ClientError};
use super::report::Measured;
use super::{BenchArgs, BenchCommand, ProgressLine};

/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Answers that take longer than this count as if they took so long.
const LONGEST: Duration = Duration::from_mins(10);

/// Digits of a measured time that are kept: a client's histogram takes 33 KiB.
const DIGITS: u8 = 2;

/// What all keys of one run begin with.
#[derive(Clone, Debug)]
pub(super) struct Prefix(String);

impl Prefix {
    /// A prefix that no other run has.
    pub(super) fn new() -> Result<Self, ClientError> {
        let number =
            getrandom::u64().map_err(|error| ClientError::Bench(format!("no random number: {error}")))?;
        Ok(Self(format!("tidelock-bench:{number:016x}:")))
    }

    /// A key of what this command writes. A set is one key.
    pub(super) fn key(&self, command: BenchCommand, number: u32) -> Vec<u8> {
        let Self(prefix) = self;
        match command {
            BenchCommand::Set | BenchCommand::Get => format!("{prefix}register:{number:08}"),
            BenchCommand::Incr => format!("{prefix}counter:{number:08}"),
            BenchCommand::Sadd => format!("{prefix}set"),
        }
        .into_bytes()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value of so many bytes.
pub(super) fn value(size: u32) -> Vec<u8> {
    vec![b'x'; size as usize]
}

/// One command, given by all clients.
#[derive(Debug)]
pub(super) struct Load<'a> {
    args: &'a BenchArgs,
    command: BenchCommand,
    prefix: &'a Prefix,
    /// Set from outside when nobody wants to wait any longer.
    stop: &'a AtomicBool,
    /// Commands that a client has taken on.
    taken: AtomicU64,
    /// Commands that were answered.
    answered: AtomicU64,
    value: Vec<u8>,
}

/// What one client saw.
struct Seen {
    times: Histogram<u64>,
    refused: u64,
    refusal: Option<String>,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        args: &'a BenchArgs,
        command: BenchCommand,
        prefix: &'a Prefix,
        stop: &'a AtomicBool,
    ) -> Self {
        let (taken, answered) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { args, command, prefix, stop, taken, answered, value: value(args.size) }
    }

    /// Lets all clients ask until enough is done.
    pub(super) fn run(&self) -> Result<Measured, ClientError> {
        let mut clients = Vec::new();
        let mut line = ProgressLine::default();
        for number in 0..self.args.clients {
            line.show(|| format!("{}: {number} of {} clients connected", self.name(), self.args.clients));
            clients.push(Client::connect_quietly(&self.args.node)?);
        }
        let started = Instant::now();
        let ends = self.args.seconds.map(|seconds| started + Duration::from_secs(seconds));
        let mut measured = Measured::new(self.command, new_histogram()?);
        let (sender, receiver) = mpsc::channel();
        let failed = AtomicBool::new(false);
        let ended = thread::scope(|scope| {
            for (number, client) in (0..).zip(clients) {
                let (sender, failed) = (sender.clone(), &failed);
                scope.spawn(move || {
                    let seen = self.ask(client, number, ends, failed);
                    failed.fetch_or(seen.is_err(), Ordering::Relaxed);
                    // It is received until all clients have ended.
                    let _ = sender.send(seen);
                });
            }
            drop(sender);
            let mut ended = Ok(());
            loop {
                match receiver.recv_timeout(SHOW_EVERY) {
                    Ok(Ok(seen)) => measured.add(&seen.times, seen.refused, seen.refusal),
                    Ok(Err(error)) => ended = ended.and(Err(error)),
                    Err(RecvTimeoutError::Timeout) => line.show(|| self.progress(started)),
                    Err(RecvTimeoutError::Disconnected) => return ended,
                }
            }
        });
        measured.took = started.elapsed();
        ended.map(|()| measured)
    }

    /// One client asks until enough is done, or another one has failed.
    fn ask(
        &self,
        mut client: Client,
        number: u64,
        ends: Option<Instant>,
        failed: &AtomicBool,
    ) -> Result<Seen, ClientError> {
        let mut seen = Seen { times: new_histogram()?, refused: 0, refusal: None };
        let mut numbers = Numbers(number);
        let mut bytes = Vec::new();
        loop {
            let is_over = ends.is_some_and(|ends| Instant::now() >= ends);
            let count = self.take();
            if count == 0 || is_over || self.stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed) {
                return Ok(seen);
            }
            bytes.clear();
            (0..count).for_each(|_| self.encode(numbers.next(self.args.keys), &mut bytes));
            let sent = Instant::now();
            client.send_encoded(&bytes)?;
            for _ in 0..count {
                match client.next() {
                    Ok(_) => {}
                    Err(ClientError::Refused(text)) => {
                        seen.refused += 1;
                        seen.refusal.get_or_insert(text);
                    }
                    Err(error) => return Err(error),
                }
                seen.times.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            self.answered.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// How many commands the next batch has; none when all were taken.
    fn take(&self) -> u64 {
        let pipeline = u64::from(self.args.pipeline);
        if self.args.seconds.is_some() {
            return pipeline;
        }
        let before = self.taken.fetch_add(pipeline, Ordering::Relaxed);
        self.args.requests.saturating_sub(before).min(pipeline)
    }

    fn encode(&self, number: u32, bytes: &mut Vec<u8>) {
        let key = self.prefix.key(self.command, number);
        match self.command {
            BenchCommand::Set => client::encode(&[b"SET", key.as_slice(), &self.value], bytes),
            BenchCommand::Get => client::encode(&[b"GET", key.as_slice()], bytes),
            BenchCommand::Incr => client::encode(&[b"INCR", key.as_slice()], bytes),
            BenchCommand::Sadd => {
                client::encode(&[b"SADD", key.as_slice(), format!("element:{number:08}").as_bytes()], bytes);
            }
        }
    }

    fn progress(&self, started: Instant) -> String {
        let (done, seconds) = (self.answered.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
        let aim = match self.args.seconds {
            Some(aim) => format!("{seconds:.0} of {aim} s"),
            None => format!("{done} of {}", self.args.requests),
        };
        #[expect(clippy::cast_precision_loss, reason = "it is shown without fractions")]
        let rate = done as f64 / seconds;
        format!("{}: {aim}, {rate:.0} a second", self.name())
    }

    fn name(&self) -> &'static str {
        super::report::name(self.command)
    }
}

fn new_histogram() -> Result<Histogram<u64>, ClientError> {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_max(longest, DIGITS).map_err(|error| ClientError::Bench(error.to_string()))
}

/// Numbers that look random, the same in each run. Source: Steele et al., `SplitMix64` (2014).
struct Numbers(u64);

impl Numbers {
    /// A number below `end`.
    fn next(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from(mixed % u64::from(end)).expect("it is below a u32")
    }
}
