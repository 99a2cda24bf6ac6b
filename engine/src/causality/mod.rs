//! What happened before what: dots, version vectors, heads of author chains, and the hybrid logical clock.
//!
//! Causality decides every merge; the clock only breaks ties between writes that are truly concurrent.

mod dot;
mod heads;
mod hlc;
mod version_vector;

pub use dot::Dot;
pub use heads::{Head, Heads};
pub use hlc::{CLOCK_AHEAD_MAX, CLOCK_RESTART_AFTER, Clock, Hlc, Observed, Stamp};
pub use version_vector::VersionVector;
