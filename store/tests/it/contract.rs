//! What every store must do, run against the store on disk and against the engine's store in memory.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::world::{
    self, Dice, History, SPACES, TEXTS, Turn, all_rows, counted, keyspace, name, options, rows, small_options,
};
use tidelock_engine::causality::{Dot, Hlc};
use tidelock_engine::id::KeyspaceId;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{
    After, Due, Durability, Log, LogPosition, LoggedFrame, RowRange, Rows, Store, Within,
};
use tidelock_engine::row::{Kind, RowId};
use tidelock_store::{MemDisk, RedbStore};

/// Drives a store through random histories and compares it with a model after every few turns.
fn reads_what_was_committed<S: Store>(
    make: impl Fn(&History) -> S,
    mut between: impl FnMut(&mut Dice, &mut S),
) {
    let mut frames = 0;
    for seed in 0..12 {
        let history = History::random(seed, 40);
        let mut dice = Dice(seed);
        let (mut store, mut model) = (make(&history), history.model(0));
        for (number, turn) in history.turns.iter().enumerate() {
            let position = turn.commit(&mut store, turn.durability()).expect("nothing fails");
            assert_eq!(position, turn.commit(&mut model, turn.durability()).expect("nothing fails"));
            between(&mut dice, &mut store);
            if number % 8 == 7 {
                same_rows(&mut dice, &store, &model);
                same_log(&mut dice, &store, &model, &history);
            }
        }
        frames += history.frames().count();
    }
    assert!(frames > 500, "only {frames} frames");
}

fn same_rows(dice: &mut Dice, store: &impl Store, model: &MemStore) {
    for space in SPACES {
        let found = all_rows(store, space);
        assert_eq!(found, all_rows(model, space));
        let (_, keys, members) = counted(&found);
        assert_eq!(store.keys(keyspace(space)).expect("readable"), keys);
        for key in TEXTS {
            for kind in [Kind::Set, Kind::Map, Kind::Sorted] {
                let count = members.get(&(key.to_vec(), kind)).copied().unwrap_or(0);
                assert_eq!(store.members(keyspace(space), key, kind).expect("readable"), count);
            }
        }
        for (row, payload) in found {
            assert_eq!(store.row(keyspace(space), &row).expect("readable"), Some(payload));
            let dot = Dot::new(row.dot.replica, row.dot.seq + 100_000);
            assert_eq!(store.row(keyspace(space), &RowId { dot, ..row }).expect("readable"), None);
        }
        same_deadlines(dice, store, model, keyspace(space));
        for _ in 0..40 {
            let range = random_range(dice);
            assert_eq!(rows(store, space, &range), rows(model, space, &range), "{range:?}");
        }
    }
    assert_eq!(all_rows(store, "unknown"), []);
    assert_eq!(store.keys(keyspace("unknown")).expect("readable"), 0);
}

/// The store finds deadlines by their time, the model looks at every row.
fn same_deadlines(dice: &mut Dice, store: &impl Store, model: &MemStore, keyspace: KeyspaceId) {
    let found = |store: &dyn Rows, after: Option<&Due>, until_ms, count: usize| {
        let mut found = Vec::new();
        let visit = &mut |due| {
            found.push(due);
            if found.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.deadlines(keyspace, after, until_ms, visit).expect("readable");
        found
    };
    let all = found(model, None, u64::MAX, usize::MAX);
    assert_eq!(found(store, None, u64::MAX, usize::MAX), all);
    assert!(all.is_empty() || store.has_deadlines(keyspace));
    for after in &all {
        let (until_ms, count) = (after.unix_ms + dice.below(3) as u64, 1 + dice.below(4));
        assert_eq!(found(store, Some(after), until_ms, count), found(model, Some(after), until_ms, count));
    }
}

fn random_range(dice: &mut Dice) -> RowRange {
    let mut text = || dice.pick(&TEXTS).to_vec();
    let (key, subkey, after_key, after_subkey) = (text(), text(), text(), text());
    let (kind, after_kind) = (*dice.pick(&Kind::ALL), *dice.pick(&Kind::ALL));
    let within = match dice.below(6) {
        0 => Within::Keyspace,
        1 => Within::KeyPrefix(key),
        2 => Within::Key(key),
        3 => Within::Kind(key, kind),
        4 => Within::SubkeyPrefix(key, kind, subkey),
        _ => Within::Group(key, kind, subkey),
    };
    let after = match dice.below(4) {
        0 => None,
        1 => Some(After::Key(after_key)),
        2 => Some(After::From(after_key, after_kind, after_subkey)),
        _ => Some(After::Group(after_key, after_kind, after_subkey)),
    };
    RowRange { within, after }
}

fn same_log(dice: &mut Dice, store: &impl Store, model: &MemStore, history: &History) {
    let last = model.recovered().position.0;
    for _ in 0..20 {
        let (from, count) = (LogPosition(dice.below(80) as u64), dice.below(20));
        let found = store.records_from(from, count).expect("readable");
        assert_eq!(found, model.records_from(from, count).expect("readable"));
        let after: Vec<Dot> = (0..4)
            .map(|number| world::Peer::new(number).card.replica())
            .map(|replica| Dot::new(replica, dice.below(60) as u64))
            .collect();
        let bytes_max = *dice.pick(&[0, 500, 2_000, usize::MAX]);
        for space in [SPACES[0], SPACES[1], "unknown"] {
            let found = store.missing(keyspace(space), &after, bytes_max).expect("readable");
            assert_eq!(found, model.missing(keyspace(space), &after, bytes_max).expect("readable"));
        }
    }
    for (position, frame) in (1..=last).zip(history.frames()) {
        let logged = LoggedFrame { position: LogPosition(position), bytes: frame.bytes().clone() };
        let header = frame.header();
        for seq in header.first..=header.last() {
            let dot = Dot::new(header.author, seq);
            let found = store.frame_with(header.keyspace, dot).expect("readable");
            assert_eq!(found.as_ref(), Some(&logged));
        }
        let card = store.card(header.author).expect("readable").expect("the author is known");
        assert_eq!(card.replica(), header.author);
        frame.verify(&card).expect("its author signed it");
        let other = Dot::new(header.author, 100_000);
        assert_eq!(store.frame_with(header.keyspace, other).expect("readable"), None);
    }
}

fn redb(history: &History) -> RedbStore {
    RedbStore::open(&MemDisk::new(), &options(history.card)).expect("an empty disk")
}

#[test]
fn store_in_memory_reads_what_was_committed() {
    reads_what_was_committed(|history| MemStore::new(world::cluster(), history.card), |_, _| {});
}

#[test]
fn store_reads_what_was_committed_from_the_overlay() {
    reads_what_was_committed(redb, |_, _| {});
}

#[test]
fn store_reads_what_was_committed_from_overlay_and_rows() {
    let mut materialized = 0;
    reads_what_was_committed(redb, |dice, store| {
        if dice.below(5) == 0 {
            store.materialize().expect("nothing fails");
            materialized += 1;
        }
    });
    assert!(materialized > 50);
}

#[test]
fn store_that_is_opened_again_is_the_same() {
    let mut replayed = 0;
    for seed in 0..10 {
        let history = History::random(seed, 30);
        let (disk, mut dice) = (MemDisk::new(), Dice(seed));
        for (number, turn) in history.turns.iter().enumerate() {
            let mut store =
                RedbStore::open(&disk, &small_options(history.card)).expect("the store can be opened");
            let model = history.model(number);
            assert_eq!(store.recovered(), model.recovered());
            turn.commit(&mut store, turn.durability()).expect("nothing fails");
            if dice.below(6) == 0 {
                store.flush().expect("nothing fails");
            } else {
                replayed += 1;
            }
            // A clean close loses nothing, a killed process neither.
            if dice.below(2) == 0 {
                store.sync().expect("nothing fails");
                disk.kill();
            }
        }
        let store = world::open(&disk, history.card);
        let model = history.model(history.turns.len());
        same_rows(&mut dice, &store, &model);
        same_log(&mut dice, &store, &model, &history);
        for space in SPACES {
            let state = store.reader().snapshot().state(keyspace(space)).expect("readable");
            assert_eq!(state.as_ref(), model.recovered().keyspaces.get(&name(space)));
        }
    }
    assert!(replayed > 200);
}

#[test]
fn snapshot_stays_at_its_moment_while_commits_and_rows_go_on() {
    let history = History::random(7, 60);
    let mut store =
        RedbStore::open(&MemDisk::new(), &options(history.card)).expect("the store can be opened");
    let mut snapshots = Vec::new();
    for (number, turn) in history.turns.iter().enumerate() {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
        snapshots.push((number + 1, store.reader().snapshot()));
        if number % 7 == 3 {
            store.materialize().expect("nothing fails");
        }
    }
    for (turns, snapshot) in &snapshots {
        let model = history.model(*turns);
        for space in SPACES {
            assert_eq!(all_rows(snapshot, space), all_rows(&model, space), "after {turns} turns");
            let state = snapshot.state(keyspace(space)).expect("readable");
            assert_eq!(
                state.unwrap_or_default(),
                model.recovered().keyspaces.remove(&name(space)).unwrap_or_default()
            );
            assert_eq!(
                snapshot.keys(keyspace(space)).expect("readable"),
                model.keys(keyspace(space)).expect("readable")
            );
        }
    }
    let positions: BTreeSet<_> = snapshots.iter().map(|(_, snapshot)| snapshot.position()).collect();
    assert_eq!(positions.len(), history.turns.len());
}

#[test]
fn durable_commit_costs_one_sync_and_a_buffered_one_none() {
    let history = History::random(1, 40);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    let before = disk.syncs();
    for turn in &history.turns {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
    }
    let durable = history.turns.iter().filter(|turn| turn.is_durable).count() as u64;
    println!("syncs: {} for {durable} durable commits", disk.syncs() - before);
    assert!(durable > 10);
    assert_eq!(disk.syncs() - before, durable);
    let turn = Turn { clock: Hlc::at(1), keyspaces: vec![name("more")], ..Turn::default() };
    turn.commit(&mut store, Durability::Buffered).expect("nothing fails");
    for _ in 0..3 {
        store.sync().expect("nothing fails");
        assert_eq!(disk.syncs() - before, durable + 1);
    }
}

#[test]
fn clock_that_was_committed_is_recovered_with_frames_and_without() {
    let history = History::random(8, 6);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    let turn = Turn { clock: Hlc::at(9_000_000), ..history.turns[0].clone() };
    turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    // A clock that is set back does not take back what was persisted.
    history.turns[1].commit(&mut store, Durability::Durable).expect("nothing fails");
    disk.crash(1);
    let mut store = world::open(&disk, history.card);
    assert_eq!(store.recovered().clock, Hlc::at(9_000_000));
    let turn = Turn { clock: Hlc::at(9_000_001), keyspaces: vec![name("more")], ..Turn::default() };
    turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    disk.crash(2);
    let store = world::open(&disk, history.card);
    assert_eq!(store.recovered().clock, Hlc::at(9_000_001));
    assert!(store.recovered().keyspaces.contains_key(&name("more")));
}
