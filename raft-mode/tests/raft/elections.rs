//! Stories of leaders, and of networks that keep them apart. Numbers as in the report on Raft, section 4.2.

use std::time::Duration;

use tidelock_engine::ports::Role;
use tidelock_raft_mode::Refused;

use crate::at_seeds;

/// E01: three anchors elect a leader once, and clients at each of them write and read.
#[test]
fn cold_start_of_three() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 2000).await;
        world.settle().await;
        world.did(60, 20);
        assert_eq!(world.facts.elections, 1);
        world
    });
}

/// E02: the same with five.
#[test]
fn cold_start_of_five() {
    at_seeds(async |world| {
        let mut world = world.founded(5).await;
        world.work(4, 1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E03: an anchor alone leads itself, also after a crash.
#[test]
fn single_voter() {
    at_seeds(async |world| {
        let mut world = world.founded(1).await;
        world.work(4, 1000).await;
        world.crash(1);
        world.run_ms(100).await;
        world.start(1);
        world.run_ms(2000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E04: the leader is killed. Another one is elected within two seconds, and nothing acknowledged is lost.
#[test]
fn leader_crash() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 1000).await;
        let leader = world.elected().await;
        world.crash(leader);
        world.until("another leader", Duration::from_secs(2), |world| world.leader().is_some()).await;
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        assert!(world.facts.elections >= 2);
        world
    });
}

/// E05: a leader that is cut off acknowledges nothing more and serves no read, while the others go on.
#[test]
fn leader_isolated() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let old = world.elected().await;
        world.isolate(old);
        world.until("another leader", Duration::from_secs(5), |world| world.leader() != Some(old)).await;
        let refused = world.barrier(old, Duration::from_millis(500)).await;
        assert!(refused.is_err(), "a read without a majority: {refused:?}");
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E07: a follower that was cut off comes back without a higher term, and the leader leads on.
#[test]
fn rejoining_follower_does_not_raise_the_term() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(2, 500).await;
        let leader = world.elected().await;
        let follower = 1 + leader % 3;
        let term = world.status(leader).term;
        world.isolate(follower);
        world.run_ms(5000).await;
        assert_eq!(world.status(follower).term, term, "it raised its term alone");
        world.heal();
        world.run_ms(3000).await;
        assert_eq!((world.leader(), world.status(leader).term), (Some(leader), term));
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E09: the leader hears nobody any more, but all hear it: it must not stay leader for ever.
#[test]
fn leader_that_cannot_hear() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let old = world.elected().await;
        let others: Vec<u64> = (1..=3).filter(|it| *it != old).collect();
        for other in &others {
            world.cut_one_way(*other, old);
        }
        world.run_ms(6000).await;
        let before = world.clients.done.len();
        world.heal();
        world.run_ms(4000).await;
        assert!(world.clients.done.len() > before, "nobody leads after the cut has healed");
        world.settle().await;
        world
    });
}

/// E10: the leader cannot send any more, but hears all. Another one is elected.
#[test]
fn leader_that_cannot_send() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let old = world.elected().await;
        for other in (1..=3).filter(|it| *it != old) {
            world.cut_one_way(old, other);
        }
        world.until("another leader", Duration::from_secs(6), |world| world.leader() != Some(old)).await;
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E11: one follower's messages do not reach the leader. The other two are a majority.
#[test]
fn follower_that_the_leader_cannot_hear() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let leader = world.elected().await;
        world.cut_one_way(1 + leader % 3, leader);
        let before = world.clients.done.len();
        world.run_ms(6000).await;
        assert!(world.clients.done.len() > before + 5);
        world.settle().await;
        world
    });
}

/// E12: a chain: the ends do not see each other. The one in the middle sees a majority, so somebody leads.
#[test]
fn chain_of_three() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        world.cut(1, 3);
        world.run_ms(3000).await;
        let before = world.clients.done.len();
        world.run_ms(5000).await;
        assert!(world.clients.done.len() > before, "the chain does not go on");
        world.settle().await;
        world
    });
}

/// E13: only the links of the leader are cut. The others elect one among them.
#[test]
fn star_without_the_leaders_links() {
    at_seeds(async |world| {
        let mut world = world.founded(5).await;
        world.work(4, 500).await;
        let old = world.elected().await;
        world.isolate(old);
        world.until("another leader", Duration::from_secs(5), |world| world.leader() != Some(old)).await;
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E15: four voters split evenly: nobody goes on, and nothing is acknowledged by half of them.
#[test]
fn even_split_of_four() {
    at_seeds(async |world| {
        let mut world = world.founded(4).await;
        world.work(4, 500).await;
        for (a, b) in [(1, 3), (1, 4), (2, 3), (2, 4)] {
            world.cut(a, b);
        }
        world.run_ms(2500).await;
        let before = world.clients.done.len();
        world.run_ms(3000).await;
        assert_eq!(world.clients.done.len(), before, "half of the voters acknowledged");
        world.settle().await;
        world
    });
}

/// E16, E17: links break and heal all the time, at one anchor after the other.
#[test]
fn flapping_and_rolling_partitions() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        world.work(4, 200).await;
        for round in 0..8 {
            world.isolate(1 + round % 3);
            let ms = 50 + world.below(900);
            world.run_ms(ms).await;
            world.heal();
            let ms = 50 + world.below(900);
            world.run_ms(ms).await;
        }
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// E18: nobody sees anybody for a while; then all go on.
#[test]
fn all_partitioned_then_healed() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        (1..=3).for_each(|anchor| world.isolate(anchor));
        world.run_ms(4000).await;
        let refused = world.propose(1, Vec::new(), Duration::from_millis(300)).await;
        assert!(!matches!(refused, tidelock_engine::ports::Outcome::Done { .. }));
        world.settle().await;
        world.did(8, 2);
        world
    });
}

/// E19, E21: messages are doubled, overtake each other and get lost.
#[test]
fn doubled_reordered_and_lost_messages() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        (world.network.doubling, world.network.loss, world.network.delay_ms) = (30, 5, (1, 20));
        world.work(4, 5000).await;
        world.settle().await;
        world.did(25, 8);
        assert!(world.network.doubled > 50 && world.network.dropped > 20);
        world
    });
}

/// E22: messages are taken and never answered: requests end by time, and a healed network goes on.
#[test]
fn accepted_but_silent() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let leader = world.elected().await;
        world.network.loss = 100;
        world.run_ms(3000).await;
        assert_ne!(world.status(leader).role, Role::Candidate);
        world.settle().await;
        world.did(8, 2);
        world
    });
}

/// E24: who is no member, or says to be another one, is refused and counted, and nothing changes.
#[test]
fn strangers_and_false_names_are_refused() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(2, 500).await;
        let term = world.status(1).term;
        let heard = world.overheard(1);
        assert!(heard.len() > 10);
        for bytes in &heard {
            world.say(9, 1, bytes);
            world.say(1, 1, bytes);
        }
        for bytes in [&b""[..], &[1], &[2, 1, 2, 3], &[1, 255, 255, 255, 255]] {
            world.say(2, 1, bytes);
        }
        world.run_ms(500).await;
        let counts = world.node(1).counts();
        assert!(counts.refused(Refused::NotMember) >= heard.len() as u64, "{counts:?}");
        assert_eq!(counts.refused(Refused::Malformed), 4);
        assert_eq!(world.status(1).term, term);
        world.settle().await;
        world
    });
}
