//! The random scenarios by name. A new one is a constant here and a line in `tests/stories/random.rs`.

use tidelock_engine::replica::{Limits, Retention};

use crate::faults::Fault;
use crate::hostile::Behaviour;
use crate::network::Conditions;
use crate::node::Storage;
use crate::scenario::{Scenario, StrongWorkload};
use crate::workload::Workload;

const CALM: Conditions = Conditions { delay_us: (100, 20_000), ..Conditions::GOOD };

/// A peer that said what cannot be is left alone for half a minute, and an answer is awaited for a whole one: so
/// long it may take to become equal after messages were damaged or lost although their session went on.
const AFTER_DAMAGE_MS: u64 = 180_000;

/// What all scenarios have in common.
const BASE: Scenario = Scenario {
    name: "",
    seeds: 200,
    nodes: (2, 5),
    lasts_ms: 15_000,
    workload: Workload::ALL_KINDS,
    conditions: CALM,
    faults: &[],
    converges_ms: 10_000,
    storage: Storage::Disk,
    retention: Retention { age_ms: 86_400_000, bytes: 1 << 30, peers_ms: 604_800_000 },
    staged_bytes: Limits::STAGED_BYTES,
    strong: None,
};

/// Partitions of every shape and connections that break.
pub const PARTITIONS: Scenario = Scenario {
    name: "partitions",
    nodes: (3, 6),
    faults: &[
        (Fault::Partition, 4_000),
        (Fault::SilentPartition, 6_000),
        (Fault::OneWayPartition, 5_000),
        (Fault::Bridge, 6_000),
        (Fault::Flapping, 6_000),
        (Fault::BrokenSession, 1_500),
    ],
    ..BASE
};

/// Messages are lost, doubled, late, early, and damaged; peers are slow.
pub const BAD_LINKS: Scenario = Scenario {
    name: "bad_links",
    conditions: Conditions {
        delay_us: (1_000, 300_000),
        loss: 30,
        duplication: 20,
        reordering: 40,
        corruption: 3,
        truncation: 3,
        queue_max: 200,
        ..CALM
    },
    faults: &[(Fault::SlowPeer, 4_000), (Fault::BrokenSession, 3_000)],
    converges_ms: AFTER_DAMAGE_MS,
    ..BASE
};

/// Processes and disks fail at every step.
pub const CRASHES: Scenario = Scenario {
    name: "crashes",
    nodes: (2, 4),
    workload: Workload { every_ms: 250, buffered: 350, ..Workload::ALL_KINDS },
    faults: &[
        (Fault::Kill, 4_000),
        (Fault::PowerCut, 2_000),
        (Fault::PowerCutInWrite, 800),
        (Fault::PowerCutOfAll, 8_000),
    ],
    ..BASE
};

/// Disks that fail, fill up, lie and forget.
pub const BAD_DISKS: Scenario = Scenario {
    name: "bad_disks",
    nodes: (2, 4),
    faults: &[
        (Fault::SyncError, 3_000),
        (Fault::FullDisk, 3_000),
        (Fault::ReadOnlyDisk, 4_000),
        (Fault::BitFlip, 3_000),
        (Fault::WipedDisk, 8_000),
        (Fault::PowerCut, 5_000),
    ],
    ..BASE
};

/// Nodes go on from copies of their disks and from backups, all the time and in the middle of other trouble.
pub const COPIES: Scenario = Scenario {
    name: "copies",
    nodes: (2, 4),
    workload: Workload { every_ms: 250, buffered: 200, ..Workload::ALL_KINDS },
    faults: &[
        (Fault::CopiedDisk, 3_000),
        (Fault::RestoredBackup, 3_000),
        (Fault::PowerCut, 4_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::Partition, 5_000),
    ],
    ..BASE
};

/// Clocks that jump and stand still, and counters that are set and deleted all the time.
pub const BAD_CLOCKS: Scenario = Scenario {
    name: "bad_clocks",
    workload: Workload::COUNTING,
    faults: &[(Fault::ClockJump, 1_000), (Fault::FrozenClock, 3_000), (Fault::Partition, 4_000)],
    ..BASE
};

/// Nodes come, leave, and stay away for long.
pub const CHURN: Scenario = Scenario {
    name: "churn",
    nodes: (3, 6),
    faults: &[
        (Fault::Join, 5_000),
        (Fault::Leave, 6_000),
        (Fault::Absence, 5_000),
        (Fault::Pause, 3_000),
        (Fault::Kill, 3_000),
    ],
    ..BASE
};

/// Keys of more than a hundred elements and fields, which are removed by version vector.
pub const LARGE_KEYS: Scenario = Scenario {
    name: "large_keys",
    nodes: (2, 4),
    workload: Workload { every_ms: 500, ..Workload::LARGE_KEYS },
    faults: &[
        (Fault::Partition, 4_000),
        (Fault::SilentPartition, 6_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::BrokenSession, 3_000),
    ],
    ..BASE
};

/// Writes that are computed from what is read, and decisions, while nodes are cut off, killed and away for longer than
/// logs are kept.
pub const COMPUTED: Scenario = Scenario {
    name: "computed",
    nodes: (2, 5),
    workload: Workload::COMPUTING,
    faults: &[
        (Fault::Partition, 3_000),
        (Fault::OneWayPartition, 8_000),
        (Fault::BrokenSession, 3_000),
        (Fault::Kill, 4_000),
        (Fault::PowerCut, 5_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::Join, 8_000),
        (Fault::Absence, 6_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    retention: SHORT_LOGS.retention,
    ..BASE
};

/// Keys that expire, by clocks that jump and stand still, while nodes are cut off, killed, and go on from copies.
pub const EXPIRY: Scenario = Scenario {
    name: "expiry",
    nodes: (2, 5),
    workload: Workload::EXPIRING,
    faults: &[
        (Fault::ClockJump, 2_500),
        (Fault::FrozenClock, 5_000),
        (Fault::Partition, 3_000),
        (Fault::BrokenSession, 4_000),
        (Fault::Pause, 6_000),
        (Fault::Kill, 5_000),
        (Fault::PowerCut, 5_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::CopiedDisk, 8_000),
        (Fault::Join, 10_000),
        (Fault::Absence, 8_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    ..BASE
};

/// The same in memory, while logs are let go of as soon as can be, so that who was away takes over state with
/// deadlines in it.
pub const EXPIRY_OFFLINE: Scenario = Scenario {
    name: "expiry_offline",
    workload: Workload::EXPIRING,
    faults: &[
        (Fault::ClockJump, 4_000),
        (Fault::Partition, 3_000),
        (Fault::Absence, 4_000),
        (Fault::Join, 12_000),
        (Fault::Kill, 6_000),
    ],
    ..MONTHS_OFFLINE
};

/// Everything at once, in two keyspaces.
pub const EVERYTHING: Scenario = Scenario {
    name: "everything",
    nodes: (3, 5),
    workload: Workload { keyspaces: &["notes", "other"], ..Workload::EXPIRING },
    conditions: Conditions {
        delay_us: (100, 100_000),
        loss: 10,
        duplication: 5,
        reordering: 10,
        corruption: 1,
        truncation: 1,
        queue_max: 500,
        ..CALM
    },
    faults: &[
        (Fault::Partition, 6_000),
        (Fault::SilentPartition, 10_000),
        (Fault::OneWayPartition, 10_000),
        (Fault::BrokenSession, 4_000),
        (Fault::SlowPeer, 8_000),
        (Fault::Pause, 8_000),
        (Fault::Kill, 8_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::SyncError, 10_000),
        (Fault::BitFlip, 10_000),
        (Fault::WipedDisk, 20_000),
        (Fault::ClockJump, 5_000),
        (Fault::Join, 10_000),
        (Fault::Leave, 20_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    ..BASE
};

/// Logs that are let go of as soon as can be, so that whoever was away takes over state.
pub const SHORT_LOGS: Scenario = Scenario {
    name: "short_logs",
    nodes: (2, 5),
    faults: &[
        (Fault::Partition, 4_000),
        (Fault::OneWayPartition, 8_000),
        (Fault::BrokenSession, 2_000),
        (Fault::Kill, 3_000),
        (Fault::PowerCut, 4_000),
        (Fault::Join, 8_000),
        (Fault::Leave, 12_000),
        (Fault::Absence, 5_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    retention: Retention { age_ms: 500, bytes: 4_000, peers_ms: 3_000 },
    staged_bytes: 1_000,
    ..BASE
};

/// Nodes that are away for longer than anybody keeps a log, and write meanwhile; small and in memory, so that many
/// seeds can be played.
pub const MONTHS_OFFLINE: Scenario = Scenario {
    name: "months_offline",
    nodes: (2, 4),
    lasts_ms: 12_000,
    faults: &[
        (Fault::Partition, 3_000),
        (Fault::Absence, 4_000),
        (Fault::Join, 12_000),
        (Fault::Kill, 6_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    storage: Storage::Memory,
    retention: Retention { age_ms: 100, bytes: 1_500, peers_ms: 500 },
    staged_bytes: 1_000,
    ..BASE
};

/// Two keyspaces that nodes leave and join again all the time.
pub const KEYSPACES: Scenario = Scenario {
    name: "keyspaces",
    nodes: (2, 5),
    workload: Workload { keyspaces: &["notes", "other"], every_ms: 300, ..Workload::ALL_KINDS },
    faults: &[
        (Fault::LeftKeyspace, 900),
        (Fault::ForsakenKeyspace, 8_000),
        (Fault::Partition, 6_000),
        (Fault::BrokenSession, 2_000),
        (Fault::Kill, 5_000),
        (Fault::PowerCut, 5_000),
        (Fault::PowerCutInWrite, 3_000),
        (Fault::Join, 10_000),
        (Fault::Absence, 12_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    ..BASE
};

/// Replicas are retired, most of which are gone and some of which live, while counters are set and deleted all the
/// time and some who were away take over state.
pub const RETIREMENTS: Scenario = Scenario {
    name: "retirements",
    nodes: (2, 5),
    workload: Workload { every_ms: 250, ..Workload::COUNTING },
    faults: &[
        (Fault::Retirement, 1_500),
        (Fault::WipedDisk, 3_000),
        (Fault::CopiedDisk, 4_000),
        (Fault::Partition, 4_000),
        (Fault::OneWayPartition, 8_000),
        (Fault::Kill, 4_000),
        (Fault::PowerCut, 6_000),
        (Fault::Join, 8_000),
        (Fault::Leave, 8_000),
        (Fault::Absence, 8_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    retention: SHORT_LOGS.retention,
    ..BASE
};

/// One or two members that mean harm, among honest ones that are cut off and killed now and then.
pub const HOSTILE: Scenario = Scenario {
    name: "hostile",
    nodes: (3, 5),
    lasts_ms: 8_000,
    faults: &[
        (Fault::Hostility(Behaviour::Equivocates), 3_000),
        (Fault::Hostility(Behaviour::Replays), 4_000),
        (Fault::Hostility(Behaviour::Floods), 6_000),
        (Fault::Hostility(Behaviour::SendsGarbage), 6_000),
        (Fault::Hostility(Behaviour::Withholds), 4_000),
        (Fault::Partition, 6_000),
        (Fault::Kill, 6_000),
    ],
    converges_ms: AFTER_DAMAGE_MS,
    ..BASE
};

/// Clients of a strong keyspace on anchors and guests, beside those of an eventual one, while nothing goes wrong.
pub const STRONG: Scenario = Scenario {
    name: "strong",
    seeds: 10,
    nodes: (3, 5),
    workload: Workload { every_ms: 1_000, ..Workload::ALL_KINDS },
    strong: Some(StrongWorkload { anchors: 3, clients: 3, every_ms: 100 }),
    ..BASE
};

/// The same while links, processes, disks and clocks fail.
pub const STRONG_FAULTS: Scenario = Scenario {
    name: "strong_faults",
    lasts_ms: 25_000,
    faults: &[
        (Fault::Partition, 5_000),
        (Fault::SilentPartition, 8_000),
        (Fault::OneWayPartition, 8_000),
        (Fault::BrokenSession, 3_000),
        (Fault::Pause, 8_000),
        (Fault::Kill, 6_000),
        (Fault::PowerCut, 6_000),
        (Fault::PowerCutInWrite, 4_000),
        (Fault::PowerCutOfAll, 20_000),
        (Fault::LostAnchor, 5_000),
        (Fault::ClockJump, 5_000),
    ],
    ..STRONG
};

/// All of them.
pub const ALL: [&Scenario; 19] = [
    &PARTITIONS,
    &BAD_LINKS,
    &CRASHES,
    &BAD_DISKS,
    &COPIES,
    &BAD_CLOCKS,
    &CHURN,
    &LARGE_KEYS,
    &SHORT_LOGS,
    &MONTHS_OFFLINE,
    &KEYSPACES,
    &RETIREMENTS,
    &HOSTILE,
    &COMPUTED,
    &EXPIRY,
    &EXPIRY_OFFLINE,
    &EVERYTHING,
    &STRONG,
    &STRONG_FAULTS,
];

/// The scenario of a name.
///
/// # Errors
/// There is none; the error lists those that there are.
pub fn named(name: &str) -> Result<&'static Scenario, String> {
    let all = || ALL.into_iter();
    all().find(|scenario| scenario.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|scenario| scenario.name).collect();
        format!("there is no scenario {name:?}; there are {}", names.join(", "))
    })
}
