//! The commands that Redis does not have, and WAIT: their arguments read, their answers made.
//!
//! The names of fields are stable: programs read them. New ones may be added.

use std::time::Duration;

use tidelock_engine::id::{KeyspaceName, ReplicaId};
use tidelock_engine::ports::Conditional;
use tidelock_store::Compacted;

use super::anchors;
use super::backend::Backend;
use super::call::Arguments;
use super::connection;
use super::errors;
use super::reply::Reply;
use super::table::{ALONE, NONE, Other, Run, Spec, spec};
use crate::status::{KeyspaceStatus, PeerState, ReplicaKeyspace, ReplicaState, Retirement, Status};
use tidelock_engine::replica::Order;

/// The commands of this family.
pub(super) const COMMANDS: &[Spec] = &[
    spec(("tide.backup", 1, ALONE, NONE, Run::Other(Other::Backup), "Begins a backup; TIDE.NEXT reads it")),
    spec((
        "tide.compact",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Compact),
        "Gives back what the files do not use, or tells how far that is",
    )),
    spec((
        "tide.connect",
        -2,
        ALONE,
        NONE,
        Run::Other(Other::Connect),
        "Connects to a peer, and waits for it if that is wished",
    )),
    spec((
        "tide.doc",
        -3,
        &["write", "no_multi"],
        (2, 2, 1),
        Run::Other(Other::Document),
        "Reads, edits, saves and merges documents",
    )),
    spec((
        "tide.export",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Export),
        "Begins an export of the keyspace; TIDE.NEXT reads it",
    )),
    spec((
        "tide.fingerprint",
        -1,
        ALONE,
        NONE,
        Run::Other(Other::Fingerprint),
        "Sums up a keyspace in one text",
    )),
    spec((
        "tide.keyspace",
        -3,
        ALONE,
        NONE,
        Run::Other(Other::Keyspace),
        "Joins or leaves a keyspace, or limits what it may hold",
    )),
    spec(("tide.keyspaces", 1, ALONE, NONE, Run::Other(Other::Keyspaces), "Lists the keyspaces of the node")),
    spec(("tide.network", 2, ALONE, NONE, Run::Other(Other::Network), "Goes offline or online")),
    spec((
        "tide.next",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Next),
        "Reads the next piece of a backup, export or snapshot, nothing at its end",
    )),
    spec(("tide.peers", 1, ALONE, NONE, Run::Other(Other::Peers), "Lists the peers")),
    spec((
        "tide.rejoin",
        1,
        ALONE,
        NONE,
        Run::Other(Other::Rejoin),
        "Goes on as another replica after a fork or a retirement",
    )),
    spec(("tide.replicas", 1, ALONE, NONE, Run::Other(Other::Replicas), "Lists who has ever written")),
    spec((
        "tide.retire",
        -2,
        ALONE,
        NONE,
        Run::Other(Other::Retire),
        "Says that a replica will never write again",
    )),
    spec(("tide.status", 1, ALONE, NONE, Run::Other(Other::Status), "Describes the node")),
    spec(("tide.unwatch", 1, ALONE, NONE, Run::Other(Other::Unwatch), "Ends TIDE.WATCH")),
    spec(("tide.watch", -2, ALONE, NONE, Run::Other(Other::Watch), "Pushes changes as they happen")),
];

/// `WAIT peers milliseconds`; 0 milliseconds are for as long as it takes.
pub(super) fn wait(mut arguments: Arguments) -> Result<(usize, Option<Duration>), Reply> {
    let peers = errors::integer(&arguments.take())?;
    let peers = usize::try_from(peers)
        .map_err(|_| errors::constant("ERR value is out of range, must be positive"))?;
    let timeout = errors::integer(&arguments.take())
        .map_err(|_| errors::constant("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| errors::constant("ERR timeout is negative"))?;
    Ok((peers, (timeout > 0).then(|| Duration::from_millis(timeout))))
}

/// `TIDE.NETWORK ONLINE|OFFLINE`.
pub(super) fn is_online(argument: &[u8]) -> Result<bool, Reply> {
    match argument.to_ascii_lowercase().as_slice() {
        b"online" => Ok(true),
        b"offline" => Ok(false),
        _ => Err(errors::constant("ERR the network is ONLINE or OFFLINE")),
    }
}

/// The longest address of a peer, in bytes. A longer one is cut and so no address.
const ADDRESS_BYTES_MAX: usize = 1024;

/// The longest that a client may wait for a peer.
const CONNECT_WAIT_MAX: Duration = Duration::from_mins(1);

/// `TIDE.CONNECT multiaddr`, answered at once, and `TIDE.CONNECT multiaddr milliseconds`, answered with the peer's id when
/// it is connected, or with why it is not.
pub(super) async fn connect<B: Backend>(backend: &B, mut arguments: Arguments) -> Result<Reply, Reply> {
    let address = errors::text(&arguments.take(), ADDRESS_BYTES_MAX);
    let within = match (arguments.next(), arguments.len()) {
        (None, _) => None,
        (Some(milliseconds), 0) => {
            let milliseconds = u64::try_from(errors::integer(&milliseconds)?).unwrap_or(u64::MAX);
            let within =
                Some(Duration::from_millis(milliseconds)).filter(|within| *within <= CONNECT_WAIT_MAX);
            Some(within.ok_or(errors::constant("ERR timeout is out of range"))?)
        }
        _ => return Err(errors::SYNTAX),
    };
    let connected = backend.connect(&address, within).await;
    let connected = connected.map_err(|reason| Reply::error(format!("ERR {reason}")))?;
    Ok(connected.map_or(Reply::OK, |peer| Reply::text(peer.to_string())))
}

/// `TIDE.KEYSPACE JOIN keyspace`, `LEAVE keyspace [FORCE]`, `QUOTA keyspace bytes|NONE|DEFAULT`,
/// `CONDITIONAL keyspace STRONG|LOCAL|DEFAULT`.
pub(super) fn order(arguments: &Arguments) -> Result<(KeyspaceName, Order), Reply> {
    let (name, order) = match arguments.as_slice() {
        [word, name] if is(word, "join") => (name, Order::Join),
        [word, name] if is(word, "leave") => (name, Order::Leave { is_forced: false }),
        [word, name, force] if is(word, "leave") && is(force, "force") => {
            (name, Order::Leave { is_forced: true })
        }
        [word, name, bytes] if is(word, "quota") => {
            let quota = if is(bytes, "none") {
                Some(u64::MAX)
            } else if is(bytes, "default") {
                None
            } else {
                let bytes = errors::integer(bytes)?;
                Some(u64::try_from(bytes).map_err(|_| errors::constant("ERR the quota is negative"))?)
            };
            (name, Order::Quota(quota))
        }
        [word, name, conditional] if is(word, "conditional") => {
            let conditional = match conditional.to_ascii_lowercase().as_slice() {
                b"strong" => Some(Conditional::Strong),
                b"local" => Some(Conditional::Local),
                b"default" => None,
                _ => return Err(errors::SYNTAX),
            };
            (name, Order::Conditional(conditional))
        }
        _ => return Err(errors::SYNTAX),
    };
    Ok((connection::keyspace(name.clone())?, order))
}

/// `TIDE.RETIRE replica [KEYSPACE name] [FORCE]`.
pub(super) fn retire(mut arguments: Arguments) -> Result<(ReplicaId, Option<KeyspaceName>, bool), Reply> {
    let replica = String::from_utf8(arguments.take()).ok().and_then(|text| text.parse().ok());
    let replica = replica.ok_or(errors::constant("ERR a replica is named by 32 hexadecimal digits"))?;
    let (mut name, mut is_forced) = (None, false);
    while let Some(word) = arguments.next() {
        if is(&word, "force") && !is_forced {
            is_forced = true;
        } else if is(&word, "keyspace") && name.is_none() {
            name = Some(connection::keyspace(arguments.next().ok_or(errors::SYNTAX)?)?);
        } else {
            return Err(errors::SYNTAX);
        }
    }
    Ok((replica, name, is_forced))
}

pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

pub(super) fn status(status: Status) -> Reply {
    let log = status.log;
    let counters = status.counters.into_iter().map(|(name, count)| (Reply::text(name), Reply::count(count)));
    fields([
        ("name", status.name.map_or(Reply::Null, Reply::text)),
        ("version", Reply::text(status.version)),
        ("peer", Reply::text(status.peer.to_string())),
        ("replica", Reply::text(status.replica.to_string())),
        ("cluster", Reply::text(status.cluster)),
        ("listen", texts(status.listen)),
        ("online", Reply::Boolean(status.is_online)),
        ("uptime_ms", Reply::count(status.uptime.as_millis())),
        ("peers_connected", Reply::count(status.peers_connected)),
        ("keyspaces", Reply::count(status.keyspaces)),
        ("keys", Reply::count(status.keys)),
        ("frames", Reply::count(status.frames)),
        ("log_bytes", Reply::count(log.bytes)),
        ("log_first", Reply::count(log.first)),
        ("log_age_ms", Reply::count(log.age.as_millis())),
        ("log_kept", log.kept_word().map_or(Reply::Null, Reply::text)),
        ("log_kept_for", log.kept_for().map_or(Reply::Null, |peer| Reply::text(peer.to_string()))),
        ("bytes_on_disk", Reply::count(status.bytes_on_disk)),
        ("counters", Reply::Map(counters.collect())),
        ("not_ready", texts(status.not_ready.iter().map(ToString::to_string).collect())),
        ("warnings", texts(status.warnings)),
        ("anchors", anchors::summary(status.group)),
    ])
}

/// `TIDE.COMPACT`, answered when it is done, and `TIDE.COMPACT PROGRESS`.
pub(super) async fn compact<B: Backend>(backend: &B, arguments: &Arguments) -> Result<Reply, Reply> {
    match arguments.as_slice() {
        [] => match backend.compact().await {
            Ok(files) => Ok(compacted(&files)),
            Err(error) => Err(Reply::error(format!("ERR {error}"))),
        },
        [word] if is(word, "progress") => Ok(backend.compaction().map_or(Reply::Null, Reply::text)),
        _ => Err(errors::SYNTAX),
    }
}

fn compacted(files: &[Compacted]) -> Reply {
    let file = |file: &Compacted| {
        fields([
            ("file", Reply::text(file.file)),
            ("before_bytes", Reply::count(file.before_bytes)),
            ("after_bytes", Reply::count(file.after_bytes)),
        ])
    };
    Reply::Array(files.iter().map(file).collect())
}

pub(super) fn peers(peers: Vec<PeerState>) -> Reply {
    let peer = |peer: PeerState| {
        fields([
            ("peer", peer.peer.map_or(Reply::Null, |peer| Reply::text(peer.to_string()))),
            ("address", Reply::text(peer.address)),
            ("state", Reply::text(peer.state)),
            ("round_trip_us", peer.round_trip.map_or(Reply::Null, |time| Reply::count(time.as_micros()))),
            ("connected_ms", peer.connected_for.map_or(Reply::Null, |time| Reply::count(time.as_millis()))),
            ("queued_bytes", Reply::count(peer.queued_bytes)),
            ("slow", Reply::Boolean(peer.is_slow)),
            ("keyspaces", Reply::count(peer.keyspaces)),
            ("keyspaces_in_sync", Reply::count(peer.keyspaces_in_sync)),
        ])
    };
    Reply::Array(peers.into_iter().map(peer).collect())
}

pub(super) fn keyspaces(keyspaces: Vec<KeyspaceStatus>) -> Reply {
    let keyspace = |keyspace: KeyspaceStatus| {
        fields([
            ("name", Reply::text(keyspace.name)),
            ("mode", Reply::text(keyspace.mode.mode.word())),
            ("epoch", Reply::count(keyspace.mode.mode.epoch.0)),
            ("keys", Reply::count(keyspace.keys)),
            ("authors", Reply::count(keyspace.authors)),
            ("fingerprint", Reply::text(keyspace.fingerprint)),
            ("peers", Reply::count(keyspace.peers)),
            ("bytes", Reply::count(keyspace.bytes)),
            ("quota", keyspace.quota_bytes.map_or(Reply::Null, Reply::count)),
            ("conditional", Reply::text(conditional(keyspace.conditional))),
            ("alone_ms", keyspace.alone.map_or(Reply::Null, |time| Reply::count(time.as_millis()))),
            ("diverged", Reply::Boolean(keyspace.is_diverged)),
            ("revision", Reply::count(keyspace.mode.revision)),
            ("outbox", Reply::count(keyspace.mode.outbox)),
            ("standing", keyspace.mode.standing.map_or(Reply::Null, Reply::text)),
            ("leader", keyspace.mode.leader.map_or(Reply::Null, |leader| Reply::count(leader.0))),
        ])
    };
    Reply::Array(keyspaces.into_iter().map(keyspace).collect())
}

/// Who decides, in the word that TIDE.KEYSPACE takes.
pub(super) fn conditional(conditional: Conditional) -> &'static str {
    match conditional {
        Conditional::Strong => "strong",
        Conditional::Local => "local",
    }
}

pub(super) fn replicas(replicas: Vec<ReplicaState>) -> Reply {
    let retirement = |retired: Retirement| {
        fields([
            ("by", Reply::text(retired.by.to_string())),
            ("unix_ms", Reply::count(retired.unix_ms)),
            ("last", Reply::count(retired.last)),
        ])
    };
    let keyspace = |keyspace: ReplicaKeyspace| {
        fields([
            ("name", Reply::text(keyspace.name)),
            ("seq", Reply::count(keyspace.seq)),
            ("retired", keyspace.retired.map_or(Reply::Null, retirement)),
        ])
    };
    let replica = |replica: ReplicaState| {
        fields([
            ("replica", Reply::text(replica.replica.to_string())),
            ("peer", replica.peer.map_or(Reply::Null, |peer| Reply::text(peer.to_string()))),
            ("own", Reply::Boolean(replica.is_own)),
            ("connected", Reply::Boolean(replica.is_connected)),
            ("seen_ms", replica.seen.map_or(Reply::Null, |ago| Reply::count(ago.as_millis()))),
            ("keyspaces", Reply::Array(replica.keyspaces.into_iter().map(keyspace).collect())),
        ])
    };
    Reply::Array(replicas.into_iter().map(replica).collect())
}

pub(super) fn fields<const N: usize>(fields: [(&'static str, Reply); N]) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

fn texts(list: Vec<String>) -> Reply {
    Reply::Array(list.into_iter().map(Reply::text).collect())
}
