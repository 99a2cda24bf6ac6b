//! The metrics of a node by name: what is recorded as it happens, and what is gathered when somebody asks.
//!
//! The names are part of what operators see. Whatever belongs to one peer or keyspace is gathered, so that nothing is
//! told of those that are gone.

use metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use tidelock_engine::id::PeerId;
use tidelock_engine::ports::{LogIndex, Status};
use tidelock_engine::replica::GroupReport;

use super::state::{Served, Shared};
use crate::node::Node;
use crate::pubsub::PubSub;
use crate::redis::RedisFigures;
use crate::status::{KeyspaceStatus, PeerState};

/// The keyspaces, and the peers, that are told of one by one at most.
const LABELLED_MAX: usize = 256;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// It only grows, from 0 at the start of the node.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How many there were of each size; durations are in seconds.
    Histogram,
}

use MetricKind::{Counter, Gauge, Histogram};

/// Every metric, what it is, and what it says.
pub(super) const METRICS: [(&str, MetricKind, &str); 83] = [
    ("tidelock_info", Gauge, "1, with the node's version, peer, replica and cluster"),
    ("tidelock_uptime_seconds", Gauge, "How long the node has been open"),
    ("tidelock_ready", Gauge, "Whether reads and writes of all keyspaces would be done"),
    ("tidelock_not_ready", Gauge, "Why not, by reason: how many keyspaces, or 1"),
    ("tidelock_online", Gauge, "Whether the node talks to peers at all"),
    ("tidelock_warnings", Gauge, "The sentences that an operator should look at in the status"),
    (
        "tidelock_turn_seconds",
        Histogram,
        "How long turns of the event loop took, commit and sending included",
    ),
    (
        "tidelock_turn_inputs",
        Histogram,
        "The inputs of a turn: requests, messages, events; what one commit serves",
    ),
    (
        "tidelock_commit_seconds",
        Histogram,
        "How long commits took, from the engine's batch to the log on disk",
    ),
    ("tidelock_sync_seconds", Histogram, "How long the disk took for each sync, by file"),
    (
        "tidelock_group_propose_seconds",
        Histogram,
        "How long proposals took: until a majority has them on disk and they are applied here",
    ),
    (
        "tidelock_group_commit_seconds",
        Histogram,
        "How long proposals took until a majority was known to have them on disk",
    ),
    (
        "tidelock_group_apply_seconds",
        Histogram,
        "How long it took to apply what is committed and make that durable",
    ),
    (
        "tidelock_group_barrier_seconds",
        Histogram,
        "How long linearizable reads waited to know what was acknowledged before them",
    ),
    ("tidelock_group_snapshots_total", Counter, "Snapshots of the group's state, by kind: built, installed"),
    ("tidelock_queue_jobs", Gauge, "What waits for the event loop"),
    ("tidelock_writes_total", Counter, "Writes that clients asked for, by kind"),
    ("tidelock_events_total", Counter, "What happened in the engine, by event"),
    ("tidelock_refused_total", Counter, "What was refused, by door (peers, redis, http) and reason"),
    ("tidelock_keys", Gauge, "The keys that exist"),
    ("tidelock_keyspaces", Gauge, "The keyspaces that the node holds"),
    ("tidelock_keyspace_keys", Gauge, "The keys of a keyspace"),
    ("tidelock_keyspace_bytes", Gauge, "Its keys, elements, fields and values, as quotas count them"),
    ("tidelock_keyspace_quota_bytes", Gauge, "What may be written to it here, if that is limited"),
    ("tidelock_keyspace_authors", Gauge, "The replicas that wrote in it"),
    ("tidelock_keyspace_peers", Gauge, "The connected peers that replicate it"),
    ("tidelock_keyspace_alone_seconds", Gauge, "For how long no connected peer has replicated it"),
    ("tidelock_keyspace_loading", Gauge, "Whether it is being fetched from a peer"),
    ("tidelock_keyspace_diverged", Gauge, "Whether a peer with equal heads has other rows"),
    ("tidelock_keyspace_epoch", Gauge, "How often a keyspace has changed its mode: odd is strong"),
    ("tidelock_keyspace_revision", Gauge, "The number of the last strong operation that is applied here"),
    ("tidelock_keyspace_outbox", Gauge, "The operations here that no epoch has taken in"),
    ("tidelock_parked_frames", Gauge, "Frames that wait for others which they depend on"),
    ("tidelock_parked_bytes", Gauge, "Their bytes"),
    ("tidelock_log_bytes", Gauge, "What the records of the log hold"),
    ("tidelock_log_first_position", Gauge, "The oldest position in the log: the floor"),
    ("tidelock_log_position", Gauge, "The last position in the log"),
    ("tidelock_log_frames", Gauge, "The frames in the log"),
    ("tidelock_log_age_seconds", Gauge, "The age of the oldest record"),
    ("tidelock_file_bytes", Gauge, "The length of a file of the store, by file"),
    ("tidelock_overlay_entries", Gauge, "Rows that are committed and not in the rows file yet"),
    ("tidelock_overlay_bytes", Gauge, "What they take in memory"),
    ("tidelock_syncs_total", Counter, "Syncs of either file"),
    ("tidelock_materializations_total", Counter, "The times that rows were written to their file"),
    ("tidelock_disk_left_bytes", Gauge, "What is free on the disk of the data"),
    ("tidelock_peers_connected", Gauge, "The peers that are connected"),
    ("tidelock_peer_connected_seconds", Gauge, "For how long a peer has been connected"),
    ("tidelock_peer_round_trip_seconds", Gauge, "The last round trip to it"),
    ("tidelock_peer_queued_bytes", Gauge, "What waits to be sent to it"),
    ("tidelock_peer_slow", Gauge, "Whether it takes messages more slowly than they are made"),
    ("tidelock_peer_keyspaces", Gauge, "The keyspaces that both replicate"),
    (
        "tidelock_peer_keyspaces_behind",
        Gauge,
        "Those in which it is not known to hold all that is here: its lag",
    ),
    ("tidelock_peer_bytes_total", Counter, "Bytes on the streams of a connection, by peer and direction"),
    (
        "tidelock_peer_messages_total",
        Counter,
        "Messages on the streams of a connection, by peer and direction",
    ),
    ("tidelock_anchors_voters", Gauge, "The anchors that vote"),
    ("tidelock_anchors_members", Gauge, "The anchors, with those that do not vote yet"),
    ("tidelock_anchors_learners", Gauge, "Those that do not vote yet"),
    ("tidelock_anchors_quorum", Gauge, "Whether a majority of them answers, as far as is known"),
    ("tidelock_anchor_term", Gauge, "The term of this anchor's group: it grows with each election"),
    ("tidelock_anchor_leads", Gauge, "Whether this anchor leads"),
    ("tidelock_anchor_commit_lag", Gauge, "The entries of its log that are not known to be committed"),
    ("tidelock_anchor_apply_lag", Gauge, "The committed entries that are not applied"),
    (
        "tidelock_anchor_log_entries",
        Gauge,
        "The entries that its log holds: those behind the last snapshot, and some before",
    ),
    (
        "tidelock_anchor_elections_total",
        Counter,
        "The terms that this anchor has seen begin: each is an election, won by somebody or not",
    ),
    (
        "tidelock_anchor_leaders_total",
        Counter,
        "The times that this anchor has learned who leads: elections that were won",
    ),
    (
        "tidelock_forwarded_total",
        Counter,
        "Requests on strong keyspaces, by direction: handed on to an anchor, or taken from a peer",
    ),
    ("tidelock_anchor_quorum_ack_seconds", Gauge, "How long ago a majority last answered this leader"),
    ("tidelock_redis_connections", Gauge, "The Redis clients that are connected"),
    ("tidelock_redis_connections_total", Counter, "The Redis clients that were accepted"),
    ("tidelock_redis_commands_total", Counter, "The Redis commands that were received"),
    ("tidelock_redis_command_seconds", Histogram, "How long Redis commands took, with those they came with"),
    ("tidelock_redis_input_bytes", Gauge, "What Redis clients have half sent, queued or in execution"),
    ("tidelock_redis_output_bytes", Gauge, "What Redis clients have not read yet"),
    ("tidelock_pubsub_channels", Gauge, "The channels that somebody listens to"),
    ("tidelock_pubsub_patterns", Gauge, "The patterns that somebody listens to"),
    ("tidelock_pubsub_queued_bytes", Gauge, "What waits for who listens, counted for each"),
    ("tidelock_pubsub_told_total", Counter, "Messages told to who listens here, counted for each"),
    ("tidelock_pubsub_messages_total", Counter, "Published messages between peers, by direction"),
    ("tidelock_pubsub_envelopes_total", Counter, "What they travelled in, by direction"),
    (
        "tidelock_pubsub_dropped_total",
        Counter,
        "Published messages and envelopes that were dropped, by reason",
    ),
    ("tidelock_http_connections", Gauge, "The HTTP clients that are connected"),
    ("tidelock_http_connections_total", Counter, "The HTTP clients that were accepted"),
    ("process_resident_memory_bytes", Gauge, "The memory of the process, where the system tells"),
];

/// Describes the metrics that are recorded as they happen, or the others, to the current recorder.
pub(super) fn describe(is_recorded: bool) {
    const COUNTED: [&str; 2] = ["tidelock_writes_total", "tidelock_group_snapshots_total"];
    let is_meant = |name: &str, kind| (kind == Histogram || COUNTED.contains(&name)) == is_recorded;
    for (name, kind, help) in METRICS.into_iter().filter(|(name, kind, _)| is_meant(name, *kind)) {
        match kind {
            Counter => describe_counter!(name, help),
            Gauge => describe_gauge!(name, help),
            Histogram => describe_histogram!(name, help),
        }
    }
}

/// What is known at this moment, as Prometheus reads it. The recorder lives for this answer only.
pub(super) fn gather(shared: &Shared, served: &Served) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe(false);
        gather_node(&served.node);
        gather_store(&served.node);
        gather_keyspaces(&served.node.keyspaces());
        gather_peers(&served.node);
        if let Some(redis) = &served.redis {
            gather_redis(redis.figures());
        }
        gather_pubsub(served.node.pubsub());
        gather_http(shared);
    });
    recorder.handle().render()
}

fn gather_node(node: &Node) {
    let status = node.status();
    let labels = vec![
        Label::new("version", status.version),
        Label::new("peer", status.peer.to_string()),
        Label::new("replica", status.replica.to_string()),
        Label::new("cluster", status.cluster),
    ];
    gauge!("tidelock_info", labels).set(1);
    gauge!("tidelock_uptime_seconds").set(status.uptime);
    let reasons = node.not_ready();
    gauge!("tidelock_ready").set(flag(reasons.is_empty()));
    for reason in reasons {
        gauge!("tidelock_not_ready", "reason" => reason.word()).increment(1);
    }
    gauge!("tidelock_online").set(flag(status.is_online));
    gauge!("tidelock_warnings").set(number(status.warnings.len()));
    gauge!("tidelock_keys").set(number(status.keys));
    gauge!("tidelock_keyspaces").set(number(status.keyspaces));
    gauge!("tidelock_peers_connected").set(number(status.peers_connected));
    if let Some(group) = &status.group {
        gather_anchors(group);
    }
    gauge!("tidelock_queue_jobs").set(number(node.queued_jobs()));
    let (frames, bytes) = node.parked();
    gauge!("tidelock_parked_frames").set(number(frames));
    gauge!("tidelock_parked_bytes").set(number(bytes));
    gauge!("tidelock_log_bytes").set(number(status.log.bytes));
    gauge!("tidelock_log_first_position").set(number(status.log.first));
    gauge!("tidelock_log_age_seconds").set(status.log.age);
    gather_requests(&status.counters);
    for (event, count) in status.counters {
        match event.strip_prefix("refused_") {
            Some(reason) => refused("peers", reason, count),
            None => counter!("tidelock_events_total", "event" => event).absolute(count),
        }
    }
}

/// What the engine counts of strong keyspaces, by names of their own. It counts from the start of the node.
fn gather_requests(counters: &[(String, u64)]) {
    let count = |event: &str| counters.iter().find(|(name, _)| name == event).map_or(0, |(_, count)| *count);
    counter!("tidelock_anchor_elections_total").absolute(count("anchor_terms"));
    counter!("tidelock_anchor_leaders_total").absolute(count("anchor_leaders"));
    counter!("tidelock_forwarded_total", "direction" => "out").absolute(count("requests_handed_on"));
    counter!("tidelock_forwarded_total", "direction" => "in").absolute(count("requests_of_peers"));
}

fn gather_anchors(group: &GroupReport) {
    let voters = group.anchors.iter().filter(|anchor| anchor.is_voter).count();
    gauge!("tidelock_anchors_voters").set(number(voters));
    gauge!("tidelock_anchors_members").set(number(group.anchors.len()));
    gauge!("tidelock_anchors_learners").set(number(group.anchors.len() - voters));
    gauge!("tidelock_anchors_quorum").set(flag(group.has_quorum));
    let Some(seat) = group.seat else { return };
    let Status { term, last, committed, applied, purged, .. } = &group.status;
    let index = |index: Option<LogIndex>| index.map_or(0, |index| index.0);
    gauge!("tidelock_anchor_term").set(number(term.0));
    gauge!("tidelock_anchor_leads").set(flag(group.leader == Some(seat)));
    gauge!("tidelock_anchor_commit_lag").set(number(index(*last).saturating_sub(index(*committed))));
    gauge!("tidelock_anchor_apply_lag").set(number(index(*committed).saturating_sub(index(*applied))));
    // Entries are counted from 0, and those up to the one that was purged are gone.
    let (end, begin) = (last.map_or(0, |last| last.0 + 1), purged.map_or(0, |purged| purged.0 + 1));
    gauge!("tidelock_anchor_log_entries").set(number(end.saturating_sub(begin)));
    if let Some(ms) = group.quorum_ack_ms {
        gauge!("tidelock_anchor_quorum_ack_seconds").set(std::time::Duration::from_millis(ms));
    }
}

fn gather_store(node: &Node) {
    if let Some(stats) = node.reader().ok().and_then(|reader| reader.stats().ok()) {
        gauge!("tidelock_log_position").set(number(stats.position.0));
        gauge!("tidelock_log_frames").set(number(stats.log_frames));
        gauge!("tidelock_file_bytes", "file" => "log").set(number(stats.log_bytes));
        gauge!("tidelock_file_bytes", "file" => "rows").set(number(stats.rows_bytes));
        gauge!("tidelock_overlay_entries").set(number(stats.overlay_entries));
        gauge!("tidelock_overlay_bytes").set(number(stats.overlay_bytes));
        counter!("tidelock_syncs_total").absolute(stats.syncs);
        counter!("tidelock_materializations_total").absolute(stats.materializations);
    }
    if let Some(left) = node.disk_left() {
        gauge!("tidelock_disk_left_bytes").set(number(left));
    }
    if let Some(resident) = resident_bytes() {
        gauge!("process_resident_memory_bytes").set(number(resident));
    }
}

fn gather_keyspaces(keyspaces: &[KeyspaceStatus]) {
    for keyspace in keyspaces.iter().take(LABELLED_MAX) {
        let set = |name: &'static str, value: f64| {
            gauge!(name, "keyspace" => keyspace.name.to_string()).set(value);
        };
        set("tidelock_keyspace_keys", number(keyspace.keys));
        set("tidelock_keyspace_bytes", number(keyspace.bytes));
        set("tidelock_keyspace_authors", number(keyspace.authors));
        set("tidelock_keyspace_peers", number(keyspace.peers));
        set("tidelock_keyspace_loading", flag(keyspace.is_loading));
        set("tidelock_keyspace_diverged", flag(keyspace.is_diverged));
        set("tidelock_keyspace_alone_seconds", keyspace.alone.map_or(0.0, |time| time.as_secs_f64()));
        set("tidelock_keyspace_epoch", number(keyspace.mode.mode.epoch.0));
        if keyspace.mode.mode.epoch.0 > 0 {
            set("tidelock_keyspace_revision", number(keyspace.mode.revision));
            set("tidelock_keyspace_outbox", number(keyspace.mode.outbox));
        }
        if let Some(quota) = keyspace.quota_bytes {
            set("tidelock_keyspace_quota_bytes", number(quota));
        }
    }
}

fn gather_peers(node: &Node) {
    let connected = |peer: &PeerState| peer.peer.filter(|_| peer.connected_for.is_some());
    let peers = node.peers();
    for (id, peer) in peers.iter().filter_map(|peer| Some((connected(peer)?, peer))).take(LABELLED_MAX) {
        let set = |name: &'static str, value: f64| gauge!(name, "peer" => id.to_string()).set(value);
        set("tidelock_peer_connected_seconds", peer.connected_for.map_or(0.0, |time| time.as_secs_f64()));
        if let Some(time) = peer.round_trip {
            set("tidelock_peer_round_trip_seconds", time.as_secs_f64());
        }
        set("tidelock_peer_queued_bytes", number(peer.queued_bytes));
        set("tidelock_peer_slow", flag(peer.is_slow));
        set("tidelock_peer_keyspaces", number(peer.keyspaces));
        set("tidelock_peer_keyspaces_behind", number(peer.keyspaces_behind()));
        let add = |name: &'static str, direction: &'static str, value: u64| {
            counter!(name, "peer" => id.to_string(), "direction" => direction).absolute(value);
        };
        add("tidelock_peer_bytes_total", "out", peer.bytes_sent);
        add("tidelock_peer_bytes_total", "in", peer.bytes_received);
        add("tidelock_peer_messages_total", "out", peer.messages_sent);
        add("tidelock_peer_messages_total", "in", peer.messages_received);
    }
    let not_admitted: Vec<(PeerId, u64)> = node.not_admitted();
    if !not_admitted.is_empty() {
        refused("peers", "not_admitted", not_admitted.iter().map(|(_, count)| count).sum());
    }
}

fn gather_redis(figures: RedisFigures) {
    gauge!("tidelock_redis_connections").set(number(figures.clients));
    counter!("tidelock_redis_connections_total").absolute(figures.clients_accepted);
    counter!("tidelock_redis_commands_total").absolute(figures.commands);
    gauge!("tidelock_redis_input_bytes").set(number(figures.input_bytes));
    gauge!("tidelock_redis_output_bytes").set(number(figures.output_bytes));
    refused("redis", "connections_max", figures.clients_refused);
    refused("redis", "slow", figures.clients_closed_slow);
    refused("redis", "malformed", figures.clients_malformed);
}

fn gather_pubsub(pubsub: &PubSub) {
    let here = pubsub.hub().figures();
    gauge!("tidelock_pubsub_channels").set(number(here.channels + here.sharded_channels));
    gauge!("tidelock_pubsub_patterns").set(number(here.patterns));
    gauge!("tidelock_pubsub_queued_bytes").set(number(here.queued_bytes));
    counter!("tidelock_pubsub_told_total").absolute(here.told);
    let network = pubsub.network_figures();
    let between = |name: &'static str, sent: u64, heard: u64| {
        counter!(name, "direction" => "out").absolute(sent);
        counter!(name, "direction" => "in").absolute(heard);
    };
    between("tidelock_pubsub_messages_total", network.messages_sent, network.messages_heard);
    between("tidelock_pubsub_envelopes_total", network.envelopes_sent, network.envelopes_heard);
    let here = [("subscriber_slow", here.lost), ("no_message", here.malformed)];
    for (reason, count) in network.dropped.into_iter().chain(here) {
        counter!("tidelock_pubsub_dropped_total", "reason" => reason).absolute(count);
    }
}

fn gather_http(shared: &Shared) {
    let (now, accepted, turned_away) = shared.figures.connections();
    gauge!("tidelock_http_connections").set(number(now));
    counter!("tidelock_http_connections_total").absolute(accepted);
    refused("http", "connections_max", turned_away);
    refused("http", "malformed", shared.figures.malformed());
    for (code, count) in shared.figures.problems() {
        refused("http", code, count);
    }
}

fn refused(door: &'static str, reason: &str, count: u64) {
    counter!("tidelock_refused_total", "door" => door, "reason" => reason.to_owned()).absolute(count);
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Prometheus knows no other numbers; beyond 2^53 they are rounded.
#[expect(clippy::cast_precision_loss, reason = "the format has no others")]
fn number(number: impl TryInto<u64>) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}

/// In `VmRSS:  1234 kB`.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let readme = include_str!("README.md");
        for (name, kind, help) in METRICS {
            let line = format!("| `{name}` | {} | {help} |", format!("{kind:?}").to_lowercase());
            assert!(readme.contains(&line), "not in README.md: {line}");
        }
        assert_eq!(readme.matches("\n| `tidelock_").count() + 1, METRICS.len(), "and no other is");
    }

    #[test]
    fn dashboard_shows_only_what_there_is() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("grafana.json")).expect("it is JSON");
        let panels = dashboard["panels"].as_array().expect("a list");
        let mut shown = 0;
        for panel in panels {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().expect("a query");
                let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                for word in words.filter(|word| word.starts_with("tidelock_") || word.starts_with("process_"))
                {
                    let is_there = METRICS.iter().any(|(name, kind, _)| match kind {
                        Histogram => ["_bucket", "_sum", "_count"]
                            .iter()
                            .any(|end| word.strip_suffix(end) == Some(name)),
                        Counter | Gauge => word == *name,
                    });
                    assert!(is_there, "{word} in {query}");
                    shown += 1;
                }
            }
        }
        assert!(shown > 20, "only {shown} metrics are shown");
    }

    #[test]
    fn names_tell_their_kind() {
        for (name, kind, _) in METRICS {
            assert_eq!(name.ends_with("_total"), kind == Counter, "{name}");
        }
    }
}
