//! A disk that fails, fills up, turns bits, or holds somebody else's files.

use crate::world::{self, Dice, History, SPACES, all_rows, keyspace, options, small_options};
use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::ClusterId;
use tidelock_engine::ports::{CommitError, Durability, Log, LogPosition, Rows, Store};
use tidelock_store::{Faults, FileDisk, MemDisk, OpenError, OpenOptions, RedbStore, check};

/// A store with some of a history in it, rows written.
fn filled(turns: usize) -> (MemDisk, History) {
    filled_with(History::random(21, turns))
}

fn filled_with(history: History) -> (MemDisk, History) {
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    for turn in &history.turns {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
    }
    store.flush().expect("nothing fails");
    drop(store);
    (disk, history)
}

fn same(store: &RedbStore, history: &History, turns: usize) {
    let model = history.model(turns);
    for space in SPACES {
        assert_eq!(all_rows(store, space), all_rows(&model, space));
        assert_eq!(
            store.keys(keyspace(space)).expect("readable"),
            model.keys(keyspace(space)).expect("readable")
        );
    }
    let frames = store.records_from(LogPosition(1), usize::MAX).expect("readable");
    assert_eq!(frames, model.records_from(LogPosition(1), usize::MAX).expect("readable"));
}

/// Commits until the fault shows, then checks that reads go on and show what was committed before.
fn poisons(faults: Faults) {
    let history = History::random(4, 60);
    let disk = MemDisk::new();
    // Almost nothing is cached, so that reads go to the file that failed.
    let options = OpenOptions { cache_bytes: 4_096, ..small_options(history.card) };
    let mut store = RedbStore::open(&disk, &options).expect("nothing fails yet");
    let mut turns = history.turns.iter().enumerate();
    for (number, turn) in turns.by_ref().take(20) {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails yet");
        if number == 15 {
            store.materialize().expect("nothing fails yet");
        }
    }
    disk.set_faults(faults);
    let failed = turns.find_map(|(number, turn)| {
        let result = turn.commit(&mut store, Durability::Durable);
        result.err().map(|error| (number, error))
    });
    let (at, error) = failed.unwrap_or_else(|| panic!("{faults:?} never showed"));
    assert!(matches!(error, CommitError::Io { .. }), "{error}");
    same(&store, &history, at);
    let refused = history.turns[at].commit(&mut store, Durability::Buffered);
    assert!(matches!(refused, Err(CommitError::Poisoned { .. })), "{refused:?}");
    assert!(matches!(store.sync(), Err(CommitError::Poisoned { .. })));
    assert!(matches!(store.materialize(), Err(CommitError::Poisoned { .. })));
    assert!(store.reader().stats().expect("known").is_poisoned);
    same(&store, &history, at);
    drop(store);
    disk.crash(1);
    let store = world::open(&disk, history.card);
    let recovered = store.recovered().position;
    let acknowledged = history.model(at).recovered().position;
    assert!(recovered >= acknowledged);
    let turns = if recovered == acknowledged { at } else { at + 1 };
    same(&store, &history, turns);
}

#[test]
fn failed_sync_poisons_the_store_and_reads_go_on() {
    for syncs in [0, 1, 3] {
        poisons(Faults { syncs_until_error: Some(syncs), ..Faults::default() });
    }
}

/// There is no room for a while: writes are refused, reads go on, and behind that writes go on with nothing lost,
/// nothing of what was refused is there, and the store was never closed.
#[test]
fn full_disk_refuses_writes_until_there_is_room_again() {
    let mut failures = 0;
    for bytes in [0, 1, 4_096, 20_000, 50_000, 100_000, 200_000] {
        let history = History::random(4, 60);
        let disk = MemDisk::new();
        let options = OpenOptions { cache_bytes: 4_096, ..small_options(history.card) };
        let mut store = RedbStore::open(&disk, &options).expect("nothing fails yet");
        let full = Faults { bytes_until_full: Some(bytes), ..Faults::default() };
        for (number, turn) in history.turns.iter().enumerate() {
            if number % 20 == 10 {
                disk.set_faults(full);
            }
            while let Err(error) = turn.commit(&mut store, Durability::Durable) {
                failures += 1;
                assert!(matches!(error, CommitError::Full { .. }), "{error}");
                assert!(store.is_full() && store.reader().stats().expect("known").is_poisoned);
                same(&store, &history, number);
                assert!(matches!(store.sync(), Err(CommitError::Full { .. })));
                assert!(matches!(store.materialize(), Err(CommitError::Full { .. })));
                assert!(store.heal().expect("nothing else fails").is_none(), "there is no room yet");
                same(&store, &history, number);
                disk.set_faults(Faults::default());
                let recovered = store.heal().expect("nothing fails").expect("there is room");
                assert_eq!(recovered, history.model(number).recovered());
                same(&store, &history, number);
            }
            if number % 7 == 0 && !store.is_full() {
                let written = store.materialize();
                assert!(matches!(written, Ok(()) | Err(CommitError::Full { .. })), "{written:?}");
            }
        }
        disk.set_faults(Faults::default());
        if store.is_full() {
            store.heal().expect("nothing fails").expect("there is room");
        }
        same(&store, &history, history.turns.len());
        store.flush().expect("there is room");
        assert!(world::is_tidy(&disk), "{:?}", disk.names());
        drop(store);
        same(&world::open(&disk, history.card), &history, history.turns.len());
        assert_eq!(check(&disk, &mut |_| {}).expect("checkable").findings, []);
    }
    assert!(failures >= 12, "only {failures} commits met the full disk");
}

/// The disk is full right behind the sync of a commit, as the file of the log is cut: what is on disk counts, so the
/// store goes on with it instead of being refused for another end.
#[test]
fn commit_that_was_synced_before_the_disk_was_full_counts() {
    let history = History::random(4, 60);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    let cuts = history.turns.iter().position(|turn| {
        let bytes = disk.size("log.redb");
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
        disk.size("log.redb") < bytes
    });
    let at = cuts.expect("the log is cut at some time");
    let with_room_for = |bytes| {
        let disk = MemDisk::new();
        let mut store = world::open(&disk, history.card);
        for turn in &history.turns[..at] {
            turn.commit(&mut store, Durability::Durable).expect("nothing fails yet");
        }
        disk.set_faults(Faults { bytes_until_full: Some(bytes), ..Faults::default() });
        let is_taken = history.turns[at].commit(&mut store, Durability::Durable).is_ok();
        (disk, store, at + usize::from(is_taken))
    };
    let (mut refused, mut taken) = (0, 1 << 20);
    while refused + 1 < taken {
        let bytes = u64::midpoint(refused, taken);
        *(if with_room_for(bytes).2 == at { &mut refused } else { &mut taken }) = bytes;
    }
    for bytes in [refused, taken] {
        let (disk, mut store, turns) = with_room_for(bytes);
        same(&store, &history, turns);
        assert!(store.is_full(), "there is room for {bytes} bytes");
        disk.set_faults(Faults::default());
        let recovered = store.heal().expect("nothing fails").expect("there is room");
        assert_eq!(recovered, history.model(turns).recovered());
        for turn in &history.turns[turns..] {
            turn.commit(&mut store, Durability::Durable).expect("there is room");
        }
        drop(store);
        same(&world::open(&disk, history.card), &history, history.turns.len());
    }
}

/// A full disk, and then a power cut in the midst of going on: as if the power had been cut in the full one.
#[test]
fn power_cut_while_a_full_disk_heals_loses_nothing() {
    let history = History::random(4, 40);
    let (mut points, mut healed) = (0, 0);
    for at in (0..120).step_by(3) {
        let disk = MemDisk::new();
        let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("nothing fails yet");
        disk.set_faults(Faults { bytes_until_full: Some(300_000), ..Faults::default() });
        let turns =
            history.turns.iter().position(|turn| turn.commit(&mut store, Durability::Durable).is_err());
        let turns = turns.expect("the disk is full at some time");
        disk.set_faults(Faults { changes_until_power_cut: Some(at), ..Faults::default() });
        healed += usize::from(store.heal().is_ok_and(|recovered| recovered.is_some()));
        disk.crash(at);
        drop(store);
        same(&world::open(&disk, history.card), &history, turns);
        points += 1;
    }
    assert!(points == 40 && healed > 0 && healed < points, "{healed} of {points} healed");
}

/// What was acknowledged without being on disk is not given up silently.
#[test]
fn full_disk_under_buffered_writes_waits_for_a_restart() {
    let history = History::random(4, 60);
    let disk = MemDisk::new();
    let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("nothing fails yet");
    let turns = &history.turns;
    turns[0].commit(&mut store, Durability::Buffered).expect("nothing fails yet");
    disk.set_faults(Faults { bytes_until_full: Some(0), ..Faults::default() });
    let failed = turns[1..].iter().position(|turn| turn.commit(&mut store, Durability::Buffered).is_err());
    let failed = failed.map_or_else(|| store.sync().map(|()| 0), Ok);
    disk.set_faults(Faults::default());
    assert!(failed.is_err() || failed.is_ok_and(|at| at < turns.len()));
    assert!(store.heal().expect("nothing is done").is_none());
    assert!(store.sync().is_err());
}

#[test]
fn disk_that_becomes_read_only_poisons_the_store_and_reads_go_on() {
    poisons(Faults { is_read_only: true, ..Faults::default() });
}

#[test]
fn store_is_not_opened_on_a_read_only_disk() {
    let (disk, history) = filled(5);
    disk.set_faults(Faults { is_read_only: true, ..Faults::default() });
    let refused = RedbStore::open(&disk, &options(history.card)).expect_err("redb must write to open");
    assert!(matches!(refused, OpenError::Io { file: "log.redb", .. }), "{refused}");
    assert!(refused.to_string().contains("read-only"), "{refused}");
    disk.set_faults(Faults::default());
    same(&world::open(&disk, history.card), &history, 5);
}

/// A bit that turns in the pages of the last commit looks to redb like a commit that was cut off.
#[test]
fn turned_bit_in_the_log_never_takes_back_what_was_acknowledged() {
    let history = History::random(9, 24);
    let disk = MemDisk::new();
    let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("an empty disk");
    for turn in &history.turns {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    disk.kill();
    drop(store);
    let (log, rows, mark) = (disk.read("log.redb"), disk.read("rows.redb"), disk.read("log.mark"));
    let (mut refused, mut short, mut harmless) = (0, 0, 0);
    let mut dice = Dice(3);
    for _ in 0..1_500 {
        let damaged = MemDisk::new();
        damaged.write("log.redb", &log);
        damaged.write("rows.redb", &rows);
        damaged.write("log.mark", &mark);
        damaged.flip_bit(
            "log.redb",
            dice.below(log.len()) as u64,
            u8::try_from(dice.below(8)).expect("small"),
        );
        match RedbStore::open(&damaged, &small_options(history.card)) {
            Ok(store) => {
                same(&store, &history, 24);
                harmless += 1;
            }
            Err(OpenError::LogShort { acknowledged, found }) => {
                assert!(found < acknowledged);
                short += 1;
                let report = check(&damaged, &mut |_| {}).expect("checkable");
                assert!(!report.findings.is_empty());
            }
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {short} short, {harmless} harmless");
    assert!(
        refused > 10 && short > 10 && harmless > 10,
        "{refused} refused, {short} short, {harmless} harmless"
    );
}

#[test]
fn older_copy_of_the_log_is_refused() {
    let history = History::random(21, 20);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    for turn in &history.turns[..10] {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    let older = disk.read("log.redb");
    for turn in &history.turns[10..] {
        turn.commit(&mut store, Durability::Durable).expect("nothing fails");
    }
    drop(store);
    disk.write("log.redb", &older);
    let refused =
        RedbStore::open(&disk, &options(history.card)).expect_err("it is shorter than acknowledged");
    assert!(matches!(refused, OpenError::LogShort { .. }), "{refused}");
    let report = check(&disk, &mut |_| {}).expect("checkable");
    assert!(report.findings.iter().any(|finding| finding.what.contains("were acknowledged")), "{report:?}");
}

#[test]
fn rows_that_are_gone_are_made_again() {
    let (disk, history) = filled(30);
    let empty = MemDisk::new();
    empty.write("log.redb", &disk.read("log.redb"));
    let store = RedbStore::open(&empty, &small_options(history.card)).expect("the log is there");
    same(&store, &history, 30);
    drop(store);
    assert_eq!(check(&empty, &mut |_| {}).expect("checkable").findings, []);
}

#[test]
fn truncated_or_overwritten_rows_are_moved_aside_and_made_again() {
    let (disk, history) = filled(30);
    let rows = disk.read("rows.redb");
    for bytes in
        [&rows[..0], &rows[..100], &rows[..rows.len() / 2], b"not a redb file".repeat(1000).as_slice()]
    {
        disk.write("rows.redb", bytes);
        same(&world::open(&disk, history.card), &history, 30);
    }
    assert!(disk.names().contains(&"rows.redb.damaged".to_owned()));
}

#[test]
fn log_that_is_gone_beside_rows_is_an_error() {
    let (disk, history) = filled(5);
    let without = MemDisk::new();
    without.write("rows.redb", &disk.read("rows.redb"));
    let refused = RedbStore::open(&without, &options(history.card)).expect_err("dots would be used twice");
    assert!(matches!(refused, OpenError::LogMissing), "{refused}");
}

#[test]
fn damaged_log_is_an_error_and_is_left_as_it_is() {
    let (disk, history) = filled(5);
    disk.write("log.redb", &[7; 9_000]);
    let refused = RedbStore::open(&disk, &options(history.card)).expect_err("it is no redb file");
    assert!(refused.to_string().contains("log.redb is damaged"), "{refused}");
    assert_eq!(disk.read("log.redb"), [7; 9_000]);
    let report = check(&disk, &mut |_| {}).expect("damage is a finding");
    assert_eq!(report.findings.first().map(|finding| finding.file), Some("log.redb"));
}

#[test]
fn another_key_or_cluster_is_refused_and_another_nonce_is_not() {
    let (disk, history) = filled(5);
    let other = SigningKey::from_seed([99; 32]).card([0; 16]);
    let refused = RedbStore::open(&disk, &options(other)).expect_err("another key");
    assert!(matches!(refused, OpenError::OtherKey), "{refused}");
    let cluster = OpenOptions { cluster: ClusterId::named("other"), ..options(history.card) };
    let refused = RedbStore::open(&disk, &cluster).expect_err("another cluster");
    assert!(matches!(refused, OpenError::OtherCluster { .. }), "{refused}");
    let mut card = history.card;
    card.nonce = [77; 16];
    let store = RedbStore::open(&disk, &options(card)).expect("the same key");
    assert_eq!(store.recovered().card, history.card, "the store's own card wins");
}

#[test]
fn second_opening_is_refused_until_the_first_is_closed() {
    let parent = tempfile::tempdir().expect("a temporary directory can be made");
    let history = History::random(2, 10);
    let disk = FileDisk::at(parent.path().join("store"));
    let mut store = RedbStore::open(&disk, &options(history.card)).expect("a new store");
    let refused = RedbStore::open(&disk, &options(history.card)).expect_err("it is open");
    assert!(matches!(refused, OpenError::Lock(_)), "{refused}");
    assert!(check(&disk, &mut |_| {}).is_err());
    for turn in &history.turns {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
    }
    drop(store);
    let store = RedbStore::open(&disk, &options(history.card)).expect("the first was closed");
    same(&store, &history, 10);
    drop(store);
    assert_eq!(check(&disk, &mut |_| {}).expect("checkable").findings, []);
}

/// Every page of both files is hit at some bit: what is read is right, or an error; a check finds the page
/// unless nothing refers to it.
#[test]
fn turned_bit_never_gives_a_wrong_value() {
    let (disk, history) = filled_with(History::with_elements(21, 60, 40));
    let model = history.model(60);
    let mut dice = Dice(1);
    for file in ["rows.redb", "log.redb"] {
        let (mut errors, mut found, mut pages) = (0, 0, 0);
        for page in pages_of(&disk, file) {
            let turned = disk.imaged();
            // Mostly in the part of the page that is used, which begins at its start.
            let byte = page * 4096 + dice.below(if page == 0 { 320 } else { 1_500 }) as u64;
            turned.flip_bit(file, byte, u8::try_from(dice.below(8)).expect("a bit"));
            let before = turned.read(file);
            let report = check(&turned, &mut |_| {});
            found += usize::from(report.is_err() || report.is_ok_and(|report| !report.findings.is_empty()));
            assert_eq!(turned.read(file), before, "a check changes nothing");
            errors += usize::from(reads_right_or_fails(&turned, &history, &model));
            pages += 1;
        }
        println!("{file}: {pages} bits turned, {found} found by a check, {errors} led to an error");
        assert!(pages >= 60 && found >= 35, "{file}: {pages} bits turned, {found} found");
    }
}

/// At least 80 hits, spread over all pages of a file.
fn pages_of(disk: &MemDisk, file: &str) -> impl Iterator<Item = u64> + use<> {
    let count = disk.size(file) / 4096;
    let hits = count.max(80);
    (0..hits).map(move |hit| hit * count / hits)
}

/// Whether there was an error.
fn reads_right_or_fails(
    disk: &MemDisk,
    history: &History,
    model: &tidelock_engine::mem_store::MemStore,
) -> bool {
    let Ok(store) = RedbStore::open(disk, &options(history.card)) else { return true };
    // A header that falls back to an earlier commit is an earlier store, as after a crash.
    if store.recovered() != model.recovered() {
        assert!(history_has(history, &store), "the store is at no point of its history");
        return true;
    }
    let mut failed = false;
    for space in SPACES {
        let mut rows = Vec::new();
        let range = tidelock_engine::ports::RowRange::all(tidelock_engine::ports::Within::Keyspace);
        let visited = store.scan(keyspace(space), &range, &mut |row, payload| {
            rows.push((row, payload));
            std::ops::ControlFlow::Continue(())
        });
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let expected = all_rows(model, space);
        match visited {
            Ok(()) => assert_eq!(rows, expected),
            Err(_) => failed = true,
        }
        for (row, payload) in expected {
            match store.row(keyspace(space), &row) {
                Ok(found) => assert_eq!(found, Some(payload)),
                Err(_) => failed = true,
            }
        }
    }
    for frame in history.frames() {
        match store.frame_with(frame.header().keyspace, frame.header().last_dot()) {
            Ok(found) => assert_eq!(found.expect("it is there").bytes, *frame.bytes()),
            Err(_) => failed = true,
        }
    }
    failed
}

fn history_has(history: &History, store: &RedbStore) -> bool {
    (0..=history.turns.len()).any(|turns| history.model(turns).recovered() == store.recovered())
}
