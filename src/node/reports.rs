//! What a node says about itself, gathered from replica, store and network.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidelock_engine::id::{KeyspaceId, KeyspaceName, PeerId};
use tidelock_engine::mode::Standing;
use tidelock_engine::ports::Choice;
use tidelock_engine::replica::{LogReport, ModeReport, Repair, Replicate, Report};
use tidelock_engine::request::RequestError;
use tidelock_engine::row::RowId;
use tidelock_transport::{TargetState, TargetStatus};

use crate::cli::escape_line;
use crate::node::{KeyspaceMode, Node, anchors, forks};
use crate::status::{KeyspaceStatus, LogStatus, ModeStatus, PeerState, Stats, Status};

impl Node {
    /// The node as a whole, at most a tenth of a second old.
    pub fn status(&self) -> Status {
        let report = self.report();
        let stats = self.stats();
        Status {
            name: self.inner.config.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            peer: self.peer(),
            replica: self.replica(),
            cluster: self.inner.config.cluster.clone(),
            listen: self.listen_addresses(),
            is_online: self.is_online(),
            uptime: self.inner.started.elapsed(),
            peers_connected: report.links.len(),
            keyspaces: report.keyspaces.len(),
            keys: stats.keys,
            frames: stats.frames,
            log: log_status(&report),
            bytes_on_disk: stats.bytes_on_disk,
            counters: self.counters(&report),
            not_ready: self.not_ready(),
            warnings: self.warnings(&report),
            group: report.group.clone(),
        }
    }

    /// The figures of the store.
    pub fn stats(&self) -> Stats {
        let Ok(reader) = self.reader() else { return Stats::default() };
        let summaries = reader.keyspaces().into_iter().filter_map(|(id, _)| reader.summary(id));
        let keys = summaries.map(|summary| summary.keys).sum();
        let store = reader.stats().unwrap_or_default();
        Stats { keys, frames: store.log_frames, bytes_on_disk: store.log_bytes + store.rows_bytes }
    }

    /// The peers that are connected, then those that are wanted.
    pub fn peers(&self) -> Vec<PeerState> {
        let report = self.report();
        let connected = self.inner.network.peers();
        let is_connected = |peer: Option<PeerId>| connected.iter().any(|it| Some(it.peer) == peer);
        let wanted: Vec<PeerState> = self
            .inner
            .network
            .targets()
            .into_iter()
            .filter(|target| !is_connected(target.peer))
            .map(wanted)
            .collect();
        let state = |peer: &tidelock_transport::PeerStatus| {
            let link = report.links.iter().find(|link| link.peer == peer.peer);
            PeerState {
                peer: Some(peer.peer),
                address: peer.address.clone(),
                state: "connected".to_owned(),
                round_trip: peer.rtt,
                connected_for: Some(peer.connected_for),
                queued_bytes: peer.queued_bytes_out as u64,
                bytes_sent: peer.bytes_sent,
                bytes_received: peer.bytes_received,
                messages_sent: peer.frames_sent,
                messages_received: peer.frames_received,
                is_slow: link.is_some_and(|link| link.is_congested),
                keyspaces: link.map_or(0, |link| link.shared),
                keyspaces_in_sync: link.map_or(0, |link| link.in_sync),
            }
        };
        let refused = report.refusals.iter().map(|(peer, reason)| refused(*peer, reason));
        connected.iter().map(state).chain(wanted).chain(refused).collect()
    }

    /// The keyspaces that the node holds, by name.
    pub fn keyspaces(&self) -> Vec<KeyspaceStatus> {
        let report = self.report();
        let Ok(reader) = self.reader() else { return Vec::new() };
        let status = |(id, name): (_, KeyspaceName)| {
            let summary = reader.summary(id).unwrap_or_default();
            let reported = report.keyspaces.iter().find(|keyspace| keyspace.id == id);
            KeyspaceStatus {
                fingerprint: self.fingerprint(&name),
                mode: mode_status(self.mode(&name), reported.and_then(|keyspace| keyspace.mode.as_ref())),
                name,
                keys: summary.keys,
                authors: summary.authors,
                bytes: summary.bytes,
                quota_bytes: reported.and_then(|keyspace| keyspace.quota_bytes),
                conditional: reported.map(|keyspace| keyspace.conditional).unwrap_or_default(),
                peers: reported.map_or(0, |keyspace| keyspace.links),
                is_loading: reported.is_some_and(|keyspace| keyspace.is_partial || keyspace.is_behind),
                alone: reported.and_then(|keyspace| keyspace.alone_ms).map(Duration::from_millis),
                is_diverged: reported.is_some_and(|keyspace| keyspace.is_diverged),
            }
        };
        let mut keyspaces: Vec<KeyspaceStatus> = reader.keyspaces().into_iter().map(status).collect();
        keyspaces.sort_by(|a, b| a.name.cmp(&b.name));
        keyspaces
    }

    /// A text that is equal on two peers exactly when their heads and rows of a keyspace are.
    pub fn fingerprint(&self, keyspace: &KeyspaceName) -> String {
        let summary = self.reader().ok().and_then(|reader| reader.summary(self.id_of(keyspace)));
        let summary = summary.unwrap_or_default();
        format!("{:032x}-{:032x}", summary.heads_hash, summary.fingerprint.to_bits())
    }

    /// Whether a keyspace may be read and written here.
    pub(super) fn may_use(&self, keyspace: &KeyspaceName) -> Result<(), RequestError> {
        self.may_use_id(keyspace, self.id_of(keyspace))
    }

    /// The same, of a keyspace whose id is known.
    pub(super) fn may_use_id(&self, keyspace: &KeyspaceName, id: KeyspaceId) -> Result<(), RequestError> {
        let chosen = self.reader().ok().and_then(|reader| reader.settings(id).choice);
        let may_use = match (chosen, &self.inner.replicate) {
            (Some(Choice::Join), _) | (None, Replicate::All) => true,
            (Some(Choice::Leave), _) => false,
            (None, Replicate::Only(names)) => names.contains(keyspace),
        };
        if may_use { Ok(()) } else { Err(RequestError::NotReplicated(keyspace.clone())) }
    }

    pub(super) fn report(&self) -> Arc<Report> {
        Arc::clone(&self.inner.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn counters(&self, report: &Report) -> Vec<(String, u64)> {
        let of_engine = report.counters.iter().map(|(name, value)| (name.to_owned(), value));
        of_engine.chain(self.inner.documents.troubles.counters()).collect()
    }

    fn warnings(&self, report: &Report) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(reason) = &report.failed {
            warnings.push(format!("writes are refused: {reason}"));
        }
        warnings.extend(forks::describe(report));
        warnings.extend(report.group.iter().flat_map(anchors::describe));
        if !self.is_online() {
            warnings.push("the node is offline".to_owned());
        }
        for keyspace in &report.keyspaces {
            if keyspace.is_diverged {
                let name = &keyspace.name;
                warnings.push(format!("keyspace {name}: a peer with equal heads has other rows"));
            }
            warnings
                .extend(keyspace.repaired.iter().map(|repaired| describe_repair(&keyspace.name, repaired)));
            if keyspace.is_partial {
                warnings.push(format!("keyspace {} is being fetched from a peer", keyspace.name));
            }
            if keyspace.is_behind {
                let name = &keyspace.name;
                warnings.push(format!(
                    "keyspace {name} waits for a peer that has what this node wrote in it before it left; if that is \
                     lost for good, `tidelock keyspace leave {name} --force` and join it again"
                ));
            }
            if keyspace.links == 0 && !report.links.is_empty() {
                let seconds = keyspace.alone_ms.unwrap_or(0) / 1_000;
                let name = &keyspace.name;
                warnings.push(format!("keyspace {name}: no connected peer replicates it, for {seconds} s"));
            }
        }
        for keyspace in self.keyspaces() {
            let KeyspaceStatus { name, bytes, quota_bytes: Some(quota), .. } = keyspace else { continue };
            if bytes > quota {
                warnings.push(format!(
                    "keyspace {name} holds {bytes} bytes, and its quota is {quota}: peers wrote more"
                ));
            }
        }
        for proof in &report.evidence {
            warnings
                .push(format!("author {} has two histories, from {} on", proof.dot.replica, proof.dot.seq));
        }
        for link in report.links.iter().filter(|link| link.is_congested) {
            warnings.push(format!("peer {} is slow", link.peer));
        }
        for (peer, reason) in &report.refusals {
            warnings.push(format!("peer {peer} was refused: {reason}"));
        }
        for refusal in self.inner.network.refusals() {
            warnings.push(format!("peer {} was refused: {}", refusal.peer, refusal.reason));
        }
        for (counter, what) in TROUBLES {
            let count = report.counters.get(counter);
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        }
        warnings.extend(self.inner.documents.troubles.warnings());
        let ahead = report.counters.get("stamps_ahead");
        if ahead > 0 {
            warnings.push(format!("{ahead} frames came from clocks more than a second ahead"));
        }
        warnings
    }
}

/// Counters that an operator should look at, and what they count.
const TROUBLES: [(&str, &str); 6] = [
    ("rows_unlike_fingerprint", "times rows did not have their own fingerprint; restart the node"),
    ("keyspaces_not_taken_in", "times a keyspace that a peer named was not taken in; see `keyspaces_max`"),
    ("answers_failed", "times the log could not be read for a peer; stop the node and run `tidelock check`"),
    ("frames_not_applied", "frames of peers could not be applied; stop the node and run `tidelock check`"),
    ("frames_early_dropped", "frames came too early and did not fit; they are pulled again"),
    ("refused_frames", "times a peer sent malformed frames or wrong signatures, and was cut off"),
];

/// A row that differed from that of peers with equal heads, and what was done.
fn describe_repair(keyspace: &KeyspaceName, (row, repair): &(RowId, Repair)) -> String {
    let what = match repair {
        Repair::Added => "was missing and was added",
        Repair::Replaced => "held something else and was replaced",
        Repair::Removed => "was only here and was removed",
    };
    let (key, subkey) = (escape_line(&row.key), escape_line(&row.subkey));
    format!("keyspace {keyspace}: a row of {key} {subkey} by {} {what}", row.dot.replica)
}

/// What was published of a mode is newer than the report.
fn mode_status(mode: KeyspaceMode, reported: Option<&ModeReport>) -> ModeStatus {
    let Some(reported) = reported else { return ModeStatus { mode, ..ModeStatus::default() } };
    let standing = reported.standing.map(|standing| match standing {
        Standing::Exact => "exact",
        Standing::Behind { .. } => "behind",
    });
    let ModeReport { leader, revision, outbox, .. } = *reported;
    ModeStatus { mode, standing, leader, revision, outbox }
}

fn log_status(report: &Report) -> LogStatus {
    let LogReport { bytes, first, age_ms, kept, .. } = report.log;
    LogStatus { bytes, first: first.0, age: Duration::from_millis(age_ms), kept }
}

fn refused(peer: PeerId, reason: &str) -> PeerState {
    PeerState { peer: Some(peer), state: format!("refused: {reason}"), ..PeerState::default() }
}

fn wanted(target: TargetStatus) -> PeerState {
    let state = match target.state {
        TargetState::Connected => "connected",
        TargetState::Dialing => "connecting",
        TargetState::Waiting(_) => "waiting",
        TargetState::Offline => "offline",
        _ => "unusable",
    };
    let state = match target.last_error {
        Some(error) => format!("{state}: {error}"),
        None => state.to_owned(),
    };
    let address = target.target.addresses.join(" ");
    PeerState { peer: target.peer, address, state, ..PeerState::default() }
}
