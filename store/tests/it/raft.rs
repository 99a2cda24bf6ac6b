//! Raft's log in the store: durable with everything else of a turn, read beside the writer, never wrong, and forgotten
//! by whoever is another anchor.

use tidelock_engine::frame::SigningKey;
use tidelock_engine::id::AuthorCard;
use tidelock_engine::ports::{
    Batch, CommitError, Durability, Log, LogIndex, LogPosition, RaftLog, RaftLogState, RaftWrite, ReadError,
    Settings, Store,
};
use tidelock_engine::write::Write;
use tidelock_store::{Faults, MemDisk, OpenError, RedbStore, RestoreOptions, check, restore};

use crate::world::{self, Dice, History, Peer, all_raft, name, options, small_options};

fn fresh(number: u8) -> AuthorCard {
    SigningKey::from_seed([0; 32]).card([number; 16])
}

fn append(index: u64, bytes: Vec<u8>) -> RaftWrite {
    RaftWrite::Append { index: LogIndex(index), bytes }
}

fn raft(writes: Vec<RaftWrite>) -> Batch {
    Batch { raft: writes, ..Batch::default() }
}

/// A store that took a history in which Raft writes.
fn filled(history: &History) -> (MemDisk, RedbStore) {
    let disk = MemDisk::new();
    let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("an empty disk");
    for turn in &history.turns {
        turn.commit(&mut store, turn.durability()).expect("nothing fails");
    }
    (disk, store)
}

fn same(store: &RedbStore, history: &History, turns: usize) {
    let model = history.model(turns);
    assert_eq!(all_raft(&store.raft_log()), all_raft(&*model.raft_log()));
    assert_eq!(store.recovered(), model.recovered());
}

fn sound(disk: &MemDisk) {
    assert_eq!(check(disk, &mut |_| {}).expect("checkable").findings, []);
}

#[test]
fn append_costs_one_sync_alone_and_with_a_frame_and_touches_no_rows() {
    let history = History::random(2, 60);
    let disk = MemDisk::new();
    let mut store = world::open(&disk, history.card);
    let (mut alone, mut with_frame, mut frame_alone) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, index) in history.turns.iter().zip((0..).step_by(2)) {
        store.materialize().expect("nothing fails");
        let cost = |disk: &MemDisk, before: (u64, u64)| {
            assert_eq!(disk.syncs() - before.0, 1);
            disk.written_bytes() - before.1
        };
        let before = || (disk.syncs(), disk.written_bytes());
        let (rows, at) = (disk.read("rows.redb"), before());
        store.commit(&raft(vec![append(index, vec![7; 100])]), Durability::Buffered).expect("nothing fails");
        alone.push(cost(&disk, at));
        assert_eq!(disk.read("rows.redb"), rows, "Raft's writes touch no rows");
        store.sync().expect("there is nothing to do");
        let at = before();
        if index % 4 == 0 {
            let mut both = turn.clone();
            both.raft = vec![append(index + 1, vec![7; 100])];
            both.commit(&mut store, Durability::Durable).expect("nothing fails");
            with_frame.push(cost(&disk, at));
        } else {
            turn.commit(&mut store, Durability::Durable).expect("nothing fails");
            frame_alone.push(cost(&disk, at));
            let filler = raft(vec![append(index + 1, vec![7; 100])]);
            store.commit(&filler, Durability::Durable).expect("nothing fails");
        }
    }
    let mean = |of: &[u64]| of.iter().sum::<u64>() / of.len() as u64;
    let (alone, with_frame, frame_alone) = (mean(&alone), mean(&with_frame), mean(&frame_alone));
    println!(
        "written for 100 B of Raft: {alone} B alone, {with_frame} B with frames, which take {frame_alone} B alone"
    );
    assert!(with_frame < alone + frame_alone, "they share pages");
    drop(store);
    sound(&disk);
}

#[test]
fn log_is_read_beside_the_writer() {
    let disk = MemDisk::new();
    let mut store = world::open(&disk, fresh(1));
    let log = store.raft_log();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut last = None;
            while last != Some(LogIndex(199)) {
                let state = log.state().expect("readable");
                assert!(state.last >= last, "it was there before");
                last = state.last;
                let end = LogIndex(last.map_or(0, |last| last.0 + 1));
                let entries = log.entries(LogIndex(0), end, usize::MAX).expect("readable");
                assert_eq!(entries.len() as u64, end.0, "there is no gap");
            }
        });
        for index in 0..200 {
            let bytes = vec![u8::try_from(index).expect("small"); 10];
            store.commit(&raft(vec![append(index, bytes)]), Durability::Durable).expect("nothing fails");
        }
        reading.join().expect("it reads on");
    });
    let entries = |from, until, bytes| log.entries(LogIndex(from), LogIndex(until), bytes).expect("readable");
    assert_eq!(entries(3, 9, 25), [[3; 10], [4; 10]]);
    assert_eq!(entries(3, 9, 0), [[3; 10]], "at least one");
    assert_eq!(entries(198, 900, 1_000), [[198; 10], [199; 10]]);
    assert!(entries(200, 900, 1_000).is_empty() && entries(9, 3, 1_000).is_empty());
    let purge = RaftWrite::Purge { until: LogIndex(4), record: b"p".to_vec() };
    store.commit(&raft(vec![purge]), Durability::Durable).expect("nothing fails");
    assert!(entries(4, 9, 1_000).is_empty(), "it was purged");
    assert_eq!(entries(5, 6, 1_000), [[5; 10]]);
}

#[test]
fn whoever_is_another_replica_has_forgotten_raft_and_knows_the_modes() {
    let history = History::random(8, 20).with_raft(8, true);
    let (disk, mut store) = filled(&history);
    let modes = history.model(history.turns.len()).recovered().modes;
    assert!(!modes.is_empty());
    let held = all_raft(&store.raft_log());
    let kept = vec![(name("notes"), b"strong".to_vec())];
    store.commit(&Batch { modes: kept, ..Batch::default() }, Durability::Durable).expect("nothing fails");
    let is_other = |store: &RedbStore| {
        assert_eq!(all_raft(&store.raft_log()), (RaftLogState::default(), Vec::new()));
        let recovered = store.recovered();
        assert_eq!(recovered.anchor, None);
        assert_eq!(recovered.modes[&name("notes")], b"strong");
        assert!(modes.keys().all(|name| recovered.modes.contains_key(name)));
    };
    assert!(held.0.vote.is_some() && held.1.len() > 2, "there is something to forget: {held:?}");
    // A copy.
    store.flush().expect("nothing fails");
    let mut bytes = Vec::new();
    for piece in store.reader().backup(7) {
        bytes.extend(piece.expect("it can be read"));
    }
    drop(store);
    let copy = disk.copied();
    is_other(&world::open(&copy, fresh(200)));
    sound(&copy);
    // A restored one, which an older tidelock would not open, as it does not open the original.
    let restored = MemDisk::new();
    let of_backup = RestoreOptions { cluster: None, card: fresh(201) };
    restore(&bytes[..], &restored, &of_backup, &mut |_| {}).expect("it is sound");
    is_other(&world::open(&restored, fresh(202)));
    sound(&restored);
    // One that goes on as another, at once and behind a restart, and begins anew.
    let mut store = world::open(&disk, history.card);
    assert_eq!(all_raft(&store.raft_log()), held, "the original has it all");
    store.rejoin(&fresh(203)).expect("nothing fails");
    assert_eq!(store.raft_log().state().expect("readable").vote, None);
    store.commit(&raft(vec![append(0, b"first".to_vec())]), Durability::Durable).expect("nothing fails");
    drop(store);
    let store = world::open(&disk, fresh(204));
    assert_eq!((store.recovered().card, store.recovered().anchor), (fresh(203), None));
    assert_eq!(all_raft(&store.raft_log()).1, [(0, b"first".to_vec())]);
    drop(store);
    sound(&disk);
}

#[test]
fn letting_go_of_records_leaves_the_entries_alone() {
    let history = History::random(5, 40).with_raft(5, true);
    let (disk, mut store) = filled(&history);
    let held = all_raft(&store.raft_log());
    store.truncate(LogPosition(u64::MAX));
    store.flush().expect("nothing fails");
    assert!(store.first() > LogPosition(20), "{:?}", store.first());
    assert_eq!(all_raft(&store.raft_log()), held);
    drop(store);
    assert_eq!(all_raft(&world::open(&disk, history.card).raft_log()), held);
    sound(&disk);
}

/// What came of bits that turned.
#[derive(Debug, Default)]
struct Turned {
    refused: usize,
    short: usize,
    damaged: usize,
    harmless: usize,
}

/// A bit that turns in the pages of the last commit looks to redb like a commit that was cut off, and then a vote
/// would be taken back; anywhere else it must not make an entry another one. After a kill redb reads all pages again,
/// and after an orderly end none.
#[test]
fn turned_bit_never_changes_what_raft_reads() {
    let history = History::random(9, 8).with_raft(9, true);
    let mut turned = Turned::default();
    for is_killed in [true, false] {
        let (disk, mut store) = filled(&history);
        let next = store.raft_log().state().expect("readable").last.map_or(0, |last| last.0 + 1);
        for index in next..next + 20 {
            let bytes = vec![u8::try_from(index).expect("small"); 4_000];
            store.commit(&raft(vec![append(index, bytes)]), Durability::Durable).expect("nothing fails");
        }
        // Raft alone has the last word.
        let vote = RaftWrite::Vote(b"last".to_vec());
        store.commit(&raft(vec![vote]), Durability::Durable).expect("nothing fails");
        let held = all_raft(&store.raft_log());
        if is_killed {
            disk.kill();
        }
        drop(store);
        let mut dice = Dice(3);
        for _ in 0..400 {
            turn_a_bit(&disk, &mut dice, &history, &held, &mut turned);
        }
    }
    println!("{turned:?}");
    let Turned { refused, short, damaged, harmless } = turned;
    assert!(refused > 5 && short > 0 && damaged > 5 && harmless > 10);
}

fn turn_a_bit(
    disk: &MemDisk,
    dice: &mut Dice,
    history: &History,
    held: &(RaftLogState, Vec<(u64, Vec<u8>)>),
    turned: &mut Turned,
) {
    let copy = MemDisk::new();
    for file in ["log.redb", "rows.redb", "log.mark"] {
        copy.write(file, &disk.read(file));
    }
    let length = usize::try_from(copy.size("log.redb")).expect("small");
    copy.flip_bit("log.redb", dice.below(length) as u64, u8::try_from(dice.below(8)).expect("small"));
    let store = match RedbStore::open(&copy, &small_options(history.card)) {
        Ok(store) => store,
        Err(OpenError::RaftLogShort { acknowledged, found }) => {
            assert!(found < acknowledged);
            assert!(!check(&copy, &mut |_| {}).expect("checkable").findings.is_empty());
            turned.short += 1;
            return;
        }
        Err(_) => {
            turned.refused += 1;
            return;
        }
    };
    let log = store.raft_log();
    let is_damage = |error: ReadError| assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    let state = log.state().map_err(is_damage);
    let are_read = held.1.iter().fold(true, |are_read, (index, bytes)| {
        let read = log.entries(LogIndex(*index), LogIndex(index + 1), 0).map_err(is_damage);
        are_read & read.map(|read| assert_eq!(read, [&bytes[..]], "another entry, or none")).is_ok()
    });
    let is_read = state.map(|state| assert_eq!(state, held.0)).is_ok();
    *(if are_read && is_read { &mut turned.harmless } else { &mut turned.damaged }) += 1;
    drop((store, log));
    let has_findings = !check(&copy, &mut |_| {}).expect("checkable").findings.is_empty();
    assert!(are_read && is_read || has_findings, "what cannot be read is found");
}

#[test]
fn older_copy_of_the_log_is_refused_though_only_raft_wrote_since() {
    let history = History::random(21, 10);
    let (disk, mut store) = filled(&history);
    let vote = |term: u8| raft(vec![RaftWrite::Vote(vec![term])]);
    store.commit(&vote(1), Durability::Durable).expect("nothing fails");
    let older = disk.read("log.redb");
    store.commit(&vote(2), Durability::Durable).expect("nothing fails");
    drop(store);
    disk.write("log.redb", &older);
    let refused = RedbStore::open(&disk, &options(history.card)).expect_err("a vote is missing");
    assert!(matches!(refused, OpenError::RaftLogShort { acknowledged: 2, found: 1 }), "{refused}");
    let report = check(&disk, &mut |_| {}).expect("checkable");
    assert!(report.findings.iter().any(|finding| finding.what.contains("Raft group")), "{report:?}");
}

/// While the disk is full nobody is told what Raft has, for it may not be there; behind that it is what was committed.
#[test]
fn full_disk_heals_with_what_raft_had() {
    let mut failures = 0;
    for bytes in [0, 4_096, 50_000] {
        let history = History::random(4, 60).with_raft(4, true);
        let disk = MemDisk::new();
        let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("nothing fails yet");
        for (number, turn) in history.turns.iter().enumerate() {
            if number % 9 == 4 {
                disk.set_faults(Faults { bytes_until_full: Some(bytes), ..Faults::default() });
            }
            while let Err(error) = turn.commit(&mut store, Durability::Durable) {
                failures += 1;
                assert!(matches!(error, CommitError::Full { .. }), "{error}");
                assert!(store.raft_log().state().is_err(), "nobody knows what is there");
                disk.set_faults(Faults::default());
                store.heal().expect("nothing fails").expect("there is room");
                same(&store, &history, number);
            }
        }
        assert_eq!(all_raft(&store.raft_log()), all_raft(&*history.model(history.turns.len()).raft_log()));
        drop(store);
        disk.set_faults(Faults::default());
        same(&world::open(&disk, history.card), &history, history.turns.len());
        sound(&disk);
    }
    assert!(failures >= 6, "only {failures} commits met the full disk");
}

/// A history of a store that made none of its frames: each turn is what applying an entry of Raft's log did.
fn applied(seed: u64) -> History {
    let mut history = History { card: fresh(200), ..History::random(seed, 60) };
    for (turn, number) in history.turns.iter_mut().zip(0_u64..) {
        turn.raft_applied = Some(number.to_be_bytes().to_vec());
    }
    history
}

/// What was applied and was not on disk is applied again, from where the store says that it is.
#[test]
fn full_disk_heals_with_what_was_durable_if_the_rest_is_applied_again() {
    let (mut failures, mut lost) = (0, 0);
    for bytes in [0, 4_096, 50_000, 200_000] {
        let history = applied(4);
        let disk = MemDisk::new();
        let mut store = RedbStore::open(&disk, &small_options(history.card)).expect("nothing fails yet");
        let (mut number, mut durable, mut filled) = (0, 0, 0);
        while let Some(turn) = history.turns.get(number) {
            if number == 9 * filled + 4 {
                disk.set_faults(Faults { bytes_until_full: Some(bytes), ..Faults::default() });
                filled += 1;
            }
            let is_durable = number % 5 == 0;
            let durability = if is_durable { Durability::Durable } else { Durability::Buffered };
            match turn.commit(&mut store, durability) {
                Ok(_) => {
                    number += 1;
                    durable = if is_durable { number } else { durable };
                }
                Err(error) => {
                    failures += 1;
                    assert!(matches!(error, CommitError::Full { .. }), "{error}");
                    assert!(store.heal().expect("nothing else fails").is_none(), "there is no room yet");
                    disk.set_faults(Faults::default());
                    let recovered = store.heal().expect("nothing fails").expect("there is room");
                    // Rows that were written have made the log durable, too.
                    let found = (durable..=number + 1)
                        .find(|turns| recovered == history.model(*turns).recovered())
                        .expect("it holds whole turns, and all that were durable");
                    same(&store, &history, found);
                    lost += number.saturating_sub(found);
                    (number, durable) = (found, found);
                }
            }
        }
        disk.set_faults(Faults::default());
        if store.is_full() {
            store.heal().expect("nothing fails").expect("there is room");
        }
        store.flush().expect("there is room");
        drop(store);
        same(&world::open(&disk, history.card), &history, history.turns.len());
        sound(&disk);
    }
    assert!(failures >= 8 && lost >= 8, "{failures} commits met the full disk, {lost} were lost");
}

/// What only this store has and was acknowledged is not given up, whatever was applied with it or behind it.
#[test]
fn full_disk_gives_up_nothing_that_nobody_applies_again() {
    let mut author = Peer::new(0);
    let card = author.card;
    let keyspaces = || vec![name("notes")];
    let write = Write::Set { key: b"k".to_vec(), value: b"v".to_vec() };
    let frames = vec![author.write("notes", &[write])];
    let again = |number: u8| Batch { raft_applied: Some(vec![number]), ..Batch::default() };
    let own = Batch { keyspaces: keyspaces(), frames, ..again(1) };
    let ordered = Batch { settings: vec![(name("notes"), Settings::default())], ..again(1) };
    let unapplied = Batch { keyspaces: keyspaces(), ..Batch::default() };
    for owed in [own, ordered, unapplied] {
        for is_synced in [false, true] {
            let disk = MemDisk::new();
            let mut store = world::open(&disk, card);
            store.commit(&owed, Durability::Buffered).expect("nothing fails yet");
            if is_synced {
                store.sync().expect("nothing fails yet");
            }
            store.commit(&again(2), Durability::Buffered).expect("nothing fails yet");
            disk.set_faults(Faults { bytes_until_full: Some(0), ..Faults::default() });
            store.sync().expect_err("the disk is full");
            disk.set_faults(Faults::default());
            assert_eq!(store.heal().expect("nothing fails").is_some(), is_synced);
            assert_eq!(store.is_full(), !is_synced);
        }
    }
}

/// Who was removed from a group and is invited again begins with nothing: a vote or an entry of the one that it was
/// would be taken for its own.
#[test]
fn what_is_forgotten_is_gone_with_the_turn_and_the_log_begins_again() {
    let (disk, card) = (MemDisk::new(), fresh(1));
    let mut store = world::open(&disk, card);
    let entries = |count: u64| raft((0..count).map(|index| append(index, vec![1; 10])).collect());
    let purge = RaftWrite::Purge { until: LogIndex(4), record: b"p".to_vec() };
    let rest = raft(vec![purge, RaftWrite::Vote(b"vote".to_vec())]);
    for batch in [entries(900), Batch { anchor: Some(b"seat".to_vec()), ..rest }] {
        store.commit(&batch, Durability::Durable).expect("nothing fails");
    }
    let applied = Some(b"applied".to_vec());
    let anchor = Some(b"no seat".to_vec());
    let forget = Batch { raft_applied: applied, anchor: anchor.clone(), ..raft(vec![RaftWrite::Forget]) };
    store.commit(&forget, Durability::Durable).expect("nothing fails");
    assert_eq!(all_raft(&store.raft_log()), (RaftLogState::default(), Vec::new()));
    store.commit(&entries(2), Durability::Durable).expect("the log begins at 0 again");
    drop(store);
    sound(&disk);
    let store = world::open(&disk, card);
    assert_eq!(store.recovered().anchor, anchor);
    let (state, entries) = all_raft(&store.raft_log());
    assert_eq!(state, RaftLogState { last: Some(LogIndex(1)), ..RaftLogState::default() });
    assert_eq!(entries.len(), 2);
}
