//! Raft in a simulated world: stories of elections, crashes, memberships and clients, each at two seeds, and proofs
//! that the checks find what they are for. `SEED` plays one seed, `SEEDS` more of them, `TELL=1` tells the history.

mod clients;
mod crashes;
mod elections;
mod facts;
mod history;
/// The search is the simulator's.
#[path = "../../../tests/sim/linearizable.rs"]
pub mod linearizable;
mod machine;
mod membership;
mod network;
mod node;
mod outcomes;
mod rounds;
mod stories;
mod threads;
mod world;

use world::{World, play};

/// Plays a story at the seeds that were asked for.
fn at_seeds<F: Future<Output = World>>(story: impl Fn(World) -> F) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        play(seed, &story);
        return;
    }
    let first = number("FIRST_SEED").unwrap_or(1);
    for seed in first..first + number("SEEDS").unwrap_or(2) {
        play(seed, &story);
    }
}
