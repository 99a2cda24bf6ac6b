//! INFO: the node described as text, in the sections and fields that Redis tools look for.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;

use super::state::{KEYSPACE_DEFAULT, Shared};
use crate::status::{KeyspaceStatus, Status};

/// The version of Redis whose commands and errors are spoken. Tools decide by it what they may ask.
const REDIS_VERSION: &str = "7.2.0";

/// What INFO tells about.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) status: &'a Status,
    pub(super) keyspaces: &'a [KeyspaceStatus],
    pub(super) shared: &'a Shared,
}

impl About<'_> {
    /// The sections asked for, or all. The tasks are those of the runtime that it is called on.
    pub(super) fn sections(&self, wanted: &[Vec<u8>]) -> String {
        let is_wanted = |name: &str| {
            let all = ["all", "default", "everything", name];
            wanted.is_empty()
                || wanted.iter().any(|word| all.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes())))
        };
        let sections: [(&str, String); 5] = [
            ("Server", self.server()),
            ("Clients", self.clients()),
            ("Stats", self.stats()),
            ("Tidelock", self.tidelock()),
            ("Keyspace", self.keyspace()),
        ];
        let wanted = sections.into_iter().filter(|(name, _)| is_wanted(name));
        let sections: Vec<String> = wanted.map(|(name, lines)| format!("# {name}\r\n{lines}")).collect();
        sections.join("\r\n")
    }

    fn server(&self) -> String {
        let uptime = self.status.uptime.as_secs();
        lines(&[
            ("redis_version", &REDIS_VERSION),
            ("redis_mode", &"standalone"),
            ("tidelock_version", &self.status.version),
            ("process_id", &std::process::id()),
            ("tcp_port", &self.shared.port),
            ("uptime_in_seconds", &uptime),
            ("uptime_in_days", &(uptime / 86_400)),
            ("tasks", &Handle::current().metrics().num_alive_tasks()),
        ])
    }

    fn clients(&self) -> String {
        lines(&[
            ("connected_clients", &self.shared.clients.len()),
            ("maxclients", &self.shared.config.clients_max),
            ("input_bytes", &self.shared.input.used()),
            ("output_bytes", &self.shared.output.used()),
        ])
    }

    fn stats(&self) -> String {
        lines(&[
            ("total_connections_received", &self.shared.clients_accepted.load(Ordering::Relaxed)),
            ("total_commands_processed", &self.shared.commands.load(Ordering::Relaxed)),
            ("rejected_connections", &self.shared.clients_refused.load(Ordering::Relaxed)),
            (
                "client_output_buffer_limit_disconnections",
                &self.shared.clients_closed_slow.load(Ordering::Relaxed),
            ),
        ])
    }

    fn tidelock(&self) -> String {
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
        for (name, count) in &self.status.counters {
            text.push_str(&line(name, count));
        }
        text
    }

    /// Numbered keyspaces are listed as Redis lists databases, others by their names.
    fn keyspace(&self) -> String {
        let mut text = String::new();
        for KeyspaceStatus { name, keys, .. } in self.keyspaces {
            let is_number =
                name.as_str().strip_prefix("db").is_some_and(|number| number.parse::<u32>().is_ok());
            let name = match name.as_str() {
                KEYSPACE_DEFAULT => "db0".to_owned(),
                name if is_number && name != "db0" => name.to_owned(),
                name => format!("keyspace_{name}"),
            };
            text.push_str(&line(&name, &format_args!("keys={keys},expires=0,avg_ttl=0")));
        }
        text
    }
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
