//! What all requests of the HTTP port share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::config::HttpConfig;
use super::problem::Problem;
use super::prometheus::Prometheus;
use crate::node::Node;
use crate::redis::RedisObserver;

/// The unit in which buffers are counted, in bytes.
const UNIT_BYTES: usize = 1 << 10;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: HttpConfig,
    pub(super) figures: Figures,
    pub(super) prometheus: Option<Prometheus>,
    /// Changes when the server stops.
    pub(super) stopped: watch::Receiver<()>,
    served: OnceLock<Served>,
    /// What bodies and answers may still take, in units.
    buffers: Arc<Semaphore>,
}

/// What the port serves.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) node: Node,
    pub(super) redis: Option<RedisObserver>,
}

/// What the port counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    connections: AtomicUsize,
    accepted: AtomicU64,
    turned_away: AtomicU64,
    malformed: AtomicU64,
    /// The problems that were answered, by code.
    problems: Mutex<BTreeMap<&'static str, u64>>,
}

impl Figures {
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// One connection is more than there may be.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// What a client sent is not HTTP, too much of it, or too slow.
    pub(super) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// The connections that are open, that were accepted and that were turned away.
    pub(super) fn connections(&self) -> (usize, u64, u64) {
        let now = self.connections.load(Ordering::Relaxed);
        (now, self.accepted.load(Ordering::Relaxed), self.turned_away.load(Ordering::Relaxed))
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    pub(super) fn problems(&self) -> BTreeMap<&'static str, u64> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count_problem(&self, code: &'static str) {
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }
}

impl Shared {
    pub(super) fn new(
        config: HttpConfig,
        prometheus: Option<Prometheus>,
        stopped: watch::Receiver<()>,
    ) -> Self {
        let buffers = Arc::new(Semaphore::new(config.buffers_bytes_max.div_ceil(UNIT_BYTES)));
        Self { config, figures: Figures::default(), prometheus, stopped, served: OnceLock::new(), buffers }
    }

    pub(super) fn serve(&self, served: Served) {
        let is_first = self.served.set(served).is_ok();
        assert!(is_first, "one node is served");
    }

    /// The node, if it is open.
    pub(super) fn node(&self) -> Result<&Node, Problem> {
        self.served().map(|served| &served.node)
    }

    /// All that is served, if the node is open.
    pub(super) fn served(&self) -> Result<&Served, Problem> {
        self.served.get().ok_or_else(|| Problem::new("opening", "the node is opening its store"))
    }

    /// Takes room for so many bytes, until the permit is dropped.
    pub(super) fn buffer(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.buffers).try_acquire_many_owned(units);
        taken.map_err(|_| {
            Problem::new("busy", "bodies and answers of all clients take all the room; try again")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_hold_at_their_bound_and_not_one_past_it() {
        let config = HttpConfig {
            body_bytes_max: UNIT_BYTES,
            buffers_bytes_max: 4 * UNIT_BYTES,
            ..HttpConfig::default()
        };
        let shared = Shared::new(config, None, watch::channel(()).1);
        let one = shared.buffer(3 * UNIT_BYTES).expect("there is room");
        let two = shared.buffer(1).expect("there is room");
        assert_eq!(shared.buffer(1).map(drop).map_err(|problem| problem.code), Err("busy"));
        drop(one);
        assert!(shared.buffer(3 * UNIT_BYTES).is_ok());
        assert!(shared.buffer(3 * UNIT_BYTES + 1).is_err());
        drop(two);
    }
}
