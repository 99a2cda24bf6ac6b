//! The simulator: whole nodes in one thread, driven by one seed, and judged after every step.
//!
//! A story names its nodes and says what happens; a scenario lets a seed decide. Both run in a [`World`], which
//! has the real engine, the real turns and the real store on a disk, network and clocks that obey it. The
//! [`ledger`] knows what was ever done; the [`specification`] says what must be read; the [`checks`] compare.
//! `tests/README.md` says how to write a story, how to replay a seed, and what broke what.

pub mod answers;
pub mod bits;
pub mod bounds;
pub mod campaign;
pub mod checks;
pub mod faults;
pub mod group;
pub mod hostile;
pub mod hunt;
pub mod kept_seeds;
pub mod ledger;
pub mod linearizable;
pub mod matching;
pub mod network;
pub mod node;
pub mod observed;
pub mod paths;
pub mod power_cuts;
pub mod random;
pub mod replies;
pub mod scale;
pub mod scenario;
pub mod scenarios;
pub mod sight;
pub mod specification;
pub mod store;
pub mod strong;
pub mod summary;
pub mod tally;
pub mod trace;
pub mod verdict;
pub mod words;
pub mod workload;
pub mod world;

pub use world::World;
