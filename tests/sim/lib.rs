//! The simulator: whole nodes in one thread, driven by one seed, and judged after every step.
//!
//! A story names its nodes and says what happens; a scenario lets a seed decide. Both run in a [`World`], which
//! has the real engine, the real turns and the real store on a disk, network and clocks that obey it. The
//! [`ledger`] knows what was ever done; the [`specification`] says what must be read; the [`checks`] compare.
//! `tests/README.md` says how to write a story, how to replay a seed, and what broke what.

pub mod bits;
pub mod campaign;
pub mod checks;
pub mod faults;
pub mod ledger;
pub mod matching;
pub mod network;
pub mod node;
pub mod observed;
pub mod random;
pub mod replies;
pub mod scenario;
pub mod scenarios;
pub mod specification;
pub mod store;
pub mod tally;
pub mod trace;
pub mod words;
pub mod workload;
pub mod world;

pub use world::World;
