//! Faults of processes and of who is there: kills, pauses, joins, departures, long absences.

use tidelock_engine::id::ReplicaId;
use tidelock_engine::request::{Action, Atomicity};

use super::somebody;
use crate::node::End;
use crate::words::retire;
use crate::world::{NOTES, World, keyspace_id};

/// How long a node stays down, in microseconds.
const DOWN_US: (u64, u64) = (10_000, 5_000_000);

/// How long an absence is, in microseconds.
const ABSENT_US: (u64, u64) = (20_000_000, 600_000_000);

/// The nodes of a world at most.
const NODES_MAX: usize = 9;

pub(super) fn pause(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let ms = world.random.between(100, 20_000);
    let name = world.nodes[index].name.clone();
    world.pause(&name, ms);
    Some(())
}

pub(super) fn kill(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    world.end(index, End::Killed);
    start_later(world, index);
    Some(())
}

/// A node that was stopped is started after a while, if nobody did it before.
pub(super) fn start_later(world: &mut World, index: usize) {
    let wait = world.random.between(DOWN_US.0, DOWN_US.1);
    world.after(wait, move |world| start(world, index));
}

/// A node that was stopped is started by whoever looks after it. What cannot be opened because of damage that
/// the world has done to its files begins anew.
pub(crate) fn start(world: &mut World, index: usize) {
    let node = &world.nodes[index];
    if node.is_running() || node.is_gone {
        return;
    }
    let (name, is_damaged) = (node.name.clone(), node.is_damaged);
    if !is_damaged {
        world.start(&name);
    } else if let Err(error) = world.try_start(index) {
        // Damage of the log is found and said; there is nothing to go on from but an empty disk.
        world.trace.note(world.now_us(), index, || format!("not opened: {error}"));
        world.tally.count("damaged logs found at opening");
        world.nodes[index].is_damaged = false;
        world.wipe(&name);
        world.start(&name);
    }
    connect_somewhere(world, index);
}

/// A node runs again and its store takes writes.
pub(super) fn revive(world: &mut World, index: usize) {
    let node = &world.nodes[index];
    if let Some(driver) = &node.driver {
        let is_sick = driver.store().failed().is_some();
        if let (false, crate::store::Backing::Disk(disk)) = (is_sick, &node.backing) {
            disk.set_faults(tidelock_store::Faults::default());
        }
        if is_sick {
            world.end(index, End::Killed);
        }
    }
    world.nodes[index].is_cut_planned = false;
    start(world, index);
}

/// A node dials a few others, as its operator has told it.
pub(crate) fn connect_somewhere(world: &mut World, index: usize) {
    let others: Vec<String> = world
        .nodes
        .iter()
        .filter(|node| node.index != index && !node.is_gone)
        .map(|node| node.name.clone())
        .collect();
    let name = world.nodes[index].name.clone();
    others.iter().for_each(|other| world.connect(&name, other));
}

pub(super) fn join(world: &mut World) -> Option<()> {
    if world.nodes.len() >= NODES_MAX {
        return None;
    }
    let name = format!("joined-{}", world.nodes.len());
    world.add(&name);
    let index = world.nodes.len() - 1;
    connect_somewhere(world, index);
    world.keep_writing_at(index);
    Some(())
}

/// A node leaves for good; two stay.
pub(super) fn leave(world: &mut World) -> Option<()> {
    let there = world.nodes.iter().filter(|node| !node.is_gone).count();
    let index = somebody(world).filter(|_| there > 2)?;
    let name = world.nodes[index].name.clone();
    world.leave(&name);
    Some(())
}

/// Some replica is retired, by whoever it is. If it lives, its operator lets it rejoin a while after it knows.
pub(super) fn retirement(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let known = world.nodes[index].known.get(&keyspace_id(NOTES))?;
    let authors: Vec<ReplicaId> = known.heads.iter().map(|(author, _)| author).collect();
    let replica = *(!authors.is_empty()).then(|| world.random.pick(&authors))?;
    let name = world.nodes[index].name.clone();
    let actions = vec![Action::Write(retire(replica))];
    world.request(&name, NOTES, Atomicity::AllOrNothing, actions).ok()?;
    let wait = world.random.between(DOWN_US.0, DOWN_US.1);
    world.after(wait, World::rejoin_the_retired);
    Some(())
}

pub(super) fn absence(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    world.end(index, End::Killed);
    let wait = world.random.between(ABSENT_US.0, ABSENT_US.1);
    world.after(wait, move |world| start(world, index));
    Some(())
}
