//! What tests of single replicas share: stations whose messages are carried by hand, forged frames, names.
//!
//! Whole nodes in a network with disks and clocks that fail are in the simulator, which the engine knows
//! nothing of.

pub(crate) mod by_hand;
pub(crate) mod forge;
pub(crate) mod group;
pub(crate) mod random;
pub(crate) mod replies;
pub(crate) mod words;

use std::fmt::Debug;

use tidelock_engine::crdt::DotStore;
use tidelock_engine::id::{ClusterId, KeyspaceId, KeyspaceName};

/// The start of time, in Unix milliseconds.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// The keyspace that most stories are about.
pub(crate) const NOTES: &str = "notes";

const CLUSTER: &str = "world";

/// Members, keys and fingerprint are what the rows say.
pub(crate) fn check_derived(rows: &DotStore) {
    let computed = DotStore::from_rows(rows.vector().clone(), rows.rows().clone());
    assert_eq!(*rows, computed, "derived figures differ from the rows");
    assert_eq!(rows.order_complaint(), None);
}

pub(crate) fn keyspace_id(name: &str) -> KeyspaceId {
    KeyspaceId::of(cluster(), &named(name))
}

pub(crate) fn cluster() -> ClusterId {
    ClusterId::named(CLUSTER)
}

pub(crate) fn named(name: &str) -> KeyspaceName {
    name.parse().expect("stories use valid names")
}

/// What went wrong with an action of a request.
pub(crate) fn refusal<T: Debug>(reply: Result<T, impl std::error::Error>) -> String {
    reply.expect_err("it is refused").to_string()
}
