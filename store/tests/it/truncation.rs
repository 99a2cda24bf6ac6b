//! Letting go of the log from its beginning, and taking over state in place of frames.

use crate::world::{self, Dice, History, Peer, SPACES, all_rows, keyspace, name};
use tidelock_engine::apply::apply_install;
use tidelock_engine::causality::{Dot, Head, Hlc};
use tidelock_engine::draft::Draft;
use tidelock_engine::id::{FrameId, ReplicaId};
use tidelock_engine::install::Install;
use tidelock_engine::mem_store::MemStore;
use tidelock_engine::ports::{Batch, Durability, Log, LogPosition, Rows, Store};
use tidelock_engine::row::{Kind, Payload, RowId};
use tidelock_store::{Disk, MemDisk, RedbStore};

const TURNS: usize = 40;

/// Records, floors and rows are those of the model.
fn same(store: &RedbStore, model: &MemStore) {
    assert_eq!(store.reader().position(), model.recovered().position);
    assert_eq!(store.first(), model.first());
    let all = |log: &dyn Log| log.records_from(LogPosition(0), usize::MAX).expect("readable");
    assert_eq!(all(store), all(model));
    for space in SPACES.map(keyspace) {
        for author in (0..4).map(|number| Peer::new(number).card.replica()) {
            assert_eq!(store.floor(space, author), model.floor(space, author));
            for seq in 0..60 {
                let dot = Dot::new(author, seq);
                let found = store.frame_with(space, dot).expect("readable");
                assert_eq!(found, model.frame_with(space, dot).expect("readable"), "{dot}");
                let missing = store.missing(space, &[dot], 2_000).expect("readable");
                assert_eq!(missing, model.missing(space, &[dot], 2_000).expect("readable"), "{dot}");
            }
        }
    }
    for space in SPACES {
        assert_eq!(all_rows(store, space), all_rows(model, space));
    }
}

/// Frames are let go at random, now and then, also while others come and over restarts and power cuts.
#[test]
fn truncated_log_holds_what_is_behind_and_the_rows_stay() {
    let mut truncated = 0;
    for seed in 0..12 {
        let history = History::random(seed, TURNS);
        let (disk, mut dice) = (MemDisk::new(), Dice(seed));
        let mut store = world::open(&disk, history.card);
        let mut model = history.model(0);
        for turn in &history.turns {
            turn.commit(&mut store, Durability::Durable).expect("nothing fails");
            let last = turn.commit(&mut model, Durability::Durable).expect("nothing fails");
            if dice.below(4) == 0 {
                let until = LogPosition(dice.below(usize::try_from(last.0).expect("few")) as u64);
                store.truncate(until);
                store.flush().expect("nothing fails");
                model.truncate(until);
                same(&store, &model);
                truncated += 1;
            }
            match dice.below(8) {
                0 => {
                    drop(store);
                    disk.kill();
                    store = world::open(&disk, history.card);
                }
                1 => {
                    drop(store);
                    disk.crash(seed);
                    store = world::open(&disk, history.card);
                    // What was let go may be back, and is let go again.
                    store.truncate(LogPosition(model.first().0 - 1));
                    store.flush().expect("nothing fails");
                }
                _ => continue,
            }
            same(&store, &model);
            assert_eq!(store.recovered().keyspaces, model.recovered().keyspaces);
        }
        drop(store);
        let report = tidelock_store::check(&disk, &mut |_| {}).expect("the store is there");
        assert_eq!(report.findings, []);
    }
    assert!(truncated > 60, "{truncated}");
}

/// What the rows on disk do not hold is not let go of, whatever is asked for.
#[test]
fn nothing_is_let_go_that_only_the_log_has() {
    let history = History::random(3, TURNS);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    for turn in &history.turns {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    assert_eq!(store.first(), LogPosition(1));
    store.truncate(LogPosition(u64::MAX));
    store.materialize().expect("nothing fails");
    assert_eq!(store.first(), store.reader().position(), "rows are synced for it, and the last one stays");
    drop(store);
    disk.crash(5);
    let store = world::open(&disk, history.card);
    let model = history.model(TURNS);
    assert_eq!(store.recovered(), model.recovered());
    for space in SPACES {
        assert_eq!(all_rows(&store, space), all_rows(&model, space));
    }
}

/// A state with one element of an author that is new here.
fn install(history: &History, number: u8, is_last: bool) -> (Batch, Install) {
    let peer = Peer::new(7);
    let author: ReplicaId = peer.card.replica();
    let dot = Dot::new(author, u64::from(number) + 1);
    let row = RowId { key: b"installed".to_vec(), kind: Kind::Set, subkey: vec![number], dot };
    let head = Head { seq: 9, frame: FrameId::of(b"the last one") };
    let install = Install {
        keyspace: keyspace(SPACES[0]),
        rows: vec![(row, Some(Payload::Member))],
        heads: is_last.then(|| vec![(author, head)]),
    };
    let keyspaces =
        if history.model(0).recovered().keyspaces.is_empty() { vec![name(SPACES[0])] } else { vec![] };
    let cards = if number == 0 { vec![peer.card] } else { Vec::new() };
    let installs = vec![(0, install.clone())];
    (Batch { keyspaces, cards, installs, clock: Hlc::at(5), ..Batch::default() }, install)
}

fn commit(store: &mut impl Store, (batch, install): &(Batch, Install)) {
    let mut draft = Draft::over(store);
    apply_install(&mut draft, install).expect("readable");
    let changes = draft.into_changes();
    let Batch { keyspaces, cards, installs, clock, .. } = batch;
    let (keyspaces, cards) = (keyspaces.clone(), cards.clone());
    let batch =
        Batch { keyspaces, cards, installs: installs.clone(), changes, clock: *clock, ..Batch::default() };
    store.commit(&batch, Durability::Durable).expect("nothing fails");
}

/// State that is taken over in parts is there after a crash between any two of them, and its rows are made again
/// from the log; before the last part the keyspace is partial.
#[test]
fn state_that_is_taken_over_survives_crashes_and_is_made_again_from_the_log() {
    let history = History::random(4, TURNS);
    let disk = MemDisk::new();
    let (mut store, mut model) = (world::open(&disk, history.card), history.model(0));
    for (number, is_last) in [(0, false), (1, false), (2, true)] {
        let part = install(&history, number, is_last);
        commit(&mut store, &part);
        commit(&mut model, &part);
        for rows_are_lost in [false, true] {
            drop(store);
            disk.crash(u64::from(number));
            if rows_are_lost {
                disk.remove("rows.redb").expect("the disk works");
            }
            store = world::open(&disk, history.card);
            assert_eq!(store.recovered(), model.recovered());
            assert_eq!(store.recovered().keyspaces[&name(SPACES[0])].is_partial, !is_last);
            same(&store, &model);
        }
    }
    let author = Peer::new(7).card.replica();
    assert_eq!(store.floor(keyspace(SPACES[0]), author), 9, "its frames are nowhere here");
    assert_eq!(store.members(keyspace(SPACES[0]), b"installed", Kind::Set).ok(), Some(3));
    drop(store);
    let report = tidelock_store::check(&disk, &mut |_| {}).expect("the store is there");
    assert_eq!(report.findings, []);
}

/// A crash after state was taken over whole, while the rows on disk still stand in the middle of it: the frames that
/// were committed behind it are applied again too.
#[test]
fn frames_behind_state_that_was_taken_over_survive_a_crash() {
    let history = History::random(6, TURNS);
    let disk = MemDisk::new();
    let (mut store, mut model) = (world::open(&disk, history.card), history.model(0));
    for (number, is_last) in [(0, false), (1, true)] {
        let part = install(&history, number, is_last);
        commit(&mut store, &part);
        commit(&mut model, &part);
        if !is_last {
            store.flush().expect("nothing fails");
        }
    }
    for turn in &history.turns[..5] {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
        turn.commit(&mut model, Durability::Durable).expect("nothing fails");
    }
    drop(store);
    disk.kill();
    let store = world::open(&disk, history.card);
    assert_eq!(store.recovered(), model.recovered());
    same(&store, &model);
}

/// The rows are lost after the log was truncated: what was below the floor has to come from peers, and nothing is
/// shown in its place.
#[test]
fn rows_that_the_log_cannot_make_again_are_shown_as_missing() {
    let history = History::random(5, TURNS);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    for turn in &history.turns {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    store.truncate(LogPosition(10));
    store.flush().expect("nothing fails");
    let last = store.reader().position();
    drop(store);
    disk.remove("rows.redb").expect("the disk works");
    for _ in 0..2 {
        let store = world::open(&disk, history.card);
        let recovered = store.recovered();
        assert_eq!(recovered.position, last);
        assert!(SPACES.iter().any(|space| recovered.keyspaces[&name(space)].is_partial));
        for space in SPACES.into_iter().filter(|space| recovered.keyspaces[&name(space)].is_partial) {
            assert_eq!(all_rows(&store, space), []);
            assert!(recovered.keyspaces[&name(space)].heads.is_empty());
        }
        store.flush().expect("nothing fails");
    }
}
