//! One story for each fault of a disk: what was acknowledged is there, what was not is whole or not there.

use sim::World;
use sim::words::{add, increment, set};
use sim::world::NOTES;
use tidelock_engine::request::{Action, Atomicity, RequestError, RequestReply};
use tidelock_engine::write::Write;
use tidelock_store::{Disk, Faults};

fn try_write(world: &mut World, name: &str, write: Write) -> RequestReply {
    world.request(name, NOTES, Atomicity::Each, vec![Action::Write(write)])
}

/// A node that meets another one again after its restart.
fn back(world: &mut World, name: &str, other: &str) {
    world.start(name);
    world.connect(name, other);
}

/// The power goes at every change to the disk of a write, one after another, until a write gets through.
/// Answers how often.
fn cut_at_every_change(world: &mut World, name: &str, write: impl Fn(u64) -> Write) -> u64 {
    for changes in 0..200 {
        world.plan_power_cut(name, changes);
        let reply = try_write(world, name, write(changes));
        if world.node(name).is_running() {
            world.restart(name);
            return changes;
        }
        assert!(matches!(reply, Err(RequestError::Commit(_)) | Ok(_)), "{reply:?}");
        world.start(name);
    }
    panic!("a write takes more than 200 changes to the disk");
}

/// A commit is a few writes, resizes and syncs: whichever is the last, the commit is there whole or not at all,
/// and all before it are there.
#[test]
fn power_cut_at_any_change_of_a_commit_leaves_it_whole_or_not_there() {
    let mut world = World::connected(1, &["a", "b"]);
    world.materializing = 0;
    for n in 0..3 {
        let cuts = cut_at_every_change(&mut world, "a", |change| set(&format!("k{n}"), &change.to_string()));
        assert!(cuts >= 3, "only {cuts} changes");
    }
    world.connect("a", "b");
    world.settle();
}

/// The same while rows are written behind each commit.
#[test]
fn power_cut_at_any_change_of_writing_rows_costs_nothing() {
    let mut world = World::connected(2, &["a", "b"]);
    world.materializing = 1_000;
    for n in 0..3 {
        let cuts = cut_at_every_change(&mut world, "a", |_| add("s", &format!("e{n}")));
        assert!(cuts >= 3, "only {cuts} changes");
    }
    assert!(world.tally.get("materializations") >= 3);
    world.connect("a", "b");
    world.settle();
}

/// Commits are in the log and no row was written: the rows are made from the log.
#[test]
fn power_cut_between_log_and_rows_costs_nothing() {
    let mut world = World::connected(3, &["a", "b"]);
    world.materializing = 0;
    (0..20).for_each(|n| world.write("a", add("s", &format!("{n:02}"))));
    let rows = world.rows_of("a", NOTES);
    world.lose_power("a");
    world.start("a");
    assert_eq!(world.rows_of("a", NOTES), rows);
    world.connect("a", "b");
    world.settle();
}

/// All nodes lose power in the same moment, with buffered writes in memory.
#[test]
fn power_cut_of_all_nodes_keeps_what_was_acknowledged_as_durable() {
    let names = ["a", "b", "c"];
    let mut world = World::connected(4, &names);
    for round in 0..8 {
        for name in names {
            world.write(name, increment("kept", 1));
            world.write_buffered(name, increment("perhaps", 1));
        }
        world.run(10 * round);
        names.iter().for_each(|name| world.lose_power(name));
        names.iter().for_each(|name| world.start(name));
        world.connect("a", "b");
        world.connect("b", "c");
        world.run(300);
    }
    world.settle();
    names.iter().for_each(|name| assert_eq!(world.get(name, "kept").as_deref(), Some("24")));
    assert_eq!(world.tally.get("power cuts"), 24);
}

/// The power goes again at every change that the recovery makes, and at last it stays.
#[test]
fn power_cut_while_recovering_costs_nothing() {
    let mut world = World::connected(5, &["a", "b"]);
    world.materializing = 0;
    let mut cuts = 0;
    for round in 0..4 {
        (0..40).for_each(|n| world.write("a", add("s", &format!("{round}-{n:02}"))));
        world.lose_power("a");
        let disk = world.node("a").disk().clone();
        for changes in 0.. {
            disk.set_faults(Faults { changes_until_power_cut: Some(changes), ..Faults::default() });
            if world.try_start(0).is_ok() {
                break;
            }
            disk.crash(changes);
            cuts += 1;
        }
        disk.set_faults(Faults::default());
    }
    assert!(cuts >= 4, "only {cuts} cuts while recovering");
    world.connect("a", "b");
    world.settle();
    assert_eq!(world.members("b", "s").len(), 160);
}

/// Writes that were answered from memory may be lost, sector by sector, in any order: what is left is a
/// beginning of what was written, and the lost dots were seen by nobody.
#[test]
fn unsynced_writes_are_lost_from_the_end() {
    let mut world = World::connected(7, &["a", "b"]);
    for round in 0..25 {
        world.write("a", increment("kept", 1));
        (0..4).for_each(|_| world.write_buffered("a", increment("perhaps", 1)));
        world.run(round % 3);
        world.lose_power("a");
        back(&mut world, "a", "b");
        world.run(100);
    }
    let lost = world.tally.get("buffered writes lost");
    assert!((1..100).contains(&lost), "{lost} of 100 were lost");
    world.settle();
    assert_eq!(world.get("b", "kept").as_deref(), Some("25"));
    assert_eq!(world.get("b", "perhaps"), Some((100 - lost).to_string()));
}

/// The disk does not take a sync: the write is not acknowledged, and no later one is before a restart.
#[test]
fn failed_sync_ends_writing_until_a_restart() {
    let mut world = World::connected(7, &["a", "b"]);
    world.write("a", set("k", "before"));
    world.settle();
    world.node("a").disk().set_faults(Faults { syncs_until_error: Some(0), ..Faults::default() });
    let reply = try_write(&mut world, "a", set("k", "unsure"));
    assert!(matches!(reply, Err(RequestError::Commit(_))), "{reply:?}");
    world.node("a").disk().set_faults(Faults::default());
    let reply = try_write(&mut world, "a", set("k", "refused"));
    assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
    assert_eq!(world.get("a", "k").as_deref(), Some("before"), "reads go on");
    assert!(world.report("a").failed.is_some());
    world.write("b", set("other", "meanwhile"));
    world.lose_power("a");
    back(&mut world, "a", "b");
    world.settle();
    world.write("a", set("k", "after"));
    world.settle();
    assert_eq!(world.get("b", "k").as_deref(), Some("after"));
}

/// The disk refuses every change for a while: writes are refused by name, reads go on, and a restart heals.
fn refused_until_healed(seed: u64, faults: Faults) {
    let mut world = World::connected(seed, &["a", "b"]);
    (0..10).for_each(|n| world.write("a", add("s", &format!("{n}"))));
    world.settle();
    world.node("a").disk().set_faults(faults);
    world.write("b", add("s", "from b"));
    world.run(1_000);
    for _ in 0..3 {
        let reply = try_write(&mut world, "a", add("s", "refused"));
        assert!(matches!(reply, Err(RequestError::Commit(_) | RequestError::ReadOnly(_))), "{reply:?}");
    }
    assert_eq!(world.members("a", "s").len(), 10, "reads go on");
    world.kill("a");
    back(&mut world, "a", "b");
    world.write("a", add("s", "from a"));
    world.settle();
    let members = world.members("b", "s").len();
    assert!(members == 12 || members == 13, "{members}: the refused one may be there, once");
}

/// There is not a byte left.
#[test]
fn full_disk_refuses_writes_serves_reads_and_heals() {
    for bytes in [0, 100, 3_000] {
        refused_until_healed(8, Faults { bytes_until_full: Some(bytes), ..Faults::default() });
    }
}

/// The disk is full for a while, and the node is not restarted: what it refused is nowhere, and once there is room it
/// writes, and meets its peers again.
#[test]
fn node_goes_on_by_itself_when_a_full_disk_has_room_again() {
    for bytes in [0, 100, 3_000] {
        let mut world = World::connected(8, &["a", "b"]);
        (0..10).for_each(|n| world.write("a", add("s", &format!("{n}"))));
        world.settle();
        world.node("a").disk().set_faults(Faults { bytes_until_full: Some(bytes), ..Faults::default() });
        world.write("b", add("s", "from b"));
        world.run(1_000);
        for _ in 0..3 {
            let reply = try_write(&mut world, "a", add("s", "refused"));
            assert!(matches!(reply, Err(RequestError::ReadOnly(_))), "{reply:?}");
            assert!(!world.has_room_again("a"), "there is no room yet");
        }
        assert_eq!(world.members("a", "s").len(), 10, "reads go on");
        world.node("a").disk().set_faults(Faults::default());
        assert!(world.has_room_again("a"));
        assert_eq!(world.report("a").failed, None);
        world.write("a", add("s", "from a"));
        world.connect("a", "b");
        world.settle();
        for node in ["a", "b"] {
            assert_eq!(
                world.members(node, "s").len(),
                12,
                "{node}: nothing is lost, and nothing refused is there"
            );
        }
    }
}

/// The disk was remounted read-only.
#[test]
fn read_only_disk_refuses_writes_serves_reads_and_heals() {
    refused_until_healed(9, Faults { is_read_only: true, ..Faults::default() });
}

/// A bit turns in a file while the node is down, again and again. Answers how often the store was not opened.
fn turn_bits(world: &mut World, file: &str, times: u64) -> u64 {
    let mut refused = 0;
    for n in 0..times {
        world.write("a", increment("count", 1));
        world.write("b", set(&format!("k{}", n % 3), &n.to_string()));
        world.settle();
        world.kill("a");
        let disk = world.node("a").disk().clone();
        let byte = (n * 7_919 + 13 * n * n) * 512 % disk.size(file) + n % 512;
        disk.flip_bit(file, byte % disk.size(file), u8::try_from(n % 8).expect("a bit"));
        if world.try_start(0).is_err() {
            refused += 1;
            world.wipe("a");
            world.start("a");
        }
        world.connect("a", "b");
    }
    world.settle();
    assert_eq!(world.get("a", "count"), Some(times.to_string()));
    assert_eq!(world.get("b", "count"), Some(times.to_string()));
    refused
}

/// Wherever a bit turns in the rows, no wrong value is read: they are made again from the log, or it means
/// nothing.
#[test]
fn turned_bit_in_the_rows_is_never_a_wrong_value() {
    let mut world = World::connected(10, &["a", "b"]);
    world.materializing = 1_000;
    assert_eq!(turn_bits(&mut world, "rows.redb", 30), 0, "rows can always be made again");
}

/// Wherever a bit turns in the log, the store is not opened, or it means nothing. A node that is not opened
/// starts with an empty disk and gets everything from the others.
#[test]
fn turned_bit_in_the_log_is_found_or_harmless() {
    let mut world = World::connected(11, &["a", "b"]);
    let refused = turn_bits(&mut world, "log.redb", 40);
    assert!(refused > 0, "no bit was one that matters");
}

/// A disk is replaced by an empty one: the node is another replica, and gets everything back.
#[test]
fn node_with_an_empty_disk_is_another_replica_and_gets_everything() {
    let mut world = World::connected(12, &["a", "b", "c"]);
    (0..20).for_each(|n| world.write("a", increment(&format!("n{}", n % 4), 1)));
    world.settle();
    let before = world.node("a").driver().replica().id();
    world.kill("a");
    world.wipe("a");
    world.start("a");
    world.connect("a", "b");
    assert_ne!(world.node("a").driver().replica().id(), before, "a dot would be used twice");
    world.settle();
    world.write("a", increment("n0", 1));
    world.settle();
    assert_eq!(world.get("c", "n0").as_deref(), Some("6"));
}

/// Somebody removes the file of the rows: they are made from the log.
#[test]
fn removed_rows_are_made_again() {
    let mut world = World::connected(13, &["a", "b"]);
    world.materializing = 500;
    (0..30).for_each(|n| world.write("a", add("s", &format!("{n:02}"))));
    let rows = world.rows_of("a", NOTES);
    world.kill("a");
    let disk = world.node("a").disk().clone();
    assert!(disk.size("rows.redb") > 0);
    disk.remove("rows.redb").expect("the disk works");
    back(&mut world, "a", "b");
    assert_eq!(world.rows_of("a", NOTES), rows);
    world.settle();
}

/// The power goes, comes back for a moment, and goes again, before and after the next write.
#[test]
fn two_power_cuts_in_a_row_cost_no_more_than_one() {
    let mut world = World::connected(14, &["a", "b"]);
    for n in 0..10 {
        world.write("a", increment("count", 1));
        world.lose_power("a");
        world.start("a");
        if n % 2 == 0 {
            world.write("a", increment("count", 1));
        }
        world.lose_power("a");
        back(&mut world, "a", "b");
    }
    world.settle();
    assert_eq!(world.get("b", "count").as_deref(), Some("15"));
    assert_eq!(world.tally.get("power cuts"), 20);
}

/// Nobody writes rows in the background: a commit does it itself when memory holds too many.
#[test]
fn commit_writes_rows_itself_when_memory_is_full() {
    let mut world = World::connected(15, &["a", "b"]);
    world.materializing = 0;
    for n in 0..30 {
        let elements = (0..200).map(|m| format!("{n:02}-{m:03}").into_bytes()).collect();
        world.write("a", Write::Add { key: b"s".to_vec(), elements });
    }
    world.settle();
    let stats = world.node("a").driver().store().redb().expect("a disk").reader().stats().expect("a size");
    assert!(stats.materializations >= 25, "{stats:?}");
    assert_eq!(world.members("b", "s").len(), 6_000);
}
