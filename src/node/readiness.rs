//! Whether a node would do what is asked of it now, and if not, why.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tidelock_engine::id::PeerId;

use crate::node::Node;
use crate::status::NotReady;

impl Node {
    /// Why reads or writes of some keyspace would be refused; nothing when the node is ready. At most a tenth of a second
    /// old. Being offline, or without peers, is no reason.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let report = self.report();
        let mut reasons = Vec::new();
        if let Some(reason) = &report.failed {
            let reason = reason.clone();
            reasons.push(if self.inner.is_full.load(Ordering::Relaxed) {
                NotReady::DiskFull(reason)
            } else if report.fork.is_some() {
                NotReady::Forked(reason)
            } else {
                NotReady::ReadOnly(reason)
            });
        }
        let loading = report.keyspaces.iter().filter(|keyspace| keyspace.is_partial || keyspace.is_behind);
        reasons.extend(loading.map(|keyspace| NotReady::Loading(keyspace.name.clone())));
        let has_strong = report
            .keyspaces
            .iter()
            .any(|keyspace| keyspace.mode.as_ref().is_some_and(|mode| mode.epoch.is_strong()));
        if has_strong && !report.group.as_ref().is_some_and(|group| group.has_quorum) {
            reasons.push(NotReady::NoQuorum);
        }
        let is_over = self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_over {
            reasons.push(NotReady::Closed);
        }
        reasons
    }

    /// Frames that wait for others which they depend on, and their bytes.
    pub fn parked(&self) -> (usize, usize) {
        self.report().early
    }

    /// The jobs that wait for the event loop.
    pub fn queued_jobs(&self) -> usize {
        self.inner.mailbox.len()
    }

    /// The connections of peers that this node did not admit, by peer.
    pub(crate) fn not_admitted(&self) -> Vec<(PeerId, u64)> {
        let refusals = self.inner.network.refusals().into_iter();
        refusals.map(|refusal| (refusal.peer, refusal.by_us)).collect()
    }

    /// What is free for this node on the disk of its data, in bytes, if the system tells.
    pub fn disk_left(&self) -> Option<u64> {
        let free = rustix::fs::statvfs(&self.inner.config.data).ok()?;
        Some(free.f_bavail.saturating_mul(free.f_frsize))
    }
}
