//! Keyspaces that nodes leave and join again while all else goes wrong.

use tidelock_engine::replica::{Order, OrderError};

use super::somebody;
use crate::world::World;

/// How long a node stays away from a keyspace, in microseconds.
const AWAY_US: (u64, u64) = (200_000, 6_000_000);

/// How often a node that could not join tries again, in microseconds.
const AGAIN_US: u64 = 300_000;

/// Within so long after the faults everybody has joined everything, in milliseconds: a leave that is under way is
/// given up by then.
const JOINED_MS: u64 = 30_000;

/// Within so long whoever has joined has fetched everything, in milliseconds.
const FETCHED_MS: u64 = 15_000;

/// A node is to leave a keyspace that somebody else has, and joins it again later.
pub(super) fn leave(world: &mut World, is_forced: bool) -> Option<()> {
    let index = somebody(world)?;
    let keyspaces = world.workload.as_ref()?.0.keyspaces;
    let keyspace = *world.random.pick(keyspaces);
    if is_forced && !world.is_elsewhere(index, keyspace) {
        return None;
    }
    let name = world.nodes[index].name.clone();
    world.order(&name, keyspace, Order::Leave { is_forced });
    let wait = world.random.between(AWAY_US.0, AWAY_US.1);
    world.after(wait, move |world| join_later(world, index, keyspace));
    Some(())
}

fn join_later(world: &mut World, index: usize, keyspace: &'static str) {
    if !world.nodes[index].is_gone && !join(world, index, keyspace) {
        world.after(AGAIN_US, move |world| join_later(world, index, keyspace));
    }
}

/// Has a node join a keyspace; answers whether it has.
fn join(world: &mut World, index: usize, keyspace: &str) -> bool {
    if !world.nodes[index].is_running() || world.is_paused(index) {
        return false;
    }
    let name = world.nodes[index].name.clone();
    let joined = world.order(&name, keyspace, Order::Join);
    match world.orders.remove(&joined) {
        Some(Ok(())) => true,
        // The power may have gone as it was answered.
        Some(Err(OrderError::NeedsReplica(_))) if world.nodes[index].is_running() => {
            world.rejoin(&name);
            false
        }
        _ => false,
    }
}

/// Everybody joins everything again. Where the only one was gone by force that had what somebody wrote who had left,
/// the operator lets that one begin anew.
pub(super) fn join_all(world: &mut World) {
    if world.tally.get(super::Fault::LeftKeyspace.name()) == 0 {
        return;
    }
    join_all_once(world);
    world.run(FETCHED_MS);
    let waits = |node: &crate::node::Node| -> Vec<(String, String)> {
        let report = node.driver().replica().report();
        let behind = report.keyspaces.into_iter().filter(|keyspace| keyspace.is_behind);
        behind.map(|keyspace| (node.name.clone(), keyspace.name.to_string())).collect()
    };
    let waiting: Vec<(String, String)> =
        world.nodes.iter().filter(|node| node.is_running()).flat_map(waits).collect();
    for (name, keyspace) in &waiting {
        world.tally.count("keyspaces begun anew");
        world.order(name, keyspace, Order::Leave { is_forced: true });
    }
    if !waiting.is_empty() {
        join_all_once(world);
    }
}

fn join_all_once(world: &mut World) {
    let keyspaces = world.workload.as_ref().map_or(&[][..], |workload| workload.0.keyspaces);
    let end_us = world.now_us() + 1_000 * JOINED_MS;
    loop {
        let mut are_all = true;
        for index in 0..world.nodes.len() {
            let is_there = !world.nodes[index].is_gone;
            are_all &= !is_there || keyspaces.iter().all(|keyspace| join(world, index, keyspace));
        }
        if are_all {
            return;
        }
        assert!(world.now_us() < end_us, "somebody cannot join; {}\n{}", world.replay, world.tell());
        world.run(AGAIN_US / 1_000);
    }
}
