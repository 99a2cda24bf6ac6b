//! Compaction: files get small while they are used, nothing is lost or brought back by it, and neither a power
//! cut nor a full disk in the midst of it does harm.

use std::collections::BTreeMap;

use crate::world::{
    self, Dice, History, Peer, SPACES, Turn, all_raft, all_rows, keyspace, name, options, small_options,
};
use tidelock_engine::ports::{Durability, Log, LogPosition, Rows, Store};
use tidelock_engine::write::Write;
use tidelock_store::{
    CompactError, Compacted, Disk, Faults, FileDisk, MemDisk, OpenError, RedbStore, check, compact,
};

/// Small enough that a history of a few turns is copied in many pieces.
const PIECE_BYTES: usize = 1_000;

const TURNS: usize = 24;

/// A history whose sets are large enough that the files are.
fn history(seed: u64) -> History {
    History::with_elements(seed, TURNS, 30).with_raft(seed, false)
}

fn same(store: &RedbStore, history: &History, turns: usize, label: &str) {
    let model = history.model(turns);
    assert_eq!(store.reader().position(), model.recovered().position, "{label}");
    for space in SPACES {
        assert_eq!(all_rows(store, space), all_rows(&model, space), "{label}");
        let keys = |rows: &dyn Rows| rows.keys(keyspace(space)).expect("readable");
        assert_eq!(keys(store), keys(&model), "{label}");
    }
    let all = |log: &dyn Log| log.records_from(LogPosition(0), usize::MAX).expect("readable");
    assert_eq!(all(store), all(&model), "{label}");
    // A store that takes no writes does not say what Raft may count on.
    if !store.reader().stats().expect("known").is_poisoned {
        assert_eq!(all_raft(&store.raft_log()), all_raft(&*model.raft_log()), "{label}");
    }
}

fn sound(disk: &dyn Disk, label: &str) {
    let report = check(disk, &mut |_| {}).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(report.findings, [], "{label}");
}

/// How far a run came.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    durable: LogPosition,
    pieces: usize,
    compactions: usize,
}

/// Takes the turns of a history, compacting now and then; while it compacts, further turns come, rows are written
/// and the log is let go of. Ends at the first failure, as a power cut is one.
fn drive(disk: &MemDisk, history: &History, mut dice: Dice) -> Reached {
    let mut reached = Reached::default();
    let Ok(mut store) = RedbStore::open(disk, &small_options(history.card)) else { return reached };
    let mut turns = history.turns.iter();
    let mut take = |store: &mut RedbStore, reached: &mut Reached, dice: &mut Dice| {
        let Some(turn) = turns.next() else { return true };
        let Ok(position) = turn.commit(store, turn.durability()) else { return false };
        if turn.is_durable {
            reached.durable = position;
        }
        match dice.below(6) {
            0 => store.sync().map(|()| reached.durable = position).is_ok(),
            1 | 2 => store.materialize().is_ok(),
            _ => true,
        }
    };
    for round in 0..TURNS {
        if !take(&mut store, &mut reached, &mut dice) {
            return reached;
        }
        if round % 6 == 5 {
            let reader = store.reader();
            let mut is_alive = true;
            let mut pieces = 0;
            let compacted = reader.compact_in_pieces(PIECE_BYTES, &mut |_| {
                pieces += 1;
                if is_alive && pieces % 5 == 0 {
                    is_alive = take(&mut store, &mut reached, &mut dice);
                }
            });
            reached.pieces += pieces;
            reached.compactions += usize::from(compacted.is_ok());
            if !is_alive || compacted.is_err() {
                return reached;
            }
        }
    }
    let flushed = store.flush();
    if flushed.is_ok() {
        reached.durable = store.reader().position();
    }
    reached
}

#[test]
fn compaction_beside_writes_keeps_them_all() {
    for seed in 0..6 {
        let (disk, history) = (MemDisk::new(), history(seed));
        let reached = drive(&disk, &history, Dice(seed));
        assert!(reached.compactions == 4 && reached.pieces > 60, "{reached:?}");
        let store = world::open(&disk, history.card);
        same(&store, &history, TURNS, "compacted");
        drop(store);
        sound(&disk, "compacted");
        assert!(world::is_tidy(&disk), "{:?}", disk.names());
    }
}

#[test]
fn power_cut_at_any_write_of_a_compaction_loses_nothing_durable() {
    let (mut points, mut begun, mut done) = (0, 0, 0);
    for seed in 0..2 {
        let history = history(seed);
        let positions: BTreeMap<_, _> =
            (0..=TURNS).map(|turns| (history.model(turns).recovered().position, turns)).collect();
        let total = {
            let disk = MemDisk::new();
            drive(&disk, &history, Dice(seed));
            disk.changes()
        };
        for at in (0..total).step_by(usize::try_from(total / 75).expect("small").max(1)) {
            let label = format!("seed {seed}, cut at change {at} of {total}");
            let disk = MemDisk::new();
            disk.set_faults(Faults { changes_until_power_cut: Some(at), ..Faults::default() });
            let reached = drive(&disk, &history, Dice(seed));
            disk.crash(at);
            let store = RedbStore::open(&disk, &small_options(history.card));
            let store = store.unwrap_or_else(|error| panic!("{label}: {error}"));
            let position = store.reader().position();
            assert!(position >= reached.durable, "{label}: {position:?} of {reached:?}");
            let turns = positions.get(&position).unwrap_or_else(|| panic!("{label}: half a batch"));
            assert_eq!(store.recovered().card, history.card, "{label}: another replica");
            same(&store, &history, *turns, &label);
            assert!(world::is_tidy(&disk), "{label}: {:?}", disk.names());
            drop(store);
            if points % 16 == 0 {
                sound(&disk, &label);
            }
            points += 1;
            begun += usize::from(reached.pieces > 0);
            done += usize::from(reached.compactions > 0);
        }
    }
    println!("{points} cuts, {begun} behind the beginning of a compaction, {done} behind the end of one");
    assert!(points >= 150 && begun >= 90 && done >= 60, "{points} {begun} {done}");
}

/// A store with all of a history in it.
fn filled(disk: &dyn Disk) -> (RedbStore, History) {
    let history = history(3);
    let mut store = RedbStore::open(disk, &small_options(history.card)).expect("an empty disk");
    for turn in &history.turns {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
        store.materialize().expect("nothing fails");
    }
    (store, history)
}

fn sizes(disk: &MemDisk) -> (u64, u64) {
    (disk.size("log.redb"), disk.size("rows.redb"))
}

#[test]
fn files_get_small_and_are_read_by_who_began_before() {
    let disk = MemDisk::new();
    let mut peer = Peer::new(0);
    let mut store = RedbStore::open(&disk, &options(peer.card)).expect("an empty disk");
    let mut known = vec![name(SPACES[0])];
    for number in 0..120_u8 {
        let write = Write::Set { key: vec![number % 40], value: vec![number; 60_000] };
        let frames = vec![peer.write(SPACES[0], &[write])];
        let turn = Turn { frames, keyspaces: std::mem::take(&mut known), ..Turn::default() };
        turn.commit(&mut store, Durability::Buffered).expect("nothing fails");
        store.materialize().expect("nothing fails");
    }
    let delete = |key| Write::Delete { key: vec![key] };
    let turn = Turn {
        frames: (1..40).map(|key| peer.write(SPACES[0], &[delete(key)])).collect(),
        ..Turn::default()
    };
    turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    store.truncate(LogPosition(u64::MAX));
    store.flush().expect("nothing fails");
    let snapshot = store.reader().snapshot();
    let before = sizes(&disk);
    let compacted = store.reader().compact(&mut |_| {}).expect("nothing fails");
    let after = sizes(&disk);
    let reported: Vec<_> = compacted.iter().map(|file| (file.before_bytes, file.after_bytes)).collect();
    assert_eq!(reported, [(before.0, after.0), (before.1, after.1)]);
    println!("{before:?} to {after:?} bytes");
    assert!(after.0 * 5 < before.0 && after.1 * 3 < before.1, "{before:?} to {after:?}");
    for rows in [&snapshot as &dyn Rows, &store] {
        assert_eq!(all_rows(rows, SPACES[0]), all_rows(&peer.store, SPACES[0]));
    }
    drop(snapshot);
    drop(store);
    sound(&disk, "compacted");
}

/// A file that has hardly more than it needs keeps its length or gets shorter, open or closed, and however often.
#[test]
fn small_files_are_never_enlarged() {
    for turns in [0, 1, 4, 12, TURNS] {
        let (disk, history) = (MemDisk::new(), history(3));
        let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("an empty disk");
        for turn in &history.turns[..turns] {
            turn.commit(&mut store, Durability::Durable).expect("nothing fails");
            store.materialize().expect("nothing fails");
        }
        for round in 0..3 {
            let label = format!("{turns} turns, round {round}");
            let before = sizes(&disk);
            let compacted = store.reader().compact(&mut |_| {}).expect("nothing fails");
            println!("{label}, open: {before:?} to {:?}", sizes(&disk));
            never_larger(before, sizes(&disk), &compacted, &label);
            same(&store, &history, turns, &label);
            drop(store);
            let before = sizes(&disk);
            let compacted = compact(&disk, &mut |_| {}).expect("nobody has it open");
            println!("{label}, closed: {before:?} to {:?}", sizes(&disk));
            never_larger(before, sizes(&disk), &compacted, &label);
            assert!(world::is_tidy(&disk), "{label}: {:?}", disk.names());
            store = world::open(&disk, history.card);
            same(&store, &history, turns, &label);
        }
        drop(store);
        sound(&disk, "compacted");
    }
}

fn never_larger(before: (u64, u64), after: (u64, u64), compacted: &[Compacted], label: &str) {
    let reported: Vec<_> = compacted.iter().map(|file| (file.before_bytes, file.after_bytes)).collect();
    assert_eq!(reported, [(before.0, after.0), (before.1, after.1)], "{label}");
    assert!(after.0 <= before.0 && after.1 <= before.1, "{label}: {before:?} to {after:?}");
}

/// What the copy cannot get does not concern the store.
#[test]
fn full_disk_ends_a_compaction_and_nothing_else() {
    for bytes in [0, 4_096, 100_000] {
        let disk = MemDisk::new();
        let (store, history) = filled(&disk);
        let reader = store.reader();
        let mut pieces = 0;
        let failed = reader.compact_in_pieces(PIECE_BYTES, &mut |_| {
            pieces += 1;
            if pieces == 3 {
                disk.set_faults(Faults { bytes_until_full: Some(bytes), ..Faults::default() });
            }
        });
        assert!(matches!(failed, Err(CompactError::Open(OpenError::Io { .. }))), "{failed:?}");
        disk.set_faults(Faults::default());
        assert!(world::is_tidy(&disk), "{:?}", disk.names());
        assert!(!reader.stats().expect("known").is_poisoned);
        same(&store, &history, TURNS, "after a full disk");
        store.flush().expect("the disk has room again");
        reader.compact(&mut |_| {}).expect("the disk has room again");
        same(&store, &history, TURNS, "compacted in the end");
    }
}

#[test]
fn one_compaction_at_a_time_and_it_is_shown() {
    let disk = MemDisk::new();
    let (store, _) = filled(&disk);
    let reader = store.reader();
    let mut shown = Vec::new();
    let compacted = reader.compact_in_pieces(PIECE_BYTES, &mut |at| {
        assert_eq!(reader.compaction(), Some(at));
        assert!(matches!(reader.compact(&mut |_| {}), Err(CompactError::Running)));
        shown.push(at);
    });
    assert_eq!(compacted.expect("nothing fails").len(), 2);
    assert!(shown.len() > 20 && shown.iter().all(|at| at.copied <= at.entries), "{shown:?}");
    assert_eq!(reader.compaction(), None);
    drop(store);
}

#[test]
fn compacted_store_is_no_copy_and_a_compacted_copy_is_one() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let (own, copied) = (parent.path().join("own"), parent.path().join("copied"));
    let disk = FileDisk::at(&own);
    let (store, history) = filled(&disk);
    store.reader().compact(&mut |_| {}).expect("nothing fails");
    drop(store);
    compact(&disk, &mut |_| {}).expect("nobody has it open");
    std::fs::create_dir(&copied).expect("it is new");
    for file in ["log.redb", "rows.redb", "log.mark"] {
        std::fs::copy(own.join(file), copied.join(file)).expect("it is ours");
    }
    compact(&FileDisk::at(&copied), &mut |_| {}).expect("nobody has it open");
    let mut fresh = history.card;
    fresh.nonce = [99; 16];
    for (folder, expected) in [(own, history.card), (copied, fresh)] {
        let store = RedbStore::open(&FileDisk::at(folder), &options(fresh)).expect("it is sound");
        assert_eq!(store.recovered().card, expected);
        for space in SPACES {
            assert_eq!(all_rows(&store, space), all_rows(&history.model(TURNS), space));
        }
    }
}

#[test]
fn damage_is_never_copied() {
    let disk = MemDisk::new();
    let (store, history) = filled(&disk);
    drop(store);
    let mut dice = Dice(5);
    let (mut refused, mut compacted) = (0, 0);
    for file in ["log.redb", "rows.redb"] {
        for _ in 0..60 {
            let turned = disk.imaged();
            let byte = dice.below(usize::try_from(disk.size(file)).expect("small")) as u64;
            turned.flip_bit(file, byte, u8::try_from(dice.below(8)).expect("a bit"));
            let before = turned.read(file);
            if compact(&turned, &mut |_| {}).is_err() {
                refused += 1;
                let is_repaired = turned.read(file) != before;
                let report = check(&turned, &mut |_| {});
                assert!(
                    is_repaired || report.is_err() || report.is_ok_and(|report| !report.findings.is_empty())
                );
                continue;
            }
            compacted += 1;
            if let Ok(store) = RedbStore::open(&turned, &options(history.card)) {
                same(&store, &history, TURNS, "the bit was in no page that is used");
            }
        }
    }
    println!("{refused} refused, {compacted} compacted");
    assert!(refused >= 10 && compacted >= 10, "{refused} refused, {compacted} compacted");
}

/// Whoever removes a file of a running store finds it there again, with all that was acknowledged meanwhile.
#[test]
fn files_that_are_removed_while_they_are_open_are_written_again() {
    for removed in [&["rows.redb"][..], &["log.redb"], &["log.redb", "rows.redb"]] {
        let disk = MemDisk::new();
        let history = history(3);
        let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("an empty disk");
        for (number, turn) in history.turns.iter().enumerate() {
            if number == TURNS / 2 {
                removed.iter().for_each(|file| disk.remove(file).expect("nothing fails"));
            }
            turn.commit(&mut store, Durability::Durable).expect("the file is open still");
            store.materialize().expect("the file is open still");
            if number == TURNS * 3 / 4 {
                store.reader().put_back_removed().expect("nothing fails");
                assert!(removed.iter().all(|file| disk.size(file) > 0), "{removed:?}");
            }
        }
        same(&store, &history, TURNS, "while it runs");
        drop(store);
        disk.crash(7);
        let store = world::open(&disk, history.card);
        same(&store, &history, TURNS, "after a power cut");
        assert_eq!(store.recovered().card, history.card, "it is no copy");
        drop(store);
        sound(&disk, "written again");
        assert!(world::is_tidy(&disk), "{:?}", disk.names());
    }
}

#[test]
fn removed_log_that_cannot_be_written_again_takes_no_more_writes() {
    let disk = MemDisk::new();
    let (mut store, history) = filled(&disk);
    disk.remove("log.redb").expect("nothing fails");
    disk.set_faults(Faults { bytes_until_full: Some(0), ..Faults::default() });
    store.reader().put_back_removed().expect_err("there is no room");
    disk.set_faults(Faults::default());
    let refused = store.sync().expect_err("it would be lost");
    assert!(refused.to_string().contains("was removed"), "{refused}");
    same(&store, &history, TURNS, "reads go on");
    drop(store);
    let refused = RedbStore::open(&disk, &options(history.card)).expect_err("dots would be used twice");
    assert!(matches!(refused, OpenError::LogMissing), "{refused}");
}
