//! Faults of disks: power cuts anywhere, syncs that fail, full and read-only disks, turned bits, empty disks, copies and backups.

use tidelock_engine::ports::Status;
use tidelock_store::{Faults, MemDisk, RestoreOptions, restore};

use super::members::start_later;
use super::somebody;
use crate::node::{End, Node, Storage};
use crate::world::World;

/// The changes to a disk before a planned power cut, at most: a commit is about ten, writing rows about thirty.
const CHANGES_MAX: usize = 60;

/// How long a disk stays full or read-only at most, in microseconds.
const SICK_US: u64 = 5_000_000;

pub(super) fn power_cut(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let name = world.nodes[index].name.clone();
    world.lose_power(&name);
    start_later(world, index);
    Some(())
}

/// The power goes between two changes to the disk; who watches the world sees the commit fail and cuts it.
pub(super) fn power_cut_in_write(world: &mut World) -> Option<()> {
    let index = healthy(world)?;
    let name = world.nodes[index].name.clone();
    let changes = world.random.below(CHANGES_MAX) as u64;
    world.plan_power_cut(&name, changes);
    Some(())
}

pub(super) fn power_cut_of_all(world: &mut World) -> Option<()> {
    somebody(world)?;
    for index in 0..world.nodes.len() {
        if world.nodes[index].is_running() {
            let name = world.nodes[index].name.clone();
            world.lose_power(&name);
            start_later(world, index);
        }
    }
    Some(())
}

pub(super) fn sync_error(world: &mut World) -> Option<()> {
    let syncs = world.random.below(8) as u64;
    sicken(world, Faults { syncs_until_error: Some(syncs), ..Faults::default() })
}

pub(super) fn full(world: &mut World) -> Option<()> {
    let bytes = world.random.below(40_000) as u64;
    sicken(world, Faults { bytes_until_full: Some(bytes), ..Faults::default() })
}

pub(super) fn read_only(world: &mut World) -> Option<()> {
    sicken(world, Faults { is_read_only: true, ..Faults::default() })
}

/// A disk that fails; if nobody notices, it works again after a while.
fn sicken(world: &mut World, faults: Faults) -> Option<()> {
    let index = healthy(world)?;
    world.nodes[index].disk().set_faults(faults);
    let life = world.nodes[index].life;
    world.after(SICK_US, move |world| {
        let node = &world.nodes[index];
        if node.life == life && node.is_running() && !node.is_cut_planned {
            node.disk().set_faults(Faults::default());
        }
    });
    Some(())
}

/// A node with a disk on which nothing is planned.
fn healthy(world: &mut World) -> Option<usize> {
    let index = somebody(world)?;
    let node = &world.nodes[index];
    let is_healthy =
        world.storage == Storage::Disk && !node.is_cut_planned && node.driver().store().failed().is_none();
    is_healthy.then_some(index)
}

/// A bit turns while nobody looks. Either it does no harm, or the rows are made again, or the log cannot be
/// used any more: then the disk is replaced.
pub(super) fn bit_flip(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    if world.storage == Storage::Memory {
        return None;
    }
    world.end(index, End::Killed);
    let file = if world.random.chance(300) { "log.redb" } else { "rows.redb" };
    let disk = world.nodes[index].disk().clone();
    let (byte, bit) = (world.random.next() % disk.size(file).max(1), world.random.below(8));
    disk.flip_bit(file, byte, u8::try_from(bit).expect("a byte has eight bits"));
    world.trace.note(world.now_us(), index, || format!("bit {bit} of byte {byte} of {file} turns"));
    world.nodes[index].is_damaged = true;
    start_later(world, index);
    Some(())
}

pub(super) fn copied(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    world.end(index, End::Killed);
    let copy = world.nodes[index].disk().copied();
    world.nodes[index].move_to(copy);
    start_later(world, index);
    Some(())
}

pub(super) fn restored(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    let store = world.nodes[index].driver().store();
    // A store that takes no writes cannot promise that what it says is durable.
    let backup = store.redb().filter(|_| store.failed().is_none())?.reader().backup(0);
    let pieces: Result<Vec<Vec<u8>>, _> = backup.with_rows_per_piece(7).collect();
    let bytes = pieces.ok()?.concat();
    world.end(index, End::Killed);
    let disk = MemDisk::new();
    let card = world.nodes[index].move_to(disk.clone());
    let options = RestoreOptions { cluster: None, card };
    restore(&bytes[..], &disk, &options, &mut |_| {}).expect("a backup that was finished can be restored");
    start_later(world, index);
    Some(())
}

/// What a majority has on disk outlives one disk, so no other one goes before another anchor has taken the place: there are
/// three that vote, all of them run, and each has applied what the leader has.
pub(super) fn lost_anchor(world: &mut World) -> Option<()> {
    let leader = world.leader()?;
    let status = world.group(&leader).clone();
    let [voters] = &status.membership.voters[..] else { return None };
    let well: Vec<usize> =
        world.nodes.iter().filter(|node| is_well(node, &status)).map(|node| node.index).collect();
    if voters.len() < 3 || well.len() < voters.len() || status.membership.members.len() != voters.len() {
        return None;
    }
    let index = *world.random.pick(&well);
    world.end(index, End::Killed);
    let name = world.nodes[index].name.clone();
    world.wipe(&name);
    start_later(world, index);
    Some(())
}

/// Whether a node is one of the voters, and has all that their leader knows to be committed.
fn is_well(node: &Node, leader: &Status) -> bool {
    let Some(driver) = &node.driver else { return false };
    let (replica, group) = (driver.replica(), driver.replica().group());
    let votes = replica.anchor().is_some_and(|anchor| leader.membership.is_voter(anchor));
    votes
        && !node.is_cut_planned
        && driver.store().failed().is_none()
        && group.last >= leader.committed
        && group.membership == leader.membership
}

pub(super) fn wiped(world: &mut World) -> Option<()> {
    let index = somebody(world)?;
    world.end(index, End::Killed);
    let name = world.nodes[index].name.clone();
    world.wipe(&name);
    start_later(world, index);
    Some(())
}
