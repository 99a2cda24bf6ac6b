//! What need not be durable: it stays in memory until something durable, a reader of the log, or the store's end takes
//! it along.

use crate::world::{self, History, SPACES, all_rows};
use tidelock_engine::ports::{Durability, Log, LogPosition, Store};
use tidelock_store::{Disk, MaterializeOptions, MemDisk, OpenOptions, RedbStore, check};

const TURNS: usize = 12;

/// Turns of which each says how far Raft's log is applied, as those of an anchor do.
fn history() -> History {
    let mut history = History::random(5, TURNS);
    for (turn, number) in history.turns.iter_mut().zip(0_u64..) {
        turn.raft_applied = Some(number.to_be_bytes().to_vec());
    }
    history
}

fn commit(store: &mut RedbStore, history: &History, turns: std::ops::Range<usize>, durability: Durability) {
    for turn in &history.turns[turns] {
        turn.commit(store, durability).expect("nothing fails");
    }
}

/// The store holds the first turns of a history.
fn same(store: &RedbStore, history: &History, turns: usize) {
    let model = history.model(turns);
    for space in SPACES {
        assert_eq!(all_rows(store, space), all_rows(&model, space));
    }
    let records = |log: &dyn Log| log.records_from(LogPosition(1), usize::MAX).expect("readable");
    assert_eq!(records(store), records(&model));
}

fn sound(disk: &dyn Disk) {
    assert_eq!(check(disk, &mut |_| {}).expect("checkable").findings, []);
}

#[test]
fn buffered_commits_reach_the_disk_with_the_next_durable_one() {
    let (disk, history) = (MemDisk::new(), history());
    let mut store = world::open(&disk, history.card);
    commit(&mut store, &history, 0..1, Durability::Durable);
    let (written, syncs) = (disk.written_bytes(), disk.syncs());
    commit(&mut store, &history, 1..TURNS - 1, Durability::Buffered);
    assert_eq!((disk.written_bytes(), disk.syncs()), (written, syncs), "they cost nothing");
    commit(&mut store, &history, TURNS - 1..TURNS, Durability::Durable);
    let cut = disk.imaged();
    cut.crash(1);
    same(&world::open(&cut, history.card), &history, TURNS);
    sound(&cut);
    same(&store, &history, TURNS);
}

#[test]
fn buffered_commits_are_read_at_once_and_are_gone_after_a_crash() {
    let (disk, history) = (MemDisk::new(), history());
    let mut store = world::open(&disk, history.card);
    commit(&mut store, &history, 0..2, Durability::Durable);
    commit(&mut store, &history, 2..TURNS, Durability::Buffered);
    let before = disk.imaged();
    before.crash(1);
    same(&store, &history, TURNS);
    same(&world::open(&before, history.card), &history, 2);
    sound(&before);
}

#[test]
fn closed_store_holds_what_was_buffered_and_its_rows_are_not_ahead() {
    let (disk, history) = (MemDisk::new(), history());
    let materialize = MaterializeOptions { synced_every: 1_000, ..MaterializeOptions::default() };
    let options = OpenOptions { materialize, ..world::options(history.card) };
    let mut store = RedbStore::open(&disk, &options).expect("the store can be opened");
    commit(&mut store, &history, 0..TURNS, Durability::Buffered);
    store.materialize().expect("nothing fails");
    drop(store);
    same(&world::open(&disk, history.card), &history, TURNS);
    sound(&disk);
}

#[test]
fn copy_that_begins_behind_buffered_commits_has_them() {
    let (disk, history) = (MemDisk::new(), history());
    let mut store = world::open(&disk, history.card);
    commit(&mut store, &history, 0..TURNS / 2, Durability::Buffered);
    let reader = store.reader();
    let mut rest = TURNS / 2..TURNS;
    reader
        .compact_in_pieces(500, &mut |_| {
            // More comes in the midst of it, and is read.
            if let Some(turn) = rest.next() {
                commit(&mut store, &history, turn..turn + 1, Durability::Buffered);
                same(&store, &history, turn + 1);
            }
        })
        .expect("nothing fails");
    assert!(rest.is_empty(), "there are as many pieces");
    same(&store, &history, TURNS);
    store.sync().expect("nothing fails");
    disk.crash(1);
    drop(store);
    same(&world::open(&disk, history.card), &history, TURNS);
    sound(&disk);
}
