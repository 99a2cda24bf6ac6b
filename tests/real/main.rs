//! Real processes, driven through their Redis and HTTP ports and their command line. One program, for each would hold a
//! copy of the product.

mod automerge_javascript;
mod clients;
mod cluster;
mod copies;
mod daemon;
mod disks;
mod document_port;
mod documents;
mod expiry;
mod http;
mod http_api;
mod keyspaces;
// It stands alone: the simulator judges by the same.
#[expect(unreachable_pub, reason = "it is public where it belongs")]
#[path = "../sim/linearizable.rs"]
mod linearizable;
mod metrics;
mod packaging;
mod processes;
mod pubsub;
mod redis_port;
mod rust_client;
mod side_by_side;
mod snapshots;
mod snippets;
mod strong;
mod strong_anchors;
mod strong_watch;
mod terminal;
mod tracking;
mod watch;
