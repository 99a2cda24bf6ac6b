//! INFO: the node described as text, in the sections and fields that Redis tools look for.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use super::metrics::{Calls, Since};
use super::reply::Reply;
use super::state::{KEYSPACE_DEFAULT, Shared};
use super::tide;
use crate::pubsub::PubSub;
use crate::status::{KeyspaceStatus, Status};

/// The version of Redis whose commands and errors are spoken. Tools decide by it what they may ask.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// The unit of times in `/proc`, which Linux keeps whatever its timer does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What INFO tells about.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) status: &'a Status,
    pub(super) keyspaces: &'a [KeyspaceStatus],
    pub(super) shared: &'a Shared,
    pub(super) pubsub: &'a PubSub,
}

/// Makes the lines of a section.
type Section<A> = fn(&A, &Since) -> String;

impl About<'_> {
    /// The sections, as Redis orders them, and whether they are told to who names none.
    const SECTIONS: [(&'static str, bool, Section<Self>); 12] = [
        ("Server", true, Self::server),
        ("Clients", true, Self::clients),
        ("Memory", true, Self::memory),
        ("Persistence", true, Self::persistence),
        ("Stats", true, Self::stats),
        ("Replication", true, Self::replication),
        ("CPU", true, Self::cpu),
        ("Commandstats", false, Self::commandstats),
        ("Errorstats", true, Self::errorstats),
        ("Cluster", true, Self::cluster),
        ("Tidelock", true, Self::tidelock),
        ("Keyspace", true, Self::keyspace),
    ];

    /// The sections asked for, or those of Redis's default. The tasks are those of the runtime that it is called on.
    pub(super) fn sections(&self, wanted: &[Vec<u8>]) -> String {
        let is_said = |word: &str| wanted.iter().any(|said| said.eq_ignore_ascii_case(word.as_bytes()));
        let is_all = is_said("all") || is_said("everything");
        let is_default = wanted.is_empty() || is_said("default") || is_all;
        let since = self.shared.since.lock().expect("no holder of the lock panics").clone();
        let mut text = String::new();
        for (name, is_of_default, make) in Self::SECTIONS {
            if is_said(name) || is_all || (is_default && is_of_default) {
                let gap = if text.is_empty() { "" } else { "\r\n" };
                write!(text, "{gap}# {name}\r\n{}", make(self, &since))
                    .expect("writing to memory cannot fail");
            }
        }
        text
    }

    fn server(&self, _: &Since) -> String {
        let uptime = self.status.uptime.as_secs();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        lines(&[
            ("redis_version", &REDIS_VERSION),
            ("redis_mode", &"standalone"),
            ("os", &std::env::consts::OS),
            ("arch_bits", &usize::BITS),
            ("tidelock_version", &self.status.version),
            ("process_id", &std::process::id()),
            ("run_id", &self.status.replica),
            ("tcp_port", &self.shared.port),
            ("server_time_usec", &since_1970.as_micros()),
            ("uptime_in_seconds", &uptime),
            ("uptime_in_days", &(uptime / 86_400)),
            ("tasks", &Handle::current().metrics().num_alive_tasks()),
        ])
    }

    fn clients(&self, _: &Since) -> String {
        lines(&[
            ("connected_clients", &self.shared.clients.len()),
            ("maxclients", &self.shared.config.clients_max),
            ("blocked_clients", &self.shared.clients.waiting()),
            ("tracking_clients", &self.pubsub.tracking().figures().clients),
            ("input_bytes", &self.shared.input.used()),
            ("output_bytes", &self.shared.output.used()),
        ])
    }

    /// Nothing is evicted, so there is no bound to tell.
    fn memory(&self, _: &Since) -> String {
        let figures = self.shared.figures();
        let buffers = figures.input_bytes + figures.output_bytes;
        let mut text = String::new();
        if let Some(bytes) = process_bytes("VmRSS:") {
            text.push_str(&lines(&[
                ("used_memory", &bytes),
                ("used_memory_human", &human(bytes)),
                ("used_memory_rss", &bytes),
                ("used_memory_rss_human", &human(bytes)),
            ]));
        }
        text.push_str(&lines(&[
            ("maxmemory", &0),
            ("maxmemory_human", &"0B"),
            ("maxmemory_policy", &"noeviction"),
            ("mem_clients_normal", &buffers),
        ]));
        text
    }

    /// A write is in the log when it is acknowledged, which is what Redis calls an append-only file that is always
    /// synced.
    fn persistence(&self, _: &Since) -> String {
        lines(&[
            ("loading", &0),
            ("rdb_bgsave_in_progress", &0),
            ("aof_enabled", &1),
            ("aof_rewrite_in_progress", &0),
            ("aof_current_size", &self.status.log.bytes),
        ])
    }

    fn stats(&self, since: &Since) -> String {
        let errors: u64 = since.errors_of(self.shared).into_iter().map(|(_, count)| count).sum();
        let (now, since) = (self.shared.figures(), since.figures);
        let (channels, tracked) = (self.pubsub.hub().figures(), self.pubsub.tracking().figures());
        lines(&[
            ("total_connections_received", &(now.clients_accepted - since.clients_accepted)),
            ("total_commands_processed", &(now.commands - since.commands)),
            ("rejected_connections", &(now.clients_refused - since.clients_refused)),
            (
                "client_output_buffer_limit_disconnections",
                &(now.clients_closed_slow - since.clients_closed_slow),
            ),
            ("expired_keys", &self.counter("keys_expired")),
            ("evicted_keys", &0),
            ("pubsub_channels", &channels.channels),
            ("pubsub_patterns", &channels.patterns),
            ("pubsubshard_channels", &channels.sharded_channels),
            ("tracking_total_keys", &tracked.keys),
            ("tracking_total_items", &tracked.items),
            ("tracking_total_prefixes", &tracked.prefixes),
            ("total_error_replies", &errors),
        ])
    }

    /// One that is not listed has not happened.
    fn counter(&self, name: &str) -> u64 {
        self.status.counters.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }

    /// Peers are equals: each is what Redis calls a master, and none follows.
    fn replication(_: &Self, _: &Since) -> String {
        lines(&[("role", &"master"), ("connected_slaves", &0)])
    }

    fn cpu(_: &Self, _: &Since) -> String {
        cpu_seconds().map_or_else(String::new, |(user, system)| {
            lines(&[
                ("used_cpu_sys", &format_args!("{system:.6}")),
                ("used_cpu_user", &format_args!("{user:.6}")),
            ])
        })
    }

    /// The time of commands that were executed together is divided between them.
    fn commandstats(&self, since: &Since) -> String {
        let mut text = String::new();
        for (name, Calls { count, nanoseconds, .. }) in since.calls_of(self.shared) {
            let Some(each) = nanoseconds.checked_div(count) else { continue };
            let (micros, hundredths) = (each / 1_000, each % 1_000 / 10);
            let total = nanoseconds / 1_000;
            let told = format_args!("calls={count},usec={total},usec_per_call={micros}.{hundredths:02}");
            text.push_str(&line(&format!("cmdstat_{name}"), &told));
        }
        text
    }

    fn errorstats(&self, since: &Since) -> String {
        let told = since.errors_of(self.shared).into_iter().filter(|(_, count)| *count > 0);
        told.map(|(word, count)| line(&format!("errorstat_{word}"), &format_args!("count={count}"))).collect()
    }

    fn cluster(_: &Self, _: &Since) -> String {
        line("cluster_enabled", &0)
    }

    fn tidelock(&self, _: &Since) -> String {
        let mut text = lines(&[
            ("name", &self.status.name.as_deref().unwrap_or_default()),
            ("peer", &self.status.peer),
            ("replica", &self.status.replica),
            ("cluster", &self.status.cluster),
            ("online", &u8::from(self.status.is_online)),
            ("peers_connected", &self.status.peers_connected),
            ("keyspaces", &self.status.keyspaces),
            ("keys", &self.status.keys),
            ("frames", &self.status.frames),
            ("log_bytes", &self.status.log.bytes),
            ("log_first", &self.status.log.first),
            ("log_age_ms", &self.status.log.age.as_millis()),
            ("log_kept", &self.status.log.kept_word().unwrap_or_default()),
            ("log_kept_for", &self.status.log.kept_for().map(|peer| peer.to_string()).unwrap_or_default()),
            ("bytes_on_disk", &self.status.bytes_on_disk),
        ]);
        let alone = self.keyspaces.iter().filter(|keyspace| keyspace.alone.is_some()).count();
        text.push_str(&line("keyspaces_alone", &alone));
        let (channels, gossip) = (self.pubsub.hub().figures(), self.pubsub.network_figures());
        text.push_str(&lines(&[
            ("pubsub_told", &channels.told),
            ("pubsub_lost", &channels.lost),
            ("pubsub_sent", &gossip.messages_sent),
            ("pubsub_heard", &gossip.messages_heard),
        ]));
        for (reason, count) in &gossip.dropped {
            text.push_str(&line(&format!("pubsub_dropped_{reason}"), count));
        }
        for (name, count) in &self.status.counters {
            text.push_str(&line(name, count));
        }
        text
    }

    /// Numbered keyspaces are listed as Redis lists databases, others by their names, and each with who decides in it.
    fn keyspace(&self, _: &Since) -> String {
        let mut text = String::new();
        for KeyspaceStatus { name, keys, conditional, .. } in self.keyspaces {
            let decided = tide::conditional(*conditional);
            let is_number =
                name.as_str().strip_prefix("db").is_some_and(|number| number.parse::<u32>().is_ok());
            let name = match name.as_str() {
                KEYSPACE_DEFAULT => "db0".to_owned(),
                name if is_number && name != "db0" => name.to_owned(),
                name => format!("keyspace_{name}"),
            };
            let told = format_args!("keys={keys},expires=0,avg_ttl=0,conditional={decided}");
            text.push_str(&line(&name, &told));
        }
        text
    }
}

/// LASTSAVE: what was acknowledged is on the disk, so all is saved at any moment; the moment told is the node's start, which
/// is the last time that all of it was read.
pub(super) fn last_save(status: &Status) -> Reply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reply::count(now.saturating_sub(status.uptime).as_secs())
}

fn lines(fields: &[(&str, &dyn std::fmt::Display)]) -> String {
    fields.iter().map(|(name, value)| line(name, value)).collect()
}

/// Line ends within would look like other fields.
fn line(name: &str, value: &dyn std::fmt::Display) -> String {
    let mut text = String::new();
    write!(text, "{name}:{value}").expect("writing to memory cannot fail");
    text.retain(|c| c != '\r' && c != '\n');
    text + "\r\n"
}

/// A number of bytes as Redis shows it to people.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let power = bytes.checked_ilog2().map_or(0, |bits| (bits / 10) as usize).min(units.len() - 1);
    let hundredths = (u128::from(bytes) * 100) >> (10 * power);
    if power == 0 {
        return format!("{bytes}B");
    }
    format!("{}.{:02}{}", hundredths / 100, hundredths % 100, units[power])
}

/// What the kernel says of this process, where it says it: the resident memory, or the most that there was, in bytes.
pub(super) fn process_bytes(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1_024)
}

/// The time of its threads in their own code and in the kernel, in seconds.
fn cpu_seconds() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold spaces, the fields are counted from the third.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}
