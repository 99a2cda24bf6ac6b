//! Faults between nodes: partitions of every shape, connections that break, peers that are slow.

use super::{somebody, two};
use crate::world::World;

/// How long a fault of the network lasts, in microseconds.
const LASTS_US: (u64, u64) = (300_000, 8_000_000);

/// Two sides, in either direction; loud ones break connections.
pub(super) fn partition(world: &mut World, is_loud: bool) -> Option<()> {
    two(world)?;
    let count = world.nodes.len();
    let mut side: Vec<bool> = (0..count).map(|_| world.random.chance(500)).collect();
    side[0] = !side[count - 1];
    let pairs: Vec<(usize, usize)> = (0..count)
        .flat_map(|a| (0..count).map(move |b| (a, b)))
        .filter(|(a, b)| side[*a] != side[*b])
        .collect();
    cut_for_a_while(world, pairs, is_loud);
    Some(())
}

pub(super) fn one_way(world: &mut World) -> Option<()> {
    let pair = two(world)?;
    cut_for_a_while(world, vec![pair], false);
    Some(())
}

/// Everybody but one node is on one of two sides.
pub(super) fn bridge(world: &mut World) -> Option<()> {
    let (bridge, _) = two(world)?;
    let count = world.nodes.len();
    let is_left = |node: usize| (node + bridge).is_multiple_of(2);
    let pairs: Vec<(usize, usize)> = (0..count)
        .flat_map(|a| (0..count).map(move |b| (a, b)))
        .filter(|(a, b)| *a != bridge && *b != bridge && is_left(*a) != is_left(*b))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    cut_for_a_while(world, pairs, true);
    Some(())
}

fn cut_for_a_while(world: &mut World, pairs: Vec<(usize, usize)>, is_loud: bool) {
    for (a, b) in &pairs {
        world.network().block(*a, *b);
        if is_loud {
            world.network().drop_session(*a, *b);
        }
    }
    let lasts = world.random.between(LASTS_US.0, LASTS_US.1);
    // A silent one may last until connections break by themselves.
    let lasts = if !is_loud && world.random.chance(300) { 5 * lasts } else { lasts };
    world.after(lasts, move |world| {
        pairs.iter().for_each(|(a, b)| world.network().unblock(*a, *b));
    });
}

pub(super) fn flapping(world: &mut World) -> Option<()> {
    let (a, b) = two(world)?;
    let times = world.random.between(3, 10);
    for n in 0..times {
        let at = n * world.random.between(100_000, 600_000);
        world.after(at, move |world| {
            if n % 2 == 0 {
                world.network().cut(a, b);
            } else {
                world.network().unblock(a, b);
                world.network().unblock(b, a);
            }
        });
    }
    world.after(times * 600_000, move |world| {
        world.network().unblock(a, b);
        world.network().unblock(b, a);
    });
    Some(())
}

pub(super) fn broken_session(world: &mut World) -> Option<()> {
    let (a, b) = two(world)?;
    world.network().drop_session(a, b);
    Some(())
}

/// A node looks at its inbox once in a second or so, and queues hold little meanwhile.
pub(super) fn slow_peer(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    world.nodes[index].slowness_us = world.random.between(200_000, 2_000_000);
    let mut conditions = world.network().conditions().clone();
    conditions.queue_max = 1 + world.random.below(6);
    for other in (0..world.nodes.len()).filter(|other| *other != index) {
        world.network().set_particular(other, index, Some(conditions.clone()));
    }
    let lasts = world.random.between(LASTS_US.0, LASTS_US.1);
    world.after(lasts, move |world| {
        world.nodes[index].slowness_us = 2_000;
        for other in (0..world.nodes.len()).filter(|other| *other != index) {
            world.network().set_particular(other, index, None);
        }
    });
    Some(())
}
