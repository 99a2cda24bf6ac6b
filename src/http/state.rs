//! What all requests of the HTTP port share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::HttpConfig;
use super::problem::Problem;
use crate::node::Node;

/// The unit in which buffers are counted, in bytes.
const UNIT_BYTES: usize = 1 << 10;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: HttpConfig,
    pub(super) figures: Figures,
    node: OnceLock<Node>,
    /// What bodies and answers may still take, in units.
    buffers: Arc<Semaphore>,
}

/// What the port counts.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) connections: AtomicUsize,
    pub(super) connections_accepted: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    /// The problems that were answered, by code.
    problems: Mutex<BTreeMap<&'static str, u64>>,
}

impl Figures {
    pub(super) fn count_problem(&self, code: &'static str) {
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }
}

impl Shared {
    pub(super) fn new(config: HttpConfig) -> Self {
        let buffers = Arc::new(Semaphore::new(config.buffers_bytes_max.div_ceil(UNIT_BYTES)));
        Self { config, figures: Figures::default(), node: OnceLock::new(), buffers }
    }

    pub(super) fn serve(&self, node: Node) {
        let is_first = self.node.set(node).is_ok();
        assert!(is_first, "one node is served");
    }

    /// The node, if it is open.
    pub(super) fn node(&self) -> Result<&Node, Problem> {
        self.node.get().ok_or_else(|| Problem::new("opening", "the node is opening its store"))
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
        let shared = Shared::new(config);
        let one = shared.buffer(3 * UNIT_BYTES).expect("there is room");
        let two = shared.buffer(1).expect("there is room");
        assert_eq!(shared.buffer(1).map(drop).map_err(|problem| problem.code), Err("busy"));
        drop(one);
        assert!(shared.buffer(3 * UNIT_BYTES).is_ok());
        assert!(shared.buffer(3 * UNIT_BYTES + 1).is_err());
        drop(two);
    }
}
