//! What goes wrong, by the seed: each fault strikes now and then, lasts a while, and is over.
//!
//! Faults of single messages are rates of the network's [`Conditions`]; all others are here, each with a name
//! under which it is counted and switched on alone by a test.

mod clocks;
mod disks;
mod hostility;
mod keyspaces;
mod links;
mod members;

pub(crate) use self::members::{connect_somewhere, start};
use crate::hostile::Behaviour;
use crate::network::Conditions;
use crate::world::World;

/// A fault, and how often it strikes the world: once in so many milliseconds, on average.
pub type Rate = (Fault, u64);

/// Something that strikes one node, a few, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two sides, between which every connection breaks.
    Partition,
    /// Two sides, between which nothing gets through, and nobody is told.
    SilentPartition,
    /// What one node sends to another one does not arrive; the other direction works.
    OneWayPartition,
    /// Two sides that only one node in the middle can talk to.
    Bridge,
    /// A connection that breaks and comes back several times in a second.
    Flapping,
    /// A connection that breaks.
    BrokenSession,
    /// A node that looks at what arrives only now and then, while queues are short.
    SlowPeer,
    /// A process that is stopped and goes on.
    Pause,
    /// A process that is killed and restarted.
    Kill,
    /// A power cut between two turns.
    PowerCut,
    /// A power cut between two changes to the disk, in the middle of a commit or of writing rows.
    PowerCutInWrite,
    /// All nodes lose power at once.
    PowerCutOfAll,
    /// A sync of the disk fails.
    SyncError,
    /// The disk is full, in the middle of a write or before it.
    FullDisk,
    /// The disk is read-only.
    ReadOnlyDisk,
    /// A bit of a file turns while the node is down. What cannot be opened any more is wiped.
    BitFlip,
    /// A disk is replaced by an empty one.
    WipedDisk,
    /// The disk of an anchor is replaced by an empty one, while a majority of the others is well.
    LostAnchor,
    /// A node goes on from a copy of its disk.
    CopiedDisk,
    /// A node goes on from a backup that was made a moment before.
    RestoredBackup,
    /// A clock jumps by seconds to decades, either way.
    ClockJump,
    /// A clock stands still.
    FrozenClock,
    /// A new node comes.
    Join,
    /// A node leaves for good.
    Leave,
    /// A node is away for long.
    Absence,
    /// A node leaves a keyspace, and joins it again after a while.
    LeftKeyspace,
    /// The same, by force: what nobody else has is lost.
    ForsakenKeyspace,
    /// An operator retires a replica that has written, whether it is there or not.
    Retirement,
    /// A member turns out to mean harm, until the end. Counted each time it does some.
    Hostility(Behaviour),
}

impl Fault {
    /// Under which name it is counted, each time it strikes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partition => "partitions",
            Self::SilentPartition => "silent partitions",
            Self::OneWayPartition => "one-way partitions",
            Self::Bridge => "bridges",
            Self::Flapping => "flapping connections",
            Self::BrokenSession => "broken sessions",
            Self::SlowPeer => "slow peers",
            Self::Pause => "paused processes",
            Self::Kill => "killed processes",
            Self::PowerCut => "power cuts between turns",
            Self::PowerCutInWrite => "power cuts planned in a write",
            Self::PowerCutOfAll => "power cuts of all nodes",
            Self::SyncError => "failed syncs",
            Self::FullDisk => "full disks",
            Self::ReadOnlyDisk => "read-only disks",
            Self::BitFlip => "flipped bits",
            Self::WipedDisk => "replaced disks",
            Self::LostAnchor => "lost anchors",
            Self::CopiedDisk => "copied disks",
            Self::RestoredBackup => "restored backups",
            Self::ClockJump => "jumping clocks",
            Self::FrozenClock => "clocks that stand still",
            Self::Join => "joins",
            Self::Leave => "leaves",
            Self::Absence => "absences",
            Self::LeftKeyspace => "keyspaces to be left",
            Self::ForsakenKeyspace => "keyspaces left by force",
            Self::Retirement => "retirements",
            Self::Hostility(behaviour) => behaviour.name(),
        }
    }

    /// Strikes once, if there is somebody to strike.
    pub fn strike(self, world: &mut World) {
        let struck = match self {
            Self::Partition => links::partition(world, true),
            Self::SilentPartition => links::partition(world, false),
            Self::OneWayPartition => links::one_way(world),
            Self::Bridge => links::bridge(world),
            Self::Flapping => links::flapping(world),
            Self::BrokenSession => links::broken_session(world),
            Self::SlowPeer => links::slow_peer(world),
            Self::Pause => members::pause(world),
            Self::Kill => members::kill(world),
            Self::PowerCut => disks::power_cut(world),
            Self::PowerCutInWrite => disks::power_cut_in_write(world),
            Self::PowerCutOfAll => disks::power_cut_of_all(world),
            Self::SyncError => disks::sync_error(world),
            Self::FullDisk => disks::full(world),
            Self::ReadOnlyDisk => disks::read_only(world),
            Self::BitFlip => disks::bit_flip(world),
            Self::WipedDisk => disks::wiped(world),
            Self::LostAnchor => disks::lost_anchor(world),
            Self::CopiedDisk => disks::copied(world),
            Self::RestoredBackup => disks::restored(world),
            Self::ClockJump => clocks::jump(world),
            Self::FrozenClock => clocks::freeze(world),
            Self::Join => members::join(world),
            Self::Leave => members::leave(world),
            Self::Absence => members::absence(world),
            Self::LeftKeyspace => keyspaces::leave(world, false),
            Self::ForsakenKeyspace => keyspaces::leave(world, true),
            Self::Retirement => members::retirement(world),
            Self::Hostility(behaviour) => return hostility::turn(world, behaviour),
        };
        if struck.is_some() {
            world.tally.count(self.name());
        }
    }

    /// Has it strike now and then until `end_us`.
    pub fn keep_striking(self, world: &mut World, every_ms: u64, end_us: u64) {
        let wait = world.random.between(100, 2_000 * every_ms);
        world.after(wait, move |world| {
            if world.now_us() <= end_us {
                self.strike(world);
                self.keep_striking(world, every_ms, end_us);
            }
        });
    }
}

/// Ends all faults: everything works again, and everybody who has not left is there.
pub fn stop(world: &mut World) {
    world.network().set_conditions(Conditions::default());
    world.heal();
    for index in 0..world.nodes.len() {
        let node = &mut world.nodes[index];
        node.paused_until_us = 0;
        node.slowness_us = 2_000;
        node.clock.frozen_ms = None;
        if node.is_gone {
            continue;
        }
        members::revive(world, index);
        // Who was stopped, or slow, looks now at what has come.
        world.nodes[index].is_woken = false;
        world.wake(index);
    }
    keyspaces::join_all(world);
}

/// A running node, if there is one.
fn somebody(world: &mut World) -> Option<usize> {
    let running: Vec<usize> =
        world.nodes.iter().filter(|node| node.is_running()).map(|node| node.index).collect();
    (!running.is_empty()).then(|| *world.random.pick(&running))
}

/// Two nodes that have not left, if there are two.
fn two(world: &mut World) -> Option<(usize, usize)> {
    let mut there: Vec<usize> =
        world.nodes.iter().filter(|node| !node.is_gone).map(|node| node.index).collect();
    if there.len() < 2 {
        return None;
    }
    let a = there.swap_remove(world.random.below(there.len()));
    Some((a, *world.random.pick(&there)))
}
