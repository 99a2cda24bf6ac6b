//! Stories of processes that end and of disks that lose what was not synced. Numbers as in the report on Raft,
//! section 4.2.

use std::time::Duration;

use crate::at_seeds;
use crate::world::World;

/// D01, D02, D03: power cuts between any two syncs, of one anchor after the other.
#[test]
fn crashes_between_write_and_sync() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        world.work(6, 300).await;
        for _ in 0..10 {
            let anchor = 1 + world.below(3);
            world.crash(anchor);
            let ms = 20 + world.below(1500);
            world.run_ms(ms).await;
            world.start(anchor);
            let ms = 20 + world.below(800);
            world.run_ms(ms).await;
        }
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// D08: a sync of the leader fails. It stops, acknowledges nothing more, and the others go on; started again it is
/// brought up to date.
#[test]
fn failed_sync_stops_the_group() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let leader = world.elected().await;
        world.disk(leader).fails = true;
        world.until("it stops", Duration::from_secs(2), |world| world.nodes[&leader].stopped.is_some()).await;
        world
            .until("another leads", Duration::from_secs(5), |world| world.leader_beside(leader).is_some())
            .await;
        world.run_ms(500).await;
        world.crash(leader);
        world.start(leader);
        world.settle().await;
        world.did(10, 3);
        world
    });
}

/// D11, D12: a slow disk of the leader, then of a majority. Acknowledgements come late, and are right.
#[test]
fn slow_disks() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 300).await;
        let leader = world.elected().await;
        world.disk(leader).sync_ms = (40, 120);
        world.run_ms(3000).await;
        world.disk(1 + leader % 3).sync_ms = (40, 120);
        world.run_ms(3000).await;
        (1..=3).for_each(|anchor| world.disk(anchor).sync_ms = (1, 4));
        world.settle().await;
        world.did(10, 3);
        world
    });
}

/// D14: the power of all anchors goes at once, again and again.
#[test]
fn power_loss_of_the_whole_cluster() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        world.work(4, 700).await;
        for _ in 0..4 {
            (1..=3).for_each(|anchor| world.crash(anchor));
            world.run_ms(50).await;
            (1..=3).for_each(|anchor| world.start(anchor));
            let ms = 1500 + world.below(500);
            world.run_ms(ms).await;
        }
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// D15: a follower starts and is killed all the time; the others do not mind.
#[test]
fn follower_in_a_restart_loop() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let leader = world.elected().await;
        let (follower, term) = (1 + leader % 3, world.status(leader).term);
        for _ in 0..15 {
            world.kill(follower);
            world.run_ms(30).await;
            world.start(follower);
            let ms = 20 + world.below(150);
            world.run_ms(ms).await;
        }
        assert_eq!((world.leader(), world.status(leader).term), (Some(leader), term));
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// Answers to requests of a life arrive in the next one, which has requests of the same numbers. They are late, and are
/// not taken for answers to those.
#[test]
fn answers_from_before_a_restart() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.clients.retries_unknown = true;
        world.settings.election_min = Duration::from_secs(1);
        world.settings.election_max = Duration::from_millis(1500);
        (1..=3).for_each(|anchor| world.kill(anchor));
        (1..=3).for_each(|anchor| world.start(anchor));
        world.elected().await;
        (world.network.doubling, world.network.delay_ms) = (60, (1, 40));
        world.work(6, 300).await;
        for _ in 0..25 {
            let anchor = 1 + world.below(3);
            world.crash(anchor);
            world.run_ms(1).await;
            world.start(anchor);
            let ms = 20 + world.below(700);
            world.run_ms(ms).await;
        }
        world.settle().await;
        assert!(world.network.doubled > 100);
        world
    });
}

/// Crashes, cuts, losses and slow disks at once.
#[test]
fn everything_at_once() {
    at_seeds(everything);
}

/// The same at many seeds: `SEEDS=200 cargo test -p tidelock-raft-mode --test raft -- --ignored`.
#[test]
#[ignore = "long"]
fn everything_at_once_at_many_seeds() {
    at_seeds(everything);
}

pub(crate) async fn everything(world: World) -> World {
    let mut world = world.founded(3).await;
    world.clients.retries_unknown = true;
    (world.network.doubling, world.network.loss) = (5, 3);
    world.work(6, 500).await;
    for _ in 0..12 {
        let (anchor, what) = (1 + world.below(3), world.below(6));
        match what {
            0 => world.isolate(anchor),
            1 => world.cut_one_way(anchor, 1 + anchor % 3),
            2 => world.heal(),
            3 => world.disk(anchor).sync_ms = (1, 60),
            _ if world.running().contains(&anchor) && what == 4 => world.crash(anchor),
            _ if world.running().contains(&anchor) => world.kill(anchor),
            _ => world.start(anchor),
        }
        let ms = 100 + world.below(900);
        world.run_ms(ms).await;
    }
    (1..=3).for_each(|anchor| world.disk(anchor).sync_ms = (1, 4));
    world.settle().await;
    world.did(8, 2);
    world
}
