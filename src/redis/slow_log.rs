//! SLOWLOG: the last commands that took long.
//!
//! What a command took is known only when it is done, and its arguments are gone by then. So their beginnings are kept
//! for as long as a burst lasts, in one buffer of the session. The log is bounded in entries and in bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::call::Arguments;
use super::errors;
use super::introspection::help;
use super::reply::Reply;
use super::session::Session;
use super::table::{NONE, Other, QUEUED, Run, Spec, spec};

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[spec((
    "slowlog",
    -2,
    QUEUED,
    NONE,
    Run::Other(Other::SlowLog),
    "Lists the last commands that took long",
))];

/// The arguments of a command that are kept, the last of which tells how many more there were, as in Redis.
const ARGUMENTS_MAX: usize = 32;

/// What is kept of an argument, in bytes, as in Redis.
const ARGUMENT_BYTES_MAX: usize = 128;

/// What an entry takes beside its text, in bytes, about.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// What all entries take at most, in bytes.
const LOG_BYTES_MAX: usize = 16 << 20;

/// The entries that are told if no number is given.
const TOLD_DEFAULT: usize = 10;

/// What a command takes to be slow, in microseconds, unless CONFIG SET says otherwise.
const SLOWER_THAN_DEFAULT_US: i64 = 10_000;

/// The entries that are kept, unless CONFIG SET says otherwise.
const ENTRIES_DEFAULT: usize = 128;

/// The entries that may be kept.
pub(super) const ENTRIES_MAX: usize = 100_000;

/// A buffer of beginnings that is larger than this, in bytes, is given back after its burst.
const KEPT_BYTES_MAX: usize = 1 << 10;

const HELP: &[&str] = &[
    "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
    "HELP",
    "    Print this help.",
];

/// The log of all clients.
#[derive(Debug)]
pub(super) struct SlowLog {
    /// In microseconds; nothing is slow if it is negative.
    slower_than_us: AtomicI64,
    entries_max: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// The last one first.
    list: VecDeque<Entry>,
    bytes: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    unix_s: u64,
    took_us: u64,
    arguments: Vec<Vec<u8>>,
    client: SocketAddr,
    name: Vec<u8>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let arguments: usize =
            self.arguments.iter().map(|argument| argument.len() + size_of::<Vec<u8>>()).sum();
        ENTRY_OVERHEAD_BYTES + arguments + self.name.len()
    }

    fn shown(&self) -> Reply {
        Reply::Array(vec![
            Reply::count(self.id),
            Reply::count(self.unix_s),
            Reply::count(self.took_us),
            Reply::Array(self.arguments.iter().cloned().map(Reply::Bulk).collect()),
            Reply::text(self.client.to_string()),
            Reply::Bulk(self.name.clone()),
        ])
    }
}

impl Default for SlowLog {
    fn default() -> Self {
        Self {
            slower_than_us: AtomicI64::new(SLOWER_THAN_DEFAULT_US),
            entries_max: AtomicUsize::new(ENTRIES_DEFAULT),
            entries: Mutex::default(),
        }
    }
}

impl SlowLog {
    pub(super) fn slower_than_us(&self) -> i64 {
        self.slower_than_us.load(Ordering::Relaxed)
    }

    pub(super) fn set_slower_than_us(&self, slower_than_us: i64) {
        self.slower_than_us.store(slower_than_us, Ordering::Relaxed);
    }

    pub(super) fn entries_max(&self) -> usize {
        self.entries_max.load(Ordering::Relaxed)
    }

    /// Forgets the oldest entries beyond that.
    pub(super) fn set_entries_max(&self, entries_max: usize) {
        self.entries_max.store(entries_max, Ordering::Relaxed);
        self.entries(|entries| entries.trim(entries_max));
    }

    /// Whether any command may be slow.
    pub(super) fn is_on(&self) -> bool {
        self.slower_than_us() >= 0 && self.entries_max() > 0
    }

    /// Takes the commands of a burst in, if each of them took so long.
    pub(super) fn record(&self, each: Duration, said: &Said, client: SocketAddr, name: &[u8]) {
        let took_us = u64::try_from(each.as_micros()).unwrap_or(u64::MAX);
        if !u64::try_from(self.slower_than_us()).is_ok_and(|slower_than_us| took_us >= slower_than_us) {
            return;
        }
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let entries_max = self.entries_max();
        self.entries(|entries| {
            for arguments in said.commands() {
                let (name, id) = (name.to_vec(), entries.next_id);
                let entry = Entry { id, unix_s, took_us, arguments, client, name };
                entries.next_id += 1;
                entries.bytes += entry.bytes();
                entries.list.push_front(entry);
                entries.trim(entries_max);
            }
        });
    }

    fn entries<T>(&self, with: impl FnOnce(&mut Entries) -> T) -> T {
        with(&mut self.entries.lock().expect("no holder of the lock panics"))
    }

    /// `GET [count] | LEN | RESET | HELP`
    pub(super) fn answer(&self, mut arguments: Arguments) -> Reply {
        let subcommand = arguments.take();
        let name = errors::text(&subcommand, 16).to_ascii_lowercase();
        match (name.as_str(), arguments.len()) {
            ("get", 0) => self.told(TOLD_DEFAULT),
            ("get", 1) => match errors::integer(&arguments.take()) {
                Ok(-1) => self.told(usize::MAX),
                Ok(count @ 0..) => self.told(usize::try_from(count).unwrap_or(usize::MAX)),
                _ => errors::constant("ERR count should be greater than or equal to -1"),
            },
            ("get", _) => {
                let name = errors::text(&subcommand, 16);
                let text = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{name}'. Try SLOWLOG HELP."
                );
                Reply::error(text)
            }
            ("len", 0) => Reply::count(self.entries(|entries| entries.list.len())),
            ("reset", 0) => {
                self.entries(|entries| entries.trim(0));
                Reply::OK
            }
            ("help", 0) => help(HELP),
            ("len" | "reset" | "help", _) => errors::arity(&format!("slowlog|{name}")),
            _ => errors::unknown_subcommand("SLOWLOG", &subcommand),
        }
    }

    fn told(&self, count: usize) -> Reply {
        self.entries(|entries| Reply::Array(entries.list.iter().take(count).map(Entry::shown).collect()))
    }
}

impl Entries {
    fn trim(&mut self, entries_max: usize) {
        while self.list.len() > entries_max || self.bytes > LOG_BYTES_MAX {
            let Some(entry) = self.list.pop_back() else { return };
            self.bytes -= entry.bytes();
        }
    }
}

/// The beginnings of the commands of a burst.
#[derive(Debug, Default)]
pub(super) struct Said {
    bytes: Vec<u8>,
    /// Of each argument, where it ends in the bytes and how long it was.
    arguments: Vec<(usize, usize)>,
    /// Of each command, where its arguments end in the list and how many it had.
    commands: Vec<(usize, usize)>,
}

impl Said {
    /// Keeps the beginning of a command. What may be a password is not kept.
    pub(super) fn keep(&mut self, name: &str, arguments: &[Vec<u8>]) {
        let shown = if arguments.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { arguments.len() };
        let is_secret = |nth: usize| nth > 0 && is_secret(name, &arguments[nth - 1]);
        for (nth, argument) in arguments[..shown].iter().enumerate() {
            let argument: &[u8] = if is_secret(nth) { b"(redacted)" } else { argument };
            self.bytes.extend_from_slice(&argument[..argument.len().min(ARGUMENT_BYTES_MAX)]);
            self.arguments.push((self.bytes.len(), argument.len()));
        }
        self.commands.push((self.arguments.len(), arguments.len()));
    }

    /// Forgets them all, for the next burst.
    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes.clear();
        self.arguments.clear();
        self.commands.clear();
    }

    /// The arguments of each command, as the log shows them.
    fn commands(&self) -> impl Iterator<Item = Vec<Vec<u8>>> {
        let (mut from, mut first) = (0, 0);
        self.commands.iter().map(move |(end, count)| {
            let kept = &self.arguments[first..*end];
            first = *end;
            let mut shown: Vec<Vec<u8>> = Vec::with_capacity(kept.len() + 1);
            for (end, length) in kept {
                let mut argument = self.bytes[from..*end].to_vec();
                from = *end;
                if *length > ARGUMENT_BYTES_MAX {
                    let more = length - ARGUMENT_BYTES_MAX;
                    argument.extend(format!("... ({more} more bytes)").into_bytes());
                }
                shown.push(argument);
            }
            if *count > ARGUMENTS_MAX {
                shown.push(format!("... ({} more arguments)", count - shown.len()).into_bytes());
            }
            shown
        })
    }
}

impl<B> Session<B> {
    /// Notes the commands that were taken, each of which took so long, if that is slow.
    pub(super) fn note_slow(&mut self, each: Duration) {
        let (address, name) = (self.client.ends.address, self.state.name.as_deref());
        self.shared.slow_log.record(each, &self.said, address, name.unwrap_or_default());
        self.said.clear();
    }
}

/// Whether what stands behind `before` may be a password.
fn is_secret(name: &str, before: &[u8]) -> bool {
    match name {
        "auth" => true,
        // The user and the password.
        "hello" => !before.eq_ignore_ascii_case(b"hello") && !before.eq_ignore_ascii_case(b"setname"),
        "config" => before.eq_ignore_ascii_case(b"requirepass"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn keep(said: &mut Said, line: &str) {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        said.keep(&line.split(' ').next().unwrap_or_default().to_ascii_lowercase(), &words);
    }

    fn shown(said: &Said) -> Vec<String> {
        said.commands().map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned()).collect()
    }

    #[test]
    fn long_arguments_and_many_are_cut_as_redis_cuts_them() {
        let mut said = Said::default();
        keep(&mut said, &format!("SET k {}", "v".repeat(129)));
        keep(&mut said, &format!("DEL{}", " k".repeat(31)));
        keep(&mut said, &format!("DEL{}", " k".repeat(32)));
        let found = shown(&said);
        assert_eq!(found[0], format!("SET k {}... (1 more bytes)", "v".repeat(128)));
        assert_eq!(found[1], format!("DEL{}", " k".repeat(31)));
        assert_eq!(found[2], format!("DEL{} ... (2 more arguments)", " k".repeat(30)));
        said.clear();
        keep(&mut said, "PING");
        assert_eq!(shown(&said), ["PING"]);
    }

    #[test]
    fn passwords_are_not_kept() {
        let mut said = Said::default();
        for line in [
            "AUTH secret",
            "AUTH me secret",
            "HELLO 3 AUTH me secret SETNAME n",
            "CONFIG SET requirepass secret",
        ] {
            keep(&mut said, line);
        }
        assert!(shown(&said).iter().all(|line| !line.contains("secret")), "{said:?}");
        assert_eq!(shown(&said)[3], "CONFIG SET requirepass (redacted)");
    }

    #[test]
    fn log_is_bounded_in_entries_and_bytes() {
        let log = SlowLog::default();
        log.set_slower_than_us(0);
        let mut said = Said::default();
        (0..ENTRIES_DEFAULT + 5).for_each(|nth| keep(&mut said, &format!("SET k {nth}")));
        log.record(Duration::from_micros(7), &said, CLIENT, b"name");
        log.entries(|entries| {
            assert_eq!(entries.list.len(), ENTRIES_DEFAULT);
            assert_eq!(entries.list[0].arguments[2], (ENTRIES_DEFAULT + 4).to_string().into_bytes());
        });
        log.set_entries_max(ENTRIES_MAX);
        let mut burst = Said::default();
        let arguments = vec![vec![0; ARGUMENT_BYTES_MAX]; ARGUMENTS_MAX];
        (0..6_000).for_each(|_| burst.keep("set", &arguments));
        log.record(Duration::from_micros(7), &burst, CLIENT, b"name");
        log.entries(|entries| {
            assert!((3_000..6_000).contains(&entries.list.len()), "{}", entries.list.len());
            assert_eq!(entries.bytes, entries.list.iter().map(Entry::bytes).sum::<usize>());
            assert!(entries.bytes <= LOG_BYTES_MAX);
        });
        log.set_entries_max(0);
        assert_eq!(log.entries(|entries| (entries.list.len(), entries.bytes)), (0, 0));
        assert!(!log.is_on());
    }

    #[test]
    fn only_what_took_long_enough_is_slow() {
        let log = SlowLog::default();
        let mut said = Said::default();
        keep(&mut said, "PING");
        log.record(Duration::from_micros(9_999), &said, CLIENT, b"");
        assert_eq!(log.entries(|entries| entries.list.len()), 0);
        log.record(Duration::from_millis(10), &said, CLIENT, b"");
        assert_eq!(log.entries(|entries| entries.list.len()), 1);
    }
}
