//! The store from outside: against a model, under power cuts, with turned bits and full disks.

mod authors;
mod backup;
mod buffered;
mod compaction;
mod contract;
mod crash;
mod faults;
mod orders;
mod raft;
mod threads;
mod truncation;
mod world;
