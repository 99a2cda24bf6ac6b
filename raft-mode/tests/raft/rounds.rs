//! Stories of what a leader appends together.

use std::time::Duration;

use tidelock_engine::ports::{LogIndex, NotDone, Outcome};

use crate::at_seeds;
use crate::world::World;

impl World {
    fn last(&self, anchor: u64) -> LogIndex {
        self.status(anchor).last.expect("it has a log")
    }
}

/// Twenty anchors' proposals come while one is on its way: they cost the group one round more.
#[test]
fn what_comes_while_a_round_is_under_way_is_appended_together() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let leader = world.elected().await;
        world.run_ms(100).await;
        let before = world.nodes[&leader].appends;
        let outcomes = world.propose_many(leader, 21, Duration::from_secs(2)).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })), "{outcomes:?}");
        assert_eq!(world.nodes[&leader].appends - before, 2);
        world.settle().await;
        world
    });
}

/// No majority answers the leader. What comes then waits a moment for the round that is under way, and no longer; what
/// has less time than that is certainly not done.
#[test]
fn round_that_does_not_end_holds_up_nobody_for_long() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let leader = world.elected().await;
        world.isolate(leader);
        let before = world.last(leader);
        let outcome = world.propose(leader, Vec::new(), Duration::from_millis(20)).await;
        assert_eq!((outcome, world.last(leader).0), (Outcome::Unknown, before.0 + 1));
        let outcome = world.propose(leader, Vec::new(), Duration::from_millis(5)).await;
        assert_eq!((outcome, world.last(leader).0), (Outcome::Not(NotDone::Busy), before.0 + 1));
        let outcomes = world.propose_many(leader, 3, Duration::from_millis(40)).await;
        assert_eq!(outcomes, [const { Outcome::Unknown }; 3]);
        assert_eq!(world.last(leader).0, before.0 + 4);
        world.settle().await;
        world
    });
}
