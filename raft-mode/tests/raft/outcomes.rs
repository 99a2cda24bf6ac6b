//! Stories of what clients are told, and proofs that the checks find what they are for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tidelock_engine::ports::{AnchorId, COMMAND_BYTES_MAX, Change, NotDone, Outcome};

use crate::world::{World, play};
use crate::{at_seeds, crashes};

/// C03: an operation whose outcome is unknown is proposed again under its id, and is done once.
#[test]
fn unknown_outcome_is_tried_again_and_done_once() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        world.work(6, 300).await;
        for _ in 0..5 {
            let leader = world.elected().await;
            world.isolate(leader);
            world.run_ms(1800).await;
            world.heal();
            world.run_ms(500).await;
        }
        world.settle().await;
        assert!(world.clients.retried > 0);
        world.did(10, 3);
        world
    });
}

/// What is asked of a follower when the leader's process is gone goes to the next leader, and is not left unknown.
#[test]
fn follower_that_is_not_connected_with_the_leader_waits_for_the_next() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let leader = world.elected().await;
        world.kill(leader);
        let outcome = world.propose(1 + leader % 3, Vec::new(), Duration::from_secs(4)).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        world.settle().await;
        world
    });
}

/// C06: an anchor is taken for the leader by one that has heard of no other. It says that it is not, and sends nothing on:
/// proposals go one way once, and in no circle.
#[test]
fn proposal_is_sent_on_once_at_most() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let old = world.elected().await;
        let (new, other) = (1 + old % 3, 1 + (old + 1) % 3);
        // Leading is handed over to an anchor that has answered lately only.
        world.run_ms(200).await;
        world.isolate(other);
        assert_eq!(world.administer(old, Change::Transfer(AnchorId(new))).await, Some(Ok(())));
        world.until("it leads", Duration::from_secs(2), |world| world.leader() == Some(new)).await;
        world.run_ms(500).await;
        world.heal();
        world.cut(new, other);
        let before = (world.counts(old).forwarded, world.counts(other).forwarded);
        let outcome = world.propose(other, Vec::new(), Duration::from_millis(300)).await;
        // If the last try was on its way when its time was over, it is unknown.
        assert!(matches!(outcome, Outcome::Not(_) | Outcome::Unknown), "{outcome:?}");
        assert_eq!(world.counts(old).forwarded, before.0);
        assert!(world.counts(other).forwarded > before.1, "it knew nobody to send it to");
        world.settle().await;
        world
    });
}

/// C07, C08: while there is no leader, requests wait; they are done or refused within their time.
#[test]
fn reads_and_writes_during_an_election() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let leader = world.elected().await;
        let other = 1 + leader % 3;
        world.crash(leader);
        let index = world.barrier(other, Duration::from_secs(4)).await;
        assert!(index.is_ok(), "{index:?}");
        world.isolate(other);
        assert_eq!(world.barrier(other, Duration::from_millis(300)).await, Err(NotDone::NoLeader));
        world.heal();
        world.settle().await;
        world
    });
}

/// C09: the leader's answers to a follower are lost for a while. Its reads wait, and are never old.
#[test]
fn follower_reads_when_answers_are_lost() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.network.loss = 20;
        world.work(6, 4000).await;
        world.settle().await;
        world.did(10, 3);
        world
    });
}

/// C12, C13: what is too large, and what is too much, is refused at once and certainly not done.
#[test]
fn too_large_and_too_many() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        let bytes = COMMAND_BYTES_MAX + 1;
        let outcome = world.propose(1, vec![0; bytes], Duration::from_secs(1)).await;
        assert_eq!(outcome, Outcome::Not(NotDone::TooLarge { bytes }));
        (1..=3).for_each(|anchor| world.isolate(anchor));
        let outcomes = world.propose_many(1, 5000, Duration::from_millis(300)).await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Outcome::Not(NotDone::Busy)).count();
        assert!(refused > 0 && refused < 5000, "{refused}");
        world.settle().await;
        world
    });
}

/// H2: one seed is one history.
#[test]
fn same_seed_same_history() {
    let traces: Vec<u64> = [7, 7, 8].into_iter().map(|seed| play(seed, crashes::everything)).collect();
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[1], traces[2]);
}

/// Plays a broken world at some seeds and says what was found, at the first seed that found something.
fn found<F: Future<Output = World>>(story: impl Fn(World) -> F) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let found = (1..=30).find_map(|seed| {
        let failure = catch_unwind(AssertUnwindSafe(|| play(seed, &story))).err()?;
        failure.downcast_ref::<String>().and_then(|text| text.lines().next()).map(str::to_owned)
    });
    std::panic::set_hook(hook);
    found.unwrap_or_else(|| "nothing".to_owned())
}

/// H3, D20: an anchor that reports what it has not synced is found out by the first acknowledgement.
#[test]
fn report_before_the_sync_is_found() {
    let found = found(async |world| {
        let mut world = world.founded(3).await;
        (1..=3).for_each(|anchor| world.disk(anchor).lies = true);
        world.work(4, 500).await;
        world
    });
    assert!(found.contains("durable on a majority"), "{found}");
}

/// H3, D04: an anchor that forgets its vote in a crash votes twice in a term.
#[test]
fn lost_vote_is_found() {
    let found = found(async |world| {
        let mut world = world.founded(3).await;
        let first = world.elected().await;
        world.crash(first);
        world.until("another leads", Duration::from_secs(5), |world| world.leader().is_some()).await;
        let second = world.elected().await;
        world.isolate(second);
        let voter = 6 - first - second;
        world.crash(voter);
        world.disk(voter).log.forget_vote();
        world.start(voter);
        world.start(first);
        world.run_ms(6000).await;
        world
    });
    assert!(found.contains("(I1)") || found.contains("(I10)"), "{found}");
}

/// H3, C5: reads that do not wait for a barrier are old, and the history is not linearizable.
#[test]
fn stale_read_is_found() {
    let found = found(async |mut world| {
        world.reads_stale = true;
        let mut world = world.founded(3).await;
        world.work(6, 1000).await;
        let leader = world.elected().await;
        world.isolate(1 + leader % 3);
        world.run_ms(1500).await;
        world.settle().await;
        world
    });
    assert!(found.contains("not linearizable"), "{found}");
}

/// H3: operations that are done as often as they are proposed.
#[test]
fn missing_deduplication_is_found() {
    let found = found(async |world| {
        let mut world = world.founded(3).await;
        for node in world.nodes.values_mut() {
            node.machine.forgets_outcomes = true;
            node.disk.durable.forgets_outcomes = true;
        }
        world.clients.retries_unknown = true;
        world.work(6, 300).await;
        for _ in 0..6 {
            let leader = world.elected().await;
            world.isolate(leader);
            world.run_ms(1800).await;
            world.heal();
            world.run_ms(500).await;
        }
        world.settle().await;
        world
    });
    assert!(found.contains("not linearizable") || found.contains("(C2)"), "{found}");
}
