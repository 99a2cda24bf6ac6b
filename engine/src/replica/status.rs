//! What a replica reports of itself, for status and metrics.

use crate::gossip::Repair;
use crate::id::{Epoch, KeyspaceId, KeyspaceName, PeerId, ReplicaId};
use crate::mode::Standing;
use crate::ports::{AnchorId, Conditional, Fork, SessionId};
use crate::replica::{Counters, Evidence, GroupReport, LogReport, Replica};
use crate::row::RowId;

/// A replica's report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The keyspaces, in order of their ids.
    pub keyspaces: Vec<KeyspaceReport>,
    /// The sessions that were greeted.
    pub links: Vec<LinkReport>,
    /// What happened since the start.
    pub counters: Counters,
    /// Proofs that an author has two histories.
    pub evidence: Vec<Evidence>,
    /// Peers that did not get past the hello since they were last greeted, and why.
    pub refusals: Vec<(PeerId, String)>,
    /// Frames that wait for others, and their bytes.
    pub early: (usize, usize),
    /// Why the replica takes no more writes, if it does not.
    pub failed: Option<String>,
    /// The log, and what keeps it.
    pub log: LogReport,
    /// Proof that this replica itself has two histories; it is why it takes no writes, if `failed` is set with it.
    pub fork: Option<Fork>,
    /// The peers that are connected, or were since the start and not too long ago, and since how many milliseconds
    /// each is not.
    pub seen: Vec<(PeerId, u64)>,
    /// The group of anchors, if there is one as far as is known.
    pub group: Option<GroupReport>,
}

/// A keyspace.
#[derive(Clone, Debug)]
pub struct KeyspaceReport {
    /// Its id.
    pub id: KeyspaceId,
    /// Its name.
    pub name: KeyspaceName,
    /// The replicas that wrote in it.
    pub authors: usize,
    /// The sessions that share it.
    pub links: usize,
    /// What its rows may take on this node, in bytes, if that is limited.
    pub quota_bytes: Option<u64>,
    /// What is done with decisions.
    pub conditional: Conditional,
    /// For how long no connected peer has replicated it, in milliseconds, if none does.
    pub alone_ms: Option<u64>,
    /// A text that is equal on two peers exactly when their heads and rows are.
    pub fingerprint: String,
    /// Whether a peer with equal heads has other rows, and the divergence is not repaired yet.
    pub is_diverged: bool,
    /// The rows that were repaired last because peers with equal heads had others, and how.
    pub repaired: Vec<(RowId, Repair)>,
    /// Whether its state is being taken over from a peer, and is not to be read before it is complete.
    pub is_partial: bool,
    /// Whether that waits for a peer that has what this node wrote before it left the keyspace.
    pub is_behind: bool,
    /// Its mode, if it is or was strong, or is about to be.
    pub mode: Option<ModeReport>,
}

/// The mode of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeReport {
    /// The epoch: even is eventual, odd is strong.
    pub epoch: Epoch,
    /// Whether the epoch is about to end, and nothing is written here until it has.
    pub is_fenced: bool,
    /// Where this anchor stands, if it is one and the epoch is strong.
    pub standing: Option<Standing>,
    /// Who leads the anchors, as far as this one knows.
    pub leader: Option<AnchorId>,
    /// The number of the last strong operation here.
    pub revision: u64,
    /// The operations here that were written in an epoch that is over, and that no epoch has taken in.
    pub outbox: u64,
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct LinkReport {
    /// Which.
    pub session: SessionId,
    /// With whom.
    pub peer: PeerId,
    /// Whose operations it makes.
    pub replica: ReplicaId,
    /// Whether its queue is full.
    pub is_congested: bool,
    /// The keyspaces that both replicate.
    pub shared: usize,
    /// Those in which the peer's last summary named our heads.
    pub in_sync: usize,
    /// Those in which fresh frames are pushed on it.
    pub eager: usize,
}

impl Replica {
    fn mode_report(&self, id: KeyspaceId) -> Option<ModeReport> {
        let mode = self.mode(id)?;
        Some(ModeReport {
            epoch: mode.epoch(),
            is_fenced: mode.is_fenced(),
            standing: mode.standing(),
            leader: self.strong.status.leader,
            revision: self.revision(id),
            outbox: self.outbox_operations(id),
        })
    }

    /// The state after the last commit.
    pub fn report(&self) -> Report {
        let keyspace = |(id, keyspace): (KeyspaceId, &super::Keyspace)| {
            let (heads, fingerprint) = keyspace.last_committed().unwrap_or_default();
            KeyspaceReport {
                id,
                name: keyspace.name.clone(),
                authors: keyspace.heads.len(),
                links: self.links.values().filter(|link| link.shares(id)).count(),
                quota_bytes: self.quota(id),
                conditional: self.conditional(id),
                alone_ms: keyspace.alone_since_ms.map(|since| self.mono_ms.saturating_sub(since)),
                fingerprint: format!("{heads:032x}-{:032x}", fingerprint.to_bits()),
                is_diverged: keyspace.divergence.is_found(),
                repaired: keyspace.divergence.repaired.iter().cloned().collect(),
                is_partial: keyspace.is_partial,
                mode: self.mode_report(id),
                is_behind: self.orders.settings(id).is_behind(self.id(), keyspace.heads.seq(self.id())),
            }
        };
        let links = self.links.iter().filter_map(|(session, link)| Some((session, link, link.card?))).map(
            |(session, link, card)| LinkReport {
                session: *session,
                peer: link.peer,
                replica: card.replica(),
                is_congested: link.is_congested,
                shared: link.shared.len(),
                in_sync: link.shared.values().filter(|shared| shared.is_in_sync).count(),
                eager: link.shared.values().filter(|shared| shared.is_eager).count(),
            },
        );
        Report {
            keyspaces: self.keyspaces().map(keyspace).collect(),
            links: links.collect(),
            counters: self.counters.clone(),
            evidence: self.evidence.clone(),
            refusals: self.refusals.iter().map(|(peer, reason)| (*peer, reason.clone())).collect(),
            early: self.early.size(),
            failed: self.refusal(),
            log: self.looks.report,
            fork: self.fork,
            seen: self.holdings.seen(self.mono_ms),
            group: self.group_report(),
        }
    }
}
