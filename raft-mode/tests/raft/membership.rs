//! Stories of who is in the group and who leads it. Numbers as in the report on Raft, section 4.2.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelock_engine::ports::{AnchorId, Change, Consensus, NotDone};
use tidelock_raft_mode::Refused;

use crate::at_seeds;
use crate::network::Message;
use crate::world::{World, member};

fn voters(world: &World, anchor: u64) -> Vec<BTreeSet<AnchorId>> {
    world.status(anchor).membership.voters.clone()
}

/// M01, M02: a learner is brought up to date under load, and one that is not cannot be made a voter.
#[test]
fn learner_is_caught_up_and_promoted() {
    at_seeds(async |world| {
        let mut world = world.founded(1).await;
        world.work(4, 500).await;
        world.add_learner(2).await;
        let even = world.administer(1, Change::SetVoters([1, 2].map(AnchorId).into())).await;
        assert!(matches!(even, Some(Err(NotDone::Refused { .. }))), "two voters: {even:?}");
        let absent = world.administer(1, Change::AddLearner(AnchorId(3), member(3))).await;
        assert_eq!(absent, Some(Ok(())), "a learner may be away");
        let behind = world.administer(1, Change::SetVoters([1, 2, 3].map(AnchorId).into())).await;
        assert!(matches!(behind, Some(Err(NotDone::Refused { .. }))), "a voter that is away: {behind:?}");
        world.add_learner(3).await;
        world.set_voters(&[1, 2, 3]).await;
        world.crash(1);
        world.until("another leads", Duration::from_secs(5), |world| world.leader().is_some()).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// M04: the leader is removed by its own hand. Another one leads the rest.
#[test]
fn removing_the_leader() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        world.add_learner(4).await;
        let leader = world.elected().await;
        let rest: Vec<u64> = (1..=4).filter(|anchor| *anchor != leader).collect();
        world.set_voters(&rest).await;
        world
            .until("another leads", Duration::from_secs(8), |world| {
                world
                    .leader_beside(leader)
                    .is_some_and(|it| !world.status(it).membership.is_voter(AnchorId(leader)))
            })
            .await;
        world.kill(leader);
        world.remove(leader);
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// M06: all three are replaced, one after the other, under load.
#[test]
fn replacing_all_three() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 300).await;
        for (old, new) in [(1, 4), (2, 5), (3, 6)] {
            world.add_learner(new).await;
            let leader = world.elected().await;
            let voters: Vec<u64> = world.status(leader).membership.voters[0].iter().map(|it| it.0).collect();
            let voters: Vec<u64> = voters.into_iter().filter(|it| *it != old).chain([new]).collect();
            world.set_voters(&voters).await;
            world
                .until("the old one does not lead", Duration::from_secs(8), |world| {
                    world
                        .leader_beside(old)
                        .is_some_and(|it| !world.status(it).membership.is_voter(AnchorId(old)))
                })
                .await;
            world.kill(old);
            world.remove(old);
        }
        let leader = world.elected().await;
        assert_eq!(voters(&world, leader), [[4, 5, 6].map(AnchorId).into()]);
        world.run_ms(1000).await;
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// M11, M14: leadership is handed over under writes: quickly, and without an unknown outcome.
#[test]
fn transfer_under_writes() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        for _ in 0..3 {
            let old = world.elected().await;
            let new = 1 + old % 3;
            assert_eq!(world.administer(old, Change::Transfer(AnchorId(new))).await, Some(Ok(())));
            world
                .until("the other one leads", Duration::from_secs(2), |world| world.leader() == Some(new))
                .await;
            world.run_ms(500).await;
        }
        world.settle().await;
        world.did(25, 8);
        assert_eq!(world.clients.unknown, 0);
        world
    });
}

/// M12: the one to hand over to is gone. The change is refused once that is known, and the leader leads on.
#[test]
fn transfer_to_one_that_is_down() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let leader = world.elected().await;
        let target = 1 + leader % 3;
        world.crash(target);
        world.run_ms(3000).await;
        let refused = world.administer(leader, Change::Transfer(AnchorId(target))).await;
        assert!(matches!(refused, Some(Err(NotDone::Refused { .. }))), "{refused:?}");
        assert_eq!(world.leader(), Some(leader));
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// M16: one that was removed while it was cut off comes back and asks for votes. It is refused, and nobody's term moves.
#[test]
fn removed_one_that_does_not_know() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 300).await;
        world.add_learner(4).await;
        let leader = world.elected().await;
        let removed = 1 + leader % 3;
        world.isolate(removed);
        let rest: Vec<u64> = (1..=4).filter(|anchor| *anchor != removed).collect();
        world.set_voters(&rest).await;
        let leader = world.elected().await;
        let term = world.status(leader).term;
        world.heal();
        world.run_ms(5000).await;
        assert_eq!((world.leader(), world.status(leader).term), (Some(leader), term));
        let refused: u64 = rest.iter().map(|it| world.refused_strangers(*it)).sum();
        assert!(refused > 0, "it never asked");
        world.kill(removed);
        world.remove(removed);
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// Three anchors under writes, of which one is away until the log has let go of what it lacks; answers which.
async fn with_one_away(mut world: World) -> (World, u64) {
    (world.settings.entries_kept, world.settings.snapshot_bytes) = (20, 4000);
    let mut world = world.founded(3).await;
    world.work(4, 300).await;
    let leader = world.elected().await;
    let away = 1 + leader % 3;
    world.crash(away);
    world.run_ms(4000).await;
    let last = world.nodes[&away].disk.durable_applied;
    let leader = world.elected().await;
    assert!(world.status(leader).purged > last, "the log still has it all");
    (world, away)
}

/// P01, P02, P04: a follower is away for longer than the log is kept. It is brought up to date by a snapshot, under
/// writes, losses and a crash in between.
#[test]
fn snapshot_for_one_that_was_away() {
    at_seeds(async |world| {
        let (mut world, away) = with_one_away(world).await;
        world.network.loss = 10;
        world.start(away);
        world.run_ms(300).await;
        world.crash(away);
        world.run_ms(100).await;
        world.start(away);
        world.settle().await;
        assert!(world.counts(away).snapshots_installed > 0);
        world.did(25, 8);
        world
    });
}

/// P06: pieces of a snapshot are others than those that were announced. Nothing of them is taken, and they are sent again.
#[test]
fn damaged_piece_of_a_snapshot_is_refused() {
    at_seeds(async |world| {
        let (mut world, away) = with_one_away(world).await;
        world.network.damages = 3;
        world.start(away);
        world.settle().await;
        let counts = world.counts(away);
        assert_eq!(counts.refused(Refused::WrongHash), 3, "{counts:?}");
        assert!(counts.snapshots_installed > 0);
        world.did(25, 8);
        world
    });
}

/// Whether a message says that another one is to lead. Version, group, from, to, life and request come before what it is.
fn is_transfer(bytes: &[u8]) -> bool {
    let head = postcard::take_from_bytes::<(u64, u64, u64, u64, u64, u32)>(&bytes[1..]);
    head.is_ok_and(|((.., body), _)| body == 3)
}

/// M15: a leader's word that another one is to lead arrives when somebody else has led since. Nobody takes over.
#[test]
fn transfer_that_arrives_late_moves_nobody() {
    at_seeds(async |world| {
        let mut world = world.founded(3).await;
        world.work(4, 500).await;
        let old = world.elected().await;
        world.network.keeps = Some(is_transfer);
        world.ask_to(old, Change::Transfer(AnchorId(1 + old % 3)));
        world.run_ms(300).await;
        assert_eq!(world.leader(), Some(old), "nobody has heard of it");
        world.crash(old);
        world
            .until("another leads", Duration::from_secs(5), |world| world.leader_beside(old).is_some())
            .await;
        world.start(old);
        let leader = world.elected().await;
        world.run_ms(1000).await;
        let term = world.status(leader).term;
        world.network.keeps = None;
        let kept = std::mem::take(&mut world.network.kept);
        assert!(kept.len() >= 2, "{}", kept.len());
        for Message { from, to, bytes, .. } in kept {
            let running = world.nodes.values_mut().filter(|node| node.peer == to);
            running.filter_map(|node| node.group.as_mut()).for_each(|group| group.received(from, &bytes));
        }
        world.run_ms(3000).await;
        assert_eq!((world.leader(), world.status(leader).term), (Some(leader), term));
        world.settle().await;
        world.did(25, 8);
        world
    });
}

/// A founder whose number no log could hold is refused, and nothing is written under it.
#[test]
fn founder_out_of_bounds_is_refused() {
    at_seeds(async |world| {
        let mut world = world;
        world.add(1);
        let far = AnchorId(1 << AnchorId::BITS);
        let members = [(AnchorId(1), member(1)), (far, member(2))].into();
        let founded = world.administer(1, Change::Found(members)).await;
        assert!(matches!(founded, Some(Err(NotDone::Refused { .. }))), "{founded:?}");
        assert_eq!(voters(&world, 1), []);
        world
    });
}
