//! Strong keyspaces: one Raft group of the cluster's anchors decides the order of their commands.
//!
//! This crate will drive openraft behind the engine's vocabulary, and no openraft type will leave it.
//! It is empty on purpose: until strong keyspaces exist, nothing here pretends to offer them, and every
//! keyspace is eventual. The design is in DESIGN.md, section 7 (strong mode) and section 8 (the switch).
